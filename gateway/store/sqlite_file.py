"""One SQLite file: its address, its lock, its connections and its migrations.

Law: one process holds the file. SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at the
same moment (sqlite.org/wal.html, "The WAL-Reset Bug", fixed 2026-03-13). We are safe with older ones, because only one
connection ever does either: the writer's. Readers are opened read-only and after it, closed before it, automatic
checkpoints are off, and the lock file keeps a second process out.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from gateway.store.spec import BadStoreUrl, StoreInUse, StoreTooNew, StoreUnavailable

OLDEST = (3, 37, 0)  # STRICT tables
BUSY_SECONDS = 5.0  # how long a write waits for an operator's own sqlite3 shell to let go of the file

_PREFIX = "sqlite:///"
MIGRATIONS = Path(__file__).parent / "migrations" / "sqlite"
_MIGRATION_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")


def path_of(url: str) -> Path:
    """The file that a url names: `sqlite:///relative.db` or `sqlite:////absolute.db`, links resolved.
    Raises BadStoreUrl."""
    name = url.removeprefix(_PREFIX)
    if name == url or not name or name.endswith("/"):
        raise BadStoreUrl(f"{url!r} names no file; write sqlite:///relative.db or sqlite:////absolute/path.db")
    if name.startswith((":", "file:")) or "?" in name:
        raise BadStoreUrl(
            f"{url!r} is not supported: jobs must survive a restart, so the store is a plain file on disk"
        )
    path = Path(os.path.realpath(name))
    if path.is_dir():
        raise BadStoreUrl(f"{path} is a folder; the store is a file")
    return path


def socket_path(path: Path) -> Path:
    """Where the process that holds the file listens for the command line."""
    return path.with_name(path.name + ".sock")


class FileLock:
    """An advisory lock on `<file>.lock`, given back by the kernel when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_name(path.name + ".lock")
        self._fd = -1

    def take(self) -> None:
        """Raises StoreInUse when another process, or another store in this one, holds it."""
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(fd, 32).decode("ascii", "replace").strip()
            os.close(fd)
            pid = int(text) if text.isdigit() else None
            raise StoreInUse(
                f"{self._path} is in use by process {pid or 'unknown'}. A store has one owner: stop that process, or "
                f"let the command go through its admin socket {socket_path(self._path)}",
                pid=pid,
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def give_back(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def create(path: Path) -> None:
    """Make the file, and its folder, for our eyes only, when they are not there. SQLite gives its WAL the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a crash may not take the name away again
        finally:
            os.close(folder)


def connect_writer(path: Path, migrations: Path = MIGRATIONS) -> sqlite3.Connection:
    """The one connection that writes, its schema brought forward to the newest of `migrations`: WAL, an fsync before
    every commit returns, checkpoints only when asked for. Raises StoreTooNew for a schema beyond that, StoreUnavailable
    for a file that is not ours (and leaves that as it is)."""
    db = _connect(path, mode="rw")
    try:
        known = _known(migrations)
        stands = _stands(db, path, newest=max(known))
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailable(
                f"{path} cannot use a write-ahead log (journal mode {mode}): is it on a network disk?"
            )
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync there does not reach the platter
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA secure_delete = ON")  # what was erased is written over; what page moves leave, see `compact`
        for number in sorted(known):
            if number > stands:
                _migrate(db, number, known[number])
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read. Open it after the writer, close it before."""
    db = _connect(path, mode="ro")
    db.execute("PRAGMA query_only = ON")
    db.execute("SELECT MAX(number) FROM filmgate_migrations").fetchall()  # SQLite opens the log at the first read: now
    return db


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    # Threads take turns on it (opened on one, used on one, closed on one), never at the same time.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def _known(migrations: Path) -> dict[int, Path]:
    return {int(match[1]): file for file in migrations.iterdir() if (match := _MIGRATION_NAME.match(file.name))}


def _stands(db: sqlite3.Connection, path: Path, *, newest: int) -> int:
    """The number of the last migration that this file has seen; 0 for an empty one."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    if not tables:
        return 0
    if "filmgate_migrations" not in tables:
        raise StoreUnavailable(f"{path} is another program's database; name a file of its own for the store")
    ((stands,),) = db.execute("SELECT MAX(number) FROM filmgate_migrations").fetchall()
    if stands > newest:
        raise StoreTooNew(
            f"{path} was written by a newer Filmgate (schema {stands}; this one knows {newest}). "
            "Run that version, or go back to a copy of the store from before the upgrade"
        )
    return int(stands)


def _migrate(db: sqlite3.Connection, number: int, file: Path) -> None:
    """One migration and its record, in one transaction."""
    try:
        db.executescript(f"BEGIN IMMEDIATE;\n{file.read_text(encoding='utf-8')}")
        db.execute("INSERT INTO filmgate_migrations VALUES (?, ?, ?)", (number, file.stem, time.time_ns() // 1000))
        db.execute("COMMIT")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
