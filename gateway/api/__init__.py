"""The front rooms: every HTTP route, one module for a dialect or a concern.

Law: api never imports the worker and never calls a provider; the two meet in the store and its live view. A module of
this package that has `routes(rooms)` is found by listing the package, so a new dialect is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from gateway.acceptance import Acceptance
from gateway.archive import Archive
from gateway.catalogue import Catalogue
from gateway.derive import Derived
from gateway.health import Health
from gateway.links import Links
from gateway.media import Pictures
from gateway.mirror import mirror
from gateway.retention import Retention
from gateway.router import Policy
from gateway.settings import Settings
from gateway.store.spec import Key, Store
from providers.transport import Transport

if TYPE_CHECKING:
    from gateway.delivery import Style


class Rooms(msgspec.Struct, frozen=True, kw_only=True):
    """What a route may use, handed over by the composition root."""

    settings: Settings
    catalogue: Catalogue
    health: Health
    acceptance: Acceptance
    policy: Policy
    store: Store
    pictures: Pictures
    links: Links
    retention: Retention
    derived: Derived
    transport: Transport
    now_us: Callable[[], int]  # microseconds since 1970 UTC
    archive: Archive | None = None
    scrape: Callable[[str], tuple[bytes, str]] | None = None  # Prometheus's page for an Accept header, and its type
    test: Rooms | None = None  # the same rooms as test keys see them: see `gateway.mirror`

    def of(self, key: Key) -> Rooms:
        """The rooms of this key's realm: what it is matched against, priced by and told. Raises LookupError."""
        if not key.test:
            return self
        if self.test is None:
            raise LookupError("nobody here serves test keys")  # never the live rooms in their place
        return self.test

    def mirrored(self) -> Rooms:
        """These rooms as test keys see them, with figures of their own."""
        seen = mirror(self.settings, self.catalogue)
        return msgspec.structs.replace(
            self, settings=seen.settings, catalogue=seen.catalogue, health=seen.health, acceptance=Acceptance()
        )


def handlers(rooms: Rooms) -> list[HTTPRouteHandler]:
    """Every route of the package."""
    found: list[HTTPRouteHandler] = []
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        if hasattr(module, "routes"):
            found += module.routes(rooms)
    return found


async def styles(rooms: Rooms) -> dict[str, Style]:
    """How each dialect tells its clients of an end: of every module of the package that has
    `webhook_style(rooms)`."""
    modules = [importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__)]
    return dict([await module.webhook_style(rooms) for module in modules if hasattr(module, "webhook_style")])


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
