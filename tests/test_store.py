"""What the store promises when nothing fails: all or none, one winner, one end, nothing lost, nothing crossed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.jobs import ATTEMPT_TABLE, Attempt, AttemptEvent, AttemptState, Job, JobEvent, JobState, advance
from gateway.store import connect
from gateway.store.spec import (
    AttemptMoved,
    Conflict,
    Event,
    Idempotency,
    InvariantBroken,
    KeyReused,
    OperationTaken,
    Store,
)
from providers.spec import Operation
from tests.records import DECISION, NOW_US, a_job, an_attempt, ended, finished, running, started

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


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """What is on disk, seen past the store."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def event(job: Job, kind: JobEvent, **changes: Any) -> Event:
    return Event(job=job.id, type=kind.value, at_us=NOW_US, **changes)


async def accepted(store: Store, **changes: Any) -> Job:
    return (await store.accept(a_job(**changes), decision=DECISION)).job


async def with_attempt(store: Store, job: Job, **changes: Any) -> tuple[Job, Attempt]:
    job, attempt = started(job), an_attempt(job, job.attempts + 1, **changes)
    await store.save(job, attempt=attempt)
    return job, attempt


# --- accept -----------------------------------------------------------------------------------------------------------


async def test_accepted_job_is_whole_after_reopening(store: Store, path: Path) -> None:
    job = await accepted(store, prompt="Katze 🐈 \u0000 im Regen", caller="k1")
    await store.close()
    again = connect(f"sqlite:///{path}")

    await again.open()

    assert again.live.job(job.id) == job
    assert await again.decision(job.id) == DECISION
    assert await again.events(job.id) == (Event(job=job.id, type="job.accepted", at_us=NOW_US),)
    assert await again.open_work() == [(job, None)]
    await again.close()


async def test_thousand_parallel_accepts_are_all_there(store: Store, path: Path) -> None:
    jobs = [a_job() for _ in range(1000)]

    await asyncio.gather(*(store.accept(job, decision=DECISION) for job in jobs))

    ids = {job.id for job in jobs}
    assert {id_ for (id_,) in rows(path, "SELECT id FROM jobs")} == ids
    assert {id_ for (id_,) in rows(path, "SELECT job FROM decisions")} == ids
    assert sorted(id_ for (id_,) in rows(path, "SELECT job FROM events")) == sorted(ids)
    assert store.live.unfinished() == 1000


async def test_one_that_fails_takes_nothing_of_its_batch_along(store: Store) -> None:
    poor = [a_job(reserved_usd_micros=2, purse_usd_micros=1) for _ in range(20)]
    good = [a_job() for _ in range(20)]
    mixed = [job for pair in zip(good, poor, strict=True) for job in pair]

    results = await asyncio.gather(*(store.accept(job, decision=DECISION) for job in mixed), return_exceptions=True)

    assert [isinstance(result, InvariantBroken) for result in results] == [False, True] * 20
    assert {job.id for job, _ in await store.open_work()} == {job.id for job in good}


async def test_write_nobody_awaits_any_more_is_finished(store: Store) -> None:
    job = a_job()
    task = asyncio.create_task(store.accept(job, decision=DECISION))
    await asyncio.sleep(0)  # the order is handed over

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await accepted(store)  # behind it in the queue

    assert task.cancelled()
    assert store.live.job(job.id) == job
    assert await store.decision(job.id) == DECISION


async def test_only_a_queued_job_is_accepted(store: Store) -> None:
    with pytest.raises(InvariantBroken, match="only a queued one"):
        await store.accept(a_job(state=JobState.ACTIVE), decision=DECISION)


# --- idempotency ------------------------------------------------------------------------------------------------------


def key(fingerprint: str = "f1", expires_us: int = NOW_US + 1000) -> Idempotency:
    return Idempotency(key="once", fingerprint=fingerprint, expires_us=expires_us)


async def test_same_key_and_request_replays_the_first_job_as_it_stands(store: Store, path: Path) -> None:
    first = await store.accept(a_job(), decision=DECISION, idempotency=key())
    moved, _ = await with_attempt(store, first.job)

    second = await store.accept(a_job(), decision=DECISION, idempotency=key())

    assert not first.replayed
    assert second.replayed
    assert second.job == moved
    assert rows(path, "SELECT COUNT(*) FROM jobs") == [(1,)]


async def test_same_key_for_another_request_is_refused(store: Store, path: Path) -> None:
    await store.accept(a_job(), decision=DECISION, idempotency=key("f1"))

    with pytest.raises(KeyReused):
        await store.accept(a_job(), decision=DECISION, idempotency=key("f2"))

    assert rows(path, "SELECT COUNT(*) FROM jobs") == [(1,)]


