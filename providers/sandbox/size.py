"""The size of a clip in pixels, from what a request leaves no longer open.

Law: pure. A named width and height win; else the resolution is the short side and the ratio gives the long one.
H.264 with 4:2:0 colour wants even sides, so each side is rounded to the nearest even number.
"""

from __future__ import annotations

import re

from providers.spec import VideoRequest

SHORT_SIDES = {"2k": 1440, "4k": 2160}  # the rest are named by their short side: 720p
MIN_SIDE, MAX_SIDE = 64, 5760  # 4k at 21:9, or from a picture of 2.5:1, is wider than 4096


class SizeRefused(Exception):
    """No size can be read from the request; the text says why and what would do."""


def frame_size(request: VideoRequest) -> tuple[int, int]:
    """(width, height), both even. Raises SizeRefused."""
    if request.width and request.height:
        size = _even(request.width), _even(request.height)
    else:
        short, ratio = _short_side(request.resolution or "720p"), _ratio(request)
        size = (_even(short * ratio), _even(short)) if ratio >= 1 else (_even(short), _even(short / ratio))
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise SizeRefused(f"{size[0]}x{size[1]} cannot be rendered: each side must be {MIN_SIDE} to {MAX_SIDE} pixels")
    return size


def _short_side(resolution: str) -> int:
    resolution = resolution.lower()
    if resolution in SHORT_SIDES:
        return SHORT_SIDES[resolution]
    if re.fullmatch(r"[1-9]\d{1,3}p", resolution):
        return int(resolution[:-1])
    raise SizeRefused(f"resolution {resolution!r} is not known: write it as 720p, 2k or 4k")


def _ratio(request: VideoRequest) -> float:
    if request.aspect_ratio:
        shape = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", request.aspect_ratio)
        if shape is None:
            raise SizeRefused(f"aspect_ratio {request.aspect_ratio!r} is not known: write it as 16:9")
        return int(shape[1]) / int(shape[2])
    picture = request.first_frame or request.last_frame
    return picture.width / picture.height if picture else 16 / 9


def _even(side: float) -> int:
    return 2 * round(side / 2)
