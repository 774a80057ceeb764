"""A client of the results queue, cut twenty times, over a kill and a restart, loses no event and sees none twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway import admin
from gateway.store import connect
from tests.house import Process, free_port, written
from tests.listening import Told, listening
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = [pytest.mark.anyio, pytest.mark.crash, pytest.mark.timeout(120)]

JOBS = 14  # three events each
CUTS = 20
EACH = 2  # events between two cuts
KILLED_AT, RESTARTED_AT = 6, 12  # cuts


async def test_client_cut_twenty_times_misses_nothing_and_sees_nothing_twice(tmp_path: Path) -> None:
    port = free_port()
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.3))) as fal:
        config = written(tmp_path / "house", fal.url, port=port)
        key = await asyncio.to_thread(_key, tmp_path / "house")
        with Process(config, key=key, port=port) as gateway:
            await asyncio.to_thread(gateway.start)
            told = await _listened(gateway)
            await asyncio.to_thread(gateway.stop)

    store = connect(f"sqlite:///{tmp_path}/house/filmgate.db")
    await store.open()
    (caller,) = await store.keys()
    stored = await store.happened(caller.id, after=0, limit=1000)
    await store.close()
    assert [int(event.id) for event in told] == [one.seq for one in stored]
    assert [event.data["video"]["id"] for event in told] == [one.job.id for one in stored]
    assert sum(event.name == "video.completed" for event in told) == JOBS
    print(f"{CUTS} cuts, {JOBS} jobs, {len(told)} events, each once")


async def _listened(gateway: Process) -> list[Told]:
    """Every durable event that a client has met, in its order; it hangs up after every second one."""
    told: list[Told] = []
    last_id, cuts, ended = "0", 0, 0
    async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.headers, trust_env=False, timeout=30) as http:
        asking = asyncio.create_task(_ask(http))
        while ended < JOBS:
            if cuts in (KILLED_AT, RESTARTED_AT):
                await asking
                await asyncio.to_thread(gateway.kill if cuts == KILLED_AT else gateway.stop)
                await asyncio.to_thread(gateway.start)
            had = len(told)
            async with listening(http, "/v1/events", last_id=last_id) as stream:
                async for event in stream:
                    if event.name == "video.progress":
                        continue
                    told.append(event)
                    last_id = stream.last_id
                    ended += event.name in ("video.completed", "video.failed")
                    if ended == JOBS or (cuts < CUTS and len(told) == had + EACH):
                        break
            cuts += 1
    assert cuts >= CUTS
    return told


async def _ask(http: httpx.AsyncClient) -> None:
    for number in range(JOBS):
        form = {"model": "kling-v3-pro", "prompt": f"a lighthouse, take {number}", "seconds": 5}
        reply = await http.post("/v1/videos", json=form)
        assert reply.status_code == 200, reply.text
        await asyncio.sleep(0.05)  # so that events of several jobs interleave


def _key(folder: Path) -> str:
    """The text of a new key, made before the server starts."""
    made = admin.with_store(f"sqlite:///{folder}/filmgate.db", admin.CreateKey(name="cut"))
    return made.text.reveal()
