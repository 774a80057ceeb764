"""What each transaction decides, for every engine alike: generators that yield a named statement and receive its rows.

Law: no I/O, no clock, no randomness, no engine's name. Each public function encodes on the caller's thread and returns
a generator that has not begun; a runner drives it to its return (commit) or its exception (roll back, nothing changed).
A statement that a constraint refuses comes back as InvariantBroken at the yield; after that the generator must raise.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.jobs import ATTEMPT_TABLE, Attempt, AttemptState, Job, JobEvent, JobState
from gateway.store import money, outbox
from gateway.store.spec import (
    Accepted,
    AttemptMoved,
    Conflict,
    Event,
    Idempotency,
    InvariantBroken,
    KeyReused,
    OperationTaken,
)
from gateway.store.words import attempt_without_words, event_without_words

T = TypeVar("T")
Params = Mapping[str, Any]
Rows = list[tuple[Any, ...]]
Transaction = Generator[tuple[str, Params], Rows, T]


class Saved(NamedTuple):
    """What a save has made durable beside the job: its events' numbers, and how many addresses are owed its end."""

    seqs: tuple[int, ...]
    owed: int


SHARDS = 256
TERMINAL_EVENTS = {f"job.{state}" for state in JobState if state.is_terminal}

_encode = msgspec.json.encode
_job = msgspec.json.Decoder(Job)
_attempt = msgspec.json.Decoder(Attempt)
_strings = msgspec.json.Decoder(tuple[str, ...])
_data = msgspec.json.Decoder(dict[str, Any])


def run(transaction: Transaction[T], execute: Callable[[str, Params], Rows]) -> T:
    """Drive a transaction on this thread. `execute` runs one statement by name and raises InvariantBroken where a
    constraint refuses it. Begin, commit and roll back are the caller's."""
    try:
        name, params = next(transaction)
        while True:
            try:
                rows = execute(name, params)
            except InvariantBroken as broken:
                name, params = transaction.throw(broken)
            else:
                name, params = transaction.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result


def shard_of(job_id: str) -> int:
    """Which of the 256 shards a job belongs to, the same on every machine."""
    return zlib.crc32(job_id.encode()) % SHARDS


def legal_sources(state: AttemptState) -> tuple[str, ...]:
    """The stored states from which an attempt may become `state`. An open one may also be amended where it stands."""
    sources = [source.value for (source, _), target in ATTEMPT_TABLE.items() if target is state]
    return (*sources, state.value) if state.is_open else tuple(sources)


_SOURCES = {state: legal_sources(state) for state in AttemptState}


# --- jobs -------------------------------------------------------------------------------------------------------------


def accept(job: Job, decision: bytes, idempotency: Idempotency | None) -> Transaction[Accepted]:
    """T1. A live idempotency row with the same fingerprint gives its job back and writes nothing."""
    if job.state is not JobState.QUEUED:
        raise InvariantBroken(f"job {job.id} is {job.state}: only a queued one can be accepted")
    accepted = Event(job=job.id, type=JobEvent.ACCEPTED.value, at_us=job.created_us)
    return _accept(job, _job_row(job), decision.decode(), idempotency, _event_row(accepted, job))


def _accept(
    job: Job, row: Params, decision: str, idempotency: Idempotency | None, event: Params
) -> Transaction[Accepted]:
    if idempotency is not None:
        first = yield from _claim(job, idempotency)
        if first is not None:
            return Accepted(job=first, replayed=True)
    yield "job_insert", row
    yield from money.must_have_room(job, before=0, is_new=True)
    yield "decision_insert", {"job": job.id, "decision": decision}
    for name, value in job.spec.metadata.items():
        yield "job_metadata_insert", {"caller": job.caller, "name": name, "value": value, "job": job.id}
    ((seq,),) = yield "event_append", event
    return Accepted(job=job, seq=seq)


def _claim(job: Job, idempotency: Idempotency) -> Transaction[Job | None]:
    """Take the key for `job`; the first job when the key is taken already."""
    row = {
        "caller": job.caller,
        "key": idempotency.key,
        "fingerprint": idempotency.fingerprint,
        "job": job.id,
        "expires_us": idempotency.expires_us,
        "now_us": job.created_us,
    }
    if (yield "idempotency_claim", row):
        return None
    ((fingerprint, doc),) = yield "idempotency_read", {"caller": job.caller, "key": idempotency.key}
    return _same(idempotency, fingerprint, doc)


