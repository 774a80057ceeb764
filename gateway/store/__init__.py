"""Everything durable, and the live view of it. `connect` is the door; `spec` says what stands behind it."""

from __future__ import annotations

from pathlib import Path

from gateway.store import sqlite_file
from gateway.store.spec import BadStoreUrl, Store
from gateway.store.sqlite import SqliteStore


def connect(url: str) -> Store:
    """The store that a url names, not yet opened. Raises BadStoreUrl."""
    _check(url)
    return SqliteStore(url)


def admin_socket(url: str) -> Path:
    """Where the owner of this store listens for the command line. Raises BadStoreUrl."""
    _check(url)
    return sqlite_file.socket_path(sqlite_file.path_of(url))


def files_folder(url: str) -> Path:
    """Where files that belong to this store are kept (pictures on their way): beside it. Raises BadStoreUrl."""
    _check(url)
    path = sqlite_file.path_of(url)
    return path.with_name(path.name + ".files")


def _check(url: str) -> None:
    if not url.startswith("sqlite:"):
        raise BadStoreUrl(f"{url!r} names no store that this version knows; write sqlite:///filmgate.db")
