"""`POST /v1/videos/{id}/feedback`: whether the caller kept the clip. Routing learns from it what a kept clip costs.

Law: said by the job's own caller, of a completed job; the last word counts, on disk before the answer and in the live
counts with it. A note is kept for the operator, and is neither logged nor shown to anybody else.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from gateway.api import Rooms, wire
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.form import Form
from gateway.api.openapi import Operation
from gateway.api.problems import Problem
from gateway.api.videos import own_job
from gateway.jobs import Job, JobState
from gateway.store.spec import Feedback

MAX_NOTE_CHARS = 500


class FeedbackForm(Form):
    accepted: bool
    note: Annotated[str, Meta(max_length=MAX_NOTE_CHARS)] | None = None


class FeedbackView(msgspec.Struct, kw_only=True):
    """What stands now."""

    id: str  # the job's
    object: str = "video.feedback"
    accepted: bool


OPERATIONS = (
    Operation(
        "post",
        "/v1/videos/{video_id}/feedback",
        "giveFeedback",
        "Say whether the clip was kept; the last word counts.",
        FeedbackView,
        body=FeedbackForm,
        fails=(409,),
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)

    async def keep(feedback: Feedback, job: Job) -> None:
        before = await rooms.store.give_feedback(feedback)
        if not job.test:  # a double's clip says nothing of the backend whose part it plays
            rooms.acceptance.observe(feedback.backend, feedback.accepted, before=before)

    @post("/v1/videos/{video_id:str}/feedback", status_code=200)
    async def give(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(rooms.store, key, request.path_params["video_id"])
        wire.must_be_json(request)
        form = wire.decode(await wire.read(request, limit=wire.SMALL), FeedbackForm)
        if not job.state.is_terminal:
            raise Problem(409, "video_not_finished", "The video is still being made; say what you think once it is.")
        if job.state is not JobState.COMPLETED:
            raise Problem(409, "video_failed", "The video was not made, so there is no clip to keep or to reject.")
        feedback = Feedback(
            job=job.id,
            caller=job.caller,
            backend=job.routing.backend,
            accepted=form.accepted,
            at_us=rooms.now_us(),
            note=form.note,
        )
        await asyncio.shield(keep(feedback, job))  # a caller that hangs up must not part the counts from the store
        return Answer(encode(FeedbackView(id=job.id, accepted=form.accepted)))

    return [give]
