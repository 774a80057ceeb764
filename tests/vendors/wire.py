"""An HTTP/1.1 server that owns its socket, so that a vendor server can misbehave on it as a real network does.

Law: it speaks HTTP correctly (h11 frames it) until a Reply's `Manner` says otherwise; what a handler raises is never
sent as if the vendor had said it: it is kept in `defects`, and whoever started the server is told.
"""

from __future__ import annotations

import asyncio
import http
import math
import socket
import struct
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, unquote

import h11
import msgspec

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, wholly read. Header names are in lower case; of repeated headers the last one counts."""

    method: str
    target: str  # as it stood on the request line
    path: str  # percent-decoded, without the query
    query: dict[str, list[str]] = {}
    headers: dict[str, str] = {}
    body: bytes = b""

    def first(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]

    def json(self) -> Any:
        """The body as JSON; raises msgspec.DecodeError."""
        return msgspec.json.decode(self.body)


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a reply goes out. The default is whole and at once."""

    before_seconds: float = 0.0  # silence before the first byte; inf: until the peer leaves
    cut: float | None = None  # cut the connection: 0 before the first byte, else after this share of the body
    reset: bool = True  # cut with a reset; False: an orderly close
    drip_seconds: float = 0.0  # the body in small pieces, spread over so long


WHOLE = Manner()


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What goes back: `body` with its length announced, or `stream` piece by piece in chunks."""

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    manner: Manner = WHOLE


def json_reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply(
        status=status, headers={"content-type": "application/json", **(headers or {})}, body=msgspec.json.encode(body)
    )


_PHRASES = {int(status): status.phrase for status in http.HTTPStatus}

Handler = Callable[[Request], Awaitable[Reply]]
Pause = Callable[[float], Awaitable[None]]


class Server:
    """Serves `handler` on one address. `pause` is how it waits: real seconds, or those of a virtual clock."""

    def __init__(self, handler: Handler, *, pause: Pause = asyncio.sleep) -> None:
        self.handler = handler
        self.pause = pause
        self.defects: list[Exception] = []
        self.connections: set[_Connection] = set()
        self._listening: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens and returns its address, http://host:port."""
        self._listening = await asyncio.get_running_loop().create_server(lambda: _Connection(self), host, port)
        bound = self._listening.sockets[0].getsockname()[1]
        return f"http://{host}:{bound}"

    async def stop(self) -> None:
        """Stops listening and cuts whatever is still open."""
        if self._listening is not None:
            self._listening.close()
        tasks = [connection.task for connection in self.connections]
        for connection in list(self.connections):
            connection.cut(reset=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER)
        self._news = asyncio.Event()  # bytes or the end arrived
        self._gone = asyncio.Event()  # the peer will send no more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._news.set()

    def eof_received(self) -> bool:
        self._http.receive_data(b"")
        self._gone.set()
        self._news.set()
        return True  # a peer that closed its half may still read our answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._news.set()
        self._server.connections.discard(self)

    def cut(self, *, reset: bool) -> None:
        if reset and not self._transport.is_closing():
            raw: socket.socket = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() then resets
            self._transport.abort()
        self._transport.close()

    async def _serve(self) -> None:
        try:
            while (request := await self._read()) is not None:
                if not await self._send(request, await self._ask(request)):
                    return
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
            self._transport.close()
        except h11.RemoteProtocolError as error:
            text = f"not HTTP: {error}".encode()
            head = f"HTTP/1.1 {error.error_status_hint} \r\nconnection: close\r\ncontent-length: {len(text)}\r\n\r\n"
            self._transport.write(head.encode() + text)
            self._transport.close()

    async def _ask(self, request: Request) -> Reply:
        try:
            return await self._server.handler(request)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._server.defects.append(error)
            return Reply(status=500, body=b"defect of the test server", headers={"content-type": "text/plain"})

    async def _read(self) -> Request | None:
        head: h11.Request | None = None
        pieces: list[bytes] = []
        while True:
            event = self._http.next_event()
            match event:
                case h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        self._write(h11.InformationalResponse(status_code=100, headers=[]))
                    if self._transport.is_closing():
                        return None
                    self._news.clear()
                    await self._news.wait()
                case h11.Request():
                    head = event
                case h11.Data():
                    pieces.append(bytes(event.data))
                case h11.EndOfMessage() if head is not None:
                    return _request(head, b"".join(pieces))
                case _:
                    return None  # the peer closed, between two requests or within one

    async def _send(self, request: Request, reply: Reply) -> bool:
        """Writes the reply in its manner; whether the connection is good for another request."""
        manner = reply.manner
        if manner.before_seconds and not await self._hold(manner.before_seconds):
            self._transport.close()
            return False
        if manner.cut == 0:
            self.cut(reset=manner.reset)
            return False
        bare = request.method == "HEAD" or reply.status in (204, 304)
        headers = {"content-length": str(len(reply.body))} if reply.stream is None and reply.status != 204 else {}
        self._write(
            h11.Response(
                status_code=reply.status,
                reason=_PHRASES.get(reply.status, "").encode(),
                headers=[(name.encode(), value.encode()) for name, value in (headers | reply.headers).items()],
            )
        )
        if reply.stream is not None:
            while (piece := await self._unless_gone(anext(reply.stream, None))) is not None:
                self._write(h11.Data(data=piece))
            if self._gone.is_set():
                self._transport.close()
                return False
        elif not bare and not await self._send_body(reply.body, manner):
            return False
        self._write(h11.EndOfMessage())
        return True

    async def _send_body(self, body: bytes, manner: Manner) -> bool:
        if manner.cut is not None:
            self._write(h11.Data(data=body[: math.floor(len(body) * manner.cut)]))
            self.cut(reset=manner.reset)
            return False
        if not manner.drip_seconds:
            self._write(h11.Data(data=body))
            return True
        size = max(1, len(body) // 50)
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        for piece in pieces:
            if not await self._hold(manner.drip_seconds / len(pieces)):
                self._transport.close()
                return False
            self._write(h11.Data(data=piece))
        return True

    async def _hold(self, seconds: float) -> bool:
        """Waits, but not longer than the peer does; whether the peer is still there."""
        await self._unless_gone(self._server.pause(seconds))
        return not self._gone.is_set()

    async def _unless_gone(self, work: Awaitable[T]) -> T | None:
        """What `work` gives; None when the peer leaves first."""
        working, gone = asyncio.ensure_future(work), asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            gone.cancel()

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _request(head: h11.Request, body: bytes) -> Request:
    target = head.target.decode("ascii", "replace")
    path, _, query = target.partition("?")
    return Request(
        method=head.method.decode(),
        target=target,
        path=unquote(path),
        query=parse_qs(query, keep_blank_values=True),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )


class LoopThread:
    """An event loop in a thread of its own, so that a synchronous test can hold a server."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Runs `work` on that loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
