"""A vendor's file host that makes its bytes as it sends them: any size, any range, no file and no memory.

The bytes at a place depend on the place alone, so a reader of any part can be checked without a copy to compare with.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import struct
from collections.abc import AsyncIterator, Iterator

BLOCK_BYTES = 64 << 10
_FILLING = random.Random(7).randbytes(BLOCK_BYTES - 8)
_SIZE = re.compile(rb"GET /(\d+)\.mp4 ")
_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d*)\r\n", re.IGNORECASE)


def blocks(first: int, end: int) -> Iterator[bytes]:
    """The bytes from `first` up to `end`: 64 KB blocks, each beginning with its own number."""
    number, skip = divmod(first, BLOCK_BYTES)
    while first < end:
        block = (struct.pack(">Q", number) + _FILLING)[skip : skip + end - first]
        yield block
        first += len(block)
        number, skip = number + 1, 0


def sha256_of(first: int, end: int) -> str:
    """Of the same bytes, in hex."""
    digest = hashlib.sha256()
    for block in blocks(first, end):
        digest.update(block)
    return digest.hexdigest()


class FilmHost:
    """At `/<bytes>.mp4` a film of so many bytes. `ends` says at which byte a connection is cut; None: nowhere."""

    def __init__(self) -> None:
        self.ends: int | None = None
        self.gone = False
        self.requests = 0
        self.open = 0  # connections that are being answered now
        self.idle = asyncio.Event()  # none is
        self.sent = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.idle.clear()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._one(await reader.readuntil(b"\r\n\r\n"), writer)
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()
            writer.close()

    async def _one(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        if self.gone:
            writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            return
        named = _SIZE.match(head)
        size = int(named[1]) if named else 0
        first, end, status = 0, size, "200 OK"
        told = "content-type: video/mp4\r\naccept-ranges: bytes\r\n"
        if asked := _RANGE.search(head):
            first, end = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
            status = "206 Partial Content"
            told += f"content-range: bytes {first}-{end - 1}/{size}\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{told}content-length: {end - first}\r\n\r\n".encode())
        for block in blocks(first, end):
            if self.ends is not None and first >= self.ends:
                writer.close()
                raise ConnectionResetError
            writer.write(block)
            await writer.drain()
            first += len(block)
            self.sent += len(block)


@contextlib.asynccontextmanager
async def hosting() -> AsyncIterator[tuple[FilmHost, str]]:
    """A host on a free port of loopback, and its address."""
    host = FilmHost()
    server = await asyncio.start_server(host.answer, "127.0.0.1", 0, limit=1 << 16)
    port = server.sockets[0].getsockname()[1]
    try:
        yield host, f"http://127.0.0.1:{port}"
    finally:
        server.close()
