"""Clips kept by us, in an object store: a folder, S3, Google Cloud Storage or Azure, by the address of it.

Laws. An object is there whole or not at all. What is put is hashed on its way, and nothing larger than a piece is ever
in memory. Credentials are read by the library itself, from the environment that its makers documented
(AWS_ACCESS_KEY_ID, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_KEY …), and from nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

SCHEMES = ("file", "s3", "gs", "az")
PART_BYTES = 5 << 20  # the least that S3 takes as one part of several
PARTS_AT_ONCE = 2
READ_BYTES = 1 << 20  # one request to the store; a slow reader then holds no request open
PIECE_BYTES = 256 << 10
_RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}


class BadArchive(Exception):
    """The configured address names no archive that can be used. The message says what to do."""


class ArchiveError(Exception):
    """The archive could not do it just now."""


class NotThere(ArchiveError):
    """It has no such object."""


class Stored(NamedTuple):
    """What was put."""

    size_bytes: int
    sha256: str


class Archive:
    """One object store. Names are relative to its address."""

    def __init__(self, url: str) -> None:
        """Raises BadArchive. No network is used before the first object."""
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise BadArchive(f"[archive] url: {url!r} names no store; it begins with one of {known}")
        self._folder: Path | None = None
        options: dict[str, Any] = {"retry_config": _RETRIES}
        if parts.scheme == "file":
            self._folder = _folder(url, parts.netloc, unquote(parts.path))
            options = {}
        try:
            self._store = from_url(url, **options)
        except (BaseError, ValueError, OSError) as error:
            raise BadArchive(f"[archive] url: {url!r} cannot be used: {_first_line(error)}") from error

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> Stored:
        """Keep what comes, whole or, when anything fails on either side, not at all. Raises ArchiveError, and whatever
        `pieces` raises. To stop a put, let `pieces` raise."""
        size, digest = 0, hashlib.sha256()
        broke: Exception | None = None

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size, broke
            try:
                async for piece in pieces:
                    size += len(piece)
                    digest.update(piece)
                    yield piece
            except Exception as error:
                broke = error
                raise

        try:
            await obstore.put_async(
                self._store, name, counted(), use_multipart=True, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder, name)
        except Exception as error:
            if broke is not None:
                raise broke from None
            if isinstance(error, BaseError | OSError):
                raise ArchiveError(_first_line(error)) from error
            raise
        return Stored(size, digest.hexdigest())

    async def read(self, name: str, first: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `first` up to `end`, piece by piece. Raises NotThere, ArchiveError."""
        while first < end:
            try:
                data = await obstore.get_range_async(self._store, name, start=first, end=min(first + READ_BYTES, end))
            except FileNotFoundError as error:
                raise NotThere("the archive has no such object") from error
            except (BaseError, OSError) as error:
                raise ArchiveError(_first_line(error)) from error
            view = memoryview(data)
            if not view.nbytes:
                raise ArchiveError("the object is shorter than it was when it was put")
            first += view.nbytes
            for start in range(0, view.nbytes, PIECE_BYTES):
                yield bytes(view[start : start + PIECE_BYTES])

    async def remove(self, name: str) -> None:
        """Also when it is not there. Raises ArchiveError."""
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError:
            pass
        except (BaseError, OSError) as error:
            raise ArchiveError(_first_line(error)) from error
        if self._folder is not None:
            await asyncio.to_thread(_remove_halves, self._folder, name)


def _folder(url: str, host: str, path: str) -> Path:
    """The folder of a `file:` address, made for our eyes only where it is not there."""
    if host not in ("", "localhost") or not path.startswith("/"):
        raise BadArchive(f"[archive] url: {url!r} needs three slashes and a whole path: file:///var/lib/filmgate/clips")
    try:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadArchive(f"[archive] url: {path} cannot be made: {error.strerror}") from error
    return Path(path)


def _sync(folder: Path, name: str) -> None:
    """Make a file and its name durable: the library leaves that to the kernel."""
    file = folder / name
    for path, flags in ((file, os.O_RDONLY), (file.parent, os.O_RDONLY)):
        handle = os.open(path, flags)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_halves(folder: Path, name: str) -> None:
    """What a crash in the middle of a put has left: the library's own temporary names."""
    file = folder / name
    for half in file.parent.glob(f"{file.name}#*"):
        half.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    """The library's errors carry pages of debugging after their first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
