"""The feed: what is told to whom, in which order, and what becomes of a listener that does not keep up."""

from __future__ import annotations

import asyncio

import pytest

from gateway.jobs import Job
from gateway.store.feed import MOST_QUEUED, Feed, Happened
from tests.records import a_job

pytestmark = pytest.mark.anyio


def happened(seq: int, job: Job) -> Happened:
    return Happened(seq, "job.accepted", job.created_us, None, job)


async def test_each_hears_of_its_own_caller_or_job_alone() -> None:
    feed, mine, other, foreign = Feed(), a_job("me"), a_job("me"), a_job("you")

    with feed.listen("me") as all_mine, feed.listen("me", mine.id) as one, feed.listen("you") as yours:
        for seq, job in enumerate((mine, other, foreign), 1):
            feed.announce(happened(seq, job))

        assert [one.seq for one in all_mine.take()] == [1, 2]
        assert [one.seq for one in one.take()] == [1]
        assert [one.seq for one in yours.take()] == [3]


async def test_full_queue_is_dropped_and_said_so() -> None:
    feed, job = Feed(), a_job("me")

    with feed.listen("me") as listener:
        for seq in range(1, MOST_QUEUED + 10):
            feed.announce(happened(seq, job))

        assert listener.fell_behind
        assert await listener.wait(0)
        assert list(listener.take()) == []
        listener.catch_up()
        feed.announce(happened(900, job))
        assert [one.seq for one in listener.take()] == [900]


async def test_wait_ends_with_news_and_with_time() -> None:
    feed, job = Feed(), a_job("me")

    with feed.listen("me") as listener:
        assert not await listener.wait(0.01)
        waiting = asyncio.create_task(listener.wait(10))
        await asyncio.sleep(0)
        feed.announce(happened(1, job))

        assert await asyncio.wait_for(waiting, 1)


async def test_progress_is_the_latest_figure_alone() -> None:
    feed, job = Feed(), a_job("me")

    with feed.listen("me") as listener:
        feed.move(job)
        feed.move(job)

        assert [one.id for one in listener.take_moved()] == [job.id]
        assert list(listener.take_moved()) == []


async def test_end_ends_those_that_listen_and_those_that_come() -> None:
    feed = Feed()

    with feed.listen("me") as before:
        feed.end()
        with feed.listen("me") as after:
            assert before.ended
            assert after.ended
            assert feed.count("me") == feed.count() == 2

    assert feed.count("me") == feed.count() == 0
