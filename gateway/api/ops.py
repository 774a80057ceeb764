"""For operators and for clients that look around: is it alive, is it ready, which models are there.

Law: `/healthz` and `/readyz` need no key, touch no vendor, and say nothing that a stranger could use.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.problems import Problem
from gateway.catalogue import UnknownModel

_ALIVE = b'{"status":"ok"}'
_READY = b'{"status":"ready"}'
OWN = "filmgate"  # owner of the names that the configuration made


class ModelView(msgspec.Struct, kw_only=True):
    """OpenAI's model object, and after it who makes the model here and whether a credential is set."""

    id: str
    object: str = "model"
    created: int  # unix seconds: when a person last checked its rows
    owned_by: str
    backends: tuple[str, ...]
    available: bool


class ModelsView(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[ModelView]


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    models = encode(ModelsView(data=_models(rooms)))  # neither catalogue nor configuration changes while we run

    @get("/healthz")
    async def alive(request: Request[Any, Any, Any]) -> Answer:
        return Answer(_ALIVE)

    @get("/readyz")
    async def ready(request: Request[Any, Any, Any]) -> Answer:
        if not rooms.store.writable():
            raise Problem(503, "not_ready", "The store cannot be written to.", headers=[(b"retry-after", b"2")])
        return Answer(_READY)

    @get("/v1/models")
    async def list_models(request: Request[Any, Any, Any]) -> Answer:
        ring.caller(request.scope)
        return Answer(models)

    return [alive, ready, list_models]


def _models(rooms: Rooms) -> list[ModelView]:
    """The catalogue's models, then the configuration's names for lists of them."""
    aliases = rooms.settings.routing.aliases
    shown = []
    for name in dict.fromkeys((*rooms.catalogue.model_names(), *aliases)):
        try:
            target = rooms.catalogue.resolve(name, aliases)
        except UnknownModel:  # an alias of models whose catalogue file is left out
            continue
        rows = [row for backend in target.backends if (row := rooms.catalogue.backend(backend)) is not None]
        checked = max((row.checked for row in rows if row.checked is not None), default=None)
        providers = sorted({row.provider for row in rows})
        shown.append(
            ModelView(
                id=name,
                created=int(datetime(checked.year, checked.month, checked.day, tzinfo=UTC).timestamp())
                if checked
                else 0,
                owned_by=OWN if target.alias is not None or len(providers) != 1 else providers[0],
                backends=target.backends,
                available=any(provider in rooms.settings.configured for provider in providers),
            )
        )
    return shown
