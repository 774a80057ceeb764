"""`GET /metrics`, for Prometheus.

Law: the figures of all keys together are the operator's. Without a key they are told only where nobody else can ask:
on a server that listens on loopback and is not published under another name. Elsewhere a key needs the scope `metrics`
by name; `[server] metrics_port` is a door of its own, and not here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms
from gateway.api.answers import Answer, header
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation
from gateway.api.problems import Problem
from gateway.keys import Need
from gateway.settings import Server
from providers.guard import is_loopback

OPERATIONS = (
    Operation(
        "get",
        "/metrics",
        "metrics",
        "Figures for Prometheus. On a server that only its own machine can reach, no key is needed.",
        "text/plain",
        or_as="application/openmetrics-text",
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    is_private = _is_private(rooms.settings.server)

    @get("/metrics")
    async def metrics(request: Request[Any, Any, Any]) -> Answer:
        # a page in a browser can reach loopback under a name of its own
        if not (is_private and is_loopback(_host_in(f"//{header(request.scope, b'host') or ''}"))):
            ring.caller(request.scope, needs=Need.METRICS)
        if rooms.scrape is None:
            raise Problem(404, "metrics_not_found", "Nothing is measured here.")
        body, content_type = rooms.scrape(header(request.scope, b"accept") or "")
        return Answer(body, headers=[(b"content-type", content_type.encode()), (b"vary", b"accept")])

    return [metrics]


def _is_private(server: Server) -> bool:
    """Whether only this machine can ask. One that has a public name is behind a proxy, which anybody can ask."""
    public = server.public_url is not None and not is_loopback(_host_in(server.public_url))
    return is_loopback(server.host) and not public


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an address in brackets that is none
        return ""
