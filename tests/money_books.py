"""A store's file driven by hand: what the worker's books do to jobs and attempts, and what the totals ought to be."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway.jobs import Attempt, AttemptEvent, AttemptState, Job, JobEvent, advance, advance_attempt
from gateway.store import money, transactions
from gateway.store.money import DAY_US, day_of, span_of
from gateway.store.spec import Event, Idempotency
from gateway.store.sqlite_writer import Executor
from gateway.store.transactions import Transaction
from providers.spec import Operation
from tests.records import DECISION, NOW_US, a_job, an_attempt

CENT = 10_000
KEYS = {
    "daily": {"budget_day_usd_micros": 100 * CENT},
    "monthly": {"budget_month_usd_micros": 150 * CENT},
    "both": {"budget_day_usd_micros": 80 * CENT, "budget_month_usd_micros": 120 * CENT},
    "few": {"max_in_flight": 2},
    "free": {},
}


class Books:
    """A store's file without its threads, and beside it what the totals ought to be."""

    def __init__(self, template: Path) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        with sqlite3.connect(template) as source:
            source.backup(self.db)
        source.close()
        self._execute = Executor(self.db)
        self.jobs: dict[str, Job] = {}
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        self.overbilled = 0  # what vendors have billed above their quotes

    def run(self, transaction: Transaction[Any]) -> Any:
        """As the writer does: what raises leaves nothing."""
        self.db.execute("SAVEPOINT one")
        try:
            result = transactions.run(transaction, self._execute)
        except Exception:
            self.db.execute("ROLLBACK TO one")
            self.db.execute("RELEASE one")
            raise
        self.db.execute("RELEASE one")
        return result

    def accept(self, job: Job, idempotency: Idempotency | None = None) -> Job:
        accepted = self.run(transactions.accept(job, DECISION, idempotency))
        self.jobs[accepted.job.id] = accepted.job
        return Job(**msgspec.structs.asdict(accepted.job))

    def save(self, job: Job, attempt: Attempt | None = None, end: JobEvent | None = None) -> None:
        events = (Event(job=job.id, type=end, at_us=NOW_US),) if end else ()
        self.run(transactions.save(job, attempt, events))
        self.jobs[job.id] = job
        if attempt is not None:
            known = self.attempts[job.id]
            known[:] = [*(one for one in known if one.id != attempt.id), attempt]

    def spend(self) -> dict[tuple[str, int], int]:
        return {(caller, day): usd for caller, day, usd in self.db.execute("SELECT * FROM spend") if usd}

    def must_be_true(self) -> None:
        wanted: dict[tuple[str, int], int] = defaultdict(int)
        for job in self.jobs.values():
            wanted[job.caller, day_of(job.created_us)] += money.counted(job)
        assert self.spend() == {place: usd for place, usd in wanted.items() if usd}
        assert self.run(money.differs()) == ()
        for (name, day), usd in wanted.items():
            limits = KEYS[name]
            assert usd <= limits.get("budget_day_usd_micros", usd) + self.overbilled
            month = sum(usd for (who, of), usd in wanted.items() if who == name and span_of(of)[1:] == span_of(day)[1:])
            assert month <= limits.get("budget_month_usd_micros", month) + self.overbilled
        few = [job for job in self.jobs.values() if job.caller == "few" and job.ended_us is None]
        assert len(few) <= 2


class Step(NamedTuple):
    """What happens next: to a job (taken by its place among those that it can happen to), with an amount."""

    what: str
    which: int
    cents: int


