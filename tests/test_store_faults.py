"""What the store promises when something fails: a second owner, kill -9, a full disk, a failing disk, a lost file."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs import Job
from gateway.store import connect
from gateway.store.desk import Desk
from gateway.store.spec import Store, StoreInUse, StoreUnavailable
from gateway.store.sql import SqlStore
from gateway.store.sqlite import SqliteEngine
from gateway.store.sqlite_writer import CHECKPOINT_BYTES
from gateway.store.transactions import Transaction
from tests.records import DECISION, a_job

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]

# Accepts and starts jobs, 64 at a time, until it is killed. Says a job's id only after the store has acknowledged it.
WORKLOAD = """
import asyncio, os, sys
from gateway.jobs import Job
from gateway.store import connect
from tests.records import DECISION, a_job, an_attempt, started

async def main():
    store = connect(sys.argv[1])
    await store.open()

    async def one():
        while True:
            job = a_job()
            await store.accept(job, decision=DECISION)
            os.write(1, f"accepted {job.id}\\n".encode())
            await store.save(started(job), attempt=an_attempt(job))
            os.write(1, f"started {job.id}\\n".encode())

    await asyncio.gather(*(one() for _ in range(64)))

asyncio.run(main())
"""

# Holds the store until it is killed.
OWNER = """
import asyncio, sys
from gateway.jobs import Job
from gateway.store import connect

