"""Reads of what has happened to a caller's jobs, in the order of the store's sequence: see `transactions`, whose law
holds here."""

from __future__ import annotations

import msgspec

from gateway.jobs import Job
from gateway.store.feed import Happened
from gateway.store.transactions import Rows, Transaction

_job = msgspec.json.Decoder(Job)


def of_caller(caller: str, *, after: int, limit: int) -> Transaction[tuple[Happened, ...]]:
    rows = yield "events_of_caller", {"caller": caller, "after": after, "limit": limit}
    return _happened(rows)


def of_job(job_id: str, *, after: int, limit: int) -> Transaction[tuple[Happened, ...]]:
    rows = yield "events_of_job_after", {"job": job_id, "after": after, "limit": limit}
    return _happened(rows)


def last(caller: str) -> Transaction[int]:
    """The number of the caller's newest event; 0 when there is none."""
    rows = yield "event_last_of_caller", {"caller": caller}
    return int(rows[0][0])


def _happened(rows: Rows) -> tuple[Happened, ...]:
    return tuple(Happened(seq, type_, at_us, attempt, _job.decode(doc)) for seq, type_, at_us, attempt, doc in rows)
