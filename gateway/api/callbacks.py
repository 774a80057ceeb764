"""`POST /callbacks/{token}`: the doorbell that vendors ring when a render is done.

Law: a callback is believed in nothing. Its token says which attempt to look at; what the body claims is handed to the
worker as it is, for the adapter to read and an authenticated poll to confirm. No vendor is known here.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from gateway import ids, tokens
from gateway.api import Rooms, wire
from gateway.api.answers import Answer
from gateway.api.openapi import Operation
from gateway.api.problems import not_found

MAX_TOKEN_CHARS = 200
_HEARD = b'{"received":true}'


OPERATIONS = (
    Operation(
        "post",
        "/callbacks/{token}",
        "ringForAttempt",
        "For vendors: a render has changed.",
        dict[str, bool],
        fails=(408, 413, 415),
        key=False,
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    secrets: list[bytes] = []  # read from the store once, at the first ring

    @post("/callbacks/{token:str}", status_code=200)
    async def callback(request: Request[Any, Any, Any]) -> Answer:
        if not secrets:
            secrets.append(await rooms.store.secret("callback"))
        token = request.path_params["token"]
        attempt = tokens.verify(token, secrets[0]) if len(token) <= MAX_TOKEN_CHARS else None
        if attempt is None or not ids.is_id(attempt, "att"):
            raise not_found("callback")
        body = await wire.read(request, limit=wire.SMALL)
        rooms.store.live.ring(attempt, body, dict(request.headers))
        return Answer(_HEARD)

    return [callback]
