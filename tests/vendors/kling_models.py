"""What Kling's models take, refuse and cost, in both protocols, as data and plain checks.

Law: Kling looks at an input when it is submitted, and refuses it with a code of its own. Fields that it does not know
pass unread; that it refuses those of the other protocol is inferred, and strict on purpose. Sources: legacy pages of
kling.ai/document-api (read 2026-11-23), clients of API 2.0 (July to October 2026), kling.ai/dev/pricing (2026-09-21).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.vendors import pictures

FORBIDDEN = "forbidden-by-policy"  # a prompt with this text is what the content check flags
RATIOS = ("16:9", "9:16", "1:1")
SHORT_SIDES = {"std": 720, "pro": 1080, "4k": 2160, "720p": 720, "1080p": 1080}
MAX_BYTES = {"kling-3.0-turbo": 50_000_000}  # others: 10 MB
_MODES = {"std": "720p", "pro": "1080p", "4k": "4k"}


class Refused(Exception):
    """A code of Kling's, and its sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Model(msgspec.Struct, frozen=True, kw_only=True):
    seconds: tuple[int, ...]
    qualities: tuple[str, ...]
    usd_per_second: dict[str, tuple[float, float]] = {}  # by resolution: silent, with sound
    has_sound: bool = True  # a word for it
    always_sounds: bool = False
    cfg_scale: bool = True
    shots: bool = True
    last_frame: bool = True
    silent_below: str = ""  # the only quality with sound, where not every one has it


