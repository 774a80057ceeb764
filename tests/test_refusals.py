"""Refusals teach: each impossible request is told who could do it, or the nearest request that would do; and nothing is
sent to any vendor."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from PIL import Image

from tests.house import House, house
from tests.vendors.fal import FalServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def fal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FalServer]:
    with FalServer(tmp_path_factory.mktemp("vendor")) as server:
        yield server


@pytest.fixture(scope="module")
async def gateway(fal: FalServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("house"), fal.url) as running:
        yield running


def picture(width: int, height: int, kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 160)).save(out, kind)
    return out.getvalue()


def heavy_png() -> bytes:
    """A picture of noise, which no compression makes smaller: 12 MB."""
    out = io.BytesIO()
    Image.frombytes("RGB", (2000, 2000), os.urandom(2000 * 2000 * 3)).save(out, "PNG", compress_level=0)
    return out.getvalue()


async def refused(gateway: House, fal: FalServer, form: dict[str, Any], **files: Any) -> dict[str, Any]:
    """The error of a request that must not be taken; asserts its shape, and that nobody was called."""
    before = len(fal.requests())
    form = {"prompt": "a lighthouse", "model": "kling-v3-pro", **form}
    if files:
        reply = await gateway.http.post("/v1/videos", data=form, files=files)
    else:
        reply = await gateway.http.post("/v1/videos", json=form)
    assert 400 <= reply.status_code < 500, reply.text
    assert reply.headers["x-request-id"]
    error = reply.json()["error"]
    assert {"type", "code", "message", "param"} <= set(error)
    assert len(fal.requests()) == before, "a vendor was called"
    return dict(error)


async def test_20_s_on_kling_names_the_durations_it_makes(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {"seconds": 20})

    assert (error["code"], error["param"]) == ("seconds_unsupported", "seconds")
    assert "3–15 s" in error["message"]
    assert error["nearest"] == "seconds=15"


async def test_audio_on_pika_names_who_makes_sound(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {"model": "pika-2.2", "generate_audio": True})

    assert (error["code"], error["param"]) == ("audio_unsupported", "generate_audio")
    assert "can be made by kling-" in error["message"]


async def test_another_shape_than_the_pictures_says_the_crop_that_would_do(gateway: House, fal: FalServer) -> None:
    wide = {"input_reference": ("wide.jpg", picture(1280, 720), "image/jpeg")}

    error = await refused(gateway, fal, {"aspect_ratio": "9:16"}, **wide)

    assert error["code"] == "shape_follows_picture"
    assert "405" in f"{error['message']} {error['nearest']}"  # 720 high is 405 wide at 9:16


async def test_a_picture_of_12_mb_is_too_large(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {}, input_reference=("big.png", heavy_png(), "image/png"))

    assert (error["code"], error["param"]) == ("picture_too_large", "input_reference")
    assert "10 MB" in error["message"] or "10,000,000" in error["message"]


async def test_a_picture_of_200_pixels_is_too_small(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {}, input_reference=("small.jpg", picture(200, 200), "image/jpeg"))

    assert error["code"] == "picture_too_small"
    assert "300" in error["message"]


async def test_a_gif_is_told_what_is_taken(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {}, input_reference=("a.gif", picture(640, 480, "GIF"), "image/jpeg"))

    assert error["param"] == "input_reference"
    assert "JPEG" in error["message"]
    assert "PNG" in error["message"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:9/none.png", "input_fetch_failed"),
        ("https://10.0.0.1/inside.png", "url_not_allowed"),
        ("https://192.0.0.192/latest/meta-data", "url_not_allowed"),
        ("http://example.com/plain.png", "url_not_allowed"),
        ("file:///etc/passwd", "url_not_allowed"),
    ],
)
async def test_a_dead_or_a_private_address_is_not_opened(url: str, code: str, gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {"input_reference": {"image_url": url}})

    assert (error["code"], error["param"]) == (code, "input_reference")


async def test_seconds_that_are_no_number(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {"seconds": "abc"})

    assert error["param"] == "seconds"
    assert "whole number" in error["message"]


async def test_an_unknown_field_names_the_nearest_known_one(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {"generate_sound": True})

    assert error["code"] == "unknown_field"
    assert error["nearest"] == "generate_audio"


async def test_an_unknown_model_names_the_nearest_known_one(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {"model": "kling-v3-por"})

    assert error["code"] == "model_not_found"
    assert error["nearest"] == "kling-v3-pro"


async def test_a_cap_below_the_price_says_what_the_cap_would_buy(gateway: House, fal: FalServer) -> None:
    error = await refused(gateway, fal, {"seconds": 8, "provider": {"max_price": {"request": 0.6}}})

    assert error["code"] == "over_max_price"
    assert "seconds=5" in error["nearest"]
