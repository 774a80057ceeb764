"""A POST that is sent again because its answer was lost is one job; two equal POSTs are two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.api.unheard import Unheard
from tests.house import KEY, House, house
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio

ENDPOINT = "fal-ai/kling-video/v3/pro/text-to-video"
BODY = b'{"prompt": "a cat", "duration": "5"}'


@asynccontextmanager
async def open_house(tmp_path: Path, *, seconds: float) -> AsyncIterator[House]:
    with FalServer(tmp_path / "fal", Options(pace=Pace(seconds=seconds))) as vendor:
        async with house(tmp_path / "gateway", vendor.url) as gateway:
            yield gateway


async def post(gateway: House, path: str, body: bytes = BODY) -> Any:
    headers = {"content-type": "application/json"}
    return (await gateway.http.post(path, content=body, headers=headers)).json()


async def hang_up(gateway: House, path: str) -> None:
    """Send the POST, and leave once the job is there."""
    url = gateway.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Key {KEY}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY)
    await writer.drain()
    async with asyncio.timeout(10):
        while True:
            if await jobs(gateway):
                break
            await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    del reader


async def jobs(gateway: House) -> list[str]:
    return [video["id"] for video in (await gateway.http.get("/v1/videos")).json()["data"]]


async def test_a_run_that_was_cut_and_is_sent_again_gets_the_first_ones_clip(tmp_path: Path) -> None:
    async with open_house(tmp_path, seconds=0.5) as gateway:
        await hang_up(gateway, f"/fal/run/{ENDPOINT}")
        (first,) = await jobs(gateway)
        await asyncio.sleep(0.05)  # the end of a connection is no event that a client could wait for
        again = await post(gateway, f"/fal/run/{ENDPOINT}")
        third = await post(gateway, f"/fal/run/{ENDPOINT}")

        assert again["filmgate"]["id"] == first
        assert third["filmgate"]["id"] != first
        assert len(await jobs(gateway)) == 2


async def test_another_body_or_another_way_of_asking_is_another_job(tmp_path: Path) -> None:
    async with open_house(tmp_path, seconds=0.3) as gateway:
        await hang_up(gateway, f"/fal/run/{ENDPOINT}")
        await asyncio.sleep(0.05)
        await post(gateway, f"/fal/run/{ENDPOINT}", BODY.replace(b"cat", b"dog"))
        await post(gateway, f"/fal/{ENDPOINT}")

        assert len(await jobs(gateway)) == 3


async def test_two_equal_submits_that_are_both_answered_are_two_jobs(tmp_path: Path) -> None:
    async with open_house(tmp_path, seconds=0.1) as gateway:
        one, other = await asyncio.gather(*(post(gateway, f"/fal/{ENDPOINT}") for _ in range(2)))

        assert one["request_id"] != other["request_id"]


# --- alone ------------------------------------------------------------------------------------------------------------


class Line(msgspec.Struct):
    """A caller's connection: `cut` hangs up."""

    gone: asyncio.Event

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def cut(self) -> None:
        self.gone.set()
        for _ in range(3):
            await asyncio.sleep(0)


async def test_a_job_still_on_its_way_is_waited_for() -> None:
    unheard, line = Unheard(), Line(asyncio.Event())
    question = unheard.ask(("key", "body"), line.receive)

    await line.cut()
    lost = unheard.take(("key", "body"))
    question.became("video_1")

    assert lost is not None
    assert await lost == "video_1"
    assert unheard.take(("key", "body")) is None


async def test_a_question_that_came_to_nothing_gives_nothing() -> None:
    unheard, line = Unheard(), Line(asyncio.Event())
    question = unheard.ask(("key", "body"), line.receive)

    await line.cut()
    question.over()
    lost = unheard.take(("key", "body"))

    assert lost is not None
    assert await lost is None


async def test_what_happens_after_the_answer_left_is_no_loss() -> None:
    unheard, line = Unheard(), Line(asyncio.Event())
    question = unheard.ask(("key", "body"), line.receive)
    question.became("video_1")

    question.over()
    await line.cut()

    assert unheard.take(("key", "body")) is None


async def test_a_lost_job_is_forgotten_after_its_time() -> None:
    unheard, line = Unheard(seconds=0.01), Line(asyncio.Event())
    question = unheard.ask(("key", "body"), line.receive)
    question.became("video_1")

    await line.cut()
    await asyncio.sleep(0.05)

    assert unheard.take(("key", "body")) is None
    assert unheard.take(("other key", "body")) is None