async def main():
    await connect(sys.argv[1]).open()
    print("open", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

# May write no file beyond 256 KiB: the kernel then fails its writes with EFBIG, which SQLite calls a disk I/O error.
FAILING_DISK = """
import asyncio, resource, sys
from gateway.jobs import Job
from gateway.store import connect
from gateway.store.spec import StoreUnavailable
from tests.records import DECISION, a_job

async def main():
    store = connect(sys.argv[1])
    await store.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    acknowledged = []
    try:
        while True:
            acknowledged.append((await store.accept(a_job(), decision=DECISION)).job.id)
    except StoreUnavailable:
        pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        await store.accept(a_job(), decision=DECISION)
    except StoreUnavailable as error:
        print(error)
    print(store.writable(), store.trouble().lasting, await store.decision(acknowledged[0]) == DECISION)
    print(*acknowledged)
    await store.close()

asyncio.run(main())
"""


@contextmanager
def child(script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "filmgate.db"


@pytest.fixture
async def engine(path: Path) -> AsyncIterator[SqliteEngine]:
    """The engine below `store`, to fail what a caller cannot."""
    engine = SqliteEngine(path)
    yield engine
    await engine.close()


@pytest.fixture
async def store(engine: SqliteEngine) -> AsyncIterator[Store]:
    store = SqlStore(engine)
    await store.open()
    yield store
    await store.close()


async def run_on_writer(engine: SqliteEngine, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement of the test's own on the writing connection, inside a transaction of its own."""

    def own() -> Transaction[list[tuple[Any, ...]]]:
        assert engine._opened is not None
        return engine._opened.writer._db.execute(sql).fetchall()
        yield "never", {}

    return await engine.write(own())


def held(gate: threading.Event, reached: threading.Event) -> Transaction[None]:
    """A transaction that keeps the writer busy until the gate opens."""
    reached.set()
    gate.wait(30)
    yield "secret_read", {"purpose": "none"}


# --- one owner --------------------------------------------------------------------------------------------------------


async def test_second_process_is_refused_with_the_first_ones_pid(path: Path) -> None:
    with child(OWNER, f"sqlite:///{path}") as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"open\n"
        store = connect(f"sqlite:///{path}")

        with pytest.raises(StoreInUse, match=rf"process {owner.pid}\..*admin socket .*filmgate\.db\.sock") as refused:
            await store.open()

        assert refused.value.pid == owner.pid
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        await store.open()  # the kernel has given the lock back
        await store.close()


async def test_second_store_in_one_process_is_refused_under_any_name_of_the_file(
    store: Store, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias.db").symlink_to(path)

    with pytest.raises(StoreInUse, match=f"process {os.getpid()}"):
        await connect(f"sqlite:///{tmp_path / 'alias.db'}").open()

    await store.accept(a_job(), decision=DECISION)  # and the first goes on


async def test_files_are_for_their_owner_alone(path: Path, engine: SqliteEngine) -> None:
    before = os.umask(0)
    try:
        await engine.open()
        await run_on_writer(engine, "INSERT INTO secrets VALUES ('x', x'00')")
    finally:
        os.umask(before)

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys([f"filmgate.db{end}" for end in ("", "-wal", "-shm", ".lock")], 0o600)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_everything_acknowledged_survives_kill_9(path: Path, seed: int) -> None:
    until = random.Random(seed).randint(50, 800)

    with child(WORKLOAD, f"sqlite:///{path}") as worker:
        assert worker.stdout is not None
        said = [worker.stdout.readline() for _ in range(until)]
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        said += worker.stdout.readlines()
    lines = [line.decode().split() for line in said if line.endswith(b"\n")]
    assert len(lines) >= until

    store = connect(f"sqlite:///{path}")
    asyncio.run(_open_and_close(store))
    db = sqlite3.connect(path)
    stored = {row[0] for row in db.execute("SELECT id FROM jobs")}
    begun = {row[0] for row in db.execute("SELECT job FROM attempts")}
    assert {id_ for what, id_ in lines if what == "accepted"} <= stored
    assert {id_ for what, id_ in lines if what == "started"} <= begun
    # no half transactions
    assert stored == {row[0] for row in db.execute("SELECT job FROM decisions")}
    assert stored == {row[0] for row in db.execute("SELECT job FROM events WHERE type = 'job.accepted'")}
    assert begun == {row[0] for row in db.execute("SELECT id FROM jobs WHERE state = 'active' AND version = 1")}
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    db.close()


async def _open_and_close(store: Store) -> None:
    await store.open()
    await store.close()


# --- the disk ---------------------------------------------------------------------------------------------------------


async def test_full_disk_refuses_until_there_is_room_again(store: Store, engine: SqliteEngine, path: Path) -> None:
    ((pages,),) = await run_on_writer(engine, "PRAGMA page_count")
    await run_on_writer(engine, f"PRAGMA max_page_count = {pages + 40}")

    kept, refusal = await _fill(store)

    assert "full" in str(refusal)
    trouble = store.trouble()
    assert trouble is not None
    assert not trouble.lasting
    assert (await store.decision(kept[0].id)) == DECISION * 100  # reads go on
    await engine.write(_nothing())
    assert store.trouble() is not None  # a commit of nothing proves nothing
    assert not await _writable_after_probe(store, engine)
    await _raise_limit(engine)
    assert await _writable_after_probe(store, engine)
    assert store.writable()
    await store.accept(a_job(), decision=DECISION)
    await store.close()
    assert {job.id for job in kept} <= {row[0] for row in sqlite3.connect(path).execute("SELECT id FROM jobs")}


async def _fill(store: Store) -> tuple[list[Job], StoreUnavailable]:
    kept = []
    while True:
        try:
            kept.append((await store.accept(a_job(), decision=DECISION * 100)).job)
        except StoreUnavailable as refusal:
            return kept, refusal


def _nothing() -> Transaction[None]:
    yield "secret_read", {"purpose": "none"}


async def _writable_after_probe(store: Store, engine: SqliteEngine) -> bool:
    """Ask, which starts a probe; wait until it has come back; what is known then."""
    assert not store.writable()
    await asyncio.gather(engine.write(_nothing()), return_exceptions=True)  # behind the probe in the queue
    return store.trouble() is None


async def _raise_limit(engine: SqliteEngine) -> None:
    assert engine._opened is not None
    engine._opened.writer._db.execute("PRAGMA max_page_count = 1000000")  # the writer is idle


def test_failed_write_stops_all_writing_and_loses_nothing_acknowledged(path: Path) -> None:
    with child(FAILING_DISK, f"sqlite:///{path}") as process:
        out, _ = process.communicate(timeout=60)

    refusal, state, ids = out.decode().splitlines()
    assert "disk I/O error" in refusal
    assert "restart" in refusal
    assert state == "False True True"
    assert ids.split()  # some were taken before the disk failed
    asyncio.run(_open_and_close(connect(f"sqlite:///{path}")))
    db = sqlite3.connect(path)
    assert set(ids.split()) <= {row[0] for row in db.execute("SELECT id FROM jobs")}
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


@pytest.mark.parametrize("instead", [None, b""])
async def test_file_that_is_not_ours_any_more_takes_no_writes(store: Store, path: Path, instead: bytes | None) -> None:
    job = (await store.accept(a_job(), decision=DECISION)).job
    path.rename(path.with_suffix(".moved"))
    if instead is not None:
        path.write_bytes(instead)

    assert not store.writable()
    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        await store.accept(a_job(), decision=DECISION)

    assert await store.decision(job.id) == DECISION


async def test_file_locked_by_somebody_else_is_told_and_passes(
    engine: SqliteEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.sqlite_file.BUSY_SECONDS", 0.01)
    store = SqlStore(engine)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked"):
        await store.accept(a_job(), decision=DECISION)
    other.execute("COMMIT")
    other.close()

    await store.accept(a_job(), decision=DECISION)
    assert store.writable()


# --- the writer -------------------------------------------------------------------------------------------------------


async def test_reads_do_not_wait_for_the_writer(store: Store, engine: SqliteEngine) -> None:
    job = (await store.accept(a_job(), decision=DECISION)).job
    gate, reached = threading.Event(), threading.Event()
    busy = asyncio.create_task(engine.write(held(gate, reached)))
    await asyncio.to_thread(reached.wait, 30)
    waiting = asyncio.create_task(store.accept(a_job(), decision=DECISION))

    assert await store.decision(job.id) == DECISION
    assert len((await store.list_jobs(job.caller, after=None, limit=5))[0]) == 1

    assert not waiting.done()
    gate.set()
    await busy
    await waiting


async def test_what_queues_up_shares_one_commit(store: Store, engine: SqliteEngine) -> None:
    gate, reached = threading.Event(), threading.Event()
    busy = asyncio.create_task(engine.write(held(gate, reached)))
    await asyncio.to_thread(reached.wait, 30)
    accepts = [asyncio.create_task(store.accept(a_job(), decision=DECISION)) for _ in range(100)]
    await asyncio.sleep(0)  # all are queued
    traced: list[str] = []
    assert engine._opened is not None
    engine._opened.writer._db.set_trace_callback(traced.append)

    gate.set()
    await asyncio.gather(busy, *accepts)

    assert traced.count("COMMIT") == 2  # the one that held them up, and theirs
    assert traced.count("SAVEPOINT one") == 100


async def test_commits_are_synced_and_the_log_is_folded_in(store: Store, engine: SqliteEngine, path: Path) -> None:
    big = b'"' + bytes(b"x" * 100_000) + b'"'

    for _ in range(12):
        await asyncio.gather(*(store.accept(a_job(), decision=big) for _ in range(16)))

    assert (path.parent / "filmgate.db-wal").stat().st_size < CHECKPOINT_BYTES + 40 * 100_000
    assert path.stat().st_size > 12_000_000
    assert await run_on_writer(engine, "PRAGMA synchronous") == [(2,)]  # FULL
    assert await run_on_writer(engine, "PRAGMA wal_autocheckpoint") == [(0,)]
    assert await run_on_writer(engine, "PRAGMA journal_mode") == [("wal",)]
    assert await run_on_writer(engine, "PRAGMA foreign_keys") == [(1,)]


async def test_busy_loop_gives_the_stores_threads_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(asyncio.get_running_loop())
    napped = asyncio.Event()
    monkeypatch.setattr("gateway.store.desk.time.sleep", lambda seconds: napped.set())
    gate = threading.Event()
    order = desk.order(held(gate, gate))

    await asyncio.wait_for(napped.wait(), 30)
    desk.answer([order])

    await order.future
