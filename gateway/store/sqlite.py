"""The SQLite driver: one writer with group commit, and readers that never wait behind an fsync.

Law: the engine belongs to the loop that opened it. Orders go to a thread through a queue and come back by the desk, one
call a batch. What makes one connection for writing enough, and safe: see sqlite_file.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gateway.store import keeping, sqlite_file, transactions
from gateway.store.desk import Desk, Order
from gateway.store.spec import StoreUnavailable, Trouble
from gateway.store.sql import SqlStore
from gateway.store.sqlite_writer import PROBE_BYTES, Chore, Executor, Writer
from gateway.store.transactions import Transaction

T = TypeVar("T")

READERS = 2


class Reader:
    """A thread with a read-only connection. Several share one queue of orders."""

    def __init__(self, db: sqlite3.Connection, orders: queue.SimpleQueue[Order[Any] | None], desk: Desk) -> None:
        self._db = db
        self._orders = orders
        self._desk = desk
        self._thread = threading.Thread(target=self._work, name="store-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Returns once it has met its None in the queue."""
        self._thread.join()
        self._db.close()

    def _work(self) -> None:
        execute = Executor(self._db)
        while (order := self._orders.get()) is not None:
            try:
                order.result = transactions.run(order.transaction, execute)
            except sqlite3.Error as error:
                order.error = StoreUnavailable(f"reading the store failed: {error}")
            except Exception as error:  # it belongs to whoever awaits this order, whatever it is
                order.error = error
            self._desk.answer((order,))


class Opened:
    """The threads and the lock of one opened file. Its constructor and `close` block: not for the loop's thread."""

    def __init__(self, path: Path, desk: Desk, *, readers: int) -> None:
        self.desk = desk
        self.reads: queue.SimpleQueue[Order[Any] | None] = queue.SimpleQueue()
        sqlite_file.create(path)
        self._lock = sqlite_file.FileLock(path)
        self._lock.take()
        try:
            self.writer = Writer(sqlite_file.connect_writer(path), path, desk)
            connections = [sqlite_file.connect_reader(path) for _ in range(readers)]
        except BaseException:
            self._lock.give_back()
            raise
        self._readers = [Reader(connection, self.reads, desk) for connection in connections]
        self.writer.start()
        for reader in self._readers:
            reader.start()

    def close(self) -> None:
        """Answer every order, then let go. Readers first: the last connection to close is the writer's."""
        for _ in self._readers:
            self.reads.put(None)
        for reader in self._readers:
            reader.join()
        self.writer.stop()
        self._lock.give_back()


class SqliteEngine:
    """Runs transactions on one SQLite file."""

    def __init__(self, path: Path, *, readers: int = READERS) -> None:
        self._path = path
        self._reader_count = readers
        self._opened: Opened | None = None
        self._probing = False

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < sqlite_file.OLDEST:
            oldest = ".".join(map(str, sqlite_file.OLDEST))
            raise StoreUnavailable(
                f"Python's SQLite here is {sqlite3.sqlite_version}; the store needs {oldest} or newer"
            )
        desk = Desk(asyncio.get_running_loop())
        try:
            self._opened = await asyncio.to_thread(Opened, self._path, desk, readers=self._reader_count)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{self._path} cannot be opened as a store: {error}") from error

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await asyncio.to_thread(opened.close)

    async def write(self, transaction: Transaction[T], landed: Callable[[T], None] | None = None) -> T:
        opened = self._store()
        order = opened.desk.order(transaction, landed)
        opened.writer.put(order)
        return await order.future

    async def read(self, transaction: Transaction[T]) -> T:
        opened = self._store()
        order = opened.desk.order(transaction)
        opened.reads.put(order)
        return await order.future

    async def fold_log(self) -> None:
        await self._done(Chore.FOLD)

    async def compact(self) -> None:
        await self._done(Chore.COMPACT)

    async def _done(self, chore: Chore) -> None:
        opened = self._store()
        order = opened.desk.order(keeping.nothing())
        opened.writer.do(chore, order)
        await order.future

    def writable(self) -> bool:
        trouble = self.trouble()
        if trouble is not None and not trouble.lasting and not self._probing:
            opened = self._store()
            order = opened.desk.order(keeping.probe(bytes(PROBE_BYTES)))
            order.future.add_done_callback(self._probed)
            self._probing = True
            opened.writer.put(order)
        return trouble is None

    def _probed(self, future: asyncio.Future[None]) -> None:
        self._probing = False
        future.exception()  # the writer has noted what it came to

    def trouble(self) -> Trouble | None:
        if self._opened is None:
            return Trouble(message=f"the store {self._path} is closed", lasting=True)
        return self._opened.writer.look()

    def _store(self) -> Opened:
        if self._opened is None:
            raise StoreUnavailable(f"the store {self._path} is closed")
        return self._opened


class SqliteStore(SqlStore):
    """The default store: one file on this machine's disk."""

    def __init__(self, url: str) -> None:
        """Raises BadStoreUrl. Nothing is touched before `open`."""
        super().__init__(SqliteEngine(sqlite_file.path_of(url)))
