"""Lists, deletion, keys, secrets, and the ways in and out of a store."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway import keys
from gateway.jobs import Job, JobEvent, advance
from gateway.keys import Terms
from gateway.store import admin_socket, connect
from gateway.store.spec import BadStoreUrl, Conflict, Event, Key, NameTaken, Store, StoreUnavailable
from gateway.store.sqlite_file import connect_writer, create
from gateway.store.statements import STATEMENTS, parse
from gateway.store.words import job_without_words
from tests.records import DECISION, NOW_US, a_job, an_attempt, ended, started

pytestmark = pytest.mark.anyio

TERMS = Terms(
    scopes=("videos:read",),
    expires_us=NOW_US * 2,
    purse_usd_micros=1,
    budget_day_usd_micros=2,
    budget_month_usd_micros=3,
    models=("a*", "b"),
    providers=("c",),
    max_in_flight=4,
    requests_per_minute=5,
    keep_days=6,
)  # one of each, so that a mixed-up column is noticed


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'filmgate.db'}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = connect(url)
    await store.open()
    yield store
    await store.close()


async def done_job(store: Store, caller: str = "k1") -> Job:
    job = (await store.accept(a_job(caller), decision=DECISION)).job
    await store.save(job := started(job))
    await store.save(job := ended(job), events=(Event(job=job.id, type="job.completed", at_us=NOW_US),))
    return job


def a_key(name: str = "app", number: int = 1) -> Key:
    return keys.make(name, now_us=NOW_US + number, random=bytes([number]) * keys.RANDOM_BYTES, terms=TERMS).key


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [True, False])
async def test_pages_hold_every_job_of_the_caller_once_and_in_order(store: Store, *, descending: bool) -> None:
    mine = [(await store.accept(a_job("k1"), decision=DECISION)).job for _ in range(7)]
    for _ in range(3):
        await store.accept(a_job("k2"), decision=DECISION)
    seen: list[Job] = []
    after, more = None, True

    while more:
        page, more = await store.list_jobs("k1", after=after, limit=3, descending=descending)
        seen += page
        after = page[-1].id

    assert seen == sorted(mine, key=lambda job: job.id, reverse=descending)


async def test_full_last_page_says_that_it_is_the_last(store: Store) -> None:
    for _ in range(2):
        await store.accept(a_job("k1"), decision=DECISION)

    page, more = await store.list_jobs("k1", after=None, limit=2)

    assert len(page) == 2
    assert not more
    assert await store.list_jobs("k1", after=min(job.id for job in page), limit=2) == ((), False)


async def test_recent_attempts_of_an_empty_store_are_none(store: Store) -> None:
    assert await store.recent_attempts(5) == ()
    assert await store.job(a_job().id) is None
    assert await store.decision(a_job().id) is None


# --- delete -----------------------------------------------------------------------------------------------------------


async def test_deleted_job_leaves_the_list_but_not_the_ledger(store: Store) -> None:
    job = await done_job(store)

    assert await store.files.erase(job.id, NOW_US + 5, deleted=True)

    assert await store.list_jobs("k1", after=None, limit=10) == ((), False)
    deleted = msgspec.structs.replace(
        job_without_words(job, NOW_US + 5),
        deleted_us=NOW_US + 5,
        clip_erased_us=NOW_US + 5,
        version=job.version + 1,
    )
    assert await store.job(job.id) == store.live.job(job.id) == deleted
    assert await store.decision(job.id) == DECISION


async def test_only_an_ended_job_is_deleted_and_once(store: Store) -> None:
    job = await done_job(store)
    busy = (await store.accept(a_job("k1"), decision=DECISION)).job

    assert not await store.files.erase(busy.id, NOW_US, deleted=True)
    assert not await store.files.erase(a_job().id, NOW_US, deleted=True)
    assert await store.files.erase(job.id, NOW_US + 5, deleted=True)
    assert not await store.files.erase(job.id, NOW_US + 6, deleted=True)

    with pytest.raises(Conflict):  # a saver who did not see the deletion must read again
        await store.save(advance(job, JobEvent.SETTLED))


# --- keys and secrets -------------------------------------------------------------------------------------------------


async def test_keys_are_known_after_reopening_and_live_at_once(store: Store, url: str) -> None:
    first, second = a_key("app", 1), a_key("batch", 2)
    await store.create_key(first)
    await store.create_key(second)

    assert store.live.key(first.id) == first
    assert await store.revoke_key("batch", NOW_US + 9)
    revoked = msgspec.structs.replace(second, revoked_us=NOW_US + 9)
    assert store.live.key(second.id) == revoked
    await store.close()
    again = connect(url)
    await again.open()

    assert await again.keys() == (first, revoked)
    assert again.live.key(second.id) == revoked
    await again.close()


async def test_key_is_revoked_by_id_or_name_once(store: Store) -> None:
    await store.create_key(a_key("app", 1))
    await store.create_key(a_key("batch", 2))

    assert await store.revoke_key(a_key("app", 1).id, NOW_US)
    assert not await store.revoke_key("app", NOW_US)
    assert not await store.revoke_key("nobody", NOW_US)
    assert [key.name for key in await store.keys() if key.revoked_us is None] == ["batch"]


async def test_name_is_taken_while_its_key_lives(store: Store) -> None:
    await store.create_key(a_key("app", 1))

    with pytest.raises(NameTaken):
        await store.create_key(a_key("app", 2))
    await store.revoke_key("app", NOW_US)
    await store.create_key(a_key("app", 2))

    assert len(await store.keys()) == 2


async def test_secret_is_made_once_for_each_purpose(store: Store, url: str) -> None:
    made = await asyncio.gather(*(store.secret("callbacks") for _ in range(10)))
    other = await store.secret("links")
    await store.close()
    again = connect(url)
    await again.open()

    assert {len(secret) for secret in made} == {32}
    assert set(made) == {await again.secret("callbacks")}
    assert other == await again.secret("links")
    assert other not in made
    await again.close()


# --- in and out -------------------------------------------------------------------------------------------------------


async def test_closing_finishes_what_was_begun(store: Store, url: str) -> None:
    jobs = [a_job() for _ in range(300)]
    tasks = [asyncio.create_task(store.accept(job, decision=DECISION)) for job in jobs]
    await asyncio.sleep(0)  # every order is handed over, none is answered

    await store.close()

    assert {(await task).job.id for task in tasks} == {job.id for job in jobs}
    again = connect(url)
    await again.open()
    assert len(await again.open_work()) == 300
    await again.close()


async def test_closed_store_says_so(store: Store) -> None:
    await store.close()

    assert not store.writable()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.accept(a_job(), decision=DECISION)
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.keys()
    await store.close()  # twice is once


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:x.db",
        "sqlite:///x.db?mode=ro",
        "sqlite:///folder/",
        "sqlite:////tmp",
        "sqlite://host/x.db",
        "sqlite:x.db",
        "postgresql://localhost/x",
        "x.db",
        "",
    ],
)
async def test_url_that_names_no_durable_file_is_refused(url: str) -> None:
    with pytest.raises(BadStoreUrl):
        connect(url)


async def test_url_may_be_relative_and_its_folder_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = connect("sqlite:///data/#1 50%.db")

    await store.open()
    job = (await store.accept(a_job(), decision=DECISION)).job

    assert await store.decision(job.id) == DECISION
    assert (tmp_path / "data" / "#1 50%.db").is_file()
    assert admin_socket("sqlite:///data/#1 50%.db") == tmp_path / "data" / "#1 50%.db.sock"
    await store.close()


# --- statements -------------------------------------------------------------------------------------------------------


def test_every_statement_compiles_and_reads_through_an_index(tmp_path: Path) -> None:
    create(tmp_path / "x.db")
    db = connect_writer(tmp_path / "x.db")
    scans = []

    for name, statement in STATEMENTS.items():
        nothing = dict.fromkeys(re.findall(r":(\w+)", statement))
        plan = db.execute(f"EXPLAIN QUERY PLAN {statement}", nothing).fetchall()
        scans += [name for *_, step in plan if step.startswith("SCAN") and "INDEX" not in step]

    db.close()
    wholly = {"spend_differs", "usage_differs", "counts_differ"}  # an auditor reads everything, once in a while
    assert set(scans) <= {"keys_read", "probe_take_back"} | wholly  # both tables hold little


def test_statements_hold_nothing_that_one_engine_alone_knows() -> None:
    foreign = re.compile(r"::|\browid\b|\bINSERT OR\b|\bREPLACE\b|\bjson|\bdatetime|\bGLOB\b|\?|`", re.IGNORECASE)

    assert [name for name, statement in STATEMENTS.items() if foreign.search(statement)] == []
    with pytest.raises(ValueError, match="twice"):
        parse("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE events SET type = 'x'", "only ever appended"),
        ("DELETE FROM events", "only ever appended"),
        ("UPDATE jobs SET doc = '{}'", "exactly one version"),
        ("UPDATE jobs SET version = version + 2", "exactly one version"),
        ("UPDATE jobs SET version = version + 1, state = 'failed'", "ended_means_terminal"),
        ("UPDATE jobs SET version = version + 1, deleted_us = 1", "deleted_after_the_end"),
        ("UPDATE jobs SET version = version + 1, state = 'failed', ended_us = 1", "one terminal event"),
        ("UPDATE jobs SET version = version + 1, reserved_usd_micros = purse_usd_micros + 1", "reserved_within_purse"),
        ("UPDATE attempts SET ended_us = 1", "ended_means_not_open"),
        ("UPDATE attempts SET test = 1", "CHECK constraint failed: test = 0"),
        ("UPDATE jobs SET version = version + 1, test = 1", "CHECK constraint failed: test = 0"),
        (
            "INSERT INTO attempts SELECT 'a2', job, 2, state, backend, provider, account, NULL, 0, NULL, 1, NULL, NULL,"
            " doc, test FROM attempts",
            "attempts.job",
        ),
        ("INSERT INTO events (job, at_us, type, data) VALUES ('video_none', 1, 'job.settled', '{}')", "FOREIGN KEY"),
    ],
)
async def test_constraint_holds_whatever_the_code_above_does(store: Store, url: str, statement: str, said: str) -> None:
    job = started((await store.accept(a_job(), decision=DECISION)).job)
    await store.save(job, attempt=an_attempt(job))
    await store.close()
    db = connect_writer(Path(url.removeprefix("sqlite:///")))

    with pytest.raises(sqlite3.IntegrityError, match=said):
        db.execute(statement)

    db.close()