def replayed(caller: str, idempotency: Idempotency, now_us: int) -> Transaction[Job | None]:
    """The first job of a live idempotency key, read without claiming it."""
    rows = yield "idempotency_live", {"caller": caller, "key": idempotency.key, "now_us": now_us}
    for fingerprint, doc in rows:
        return _same(idempotency, fingerprint, doc)
    return None


def retried(caller: str, prefix: str, now_us: int, limit: int) -> Transaction[list[Job]]:
    """The jobs of the live keys that begin with `prefix`, the greatest key first."""
    between = {"first": prefix, "last": prefix + "~"}
    rows = yield "idempotency_retried", {"caller": caller, **between, "now_us": now_us, "limit": limit}
    return [_job.decode(doc) for (doc,) in rows]


def _same(idempotency: Idempotency, fingerprint: str, doc: str) -> Job:
    if fingerprint != idempotency.fingerprint:
        raise KeyReused("this idempotency key was used for another request; a new request needs a new key")
    return _job.decode(doc)


def save(job: Job, attempt: Attempt | None, events: tuple[Event, ...]) -> Transaction[Saved]:
    """T2, T3, T4 and every smaller step: compare-and-set on the version before this one. A terminal event brings along
    what is owed to the caller's addresses."""
    for event in events:
        if event.job != job.id:
            raise InvariantBroken(f"an event of job {event.job} cannot be saved with job {job.id}")
        if event.type in TERMINAL_EVENTS and event.type != f"job.{job.state}":
            raise InvariantBroken(f"job {job.id} is {job.state}: it cannot have the event {event.type}")
    if attempt is not None and attempt.job != job.id:
        raise InvariantBroken(f"attempt {attempt.id} of job {attempt.job} cannot be saved with job {job.id}")
    if job.words_erased_us is not None:  # what is still found out about an erased job brings no words back
        attempt = attempt_without_words(attempt) if attempt is not None else None
        events = tuple(msgspec.structs.replace(e, data=event_without_words(e.data)) for e in events)
    ends = next((event for event in events if event.type in TERMINAL_EVENTS), None)
    owed = outbox.owe(job, at_us=ends.at_us) if ends is not None else None
    row = _attempt_row(attempt) if attempt else {}
    saving = _save(_job_row(job), attempt, row, [_event_row(e, job) for e in events], owed)
    begins = attempt is not None and attempt.state is AttemptState.SUBMITTING
    return money.bounded(job, saving) if begins else saving


def _save(
    job: Params, attempt: Attempt | None, attempt_row: Params, events: list[Params], owed: Transaction[int] | None
) -> Transaction[Saved]:
    seqs: list[int] = []
    for event in events:  # before the job: its end is refused without its event
        ((seq,),) = yield "event_append", event
        seqs.append(seq)
    yield from _save_job(job)
    if attempt is not None:
        yield from _save_attempt(attempt, attempt_row)
    return Saved(tuple(seqs), owed=(yield from owed) if owed is not None else 0)


def _save_attempt(attempt: Attempt, attempt_row: Params) -> Transaction[None]:
    try:
        if attempt.state is AttemptState.SUBMITTING:
            yield from _begin_attempt(attempt, attempt_row)
        else:
            yield from _move_attempt(attempt, attempt_row)
    except InvariantBroken as broken:
        if attempt.operation is not None and "operation_id" in str(broken):
            whose = f"{attempt.provider}/{attempt.account}"
            raise OperationTaken(
                f"{whose}: operation {attempt.operation.id} belongs to another attempt than {attempt.id}"
            ) from None
        raise


def _save_job(job: Params) -> Transaction[None]:
    if not (yield "job_save", job):
        raise Conflict(f"job {job['id']} is not stored at version {job['was']}: somebody else saved it")


def _begin_attempt(attempt: Attempt, row: Params) -> Transaction[None]:
    if attempt.no > 1:
        before = yield "attempt_state_by_no", {"job": attempt.job, "no": attempt.no - 1}
        if not before or not AttemptState(before[0][0]).may_be_followed:
            stands = before[0][0] if before else "missing"
            raise InvariantBroken(f"job {attempt.job}: attempt {attempt.no - 1} is {stands}, so none may follow it")
    yield "attempt_insert", row


