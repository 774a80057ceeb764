"""What a clip's shape is called and how many pixels it has: 720p, 16:9, 1280x720, and the crop that gets there.

Law: pure arithmetic; nothing here knows a backend. A resolution names the short side (2k is 1440, 4k is 2160), sides
are even because every codec in use wants them so.
"""

from __future__ import annotations

import re
from math import gcd, log
from typing import NamedTuple

import msgspec

Ratio = tuple[int, int]  # reduced: (16, 9)

TOLERANCE = 0.02  # ratios that differ by no more than this are the same shape to the eye

_SHORT_SIDES = {"2k": 1440, "4k": 2160}
_RESOLUTION = re.compile(r"([1-9]\d{2,3})p")
_RATIO = re.compile(r"([1-9]\d{0,4}):([1-9]\d{0,4})")
_NAMED: tuple[Ratio, ...] = ((16, 9), (9, 16), (1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (4, 5), (5, 4), (21, 9))


class Box(NamedTuple):
    """A part of a picture, in its own pixels, from the upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height} at x={self.x}, y={self.y}"


class Shape(msgspec.Struct, frozen=True, gc=False):
    """The shape that a clip is made in. (A Struct, because it is made several times quicker than a NamedTuple.)"""

    resolution: str
    aspect: str | None  # None: the clip follows its picture, or the vendor has no word for it
    size: str  # "1280x720", as well as it is known
    warning: str | None = None


def short_side(resolution: str) -> int | None:
    """Pixels on the short side: 720 for "720p", 2160 for "4K". None when the word is not known."""
    word = resolution.lower()
    if word in _SHORT_SIDES:
        return _SHORT_SIDES[word]
    shape = _RESOLUTION.fullmatch(word)
    return int(shape[1]) if shape else None


def parse_ratio(text: str) -> Ratio | None:
    """(16, 9) for "16:9" and for "32:18". None when it is no ratio."""
    shape = _RATIO.fullmatch(text)
    return reduced(int(shape[1]), int(shape[2])) if shape else None


def parse_size(text: str) -> tuple[int, int] | None:
    """(1280, 720) for "1280x720". None when it is no size."""
    shape = re.fullmatch(r"([1-9]\d{1,4})x([1-9]\d{1,4})", text)
    return (int(shape[1]), int(shape[2])) if shape else None


def reduced(width: int, height: int) -> Ratio:
    """The ratio of two sides in its lowest terms."""
    divisor = gcd(width, height)
    return width // divisor, height // divisor


def pixels(short: int, ratio: float) -> tuple[int, int]:
    """(width, height) of a clip whose short side is `short` and whose width ÷ height is `ratio`; both even."""
    if ratio >= 1:
        return _even(short * ratio), _even(short)
    return _even(short), _even(short / ratio)


def agrees(ratio: float, other: float) -> bool:
    """Whether two ratios are the same shape, within TOLERANCE."""
    return abs(ratio / other - 1) <= TOLERANCE


def unlike(ratio: float, other: float) -> float:
    """How far two ratios are apart, alike for wider and taller; rounded, so that equal distances compare as equal."""
    return round(abs(log(ratio / other)), 9)


def shape_name(width: int, height: int) -> str:
    """ "16:9" when the sides are near enough to a ratio that people say, else the ratio to one, like "1.37:1"."""
    for a, b in _NAMED:
        if abs(width / height * b / a - 1) <= 0.005:
            return f"{a}:{b}"
    return f"{width / height:.2f}:1" if width >= height else f"1:{height / width:.2f}"


def crop(width: int, height: int, ratio: float) -> Box:
    """The largest box of this ratio in the middle of a picture of width × height."""
    if width / height > ratio:
        inner = min(width, max(1, round(height * ratio)))
        return Box((width - inner) // 2, 0, inner, height)
    inner = min(height, max(1, round(width / ratio)))
    return Box(0, (height - inner) // 2, width, inner)


def _even(side: float) -> int:
    return 2 * round(side / 2)
