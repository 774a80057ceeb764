"""The first door: requests that two parsers could read in two ways are refused before any route sees them.

Law: whoever stands in front of us (a proxy, a cache, a firewall) and we see the same request, or none. The server's own
parser refuses most of that with an empty 400, 414 or 431; what it lets through is refused here, in our envelope, and
the connection is closed.
"""

from __future__ import annotations

from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.api.answers import Answer, Header
from gateway.api.problems import Problem

_ONCE = frozenset({b"host", b"authorization", b"content-type"})  # the server's parser judges lengths and codings
_CLOSE: Header = (b"connection", b"close")


class Edge:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":  # type: ignore[comparison-overlap]
            problem = _wrong_with(scope)
            if problem is not None:
                await _answer(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _wrong_with(scope: Scope) -> Problem | None:
    """Why this request is not let in; None when it is."""
    path = scope["path"]
    if "//" in path or (path[-1:] == "/" and len(path) > 1):
        return Problem(404, "route_not_found", f"There is nothing at {path[:200]}.")
    seen: set[bytes] = set()
    for name, value in scope["headers"]:
        if name in _ONCE:
            if name in seen:
                return _bad(f"The header {name.decode()} stands twice.")
            seen.add(name)
            if name == b"host" and not value and scope.get("http_version") == "1.1":
                return _bad("There is no Host header.")
    return None


def _bad(message: str) -> Problem:
    return Problem(400, "ambiguous_request", message, headers=[_CLOSE])


def _answer(problem: Problem) -> Answer:
    return problem.answer(may_retry=False)