_LONG = tuple(range(3, 16))
_V3_USD = {"720p": (0.084, 0.126), "1080p": (0.112, 0.168), "4k": (0.42, 0.42)}
LEGACY = {
    "kling-v3": Model(seconds=_LONG, qualities=("std", "pro", "4k"), usd_per_second=_V3_USD),
    "kling-v2-6": Model(seconds=(5, 10), qualities=("std", "pro"), cfg_scale=False, shots=False, silent_below="pro"),
    "kling-v1": Model(seconds=(5, 10), qualities=("std", "pro"), has_sound=False, shots=False),
}
V2 = {
    "kling-3.0": Model(seconds=_LONG, qualities=("720p", "1080p", "4k"), usd_per_second=_V3_USD),
    "kling-3.0-turbo": Model(
        seconds=_LONG,
        qualities=("720p", "1080p"),
        usd_per_second={"720p": (0.112, 0.112), "1080p": (0.14, 0.14)},
        has_sound=False,
        always_sounds=True,
        last_frame=False,
    ),
}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What was bought, once it has been looked at."""

    seconds: int
    short_side: int
    sounds: bool
    prompts: tuple[str, ...]
    pictures: tuple[str, ...] = ()
    ratio: str = "16:9"
    cuts_by_itself: bool = False  # `multi_shot` of API 2.0, which is on unless it is turned off
    usd_micros: int | None = None
    units: str = ""


def legacy_order(operation: str, body: dict[str, Any]) -> Order:
    """Raises Refused."""
    name = body.get("model_name", "kling-v1")  # left out, it is the oldest
    model = LEGACY.get(name)
    if model is None:
        raise Refused(1203, f"model {name} does not exist")
    mode = _one_of(body, "mode", model.qualities, "std")
    seconds = _seconds_text(body.get("duration", "5"), "duration")
    _need(seconds in model.seconds, f"duration value '{seconds}' is invalid")
    sounds = _one_of(body, "sound", ("on", "off"), "off") == "on"
    _need(not sounds or model.has_sound, f"sound is not supported by {name}")
    _need(not sounds or mode == (model.silent_below or mode), f"sound is not supported in mode {mode}")
    if "cfg_scale" in body:
        scale = body["cfg_scale"]
        is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
        _need(model.cfg_scale and is_number and 0 <= scale <= 1, "cfg_scale is invalid")
    for field in ("prompt", "negative_prompt"):
        _text(body.get(field, ""), field, 2500)
    shots = _shots(body, model, seconds)
    images = [body[field] for field in ("image", "image_tail") if body.get(field)]
    if operation == "text2video":
        _need(bool(body.get("prompt") or shots), "prompt is required")
        _one_of(body, "aspect_ratio", RATIOS, "16:9")
    else:
        _need(bool(images), "one of image and image_tail is required")
    _need(not (shots and body.get("image_tail")), "image_tail is not supported with multi_shot")
    _elements(body.get("element_list", []))
    _need("settings" not in body and "contents" not in body, "this is not API 2.0")
    return _order(
        model,
        seconds=seconds,
        quality=_MODES[mode],
        sounds=sounds,
        ratio=body.get("aspect_ratio", "16:9") if operation == "text2video" else "",
        prompts=tuple(shots or (body.get("prompt", ""),)),
        images=tuple(images),
    )


def v2_order(operation: str, name: str, body: dict[str, Any]) -> Order:
    """Raises Refused."""
    model = V2.get(name)
    if model is None:
        raise Refused(1203, f"{operation}/{name} does not exist")
    settings = body.get("settings", {})
    _need(isinstance(settings, dict), "settings is invalid")
    strays = {"model_name", "mode", "duration", "sound", "negative_prompt", "cfg_scale", "camera_control", "image"}
    _need(strays.isdisjoint(body), "this is not a legacy request")
    quality = _one_of(settings, "resolution", model.qualities, "720p")
    seconds = settings.get("duration", 5)
    _need(type(seconds) is int and seconds in model.seconds, f"duration {seconds!r} is invalid")
    _need(model.has_sound or not {"audio", "multi_shot"} & settings.keys(), f"{name} has no such setting")
    sounds = model.always_sounds or _one_of(settings, "audio", ("native", "off"), "off") == "native"
    cuts = settings.get("multi_shot", True)
    _need(isinstance(cuts, bool), "multi_shot is invalid")
    prompt, images, ratio = body.get("prompt", ""), [], ""
    if operation == "text-to-video":
        _need(bool(prompt), "prompt is required")
        ratio = _one_of(settings, "aspect_ratio", RATIOS, "16:9")
    else:
        found = _contents(body.get("contents"), model)
        prompt, images = found.pop("prompt", ""), list(found.values())
    _text(prompt, "prompt", 3072)
    order = _order(
        model, seconds=seconds, quality=quality, sounds=sounds, ratio=ratio, prompts=(prompt,), images=tuple(images)
    )
    return msgspec.structs.replace(order, cuts_by_itself=cuts and model.has_sound)


def _contents(contents: Any, model: Model) -> dict[str, str]:
    _need(isinstance(contents, list) and all(isinstance(item, dict) for item in contents), "contents is invalid")
    found = {str(item.get("type")): item.get("text" if item.get("type") == "prompt" else "url") for item in contents}
    _need(found.keys() <= {"prompt", "first_frame", "last_frame"}, "contents has a type that is not known here")
    _need(all(isinstance(value, str) for value in found.values()), "contents has an item without its text or url")
    _need("first_frame" in found, "first_frame is required")
    _need(model.last_frame or "last_frame" not in found, "last_frame is not supported")
    return found


def _order(
    model: Model,
    *,
    seconds: int,
    quality: str,
    sounds: bool,
    ratio: str,
    prompts: tuple[str, ...],
    images: tuple[str, ...],
) -> Order:
    if any(FORBIDDEN in prompt for prompt in prompts):
        raise Refused(1301, "The content does not pass the security check")
    for image in images:
        _picture(image, 10_000_000 if model.last_frame else MAX_BYTES["kling-3.0-turbo"])
    usd = model.usd_per_second.get(quality)
    price = None if usd is None else usd[sounds] * seconds
    return Order(
        seconds=seconds,
        short_side=SHORT_SIDES[quality],
        sounds=sounds,
        prompts=prompts,
        pictures=images,
        ratio=ratio,
        usd_micros=None if price is None else round(price * 1_000_000),
        units="" if price is None else f"{price / 0.14:.4g}",
    )


def _shots(body: dict[str, Any], model: Model, seconds: int) -> list[str]:
    on = body.get("multi_shot", False)
    _need(isinstance(on, bool), "multi_shot is invalid")
    if not on:
        _need("multi_prompt" not in body, "multi_prompt is for multi_shot")
        return []
    _need(model.shots, "multi_shot is not supported")
    if _one_of(body, "shot_type", ("customize", "intelligence"), "") == "intelligence":
        return [body.get("prompt", "")]
    shots = body.get("multi_prompt")
    _need(isinstance(shots, list) and 1 <= len(shots) <= 6, "multi_prompt wants 1 to 6 shots")
    assert isinstance(shots, list)
    for number, shot in enumerate(shots, start=1):
        _need(isinstance(shot, dict) and shot.get("index") == number, "multi_prompt: index is invalid")
        _text(shot.get("prompt"), "multi_prompt: prompt", 512)
    total = sum(_seconds_text(shot.get("duration"), "multi_prompt: duration") for shot in shots)
    _need(total == seconds, f"the shots' durations make {total}, not {seconds}")
    return [shot["prompt"] for shot in shots]


def _elements(elements: Any) -> None:
    sound = isinstance(elements, list) and len(elements) <= 3
    sound = sound and all(isinstance(one, dict) and type(one.get("element_id")) is int for one in elements)
    _need(sound, "element_list is invalid")


def _picture(text: Any, max_bytes: int) -> None:
    """An address is believed; base64 is looked into."""
    _need(isinstance(text, str), "image is invalid")
    data = picture_bytes(text)
    if data is None:
        return
    picture = pictures.look(data)
    _need(picture is not None and picture.format in ("PNG", "JPEG"), "image is not a jpg or png")
    assert picture is not None
    _need(picture.size_bytes <= max_bytes, "image is too large")
    _need(min(picture.width, picture.height) >= 300, "image is smaller than 300 pixels")
    _need(0.4 <= picture.ratio <= 2.5, "image aspect ratio out of range")


def picture_bytes(text: str) -> bytes | None:
    """The bytes of raw base64; None for an address. Raises Refused, a data URI not being either."""
    if text.startswith(("http://", "https://")):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Refused(1201, "image is neither an address nor base64") from None


def _seconds_text(value: Any, field: str) -> int:
    """Durations are strings in legacy; whether it takes a number too is not known, and so refused."""
    _need(isinstance(value, str) and value.isdecimal() and int(value) >= 1, f"{field} is invalid")
    return int(value)


def _text(value: Any, field: str, most: int) -> None:
    _need(isinstance(value, str) and len(value) <= most, f"{field} is not a text of at most {most} characters")


def _one_of(table: dict[str, Any], field: str, known: tuple[str, ...], default: str) -> str:
    value = table.get(field, default)
    _need(isinstance(value, str) and value in known, f"{field} value {value!r:.40} is invalid")
    return str(value)


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refused(1201, otherwise)


def frames(order: Order) -> Iterator[bytes]:
    """The pictures that can be looked at without leaving this machine."""
    for text in order.pictures:
        data = picture_bytes(text)
        if data is not None:
            yield data
