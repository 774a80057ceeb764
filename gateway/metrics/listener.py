"""The metrics' own door: a plain HTTP listener that knows one path.

Law: it answers `GET /metrics` and nothing else, without a key, so whoever can reach its port may read the figures.
A request's head is bounded in bytes and in time, a body is not read, and each connection answers once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

Page = Callable[[str], tuple[bytes, str]]

HEAD_BYTES, HEAD_SECONDS = 16 << 10, 10.0
PLAIN = "text/plain; charset=utf-8"


@contextlib.asynccontextmanager
async def listening(host: str, port: int, page: Page) -> AsyncIterator[None]:
    """Answers with `page` of the Accept header. Raises OSError where the port cannot be listened on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, page))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever it was got no answer and will ask again
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port, limit=HEAD_BYTES)
    try:
        yield
    finally:
        server.close()


def _answer(head: bytes, page: Page) -> bytes:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if path != "/metrics":
        return _reply("404 Not Found", PLAIN, b"There is nothing here but /metrics.\n")
    if method not in ("GET", "HEAD"):
        return _reply("405 Method Not Allowed", PLAIN, b"GET it.\n", "allow: GET, HEAD\r\n")
    fields = (line.partition(":") for line in lines)
    accept = ",".join(value.strip() for name, _, value in fields if name.strip().lower() == "accept")
    body, content_type = page(accept)
    return _reply("200 OK", content_type, body, without_body=method == "HEAD")


def _reply(status: str, content_type: str, body: bytes, more: str = "", *, without_body: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{more}connection: close"
    )
    return f"{head}\r\n\r\n".encode("latin-1") + (b"" if without_body else body)
