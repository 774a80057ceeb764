"""Layers before a camera: one pose in, one frame out, as the planes that H.264 encodes.

Law: pure, and the work of a frame stays in Pillow's C code, which lets other threads run. Colours are BT.709 in video
range with 4:2:0 chroma, made once per layer, so that a frame costs resizes of bytes and no conversion. Boxes are given
in fractions of a pixel: that is what makes a slow move smooth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
from PIL import Image

from providers.sandbox.camera import Pose, View, view
from providers.spec import Frozen

Planes = tuple[Image.Image, Image.Image, Image.Image]  # Y at full size, Cb and Cr at half, each 8 bit ("L")
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels and parts of them

DETAIL = 1.1
_LENS = 1.4  # focal length, in frame widths, where a picture is looked at from the side

_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709-6, item 3.2; the ranges are item 5.6's: 16–235 and 16–240
_TO_YUV = (
    *(219 / 255 * k for k in _LUMA),
    16.0,
    *(224 / 255 / 1.8556 * k for k in (-_LUMA[0], -_LUMA[1], 1 - _LUMA[2])),
    128.0,
    *(224 / 255 / 1.5748 * k for k in (1 - _LUMA[0], -_LUMA[1], -_LUMA[2])),
    128.0,
)


class Motion(Frozen):
    """How far off a layer is, and how it moves of itself: `sway` frames to each side and `bob` up and down in `period`
    seconds, `ahead` of the others by a share of a turn; `drift` in frames a second."""

    distance: float = 1.0
    sway: float = 0.0
    bob: float = 0.0
    period: float = 1.0
    ahead: float = 0.0
    drift: float = 0.0

    def seen(self, pose: Pose, at: float) -> View:
        """How the camera sees such a layer `at` seconds into the shot."""
        still = view(pose, self.distance)
        turn = 2 * math.pi * (at / self.period + self.ahead)
        x = still.x - self.sway * math.sin(turn) - self.drift * at
        return View(scale=still.scale, x=x, y=still.y - self.bob * math.cos(turn))


class Place(Frozen):
    """Where a flat thing stands: its edges in frames from the frame's middle, and its motion."""

    left: float
    top: float
    right: float
    bottom: float
    motion: Motion


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A painted thing in its place. `mask` says where it hides what is behind it (None: everywhere)."""

    planes: Planes
    mask: Image.Image | None
    place: Place


class Wash(msgspec.Struct, frozen=True, kw_only=True):
    """One colour (Y, Cb, Cr) laid on through a mask: clouds, at half a layer's cost."""

    tone: tuple[int, int, int]
    mask: Image.Image
    place: Place


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that fills the frame, at distance 1; an orbit turns it."""

    planes: Planes


Scene = Picture | tuple[Layer | Wash, ...]  # layers from far to near, the first without a mask


def to_planes(image: Image.Image) -> Planes:
    """An RGB image with even sides as Y, Cb, Cr."""
    y, cb, cr = image.convert("RGB", _TO_YUV).split()
    return y, cb.reduce(2), cr.reduce(2)


def tone(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """One RGB colour as Y, Cb, Cr."""
    y, cb, cr = Image.new("RGB", (1, 1), colour).convert("RGB", _TO_YUV).tobytes()
    return y, cb, cr


def picture(image: Image.Image, size: tuple[int, int]) -> Picture:
    """A picture made ready for a frame of `size`, cut around its middle where its shape is not the frame's."""
    width, height = size
    factor = min(image.width / width, image.height / height)
    across, down = (image.width - width * factor) / 2, (image.height - height * factor) / 2
    box = (across, down, image.width - across, image.height - down)
    detail = min(DETAIL, factor)
    work = (max(2, 2 * round(width * detail / 2)), max(2, 2 * round(height * detail / 2)))
    return Picture(planes=to_planes(image.convert("RGB").resize(work, Image.Resampling.LANCZOS, box)))


