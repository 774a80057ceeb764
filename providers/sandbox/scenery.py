"""Scenes for clips that start from words alone: a sky, and land or sea under it, drawn after what the prompt names.

Law: pure and repeatable: the same words, seed and size give the same layers. Words choose the hour and the
place; a hash of the words and the seed draws everything else.
"""

from __future__ import annotations

import hashlib
import math
import random
import re

from PIL import ImageChops, ImageDraw

from providers.sandbox import land, shore
from providers.sandbox.ground import Setting, stack
from providers.sandbox.paint import WHITE, Colour, Sheet, levels, mix
from providers.sandbox.stage import Layer, Motion, Wash
from providers.spec import Frozen


class Light(Frozen):
    """The colours of an hour, and where its sun or moon stands (frames above the horizon)."""

    zenith: Colour
    middle: Colour
    horizon: Colour
    sun: Colour
    far: Colour  # land in the haze
    near: Colour  # land close by
    height: float
    disc: float = 0.028  # frame heights
    glow: float = 0.9
    stars: int = 0
    clouds: float = 0.75


HOURS: dict[str, Light] = {
    "sunset": Light(
        zenith=(44, 42, 98),
        middle=(196, 92, 112),
        horizon=(255, 190, 116),
        sun=(255, 232, 178),
        far=(176, 104, 118),
        near=(26, 17, 40),
        height=0.07,
        disc=0.05,
    ),
    "dawn": Light(
        zenith=(86, 122, 178),
        middle=(222, 184, 196),
        horizon=(255, 224, 190),
        sun=(255, 246, 220),
        far=(170, 168, 196),
        near=(34, 48, 74),
        height=0.11,
        disc=0.04,
    ),
    "day": Light(
        zenith=(46, 112, 190),
        middle=(118, 178, 228),
        horizon=(214, 234, 244),
        sun=(255, 252, 236),
        far=(146, 178, 200),
        near=(20, 58, 52),
        height=0.3,
        disc=0.0,
        glow=1.0,
        clouds=1.0,
    ),
    "night": Light(
        zenith=(7, 10, 32),
        middle=(20, 32, 76),
        horizon=(62, 86, 136),
        sun=(236, 240, 255),
        far=(38, 54, 96),
        near=(6, 9, 20),
        height=0.27,
        disc=0.035,
        glow=0.5,
        stars=420,
        clouds=0.3,
    ),
    "grey": Light(
        zenith=(98, 112, 128),
        middle=(150, 162, 172),
        horizon=(206, 210, 210),
        sun=(236, 236, 230),
        far=(146, 158, 166),
        near=(28, 36, 42),
        height=0.16,
        disc=0.0,
        glow=0.5,
        clouds=0.9,
    ),
}

_HOUR_WORDS = (
    ("sunset", r"sunset|dusk|evening|golden hour|golden|sundown|twilight|autumn|fire|warm"),
    ("dawn", r"dawn|sunrise|morning|pastel|pink|spring"),
    ("night", r"nights?|midnight|moon(?:light|lit)?|stars?|starry|galaxy|dark|neon"),
    ("grey", r"fog(?:gy)?|mist(?:y)?|rain(?:y)?|storm(?:y)?|grey|gray|overcast|cloudy|gloomy"),
    ("day", r"day(?:light)?|noon|midday|summer|sunny|blue|clear"),
)
_PLACE_WORDS = (
    ("sea", r"seas?|oceans?|waves?|beach|coast|bay|lakes?|water|harbou?r|islands?|boats?|ships?|sail\w*|surf\w*"),
    ("forest", r"forests?|trees?|woods?|woodland|jungle|pines?|taiga"),
    ("city", r"city|cities|skyline|streets?|town|skyscrapers?|downtown|buildings?|towers?|rooftops?|tokyo|neon"),
    ("desert", r"deserts?|dunes?|sand|sandy|sahara|mars|camels?"),
    ("mountains", r"mountains?|peaks?|alps?|alpine|hills?|valleys?|cliffs?|canyons?|snow\w*|glaciers?"),
)
HORIZON = {"sea": 0.06, "forest": 0.16, "city": 0.2, "desert": 0.08, "mountains": 0.14}  # below the middle


