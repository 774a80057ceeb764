"""What Pika's catalogue entries take, refuse, cost and give, as data.

Law: an input is checked at submit. Whether Pika refuses fields that it does not know is unknown: here they pass unread.
Sources: public clients of api.dev.pika.art and their tests (August to November 2026), docs.comfy.org's pages of
pika-2.5 and pika-h3-flex (read 2026-11-23). Prices are indirect; where there is none, the charge is "unavailable".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

FORBIDDEN = "forbidden-by-policy"  # a prompt with this text is what moderation stops
SHORT_SIDES = {"480p": 480, "720p": 720, "768p": 768, "1080p": 1080, "2k": 1440, "4k": 2160}
UPLOAD_LIMITS = {"image": 20_000_000, "audio": 20_000_000, "video": 50_000_000}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One input. `url` is a public https address, `urls` several in order."""

    kind: Literal["text", "integer", "url", "urls"]
    required: bool = False
    choices: tuple[Any, ...] = ()
    least: int | None = None  # value, or items
    most: int | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One catalogue entry: its inputs, and what a clip of it costs and looks like."""

    fields: dict[str, Field]
    seconds: str  # which field says how long
    resolution: str  # when none is asked for
    audio: bool = False
    micros_per_second: dict[str, int] = {}  # by resolution; empty: not known


Fields = dict[str, Field]

_PROMPT: Fields = {"prompt": Field(kind="text")}
_PROMPT_NEEDED: Fields = {"prompt": Field(kind="text", required=True)}
_IMAGE: Fields = {"image": Field(kind="url", required=True)}
_COMMON: Fields = {
    "resolution": Field(kind="text", choices=("720p", "1080p")),
    "negative_prompt": Field(kind="text"),
    "seed": Field(kind="integer"),
}
_PRICE = {"720p": 40_000, "1080p": 90_000}
_RATIOS = ("auto", "21:9", "16:9", "3:2", "4:3", "5:4", "1:1", "4:5", "3:4", "2:3", "9:16", "9:21")

MODELS: dict[str, Model] = {
    "pika/pika-2.5/text-to-video": Model(
        fields=_PROMPT_NEEDED | _COMMON | {"duration_s": Field(kind="integer", choices=(5,))},
        seconds="duration_s",
        resolution="1080p",
        micros_per_second=_PRICE,
    ),
    "pika/pika-2.5/image-to-video": Model(
        fields=_IMAGE | _PROMPT | _COMMON | {"duration_s": Field(kind="integer", choices=(5, 10))},
        seconds="duration_s",
        resolution="1080p",
        micros_per_second=_PRICE,
    ),
    "pika/pikaframes/image-to-video": Model(
        fields=_PROMPT
        | _COMMON
        | {
            "images": Field(kind="urls", required=True, least=2, most=5),
            "transition_duration_s": Field(kind="integer", least=1, most=10),
        },
        seconds="transition_duration_s",
        resolution="1080p",
    ),
    "pika/pika-h3-flex/image-to-video": Model(
        fields=_PROMPT_NEEDED
        | {
            "image": Field(kind="url"),
            "aspect_ratio": Field(kind="text", choices=_RATIOS),
            "duration": Field(kind="integer", least=5, most=15),
            "resolution": Field(kind="text", choices=("480p", "768p", "1080p", "2k", "4k")),
        },
        seconds="duration",
        resolution="768p",
        audio=True,
    ),
}


def complaints(model: Model, body: Any, *, is_address: Callable[[str], bool]) -> list[str]:
    """What is wrong with an input, one sentence each."""
    if not isinstance(body, dict):
        return ["the body must be an object"]
    found = []
    for name, field in model.fields.items():
        value = body.get(name)
        if value is None or value == "":
            found += [f"{name} is required"] if field.required else []
        else:
            found += _complaints(name, field, value, is_address)
    images, seconds = body.get("images"), body.get("transition_duration_s")
    if not found and isinstance(images, list) and len(images) != 2 and (seconds or 0) > 5:
        found.append("transition_duration_s above 5 needs exactly 2 images")
    return found


def _complaints(name: str, field: Field, value: Any, is_address: Callable[[str], bool]) -> list[str]:
    size: int | None = None
    match field.kind, value:
        case "integer", int() if not isinstance(value, bool):
            size = value
        case "text", str():
            pass
        case "url", str():
            if not is_address(value):
                return [f"{name} must be a public https URL"]
        case "urls", list():
            size = len(value)
            if not all(isinstance(one, str) and is_address(one) for one in value):
                return [f"{name} must be public https URLs"]
        case _:
            return [f"{name} must be {field.kind}"]
    if field.choices and value not in field.choices:
        return [f"{name} must be one of {', '.join(map(str, field.choices))}"]
    if size is not None and not (field.least or size) <= size <= (field.most or size):
        return [f"{name} must be {field.least} to {field.most}"]
    return []


def pictures_of(body: dict[str, Any]) -> list[str]:
    return [*([body["image"]] if body.get("image") else []), *(body.get("images") or [])]


def resolution_of(model: Model, body: dict[str, Any]) -> str:
    return str(body.get("resolution") or model.resolution)


def seconds_of(model: Model, body: dict[str, Any]) -> int:
    """Of the whole clip: a transition lies between two frames each."""
    seconds = int(body.get(model.seconds) or 5)
    return seconds * (len(body["images"]) - 1) if body.get("images") else seconds


def usd_micros_of(model: Model, body: dict[str, Any]) -> int | None:
    price = model.micros_per_second.get(resolution_of(model, body))
    return None if price is None else price * seconds_of(model, body)
