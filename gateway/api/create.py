"""`POST /v1/videos`, and `POST /v1/videos/route`, which is the same question without the purchase.

Law: one intent is one job: a retry that says so (an `Idempotency-Key`) gets the first one, as it is now.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms, buying, form, view
from gateway.api.answers import Answer, encode, header
from gateway.api.auth import KeyRing
from gateway.api.problems import Problem
from gateway.store.spec import Idempotency

SECOND = 1_000_000
MAX_KEY_CHARS = 255
KEY_LIVES_US = 24 * 3600 * SECOND

_REPLAYED = ((b"idempotency-replayed", b"true"),)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    store, live = rooms.store, rooms.store.live

    @post("/v1/videos")
    async def create(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        idempotency_key = _idempotency_key(request)
        asked = await form.read(request)
        idempotency = None
        if idempotency_key is not None:
            now = rooms.now_us()
            idempotency = Idempotency(
                key=idempotency_key, fingerprint=asked.fingerprint(), expires_us=now + KEY_LIVES_US
            )
            first = await store.replayed(key.id, idempotency, now)
            if first is not None:  # whatever the catalogue, the prices or the pictures have become since
                return view.answer(first, live, headers=_REPLAYED)
        accepted = await buying.buy(rooms, key, asked, idempotency)
        if accepted.replayed:
            return view.answer(accepted.job, live, headers=_REPLAYED)
        return view.answer(accepted.job, live)

    @post("/v1/videos/route")
    async def route(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        return Answer(encode(await buying.consider(rooms, key, await form.read(request))))

    return [create, route]


def _idempotency_key(request: Request[Any, Any, Any]) -> str | None:
    text = header(request.scope, b"idempotency-key")
    if text is None:
        return None
    if not 0 < len(text) <= MAX_KEY_CHARS or not (text.isascii() and text.isprintable()):
        message = f"An Idempotency-Key is 1 to {MAX_KEY_CHARS} printable ASCII characters."
        raise Problem(400, "invalid_idempotency_key", message, param="Idempotency-Key")
    return text
