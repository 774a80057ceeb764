"""How long a request waits for the beginning of its answer, told by the template of its route.

Law: nothing of a request but its method, its route's template, its answer's status and its error's code is told.
"""

from __future__ import annotations

import time
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.api.answers import PROBLEM
from gateway.meter import Meter


class Measured:
    """An ASGI application in front of another."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # type: ignore[comparison-overlap]
            await self._app(scope, receive, send)
            return
        asked: dict[str, Any] = scope  # type: ignore[assignment]
        began = time.perf_counter()

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                took = time.perf_counter() - began
                route, code = asked.get("path_template", ""), asked.get(PROBLEM, "")
                self._meter.answered(asked["method"], route, message["status"], took, code)
            await send(message)

        await self._app(scope, receive, told)
