"""For operators and for what watches over them: is it alive, is it ready.

Law: `/healthz` and `/readyz` need no key, touch no vendor, and say nothing that a stranger could use.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms
from gateway.api.answers import Answer
from gateway.api.openapi import Operation
from gateway.api.problems import Problem

_ALIVE = b'{"status":"ok"}'
_READY = b'{"status":"ready"}'


OPERATIONS = (
    Operation("get", "/healthz", "isAlive", "Whether the process answers.", dict[str, str], key=False),
    Operation("get", "/readyz", "isReady", "Whether the store can be written.", dict[str, str], key=False),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    @get("/healthz")
    async def alive(request: Request[Any, Any, Any]) -> Answer:
        return Answer(_ALIVE)

    @get("/readyz")
    async def ready(request: Request[Any, Any, Any]) -> Answer:
        if not rooms.store.writable():
            raise Problem(503, "not_ready", "The store cannot be written to.", headers=[(b"retry-after", b"2")])
        return Answer(_READY)

    return [alive, ready]
