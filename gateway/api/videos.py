"""`/v1/videos` after the purchase: read one, list them, cancel, delete, and the decision behind each.

Law: a job is shown to its own caller only; another's answers exactly as one that does not exist. Reads come from
memory, or are one indexed read; a cancel is a wish, and is called `cancelled` only once that is true (I9).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler

from gateway import ids
from gateway.api import Rooms, view
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation, Query
from gateway.api.paging import NAMES, must_be_known, page_of
from gateway.api.problems import Problem, not_found
from gateway.jobs import AttemptState, Job, JobEvent, JobState, advance
from gateway.store.finding import MOST_METADATA, Sought
from gateway.store.spec import Conflict, Event, Key, Store

SECOND = 1_000_000
CANCEL_SECONDS = 10.0  # how long a cancel is waited for before it is answered as still under way
CANCEL_TRIES = 20
LIST_DEFAULT, LIST_MOST = 20, 100
INCLUDABLE = "routing.decision"
_LIST_NAMES = (*NAMES, "status", "model", "metadata[…]", "created_after", "created_before")
_UNIX = re.compile(r"\d{1,11}(\.\d{1,6})?", re.ASCII)

# what an event tells of its attempt; a vendor's own words stay with the operator
_TOLD = frozenset({"backend", "kind", "code", "price_usd_micros", "cost_usd_micros"})


class EventView(msgspec.Struct):
    type: str
    at_us: int
    attempt: str | None
    data: dict[str, Any]


class DecisionView(msgspec.Struct, kw_only=True):
    """Why this backend, and what happened since. `decision` is the one that the job was accepted with."""

    id: str
    object: str = "video.decision"
    decision: msgspec.Raw
    events: list[EventView]


class DeletedView(msgspec.Struct):
    id: str
    object: str = "video.deleted"
    deleted: bool = True


_INCLUDE = Query("include", {"enum": [INCLUDABLE]}, "The decision that the job was accepted with.")
OPERATIONS = (
    Operation(
        "get",
        "/v1/videos",
        "listVideos",
        "The key's own videos.",
        view.PageView,
        query=(
            Query("after", {"type": "string"}, "The id of the last video of the page before."),
            Query("limit", {"type": "integer", "minimum": 1, "maximum": LIST_MOST}, "How many at most."),
            Query("order", {"enum": ["asc", "desc"]}, "By age; newest first when left out."),
            Query("status", {"enum": [*view.STATUSES]}, "Those that are so now."),
            Query("model", {"type": "string"}, "As it was named in the request."),
            Query("created_after", {"type": "number", "minimum": 0}, "Unix seconds: made then or later."),
            Query("created_before", {"type": "number", "minimum": 0}, "Unix seconds: made earlier."),
        ),
        fails=(422,),
    ),
    Operation(
        "get",
        "/v1/videos/{video_id}",
        "retrieveVideo",
        "One video as it stands.",
        view.VideoView,
        query=(_INCLUDE,),
        fails=(404, 422),
    ),
    Operation("delete", "/v1/videos/{video_id}", "deleteVideo", "Erase an ended video.", DeletedView, fails=(404, 409)),
    Operation(
        "post",
        "/v1/videos/{video_id}/cancel",
        "cancelVideo",
        "Cancelled when this is answered by 200; 202 while its backend has not said yet; 409 when it is too late.",
        view.VideoView,
        also=(202,),
        fails=(404, 409),
    ),
    Operation(
        "get",
        "/v1/videos/{video_id}/decision",
        "videoDecision",
        "Why this backend, and what has happened since.",
        DecisionView,
        fails=(404,),
    ),
)


async def own_job(store: Store, key: Key, job_id: str) -> Job:
    """The caller's job of this id. Raises Problem 404, the same for what is unknown and what is another's."""
    if not ids.is_id(job_id, "video"):
        raise not_found()
    job = store.live.job(job_id) or await store.job(job_id)
    if job is None or job.caller != key.id or job.deleted_us is not None:
        raise not_found()
    return job


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    store, live = rooms.store, rooms.store.live

    @get("/v1/videos/{video_id:str}")
    async def retrieve(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(store, key, request.path_params["video_id"])
        view.guess_progress(job, live, now_us=rooms.now_us())
        if not request.scope["query_string"] or not _included(request):
            return view.answer(job, live)
        return view.answer(job, live, decision=await store.decision(job.id) or b"null")

    @get("/v1/videos")
    async def list_videos(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        must_be_known(request, _LIST_NAMES, free="metadata")
        after, limit, descending = page_of(request, "video", default=LIST_DEFAULT, most=LIST_MOST)
        sought = _sought(request)
        jobs, has_more = await store.list_jobs(key.id, after=after, limit=limit, descending=descending, sought=sought)
        shown = [view.view(job, live) for job in jobs]
        page = view.PageView(
            data=shown,
            first_id=shown[0].id if shown else None,
            last_id=shown[-1].id if shown else None,
            has_more=has_more,
        )
        return Answer(encode(page))

    @delete("/v1/videos/{video_id:str}", status_code=200)
    async def remove(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(store, key, request.path_params["video_id"])
        if not job.state.is_terminal:
            message = f"The video is still being made. Cancel it first: POST /v1/videos/{job.id}/cancel"
            raise Problem(409, "video_not_finished", message)
        if not await rooms.retention.delete(job.id, rooms.now_us()):
            raise not_found()
        return Answer(encode(DeletedView(id=job.id)))

    @post("/v1/videos/{video_id:str}/cancel", status_code=200)
    async def cancel(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(store, key, request.path_params["video_id"])
        job = await wish_end(store, job, now_us=rooms.now_us())
        live.wake(job.id)
        until = asyncio.get_running_loop().time() + CANCEL_SECONDS
        while not job.state.is_terminal and job.cancel_requested:
            left = until - asyncio.get_running_loop().time()
            changed = await live.changed(job.id, job.version, left) if left > 0 else None
            if changed is None:
                return view.answer(job, live, status=202)
            job = changed
        if job.state is JobState.CANCELLED:
            return view.answer(job, live)
        raise _too_late(job, is_bought=await _is_bought(store, job))

    @get("/v1/videos/{video_id:str}/decision")
    async def decision(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(store, key, request.path_params["video_id"])
        kept = await store.decision(job.id)
        events = [
            EventView(
                type=event.type,
                at_us=event.at_us,
                attempt=event.attempt,
                data={name: value for name, value in event.data.items() if name in _TOLD},
            )
            for event in await store.events(job.id)
        ]
        return Answer(encode(DecisionView(id=job.id, decision=msgspec.Raw(kept or b"null"), events=events)))

    return [retrieve, list_videos, remove, cancel, decision]


async def wish_end(store: Store, job: Job, *, now_us: int) -> Job:
    """Write down that the caller wants an end, unless that stands there already or the end has come."""
    for _ in range(CANCEL_TRIES):
        if job.state.is_terminal or job.cancel_requested:
            return job
        wished = advance(job, JobEvent.CANCEL_REQUESTED, cancel_requested=True)
        try:
            await store.save(wished, events=(Event(job=job.id, type=JobEvent.CANCEL_REQUESTED, at_us=now_us),))
            return wished
        except Conflict:  # the worker was faster: wish again, from what is true now
            job = store.live.job(job.id) or await store.job(job.id) or job
    message = "The job changes too fast just now; ask again."
    raise Problem(503, "busy", message, headers=[(b"retry-after", b"1")])


async def _is_bought(store: Store, job: Job) -> bool:
    """Whether a backend is known to have taken the job's last attempt."""
    attempts = await store.attempts(job.id)
    return not attempts or attempts[-1].state is not AttemptState.UNKNOWN


