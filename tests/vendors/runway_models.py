"""What Runway's video models take, refuse and cost, as data.

Law: Runway looks at a body before it takes a task, and tells every fault of it at once; pictures it looks at later.
Sources: types and docstrings of runwayml 5.24.0 (text_to_video, image_to_video), read 2026-11-23; credits: Runway's
price list as of September 2026, of Kling inferred. Kling's bounds of duration, its default of 5 s and its sound when
nothing is said are inferred.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

FORBIDDEN = "forbidden-by-policy"  # a prompt with this text is what the moderation rejects

Path = tuple[str | int, ...]


class Issue(msgspec.Struct, frozen=True):
    """One item of a 400's `issues`."""

    code: str
    path: Path
    message: str


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One input. A `text` is measured in UTF-16 units; `frames` and `references` hold pictures."""

    kind: Literal["text", "integer", "number", "flag", "frames", "references", "shots", "any"]
    required: bool = False
    choices: tuple[Any, ...] = ()
    least: float | None = None
    most: float | None = None
    positions: tuple[str | None, ...] = ()  # of frames; None: may be left out


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one endpoint. Credits a second go by sound, or by the clip's short side."""

    fields: dict[str, Field]
    closed: bool = True  # refuses what it does not know
    silent: int = 0
    audio: int = 0
    by_side: dict[int, int] = {}
    default_audio: bool = False


def _ratio(text: str, *, required: bool = True) -> Field:
    return Field(kind="text", choices=tuple(text.split()), required=required)


_SEED = Field(kind="integer", least=0, most=4294967295)
_FLAG = Field(kind="flag")
_ANY = Field(kind="any")
_PROMPT = Field(kind="text", least=1, most=1000)
_PROMPT_NEEDED = Field(kind="text", least=1, most=1000, required=True)
_FIRST = Field(kind="frames", required=True, positions=("first",))
_FIRST_LAST = Field(kind="frames", required=True, positions=("first", "last"))

_WIDE_AND_TALL = "1280:720 720:1280"
_GEN4_SIZES = f"{_WIDE_AND_TALL} 1104:832 960:960 832:1104 1584:672"
_GEN45 = {
    "promptText": _PROMPT_NEEDED,
    "duration": Field(kind="integer", least=2, most=10, required=True),
    "seed": _SEED,
    "contentModeration": _ANY,
    "outputFormat": _ANY,
    "proresProfile": _ANY,
}
_TURBO = {
    "promptText": _PROMPT,
    "promptImage": _FIRST,
    "ratio": _ratio(_GEN4_SIZES),
    "duration": Field(kind="integer", least=2, most=10),
    "seed": _SEED,
    "contentModeration": _ANY,
}
_VEO = {
    "ratio": _ratio(f"{_WIDE_AND_TALL} 1080:1920 1920:1080"),
    "duration": Field(kind="integer", choices=(4, 6, 8)),
    "audio": _FLAG,
    "negativePrompt": Field(kind="text"),
    "seed": _SEED,
}
_KLING = {
    "promptText": Field(kind="text", most=2500),
    "duration": Field(kind="integer", least=3, most=15),
    "audio": _FLAG,
    "cfgScale": Field(kind="number", least=0, most=1),
    "providerSettings": Field(kind="shots"),
}
_KLING_SIZES = {
    "standard": _WIDE_AND_TALL + " 960:960",
    "pro": "1920:1080 1080:1920 1440:1440",
    "4k": "3840:2160 2160:3840 2880:2880",
}
_KLING_CREDITS = {"standard": (9, 13), "pro": (12, 17), "4k": (43, 43)}
_SEEDANCE_SIZES = (
    "992:432 864:496 752:560 640:640 560:752 496:864 1470:630 1280:720 1112:834 960:960 834:1112 720:1280"
    " 2206:946 1920:1080 1664:1248 1440:1440 1248:1664 1080:1920"
    " 3840:1646 3840:2160 3840:2880 3840:3840 2880:3840 2160:3840"
)
_SEEDANCE = {
    "ratio": _ratio(_SEEDANCE_SIZES, required=False),
    "duration": Field(kind="integer", least=4, most=15),
    "audio": _FLAG,
    "seed": _SEED,
    "referenceAudio": _ANY,
}
_SEEDANCE_PROMPT = Field(kind="text", most=3500)
_BY_SIDE = {480: 36, 720: 36, 1080: 40, 2160: 150}  # of 480p no price is known

