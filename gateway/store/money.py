"""What the transactions of money decide: whether a key's budgets and its jobs at once have room, and what was used.

Law: see `transactions`, whose law holds here. The totals are kept by the schema in the transaction of whatever writes a
job or an attempt; here they are only read. A job counts with its cost, or with what is reserved for it until its cost
is known, to the day (UTC) on which it was made. Room is looked for after the write: what another transaction has
written beside this one is then seen, or waited for, and a refusal takes the write back.
"""

from __future__ import annotations

import datetime
import functools
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gateway.jobs import Job
from gateway.store.spec import BudgetExceeded, TooManyJobs
from providers.spec import Frozen

if TYPE_CHECKING:
    from gateway.store.transactions import Transaction

T = TypeVar("T")

DAY_US = 86_400_000_000

_EPOCH = datetime.date(1970, 1, 1)


class Span(NamedTuple):
    """The days, since 1970, of one month, and one day of it."""

    day: int
    month_from: int
    month_to: int


class Spent(Frozen):
    """What a key's jobs of today and of this month have spent, or may yet."""

    day_usd_micros: int = 0
    month_usd_micros: int = 0


class Used(NamedTuple):
    """What one caller's jobs of one day for one model came to on one backend."""

    caller: str
    day: int  # since 1970
    model: str
    backend: str
    jobs: int
    completed: int
    failed: int
    seconds: int
    cost_usd_micros: int
    reserved_usd_micros: int


class Differs(Frozen):
    """A day of a caller whose total is not the sum of its jobs. `of`: what was added up."""

    of: str
    caller: str
    day: str
    total: int
    jobs: int


@functools.lru_cache(maxsize=64)
def span_of(day: int) -> Span:
    """The month around a day since 1970."""
    date = date_of(day)
    first = date.replace(day=1)
    after = (first + datetime.timedelta(days=31)).replace(day=1)
    return Span(day, (first - _EPOCH).days, (after - _EPOCH).days - 1)


def day_of(at_us: int) -> int:
    """The UTC day of a moment, since 1970."""
    return at_us // DAY_US


def date_of(day: int) -> datetime.date:
    return _EPOCH + datetime.timedelta(days=day)


def days_since_1970(date: datetime.date) -> int:
    return (date - _EPOCH).days


def counted(job: Job) -> int:
    """What a job counts with, as the schema counts it."""
    return job.reserved_usd_micros if job.cost_usd_micros is None else job.cost_usd_micros


# --- room -------------------------------------------------------------------------------------------------------------


def bounded(job: Job, saving: Transaction[T]) -> Transaction[T]:
    """`saving` writes the job; what it then reserves on top of before must have room."""
    rows = yield "job_counted", {"id": job.id}
    saved = yield from saving
    yield from must_have_room(job, before=int(rows[0][0]) if rows else 0, is_new=False)
    return saved


def must_have_room(job: Job, *, before: int, is_new: bool) -> Transaction[None]:
    """For the job as it was just written, where it counted with `before` until then. Raises BudgetExceeded when it now
    counts with more than the budgets hold, TooManyJobs when it is one job too many."""
    span = span_of(day_of(job.created_us))
    rows = yield "key_room", {"caller": job.caller, **span._asdict()}
    if not rows:
        return
    day_budget, month_budget, most, day_spent, month_spent, unfinished = rows[0]
    if is_new and most is not None and unfinished > most:
        jobs = "job" if most == 1 else "jobs"
        raise TooManyJobs(f"this API key may have {most} unfinished {jobs} at once, and has them", most=most)
    more = counted(job) - before
    if more <= 0:  # what is not asked for on top was granted before
        return
    for period, budget, spent in (("day", day_budget, day_spent), ("month", month_budget, month_spent)):
        if budget is not None and spent > budget:
            raise _exceeded(period, budget, int(spent) - more, more, span)


def _exceeded(period: str, budget: int, used: int, more: int, span: Span) -> BudgetExceeded:
    resets = date_of((span.day if period == "day" else span.month_to) + 1)
    message = (
        f"This API key's budget is {usd(budget)} a {period}; {usd(used)} of it are spent or reserved, and {usd(more)} "
        f"more were asked for. It starts anew at {resets}T00:00:00Z."
    )
    return BudgetExceeded(message, period=period, budget_usd_micros=budget, used_usd_micros=used, asked_usd_micros=more)


def usd(micros: int) -> str:
    """To the cent, or finer where the amount is: "$1,200.00", "$0.5625"."""
    cents = f"{micros / 1e6:,.2f}"
    return f"${cents}" if micros % 10_000 == 0 else "$" + f"{micros / 1e6:,.6f}".rstrip("0")


# --- what was used ----------------------------------------------------------------------------------------------------


def spent(day: int) -> Transaction[dict[str, Spent]]:
    """Of every caller that has made jobs in the month of this day."""
    rows = yield "spend_read", span_of(day)._asdict()
    return {caller: Spent(day_usd_micros=int(d), month_usd_micros=int(m)) for caller, d, m in rows}


def spent_by(caller: str, day: int) -> Transaction[Spent]:
    ((of_day, of_month),) = yield "spend_of_caller", {"caller": caller, **span_of(day)._asdict()}
    return Spent(day_usd_micros=int(of_day), month_usd_micros=int(of_month))


def used(caller: str | None, first: int, last: int) -> Transaction[tuple[Used, ...]]:
    """Between two days, both included; of all callers when none is named."""
    if caller is None:
        rows = yield "usage_of_all", {"first": first, "last": last}
    else:
        rows = yield "usage_of_caller", {"caller": caller, "first": first, "last": last}
    return tuple(Used(*row) for row in rows)


def differs() -> Transaction[tuple[Differs, ...]]:
    """Every total that is not what its jobs and attempts add up to. Reads them all."""
    found: list[Differs] = []
    for of, statement in (("spend", "spend_differs"), ("usage", "usage_differs"), ("jobs", "counts_differ")):
        rows = yield statement, {}
        for caller, day, total, jobs in rows:
            one = Differs(of=of, caller=caller, day=date_of(int(day)).isoformat(), total=int(total), jobs=int(jobs))
            found.append(one)
    return tuple(found)
