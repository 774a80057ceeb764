"""`POST /v1/videos/extensions`: a clip goes on, from its last frame. And what OpenAI's clients can ask for that no
backend here can do: edits of a clip, and characters.

Laws. An extension is a job like any other, whose first frame is the last of the clip before it; what is delivered is
both, joined (see `derive`), and `seconds` says how long both are. Nothing is bought before the clip before it was had
whole. What cannot be done is refused in one typed way, with what would do instead, and is not to be sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler

from gateway import ids
from gateway.api import Rooms, buying, form, parts, view, wire
from gateway.api.answers import Answer
from gateway.api.auth import KeyRing
from gateway.api.content import clip_of, finished
from gateway.api.form import Asked, CreateForm, Form, Label, Length, ProviderForm, Text, Whole, Word
from gateway.api.once import REPLAYED, Once, sending
from gateway.api.openapi import IDEMPOTENCY, Operation
from gateway.api.parts import SentClip, SentPicture
from gateway.api.problems import Problem
from gateway.api.videos import own_job
from gateway.jobs import Job
from gateway.splicing import Unreadable
from gateway.store.spec import Accepted, Idempotency, Key

OTHERWISE = "auto"  # who continues a clip that the caller sends and names no model for


class ExtendForm(Form):
    """The body of `POST /v1/videos/extensions`. What is left open is as it was in the clip's own request."""

    video: SentClip
    prompt: Text
    seconds: Length | None = None
    duration: Length | None = None
    model: Word | None = None
    negative_prompt: Text | None = None
    generate_audio: bool | None = None
    seed: Whole | None = None
    cfg_scale: float | None = None
    metadata: dict[str, Label] = {}
    user: Label | None = None
    callback_url: str | None = None
    deadline_seconds: float | None = None
    provider: ProviderForm | None = None


class RefusedForm(msgspec.Struct):
    """A body that is not read: nothing here can do what it asks for."""


_SHAPES: dict[str, type] = {
    "": ExtendForm,
    "provider": ProviderForm,
    "provider.max_price": form.MaxPrice,
    "provider.preferred_max_latency": form.MaxLatency,
}

