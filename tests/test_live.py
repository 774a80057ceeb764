"""The live view: what is durable, shown at once, never backwards, and forgotten without loss."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.jobs import Job, JobEvent, advance
from gateway.store.live import LiveView
from tests.records import a_job, ended, started

pytestmark = pytest.mark.anyio


def done(job: Job | None = None) -> Job:
    return ended(started(job or a_job()))


async def test_unfinished_jobs_are_all_kept_and_ended_ones_the_last_looked_at() -> None:
    live = LiveView(remember_ended=2)
    unfinished = [a_job() for _ in range(5)]
    first, second, third = (done() for _ in range(3))
    for job in (*unfinished, first, second):
        live.put(job)

    live.job(first.id)  # looked at, so the second is the one to forget
    live.put(third)

    assert [live.job(job.id) for job in unfinished] == unfinished
    assert live.unfinished() == 5
    assert [live.job(job.id) for job in (first, second, third)] == [first, None, third]


async def test_older_version_changes_nothing() -> None:
    live = LiveView()
    job = a_job()
    newer = started(job)
    live.put(newer)

    live.put(job)

    assert live.job(job.id) is newer
    assert live.newest(job) is newer


async def test_newer_version_from_disk_is_shown_from_then_on() -> None:
    live = LiveView()
    job = a_job()
    live.put(job)
    newer = started(job)

    assert live.newest(newer) is newer
    assert live.job(job.id) is newer


async def test_old_job_read_from_disk_is_not_taken_in() -> None:
    live = LiveView()
    job = done()

    assert live.newest(job) is job
    assert live.job(job.id) is None


async def test_settled_job_replaces_its_ended_self() -> None:
    live = LiveView()
    job = done()
    live.put(job)

    settled = advance(job, JobEvent.SETTLED, cost_usd_micros=1)
    live.put(settled)

    assert live.job(job.id) == settled
    assert live.unfinished() == 0


async def test_progress_never_goes_backwards_and_ends_at_hundred_only_when_completed() -> None:
    live = LiveView()
    job = started(a_job())
    live.put(job)
    told = [0.1, 0.29, 0.2, float("nan"), -1.0, 0.57, 0.0, 1.0, 0.3, float("inf")]
    shown = []

    for fraction in told:
        live.set_progress(job.id, fraction)
        shown.append(live.progress(job.id))

    assert shown == [10, 29, 29, 29, 29, 57, 57, 99, 99, 99]
    live.put(ended(job))
    assert live.progress(job.id) == 100
    live.set_progress(job.id, 0.5)
    assert live.progress(job.id) == 100


async def test_failed_job_keeps_the_progress_it_had() -> None:
    live = LiveView()
    job = started(a_job())
    live.put(job)
    live.set_progress(job.id, 0.4)

    live.put(ended(job, JobEvent.FAILED))

    assert live.progress(job.id) == 40
    assert live.progress("video_unknown") == 0


async def test_forgotten_job_leaves_nothing_behind() -> None:
    live = LiveView(remember_ended=0)
    job = started(a_job())
    live.put(job)
    live.set_progress(job.id, 0.4)

    live.put(ended(job))

    assert live.job(job.id) is None
    assert not live._percent


async def test_changed_returns_at_once_what_is_newer_already() -> None:
    live = LiveView()
    job = started(a_job())
    live.put(job)

    assert await live.changed(job.id, job.version - 1, 1000) is job


async def test_changed_wakes_every_waiter_of_an_older_version_only() -> None:
    live = LiveView()
    job = a_job()
    live.put(job)
    newer = started(job)
    behind = [asyncio.create_task(live.changed(job.id, 0, 1000)) for _ in range(3)]
    ahead = asyncio.create_task(live.changed(job.id, 1, 1000))
    other = asyncio.create_task(live.changed(a_job().id, 0, 1000))
    await asyncio.sleep(0)  # all of them wait

    live.put(newer)

    assert await asyncio.gather(*behind) == [newer] * 3
    assert not ahead.done()
    assert not other.done()
    live.put(latest := ended(newer))
    assert await ahead is latest
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    assert not live._waiting  # nobody waits, nothing is kept for them


async def test_changed_gives_up_at_its_timeout() -> None:
    live = LiveView()
    job = a_job()
    live.put(job)

    assert await live.changed(job.id, job.version, 0) is None
    assert not live._waiting


async def test_deletion_is_a_change_too() -> None:
    live = LiveView()
    job = done()
    live.put(job)
    waiter = asyncio.create_task(live.changed(job.id, job.version, 1000))
    await asyncio.sleep(0)

    live.put(deleted := msgspec.structs.replace(job, deleted_us=1, version=job.version + 1))

    assert await waiter is deleted


async def test_wakes_and_rings_reach_the_worker_once_it_listens() -> None:
    live = LiveView()
    heard: list[object] = []
    live.wake("video_1")  # nobody listens yet: no error
    live.ring("attempt_1", b"", {})

    live.on_wake(heard.append)
    live.on_ring(lambda attempt, body, headers: heard.append((attempt, body)))
    live.wake("video_2")
    live.ring("attempt_2", b'{"status":"OK"}', {})

    assert heard == ["video_2", ("attempt_2", b'{"status":"OK"}')]
