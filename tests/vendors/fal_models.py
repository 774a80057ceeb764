"""What fal's Kling and Pika endpoints take, refuse, cost and give, as data.

Law: fal checks a model's input when the model runs, not at submit; fields that a model does not know pass unread.
Sources: the input types in fal-ai/fal-js (libs/client/src/types/endpoints.ts, 2 August 2026), the OpenAPI files that
fal.ai serves for kling-video/v3 (September 2026), the models' pages and llms.txt for prices (September, October 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

KNOWN_APPS = ("fal-ai/kling-video", "fal-ai/pika")
FORBIDDEN = "forbidden-by-policy"  # a prompt with this text is what the content checker flags

_ERRORS = "https://docs.fal.ai/errors#"


Loc = list[str | int]  # where in the request, from "body" inwards


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a model. `url` is an address or a data URI; `any` is not looked into."""

    kind: Literal["text", "integer", "number", "flag", "url", "urls", "shots", "any"]
    required: bool = False
    choices: tuple[Any, ...] = ()
    most: float | None = None  # characters, items or value
    least: float | None = None
    default: Any = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One model: its inputs, and what a clip of it costs and looks like."""

    fields: dict[str, Field]
    one_prompt: bool = False  # exactly one of prompt and multi_prompt
    most_seconds: int | None = None  # of all shots together
    short_side: int = 0  # pixels; 0: as `resolution` says
    usd_per_second: dict[str, float] = {}  # by "silent" and "audio"
    usd_per_clip: dict[str, float] = {}  # by resolution, for 5 seconds


class Complaint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a 422's `detail`."""

    loc: Loc
    msg: str
    type: str
    url: str
    ctx: dict[str, Any] | None = None
    input: Any = None


def complaint(loc: Loc, msg: str, type: str, input: Any = None, **ctx: Any) -> Complaint:
    return Complaint(loc=loc, msg=msg, type=type, url=_ERRORS + type, ctx=ctx or None, input=input)


# --- the endpoints ----------------------------------------------------------------------------------------------------

Fields = dict[str, Field]

_PROMPT = Field(kind="text", most=2500)
_PROMPT_NEEDED = Field(kind="text", most=2500, required=True)
_URL = Field(kind="url")
_URL_NEEDED = Field(kind="url", required=True)
_ANY = Field(kind="any")
_AUDIO = Field(kind="flag", default=True)
_STRENGTH = Field(kind="number", least=0, most=1, default=0.5)
_SHOT_TYPE = Field(kind="text", choices=("customize", "intelligent"), default="customize")

_RATIO: Fields = {"aspect_ratio": Field(kind="text", choices=("16:9", "9:16", "1:1"), default="16:9")}
_LONG: Fields = {"duration": Field(kind="text", choices=tuple(str(n) for n in range(3, 16)), default="5")}
_SHORT: Fields = {"duration": Field(kind="text", choices=("5", "10"), default="5")}

_V3 = _LONG | {
    "prompt": _PROMPT,
    "multi_prompt": Field(kind="shots", least=1),
    "generate_audio": _AUDIO,
    "shot_type": _SHOT_TYPE,
    "negative_prompt": _PROMPT,
    "cfg_scale": _STRENGTH,
}
_TURBO = _LONG | {"prompt": _PROMPT, "multi_prompt": Field(kind="shots", least=1, most=6)}
_O3 = _LONG | {
    "prompt": _PROMPT,
    "multi_prompt": Field(kind="shots", least=1),
    "generate_audio": Field(kind="flag", default=False),
    "shot_type": _SHOT_TYPE,
}
_V26 = _SHORT | {"prompt": _PROMPT_NEEDED, "generate_audio": _AUDIO, "negative_prompt": _PROMPT}
_PIKA: Fields = {
    "prompt": Field(kind="text", required=True),
    "negative_prompt": Field(kind="text"),
    "resolution": Field(kind="text", choices=("720p", "1080p"), default="720p"),
    "duration": Field(kind="integer", choices=(5, 10), default=5),
    "seed": Field(kind="integer"),
}
_PIKA_RATIO: Fields = {
    "aspect_ratio": Field(kind="text", choices=("16:9", "9:16", "1:1", "4:5", "5:4", "3:2", "2:3"), default="16:9")
}
_PIKA_FRAMES: Fields = {name: field for name, field in _PIKA.items() if name not in ("duration", "prompt")}

