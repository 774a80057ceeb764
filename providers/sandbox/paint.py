"""The brush: gradients, grain, clouds and silhouettes, each finished as a layer for the stage.

Law: pure and repeatable: all chance comes from the `Random` that is handed in. Silhouettes are drawn at twice the size
and halved, which gives them soft edges. Lengths are fractions of the frame unless a name says pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from providers.sandbox.stage import Layer, Motion, Place, Wash, to_planes, tone

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

WHITE: Colour = (255, 255, 255)
FINE = 2  # how much bigger a silhouette is drawn


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b in a."""
    return tuple(round(p + (q - p) * share) for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


class Sheet:
    """One layer while it is drawn: a coloured ground and a stencil that lets it show.

    `extent` = (left, top, right, bottom) in frames from the frame's middle. Shapes are drawn in the sheet's own
    fractions of a frame: x from its left edge, y from its top edge.
    """

    def __init__(self, size: tuple[int, int], extent: tuple[float, float, float, float], rng: random.Random) -> None:
        self.extent = extent
        self.rng = rng
        left, top, right, bottom = extent
        self.unit = size  # pixels of one frame
        self.size = (
            max(2, 2 * round((right - left) * self.unit[0] / 2)),
            max(2, 2 * round((bottom - top) * self.unit[1] / 2)),
        )
        self.ground = Image.new("RGB", self.size)
        self.stencil = Image.new("L", self.size, 0)

    @property
    def width(self) -> float:
        return self.extent[2] - self.extent[0]

    @property
    def height(self) -> float:
        return self.extent[3] - self.extent[1]

    def fill(self, top: Colour, bottom: Colour, middle: Colour | None = None, *, at: float = 0.5) -> None:
        """Colour the ground from top to bottom; `middle` stands at the share `at` of the way."""
        ramp = Image.linear_gradient("L").resize(self.size, Image.Resampling.BILINEAR)
        if middle is None:
            self.ground = ImageOps.colorize(ramp, top, bottom)
        else:
            self.ground = ImageOps.colorize(ramp, top, bottom, middle, midpoint=round(255 * at))

    def grain(self, strength: int) -> None:
        """Break up the steps of a gradient, by up to `strength` levels to each side."""
        speck = Image.frombytes("L", self.size, self.rng.randbytes(self.size[0] * self.size[1]))
        speck = speck.point([round(value * 2 * strength / 255) for value in range(256)])
        specks = (speck, ImageChops.offset(speck, 37, 11), ImageChops.offset(speck, 91, 53))
        self.ground = ImageChops.add(self.ground, Image.merge("RGB", specks), 1, -strength)

    def shape(self, outlines: Sequence[Points]) -> Image.Image:
        """Polygons as a stencil of the sheet's size."""
        fine = Image.new("L", (self.size[0] * FINE, self.size[1] * FINE), 0)
        pen = ImageDraw.Draw(fine)
        across, down = self.unit[0] * FINE, self.unit[1] * FINE
        for outline in outlines:
            pen.polygon([(x * across, y * down) for x, y in outline], fill=255)
        return fine.reduce(FINE)

    def fade(self, level: Callable[[float], float]) -> Image.Image:
        """A stencil that depends on the height alone: `level` of 0 (top) to 1 (bottom) gives 0 to 1."""
        column = Image.linear_gradient("L").point([round(255 * min(1.0, max(0.0, level(v / 255)))) for v in range(256)])
        return column.resize(self.size, Image.Resampling.BILINEAR)

    def spot(self, x: float, y: float, radius: float) -> Image.Image:
        """A round stencil, bright in the middle and fading to nothing at `radius` (frame widths)."""
        reach = max(1, round(radius * self.unit[0]))
        # Pillow's gradient reaches 255 in the corners, so about 180 where the circle touches the square
        ball = Image.radial_gradient("L").point([round(255 * max(0.0, 1 - value / 178) ** 1.6) for value in range(256)])
        stencil = Image.new("L", self.size, 0)
        where = (round(x * self.unit[0]) - reach, round(y * self.unit[1]) - reach)
        stencil.paste(ball.resize((2 * reach, 2 * reach), Image.Resampling.BICUBIC), where)
        return stencil

    def stain(self, colour: Colour, stencil: Image.Image, strength: float = 1.0) -> None:
        """Put a colour on the ground where the stencil is bright."""
        if strength < 1:
            stencil = stencil.point([round(value * strength) for value in range(256)])
        self.ground.paste(colour, (0, 0), stencil)

    def rim(self, colour: Colour, *, thick: float, aside: float, strength: float) -> None:
        """A line of light along the stencil's upper edge, `thick` frames high and from the side `aside`."""
        moved = ImageChops.offset(self.stencil, round(aside * self.unit[0]), max(1, round(thick * self.unit[1])))
        edge = ImageChops.subtract(self.stencil, moved).filter(ImageFilter.GaussianBlur(thick * self.unit[1] / 3))
        self.stain(colour, edge, strength)

    def cloud(self, grains: tuple[int, int], octaves: int = 5) -> Image.Image:
        """Fractal noise from 0 to 255; `grains` = coarsest lumps across and down."""
        noise = Image.new("L", self.size)
        for octave in reversed(range(octaves)):  # the coarsest last: it keeps the most weight
            cells = (grains[0] << octave, grains[1] << octave)
            lumps = Image.frombytes("L", cells, self.rng.randbytes(cells[0] * cells[1]))
            noise = Image.blend(noise, lumps.resize(self.size, Image.Resampling.BICUBIC), 0.55)
        return ImageOps.autocontrast(noise, cutoff=1)

    def veil(self, colour: Colour, *, at: float, high: float, strength: float) -> None:
        """Lay a bank of haze over the sheet's contents and over the gaps between them, around the height `at`
        (frames from the frame's middle), reaching `high` to each side."""
        middle = (at - self.extent[1]) / self.height
        reach = high / self.height
        band = self.fade(lambda down: strength * max(0.0, 1 - ((down - middle) / reach) ** 2) ** 1.5)
        bank = ImageChops.multiply(band, self.cloud((3, 2), 3).point(levels(-0.6, 0.7)))
        clear = Image.new("RGB", self.size, colour)
        self.ground = Image.composite(self.ground, clear, self.stencil)
        self.stain(colour, bank)
        self.stencil = ImageChops.screen(self.stencil, bank)

    def cut(self, top: float, bottom: float, motion: Motion, *, opaque: bool = False) -> Layer:
        """The rows from `top` to `bottom` (frames from the frame's middle) as a layer; `opaque`: no stencil."""
        rows = [2 * round((edge - self.extent[1]) * self.unit[1] / 2) for edge in (top, bottom)]
        first, last = max(0, rows[0]), min(self.size[1], max(rows[1], rows[0] + 2))
        box = (0, first, self.size[0], last)
        edges = [self.extent[1] + row / self.unit[1] for row in (first, last)]
        return Layer(
            planes=to_planes(self.ground.crop(box)),
            mask=None if opaque else self.stencil.crop(box),
            place=Place(left=self.extent[0], top=edges[0], right=self.extent[2], bottom=edges[1], motion=motion),
        )

    def wash(self, colour: Colour, motion: Motion) -> Wash:
        """The stencil alone, to be filled with one colour."""
        left, top, right, bottom = self.extent
        place = Place(left=left, top=top, right=right, bottom=bottom, motion=motion)
        return Wash(tone=tone(colour), mask=self.stencil, place=place)


def wander(rng: random.Random, *, lumps: float, octaves: int, roughness: float) -> Callable[[float], float]:
    """A wandering line: x → about -1…1, with `lumps` bends per unit of x and `octaves` of ever finer ones."""
    rows = [[rng.uniform(-1, 1) for _ in range(257)] for _ in range(octaves)]
    total = sum(roughness**k for k in range(octaves))

    def line(x: float) -> float:
        height, share, place = 0.0, 1.0, x * lumps + 64
        for row in rows:
            cell = int(place)
            part = place - cell
            part = part * part * (3 - 2 * part)
            height += share * (row[cell % 257] * (1 - part) + row[(cell + 1) % 257] * part)
            share *= roughness
            place *= 2.03
        return height / total

    return line


def levels(low: float, high: float, top: int = 255) -> list[int]:
    """A table for `Image.point`: dark below `low`, `top` above `high` (shares of 255), soft in between."""

    def level(value: int) -> int:
        share = min(1.0, max(0.0, (value / 255 - low) / (high - low)))
        return round(top * share * share * (3 - 2 * share))

    return [level(value) for value in range(256)]