def do(books: Books, step: Step) -> None:
    amount = step.cents * CENT
    if step.what == "accept":
        name = sorted(KEYS)[step.which % len(KEYS)]
        at_us = NOW_US + (step.which // 7 % 3 - 1) * 20 * DAY_US  # three days, in two months
        job = a_job(name, reserved_usd_micros=amount, purse_usd_micros=10 * amount + 1000 * CENT, created_us=at_us)
        books.accept(job)
        return
    able = [job for job in books.jobs.values() if _can(books, job, step.what)]
    if not able:
        return
    job = able[step.which % len(able)]
    known = books.attempts[job.id]
    open_ = known[-1] if known and known[-1].state.is_open else None
    match step.what:
        case "start":
            attempt = an_attempt(job, job.attempts + 1, price_usd_micros=amount, backend=f"acme/{step.which % 3}")
            routing = msgspec.structs.replace(job.routing, backend=attempt.backend)
            spent = sum(one.spent_usd_micros for one in known) + amount
            started = advance(
                job, JobEvent.ATTEMPT_STARTED, attempts=attempt.no, routing=routing, reserved_usd_micros=spent
            )
            books.save(started, attempt)
        case "lose":
            assert open_ is not None
            note(books, job, advance_attempt(open_, AttemptEvent.LOST))
        case "write_off":
            assert open_ is not None
            close(books, job, advance_attempt(open_, AttemptEvent.WRITTEN_OFF, ended_us=NOW_US))
        case "reject":
            assert open_ is not None
            gone = advance_attempt(open_, AttemptEvent.REJECTED, cost_usd_micros=0, ended_us=NOW_US)
            close(books, job, gone)
        case "fail" | "bill" | "win":
            assert open_ is not None
            if open_.state is AttemptState.SUBMITTING:
                operation = Operation(provider="acme", id=open_.id)
                open_ = advance_attempt(open_, AttemptEvent.ACCEPTED, operation=operation, accepted_us=NOW_US)
                job = note(books, job, open_)
            cost = 0 if step.what == "fail" else amount
            books.overbilled += max(cost - open_.price_usd_micros, 0)
            event = AttemptEvent.SUCCEEDED if step.what == "win" else AttemptEvent.FAILED
            closed = advance_attempt(open_, event, cost_usd_micros=cost, ended_us=NOW_US)
            close(books, job, closed, won=step.what == "win")
        case "end" | "expire":
            event_ = JobEvent.EXPIRED if step.what == "expire" else JobEvent.FAILED
            cost_ = None if open_ else sum(one.spent_usd_micros for one in known)
            reserved = job.reserved_usd_micros if open_ else 0
            over = advance(job, event_, cost_usd_micros=cost_, reserved_usd_micros=reserved, ended_us=NOW_US)
            books.save(over, end=event_)


def _can(books: Books, job: Job, what: str) -> bool:
    known = books.attempts[job.id]
    last = known[-1] if known else None
    match what:
        case "start":
            return not job.state.is_terminal and (last is None or last.state.may_be_followed)
        case "lose" | "reject":
            return last is not None and last.state is AttemptState.SUBMITTING
        case "write_off":
            return last is not None and last.state is AttemptState.UNKNOWN
        case "fail" | "bill" | "win":
            return last is not None and last.state in (AttemptState.SUBMITTING, AttemptState.RUNNING)
        case "end":
            return not job.state.is_terminal and not (last is not None and last.state.is_open)
        case _:
            return not job.state.is_terminal and job.attempts > 0


def note(books: Books, job: Job, attempt: Attempt) -> Job:
    after = advance(job, JobEvent.SETTLED if job.state.is_terminal else JobEvent.PROGRESSED)
    books.save(after, attempt)
    return after


def close(books: Books, job: Job, attempt: Attempt, *, won: bool = False) -> None:
    """As the worker's books do it."""
    others = [one for one in books.attempts[job.id] if one.id != attempt.id]
    cost = sum(one.spent_usd_micros for one in (*others, attempt))
    if job.state.is_terminal:
        books.save(advance(job, JobEvent.SETTLED, cost_usd_micros=cost, reserved_usd_micros=0), attempt)
    elif won:
        done = advance(job, JobEvent.COMPLETED, cost_usd_micros=cost, reserved_usd_micros=0, ended_us=NOW_US)
        books.save(done, attempt, end=JobEvent.COMPLETED)
    else:
        books.save(advance(job, JobEvent.PROGRESSED, reserved_usd_micros=min(cost, job.purse_usd_micros)), attempt)