async def test_expired_key_is_free_again(store: Store) -> None:
    first = await store.accept(a_job(), decision=DECISION, idempotency=key("f1"))

    second = await store.accept(
        a_job(created_us=NOW_US + 1000), decision=DECISION, idempotency=key("f2", NOW_US + 2000)
    )
    third = await store.accept(a_job(created_us=NOW_US + 1999), decision=DECISION, idempotency=key("f2"))

    assert not second.replayed
    assert second.job.id != first.job.id
    assert third.job.id == second.job.id


async def test_same_key_of_another_caller_is_another_job(store: Store) -> None:
    first = await store.accept(a_job("k1"), decision=DECISION, idempotency=key())
    second = await store.accept(a_job("k2"), decision=DECISION, idempotency=key())

    assert first.job.id != second.job.id
    assert not second.replayed


async def test_fifty_parallel_accepts_of_one_key_are_one_job(store: Store, path: Path) -> None:
    results = await asyncio.gather(*(store.accept(a_job(), decision=DECISION, idempotency=key()) for _ in range(50)))

    assert len({result.job.id for result in results}) == 1
    assert sum(not result.replayed for result in results) == 1
    assert rows(path, "SELECT COUNT(*) FROM jobs") == [(1,)]


async def test_forgetting_takes_only_what_has_expired(store: Store) -> None:
    first = await store.accept(a_job(), decision=DECISION, idempotency=key(expires_us=NOW_US + 1000))

    assert await store.forget_expired(NOW_US + 999) == 0
    assert (await store.accept(a_job(), decision=DECISION, idempotency=key())).job == first.job
    assert await store.forget_expired(NOW_US + 1000) == 1


# --- save -------------------------------------------------------------------------------------------------------------


async def test_a_job_from_intent_to_end(store: Store) -> None:
    job, attempt = await with_attempt(store, await accepted(store))
    assert await store.open_work() == [(job, attempt)]

    attempt = running(attempt)
    job = advance(job, JobEvent.PROGRESSED)
    await store.save(job, attempt=attempt, events=(event(job, JobEvent.PROGRESSED, attempt=attempt.id),))
    attempt = finished(attempt, cost_usd_micros=2_000_000)  # above its quote and the purse: recorded, never refused
    job = ended(job, cost_usd_micros=2_000_000)
    await store.save(job, attempt=attempt, events=(event(job, JobEvent.COMPLETED, data={"seconds": 5}),))

    assert await store.job(job.id) == job
    assert await store.attempt(attempt.id) == attempt
    assert await store.attempts(job.id) == (attempt,)
    assert await store.recent_attempts(10) == (attempt,)
    assert [e.type for e in await store.events(job.id)] == ["job.accepted", "job.progressed", "job.completed"]
    assert (await store.events(job.id))[2].data == {"seconds": 5}
    assert await store.open_work() == []


async def test_of_twenty_savers_of_one_version_one_wins(store: Store) -> None:
    job = await accepted(store)
    attempts = [an_attempt(job) for _ in range(20)]
    tried = event(job, JobEvent.ATTEMPT_STARTED)

    results = await asyncio.gather(
        *(store.save(started(job), attempt=attempt, events=(tried,)) for attempt in attempts), return_exceptions=True
    )

    winners = [attempt for attempt, result in zip(attempts, results, strict=True) if result is None]
    assert len(winners) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 19
    assert await store.attempts(job.id) == tuple(winners)
    assert len(await store.events(job.id)) == 2  # accepted, and the winner's


async def test_attempt_moves_along_its_table_only(store: Store) -> None:
    steps = {(source.value, target.value) for (source, _), target in ATTEMPT_TABLE.items()}
    amends = {(state.value, state.value) for state in (AttemptState.RUNNING, AttemptState.UNKNOWN)}
    begins = {AttemptState.SUBMITTING: list[AttemptState]()}
    for (source, _), target in ATTEMPT_TABLE.items():
        begins.setdefault(target, [*begins[source], target])
    allowed = set()

    def in_state(attempt: Attempt, state: AttemptState) -> Attempt:
        operation = None if state is AttemptState.UNKNOWN else Operation(provider="acme", id=attempt.id)
        return msgspec.structs.replace(
            attempt, state=state, operation=operation, ended_us=None if state.is_open else NOW_US
        )

    for source, path in begins.items():
        for target in AttemptState:
            if target is AttemptState.SUBMITTING:
                continue  # always a new attempt
            job, attempt = await with_attempt(store, await accepted(store))
            for state in path:
                job = advance(job, JobEvent.PROGRESSED)
                await store.save(job, attempt=in_state(attempt, state))
            try:
                await store.save(advance(job, JobEvent.PROGRESSED), attempt=in_state(attempt, target))
                allowed.add((source.value, target.value))
            except AttemptMoved:
                assert (await store.attempts(job.id))[0].state is source

    assert allowed == steps | amends


