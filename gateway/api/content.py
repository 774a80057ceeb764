"""`GET /v1/videos/{id}/content`: the clip itself, streamed in constant memory, whole or one range of it.

Laws. A vendor's address is a stranger's: it is opened through the guard, by us, and never shown. The type that is
answered is ours, whatever the vendor's server calls it; a browser is told to save the file and to guess nothing. What
the archive has is read from there; a vendor is asked for a new address only once its old one has expired.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import structlog
from litestar import Request, route
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms, variants
from gateway.api.answers import Answer, Header
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation, Query
from gateway.api.problems import Problem
from gateway.api.streaming import BrokeOff, Span, Stream, asked_range, is_known
from gateway.api.videos import own_job
from gateway.archive import Archive, ArchiveError, NotThere
from gateway.derive import VARIANTS, Clip, Variant
from gateway.jobs import Job, JobState
from gateway.store.kept import Archived
from providers.guard import UrlRefused
from providers.spec import Video

log = structlog.get_logger(__name__)

PIECE_BYTES = 256 << 10
_SUFFIXES = {"video/mp4": "mp4", "video/webm": "webm", "video/quicktime": "mov"}
_GONE = frozenset({401, 403, 404, 410})  # what vendors' file hosts answer once a link has expired


QUERY = (
    Query("Range", {"type": "string"}, "One range of bytes; several are answered with the whole.", place="header"),
    Query("If-None-Match", {"type": "string"}, "An ETag told before: 304 while it is the same.", place="header"),
)
OPERATIONS = tuple(
    Operation(
        method,
        "/v1/videos/{video_id}/content",
        f"{method}VideoContent",
        "The clip itself, whole or one range of it. 410 once nobody has it any more.",
        "video/mp4",
        query=QUERY,
        fails=(404, 409, 410, 416, 502),
        also=(206, 304),
    )
    for method in ("get", "head")
)


class _Expired(Exception):
    """The vendor's address leads nowhere any more."""


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)

    @route("/v1/videos/{video_id:str}/content", http_method=["GET", "HEAD"], status_code=200)
    async def content(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(rooms.store, key, request.path_params["video_id"])
        return await deliver(rooms, job, request)

    return [content]


async def deliver(rooms: Rooms, job: Job, request: Request[Any, Any, Any]) -> Answer:
    """The clip of `job` as this request asks for it, whoever may see it. Raises Problem."""
    variant = _variant(request)
    video = finished(job)
    etag = f'"{job.id}"' if variant is None else f'"{job.id}-{variant.word}"'
    headers = _headers(job, video, variant, etag=etag)
    if is_known(request.scope, etag=etag):
        return Answer(b"", status=304, headers=[pair for pair in headers if pair[0] in (b"etag", b"cache-control")])
    span = asked_range(request.scope, etag=etag)
    reads = request.scope["method"] != "HEAD"
    if variant is not None:
        return await _from_file(await variants.picture(rooms, job, variant, clip_of(rooms, job)), span, headers)
    return await _whole(rooms, job, video, span, headers, reads=reads)


def clip_of(rooms: Rooms, job: Job) -> Clip:
    """What a reader of the job's content gets, as a file of this machine. Raises Problem, when it is opened."""
    video = finished(job)

    def read() -> Awaitable[Answer]:
        return _whole(rooms, job, video, None, [], reads=True)

    return variants.as_file(rooms, read, path=video.path if job.spec.extends is None else None)


def _variant(request: Request[Any, Any, Any]) -> Variant | None:
    """None for the clip itself. Raises Problem 400."""
    word = request.query_params.get("variant", "video")
    if word == "video":
        return None
    if word not in VARIANTS:
        message = f"There is no variant {str(word)[:40]!r} of a clip; there are video, {', '.join(VARIANTS)}."
        raise Problem(400, "unsupported_variant", message, param="variant")
    return VARIANTS[word]


async def _whole(
    rooms: Rooms, job: Job, video: Video, span: Span | None, headers: list[Header], *, reads: bool
) -> Answer:
    """What the job made, joined to what it continues. Raises Problem."""
    if rooms.archive is not None:
        kept = await rooms.store.files.of(job.id)
        if kept is not None and kept.archived is not None:
            with contextlib.suppress(ArchiveError):
                return await _from_archive(rooms.archive, kept.archived, span, headers, reads=reads)
    if job.spec.extends is None:
        return await _part(rooms, job, video, span, headers, reads=reads)

    def read() -> Awaitable[Answer]:
        return _part(rooms, job, video, None, [], reads=True)

    part = variants.as_file(rooms, read, path=video.path)
    return await _from_file(await variants.joined(rooms, job, part), span, headers)


async def _part(
    rooms: Rooms, job: Job, video: Video, span: Span | None, headers: list[Header], *, reads: bool
) -> Answer:
    """What the job itself made, from this machine or from its vendor. Raises Problem."""
    if video.path is not None:
        return await _from_file(Path(video.path), span, headers)
    try:
        return await _from_address(rooms, video.url or "", span, headers, reads=reads)
    except _Expired:
        log.info("content.expired", job=job.id)
    if await rooms.store.live.refresh(job.id):
        fresh = finished(await rooms.store.job(job.id) or job)
        with contextlib.suppress(_Expired):
            return await _from_address(rooms, fresh.url or "", span, headers, reads=reads)
    raise _gone()


def finished(job: Job) -> Video:
    """The clip of a completed job. Raises Problem 409 or 410."""
    if not job.state.is_terminal:
        message = f"The video is not ready: it is {'queued' if job.state is JobState.QUEUED else 'being made'}."
        raise Problem(409, "not_ready", message)
    if job.state is not JobState.COMPLETED:
        raise Problem(409, "video_failed", "The video was not made, so it has no content; its error says why.")
    if job.clip_erased_us is not None:
        raise Problem(410, "gone", "The clip is no longer there: it was erased when its time was over.")
    if not job.videos:
        raise _gone()
    return job.videos[0]


def _headers(job: Job, video: Video, variant: Variant | None, *, etag: str) -> list[Header]:
    kind = video.content_type if video.content_type in _SUFFIXES and job.spec.extends is None else "video/mp4"
    suffix = _SUFFIXES[kind]
    if variant is not None:
        kind, suffix = variant.content_type, variant.suffix
    return [
        (b"content-type", kind.encode()),
        (b"content-disposition", f'attachment; filename="{job.id}.{suffix}"'.encode()),
        # kept by the reader alone, and asked about each time: an erased clip is not to be seen from a cache
        (b"cache-control", b"private, no-cache"),
        (b"etag", etag.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]


def _bounds(span: Span | None, size: int, headers: list[Header]) -> tuple[int, int]:
    """What is sent of a file of `size` bytes, and its headers. Raises Problem 416."""
    bounds = (0, size) if span is None else span.within(size)
    if bounds is None:
        raise _unsatisfiable(f"bytes */{size}")
    headers.append((b"accept-ranges", b"bytes"))
    if span is not None:
        headers.append((b"content-range", f"bytes {bounds[0]}-{bounds[1] - 1}/{size}".encode()))
    return bounds


# --- from the archive -------------------------------------------------------------------------------------------------


async def _from_archive(
    archive: Archive, archived: Archived, span: Span | None, headers: list[Header], *, reads: bool
) -> Answer:
    """Raises ArchiveError while another source can still be tried."""
    told: list[Header] = [*headers]
    first, end = _bounds(span, archived.size_bytes, told)
    digest = base64.b64encode(bytes.fromhex(archived.sha256)).decode()
    told.append((b"repr-digest", f"sha-256=:{digest}:".encode()))  # RFC 9530: of the whole clip
    pieces = archive.read(archived.object, first, end)
    try:
        begun = await anext(pieces, b"") if reads else b""
    except ArchiveError as error:
        missing = isinstance(error, NotThere)
        log.warning("archive.unread", object=archived.object, missing=missing, said=str(error))
        raise

    async def rest() -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        except ArchiveError as error:
            raise BrokeOff(str(error)) from error

    return Stream(
        _with(begun, rest()),
        status=200 if span is None else 206,
        headers=told,
        length=end - first,
        close=contextlib.AsyncExitStack().aclose,
    )


# --- from this machine ------------------------------------------------------------------------------------------------


async def _from_file(path: Path, span: Span | None, headers: list[Header]) -> Answer:
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise _gone() from error
    with contextlib.ExitStack() as undo:
        undo.callback(file.close)
        first, end = _bounds(span, await asyncio.to_thread(file.seek, 0, 2), headers)
        await asyncio.to_thread(file.seek, first)
        undo.pop_all()

    async def close() -> None:
        file.close()

    return Stream(
        _pieces(file, end - first),
        status=200 if span is None else 206,
        headers=headers,
        length=end - first,
        close=close,
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
    """Raises _Expired, Problem."""
    told: list[Header] = [*headers]
    async with contextlib.AsyncExitStack() as stack:
        asked = {"range": str(span)} if span is not None else {}
        try:
            response = await stack.enter_async_context(rooms.transport.stream(url, headers=asked))
        except (UrlRefused, httpx.HTTPError, ValueError) as error:
            log.warning("content.unreachable", error=type(error).__name__)
            raise _unreachable() from error
        status = response.status_code
        if status in _GONE:
            raise _Expired
        if status == 416:
            raise _unsatisfiable(response.headers.get("content-range", "bytes */*"))
        if status not in (200, 206):
            log.warning("content.unreachable", status=status)
            raise _unreachable()
        if status == 206:
            told.append((b"content-range", response.headers.get("content-range", "").encode("latin-1")))
        if status == 206 or "bytes" in response.headers.get("accept-ranges", ""):
            told.append((b"accept-ranges", b"bytes"))
        length = response.headers.get("content-length", "")
        pieces = _of_vendor(response)
        try:  # a vendor that breaks off at once can still be answered with a status that says so
            begun = await anext(pieces, b"") if reads else b""
        except BrokeOff as error:
            log.warning("content.unreachable", error=str(error))
            raise _unreachable() from error
        kept = stack.pop_all()
        return Stream(
            _with(begun, pieces),
            status=status,
            headers=told,
            length=int(length) if length.isdigit() else None,
            close=kept.aclose,
        )
    raise AssertionError("an exit stack swallows nothing")


async def _of_vendor(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_raw(PIECE_BYTES):
            yield piece
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise BrokeOff(type(error).__name__) from error


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
