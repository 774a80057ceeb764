"""`GET /v1/events` and `GET /v1/videos/{id}/events`: what happens to a caller's jobs, as it happens (SSE).

Law: an event's id is its number in the store's sequence, so a client that was cut resumes by `Last-Event-ID`, after a
restart too, and meets each event once. The past is read from disk, the present comes from memory, and what both tell is
told once. A stream that does not keep up goes back to reading; one that takes nothing for half a minute is closed.
Progress has no id and may be missed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import structlog
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope, Send

from gateway.api import Rooms, view
from gateway.api.answers import Answer, Header, encode, header
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation, Query
from gateway.api.problems import Problem
from gateway.api.videos import own_job
from gateway.jobs import Job, JobEvent
from gateway.store.feed import Happened, Listener
from gateway.store.spec import Key, StoreUnavailable

log = structlog.get_logger(__name__)

SECOND = 1_000_000
BEAT_SECONDS = 15.0  # a silent stream says at least this often that it is there
SEND_SECONDS = 30.0  # so long a client may take nothing
RETRY_MS = 2000  # what a client that was cut waits before it comes again
PAGE = 100  # events of one read
MOST_STREAMS = 6000  # of all keys; the rest of the server's connections stays for requests
MOST_DIGITS = 18  # of an event's number

_TYPES = {
    JobEvent.ACCEPTED.value: "video.queued",
    JobEvent.ATTEMPT_STARTED.value: "video.in_progress",
    JobEvent.COMPLETED.value: "video.completed",
    JobEvent.FAILED.value: "video.failed",
    JobEvent.CANCELLED.value: "video.failed",
    JobEvent.EXPIRED.value: "video.failed",
}
_LAST = frozenset({"video.completed", "video.failed"})
_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # a proxy that keeps answers back until they are whole would keep these for ever
)
_RETRY = b"retry: %d\n" % RETRY_MS
_BEAT = b":\n"  # without an empty line: some clients take that for an event


class VideoEvent(msgspec.Struct, kw_only=True):
    """One event of a stream. `video` is as it stands when the event is sent, so at least as new as the event."""

    type: str  # video.queued | video.in_progress | video.progress | video.completed | video.failed
    sequence_number: int | None = None  # null: no durable event, but a figure (video.progress)
    created_at: int  # unix seconds
    attempt: str | None = None
    video: view.VideoView


class OpenedEvent(msgspec.Struct, kw_only=True):
    """The first event of a stream that begins now: resume after this number, and nothing is missed."""

    type: str = "stream.opened"
    sequence_number: int


_QUERY = (
    Query("after", {"type": "integer", "minimum": 0}, "Begin after the event of this number; 0: from the first."),
    Query("Last-Event-ID", {"type": "integer", "minimum": 0}, "The same, as browsers send it.", place="header"),
)
OPERATIONS = (
    Operation(
        "get",
        "/v1/events",
        "streamEvents",
        "What happens to all of your videos, as it happens; from now on, unless `after` says otherwise.",
        "text/event-stream",
        query=_QUERY,
        fails=(422,),
    ),
    Operation(
        "get",
        "/v1/videos/{video_id}/events",
        "streamVideoEvents",
        "What happened to one video and what happens next, until it has ended; 204 when nothing is left to tell.",
        "text/event-stream",
        query=_QUERY,
        fails=(422,),
        also=(204,),
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    store = rooms.store

    @get("/v1/events")
    async def all_events(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        after = _after(request)
        _must_have_room(rooms, key)
        return EventStream(rooms, key, after=after)

    @get("/v1/videos/{video_id:str}/events")
    async def video_events(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(store, key, request.path_params["video_id"])
        after = _after(request) or 0
        if job.state.is_terminal and not await store.happened(key.id, after=after, limit=1, job_id=job.id):
            return Answer(b"", status=204, headers=())  # which tells a browser's EventSource not to come again
        _must_have_room(rooms, key)
        return EventStream(rooms, key, after=after, job_id=job.id)

    return [all_events, video_events]


class EventStream(Answer):
    """An answer that goes on until the client leaves, the job has ended, the key is no longer good, or we go."""

    __slots__ = ("_after", "_job_id", "_key", "_rooms")

    def __init__(self, rooms: Rooms, key: Key, *, after: int | None, job_id: str | None = None) -> None:
        super().__init__(b"", headers=_HEADERS)
        self.headers = [pair for pair in self.headers if pair[0] != b"content-length"]
        self._rooms = rooms
        self._key = key
        self._after = after
        self._job_id = job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._rooms.store.live.feed.listen(self._key.id, self._job_id) as listener:
            hung_up = asyncio.ensure_future(_hung_up(receive, listener))
            try:
                await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
                await self._tell_all(listener, send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except TimeoutError:
                log.info("events.reader_stuck", key=self._key.id)
            except StoreUnavailable as error:  # it ends here; the client comes again, and is answered with a status
                log.warning("events.broke_off", said=str(error)[:200])
            finally:
                hung_up.cancel()

    async def _tell_all(self, listener: Listener, send: Send) -> None:
        """Tell what was and what comes, in order, each once. Returns when there is an end."""
        await _say(send, _RETRY)
        store, after = self._rooms.store, self._after
        if after is None:
            after = await store.last_happened(self._key.id)
            await _say(send, _frame(OpenedEvent(sequence_number=after), "stream.opened", after))
        loop = asyncio.get_running_loop()
        beat_at = loop.time() + BEAT_SECONDS
        behind = True
        while not listener.ended:
            if behind or listener.fell_behind:
                listener.catch_up()  # from here on its queue takes what comes after the read
                past = await store.happened(self._key.id, after=after, limit=PAGE, job_id=self._job_id)
                behind = len(past) == PAGE
                found: Any = past
            else:
                found = listener.take()
            for happened in found:
                if happened.seq <= after:
                    continue
                after = happened.seq
                frame = self._told(happened)
                if frame is not None:
                    await _say(send, frame)
                if listener.ended or (self._job_id is not None and _TYPES[happened.type] in _LAST):
                    return
            for job in listener.take_moved():
                if (frame := self._moved(job)) is not None:
                    await _say(send, frame)
            if loop.time() >= beat_at:
                if not self._key_is_good():
                    return
                await _say(send, _BEAT)
                beat_at = loop.time() + BEAT_SECONDS
            if not behind:
                await listener.wait(max(beat_at - loop.time(), 0.0))

    def _told(self, happened: Happened) -> bytes | None:
        """The event as it is sent; None for one of a video that was deleted."""
        live = self._rooms.store.live
        job = live.job(happened.job.id) or happened.job
        if job.version < happened.job.version:
            job = happened.job
        if job.deleted_us is not None:
            return None
        event = VideoEvent(
            type=_TYPES[happened.type],
            sequence_number=happened.seq,
            created_at=happened.at_us // SECOND,
            attempt=happened.attempt,
            video=view.view(job, live),
        )
        return _frame(event, event.type, happened.seq)

    def _moved(self, job: Job) -> bytes | None:
        """The job's progress; None when it has ended meanwhile."""
        live = self._rooms.store.live
        now = live.job(job.id)
        if now is None or now.state.is_terminal:
            return None
        at = self._rooms.now_us() // SECOND
        return _frame(VideoEvent(type="video.progress", created_at=at, video=view.view(now, live)), "video.progress")

    def _key_is_good(self) -> bool:
        known = self._rooms.store.live.key(self._key.id)
        if known is None:
            return True  # the process's own key
        return known.revoked_us is None and (known.expires_us is None or known.expires_us > self._rooms.now_us())


