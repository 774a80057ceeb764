"""A load generator that costs little itself: keep-alive connections over bare sockets, one request out on each.

Law: an answer that is not a 200 ends the load with its text: a figure over refused requests is no figure.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import cast

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


async def send(port: int, requests: Iterable[bytes], *, connections: int) -> list[bytes]:
    """Send them all, over so many connections at once. The bodies of the answers, in the order of their arrival.
    Raises NotAnswered."""
    loop = asyncio.get_running_loop()
    left, bodies = iter(requests), list[bytes]()
    lines = [_Line(left, bodies, loop.create_future()) for _ in range(connections)]
    for line in lines:
        await loop.create_connection(lambda line=line: line, "127.0.0.1", port)  # type: ignore[misc]
    try:
        await asyncio.gather(*(line.done for line in lines))
    finally:
        for line in lines:
            line.close()
    return bodies


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, left: Iterator[bytes], bodies: list[bytes], done: asyncio.Future[None]) -> None:
        self.done = done
        self._left = left
        self._bodies = bodies
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

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
        request = next(self._left, None)
        if request is not None:
            self._transport.write(request)
        elif not self.done.done():
            self.done.set_result(None)

    def _fail(self, what: str) -> None:
        if not self.done.done():
            self.done.set_exception(NotAnswered(what))