# a family of models: where its tier stands in the path, and what each of its modes takes
_MODES: dict[str, dict[str, Fields]] = {
    "fal-ai/kling-video/v3/{tier}": {
        "text-to-video": _V3 | _RATIO,
        "image-to-video": _V3 | {"start_image_url": _URL_NEEDED, "end_image_url": _URL, "elements": _ANY},
    },
    "fal-ai/kling-video/v3/turbo/{tier}": {
        "text-to-video": _TURBO | _RATIO,
        "image-to-video": _TURBO | {"image_url": _URL_NEEDED},
    },
    "fal-ai/kling-video/o3/{tier}": {
        "text-to-video": _O3 | _RATIO,
        "image-to-video": _O3 | {"image_url": _URL_NEEDED, "end_image_url": _URL},
        "reference-to-video": _O3
        | _RATIO
        | {
            "start_image_url": _URL,
            "end_image_url": _URL,
            "image_urls": Field(kind="urls", most=4),
            "elements": _ANY,
        },
    },
    "fal-ai/kling-video/v2.6/{tier}": {
        "text-to-video": _V26 | _RATIO | {"cfg_scale": _STRENGTH},
        "image-to-video": _V26 | {"start_image_url": _URL_NEEDED, "end_image_url": _URL, "voice_ids": _ANY},
    },
}
# tier → short side in pixels, USD a second silent and with audio (None: it has no audio)
_TIERS: dict[str, dict[str, tuple[int, float, float | None]]] = {
    "fal-ai/kling-video/v3/{tier}": {
        "standard": (720, 0.084, 0.126),
        "pro": (1080, 0.112, 0.168),
        "4k": (2160, 0.42, 0.42),
    },
    "fal-ai/kling-video/v3/turbo/{tier}": {"standard": (720, 0.112, None), "pro": (1080, 0.14, None)},
    "fal-ai/kling-video/o3/{tier}": {
        "standard": (720, 0.084, 0.112),
        "pro": (1080, 0.112, 0.14),
        "4k": (2160, 0.42, 0.42),
    },
    "fal-ai/kling-video/v2.6/{tier}": {"pro": (1080, 0.07, 0.14)},
}

ENDPOINTS: dict[str, Endpoint] = {
    f"{family.format(tier=tier)}/{mode}": Endpoint(
        fields=fields,
        one_prompt="multi_prompt" in fields,
        most_seconds=15 if "turbo" in family else None,
        short_side=short_side,
        usd_per_second={"silent": silent} if audio is None else {"silent": silent, "audio": audio},
    )
    for family, modes in _MODES.items()
    for mode, fields in modes.items()
    for tier, (short_side, silent, audio) in _TIERS[family].items()
} | {
    f"fal-ai/pika/v2.2/{mode}": Endpoint(fields=fields, usd_per_clip={"720p": 0.20, "1080p": 0.45})
    for mode, fields in {
        "text-to-video": _PIKA | _PIKA_RATIO,
        "image-to-video": _PIKA | {"image_url": _URL_NEEDED},
        "pikascenes": _PIKA
        | _PIKA_RATIO
        | {
            "image_urls": Field(kind="urls", required=True, least=1),
            "resolution": Field(kind="text", choices=("720p", "1080p"), default="1080p"),
            "ingredients_mode": Field(kind="text", choices=("precise", "creative"), default="precise"),
        },
        "pikaframes": _PIKA_FRAMES
        | {
            "image_urls": Field(kind="urls", required=True, least=2, most=5),
            "prompt": Field(kind="text"),
            "transitions": _ANY,
        },
    }.items()
}


# --- what is wrong with an input --------------------------------------------------------------------------------------


def complaints(endpoint: Endpoint, body: dict[str, Any]) -> list[Complaint]:
    """Why the model refuses this input; nothing when it does not."""
    found = [
        complaint(["body", name], "Field required", "missing", body)
        for name, field in endpoint.fields.items()
        if field.required and body.get(name) is None
    ]
    for name, field in endpoint.fields.items():
        if body.get(name) is not None:
            found += _about(["body", name], field, body[name])
    if endpoint.one_prompt and not found:
        found += _about_prompts(endpoint, body)
    return found


def _about_prompts(endpoint: Endpoint, body: dict[str, Any]) -> list[Complaint]:
    shots = body.get("multi_prompt")
    if bool(body.get("prompt")) == bool(shots):
        return [complaint(["body"], "Exactly one of prompt and multi_prompt is needed", "value_error", body)]
    if shots and endpoint.most_seconds is not None and seconds_of(body) > endpoint.most_seconds:
        text = f"The shots are longer than {endpoint.most_seconds} seconds together"
        return [complaint(["body", "multi_prompt"], text, "value_error", shots)]
    return []


