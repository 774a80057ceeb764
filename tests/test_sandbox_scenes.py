"""Scenes made from words alone fill the frame under every move, and sizes agree with the catalogue."""

from __future__ import annotations

import itertools

import pytest
from PIL import ImageStat

from gateway import catalogue
from gateway.jobs import Preferences
from gateway.settings import shipped
from providers.sandbox import camera, scenery, stage, studio
from providers.sandbox.size import frame_size
from providers.spec import (
    Camera,
)
from tests.sandbox_house import (
    asked,
    drawn,
    square,
)


@pytest.mark.parametrize("place", list(scenery.HORIZON))
@pytest.mark.parametrize("size", [(160, 90), (90, 160)], ids=str)
def test_no_move_shows_an_edge_or_a_hole_of_a_scene(place: str, size: tuple[int, int]) -> None:
    layers = scenery.scene(f"{place} with snow", 3, size)

    for move, t in itertools.product(Camera, (0.0, 0.5, 1.0)):
        pose = camera.between(*camera.path(move, 20), t)
        luma = stage.shoot(layers, pose, 20 * t, size)[0]
        darkest = luma.getextrema()[0]
        assert isinstance(darkest, int)
        assert darkest >= 16, f"{move} at {t}: a pixel that no layer covers"
        for layer in layers:
            seen = layer.place.motion.seen(pose, 20 * t)
            left, right = layer.place.left, layer.place.right
            if left < -0.5:  # what begins outside the frame stays there
                assert seen.x - 0.5 / seen.scale >= left - 1e-6, f"{move} at {t}"
            if right > 0.5:
                assert seen.x + 0.5 / seen.scale <= right + 1e-6, f"{move} at {t}"


def test_near_things_move_more_than_far_ones() -> None:
    start, end = camera.path(Camera.DOLLY_RIGHT, 5)

    def travel(distance: float) -> float:
        return camera.view(end, distance).x - camera.view(start, distance).x

    assert travel(0.6) > 2 * travel(2) > 0


def test_words_choose_the_hour() -> None:
    def light(prompt: str) -> float:
        return ImageStat.Stat(stage.shoot(scenery.scene(prompt, 0, (160, 90)), camera.Pose(), 0, (160, 90))[0]).mean[0]

    assert light("the sea at night") < 0.6 * light("the sea at noon")


def test_size_is_what_the_catalogue_says() -> None:
    rows = catalogue.load([shipped() / "catalogue" / "sandbox.toml"])
    row = rows.backends[0]
    requests = [asked(resolution=r, aspect_ratio=a) for r, a in itertools.product(row.resolutions, row.aspect_ratios)]
    requests += [
        asked(resolution=None, aspect_ratio=None),
        asked(resolution=None, aspect_ratio=None, first_frame=drawn(square, (700, 500))),
        asked(resolution=None, aspect_ratio=None, width=1792, height=1024),
    ]

    for request in requests:
        found = catalogue.match(rows, rows.resolve("sandbox", {}), request, Preferences(), configured={"sandbox"})
        assert len(found.candidates) == 3, found.refusals
        for candidate in found.candidates:
            assert "x".join(map(str, frame_size(candidate.request))) == candidate.size


def test_every_lane_has_a_row_whose_price_is_pretended() -> None:
    rows = catalogue.load([shipped() / "catalogue" / "sandbox.toml"]).backends

    assert {row.id for row in rows} == {f"sandbox/{name}" for name, lane in studio.LANES.items() if not lane.is_double}
    assert all(set(row.model_id.values()) == {row.id.partition("/")[2]} for row in rows)
    assert all(row.pretend for row in rows)