def _first(rows: tuple[tuple[str, str], ...], text: str) -> str | None:
    found = [(match.start(), name) for name, words in rows if (match := re.search(rf"\b(?:{words})\b", text))]
    return min(found)[1] if found else None


def scene(text: str, seed: int, size: tuple[int, int]) -> tuple[Layer | Wash, ...]:
    """The layers of a scene, far to near, for a frame of `size` pixels."""
    text = " ".join(text.lower().split())
    rng = random.Random(hashlib.sha256(f"{seed}\n{text}".encode()).digest())  # noqa: S311 (a picture, not a secret)
    place = _first(_PLACE_WORDS, text) or rng.choice(("mountains", "mountains", "sea", "desert", "forest"))
    hour = _first(_HOUR_WORDS, text) or rng.choice(("sunset", "sunset", "dawn", "day"))
    light, horizon = HOURS[hour], HORIZON[place]
    sun = rng.choice((-1, 1)) * rng.uniform(0.08, 0.24)
    setting = Setting(
        size=size,
        far=light.far,
        near=light.near,
        haze=light.horizon,
        sky=light.middle,
        sun=light.sun,
        sun_x=sun,
        horizon=horizon,
        rng=rng,
    )
    sky, clouds = _sky(light, setting), _clouds(light, setting)
    match place:
        case "sea":
            rows = shore.sea(setting, deep=mix(light.zenith, light.near, 0.45))
        case "forest":
            rows = land.forest(setting)
        case "city":
            rows = shore.city(setting, lit=hour in ("night", "sunset"))
        case "desert":
            rows = land.desert(setting, night=hour == "night")
        case _:
            rows = land.mountains(setting, snow="snow" in text or hour in ("day", "dawn"))
    return (sky, clouds, *stack(rows))


def _sky(light: Light, setting: Setting) -> Layer:
    rng, horizon = setting.rng, setting.horizon
    sheet = Sheet(setting.size, (-0.54, -0.54, 0.54, horizon + 0.16), rng)
    # the gradient ends at the horizon: what is below it is hidden, and seen only through a layer's soft edge
    sheet.fill(light.zenith, light.horizon, light.middle, at=0.6)
    x, y = setting.sun_x + 0.54, 0.54 + horizon - light.height
    if light.stars:
        pen = ImageDraw.Draw(sheet.ground)
        for _ in range(light.stars):
            left, top = rng.uniform(0, sheet.size[0]), rng.uniform(0, 0.75) ** 1.3 * sheet.size[1]
            bright = mix(light.zenith, WHITE, rng.uniform(0.25, 1) ** 1.5)
            radius = rng.choice((0.5, 0.5, 0.5, 0.9)) * sheet.unit[1] / 720
            pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=bright)
    for radius, strength in ((0.62, 0.45), (0.3, 0.5), (0.12, 0.7)):
        sheet.stain(mix(light.horizon, light.sun, 0.75), sheet.spot(x, y, radius), strength * light.glow)
    if light.disc:
        rows = light.disc * sheet.unit[1] / sheet.unit[0]
        angles = [k * math.pi / 36 for k in range(72)]
        sheet.stain(light.sun, sheet.shape([[(x + rows * math.cos(a), y + light.disc * math.sin(a)) for a in angles]]))
    sheet.grain(2)
    return sheet.cut(*sheet.extent[1::2], Motion(distance=1000), opaque=True)


def _clouds(light: Light, setting: Setting) -> Wash:
    sheet = Sheet(setting.size, (-0.66, -0.54, 0.66, setting.horizon - 0.02), setting.rng)
    flat = 2.2 * sheet.size[1] / sheet.size[0]  # clouds are wider than high, whatever the frame's shape
    puffs = sheet.cloud((6, max(2, round(6 * flat))), 6).point(levels(0.42, 0.88))
    wisps = sheet.cloud((2, max(2, round(4 * flat))), 2).point(levels(0.15, 0.8))
    band = sheet.fade(lambda down: light.clouds * 2.6 * down * (1 - down) ** 0.6)
    sheet.stencil = ImageChops.multiply(ImageChops.multiply(puffs, wisps), band)
    return sheet.wash(mix(mix(light.middle, light.horizon, 0.5), WHITE, 0.4), Motion(distance=60, drift=0.0035))
