"""The front rooms: every HTTP route, one module for a dialect or a concern.

Law: api never imports the worker and never calls a provider; the two meet in the store and its live view. A module of
this package that has `routes(rooms)` is found by listing the package, so a new dialect is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from gateway.acceptance import Acceptance
from gateway.catalogue import Catalogue
from gateway.health import Health
from gateway.media import Pictures
from gateway.router import Policy
from gateway.settings import Settings
from gateway.store.spec import Store
from providers.transport import Transport


class Rooms(msgspec.Struct, frozen=True, kw_only=True):
    """What a route may use, handed over by the composition root."""

    settings: Settings
    catalogue: Catalogue
    health: Health
    acceptance: Acceptance
    policy: Policy
    store: Store
    pictures: Pictures
    transport: Transport
    now_us: Callable[[], int]  # microseconds since 1970 UTC


def handlers(rooms: Rooms) -> list[HTTPRouteHandler]:
    """Every route of the package."""
    found: list[HTTPRouteHandler] = []
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        if hasattr(module, "routes"):
            found += module.routes(rooms)
    return found


def application(rooms: Rooms, *, also: Sequence[Any] = (), **options: Any) -> Litestar:
    """The HTTP application, with the framework's own voices off: every answer and every error is ours.

    `also` are further handlers (the console's), `options` further arguments of Litestar.
    """
    from gateway.api import problems  # it needs this module's Rooms

    return Litestar(
        route_handlers=[*handlers(rooms), *also],
        exception_handlers=problems.HANDLERS,
        after_request=problems.name_answer,
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # each route reads its own body, under its own cap
        **options,
    )
