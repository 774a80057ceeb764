"""Killed between a job's end and its webhook, or between the webhook and its log: it is told after the restart, under
the same id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import admin
from gateway.store import connect
from gateway.store.outbox import Delivery, Try
from tests.house import Process, free_port, written
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.server import Options

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.1))) as server:
        yield server


@pytest.mark.parametrize(("place", "came_before"), [("after_end", 0), ("after_webhook", 1)])
def test_a_kill_loses_no_webhook_and_keeps_its_id(place: str, came_before: int, fal: FalServer, tmp_path: Path) -> None:
    port = free_port()
    config = written(tmp_path / "house", fal.url, port=port)
    with Receiver() as receiver, Process(config, key=_key(tmp_path / "house"), port=port) as gateway:
        gateway.start(failpoint=place)
        form = {"model": "kling-v3-pro", "prompt": "a lighthouse", "callback_url": f"{receiver.url}/hook"}
        reply = httpx.post(f"{gateway.url}/v1/videos", json=form, headers=gateway.headers, trust_env=False)
        video_id = reply.json()["id"]
        gateway.died()
        came = len(receiver.got)
        gateway.start()
        got = receiver.wait(came_before + 1)
        gateway.stop()

    ((delivery, tries),) = asyncio.run(_log(tmp_path / "house", video_id))
    assert came == came_before
    assert len(got) == came_before + 1
    assert {request.headers["webhook-id"] for request in got} == {delivery.event}
    assert {request.json()["data"]["id"] for request in got} == {video_id}
    assert (delivery.state, [one.status for one in tries]) == ("delivered", [200])


async def _log(folder: Path, video_id: str) -> tuple[tuple[Delivery, tuple[Try, ...]], ...]:
    store = connect(f"sqlite:///{folder}/filmgate.db")
    await store.open()
    try:
        return await store.post.of_job(video_id)
    finally:
        await store.close()


def _key(folder: Path) -> str:
    """The text of a new key, made before the server starts."""
    made = admin.with_store(f"sqlite:///{folder}/filmgate.db", admin.CreateKey(name="crash"))
    return made.text.reveal()
