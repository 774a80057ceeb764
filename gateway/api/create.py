"""`POST /v1/videos`, and `POST /v1/videos/route`, which is the same question without the purchase.

Law: one intent is one job, however often it is sent: see `once`.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms, buying, form, view
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.form import CreateForm
from gateway.api.once import REPLAYED, Once, sending
from gateway.api.openapi import IDEMPOTENCY, Operation
from gateway.keys import Need
from gateway.router import Decision
from gateway.store.spec import Accepted, Idempotency

OPERATIONS = (
    Operation(
        "post",
        "/v1/videos",
        "createVideo",
        "Buy one clip, from the backend that suits.",
        view.VideoView,
        body=CreateForm,
        form=True,
        query=(IDEMPOTENCY,),
        fails=(402, 403, 404, 409),
    ),
    Operation(
        "post",
        "/v1/videos/route",
        "routeVideo",
        "Who would make this clip, at what price, and why not the others; nothing is bought.",
        Decision,
        body=CreateForm,
        form=True,
        fails=(404, 409),
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    live, once = rooms.store.live, Once(rooms.store, rooms.now_us)

    @post("/v1/videos")
    async def create(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        sent = sending(request)
        asked = await form.read(request)

        async def buy(idempotency: Idempotency | None) -> Accepted:
            return await buying.buy(rooms, key, asked, idempotency)

        accepted = await once.buy(key, sent, asked.fingerprint(), buy)
        return view.answer(accepted.job, live, headers=REPLAYED if accepted.replayed else ())

    @post("/v1/videos/route")
    async def route(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope, needs=Need.READ)
        return Answer(encode(await buying.consider(rooms, key, await form.read(request))))

    return [create, route]