def shoot(scene: Scene, pose: Pose, at: float, size: tuple[int, int]) -> Planes:
    """The frame that the camera takes `at` seconds into the shot."""
    if isinstance(scene, Picture):
        return _turn(scene.planes, pose, size) if pose.yaw else _cut(scene.planes, pose, size)
    width, height = size
    half = (width // 2, height // 2)
    frame = Image.new("L", size, 0), Image.new("L", half, 128), Image.new("L", half, 128)
    for layer in scene:
        _paint(frame, layer, layer.place.motion.seen(pose, at))
    return frame


def enlarge(planes: Planes, size: tuple[int, int]) -> Planes:
    """A frame in another size."""
    y, cb, cr = planes
    half = (size[0] // 2, size[1] // 2)
    by = Image.Resampling.BILINEAR
    return y.resize(size, by), cb.resize(half, by), cr.resize(half, by)


def _cut(planes: Planes, pose: Pose, size: tuple[int, int]) -> Planes:
    seen = view(pose, 1.0)
    left, right = _span(planes[0].width, seen.x, seen.scale)
    top, bottom = _span(planes[0].height, seen.y, seen.scale)
    return _resize(planes, (left, top, right, bottom), size, Image.Resampling.BICUBIC)


def _span(length: int, middle: float, scale: float) -> tuple[float, float]:
    """The stretch of a picture's side that is looked at, moved inside it if it would stick out."""
    part = min(1.0, 1 / scale)
    start = min(max(0.5 + middle - part / 2, 0.0), 1.0 - part)
    return start * length, (start + part) * length


def _resize(planes: Planes, box: Box, size: tuple[int, int], by: Image.Resampling) -> Planes:
    y, cb, cr = planes
    half, half_box = (size[0] // 2, size[1] // 2), (box[0] / 2, box[1] / 2, box[2] / 2, box[3] / 2)
    return y.resize(size, by, box), cb.resize(half, by, half_box), cr.resize(half, by, half_box)


def _paint(frame: Planes, layer: Layer | Wash, seen: View) -> None:
    """Lay one layer over the part of the frame that it covers."""
    place = layer.place
    columns, rows = layer.mask.size if isinstance(layer, Wash) else layer.planes[0].size
    across = _cover(frame[0].width, columns, place.left - seen.x, place.right - seen.x, seen.scale)
    down = _cover(frame[0].height, rows, place.top - seen.y, place.bottom - seen.y, seen.scale)
    if across.length <= 0 or down.length <= 0:
        return
    size, box = (across.length, down.length), (across.start, down.start, across.end, down.end)
    mask = layer.mask.resize(size, Image.Resampling.BILINEAR, box) if layer.mask else None
    half_mask = mask.reduce(2) if mask else None
    drawn = layer.tone if isinstance(layer, Wash) else _resize(layer.planes, box, size, Image.Resampling.BILINEAR)
    whole = (across.first, down.first, across.first + across.length, down.first + down.length)
    half = (whole[0] // 2, whole[1] // 2, whole[2] // 2, whole[3] // 2)
    frame[0].paste(drawn[0], whole, mask)
    frame[1].paste(drawn[1], half, half_mask)
    frame[2].paste(drawn[2], half, half_mask)


class _Cover(NamedTuple):
    """What a layer covers of one side of the frame: from pixel `first` for `length`, by its own `start` to `end`."""

    first: int
    length: int
    start: float
    end: float


def _cover(pixels: int, own: int, low: float, high: float, scale: float) -> _Cover:
    """A layer of `own` pixels from `low` to `high` (frames from the middle) on a side of `pixels`, enlarged by `scale`.
    Whole pairs of pixels, for the chroma's sake."""
    edges = (low * scale + 0.5) * pixels, (high * scale + 0.5) * pixels
    first = max(0, 2 * math.ceil(edges[0] / 2 - 1e-6))
    last = min(pixels, 2 * math.floor(edges[1] / 2 + 1e-6))
    rate = own / (edges[1] - edges[0])
    return _Cover(first, last - first, max(0.0, (first - edges[0]) * rate), min(float(own), (last - edges[0]) * rate))


def _turn(planes: Planes, pose: Pose, size: tuple[int, int]) -> Planes:
    """A flat picture from a camera that has gone `yaw` round it and still looks at its middle.

    With the camera at radius R, a ray through the frame's point (u, v) meets the picture at
    x = R u / (u sin + f cos), y = R cos v / (u sin + f cos): the eight numbers of a projective map.
    """
    width, height = size
    sin, cos, focal = math.sin(pose.yaw), math.cos(pose.yaw), _LENS * width
    radius = focal / pose.zoom
    depth = focal * cos - sin * width / 2
    across, down = planes[0].width / width / depth, planes[0].height / height / depth
    slope = radius + width * sin / 2
    a, c = slope * across, (width * focal * cos / 2 - slope * width / 2) * across
    d, e = height * sin / 2 * down, radius * cos * down
    f, g = (height * depth / 2 - radius * cos * height / 2) * down, sin / depth

    def turn(plane: Image.Image, scale: int) -> Image.Image:
        return plane.transform(
            (width // scale, height // scale),
            Image.Transform.PERSPECTIVE,
            (a, 0.0, c / scale, d, e, f / scale, g * scale, 0.0),
            Image.Resampling.BILINEAR,
        )

    y, cb, cr = planes
    return turn(y, 1), turn(cb, 2), turn(cr, 2)