MODELS: dict[tuple[str, str], Model] = {
    ("text_to_video", "gen4.5"): Model(
        fields=_GEN45 | {"ratio": _ratio(_WIDE_AND_TALL)}, closed=False, silent=12, audio=12
    ),
    ("image_to_video", "gen4.5"): Model(
        fields=_GEN45 | {"ratio": _ratio(_GEN4_SIZES), "promptImage": _FIRST}, closed=False, silent=12, audio=12
    ),
    ("image_to_video", "gen4_turbo"): Model(fields=_TURBO, closed=False, silent=5, audio=5),
    ("text_to_video", "seedance2"): Model(
        fields=_SEEDANCE
        | {
            "promptText": Field(kind="text", least=1, most=3500, required=True),
            "references": Field(kind="references", most=9),
            "referenceVideos": _ANY,
        },
        by_side=_BY_SIDE,
        default_audio=True,
    ),
    ("image_to_video", "seedance2"): Model(
        fields=_SEEDANCE
        | {
            "promptText": _SEEDANCE_PROMPT,
            "promptImage": Field(kind="frames", required=True, positions=("first", "last", None)),
        },
        by_side=_BY_SIDE,
        default_audio=True,
    ),
}
for _name, _silent, _loud in (("veo3.1", 20, 40), ("veo3.1_fast", 10, 15)):
    for _endpoint, _more in (
        ("text_to_video", {"promptText": _PROMPT_NEEDED}),
        ("image_to_video", {"promptText": _PROMPT, "promptImage": _FIRST_LAST}),
    ):
        MODELS[_endpoint, _name] = Model(fields=_VEO | _more, silent=_silent, audio=_loud, default_audio=True)
for _tier, (_silent, _loud) in _KLING_CREDITS.items():
    for _endpoint, _more in (
        ("text_to_video", {"ratio": _ratio(_KLING_SIZES[_tier])}),
        ("image_to_video", {"ratio": _ratio(_KLING_SIZES[_tier], required=False), "promptImage": _FIRST_LAST}),
    ):
        MODELS[_endpoint, f"kling3.0_{_tier}"] = Model(fields=_KLING | _more, silent=_silent, audio=_loud)


# --- what is wrong with a body ----------------------------------------------------------------------------------------


def issues(endpoint: str, body: Any) -> list[Issue]:
    """Why a task is not taken; nothing when it is."""
    if not isinstance(body, dict):
        return [Issue("invalid_type", (), "Expected object")]
    model = MODELS.get((endpoint, str(body.get("model"))))
    if model is None:
        known = " | ".join(f"'{name}'" for at, name in MODELS if at == endpoint)
        return [Issue("invalid_union_discriminator", ("model",), f"Invalid discriminator value. Expected {known}")]
    found = [
        Issue("invalid_type", (name,), "Required")
        for name, field in model.fields.items()
        if field.required and name not in body
    ]
    for name, field in model.fields.items():
        if name in body:
            found += _about((name,), field, body[name])
    strange = [name for name in body if name not in model.fields and name != "model"]
    if strange and model.closed:
        found.append(Issue("unrecognized_keys", (), f"Unrecognized key(s) in object: {', '.join(strange)}"))
    return found


def _about(path: Path, field: Field, value: Any) -> list[Issue]:
    match field.kind:
        case "any":
            return []
        case "frames":
            return _about_frames(path, field, value)
        case "references":
            if not isinstance(value, list):
                return [Issue("invalid_type", path, "Expected array")]
            many = [Issue("too_big", path, "Too many references")] if len(value) > (field.most or 0) else []
            return many + [one for at, item in enumerate(value) for one in _about_item((*path, at), item, (None,))]
        case "shots":
            return _about_shots(path, value)
    kinds: dict[str, tuple[type, ...]] = {"text": (str,), "integer": (int,), "number": (int, float), "flag": (bool,)}
    if not isinstance(value, kinds[field.kind]) or (isinstance(value, bool) and field.kind != "flag"):
        return [Issue("invalid_type", path, f"Expected {field.kind}, received {type(value).__name__}")]
    if field.choices:
        expected = " | ".join(f"'{choice}'" for choice in field.choices)
        return (
            [] if value in field.choices else [Issue("invalid_enum_value", path, f"Invalid value. Expected {expected}")]
        )
    size: Any = len(value.encode("utf-16-le")) // 2 if isinstance(value, str) else value
    if field.most is not None and size > field.most:
        return [Issue("too_big", path, f"Must be at most {field.most:g}")]
    if field.least is not None and size < field.least:
        return [Issue("too_small", path, f"Must be at least {field.least:g}")]
    return []