def _too_late(job: Job, *, is_bought: bool) -> Problem:
    if job.state is JobState.COMPLETED:
        return Problem(409, "too_late", "The video is completed already; it cannot be cancelled.")
    if job.state.is_terminal:
        return Problem(409, "too_late", f"The job has ended already: it is {job.state.value}.")
    message = "The backend cannot stop this render. It goes on, and will be billed; the job stays as it was."
    if not is_bought:
        message = "It is not known whether a backend took the job, so nothing can be stopped; the job stays as it was."
    return Problem(409, "too_late", message)


def _included(request: Request[Any, Any, Any]) -> bool:
    """Whether the query's `include` (a list by commas, by repetition, or as the SDKs write one: `include[]`) names the
    decision. Raises Problem 422 for a name that is not known."""
    query = request.query_params
    given = [*query.getall("include", []), *query.getall("include[]", [])]
    names = {name.strip() for text in given for name in text.split(",")} - {""}
    if unknown := sorted(names - {INCLUDABLE}):
        message = f"'include' does not know {unknown[0][:80]!r}; it knows {INCLUDABLE}."
        raise Problem(422, "invalid_value", message, param="include", nearest=INCLUDABLE)
    return bool(names)


def _sought(request: Request[Any, Any, Any]) -> Sought:
    """What a list is filtered by. Raises Problem 422."""
    query = request.query_params
    states: list[JobState] = []
    for status in (word.strip() for text in query.getall("status", []) for word in text.split(",")):
        if status not in view.STATUSES:
            known = ", ".join(view.STATUSES)
            raise Problem(
                422, "invalid_value", f"'status' does not know {status[:80]!r}; it knows {known}.", param="status"
            )
        states += view.STATUSES[status]
    metadata: list[tuple[str, str]] = []
    for name in query:
        if name.startswith("metadata["):
            metadata += [(name[len("metadata[") : -1], value) for value in query.getall(name)]
    if len(metadata) > MOST_METADATA:
        raise Problem(
            422, "too_long", f"A list is filtered by {MOST_METADATA} metadata entries at most.", param="metadata"
        )
    return Sought(
        states=tuple(dict.fromkeys(states)),
        model=query.get("model"),
        metadata=tuple(metadata),
        from_us=_instant(query.get("created_after"), "created_after"),
        before_us=_instant(query.get("created_before"), "created_before"),
    )


def _instant(text: str | None, param: str) -> int | None:
    """Unix seconds as microseconds. Raises Problem 422."""
    if text is None:
        return None
    if _UNIX.fullmatch(text) is None:
        message = f"{param!r} is a time in seconds since 1970 UTC, like a video's created_at."
        raise Problem(422, "invalid_value", message, param=param)
    return round(float(text) * SECOND)