async def test_vendor_operation_belongs_to_one_attempt(store: Store) -> None:
    job, attempt = await with_attempt(store, await accepted(store))
    await store.save(advance(job, JobEvent.PROGRESSED), attempt=running(attempt, "op-7"))
    other, second = await with_attempt(store, await accepted(store))

    with pytest.raises(OperationTaken, match="op-7"):
        await store.save(advance(other, JobEvent.PROGRESSED), attempt=running(second, "op-7"))

    assert await store.job(other.id) == other
    assert await store.attempt(second.id) == second
    third, elsewhere = await with_attempt(store, await accepted(store), account="second")
    await store.save(advance(third, JobEvent.PROGRESSED), attempt=running(elsewhere, "op-7"))  # ids are per account


@pytest.mark.parametrize(
    ("end", "allowed"),
    [(AttemptEvent.SUCCEEDED, False), (AttemptEvent.CANCELLED, False), (AttemptEvent.FAILED, True), (None, False)],
)
async def test_next_attempt_waits_for_an_end_that_allows_it(
    store: Store, end: AttemptEvent | None, allowed: bool
) -> None:
    job, attempt = await with_attempt(store, await accepted(store))
    job = advance(job, JobEvent.PROGRESSED)
    await store.save(job, attempt=running(attempt))
    if end is not None:
        job = advance(job, JobEvent.PROGRESSED)
        await store.save(job, attempt=finished(running(attempt), end))

    if allowed:
        await with_attempt(store, job)
    else:
        with pytest.raises(InvariantBroken, match="none may follow"):
            await with_attempt(store, job)

    assert len(await store.attempts(job.id)) == 1 + allowed


async def test_job_ends_with_exactly_its_own_terminal_event(store: Store) -> None:
    job, _ = await with_attempt(store, await accepted(store))
    done = ended(job)

    with pytest.raises(InvariantBroken, match="terminal event"):
        await store.save(done)
    with pytest.raises(InvariantBroken, match=r"cannot have the event job\.failed"):
        await store.save(done, events=(event(job, JobEvent.FAILED),))
    with pytest.raises(InvariantBroken, match=r"events\.job"):
        await store.save(done, events=(event(job, JobEvent.COMPLETED),) * 2)
    await store.save(done, events=(event(job, JobEvent.COMPLETED),))

    assert [e.type for e in await store.events(job.id)] == ["job.accepted", "job.completed"]


async def test_ended_job_keeps_its_end_but_may_settle(store: Store) -> None:
    job, _ = await with_attempt(store, await accepted(store))
    done = ended(job, JobEvent.EXPIRED)
    await store.save(done, events=(event(job, JobEvent.EXPIRED),))

    settled = advance(done, JobEvent.SETTLED, cost_usd_micros=5)
    await store.save(settled, events=(event(job, JobEvent.SETTLED),))
    with pytest.raises(InvariantBroken, match="keeps its end"):
        await store.save(msgspec.structs.replace(settled, state=JobState.COMPLETED, version=settled.version + 1))
    with pytest.raises(InvariantBroken):
        await store.save(advance(settled, JobEvent.SETTLED), events=(event(job, JobEvent.EXPIRED),))

    assert await store.job(job.id) == settled


async def test_followed_attempt_must_have_its_handle(store: Store) -> None:
    job, attempt = await with_attempt(store, await accepted(store))

    with pytest.raises(InvariantBroken, match="followed_means_handle"):
        await store.save(
            advance(job, JobEvent.PROGRESSED), attempt=msgspec.structs.replace(running(attempt), operation=None)
        )


async def test_nothing_of_one_job_is_saved_with_another(store: Store) -> None:
    job, other = await accepted(store), await accepted(store)

    with pytest.raises(InvariantBroken, match="cannot be saved with"):
        await store.save(started(job), attempt=an_attempt(other))
    with pytest.raises(InvariantBroken, match="cannot be saved with"):
        await store.save(started(job), events=(event(other, JobEvent.PROGRESSED),))


async def test_expired_job_with_an_open_attempt_is_still_work(store: Store) -> None:
    job, attempt = await with_attempt(store, await accepted(store))
    done = ended(job, JobEvent.EXPIRED)

    await store.save(done, events=(event(job, JobEvent.EXPIRED),))

    assert await store.open_work() == [(done, attempt)]


async def test_reservation_never_exceeds_the_purse(store: Store) -> None:
    job = await accepted(store)

    with pytest.raises(InvariantBroken, match="reserved_within_purse"):
        await store.save(msgspec.structs.replace(started(job), reserved_usd_micros=job.purse_usd_micros + 1))

    assert await store.job(job.id) == job
