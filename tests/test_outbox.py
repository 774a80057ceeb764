"""What the store promises of push: owed with the end or not at all, a caller's events in one indexed read."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.jobs import Job, JobEvent
from gateway.store import connect
from gateway.store.feed import SHOWN
from gateway.store.outbox import TOLD, DeliveryState, Try
from gateway.store.spec import Conflict, Event, Store
from gateway.store.sqlite_file import MIGRATIONS, connect_writer, create
from gateway.store.statements import STATEMENTS
from tests.records import DECISION, NOW_US, a_job, an_attempt, ended, started

pytestmark = pytest.mark.anyio

URL = "https://hooks.example/a"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "filmgate.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = connect(f"sqlite:///{path}")
    await store.open()
    yield store
    await store.close()


async def begun(store: Store, caller: str = "caller1") -> Job:
    job = started((await store.accept(a_job(caller), decision=DECISION)).job)
    await store.save(job, attempt=an_attempt(job))
    return job


def last_event(job: Job) -> Event:
    return Event(job=job.id, type=f"job.{job.state}", at_us=NOW_US)


async def test_what_is_owed_is_written_with_the_end_or_not_at_all(store: Store) -> None:
    await store.post.add("caller1", URL, TOLD, now_us=NOW_US)
    job = await begun(store)
    end = ended(job)
    stale = msgspec.structs.replace(end, version=end.version + 5)

    with pytest.raises(Conflict):
        await store.save(stale, events=(last_event(stale),))
    assert await store.post.lines() == ()

    await store.save(end, events=(last_event(end),))
    assert [line.due_us for line in await store.post.lines()] == [NOW_US]


async def test_nothing_is_owed_before_the_end(store: Store) -> None:
    await store.post.add("caller1", URL, TOLD, now_us=NOW_US)

    await begun(store)

    assert await store.post.lines() == ()


async def test_removed_endpoint_is_owed_nothing_and_keeps_no_line(store: Store) -> None:
    webhook, _ = await store.post.add("caller1", URL, TOLD, now_us=NOW_US)
    end = ended(await begun(store))
    await store.save(end, events=(last_event(end),))

    assert not await store.post.remove(webhook.id, "caller2", now_us=NOW_US)
    assert await store.post.remove(webhook.id, "caller1", now_us=NOW_US)
    later = ended(await begun(store))
    await store.save(later, events=(last_event(later),))

    assert await store.post.lines() == ()
    assert [delivery.state for delivery, _ in await store.post.of_job(end.id)] == ["disabled"]
    assert await store.post.of_job(later.id) == ()


async def test_try_is_logged_once_whoever_else_tried(store: Store) -> None:
    webhook, _ = await store.post.add("caller1", URL, TOLD, now_us=NOW_US)
    delivery = await store.post.test(webhook, now_us=NOW_US)
    how = Try(no=1, at_us=NOW_US, ms=3, status=200)

    assert await store.post.tried(delivery, how, state=DeliveryState.DELIVERED)
    assert not await store.post.tried(delivery, how, state=DeliveryState.DELIVERED)

    ((_, tries),) = await store.post.of_webhook(webhook.id)
    assert tries == (how,)


async def test_events_are_read_after_a_number_by_caller_or_job(store: Store) -> None:
    mine, other = await begun(store), await begun(store, "caller2")
    await store.save(end := ended(mine), events=(last_event(end),))

    every = await store.happened("caller1", after=0, limit=10)

    assert [one.type for one in every] == ["job.accepted", "job.completed"]
    assert await store.happened("caller1", after=every[0].seq, limit=10) == every[1:]
    assert await store.happened("caller1", after=0, limit=1) == every[:1]
    assert [one.job.id for one in await store.happened("caller2", after=0, limit=10, job_id=other.id)] == [other.id]
    assert await store.last_happened("caller1") == every[-1].seq
    assert await store.last_happened("nobody") == 0


def test_a_callers_events_are_read_by_their_index(path: Path) -> None:
    create(path)
    db = connect_writer(path)

    for name in ("events_of_caller", "event_last_of_caller"):
        plan = db.execute(f"EXPLAIN QUERY PLAN {STATEMENTS[name]}", {"caller": "a", "after": 5, "limit": 9}).fetchall()
        assert any("events_of_caller (caller=?" in row[3] for row in plan), plan
        assert not any("TEMP B-TREE" in row[3] for row in plan), plan
        assert all(f"'{type_}'" in STATEMENTS[name] for type_ in SHOWN)
    db.close()


def test_older_events_learn_whose_they_are(path: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for file in MIGRATIONS.iterdir():
        if file.name < "0004":
            (before / file.name).write_text(file.read_text())
    create(path)
    db = connect_writer(path, before)
    job = a_job("caller7")
    db.execute(
        "INSERT INTO jobs (id, caller, shard, state, version, purse_usd_micros, reserved_usd_micros, created_us,"
        " deadline_us, doc) VALUES (?, ?, 0, 'queued', 0, 0, 0, 0, 0, ?)",
        (job.id, job.caller, msgspec.json.encode(job).decode()),
    )
    db.execute("INSERT INTO events (job, at_us, type, data) VALUES (?, 5, 'job.accepted', '{}')", (job.id,))
    db.close()

    db = connect_writer(path)

    assert db.execute("SELECT caller FROM events").fetchall() == [("caller7",)]
    with pytest.raises(sqlite3.IntegrityError, match="only ever appended"):
        db.execute("UPDATE events SET caller = 'another'")
    with pytest.raises(sqlite3.IntegrityError, match="belongs to the caller of its job"):
        db.execute(
            "INSERT INTO events (job, caller, at_us, type, data) VALUES (?, 'another', 5, 'job.failed', '{}')",
            (job.id,),
        )
    db.close()


async def test_seq_rises_with_what_is_told(store: Store) -> None:
    with store.live.feed.listen("caller1") as listener:
        job = await begun(store)
        await store.save(end := ended(job), events=(last_event(end),))
        told = list(listener.take())

    stored = await store.happened("caller1", after=0, limit=10)
    assert [(one.seq, one.type) for one in told] == [(one.seq, one.type) for one in stored]
    assert {JobEvent.ACCEPTED.value, JobEvent.COMPLETED.value} == {one.type for one in told}
