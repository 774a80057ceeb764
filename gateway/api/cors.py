"""Pages of other origins: what a browser must be told before it lets one of them speak to us.

Law: only the configured origins are told anything, and whoever they are, the API key alone opens: no cookie is ever
looked at. What is answered to everybody else is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.api.answers import Answer, Header, header

ANY = "*"
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
PREFLIGHT_SECONDS = b"600"
EXPOSED = b"*"  # every header may be read: no request of a browser carries a cookie that would forbid the word
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*", re.ASCII)
MAX_NAMES_CHARS = 4096


class Cors:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        """`origins` as browsers write them (`https://app.example.com`); `*` is every one."""
        self._app = app
        self._any = ANY in origins
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # type: ignore[comparison-overlap]
            await self._app(scope, receive, send)
            return
        origin = header(scope, b"origin")
        allowed = origin is not None and (self._any or origin in self._origins)
        told = self._told(origin or "", allowed=allowed)
        if allowed and scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method"):  # type: ignore[typeddict-item]
            await Answer(b"", status=204, headers=[*told, *_preflight(scope)])(scope, receive, send)
            return

        async def send_told(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        await self._app(scope, receive, send_told)

    def _told(self, origin: str, *, allowed: bool) -> list[Header]:
        if self._any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
        if not allowed:
            return [(b"vary", b"origin")]  # a cache must not give this to a page that is allowed
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        ]


def _preflight(scope: Scope) -> list[Header]:
    """Every header that is asked about may be sent: SDKs send many of their own, and none of them opens anything."""
    told: list[Header] = [(b"access-control-allow-methods", METHODS), (b"access-control-max-age", PREFLIGHT_SECONDS)]
    names = header(scope, b"access-control-request-headers")
    if names is not None and len(names) <= MAX_NAMES_CHARS and _NAMES.fullmatch(names.strip()):
        told.append((b"access-control-allow-headers", names.strip().encode("latin-1")))
    return told
