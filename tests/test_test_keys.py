"""A test key sees the whole catalogue and is served as a live key would be, while the vendor's log stays empty."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from gateway.catalogue import Backend
from gateway.mirror import ACCOUNT
from providers.sandbox.film import DRAFT_FPS, FPS
from providers.spec import Mode
from tests.gate import gate, picture
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.2))) as server:
        yield server


# --- what it gets -----------------------------------------------------------------------------------------------------


async def test_every_model_is_made_as_asked_for_nothing_and_no_vendor_hears_of_it(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        rows = {row.model: row for row in house.rooms.catalogue.backends if row.price and Mode.TEXT in row.model_id}

        async def film(row: Backend) -> tuple[Backend, dict[str, Any], bytes]:
            form = {"seconds": min(row.seconds.all()), "generate_audio": row.audio.value != "never"}
            video = await house.made(model=row.model, **form)
            return row, video, await house.clip(video)

        films = await asyncio.gather(*(film(row) for row in rows.values()))

        assert len(films) >= 14
        for row, video, clip in films:
            assert_clip(clip, video, seconds=min(row.seconds.all()), audio=row.audio.value != "never")
            assert video["usage"]["cost_usd"] == 0
            assert video["test"] is True
            assert video["routing"]["pretend"] is True
            assert video["routing"]["estimated_cost_usd"] > 0
            (attempt,) = await house.attempts(video)
            assert attempt.fault is None, "its clip was checked and fits"
            assert (attempt.test, attempt.account, attempt.price_usd_micros) == (True, ACCOUNT, 0)
    assert fal.requests() == []


def assert_clip(clip: bytes, video: dict[str, Any], *, seconds: int, audio: bool) -> None:
    with av.open(io.BytesIO(clip), "r") as box:
        (stream,) = box.streams.video
        assert float((stream.duration or 0) * (stream.time_base or 0)) == pytest.approx(seconds, abs=0.01)
        assert f"{stream.width}x{stream.height}" == video["size"]
        assert len(box.streams.audio) == audio
        assert next(box.decode(video=0)).width == stream.width
        assert stream.frames in (seconds * DRAFT_FPS, seconds * FPS)
    assert not [said for said in video["warnings"] if "asked for" in said]


async def test_a_clip_goes_from_the_first_picture_to_the_last(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        frames = [
            {"image_url": picture("red"), "frame_type": "first_frame"},
            {"image_url": picture("blue"), "frame_type": "last_frame"},
        ]
        video = await house.made(model="fal/kling-v3-pro", frame_images=frames, generate_audio=True)
        clip = await house.clip(video)

    assert_clip(clip, video, seconds=3, audio=True)
    with av.open(io.BytesIO(clip), "r") as box:
        colours = [frame.to_image().resize((1, 1)).getpixel((0, 0)) for frame in box.decode(video=0)]  # type: ignore[no-untyped-call]
    assert colours[0][0] > 200 > 60 > colours[0][2]
    assert colours[-1][2] > 200 > 60 > colours[-1][0]
    assert fal.requests() == []


async def test_all_that_a_row_grants_is_taken(fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        references, standard = [{"image_url": picture("green")}], "fal/kling-v3-standard"
        shots = [{"prompt": "the sea", "seconds": 1}, {"prompt": "the shore", "seconds": 2}]
        negative, pictures, shown, exact = await asyncio.gather(
            house.made(model=standard, negative_prompt="rain", cfg_scale=0.4),
            house.made(model="fal/kling-o3-standard", input_references=references, aspect_ratio="9:16"),
            house.made(model=standard, prompt=None, shots=shots),
            house.made(model="runway/seedance-2", seconds=4, aspect_ratio="21:9", resolution="720p"),
        )

        assert_clip(await house.clip(negative), negative, seconds=3, audio=False)
        assert_clip(await house.clip(pictures), pictures, seconds=3, audio=False)
        assert_clip(await house.clip(shown), shown, seconds=3, audio=False)
        assert_clip(await house.clip(exact), exact, seconds=4, audio=False)
        assert pictures["size"] == "720x1280"
    assert fal.requests() == []


async def test_a_request_is_refused_as_a_live_one_would_be(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: list[dict[str, Any]] = [
        {"model": "kling-v3-pro", "seconds": 16},
        {"model": "kling-v3-pro", "provider": {"only": ["nobody"]}},
        {"model": "pika-2.2", "seconds": 5, "generate_audio": True},
        {"model": "ulazai/kling-v3-pro"},
        {"model": "kling-v3-pro", "provider": {"max_price": {"request": 0.01}}},
        {"model": "kling-v9"},
    ]
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        for form in wrong:
            body = {"prompt": "a lighthouse", **form}
            live = await house.live.post("/v1/videos", json=body)
            test = await house.test.post("/v1/videos", json=body)

            assert live.status_code >= 400, form
            assert test.status_code == live.status_code
            assert said(test) == said(live)
    assert fal.requests() == []


def said(reply: httpx.Response) -> dict[str, Any]:
    error = reply.json()["error"]
    return {name: error.get(name) for name in ("code", "param", "nearest", "refusals")}


async def test_the_decision_is_the_live_one_but_for_money_and_haste(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        body = {"model": "sora-2", "prompt": "a cat on a piano", "provider": {"sort": "price"}}
        live = (await house.live.post("/v1/videos/route", json=body)).json()
        test = (await house.test.post("/v1/videos/route", json=body)).json()
        shown = (await house.test.get("/v1/backends?model=kling-v3-pro")).json()["data"]

    assert [one["backend"] for one in test["ranked"]] != []
    assert priced(test) == priced(live)
    assert {one["backend"] for one in live["ranked"]} <= {one["backend"] for one in test["ranked"]}
    assert not any(one["provider"] == "sandbox" for one in test["ranked"])
    assert all(one["quote"]["pretend"] for one in test["ranked"])
    assert all(one["credential"] and (one["price"] is None or one["price"]["pretend"]) for one in shown)


def priced(decision: dict[str, Any]) -> dict[str, tuple[int, str, list[str]]]:
    return {
        one["backend"]: (one["quote"]["usd_micros"], one["size"], one.get("warnings", [])) for one in decision["ranked"]
    }


async def test_the_provider_that_the_caller_wants_plays_its_part(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        video = await house.made(model="kling-v3-standard", provider={"only": ["wavespeed"]})
        own = await house.made(model="sandbox", seconds=1)

        assert video["routing"]["backend"] == "wavespeed/kling-v3-standard"
        assert own["routing"]["provider"] == "sandbox"
    assert fal.requests() == []


# --- what it stages ---------------------------------------------------------------------------------------------------


async def test_cues_in_the_prompt_fail_as_they_say(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {"only": ["fal"]}
    codes = {
        "[fail: content_policy]": "content_policy_violation",
        "[fail: generation]": "generation_failed",
        "[fail: invalid_request]": "invalid_request",
        "[fail: by magic]": None,
        "[fail: magic]": "invalid_request",
        "[fail: generation at kling]": None,
    }
    async with gate(tmp_path / "house", fal, monkeypatch) as house:

        async def run(cue: str) -> str | None:
            video = await house.ended(await house.create(prompt=f"a lighthouse {cue}", provider=only))
            assert video["usage"]["cost_usd"] == 0
            return video["error"]["code"] if video["error"] else None

        found = await asyncio.gather(*map(run, codes))

    assert dict(zip(codes, found, strict=True)) == codes
    assert fal.requests() == []


async def test_a_cue_for_one_provider_shows_the_failover(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"order": ["fal", "kling"]}
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        broken, refused = await asyncio.gather(
            house.made(prompt="rain [fail: generation at fal]", provider=order),
            house.made(prompt="rain [fail: unavailable at fal/kling-v3-standard]", provider=order),
        )

        for video, state in ((broken, "failed"), (refused, "rejected")):
            first, second = await house.attempts(video)
            assert (first.provider, first.state) == ("fal", state)
            assert (second.provider, second.state) == ("kling", "succeeded")
    assert fal.requests() == []


async def test_a_lost_reply_is_found_and_nothing_is_ordered_twice(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        video = await house.made(prompt="rain [lose reply]")

        events = [event.type for event in await house.store.events(video["id"]) if event.attempt]
        assert events[1:] == ["attempt.lost", "attempt.found", "attempt.succeeded"]
        assert len(list((tmp_path / "house").rglob("order.json"))) == 1


async def test_a_slow_render_can_be_cancelled(fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        video = await house.create(prompt="rain [slow: 60]")
        job = await house.job(video)
        while not (await house.attempts(video)) or (await house.attempts(video))[0].operation is None:
            job = await house.store.live.changed(job.id, job.version, 5) or job

        reply = await house.test.post(f"/v1/videos/{video['id']}/cancel")

        assert reply.json()["error"]["code"] == "cancelled"
    assert fal.requests() == []


async def test_staged_failures_leave_the_next_test_as_it_was(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gate(tmp_path / "house", fal, monkeypatch) as house:
        pinned = {"only": ["fal"]}
        broken = [await house.create(prompt="[fail: generation] rain", provider=pinned) for _ in range(8)]
        await asyncio.gather(*map(house.ended, broken))

        video = await house.made(provider=pinned)

        assert video["routing"]["backend"] == "fal/kling-v3-standard"
