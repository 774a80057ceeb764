"""The totals are the sum of their jobs, whatever happens in whatever order, and a refusal leaves no trace in them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jobs import AttemptEvent, JobEvent, advance, advance_attempt
from gateway.store import keeping, money, transactions
from gateway.store.money import DAY_US, day_of
from gateway.store.spec import BudgetExceeded, Idempotency, Key, TooManyJobs
from gateway.store.sqlite_file import MIGRATIONS, connect_writer, create
from gateway.store.sqlite_writer import Executor
from providers.spec import Operation
from tests.money_books import CENT, KEYS, Books, Step, close, do, note
from tests.records import NOW_US, a_job, an_attempt


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("books") / "books.db"
    create(path)
    db = connect_writer(path)
    execute = Executor(db)
    for name, terms in KEYS.items():
        key = Key(id=name, name=name, hash=name.ljust(64, "0"), hint="", created_us=1)
        transactions.run(keeping.create_key(msgspec.structs.replace(key, **terms)), execute)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    yield path
    shutil.rmtree(path.parent)


@pytest.fixture
def books(template: Path) -> Iterator[Books]:
    books = Books(template)
    yield books
    books.db.close()


ACTS = ("accept", "accept", "start", "start", "lose", "write_off", "fail", "reject", "bill", "win", "end", "expire")
STEPS = st.lists(
    st.builds(Step, st.sampled_from(ACTS), st.integers(0, 1000), st.integers(0, 70)), min_size=12, max_size=60
)


@given(steps=STEPS)
@settings(max_examples=300, deadline=None)
def test_totals_are_the_sum_of_their_jobs_in_any_order_of_events(template: Path, steps: list[Step]) -> None:
    books = Books(template)
    try:
        for step in steps:
            before = books.spend()
            try:
                do(books, step)
            except (BudgetExceeded, TooManyJobs):
                assert books.spend() == before
            books.must_be_true()
    finally:
        books.db.close()


# --- one by one -------------------------------------------------------------------------------------------------------


def test_the_last_cent_of_a_budget_can_be_spent_and_one_more_cannot(books: Books) -> None:
    books.accept(a_job("daily", reserved_usd_micros=100 * CENT, purse_usd_micros=100 * CENT))

    with pytest.raises(BudgetExceeded) as refused:
        books.accept(a_job("daily", reserved_usd_micros=1, purse_usd_micros=1))

    assert (refused.value.period, refused.value.left_usd_micros, refused.value.asked_usd_micros) == ("day", 0, 1)
    assert "$1.00 a day; $1.00 of it are spent or reserved, and $0.000001 more" in str(refused.value)
    assert books.run(money.spent_by("daily", day_of(NOW_US))).day_usd_micros == 100 * CENT
    assert len(books.jobs) == 1


def test_what_costs_nothing_is_taken_with_an_empty_budget(books: Books) -> None:
    books.accept(a_job("daily", reserved_usd_micros=100 * CENT, purse_usd_micros=100 * CENT))

    books.accept(a_job("daily", reserved_usd_micros=0, purse_usd_micros=0))

    books.must_be_true()


def test_day_and_month_start_anew_at_their_utc_midnight(books: Books) -> None:
    day = money.days_since_1970(date(2026, 11, 30))
    last: dict[str, Any] = {"created_us": (day + 1) * DAY_US - 1, "purse_usd_micros": 200 * CENT}
    books.accept(a_job("both", reserved_usd_micros=80 * CENT, **last))

    with pytest.raises(BudgetExceeded, match=r"a day; .* It starts anew at 2026-12-01T00:00:00Z"):
        books.accept(a_job("both", reserved_usd_micros=CENT, **last))
    books.accept(
        a_job("both", reserved_usd_micros=80 * CENT, purse_usd_micros=200 * CENT, created_us=(day + 1) * DAY_US)
    )
    books.accept(
        a_job("both", reserved_usd_micros=40 * CENT, purse_usd_micros=200 * CENT, created_us=(day + 2) * DAY_US)
    )
    with pytest.raises(BudgetExceeded, match=r"\$1.20 a month; \$1.20 of it .* It starts anew at 2027-01-01T00:00:00Z"):
        books.accept(a_job("both", reserved_usd_micros=CENT, purse_usd_micros=CENT, created_us=(day + 3) * DAY_US))

    books.must_be_true()


def test_a_replay_reserves_nothing_and_is_answered_with_an_empty_budget(books: Books) -> None:
    once = Idempotency(key="order", fingerprint="x", expires_us=NOW_US * 2)
    first = a_job("daily", reserved_usd_micros=100 * CENT, purse_usd_micros=100 * CENT)
    books.accept(first, once)

    again = books.accept(a_job("daily", reserved_usd_micros=100 * CENT, purse_usd_micros=100 * CENT), once)

    assert again.id == first.id
    books.must_be_true()


def test_a_refused_job_does_not_take_its_idempotency_key_along(books: Books) -> None:
    once = Idempotency(key="order", fingerprint="x", expires_us=NOW_US * 2)
    with pytest.raises(BudgetExceeded):
        books.accept(a_job("daily", reserved_usd_micros=101 * CENT, purse_usd_micros=200 * CENT), once)

    later = books.accept(a_job("daily", reserved_usd_micros=99 * CENT, purse_usd_micros=200 * CENT), once)

    assert later.id in books.jobs


def test_a_vendors_bill_above_the_budget_is_recorded_and_holds_back_what_comes(books: Books) -> None:
    job = books.accept(a_job("daily", reserved_usd_micros=50 * CENT, purse_usd_micros=100 * CENT))
    attempt = an_attempt(job, price_usd_micros=50 * CENT)
    books.save(started := advance(job, JobEvent.ATTEMPT_STARTED, attempts=1), attempt)
    operation = Operation(provider="acme", id="op")
    running = advance_attempt(attempt, AttemptEvent.ACCEPTED, operation=operation, accepted_us=NOW_US)
    job = note(books, started, running)

    close(
        books,
        job,
        advance_attempt(running, AttemptEvent.SUCCEEDED, cost_usd_micros=130 * CENT, ended_us=NOW_US),
        won=True,
    )

    assert books.run(money.spent_by("daily", day_of(NOW_US))).day_usd_micros == 130 * CENT
    with pytest.raises(BudgetExceeded) as refused:
        books.accept(a_job("daily", reserved_usd_micros=CENT, purse_usd_micros=CENT))
    assert refused.value.left_usd_micros == 0
    books.accept(
        a_job("daily", reserved_usd_micros=0, purse_usd_micros=0)
    )  # what costs nothing is no matter of budgets


def test_an_attempt_at_the_quote_needs_no_room_and_one_above_it_only_for_the_difference(books: Books) -> None:
    job = books.accept(a_job("daily", reserved_usd_micros=60 * CENT, purse_usd_micros=100 * CENT))
    other = books.accept(a_job("daily", reserved_usd_micros=39 * CENT, purse_usd_micros=100 * CENT))

    do(books, Step("start", 0, 60))
    with pytest.raises(BudgetExceeded) as refused:
        do(books, Step("start", list(books.jobs).index(other.id) - 1, 41))
    do(books, Step("start", 0, 40))

    assert (refused.value.asked_usd_micros, refused.value.left_usd_micros) == (2 * CENT, CENT)
    assert [books.jobs[one.id].reserved_usd_micros for one in (job, other)] == [60 * CENT, 40 * CENT]
    books.must_be_true()


def test_a_failover_of_yesterdays_job_counts_with_what_today_has_spent_of_the_month(books: Books) -> None:
    yesterday: dict[str, Any] = {"created_us": NOW_US - DAY_US, "purse_usd_micros": 200 * CENT}
    books.accept(a_job("monthly", reserved_usd_micros=50 * CENT, **yesterday))
    books.accept(a_job("monthly", reserved_usd_micros=90 * CENT, purse_usd_micros=200 * CENT))

    with pytest.raises(BudgetExceeded, match="a month"):
        do(books, Step("start", 0, 61))
    do(books, Step("start", 0, 60))

    books.must_be_true()


def test_what_is_written_off_is_spent_at_its_price_and_what_is_found_out_later_corrects_it(books: Books) -> None:
    books.accept(a_job("free", reserved_usd_micros=50 * CENT))
    for what in ("start", "lose"):
        do(books, Step(what, 1, 50))
    (open_,) = [row for row in books.run(money.used("free", 0, 99_999)) if row.backend == "acme/1"]
    do(books, Step("write_off", 0, 0))
    (over,) = [row for row in books.run(money.used("free", 0, 99_999)) if row.backend == "acme/1"]
    books.db.execute("UPDATE attempts SET cost_usd_micros = 7")
    (known,) = [row for row in books.run(money.used("free", 0, 99_999)) if row.backend == "acme/1"]

    assert (open_.cost_usd_micros, open_.reserved_usd_micros) == (0, 50 * CENT)
    assert (over.cost_usd_micros, over.reserved_usd_micros) == (50 * CENT, 0)
    assert (known.cost_usd_micros, known.reserved_usd_micros) == (7, 0)


def test_a_place_is_free_again_when_a_job_has_ended(books: Books) -> None:
    first = books.accept(a_job("few"))
    books.accept(a_job("few"))
    with pytest.raises(TooManyJobs, match="may have 2 unfinished jobs at once"):
        books.accept(a_job("few"))

    over = advance(first, JobEvent.CANCELLED, cost_usd_micros=0, reserved_usd_micros=0, ended_us=NOW_US)
    books.save(over, end=JobEvent.CANCELLED)
    books.accept(a_job("few"))

    books.must_be_true()


def test_money_stands_under_the_backend_that_was_paid_and_the_job_under_its_last(books: Books) -> None:
    job = books.accept(a_job("free", reserved_usd_micros=50 * CENT))
    for step in (Step("start", 1, 56), Step("bill", 0, 40), Step("start", 2, 60), Step("win", 0, 60)):
        do(books, step)

    rows = {row.backend: row for row in books.run(money.used("free", 0, 99_999))}

    assert rows["acme/1"][4:] == (0, 0, 0, 0, 40 * CENT, 0)
    assert rows["acme/2"][4:] == (1, 1, 0, job.seconds, 60 * CENT, 0)
    assert rows["acme/kling-v3-pro"][4:] == (0, 0, 0, 0, 0, 0)


def test_a_total_that_is_not_the_sum_of_its_jobs_is_found(books: Books) -> None:
    books.accept(a_job("free"))
    books.db.execute("UPDATE spend SET usd_micros = usd_micros + 1")
    books.db.execute("UPDATE usage SET jobs = jobs + 1")

    found = books.run(money.differs())

    assert [(one.of, one.caller, one.total - one.jobs) for one in found] == [("spend", "free", 1), ("jobs", "free", 1)]


def test_jobs_from_before_the_totals_are_counted_by_the_migration(tmp_path: Path) -> None:
    before, path = tmp_path / "before", tmp_path / "x.db"
    before.mkdir()
    for file in sorted(MIGRATIONS.iterdir())[:2]:
        shutil.copy(file, before)
    create(path)
    db = connect_writer(path, before)
    jobs = [a_job("old"), a_job("old", created_us=NOW_US + DAY_US), a_job("other", reserved_usd_micros=1)]
    for job in jobs:
        row = {**transactions._job_row(job)}
        names = [name for name in row if name not in ("was", "test", "model", "backend", "seconds")]
        _insert(db, "jobs", {name: row[name] for name in names})
    attempt = an_attempt(jobs[0], price_usd_micros=560_000)
    done = advance_attempt(attempt, AttemptEvent.REJECTED, cost_usd_micros=7, ended_us=NOW_US)
    row = {name: value for name, value in transactions._attempt_row(done).items() if name != "test"}
    _insert(db, "attempts", row)
    db.execute("UPDATE jobs SET state = 'active', version = 1 WHERE id = ?", (jobs[0].id,))
    db.close()

    db = connect_writer(path)

    execute = Executor(db)
    assert transactions.run(money.differs(), execute) == ()
    assert transactions.run(money.spent_by("old", day_of(NOW_US)), execute).day_usd_micros == 560_000
    (first, second) = transactions.run(money.used("old", 0, 99_999), execute)
    assert (first.model, first.backend, first.jobs, first.cost_usd_micros) == (
        "kling-v3-pro",
        "acme/kling-v3-pro",
        1,
        7,
    )
    assert (second.reserved_usd_micros, second.day) == (560_000, first.day + 1)
    db.close()


def _insert(db: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})", row)  # noqa: S608
