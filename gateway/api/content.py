"""`GET /v1/videos/{id}/content`: the clip itself, streamed in constant memory, whole or one range of it.

Law: a vendor's address is a stranger's: it is opened through the guard, by us, and never shown. The type that is
answered is ours, whatever the vendor's server calls it; a browser is told to save the file and to guess nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import structlog
from litestar import Request, route
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope, Send

from gateway.api import Rooms
from gateway.api.answers import Answer, Header, header
from gateway.api.auth import KeyRing
from gateway.api.problems import Problem
from gateway.api.videos import own_job
from gateway.jobs import Job, JobState
from providers.guard import UrlRefused
from providers.spec import Video

log = structlog.get_logger(__name__)

PIECE_BYTES = 256 << 10
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_SUFFIXES = {"video/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov"}
_GONE = frozenset({401, 403, 404, 410})  # what vendors' file hosts answer once a link has expired


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


class Stream(Answer):
    """An answer whose body is sent as it comes. `close` gives back what it is read from, in every case."""

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hung_up = asyncio.ensure_future(_hung_up(receive))
        try:
            await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
            if scope["method"] != "HEAD":  # type: ignore[typeddict-item]
                async for piece in self._pieces:
                    if hung_up.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (httpx.HTTPError, OSError) as error:
            # the status has left already: all that is left to tell the truth is a body that ends short
            log.warning("content.broke_off", path=scope["path"][:200], error=type(error).__name__)
            raise
        finally:
            hung_up.cancel()
            await self._close()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)

    @route("/v1/videos/{video_id:str}/content", http_method=["GET", "HEAD"], status_code=200)
    async def content(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(rooms.store, key, request.path_params["video_id"])
        variant = request.query_params.get("variant", "video")
        if variant != "video":
            message = f"There is no variant {str(variant)[:40]!r} of a clip yet; leave it out, or ask for 'video'."
            raise Problem(400, "unsupported_variant", message, param="variant")
        video = _finished(job)
        etag = f'"{job.id}"'
        span = asked_range(request.scope, etag=etag)
        headers = _headers(job, video, etag=etag)
        if video.path is not None:
            return await _from_file(Path(video.path), span, headers)
        return await _from_address(rooms, video.url or "", span, headers, reads=request.scope["method"] != "HEAD")

    return [content]


def _finished(job: Job) -> Video:
    """The clip of a completed job. Raises Problem 409 or 410."""
    if not job.state.is_terminal:
        message = f"The video is not ready: it is {'queued' if job.state is JobState.QUEUED else 'being made'}."
        raise Problem(409, "not_ready", message)
    if job.state is not JobState.COMPLETED:
        raise Problem(409, "video_failed", "The video was not made, so it has no content; its error says why.")
    if not job.videos:
        raise _gone()
    return job.videos[0]


def _headers(job: Job, video: Video, *, etag: str) -> list[Header]:
    kind = video.content_type if video.content_type in _SUFFIXES else "video/mp4"
    return [
        (b"content-type", kind.encode()),
        (b"content-disposition", f'attachment; filename="{job.id}.{_SUFFIXES[kind]}"'.encode()),
        (b"cache-control", b"private, max-age=3600"),
        (b"etag", etag.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]


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


# --- from this machine ------------------------------------------------------------------------------------------------


async def _from_file(path: Path, span: Span | None, headers: list[Header]) -> Answer:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise _gone() from error
    with contextlib.ExitStack() as undo:
        undo.callback(file.close)
        size = await asyncio.to_thread(file.seek, 0, 2)
        bounds = (0, size) if span is None else span.within(size)
        if bounds is None:
            raise _unsatisfiable(f"bytes */{size}")
        await asyncio.to_thread(file.seek, bounds[0])
        undo.pop_all()
    headers.append((b"accept-ranges", b"bytes"))
    if span is not None:
        headers.append((b"content-range", f"bytes {bounds[0]}-{bounds[1] - 1}/{size}".encode()))

    async def close() -> None:
        file.close()

    length = bounds[1] - bounds[0]
    return Stream(
        _pieces(file, length), status=200 if span is None else 206, headers=headers, length=length, close=close
    )


async def _pieces(file: BinaryIO, left: int) -> AsyncIterator[bytes]:
    while left > 0:
        piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, left))
        if not piece:
            raise OSError("the file became shorter while it was read")
        left -= len(piece)
        yield piece


# --- from a vendor ----------------------------------------------------------------------------------------------------


async def _from_address(rooms: Rooms, url: str, span: Span | None, headers: list[Header], *, reads: bool) -> Answer:
    async with contextlib.AsyncExitStack() as stack:
        asked = {"range": str(span)} if span is not None else {}
        try:
            response = await stack.enter_async_context(rooms.transport.stream(url, headers=asked))
        except (UrlRefused, httpx.HTTPError, ValueError) as error:
            log.warning("content.unreachable", error=type(error).__name__)
            raise _unreachable() from error
        status = response.status_code
        if status in _GONE:
            raise _gone()
        if status == 416:
            raise _unsatisfiable(response.headers.get("content-range", "bytes */*"))
        if status not in (200, 206):
            log.warning("content.unreachable", status=status)
            raise _unreachable()
        told = response.headers.get("content-range", "")
        if status == 206:
            headers.append((b"content-range", told.encode("latin-1")))
        if status == 206 or "bytes" in response.headers.get("accept-ranges", ""):
            headers.append((b"accept-ranges", b"bytes"))
        length = response.headers.get("content-length", "")
        pieces = response.aiter_raw(PIECE_BYTES)
        try:  # a vendor that breaks off at once can still be answered with a status that says so
            first = await anext(pieces, b"") if reads else b""
        except httpx.HTTPError as error:
            log.warning("content.unreachable", error=type(error).__name__)
            raise _unreachable() from error
        kept = stack.pop_all()
        return Stream(
            _with(first, pieces),
            status=status,
            headers=headers,
            length=int(length) if length.isdigit() else None,
            close=kept.aclose,
        )
    raise AssertionError("an exit stack swallows nothing")


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece


def _gone() -> Problem:
    return Problem(410, "gone", "The clip is no longer there: the backend that made it has dropped the file.")


def _unreachable() -> Problem:
    message = "The clip cannot be read from the backend that made it just now. Try again."
    return Problem(502, "content_unreachable", message, headers=[(b"retry-after", b"2")])


def _unsatisfiable(content_range: str) -> Problem:
    message = "The clip has no such range."
    return Problem(416, "range_not_satisfiable", message, headers=[(b"content-range", content_range.encode("latin-1"))])
