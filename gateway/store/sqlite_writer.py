"""The one thread that writes, with group commit: what has queued up while the disk was busy shares the next fsync.

Law: an order is answered only after the COMMIT that holds it has returned. Each order has a savepoint of its own, so
one that fails takes nothing of its neighbours along; a COMMIT that fails, fails every order of its batch. After an I/O
error nothing is written any more: the kernel may have dropped the pages that it could not write, and a second fsync
would then say "fine" for data that is gone.
"""

from __future__ import annotations

import enum
import os
import queue
import sqlite3
import threading
from pathlib import Path
from typing import Any

from gateway.store import transactions
from gateway.store.desk import Desk, Order
from gateway.store.spec import InvariantBroken, StoreUnavailable, Trouble
from gateway.store.sqlite_file import BUSY_SECONDS
from gateway.store.statements import STATEMENTS
from gateway.store.transactions import Params, Rows

MOST_PER_COMMIT = 256
CHECKPOINT_BYTES = 4 << 20  # of write-ahead log
FOLD_SECONDS = 1.0  # how long a fold that somebody waits for lets readers finish
PROBE_BYTES = 128 << 10  # room for a dozen jobs, not for one byte

# SQLite's result codes: those that may pass, and those after which only a new process can know what is on the disk.
_PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM})
_LASTING = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class Executor:
    """Runs named statements on one connection, for one thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._cursor = db.cursor()

    def __call__(self, name: str, params: Params) -> Rows:
        try:
            return self._cursor.execute(STATEMENTS[name], params).fetchall()
        except sqlite3.IntegrityError as error:
            raise InvariantBroken(str(error)) from None


class Chore(enum.Enum):
    """What is done to the file as a whole, between two batches."""

    FOLD = "fold"  # the log into the file
    COMPACT = "compact"  # everything written anew, without the bytes that nothing uses


class FileGone(Exception):
    """Somebody removed or replaced the file: what we wrote now would be lost with our process."""


class Writer:
    """Owns the writing connection from `start` to `stop`."""

    def __init__(self, db: sqlite3.Connection, path: Path, desk: Desk) -> None:
        self._db = db
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._identity = _identity(path)
        self._desk = desk
        self._execute = Executor(db)
        self._orders: queue.SimpleQueue[Order[Any] | tuple[Chore, Order[None]] | None] = queue.SimpleQueue()
        self._trouble: Trouble | None = None
        self._checkpoint_at = CHECKPOINT_BYTES
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, order: Order[Any]) -> None:
        self._orders.put(order)

    def do(self, chore: Chore, order: Order[None]) -> None:
        """`order` is answered when it is done; its transaction is not run."""
        self._orders.put((chore, order))

    def stop(self) -> None:
        """Finish what is queued, fold the log into the file, close the connection. Blocks; no `put` may follow."""
        self._orders.put(None)
        self._thread.join()
        if self._trouble is None:
            self._checkpoint()
        self._db.close()

    def look(self) -> Trouble | None:
        """Why nothing can be written now; None when the last batch became durable and the file is still ours."""
        if self._trouble is None and self._is_gone():
            return self._judge(FileGone())
        return self._trouble

    # --- on its thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            batch = [self._orders.get()]
            while len(batch) < MOST_PER_COMMIT and not self._orders.empty():
                batch.append(self._orders.get())
            orders = [order for order in batch if isinstance(order, Order)]
            if orders:
                self._commit(orders)
                self._desk.answer(orders)
                self._checkpoint_when_due()
            for entry in batch:
                if isinstance(entry, tuple):
                    self._do(*entry)
            if None in batch:
                return

    def _do(self, chore: Chore, order: Order[None]) -> None:
        """A chore that does not succeed leaves the file as it was."""
        try:
            if self._trouble is not None:
                raise StoreUnavailable(self._trouble.message)
            if chore is Chore.COMPACT:
                self._compact()
            self._checkpoint(wait_seconds=FOLD_SECONDS)
        except (sqlite3.Error, StoreUnavailable) as error:
            if _code(error) in _LASTING:
                self._trouble = self._judge(error)
            order.error = StoreUnavailable(f"{self._path}: {chore.value}: {error}")
        self._desk.answer((order,))

    def _compact(self) -> None:
        """Its copy is made in a file: in memory, as other temporary tables are, it would be as large as the store."""
        self._db.execute("PRAGMA temp_store = FILE")
        try:
            self._db.execute("VACUUM")
        finally:
            self._db.execute("PRAGMA temp_store = MEMORY")

    def _commit(self, orders: list[Order[Any]]) -> None:
        """Run a batch. Sets each order's result or error; never raises."""
        try:
            if self._trouble is not None and self._trouble.lasting:
                raise StoreUnavailable(self._trouble.message)
            if self._is_gone():
                raise FileGone
            changes = self._db.total_changes
            self._db.execute("BEGIN IMMEDIATE")
            for order in orders:
                self._run(order)
            self._db.execute("COMMIT")
            if self._db.total_changes > changes:  # a commit of nothing proves nothing
                self._trouble = None
        except Exception as error:  # whatever it was, a thread that dies of it would leave its waiters waiting for ever
            trouble = self._trouble = self._abandon(error)
            for order in orders:  # also those refused: they were, because of neighbours that are not there now
                order.error = StoreUnavailable(trouble.message)

    def _run(self, order: Order[Any]) -> None:
        self._db.execute("SAVEPOINT one")
        try:
            order.result = transactions.run(order.transaction, self._execute)
        except Exception as error:  # it belongs to whoever awaits this order, whatever it is
            if _code(error) in _PASSING or _code(error) in _LASTING or not self._db.in_transaction:
                raise
            self._db.execute("ROLLBACK TO one")
            order.error = error
        self._db.execute("RELEASE one")

    def _abandon(self, error: Exception) -> Trouble:
        """Take the whole batch back; why."""
        trouble = self._judge(error)
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as second:
            return Trouble(message=f"{trouble.message} (and rolling back: {second})", lasting=True)
        return trouble

    def _judge(self, error: Exception) -> Trouble:
        if self._trouble is not None and self._trouble.lasting:
            return self._trouble
        if isinstance(error, FileGone):
            what = f"{self._path} was removed or replaced while in use"
        elif _code(error) in _PASSING:
            return Trouble(message=f"nothing was written to {self._path}: {error}; try again later")
        else:
            what = f"writing to {self._path} failed: {error}"
        return Trouble(message=f"{what}; nothing is written any more: see to it and restart the process", lasting=True)

    def _is_gone(self) -> bool:
        return _identity(self._path) != self._identity

    def _checkpoint_when_due(self) -> None:
        try:
            size = os.stat(self._wal).st_size
        except OSError:
            return
        if size >= self._checkpoint_at and self._trouble is None:
            self._checkpoint()

    def _checkpoint(self, *, wait_seconds: float = 0.0) -> None:
        """Fold the log into the file and cut it, as far as readers allow. After the answers: nobody waits for it."""
        try:
            self._db.execute(f"PRAGMA busy_timeout = {round(wait_seconds * 1000)}")
            ((busy, _, _),) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._db.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")
            self._checkpoint_at = CHECKPOINT_BYTES + (os.stat(self._wal).st_size if busy else 0)
        except (sqlite3.Error, OSError) as error:
            self._trouble = self._judge(error)


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 when the error is not SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