def _about(loc: Loc, field: Field, value: Any) -> list[Complaint]:
    wrong = _WRONG_TYPE[field.kind](value)
    if wrong and not field.choices:
        return [complaint(loc, f"Input should be a valid {wrong}", f"{wrong}_type", value)]
    if field.choices and (value not in field.choices or wrong):
        allowed = list(field.choices)
        return [complaint(loc, f"Input should be one of {allowed}", "one_of", value, expected=allowed)]
    if field.kind == "shots":
        return [one for index, shot in enumerate(value) for one in _about_shot([*loc, index], shot)] + _size(
            loc, field, value
        )
    if field.kind == "url" and not value.startswith(("http://", "https://", "data:")):
        return [complaint(loc, "Input should be an address or a data URI", "url_parsing", value)]
    return _size(loc, field, value)


def _about_shot(loc: Loc, shot: Any) -> list[Complaint]:
    if not isinstance(shot, dict):
        return [complaint(loc, "Input should be a valid dict", "dict_type", shot)]
    duration = Field(kind="text", choices=tuple(str(n) for n in range(1, 16)))
    if not shot.get("prompt"):
        return [complaint([*loc, "prompt"], "Field required", "missing", shot)]
    found = _about([*loc, "prompt"], _PROMPT, shot["prompt"])
    return found + (_about([*loc, "duration"], duration, shot["duration"]) if "duration" in shot else [])


def _size(loc: Loc, field: Field, value: Any) -> list[Complaint]:
    measured = (
        value if field.kind in ("integer", "number") else len(value) if field.kind in ("text", "urls", "shots") else 0
    )
    kind = {"text": "string_too_{}", "urls": "sequence_too_{}", "shots": "sequence_too_{}"}.get(field.kind)
    if field.most is not None and measured > field.most:
        type = kind.format("long") if kind else "less_than_equal"
        return [complaint(loc, f"Input should have or be at most {field.most:g}", type, value, limit=field.most)]
    if field.least is not None and measured < field.least:
        type = kind.format("short") if kind else "greater_than_equal"
        return [complaint(loc, f"Input should have or be at least {field.least:g}", type, value, limit=field.least)]
    return []


def _unless(kind: type | tuple[type, ...], word: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else word


_WRONG_TYPE: dict[str, Callable[[Any], str]] = {
    "text": _unless(str, "string"),
    "url": _unless(str, "string"),
    "integer": _unless(int, "int"),
    "number": _unless((int, float), "float"),
    "flag": _unless(bool, "bool"),
    "urls": _unless(list, "list"),
    "shots": _unless(list, "list"),
    "any": lambda value: "",
}


# --- what comes of a good one -----------------------------------------------------------------------------------------


def seconds_of(body: dict[str, Any]) -> int:
    """How long the clip is. Whether Kling v3 wants the shots to add up to `duration` is not documented; they win."""
    shots = body.get("multi_prompt") or body.get("transitions")
    if shots:
        return sum(int(shot.get("duration", 5)) for shot in shots)
    return int(body.get("duration") or 5)


def has_audio(endpoint: Endpoint, body: dict[str, Any]) -> bool:
    return bool(_value(endpoint, body, "generate_audio"))


def short_side_of(endpoint: Endpoint, body: dict[str, Any]) -> int:
    """Pixels of the clip's shorter side."""
    return endpoint.short_side or int(_value(endpoint, body, "resolution").rstrip("p"))


def usd_micros_of(endpoint: Endpoint, body: dict[str, Any]) -> int | None:
    """The price of this clip; None for an input of which no price can be told."""
    try:
        if endpoint.usd_per_clip:  # ten seconds cost twice as much as five: inferred, not documented
            price = endpoint.usd_per_clip[_value(endpoint, body, "resolution")] * seconds_of(body) / 5
        else:
            price = endpoint.usd_per_second["audio" if has_audio(endpoint, body) else "silent"] * seconds_of(body)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return round(price * 1_000_000)


def _value(endpoint: Endpoint, body: dict[str, Any], name: str) -> Any:
    field = endpoint.fields.get(name)
    if field is None:
        return None
    return field.default if body.get(name) is None else body[name]
