"""What is asked, once an alias has filled what the caller left open, and apart from any backend.

Law: pure. An alias never overrides the caller, and never reshapes a clip that takes its picture's shape.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gateway.catalogue.naming import Alias
from gateway.catalogue.refusing import Code, Flaw
from gateway.catalogue.shapes import Ratio, agrees, parse_ratio, parse_size, reduced, short_side
from providers.spec import Media, Mode, VideoRequest


class Picture(NamedTuple):
    """One picture of the request, with its part in it."""

    role: str
    param: str
    media: Media


class Wish(NamedTuple):
    """A request, read once for all backends."""

    video: VideoRequest
    mode: Mode
    seconds: int | None
    audio: bool | None
    resolution: str | None  # the asked word
    short: int | None  # pixels on the short side; None with a word that means nothing
    aspect: str | None  # the asked word
    ratio: Ratio | None
    size: tuple[int, int] | None
    pictures: tuple[Picture, ...]
    longest_prompt: int
    has_soft: bool  # asks for something that may be dropped when the caller says so
    warnings: tuple[str, ...]
    flaws: list[Flaw]  # what no backend could put right


def wish_of(video: VideoRequest, alias: Alias | None) -> Wish:
    """Read a request."""
    if alias is not None:
        video = _filled(video, alias)
    size = (video.width, video.height) if video.width and video.height else None
    resolution, aspect = video.resolution, video.aspect_ratio
    if aspect == "auto":  # people's and OpenRouter's word for "leave it open"
        aspect = None
    flaws: list[Flaw] = []
    short = short_side(resolution) if resolution else None
    ratio = parse_ratio(aspect) if aspect else None
    if size is not None:
        flaws += _conflicts(size, resolution=resolution, aspect=aspect, short=short, ratio=ratio)
        short, ratio = min(size), reduced(*size)
        resolution, aspect = resolution or f"{short}p", aspect or f"{ratio[0]}:{ratio[1]}"
    seconds = video.seconds
    if video.shots:
        total = sum(shot.seconds for shot in video.shots)
        if seconds is None:
            seconds = total
        elif seconds != total:
            wish = f"shots of {total} s in a clip of {seconds} s"
            flaws.append(Flaw(Code.SHOTS_SUM, "shots", "makes", "shots that fill the clip", wish, f"seconds={total}"))
    if video.last_frame and not video.first_frame:
        grants, nearest = "a last frame only beside a first frame", "a first frame as well (input_reference)"
        flaws.append(Flaw(Code.LAST_FRAME_ALONE, "frame_images", "takes", grants, "a last frame alone", nearest))
    if video.references and (video.first_frame or video.last_frame):
        grants, wish = "frames or references, not both", "frames together with references"
        nearest = "input_references left out"
        flaws.append(Flaw(Code.PICTURES_MIXED, "input_references", "takes", grants, wish, nearest))
    return Wish(
        video=video,
        mode=video.mode,
        seconds=seconds,
        audio=video.audio,
        resolution=resolution,
        short=short,
        aspect=aspect,
        ratio=ratio,
        size=size,
        pictures=_pictures(video) if video.first_frame or video.last_frame or video.references else (),
        longest_prompt=max(
            len(video.prompt),
            len(video.negative_prompt) if video.negative_prompt else 0,
            max((len(shot.prompt) for shot in video.shots), default=0),
        ),
        has_soft=(
            video.seed is not None
            or bool(video.negative_prompt)
            or video.cfg_scale is not None
            or video.camera is not None
        ),
        warnings=(alias.warning,) if alias is not None and alias.warning else (),
        flaws=flaws,
    )


def _filled(video: VideoRequest, alias: Alias) -> VideoRequest:
    changes: dict[str, Any] = {}
    if alias.seconds is not None and video.seconds is None and not video.shots:
        changes["seconds"] = alias.seconds
    if alias.generate_audio is not None and video.audio is None:
        changes["audio"] = alias.generate_audio
    if not video.width and not video.resolution:
        own_shape = video.mode is Mode.FIRST_FRAME or video.aspect_ratio is not None
        size = parse_size(alias.size) if alias.size else None
        if size and own_shape:  # the picture, or the caller, gives the shape: the size gives its short side only
            changes["resolution"] = f"{min(size)}p"
        elif size:
            changes["width"], changes["height"] = size
        else:
            changes["resolution"] = alias.resolution
            changes["aspect_ratio"] = video.aspect_ratio if own_shape else alias.aspect_ratio
    return msgspec.structs.replace(video, **changes)


def _conflicts(
    size: tuple[int, int], *, resolution: str | None, aspect: str | None, short: int | None, ratio: Ratio | None
) -> list[Flaw]:
    asked = f"size={size[0]}x{size[1]}"
    flaws = []
    if resolution and short != min(size):
        wish = f"{asked} with resolution={resolution}"
        flaws.append(Flaw(Code.SHAPE_CONFLICT, "resolution", "makes", "one size", wish, "resolution left out"))
    if aspect and not (ratio and agrees(ratio[0] / ratio[1], size[0] / size[1])):
        wish = f"{asked} with aspect_ratio={aspect}"
        flaws.append(Flaw(Code.SHAPE_CONFLICT, "aspect_ratio", "makes", "one shape", wish, "aspect_ratio left out"))
    return flaws


def _pictures(video: VideoRequest) -> tuple[Picture, ...]:
    found = [Picture("reference", "input_references", media) for media in video.references]
    if video.first_frame:
        found.append(Picture("first frame", "input_reference", video.first_frame))
    if video.last_frame:
        found.append(Picture("last frame", "frame_images", video.last_frame))
    return tuple(found)
