"""Callers' feedback on disk: one row a job, the last word, and only where there is a clip to speak of."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.jobs import Job, JobEvent
from gateway.store import connect
from gateway.store.spec import Event, Feedback, InvariantBroken, Store
from gateway.store.sqlite_file import MIGRATIONS, connect_writer, create
from tests.records import DECISION, NOW_US, a_job, ended, started

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "filmgate.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = connect(f"sqlite:///{path}")
    await store.open()
    yield store
    await store.close()


async def job(store: Store, end: JobEvent | None = JobEvent.COMPLETED) -> Job:
    job = (await store.accept(a_job("k1"), decision=DECISION)).job
    await store.save(job := started(job))
    if end is not None:
        await store.save(job := ended(job, end), events=(Event(job=job.id, type=end, at_us=NOW_US),))
    return job


def word(
    job: Job, accepted: bool, *, backend: str = "acme/one", caller: str = "k1", note: str | None = None
) -> Feedback:
    return Feedback(job=job.id, caller=caller, backend=backend, accepted=accepted, at_us=NOW_US, note=note)


async def test_the_last_word_replaces_the_one_before_and_tells_it(store: Store) -> None:
    done = await job(store)

    told = [await store.give_feedback(word(done, accepted)) for accepted in (True, True, False, True)]

    assert told == [None, True, True, False]
    assert await store.feedback_counts() == (("acme/one", 1, 0),)


async def test_counts_are_told_by_backend(store: Store) -> None:
    for backend, accepted in (("b/1", True), ("a/1", False), ("b/1", False), ("b/1", True)):
        await store.give_feedback(word(await job(store), accepted, backend=backend))

    assert await store.feedback_counts() == (("a/1", 0, 1), ("b/1", 2, 1))


async def test_it_survives_the_process(path: Path, store: Store) -> None:
    done = await job(store)
    await store.give_feedback(word(done, True, note="keep"))
    await store.close()

    again = connect(f"sqlite:///{path}")
    await again.open()
    counts = await again.feedback_counts()
    await again.close()
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT job, caller, backend, accepted, at_us, note FROM feedback").fetchall()

    assert counts == (("acme/one", 1, 0),)
    assert rows == [(done.id, "k1", "acme/one", 1, NOW_US, "keep")]


@pytest.mark.parametrize("end", [None, JobEvent.FAILED, JobEvent.CANCELLED, JobEvent.EXPIRED])
async def test_a_job_without_a_clip_takes_none(store: Store, end: JobEvent | None) -> None:
    unfinished = await job(store, end)

    with pytest.raises(InvariantBroken, match="a completed job"):
        await store.give_feedback(word(unfinished, True))

    assert await store.feedback_counts() == ()


async def test_nobody_speaks_for_another_caller_or_of_an_unknown_job(store: Store) -> None:
    done = await job(store)

    for bad in (word(done, False, caller="k2"), word(a_job("k1"), True), word(done, True, note="x" * 501)):
        with pytest.raises(InvariantBroken):
            await store.give_feedback(bad)

    assert await store.feedback_counts() == ()


async def test_a_store_from_before_feedback_is_brought_forward_with_its_jobs(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    first = MIGRATIONS / "0001_start.sql"
    (old / first.name).write_text(first.read_text())
    create(path)
    db = connect_writer(path, old)
    before = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    db.close()

    store = connect(f"sqlite:///{path}")
    await store.open()
    await store.give_feedback(word(await job(store), True))
    counts = await store.feedback_counts()
    await store.close()

    assert "feedback" not in before
    assert counts == (("acme/one", 1, 0),)
