"""What every kind of land shares: where it stands, how an edge becomes a sheet, how sheets become layers.

Law: pure and repeatable, as in `paint`. A row is cut to what can ever be seen of it, whatever the move: that, and rows
without a stencil below their lowest edge, is what keeps a frame quick.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec

from providers.sandbox.paint import Colour, Points, Sheet, mix
from providers.sandbox.stage import Layer, Motion

Line = Callable[[float], float]

BOTTOM = 0.54  # a little under the frame
STEP = 0.0016  # between the points of an edge
_DEEPEST_PUSH = 0.2  # a little more than the camera ever goes


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What the land takes from the sky: its colours, where the sun stands (frames from the middle), the horizon."""

    size: tuple[int, int]
    far: Colour
    near: Colour
    haze: Colour
    sky: Colour
    sun: Colour
    sun_x: float
    horizon: float
    rng: random.Random

    @property
    def away(self) -> int:
        """The side (1: right) that is turned from the sun."""
        return 1 if self.sun_x < 0 else -1

    def tint(self, depth: float) -> Colour:
        """The land's colour at a depth of 0 (far) to 1 (near)."""
        return mix(self.far, self.near, depth)

    def sheet(self, top: float, *, distance: float, extra: float = 0.0, bottom: float = BOTTOM) -> Sheet:
        """A sheet from `top` (frames from the middle) down, wide enough for any move at its distance."""
        half = 0.53 + max(0.0, 0.13 * (1 / distance - 1)) + extra
        return Sheet(self.size, (-half, top, half, bottom), self.rng)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of land, from its upper edge down. `low` is the height (frames from the middle) under which it hides
    everything; None: it hides nothing for sure (a boat)."""

    sheet: Sheet
    motion: Motion
    low: float | None


def outline(sheet: Sheet, edge: Line) -> Points:
    """An edge (x and y in frames from the frame's middle) as points in the sheet's own fractions."""
    left, top = sheet.extent[:2]
    return [(k * STEP, edge(k * STEP + left) - top) for k in range(round(sheet.width / STEP) + 2)]


def closed(sheet: Sheet, line: Points) -> Points:
    """The area under an edge."""
    return [*line, (line[-1][0], sheet.height + 0.1), (line[0][0], sheet.height + 0.1)]


def lowest(sheet: Sheet, line: Points) -> float:
    """The lowest point of an edge, in frames from the frame's middle."""
    return max(y for _, y in line) + sheet.extent[1]


def stack(rows: Sequence[Row]) -> list[Layer]:
    """The rows, far to near, as layers: each down to where the next hides it, and without a stencil where it can be."""
    layers: list[Layer] = []
    for place, row in enumerate(rows):
        # layers are laid on in whole pairs of rows: up to 2 are lost at an edge
        overlap = 8 / row.sheet.unit[1]
        top, bottom = row.sheet.extent[1], row.sheet.extent[3]
        following = next((other for other in rows[place + 1 :] if other.low is not None), None)
        if following is not None and following.low is not None:
            bottom = min(bottom, _still_hidden(row.motion.distance, following.motion.distance, following.low) + overlap)
        if row.low is None or bottom <= row.low + 4 * overlap:
            layers.append(row.sheet.cut(top, bottom, row.motion))
            continue
        layers.append(row.sheet.cut(top, row.low + 2 * overlap, row.motion))
        layers.append(row.sheet.cut(row.low + overlap, bottom, row.motion, opaque=True))
    return layers


def _still_hidden(distance: float, nearer: float, low: float) -> float:
    """How far down a row must reach so that a nearer one's lowest edge never leaves a gap, the camera pushed in."""

    def grown(at: float) -> float:
        return at / (at - _DEEPEST_PUSH)

    return max(low, low * grown(nearer) / grown(distance)) + 0.03
