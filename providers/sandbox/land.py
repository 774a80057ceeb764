"""Mountains, dunes and woods under the sky of a generated scene.

Law: pure and repeatable, as in `paint`. The haze between the rows is what makes depth, and their distances make a
moving camera show it.
"""

from __future__ import annotations

import math
import random

from providers.sandbox.ground import STEP, Line, Row, Setting, closed, lowest, outline
from providers.sandbox.paint import WHITE, Points, Sheet, levels, mix, wander
from providers.sandbox.stage import Motion


def _shaded(line: Points, rng: random.Random, side: int, *, reach: float, jag: float) -> list[Points]:
    """The slopes that are turned from the light: from each peak along the line to the valley at its `side`, and back
    up along a spine that goes at most `reach` down; `jag` breaks the spine (0: a smooth curve, as sand has)."""
    found: list[Points] = []
    gap = 14
    for k in range(gap, len(line) - gap):
        height = line[k][1]
        if height > min(y for _, y in line[k - gap : k + gap]):
            continue
        along, n, deepest = [line[k]], k, height
        while 0 < n < len(line) - 1 and line[n][1] < deepest + 0.012 and abs(n - k) < 240:
            n += side
            deepest = max(deepest, line[n][1])
            along.append(line[n])
        drop = min(reach, (along[-1][1] - height) * 1.8 + 0.02)
        x, spine = line[k][0], []
        for step in range(1, 13):
            x += side * drop * (jag * rng.uniform(-0.45, 0.55) if jag else (0.5 - step / 12) * 0.16)
            spine.append((x, height + drop * step / 12))
        found.append([*along, *_foot(along[-1], spine[-1], rng, drop, jag), *reversed(spine)])
    return found


def _foot(valley: tuple[float, float], low: tuple[float, float], rng: random.Random, drop: float, jag: float) -> Points:
    """The lower edge of a shaded slope, hanging below the straight line from the valley to the spine's end."""
    points = []
    for step in range(1, 10):
        share = step / 10
        sag = drop * (0.45 * math.sin(math.pi * share) + 0.3 * jag * rng.uniform(-1, 1))
        points.append((valley[0] + (low[0] - valley[0]) * share, valley[1] + (low[1] - valley[1]) * share + sag))
    return points


def mountains(setting: Setting, *, snow: bool) -> list[Row]:
    rows: list[Row] = []
    rng, away = setting.rng, setting.away
    shapes = (
        (7.0, 0.0, 0.3, 2.6),
        (3.2, 0.25, 0.22, 3.1),
        (1.7, 0.5, 0.15, 3.4),
        (0.95, 0.76, 0.12, 2.6),
        (0.62, 1.0, 0.1, 2.0),
    )
    for place, (distance, depth, height, lumps) in enumerate(shapes):
        base = setting.horizon + 0.075 * place - 0.02
        line = wander(rng, lumps=lumps, octaves=7, roughness=0.47)
        sheet = setting.sheet(base - height * 0.95 - 0.02, distance=distance)
        edge = outline(sheet, _crests(line, base, height))
        sheet.stencil = sheet.shape([closed(sheet, edge)])
        body = setting.tint(depth)
        sheet.fill(body, mix(body, setting.haze, 0.5 - 0.42 * depth))
        if snow and place < 2:
            ragged = wander(rng, lumps=26, octaves=4, roughness=0.6)
            melt = outline(sheet, _ripple(ragged, base - height * (0.34 + 0.12 * place), height * 0.22))
            caps = sheet.shape([[(0, 0), *melt, (sheet.width, 0)]])
            sheet.stain(mix(WHITE, setting.haze, 0.35), caps, 0.9)
        if place < 3:
            slopes = _shaded(edge, rng, away, reach=height * 0.9, jag=0.35)
            sheet.stain(mix(body, setting.near, 0.45), sheet.shape(slopes), 0.4)
        sheet.rim(setting.sun, thick=0.003, aside=away * 0.002, strength=0.45 - 0.08 * place)
        if place < 4:
            sheet.veil(setting.haze, at=base + 0.03, high=0.1, strength=0.55 - 0.08 * place)
        sheet.grain(2)
        rows.append(Row(sheet=sheet, motion=Motion(distance=distance), low=lowest(sheet, edge)))
    return rows


def _crests(line: Line, base: float, height: float) -> Line:
    """Sharp crests where the wandering line crosses zero."""
    return lambda x: base - height * (1.15 * (1 - abs(1.7 * line(x))) - 0.25)


def _ripple(line: Line, base: float, height: float) -> Line:
    return lambda x: base + height * line(x)


def desert(setting: Setting, *, night: bool) -> list[Row]:
    rows: list[Row] = []
    rng, away = setting.rng, setting.away
    sand, shade = ((70, 74, 112), (20, 22, 48)) if night else ((236, 170, 104), (122, 62, 62))
    shapes = ((5.0, 0.0, 0.1, 3.4), (2.4, 0.25, 0.14, 2.7), (1.3, 0.5, 0.2, 2.0), (0.62, 1.0, 0.24, 1.2))
    for place, (distance, depth, height, lumps) in enumerate(shapes):
        base = setting.horizon + 0.02 + 0.11 * place
        line = wander(rng, lumps=lumps, octaves=2, roughness=0.2)
        sheet = setting.sheet(base - height * 0.95 - 0.02, distance=distance)
        edge = outline(sheet, _crests(line, base, height))
        sheet.stencil = sheet.shape([closed(sheet, edge)])
        body = mix(mix(sand, shade, 0.35 * depth), setting.haze, 0.45 * (1 - depth))
        dark = mix(mix(shade, setting.near, 0.25 * depth), setting.haze, 0.35 * (1 - depth))
        sheet.fill(mix(body, setting.sun, 0.25), mix(body, dark, 0.45))
        sheet.stain(dark, sheet.cloud((5, 50), 2).point(levels(0.45, 0.8)), 0.14)
        sheet.stain(dark, sheet.shape(_shaded(edge, rng, away, reach=height * 1.6, jag=0.0)), 0.7)
        sheet.rim(setting.sun, thick=0.003, aside=away * 0.003, strength=0.45)
        sheet.grain(2)
        rows.append(Row(sheet=sheet, motion=Motion(distance=distance), low=lowest(sheet, edge)))
    return rows


