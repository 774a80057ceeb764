"""What goes back: one small ASGI answer, made whole before it is sent.

Law: every answer has an `x-request-id`. The framework's Response renders, merges and encodes for every request; an
answer of ours is bytes and a short list of headers already, which is most of what a status read costs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar.types import Receive, Scope, Send

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
PROBLEM = "filmgate.problem"  # in a request's scope: the code of what was wrong with it
MORE_HEADERS = "filmgate.headers"  # in a request's scope: what its answer says besides

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def request_id() -> str:
    """A number for one request. It is no secret, so it costs no system call: each of those lets go of the interpreter's
    lock, and under load the answer then waits for the store's threads."""
    return f"req_{random.getrandbits(128):032x}"


class Answer:
    """One HTTP answer. `headers` are lower case; the content length and the request's id are added here."""

    __slots__ = ("body", "headers", "request_id", "status")

    def __init__(
        self, body: bytes, *, status: int = 200, headers: Iterable[Header] = (JSON,), number: str | None = None
    ) -> None:
        self.body = body
        self.status = status
        self.request_id = number or request_id()
        self.headers: list[Header] = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", self.request_id.encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.headers, *scope[MORE_HEADERS]] if MORE_HEADERS in scope else self.headers  # type: ignore[literal-required]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = self.body if scope["method"] != "HEAD" else b""  # type: ignore[typeddict-item]
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def to_asgi_response(self, *_: Any, **__: Any) -> Answer:
        """Litestar's question to what an exception handler gives back."""
        return self


def header(scope: Scope, name: bytes) -> str | None:
    """The request's header of this (lower case) name; None when it is absent. Building the framework's whole header
    map costs more than everything else that a status read does."""
    for known, value in scope["headers"]:
        if known == name:
            return value.decode("latin-1")
    return None
