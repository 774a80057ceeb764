"""What AtlasCloud's Kling models take, refuse, cost and give, as data.

Law: fields that a model does not know pass unread. Sources: Atlas's ComfyUI nodes (AtlasCloudAI/atlascloud_comfyui,
commit 12879ed, 2026-03-20); prices and the fields of turbo and 4k from third parties (an account's /model/calculate,
2026-09-09). That a bad input is refused at submit, with 400, is how atlascloud.ai/docs errors reads (2026-11-23); the
words of each complaint are inferred.
"""

from __future__ import annotations

from typing import Any, NamedTuple

RATIOS = ("16:9", "9:16", "1:1")
FORBIDDEN = "forbidden-by-policy"  # a prompt with this text is what the moderation stops


class Model(NamedTuple):
    """One model: which of the optional inputs it has, and what a second of it costs and looks like."""

    text: bool  # makes clips from text alone, in a ratio
    sound: str = ""  # what it calls its sound
    needs: str = ""  # the picture without which it makes nothing
    end: bool = False
    several: int = 0  # the most pictures of `images`
    seconds: tuple[int, ...] = tuple(range(3, 16))
    short_side: int = 1080
    by_resolution: dict[str, int] = {}  # turbo: its tiers by `resolution`
    usd_micros: tuple[int, int] | None = None  # a second: silent, with sound
    usd_micros_by_resolution: dict[str, int] = {}


def _both(family: str, *, end: bool = True, sound: str = "sound", **more: Any) -> dict[str, Model]:
    return {
        f"{family}/text-to-video": Model(text=True, sound=sound, **more),
        f"{family}/image-to-video": Model(text=False, sound=sound, needs="image", end=end, **more),
    }


def _o3(tier: str, short_side: int) -> dict[str, Model]:
    family = f"kwaivgi/kling-video-o3-{tier}"
    return {
        f"{family}/text-to-video": Model(text=True, sound="sound", short_side=short_side),
        f"{family}/image-to-video": Model(
            text=False, sound="generate_audio", needs="image", end=True, short_side=short_side
        ),
        f"{family}/reference-to-video": Model(text=True, sound="sound", several=7, short_side=short_side),
    }


_TURBO: dict[str, Any] = {
    "seconds": (5, 10),
    "by_resolution": {"720p": 720, "1080p": 1080},
    "usd_micros_by_resolution": {"720p": 95_200, "1080p": 119_000},
}
MODELS: dict[str, Model] = (
    _both("kwaivgi/kling-v3.0-pro", usd_micros=(95_200, 142_800))
    | _both("kwaivgi/kling-v3.0-std", short_side=720, usd_micros=(71_400, 107_100))
    | _both("kwaivgi/kling-v3.0-4k", short_side=2160, usd_micros=(357_000, 357_000))
    | _both("kwaivgi/kling-v3.0-turbo", end=False, sound="", short_side=720, **_TURBO)
    | _o3("pro", 1080)
    | _o3("std", 720)
    | {
        "kwaivgi/kling-video-o3-4k/image-to-video": Model(
            text=False, needs="image", end=True, short_side=2160, usd_micros=(357_000, 357_000)
        )
    }
)


def complaint(model: Model, body: dict[str, Any]) -> str | None:
    """What is wrong with an input; None when nothing is."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        return "prompt is required"
    if len(prompt) > 2500:
        return "prompt is too long"
    if not _is_number(body.get("duration", 5), int) or body.get("duration", 5) not in model.seconds:
        return f"duration must be one of {list(model.seconds)}"
    if model.text and body.get("aspect_ratio", "16:9") not in RATIOS:
        return f"aspect_ratio must be one of {list(RATIOS)}"
    for name in ("sound", "generate_audio"):
        if not isinstance(body.get(name, False), bool):
            return f"{name} must be a boolean"
    cfg_scale = body.get("cfg_scale", 0.5)
    if not _is_number(cfg_scale, (int, float)) or not 0 <= cfg_scale <= 1:
        return "cfg_scale must be between 0 and 1"
    if model.by_resolution and body.get("resolution", "720p") not in model.by_resolution:
        return f"resolution must be one of {list(model.by_resolution)}"
    return _about_pictures(model, body)


def _about_pictures(model: Model, body: dict[str, Any]) -> str | None:
    if model.needs and not (isinstance(body.get(model.needs), str) and body[model.needs]):
        return f"{model.needs} is required"
    if model.end and not isinstance(body.get("end_image", ""), str):
        return "end_image must be a string"
    several = body.get("images", [])
    if model.several and not (isinstance(several, list) and all(isinstance(one, str) for one in several)):
        return "images must be a list of addresses"
    if model.several and len(several) > model.several:
        return f"images must hold at most {model.several}"
    return None


def _is_number(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def has_sound(model: Model, body: dict[str, Any]) -> bool:
    return bool(model.sound and body.get(model.sound))


def short_side(model: Model, body: dict[str, Any]) -> int:
    return model.by_resolution.get(body.get("resolution", ""), model.short_side)


def pictures_of(model: Model, body: dict[str, Any]) -> list[str]:
    """Every picture that the model looks at, the first frame first."""
    frames = [body.get(model.needs)] if model.needs else []
    if model.end and body.get("end_image"):
        frames.append(body["end_image"])
    return [one for one in (*frames, *(body.get("images", []) if model.several else [])) if one]


def usd_micros(model: Model, body: dict[str, Any]) -> int | None:
    """The price of this clip; None where none is known."""
    seconds: int = body.get("duration", 5)
    if model.usd_micros_by_resolution:
        return seconds * model.usd_micros_by_resolution[body.get("resolution", "720p")]
    return None if model.usd_micros is None else seconds * model.usd_micros[has_sound(model, body)]
