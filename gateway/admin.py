"""The admin socket: how the command line reaches the store of a running server.

Law: a store has one owner. While a server holds it, commands go through this Unix socket beside it (mode 0600: whoever
may open the store may open this); only when nobody listens does the command line open the store itself. One JSON value
a line, request and reply. A key's text passes here once and is never logged.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from gateway.admin_words import (
    Attempted,
    Changed,
    Checked,
    CheckTotals,
    Command,
    Created,
    CreateKey,
    LimitKey,
    ListAttempts,
    Listed,
    ListKeys,
    Ping,
    Pong,
    Refused,
    Reply,
    Reported,
    ReportUsage,
    Revoked,
    RevokeKey,
    RotateKey,
    answer,
    command_of,
    encode,
    reply_of,
)
from gateway.store import admin_socket, connect
from gateway.store.spec import Store, StoreInUse

R = TypeVar("R")

LONGEST_LINE = 64 << 10  # bytes of a request
LONGEST_ADDRESS = 100  # bytes; a Unix socket's address holds 108 on Linux, 104 elsewhere
SILENCE_SECONDS = 10.0

__all__ = [
    "AdminError",
    "AdminServer",
    "Attempted",
    "Changed",
    "CheckTotals",
    "Checked",
    "Command",
    "CreateKey",
    "Created",
    "LimitKey",
    "ListAttempts",
    "ListKeys",
    "Listed",
    "NobodyListens",
    "Ping",
    "Pong",
    "Refused",
    "Reply",
    "ReportUsage",
    "Reported",
    "RevokeKey",
    "Revoked",
    "RotateKey",
    "answer",
    "call",
    "serve_admin",
    "with_store",
]


class AdminError(Exception):
    """The command was not done. `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class NobodyListens(AdminError):
    """No process answers at this socket."""


# --- the server's end -------------------------------------------------------------------------------------------------


class AdminServer:
    """Listens until it is closed. Only for whoever holds the store's lock: the socket's name is then ours alone."""

    def __init__(self, path: Path, store: Store) -> None:
        self._path = path
        self._store = store
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        listener = _listener(self._path)
        self._server = await asyncio.start_unix_server(self._talk, sock=listener, limit=LONGEST_LINE)

    async def close(self) -> None:
        """Stop listening, hang up, take the socket away."""
        if self._server is None:
            return
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)
        self._server = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            while (line := await _next_line(reader)) is not None:
                writer.write(encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # the other side has gone; nobody is left to tell
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _answer(self, line: bytes) -> Reply:
        try:
            command = command_of(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Refused(code="invalid_request", message=f"not a command: {error}")
        return await answer(self._store, command)


async def serve_admin(path: Path, store: Store) -> AdminServer:
    """Listen at `path` for commands on `store`, which this process has open. Raises AdminError."""
    server = AdminServer(path, store)
    await server.start()
    return server


async def _next_line(reader: asyncio.StreamReader) -> bytes | None:
    """The next whole line; None when the other side has ended, is silent for too long, or sends too much."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await reader.readuntil(b"\n")
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None


def _listener(path: Path) -> socket.socket:
    """A bound socket that its owner alone may connect to."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AdminError("not_a_socket", f"{path} exists and is no socket: move it away")
        path.unlink()  # left behind by a process that died: who holds the store's lock owns this name
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux: the name never appears with a wider mode
        with _address(path) as address:
            listener.bind(address)
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener


# --- the command line's end -------------------------------------------------------------------------------------------


def with_store(url: str, command: Command[R]) -> R:
    """Do a command on the store of this url: through the server that has it open, else by opening it here, now.
    Blocks. Raises AdminError when it was refused, StoreError when the store cannot be opened."""
    path = admin_socket(url)
    with suppress(NobodyListens):
        return call(path, command)
    try:
        return _result(command, asyncio.run(_alone(url, command)))
    except StoreInUse:
        with suppress(NobodyListens):
            return call(path, command)  # a server has started between the two looks
        raise


def call(path: Path, command: Command[R]) -> R:
    """Ask the server at this socket. Blocks. Raises NobodyListens, or AdminError when it refuses or does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SILENCE_SECONDS)
        try:
            with _address(path) as address:
                connection.connect(address)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NobodyListens("nobody_listens", f"no server listens at {path}") from None
        except PermissionError:
            raise AdminError("forbidden", f"{path} belongs to another user: run this as the server's user") from None
        except OSError as error:
            raise AdminError("no_answer", f"the server at {path} could not be reached: {error}") from None
        try:
            connection.sendall(encode(command) + b"\n")
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except OSError as error:
            raise AdminError("no_answer", f"the server at {path} did not answer: {error}") from None
    if not line.endswith(b"\n"):
        raise AdminError("no_answer", f"the server at {path} hung up before it answered")
    return _result(command, reply_of(line))


def _result(command: Command[R], reply: Reply) -> R:
    if isinstance(reply, Refused):
        raise AdminError(reply.code, reply.message)
    return cast(R, reply)  # each command has one kind of reply: see `answer`


async def _alone(url: str, command: Command[Any]) -> Reply:
    store = connect(url)
    await store.open()
    try:
        return await answer(store, command)
    finally:
        await store.close()


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """An address for the socket at `path`, short enough for the kernel however deep the folder lies: Linux lets an
    open folder stand for its path. The socket itself stays where the path says."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        address = f"/proc/self/fd/{folder}/{path.name}"
        if len(os.fsencode(address)) > LONGEST_ADDRESS or not os.path.isdir("/proc/self/fd"):
            raise AdminError("path_too_long", f"{path} is too long for a socket: give the store a shorter path")
        yield address
    finally:
        os.close(folder)
