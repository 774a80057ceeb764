"""The sea and the city under the sky of a generated scene.

Law: pure and repeatable, as in `paint`. Waves are rows that sway against each other; nothing else moves of itself but
the boat.
"""

from __future__ import annotations

import math

from PIL import ImageDraw

from providers.sandbox.ground import BOTTOM, Line, Row, Setting, closed, lowest, outline
from providers.sandbox.paint import Colour, Points, Sheet, levels, mix, wander
from providers.sandbox.stage import Motion

_WAVES = 9
_LIT: tuple[Colour, ...] = ((255, 206, 128), (255, 232, 186), (196, 220, 255))


def sea(setting: Setting, *, deep: Colour) -> list[Row]:
    rows = [_cape(setting)]
    for place in range(_WAVES):
        share = place / (_WAVES - 1)
        distance = 6.5 * (0.62 / 6.5) ** share
        base = setting.horizon + (BOTTOM - setting.horizon) * 0.8 * share**1.5
        rows.append(_wave(setting, deep, base=base, distance=distance, share=share))
        if place == 3:
            rows.append(_boat(setting, base + 0.012, distance))
    return rows


def _cape(setting: Setting) -> Row:
    """A headland on the far shore, at the side that the sun leaves free."""
    line = wander(setting.rng, lumps=2.2, octaves=6, roughness=0.48)
    sheet = setting.sheet(setting.horizon - 0.26, distance=8, bottom=setting.horizon + 0.06)

    def rise(x: float) -> float:
        return 0.17 * math.pow(max(0.0, (setting.away * x - 0.02) * 1.6), 0.7) * (0.75 + 0.6 * line(x))

    edge = outline(sheet, lambda x: setting.horizon + 0.01 - rise(x))
    sheet.stencil = sheet.shape([closed(sheet, edge)])
    sheet.fill(setting.tint(0.12), mix(setting.tint(0.12), setting.haze, 0.4))
    sheet.grain(2)
    return Row(sheet=sheet, motion=Motion(distance=8), low=lowest(sheet, edge))


def _wave(setting: Setting, deep: Colour, *, base: float, distance: float, share: float) -> Row:
    rng = setting.rng
    sheet = setting.sheet(base - 0.02, distance=distance, extra=0.03)
    height = 0.0012 + 0.011 * share
    line = wander(rng, lumps=30 - 24 * share**0.6, octaves=3, roughness=0.5)
    edge = outline(sheet, _ripple(line, base, height))
    sheet.stencil = sheet.shape([closed(sheet, edge)])
    water = mix(mix(setting.haze, setting.sky, 0.55), deep, share**0.8)
    dark, bright = mix(water, deep, 0.5), mix(water, setting.haze, 0.5)
    sheet.fill(mix(water, setting.haze, 0.25 * (1 - share)), dark)
    lumps = (round(26 - 18 * share), round(70 - 30 * share))
    sheet.stain(bright, sheet.cloud(lumps, 2).point(levels(0.55, 0.95)), 0.3)
    sheet.stain(dark, sheet.cloud(lumps, 2).point(levels(0.55, 0.95)), 0.5)
    sheet.stain(
        mix(setting.haze, setting.sun, 0.5), sheet.spot(setting.sun_x - sheet.extent[0], 0.02, 0.22), 0.5 * (1 - share)
    )
    _glitter(sheet, setting, share)
    sheet.rim(bright, thick=0.0015 + 0.003 * share, aside=0.0, strength=0.5 - 0.2 * share)
    sheet.grain(2)
    motion = Motion(
        distance=distance,
        sway=0.002 + 0.012 * share,
        bob=0.0008 + 0.006 * share,
        period=rng.uniform(4.2, 6.5),
        ahead=rng.random(),
    )
    return Row(sheet=sheet, motion=motion, low=lowest(sheet, edge))


def _ripple(line: Line, base: float, height: float) -> Line:
    return lambda x: base + height * line(x)


def _glitter(sheet: Sheet, setting: Setting, share: float) -> None:
    """The sun's broken path on the water: short bright strokes, dense under the sun and loose aside of it."""
    rng = sheet.rng
    for bright in (0.35, 0.65, 1.0):
        strokes = []
        for _ in range(40 + round(60 * (1 - share))):
            x = rng.gauss(setting.sun_x, 0.025 + 0.07 * share) - sheet.extent[0]
            y = 0.016 + rng.random() ** 1.5 * (0.03 + 0.12 * share)
            long = rng.uniform(0.3, 1.5) * (0.002 + 0.008 * share)
            thick = rng.uniform(0.7, 1.3) * (0.0011 + 0.0016 * share)
            angles = [k * math.pi / 6 for k in range(12)]
            strokes.append([(x + long * math.cos(a), y + thick * math.sin(a)) for a in angles])
        sheet.stain(mix(setting.haze, setting.sun, bright), sheet.shape(strokes))


