"""What WaveSpeed's Kling models take, refuse and cost, as data.

Law: unlike fal, WaveSpeed checks an input at submit and refuses it with 400; the text alone says why. Whether unknown
fields are refused is not documented: they pass. Sources, read 2026-11-23: the models' pages under wavespeed.ai/docs and
the schemas of the v3.0 and v2.6 families as its model_schema endpoint showed them. Inferred: Kling's 2500 characters;
shots of one second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

FORBIDDEN = "forbidden-by-policy"  # a prompt with this text is what the moderation flags


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model: what each input may be (None: as it likes), which are needed, and what a clip is."""

    fields: dict[str, Callable[[Any], str]]
    required: frozenset[str]
    short_side: int
    usd_per_second: tuple[float, float] | None  # silent, with sound; None: not known


def _is(kind: type | tuple[type, ...], word: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) else word


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return "must be a string"
    return "must have at most 2500 characters" if len(value) > 2500 else ""


def _one_of(*choices: Any) -> Callable[[Any], str]:
    typed = {(type(choice), choice) for choice in choices}
    return lambda value: "" if (type(value), _hashable(value)) in typed else f"must be one of {list(choices)}"


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else repr(value)


def _share(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "" if number and 0 <= value <= 1 else "must be a number from 0 to 1"


def _picture(value: Any) -> str:
    fits = isinstance(value, str) and value.startswith(("http://", "https://", "data:"))  # base64: inferred
    return "" if fits else "must be an address"


def _pictures(value: Any) -> str:
    fits = isinstance(value, list) and 1 <= len(value) <= 7 and not any(map(_picture, value))
    return "" if fits else "must be 1 to 7 addresses"


def _shots(value: Any) -> str:
    if not isinstance(value, list) or not 1 <= len(value) <= 6:
        return "must be 1 to 6 shots"
    for shot in value:
        if not isinstance(shot, dict) or shot.keys() != {"prompt", "duration"} or _text(shot["prompt"]):
            return "must be shots of prompt and duration"
        if type(shot["duration"]) is not int or not 1 <= shot["duration"] <= 15:
            return "must be shots of 1 to 15 whole seconds"
    return ""


_Fields = dict[str, Callable[[Any], str]]

_RATIO: _Fields = {"aspect_ratio": _one_of("16:9", "9:16", "1:1")}
_LONG: _Fields = {"prompt": _text, "duration": _one_of(*range(3, 16))}
_SHORT: _Fields = {"prompt": _text, "duration": _one_of(5, 10)}
_SOUND: _Fields = {"sound": _is(bool, "must be true or false")}
_TUNING: _Fields = {"negative_prompt": _text, "cfg_scale": _share}
_SHOTS: _Fields = {"multi_prompt": _shots}
_CUTS: _Fields = _SHOTS | {
    "shot_type": _one_of("customize", "intelligent"),
    "element_list": _is(list, "must be a list"),
}
_IMAGE: _Fields = {"image": _picture}
_END: _Fields = {"end_image": _picture}

_FAMILIES: dict[str, tuple[_Fields, _Fields]] = {
    # family → what text and pictures both take, what pictures take beside
    "v3.0": (_LONG | _SOUND | _TUNING | _CUTS, _IMAGE | _END),
    "v3-turbo": (_LONG | _SHOTS, _IMAGE),
    "video-o3": (_LONG | _SOUND | _CUTS, _IMAGE | _END),
    "v2.6": (_SHORT | _SOUND | _TUNING, _IMAGE | _END),
}
_TIERS: dict[str, dict[str, tuple[int, tuple[float, float] | None]]] = {
    "v3.0": {"std": (720, (0.084, 0.126)), "pro": (1080, (0.112, 0.168)), "4k": (2160, None)},
    "v3-turbo": {"std": (720, (0.112, 0.112)), "pro": (1080, (0.14, 0.14))},
    "video-o3": {"std": (720, None), "pro": (1080, (0.112, 0.14)), "4k": (2160, None)},
    "v2.6": {"pro": (1080, None)},
}


def _models() -> dict[str, Model]:
    found = {}
    for family, (both, pictures) in _FAMILIES.items():
        for tier, (short_side, usd) in _TIERS[family].items():
            modes = {"text-to-video": both | _RATIO, "image-to-video": both | pictures}
            if family == "video-o3":
                modes["reference-to-video"] = both | _RATIO | {"images": _pictures}
            for mode, fields in modes.items():
                needs = {"image"} if mode == "image-to-video" else set()
                if family in ("video-o3", "v2.6") or (tier == "4k" and mode == "text-to-video"):
                    needs.add("prompt")
                found[f"kwaivgi/kling-{family}-{tier}/{mode}"] = Model(
                    fields=fields, required=frozenset(needs), short_side=short_side, usd_per_second=usd
                )
    return found


MODELS = _models()


def complaint(model: Model, body: dict[str, Any]) -> str:
    """Why this input is refused; empty when it is not."""
    for name in sorted(model.required):
        if not body.get(name):
            return f"property '{name}' is required"
    for name, wrong in model.fields.items():
        if body.get(name) is not None and (said := wrong(body[name])):
            return f"property '{name}' {said}"
    shots = body.get("multi_prompt")
    if "prompt" not in model.required:
        if shots and body.get("prompt"):
            return "exactly one of prompt and multi_prompt is allowed"
        if not shots and not body.get("prompt") and "image" not in model.required:
            return "exactly one of prompt and multi_prompt is required"
    if shots and body.get("end_image"):
        return "end_image is not supported with multi_prompt"
    if shots and sum(shot["duration"] for shot in shots) != seconds_of(body):
        return "the shots' durations must add up to duration"
    return ""


def seconds_of(body: dict[str, Any]) -> int:
    return int(body.get("duration") or 5)


def usd_micros_of(model: Model, body: dict[str, Any]) -> int | None:
    if model.usd_per_second is None:
        return None
    return round(model.usd_per_second[bool(body.get("sound"))] * seconds_of(body) * 1_000_000)
