"""fal's dialect over a real socket: the stream of places while a clip is made, and open calls when the server goes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from gateway import keys
from gateway.store import connect
from tests.house import KEY, house
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio

TEXT = "fal-ai/kling-video/v3/pro/text-to-video"
INPUT = {"prompt": "a red kite", "duration": "5", "generate_audio": False}


async def places(client: httpx.AsyncClient, status_url: str) -> list[str]:
    """The word of every event, until the stream ends."""
    async with client.stream("GET", f"{status_url}/stream", params={"logs": "1"}) as answer:
        text = "".join([piece async for piece in answer.aiter_text()])
    events = [event for event in text.split("\n\n") if event.startswith("data: ")]
    return [json.loads(event.removeprefix("data: "))["status"] for event in events]


async def test_the_stream_tells_each_place_as_it_comes(tmp_path: Path) -> None:
    with FalServer(tmp_path / "fal", Options(pace=Pace(seconds=0.3))) as vendor:
        async with house(tmp_path / "gateway", vendor.url) as gateway:
            asked = (await gateway.http.post(f"/fal/{TEXT}", json=INPUT)).json()
            words = await places(gateway.http, asked["status_url"])

    assert words[-2:] == ["IN_PROGRESS", "COMPLETED"]
    assert len(words) == len(set(words))


async def test_a_run_and_a_stream_end_with_the_server_and_the_job_stays(tmp_path: Path) -> None:
    with FalServer(tmp_path / "fal", Options(pace=Pace(seconds=60))) as vendor:
        async with house(tmp_path / "gateway", vendor.url) as gateway:
            url = gateway.http.base_url
            client = httpx.AsyncClient(
                base_url=url, headers={"authorization": f"Key {KEY}"}, timeout=20, trust_env=False
            )
            running = asyncio.create_task(client.post(f"/fal/run/{TEXT}", json=INPUT))
            asked = (await gateway.http.post(f"/fal/{TEXT}", json=INPUT)).json()
            await gateway.until(asked["request_id"], "in_progress")
            streaming = asyncio.create_task(places(client, asked["status_url"]))
            while True:  # until the run is a job too
                if len((await gateway.http.get("/v1/videos")).json()["data"]) == 2:
                    break
                await asyncio.sleep(0.01)
        run, seen = await running, await streaming
        await client.aclose()

    assert (run.status_code, run.json()["error_type"]) == (500, "internal_error")
    assert run.headers["x-fal-request-id"].startswith("video_")
    assert seen == ["IN_PROGRESS"]


async def test_a_test_key_gets_its_clip_from_the_sandbox_alone(tmp_path: Path) -> None:
    new = keys.make("ci", now_us=1, random=bytes(keys.RANDOM_BYTES), test=True)
    folder = tmp_path / "gateway"
    folder.mkdir()
    store = connect(f"sqlite:///{folder}/filmgate.db")
    await store.open()
    await store.create_key(new.key)
    await store.close()
    with FalServer(tmp_path / "fal") as vendor:
        async with house(folder, vendor.url) as gateway:
            headers = {"authorization": f"Key {new.text.reveal()}"}
            made = (await gateway.http.post(f"/fal/run/{TEXT}", json=INPUT | {"duration": "3"}, headers=headers)).json()
            others = await gateway.http.get(f"/fal/filmgate/x/requests/{made['filmgate']['id']}")

        assert made["video"]["content_type"] == "video/mp4"
        assert made["filmgate"]["cost_usd"] == 0
        assert others.status_code == 404
        assert vendor.requests() == []