def _move_attempt(attempt: Attempt, row: Params) -> Transaction[None]:
    sources = _SOURCES[attempt.state]
    first, second, third = (*sources, *sources[-1:] * 3)[:3]
    if (yield "attempt_save", {**row, "from_1": first, "from_2": second, "from_3": third}):
        return
    stored = yield "attempt_state", {"id": attempt.id}
    stands = f"stored as {stored[0][0]}" if stored else "not stored"
    raise AttemptMoved(f"attempt {attempt.id} is {stands}: it cannot be saved as {attempt.state}")


def forget_expired(now_us: int) -> Transaction[int]:
    rows = yield "idempotency_forget", {"now_us": now_us}
    return len(rows)


# --- reads ------------------------------------------------------------------------------------------------------------


def read_job(job_id: str) -> Transaction[Job | None]:
    rows = yield "job_read", {"id": job_id}
    return _job.decode(rows[0][0]) if rows else None


def list_jobs(caller: str, after: str | None, limit: int, *, descending: bool) -> Transaction[tuple[list[Job], bool]]:
    name, edge = ("jobs_newest_first", "~") if descending else ("jobs_oldest_first", "")  # "~" sorts after every id
    rows = yield name, {"caller": caller, "after": edge if after is None else after, "limit": limit + 1}
    return [_job.decode(doc) for (doc,) in rows[:limit]], len(rows) > limit


def open_work() -> Transaction[list[tuple[Job, Attempt | None]]]:
    rows = yield "work_open", {}
    return [(_job.decode(job), _attempt.decode(attempt) if attempt else None) for job, attempt in rows]


def read_decision(job_id: str) -> Transaction[bytes | None]:
    rows = yield "decision_read", {"job": job_id}
    return str(rows[0][0]).encode() if rows else None


def read_events(job_id: str) -> Transaction[tuple[Event, ...]]:
    rows = yield "events_read", {"job": job_id}
    return tuple(
        Event(job=job, type=type_, at_us=at_us, attempt=attempt, data=_data.decode(data))
        for job, type_, at_us, attempt, data in rows
    )


def read_attempt(attempt_id: str) -> Transaction[Attempt | None]:
    rows = yield "attempt_read", {"id": attempt_id}
    return _attempt.decode(rows[0][0]) if rows else None


def read_attempts(job_id: str) -> Transaction[tuple[Attempt, ...]]:
    rows = yield "attempts_of_job", {"job": job_id}
    return tuple(_attempt.decode(doc) for (doc,) in rows)


def recent_attempts(limit: int) -> Transaction[tuple[Attempt, ...]]:
    rows = yield "attempts_recent", {"limit": limit}
    return tuple(_attempt.decode(doc) for (doc,) in rows)


def attempts_since(since_us: int) -> Transaction[tuple[Attempt, ...]]:
    rows = yield "attempts_since", {"since_us": since_us}
    return tuple(_attempt.decode(doc) for (doc,) in rows)


# --- records ↔ rows ---------------------------------------------------------------------------------------------------


def _job_row(job: Job) -> Params:
    return {
        "id": job.id,
        "caller": job.caller,
        "test": int(job.test),
        "shard": shard_of(job.id),
        "state": job.state.value,
        "version": job.version,
        "was": job.version - 1,
        "purse_usd_micros": job.purse_usd_micros,
        "reserved_usd_micros": job.reserved_usd_micros,
        "cost_usd_micros": job.cost_usd_micros,
        "created_us": job.created_us,
        "deadline_us": job.deadline_us,
        "ended_us": job.ended_us,
        "deleted_us": job.deleted_us,
        "model": job.spec.model,
        "backend": job.routing.backend,
        "seconds": job.seconds,
        "doc": _encode(job).decode(),
    }


def _attempt_row(attempt: Attempt) -> Params:
    return {
        "id": attempt.id,
        "job": attempt.job,
        "test": int(attempt.test),
        "no": attempt.no,
        "state": attempt.state.value,
        "backend": attempt.backend,
        "provider": attempt.provider,
        "account": attempt.account,
        "operation_id": attempt.operation.id if attempt.operation else None,
        "price_usd_micros": attempt.price_usd_micros,
        "cost_usd_micros": attempt.cost_usd_micros,
        "started_us": attempt.started_us,
        "accepted_us": attempt.accepted_us,
        "ended_us": attempt.ended_us,
        "doc": _encode(attempt).decode(),
    }


def _event_row(event: Event, job: Job) -> Params:
    return {
        "job": event.job,
        "caller": job.caller,
        "type": event.type,
        "at_us": event.at_us,
        "attempt": event.attempt,
        "data": _encode(event.data).decode(),
    }
