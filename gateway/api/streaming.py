"""A body that is sent as it comes, whole or one range of it, in constant memory.

Law: a reader that has gone away, or takes nothing any more, costs nothing further: what is read from is given back at
once. A body that breaks off is never ended as if it were whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from litestar.types import Receive, Scope, Send

from gateway.api.answers import MORE_HEADERS, Answer, Header, header

log = structlog.get_logger(__name__)

STALL_SECONDS = 300.0  # a reader that takes nothing for so long has gone, whatever its connection says; ranges resume
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class BrokeOff(Exception):
    """What is read from ended before its end."""


class Span(tuple[int | None, int | None]):
    """One range as it was asked: (first, last), (first, None) or (None, count from the end)."""

    __slots__ = ()

    def within(self, size: int) -> tuple[int, int] | None:
        """First byte and the one after the last, in a file of `size`; None when nothing of it is there."""
        first, last = self
        if first is None:
            first, last = max(size - (last or 0), 0), None
        end = size if last is None else min(last + 1, size)
        return (first, end) if first < end else None

    def __str__(self) -> str:
        first, last = ("" if bound is None else str(bound) for bound in self)
        return f"bytes={first}-{last}"


def asked_range(scope: Scope, *, etag: str) -> Span | None:
    """The one range that is asked for. Several, or a word that is none, is answered with the whole, as RFC 9110 has
    it; so is a range of another file than ours (If-Range)."""
    text = header(scope, b"range")
    if text is None or header(scope, b"if-range") not in (None, etag):
        return None
    found = _RANGE.fullmatch(text.strip().lower())
    if found is None or not (found[1] or found[2]):
        return None
    first, last = (int(bound) if bound else None for bound in found.groups())
    if first is not None and last is not None and last < first:
        return None
    return Span((first, last))


def is_known(scope: Scope, *, etag: str) -> bool:
    """Whether the reader has this very file already (If-None-Match)."""
    text = header(scope, b"if-none-match")
    if text is None:
        return False
    return text.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in text.split(",")}


class Stream(Answer):
    """An answer whose body is sent as it comes, in pieces of which none is empty. `close` gives back what it is read
    from, in every case."""

    __slots__ = ("_close", "_pieces")

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        status: int,
        headers: list[Header],
        length: int | None,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(b"", status=status, headers=headers)
        self.headers = [pair for pair in self.headers if pair[0] != b"content-length"]
        if length is not None:
            self.headers.append((b"content-length", b"%d" % length))
        self._pieces = pieces
        self._close = close

    def pieces(self) -> AsyncIterator[bytes]:
        """The body, for whoever takes it in the place of a client, and `close`s it."""
        return self._pieces

    async def close(self) -> None:
        await self._close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hung_up = asyncio.ensure_future(_hung_up(receive))
        try:
            headers = [*self.headers, *scope[MORE_HEADERS]] if MORE_HEADERS in scope else self.headers  # type: ignore[literal-required]
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            if scope["method"] != "HEAD":  # type: ignore[typeddict-item]
                while piece := await self._next(hung_up):
                    async with asyncio.timeout(STALL_SECONDS):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                if hung_up.done():
                    return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (BrokeOff, OSError) as error:
            # the status has left already: all that is left to tell the truth is a body that ends short
            log.warning("content.broke_off", path=scope["path"][:200], error=type(error).__name__)
            raise
        finally:
            hung_up.cancel()
            await self._close()

    async def _next(self, hung_up: asyncio.Future[None]) -> bytes:
        """The next piece; nothing at the end, and as soon as the reader has gone, however long a piece is in coming."""
        step: asyncio.Future[bytes] = asyncio.ensure_future(anext(self._pieces, b""))
        either: set[asyncio.Future[Any]] = {step, hung_up}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return await step if not hung_up.done() else b""
        finally:
            if not step.done():
                step.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await step


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
