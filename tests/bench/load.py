"""A load generator that costs little itself: keep-alive connections over bare sockets, one request out on each.

Law: an answer that is not a 200 ends the load with its text: a figure over refused requests is no figure.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import Self, cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


class NotAnswered(Exception):
    """A request came to something else than a 200. The message is what came."""


def post(path: str, body: bytes, *, key: str) -> bytes:
    """A whole request that sends JSON."""
    return _head("POST", path, key, f"content-type: application/json\r\ncontent-length: {len(body)}\r\n") + body


def get(path: str, *, key: str) -> bytes:
    """A whole request that reads."""
    return _head("GET", path, key, "")


def _head(method: str, path: str, key: str, more: str) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        f"accept: application/json\r\nuser-agent: bench\r\n{more}\r\n"
    ).encode()


class Lines:
    """Keep-alive connections to one server, for as long as the block lasts."""

    def __init__(self, port: int, *, connections: int) -> None:
        self._port = port
        self._lines = [_Line() for _ in range(connections)]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for line in self._lines:
            await loop.create_connection(lambda line=line: line, "127.0.0.1", self._port)  # type: ignore[misc]
        return self

    async def __aexit__(self, *_: object) -> None:
        for line in self._lines:
            line.close()

    async def send(self, requests: Iterable[bytes]) -> list[bytes]:
        """Send them all, one at a time on each connection. The bodies of the answers, in the order of their arrival.
        Raises NotAnswered."""
        left, bodies = iter(requests), list[bytes]()
        await asyncio.gather(*(line.work(left, bodies) for line in self._lines))
        return bodies


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._left: Iterator[bytes] = iter(())
        self._bodies: list[bytes] = []
        self._done: asyncio.Future[None] | None = None

    def work(self, left: Iterator[bytes], bodies: list[bytes]) -> asyncio.Future[None]:
        """Take requests until none is left."""
        self._left, self._bodies = left, bodies
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        return self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(_END)
        length = _LENGTH.search(head)
        if not end or (length is not None and len(rest) < int(length[1])):
            return
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            self._fail(self._buffer[:2000].decode("utf-8", "replace"))
            return
        self._buffer = b""
        self._bodies.append(rest)
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the server hung up: {error or 'without a word'}")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        assert self._transport is not None
        assert self._done is not None
        if self._transport.is_closing():
            self._fail("the server had hung up")
            return
        request = next(self._left, None)
        if request is not None:
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)

    def _fail(self, what: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(NotAnswered(what))