def forest(setting: Setting) -> list[Row]:
    rng = setting.rng
    hill = setting.sheet(setting.horizon - 0.28, distance=6)
    line = wander(rng, lumps=2.4, octaves=5, roughness=0.45)
    edge = outline(hill, lambda x: setting.horizon - 0.1 - 0.13 * line(x))
    hill.stencil = hill.shape([closed(hill, edge)])
    hill.fill(setting.tint(0.05), mix(setting.tint(0.05), setting.haze, 0.5))
    hill.grain(2)
    rows = [Row(sheet=hill, motion=Motion(distance=6), low=lowest(hill, edge))]
    shapes = ((3.4, 0.26, 0.11, 140), (1.9, 0.5, 0.19, 74), (1.1, 0.76, 0.31, 38))
    for place, (distance, depth, height, count) in enumerate(shapes):
        base = setting.horizon + 0.01 + 0.08 * place
        sheet = setting.sheet(base - height * 1.1 - 0.05, distance=distance)
        floor = _floor(setting, base)
        low = _trees(sheet, floor, height=height, count=count, ground=True)
        _dress(setting, sheet, depth)
        sheet.veil(setting.haze, at=base + 0.02, high=0.13, strength=0.75 - 0.3 * depth)
        sheet.grain(2)
        rows.append(Row(sheet=sheet, motion=Motion(distance=distance), low=low))
    return rows + _frame(setting, base=setting.horizon + 0.25)


def _frame(setting: Setting, *, base: float) -> list[Row]:
    """The nearest trees, at both sides of the view, and the ground that they stand on."""
    floor, motion = _floor(setting, base), Motion(distance=0.62)
    ground = setting.sheet(base - 0.07, distance=motion.distance)
    low = _trees(ground, floor, height=0.0, count=0, ground=True)
    _dress(setting, ground, 1)
    ground.grain(2)
    rows = []
    left, _, right, _ = ground.extent
    open_to = max(0.0, 0.3 - 0.15 * ground.unit[1] / ground.unit[0])
    for edges in ((left, -open_to), (open_to, right)):
        side = Sheet(setting.size, (edges[0], base - 0.62, edges[1], base + 0.06), setting.rng)
        _trees(side, floor, height=0.52, count=4, ground=False)
        _dress(setting, side, 1)
        side.grain(2)
        rows.append(Row(sheet=side, motion=motion, low=None))
    return [*rows, Row(sheet=ground, motion=motion, low=low)]  # the ground last: it hides the trees' feet


def _floor(setting: Setting, base: float) -> Line:
    return _ripple(wander(setting.rng, lumps=2.0, octaves=3, roughness=0.5), base, 0.05)


def _trees(sheet: Sheet, floor: Line, *, height: float, count: int, ground: bool) -> float:
    """Draw conifers on an uneven floor, and the floor itself when `ground`; its lowest point."""
    rng, edge = sheet.rng, outline(sheet, floor)
    shapes = [closed(sheet, edge)] if ground else []
    # a sheet that ends inside the frame must not cut its trees
    margin = 0.0 if ground else min(0.15 * sheet.unit[1] / sheet.unit[0], sheet.width / 2)
    for k in range(count):
        x = margin + (k + rng.uniform(0.1, 0.9)) / count * (sheet.width - 2 * margin)
        tall = height * rng.uniform(0.5, 1.12)
        foot = edge[min(len(edge) - 1, round(x / STEP))][1] + 0.2 * tall
        shapes += _conifer(rng, x, foot, tall, sheet)
    sheet.stencil = sheet.shape(shapes)
    return lowest(sheet, edge)


def _dress(setting: Setting, sheet: Sheet, depth: float) -> None:
    body = setting.tint(depth)
    sheet.fill(mix(body, setting.haze, 0.1 * (1 - depth)), mix(body, setting.haze, 0.5 - 0.44 * depth))
    sheet.rim(setting.sun, thick=0.002, aside=setting.away * 0.001, strength=0.15)


def _conifer(rng: random.Random, x: float, foot: float, height: float, sheet: Sheet) -> list[Points]:
    """A stack of drooping boughs on a trunk."""
    tiers = rng.randint(7, 10)
    wide = height * rng.uniform(0.15, 0.21) * sheet.unit[1] / sheet.unit[0]
    shapes: list[Points] = [[(x - wide * 0.06, foot), (x + wide * 0.06, foot), (x, foot - height)]]
    for k in range(tiers):
        top = foot - height * (1 - 0.92 * k / tiers)
        low = top + height * (0.9 / tiers + 0.08)
        reach = wide * ((k + 1) / tiers) ** 0.85
        left, right = reach * rng.uniform(0.7, 1.2), reach * rng.uniform(0.7, 1.2)
        inner = low - height * 0.025
        shapes.append(
            [(x, top), (x + right, low), (x + right * 0.35, inner), (x - left * 0.35, inner), (x - left, low)]
        )
    return shapes