def _about_frames(path: Path, field: Field, value: Any) -> list[Issue]:
    if isinstance(value, str):
        return _about_uri(path, value)
    if not isinstance(value, list) or not value:
        return [Issue("invalid_type", path, "Expected string or array")]
    found = [one for at, item in enumerate(value) for one in _about_item((*path, at), item, field.positions)]
    positions = [item.get("position") for item in value if isinstance(item, dict)]
    named = [position for position in positions if position]
    if len(set(named)) != len(named) or (named and ("first" not in named or len(named) != len(positions))):
        found.append(Issue("custom", path, "One first frame, and a last one only beside it"))
    return found


def _about_item(path: Path, item: Any, positions: tuple[str | None, ...]) -> list[Issue]:
    if not isinstance(item, dict) or not isinstance(item.get("uri"), str):
        return [Issue("invalid_type", (*path, "uri"), "Required")]
    if item.get("position") not in positions:
        return [Issue("invalid_enum_value", (*path, "position"), f"Invalid value. Expected one of {positions}")]
    return _about_uri((*path, "uri"), item["uri"])


def _about_uri(path: Path, uri: str) -> list[Issue]:
    if uri.startswith("runway://"):
        return [] if len(uri) <= 5000 else [Issue("too_big", path, "Must be at most 5000")]
    if uri.startswith("data:image/"):
        return [] if len(uri) <= 5_242_880 else [Issue("too_big", path, "Must be at most 5242880")]
    if not uri.startswith("https://") or not 13 <= len(uri) <= 2048 or _is_address(urlsplit(uri).hostname or ""):
        return [Issue("custom", path, "Must be an HTTPS URL of a domain, a Runway URI or a data URI")]
    return []


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not host
    return True


def _about_shots(path: Path, value: Any) -> list[Issue]:
    if not isinstance(value, dict) or set(value) - {"multiPrompt", "shotType"}:
        return [Issue("invalid_type", path, "Expected multiPrompt and shotType")]
    if value.get("shotType", "customize") not in ("customize", "intelligence"):
        return [Issue("invalid_enum_value", (*path, "shotType"), "Expected 'intelligence' | 'customize'")]
    shots = value.get("multiPrompt", [])
    duration = Field(kind="integer", least=1, most=15)
    for at, shot in enumerate(shots):
        if not isinstance(shot, dict) or not isinstance(shot.get("prompt"), str):
            return [Issue("invalid_type", (*path, "multiPrompt", at, "prompt"), "Required")]
        if wrong := _about((*path, "multiPrompt", at, "duration"), duration, shot.get("duration")):
            return wrong
    if shots and not 3 <= sum(shot["duration"] for shot in shots) <= 15:
        return [Issue("custom", (*path, "multiPrompt"), "The segments must last 3 to 15 seconds in all")]
    return []


# --- what comes of a good one -----------------------------------------------------------------------------------------


def seconds_of(body: dict[str, Any]) -> int:
    """How long the clip is: its shots together, else as asked, else 5."""
    shots = (body.get("providerSettings") or {}).get("multiPrompt")
    return sum(shot["duration"] for shot in shots) if shots else int(body.get("duration", 5))


def has_audio(model: Model, body: dict[str, Any]) -> bool:
    return "audio" in model.fields and bool(body.get("audio", model.default_audio))


def size_of(body: dict[str, Any]) -> tuple[int, int]:
    """Pixels; 1280:720 where nothing is said, which is inferred."""
    width, _, height = str(body.get("ratio", "1280:720")).partition(":")
    return int(width), int(height)


def credits_of(model: Model, body: dict[str, Any]) -> int:
    """What the clip costs, all of it."""
    rate = model.audio if has_audio(model, body) else model.silent
    if model.by_side:
        width, height = size_of(body)
        # a side of the class's own 16:9 clip with as many pixels: 1470:630 and 960:960 are both "720p"
        side = (width * height * 9 / 16) ** 0.5
        rate = model.by_side[min(model.by_side, key=lambda known: abs(known - side))]
    return rate * seconds_of(body)


def pictures_of(body: dict[str, Any]) -> list[str]:
    """The URIs of every picture, the first frame before the others."""
    image = body.get("promptImage", [])
    items = (
        [{"uri": image}] if isinstance(image, str) else sorted(image, key=lambda item: item.get("position") == "last")
    )
    return [item["uri"] for item in (*items, *body.get("references", ()))]


def prompts_of(body: dict[str, Any]) -> list[str]:
    shots = (body.get("providerSettings") or {}).get("multiPrompt") or ()
    return [body.get("promptText") or "", *(shot["prompt"] for shot in shots)]


def follows_first(body: dict[str, Any]) -> bool:
    """Between two frames, Kling's clip takes the first one's shape."""
    return (
        str(body["model"]).startswith("kling")
        and isinstance(body.get("promptImage"), list)
        and len(body["promptImage"]) == 2
    )
