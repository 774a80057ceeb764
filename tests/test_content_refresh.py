"""A clip whose vendor's address has expired: asked for again through the worker, once for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.jobs import Attempt, JobEvent, JobState, advance
from gateway.worker.buyer import Line
from gateway.worker.realms import Realms
from gateway.worker.refreshing import REMEMBER_SECONDS, Refreshing
from providers.spec import (
    Fault,
    Kind,
    MediaForm,
    Operation,
    ProviderError,
    Status,
    Succeeded,
    Verdict,
    Video,
    VideoRequest,
)
from tests.api_house import House, opened, served
from tests.archive_house import FILE, Clock

pytestmark = pytest.mark.anyio

CLIP = bytes(range(256)) * 4000
FRESH = "https://files.vendor.example/clip.mp4?signature=def"


class Vendor:
    """Gives a fresh address when it is asked for one; `waits` for a word of the test, where there is one."""

    name = "fal"
    takes: tuple[MediaForm, ...] = ()

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gives: tuple[Video, ...] | Exception = (Video(url=FRESH),)
        self.waits: asyncio.Event | None = None
        self.heard = asyncio.Event()

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        raise AssertionError("nothing is bought here")

    async def poll(self, operation: Operation) -> Status:
        return Succeeded(videos=(Video(url=FILE),))

    async def refresh(self, operation: Operation) -> tuple[Video, ...]:
        self.asked.append(operation.id)
        self.heard.set()
        if self.waits is not None:
            await self.waits.wait()
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Mute:
    """A vendor without such a call."""

    name = "fal"
    takes: tuple[MediaForm, ...] = ()
    submit, poll = Vendor.submit, Vendor.poll


class OneLine:
    """Realms with one account."""

    def __init__(self, adapter: Any) -> None:
        self._line = Line(provider="fal", account="main", adapter=adapter)

    def line(self, attempt: Attempt) -> Line:
        return self._line


class Scene:
    def __init__(self, house: House, vendor: Vendor, clock: Clock) -> None:
        self.house = house
        self.vendor = vendor
        self.clock = clock
        self.refreshing = refreshing(house, vendor, clock)
        house.store.live.on_refresh(self.refreshing.refresh)

    async def expired(self) -> str:
        """A finished job whose address leads nowhere any more."""
        self.house.strangers[FILE] = served(b"<Error>Expired</Error>", status=403)
        self.house.strangers[FRESH] = served(CLIP, content_length=str(len(CLIP)))
        video = await self.house.create()
        await self.house.finish(video["id"], Video(url=FILE))
        return str(video["id"])

    async def get(self, job_id: str) -> tuple[int, bytes]:
        answer = await self.house.client.get(f"/v1/videos/{job_id}/content")
        return answer.status_code, answer.content


def refreshing(house: House, adapter: Any, clock: Clock) -> Refreshing:
    return Refreshing(store=house.store, realms=cast(Realms, OneLine(adapter)), now_us=clock)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(tmp_path) as house:
        yield Scene(house, Vendor(), Clock())


async def test_an_expired_address_is_asked_for_again_and_the_clip_comes(scene: Scene) -> None:
    job_id = await scene.expired()
    before = await scene.house.job(job_id)

    assert await scene.get(job_id) == (200, CLIP)

    job = await scene.house.job(job_id)
    assert (job.videos, job.state) == ((Video(url=FRESH),), JobState.COMPLETED)
    assert (job.cost_usd_micros, job.ended_us) == (before.cost_usd_micros, before.ended_us)
    assert [event.type for event in await scene.house.store.events(job_id)][-1] == "job.refreshed"
    assert await scene.get(job_id) == (200, CLIP)
    assert len(scene.vendor.asked) == 1


async def test_readers_who_wait_share_one_question(scene: Scene) -> None:
    job_id = await scene.expired()
    scene.vendor.waits = asyncio.Event()
    readers = [asyncio.create_task(scene.get(job_id)) for _ in range(8)]
    await scene.vendor.heard.wait()
    for _ in range(200):
        await asyncio.sleep(0)
    readers[0].cancel()  # who began it goes away; the others still get theirs

    scene.vendor.waits.set()

    assert [await reader for reader in readers[1:]] == [(200, CLIP)] * 7
    assert len(scene.vendor.asked) == 1


@pytest.mark.parametrize(
    "gives",
    [
        (),
        (Video(url=FILE),),  # only what was given before
        ProviderError(Fault(kind=Kind.OPERATION_LOST, verdict=Verdict.SAME)),
        ZeroDivisionError(),
    ],
    ids=["nothing", "the same", "lost", "a defect"],
)
async def test_a_vendor_without_a_new_address_is_left_alone_for_a_while(scene: Scene, gives: Any) -> None:
    scene.vendor.gives = gives
    job_id = await scene.expired()

    first, second = await scene.get(job_id), await scene.get(job_id)
    scene.clock.move(seconds=REMEMBER_SECONDS)
    third = await scene.get(job_id)

    assert first[0] == second[0] == third[0] == 410
    assert len(scene.vendor.asked) == 2


async def test_a_new_address_that_leads_nowhere_either_is_gone(scene: Scene) -> None:
    job_id = await scene.expired()
    scene.house.strangers[FRESH] = served(b"", status=404)

    assert (await scene.get(job_id))[0] == 410
    assert len(scene.vendor.asked) == 1


async def test_a_vendor_that_has_no_such_call_is_not_asked(scene: Scene) -> None:
    job_id = await scene.expired()

    assert await refreshing(scene.house, Mute(), scene.clock).refresh(job_id) is False


async def test_a_job_that_changes_meanwhile_keeps_its_change(scene: Scene) -> None:
    job_id = await scene.expired()
    scene.vendor.waits = asyncio.Event()
    reader = asyncio.create_task(scene.get(job_id))
    await scene.vendor.heard.wait()
    job = await scene.house.job(job_id)
    await scene.house.store.save(advance(job, JobEvent.SETTLED, cost_usd_micros=1))
    scene.vendor.waits.set()

    assert await reader == (200, CLIP)
    job = await scene.house.job(job_id)
    assert (job.cost_usd_micros, job.videos) == (1, (Video(url=FRESH),))


async def test_a_clip_that_is_erased_meanwhile_stays_erased(scene: Scene) -> None:
    job_id = await scene.expired()
    scene.vendor.waits = asyncio.Event()
    asking = asyncio.create_task(scene.refreshing.refresh(job_id))
    await scene.vendor.heard.wait()
    await scene.house.rooms.retention.delete(job_id, 1)
    scene.vendor.waits.set()

    assert await asking is False
    assert (await scene.house.job(job_id)).videos == ()


async def test_without_a_worker_an_expired_address_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        house.strangers[FILE] = served(b"", status=403)
        video = await house.create()
        await house.finish(video["id"], Video(url=FILE))

        assert (await house.client.get(f"/v1/videos/{video['id']}/content")).status_code == 410


async def test_a_worker_that_stops_lets_a_question_end(scene: Scene) -> None:
    job_id = await scene.expired()
    scene.vendor.waits = asyncio.Event()
    asking = asyncio.create_task(scene.refreshing.refresh(job_id))
    await scene.vendor.heard.wait()
    stopping = asyncio.create_task(scene.refreshing.stop())
    await asyncio.sleep(0)
    assert not stopping.done()

    scene.vendor.waits.set()

    assert await asking is True
    await stopping