def _boat(setting: Setting, water: float, distance: float) -> Row:
    """A small sail, beside the sun's path."""
    narrow = setting.size[1] / setting.size[0]
    middle, aside = setting.away * 0.16, 0.035 * narrow
    sheet = Sheet(setting.size, (middle - aside, water - 0.11, middle + aside, water + 0.004), setting.rng)
    foot = sheet.height - 0.004

    def at(dx: float, dy: float) -> tuple[float, float]:
        return aside + dx * narrow, foot - dy

    hull = [at(-0.026, 0.012), at(0.028, 0.012), at(0.02, 0), at(-0.02, 0)]
    main = [at(-0.001, 0.1), at(0.024, 0.018), at(-0.001, 0.018)]
    jib = [at(-0.004, 0.085), at(-0.02, 0.018), at(-0.004, 0.018)]
    sheet.stencil = sheet.shape([hull, main, jib])
    sheet.fill(mix(setting.tint(0.5), setting.sun, 0.15), setting.tint(0.8))
    return Row(sheet=sheet, motion=Motion(distance=distance, sway=0.004, bob=0.0025, period=7, drift=-0.002), low=None)


def city(setting: Setting, *, lit: bool) -> list[Row]:
    rows = []
    shapes = ((4.5, 0.1, 0.3, 0.02), (2.4, 0.4, 0.36, 0.032), (1.3, 0.72, 0.34, 0.05), (0.72, 1.0, 0.26, 0.085))
    for place, (distance, depth, height, wide) in enumerate(shapes):
        base = setting.horizon + 0.07 * place
        sheet = setting.sheet(base - height * 1.3 - 0.05, distance=distance)
        houses = _houses(sheet, base, height, wide)
        sheet.stencil = sheet.shape([outline for house in houses for outline in _house(sheet, house, height)])
        body = setting.tint(depth)
        sheet.fill(mix(body, setting.near, 0.15), mix(body, setting.haze, 0.55 - 0.5 * depth))
        _windows(sheet, houses, setting, depth, lit=lit)
        if place < 3:
            sheet.veil(setting.haze, at=base, high=0.12, strength=0.5 - 0.12 * place)
        sheet.grain(2)
        rows.append(Row(sheet=sheet, motion=Motion(distance=distance), low=base))
    return rows


House = tuple[float, float, float]  # left, width, top, in the sheet's fractions


def _houses(sheet: Sheet, base: float, height: float, wide: float) -> list[House]:
    houses: list[House] = []
    rng, x = sheet.rng, 0.0
    while x < sheet.width:
        across = wide * rng.uniform(0.6, 1.5)
        tall = height * rng.uniform(0.25, 0.75) * (1.5 if rng.random() < 0.18 else 1.0)
        houses.append((x, across * rng.uniform(0.86, 1.0), base - tall - sheet.extent[1]))
        x += across
    return houses


def _house(sheet: Sheet, house: House, height: float) -> list[Points]:
    """A block, sometimes with a set-back storey, sometimes with a mast on that."""
    (left, across, top), rng = house, sheet.rng

    def block(x: float, y: float, wide: float, foot: float) -> Points:
        return [(x, y), (x + wide, y), (x + wide, foot), (x, foot)]

    shapes = [block(left, top, across, sheet.height + 0.1)]
    if rng.random() < 0.4:
        inset, rise = across * rng.uniform(0.15, 0.3), height * rng.uniform(0.03, 0.1)
        shapes.append(block(left + inset, top - rise, across - 2 * inset, top))
        if rng.random() < 0.4:
            shapes.append(block(left + across / 2 - 0.0008, top - rise * 2.2, 0.0016, top))
    return shapes


def _windows(sheet: Sheet, houses: list[House], setting: Setting, depth: float, *, lit: bool) -> None:
    pen, rng = ImageDraw.Draw(sheet.ground), sheet.rng
    across, down = sheet.unit
    pitch_x, pitch_y = 0.0052 + 0.006 * depth, 0.014 + 0.012 * depth
    colours = _LIT if lit else (mix(setting.haze, setting.sun, 0.5),)
    bright = (0.3, 0.95) if lit else (0.05, 0.25)
    for left, wide, top in houses:
        share = rng.uniform(0.1, 0.5)
        for column in range(1, int(wide / pitch_x)):
            for storey in range(1, int(0.5 / pitch_y)):
                if rng.random() > share:
                    continue
                x, y = (left + column * pitch_x) * across, (top + storey * pitch_y) * down
                paint = mix(setting.tint(depth), rng.choice(colours), rng.uniform(*bright))
                pen.rectangle((x, y, x + pitch_x * across * 0.45, y + pitch_y * down * 0.5), fill=paint)