_CANNOT = "Not offered here: always answered by 422 `unsupported_operation`."
OPERATIONS = (
    Operation(
        "post",
        "/v1/videos/extensions",
        "extendVideo",
        "Go on from the last frame of a clip; what is delivered is both, joined.",
        view.VideoView,
        body=ExtendForm,
        form=True,
        query=(IDEMPOTENCY,),
        fails=(402, 403, 404, 409, 410),
    ),
    Operation("post", "/v1/videos/edits", "editVideo", _CANNOT, None, body=RefusedForm, form=True),
    Operation("post", "/v1/videos/characters", "createCharacter", _CANNOT, None, body=RefusedForm, form=True),
    Operation("get", "/v1/videos/characters/{character_id}", "retrieveCharacter", _CANNOT, None, fails=(422,)),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    live, once = rooms.store.live, Once(rooms.store, rooms.now_us)

    @post("/v1/videos/extensions")
    async def extend(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        sent = sending(request)
        wish = await form.decoded(request, ExtendForm, shapes=_SHAPES, hook=parts.clip)
        source = await _source(rooms, key, wish.video)
        asked = continued(wish, source)

        async def buy(idempotency: Idempotency | None) -> Accepted:
            return await _bought(rooms, key, asked, source, wish.video.data or b"", idempotency)

        accepted = await once.buy(key, sent, asked.fingerprint(), buy)
        return view.answer(accepted.job, live, headers=REPLAYED if accepted.replayed else ())

    @post("/v1/videos/edits")
    async def edit(request: Request[Any, Any, Any]) -> Answer:
        ring.caller(request.scope)
        await _read_away(request)
        message = "No backend here can edit a clip. Make it again with another prompt, or let it go on."
        raise _unsupported(message, "POST /v1/videos/{id}/remix")

    @post("/v1/videos/characters")
    async def create_character(request: Request[Any, Any, Any]) -> Answer:
        ring.caller(request.scope)
        await _read_away(request)
        raise _unsupported(_NO_CHARACTERS, "input_references of POST /v1/videos")

    @get("/v1/videos/characters/{character_id:str}")
    async def retrieve_character(request: Request[Any, Any, Any]) -> Answer:
        ring.caller(request.scope)
        raise _unsupported(_NO_CHARACTERS, "input_references of POST /v1/videos")

    return [extend, edit, create_character, retrieve_character]


_NO_CHARACTERS = "Characters are not kept here. Send pictures of one with each request, as input_references."


def continued(wish: ExtendForm, source: Job | None) -> Asked:
    """The wish in our own words, on top of what the clip's own request said; its first frame comes later. Raises
    Problem 422."""
    given = {name: value for name in _TAKEN_OVER if (value := getattr(wish, name)) is not None}
    if source is None:
        asked = form.understood(CreateForm(**{"model": OTHERWISE, **given}))
        sha256 = hashlib.sha256(wish.video.data or b"").hexdigest()
        return msgspec.structs.replace(asked, extends="", extends_sha256=sha256)
    asked = form.understood(CreateForm(**{"model": source.spec.model, **given}))
    before, video = source.spec.video, asked.video
    shape = {"resolution": before.resolution, "aspect_ratio": before.aspect_ratio}
    return msgspec.structs.replace(
        asked,
        video=msgspec.structs.replace(
            video,
            **shape,
            width=before.width,
            height=before.height,
            audio=before.audio if wish.generate_audio is None else video.audio,
        ),
        preferences=asked.preferences
        if wish.provider is not None
        else msgspec.structs.replace(source.spec.preferences, allowed_models=(), allowed_providers=()),
        extends=source.id,
    )


_TAKEN_OVER = tuple(name for name in ExtendForm.__struct_fields__ if name != "video")


async def _source(rooms: Rooms, key: Key, sent: SentClip) -> Job | None:
    """The job of the clip that is to go on; None where the clip itself was sent. Raises Problem 404, 409 or 410."""
    if sent.id is None:
        return None
    job = await own_job(rooms.store, key, sent.id)
    finished(job)
    return job


async def _bought(
    rooms: Rooms, key: Key, asked: Asked, source: Job | None, data: bytes, idempotency: Idempotency | None
) -> Accepted:
    """The job, once the clip before it is kept under its id."""
    id = ids.make("video", now_us=rooms.now_us(), random=secrets.token_bytes(16))
    clip = clip_of(rooms, source) if source is not None else lambda: rooms.derived.poured(_whole(data))
    try:
        async with clip() as path:
            seconds, frame = await _last_frame(rooms, id, path)
        asked = msgspec.structs.replace(asked, first_frame=SentPicture(data=frame), extends_seconds=seconds)
        accepted = await buying.buy(rooms, key, asked, idempotency, id=id)
    except Exception:  # not when nobody awaits any more: the store may go on, and a start looks after what is left over
        await rooms.derived.discard(id)
        raise
    if accepted.replayed:
        await rooms.derived.discard(id)
    return accepted


async def _last_frame(rooms: Rooms, id: str, path: Path) -> tuple[int, bytes]:
    """How long the clip is, in whole seconds, and its last frame. Raises Problem 422."""
    try:
        found, frame = await rooms.derived.keep_before(id, path)
    except Unreadable as error:
        raise Problem(422, "invalid_video", f"The clip cannot be continued: {error}.", param="video") from error
    return max(round(found.seconds), 1), frame


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _read_away(request: Request[Any, Any, Any]) -> None:
    """The body, unread: a client that is answered while it still sends would take that for a broken line."""
    async with contextlib.aclosing(wire.pieces(request, limit=wire.LARGE)) as pieces:  # type: ignore[type-var]
        async for _ in pieces:
            pass


def _unsupported(message: str, nearest: str) -> Problem:
    return Problem(422, "unsupported_operation", message, nearest=nearest)
