"""`POST /v1/videos/{id}/remix`: a new job from an old one's request, with another prompt.

Law: everything but the prompt stays as it was asked, pictures and wishes too; what of it is gone is said (409), never
left out. The new job is bought like any other, under what its key may do and spend today.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms, buying, form, view, wire
from gateway.api.answers import Answer
from gateway.api.auth import KeyRing
from gateway.api.form import Asked, Form, Text
from gateway.api.once import REPLAYED, Once, sending
from gateway.api.openapi import IDEMPOTENCY, Operation
from gateway.api.parts import SentPicture
from gateway.api.problems import Problem
from gateway.api.videos import own_job
from gateway.jobs import Job
from gateway.store.spec import Accepted, Idempotency
from providers.spec import Media


class RemixForm(Form):
    """The body of `POST /v1/videos/{video_id}/remix`."""

    prompt: Text


_SHAPES: dict[str, type] = {"": RemixForm}

OPERATIONS = (
    Operation(
        "post",
        "/v1/videos/{video_id}/remix",
        "remixVideo",
        "Make the clip of an earlier request again, with another prompt.",
        view.VideoView,
        body=RemixForm,
        form=True,
        query=(IDEMPOTENCY,),
        fails=(402, 403, 404, 409),
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    live, once = rooms.store.live, Once(rooms.store, rooms.now_us)

    @post("/v1/videos/{video_id:str}/remix")
    async def remix(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        sent = sending(request)
        source = await own_job(rooms.store, key, request.path_params["video_id"])
        wish = await form.decoded(request, RemixForm, shapes=_SHAPES, limit=wire.SMALL)
        asked = remixed(source, wish.prompt)

        async def buy(idempotency: Idempotency | None) -> Accepted:
            return await buying.buy(rooms, key, asked, idempotency)

        accepted = await once.buy(key, sent, asked.fingerprint(), buy)
        return view.answer(accepted.job, live, headers=REPLAYED if accepted.replayed else ())

    return [remix]


def remixed(source: Job, prompt: str) -> Asked:
    """What `source` asked for, with another prompt. Raises Problem 409 or 422."""
    if not prompt.strip():
        raise Problem(422, "invalid_value", "'prompt' holds nothing but white space.", param="prompt")
    if source.words_erased_us is not None:
        message = "What this video was made from has been erased, so it cannot be made again. Create a new one."
        raise Problem(409, "request_erased", message)
    if source.spec.extends is not None:
        message = "This video continues another one. Extend that one again, with the prompt that you want."
        raise Problem(422, "unsupported_operation", message, nearest="POST /v1/videos/extensions")
    if source.spec.video.shots:
        message = "This video was made of shots, each with a prompt of its own. Create a new one with other shots."
        raise Problem(422, "unsupported_operation", message, param="prompt", nearest="POST /v1/videos")
    asked, video = source.spec, source.spec.video
    return Asked(
        model=asked.model,
        video=msgspec.structs.replace(video, prompt=prompt, first_frame=None, last_frame=None, references=()),
        preferences=msgspec.structs.replace(asked.preferences, allowed_models=(), allowed_providers=()),
        metadata=asked.metadata,
        user=asked.user,
        deadline_seconds=asked.deadline_seconds,
        first_frame=_again(video.first_frame),
        last_frame=_again(video.last_frame),
        references=tuple(SentPicture(kept=media) for media in video.references),
        callback_url=asked.callback_url if not asked.dialect else None,  # another dialect's hook expects its own words
        remixed_from=source.id,
    )


def _again(media: Media | None) -> SentPicture | None:
    return None if media is None else SentPicture(kept=media)