async def _say(send: Send, piece: bytes) -> None:
    """Raises TimeoutError when the client takes nothing for too long."""
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _hung_up(receive: Receive, listener: Listener) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end()


def _frame(data: VideoEvent | OpenedEvent, name: str, number: int | None = None) -> bytes:
    id_ = b"" if number is None else b"id: %d\n" % number
    return b"%sevent: %s\ndata: %s\n\n" % (id_, name.encode(), encode(data))


def _after(request: Request[Any, Any, Any]) -> int | None:
    """The number after which to begin; None where none was given. The header counts more: a browser that comes again
    sends it beside the address of its first visit. Raises Problem 422."""
    named = (("Last-Event-ID", header(request.scope, b"last-event-id")), ("after", request.query_params.get("after")))
    for name, text in named:
        if text:
            if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
                message = f"{name!r} is the number of an event, such as 1024, or 0 for the first."
                raise Problem(422, "invalid_cursor", message, param=name)
            return int(text)
    return None


def _must_have_room(rooms: Rooms, key: Key) -> None:
    """Raises Problem 429 or 503."""
    feed, most = rooms.store.live.feed, rooms.settings.server.streams_per_key
    if feed.count(key.id) >= most:
        message = f"This key has {most} streams open already, which is its limit. One GET /v1/events tells of all jobs."
        raise Problem(429, "too_many_streams", message, headers=[(b"retry-after", b"15")])
    if feed.count() >= MOST_STREAMS:
        message = "Too many streams are open at the moment. Try again shortly."
        raise Problem(503, "too_many_streams", message, headers=[(b"retry-after", b"15")])
