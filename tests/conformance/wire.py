"""Puts an adapter before its vendor over a real socket, and watches what goes out.

Law: the suite sees a request as the vendor would: after the transport has done with it. `alias` renames the vendor in
its own replies, so that every address in them is another origin's; both lead to the same server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Iterator

import httpx

from providers.guard import Guard
from providers.spec import Provider
from providers.transport import Transport
from tests.conformance.player import Player


@dataclasses.dataclass(frozen=True)
class Sent:
    method: str
    url: str
    headers: httpx.Headers
    body: bytes


class Wire(httpx.AsyncBaseTransport):
    """httpx's own transport, with a list of what it carried."""

    def __init__(self, *, ours: str, alias: str | None = None) -> None:
        self.sent: list[Sent] = []
        self._ours = ours
        self._alias = alias
        self._inner = httpx.AsyncHTTPTransport(verify=False, trust_env=False)

    def to(self, origin: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.url.startswith(origin + "/")]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        self.sent.append(Sent(request.method, str(request.url), httpx.Headers(request.headers), body))
        if self._alias and str(request.url).startswith(self._alias):
            request.url = httpx.URL(str(request.url).replace(self._alias, self._ours, 1))
        response = await self._inner.handle_async_request(request)
        if self._alias is None:
            return response
        said = (await response.aread()).replace(self._ours.encode(), self._alias.encode())
        await response.aclose()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-length"]
        return httpx.Response(response.status_code, headers=headers, stream=httpx.ByteStream(said))

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextlib.asynccontextmanager
async def on_stage(
    player: Player, url: str, *, limit_seconds: float = 20.0, alias: str | None = None, allow: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Provider, Wire]]:
    """The player's adapter, and what it sends. `limit_seconds` bounds connecting and each wait for a reply; `allow` are
    hosts that the guard lets through."""
    wire = Wire(ours=url, alias=alias)
    transport = Transport(guard=Guard(allow), connect_seconds=limit_seconds, read_seconds=limit_seconds, client=wire)
    try:
        yield player.make(url, transport), wire
    finally:
        await transport.close()


@contextlib.contextmanager
def silence() -> Iterator[str]:
    """An address that takes no connection and refuses none: its queue is full, so nobody's first packet is answered."""
    with socket.socket() as listening, contextlib.ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """An address where nobody listens, and nobody else will begin to."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{kept.getsockname()[1]}"
