"""The command line as a client of Filmgate: of a running server, or of one that it starts in this process.

Law: knows the public API only; what it can do, any caller can.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx
import msgspec

from gateway import app
from gateway.router import Decision
from gateway.settings import Settings
from providers.spec import Secret

T = TypeVar("T")


class Refused(click.ClickException):
    """The server said no; its message is for the reader, and says what would do instead."""

    def __init__(self, reply: httpx.Response) -> None:
        try:
            error = msgspec.json.decode(reply.content)["error"]
            message = f"{error['message']}  [{error.get('code') or error.get('type')}]"
        except (msgspec.DecodeError, KeyError, TypeError):
            message = f"the server answered {reply.status_code}"
        super().__init__(message)
        self.status = reply.status_code


class Client:
    """Five calls: ask for the decision, create, look, cancel, list the backends; and the file."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def route(self, form: dict[str, Any], files: dict[str, Path]) -> Decision:
        reply = await self._post("/v1/videos/route", form, files)
        return msgspec.json.decode(reply.content, type=Decision)

    async def create(self, form: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
        """Creates once, however often the connection has to be tried."""
        reply = await self._post("/v1/videos", form, files, key=f"cli-{secrets.token_hex(16)}")
        return dict(reply.json())

    async def retrieve(self, video_id: str) -> dict[str, Any]:
        return dict(self._checked(await self._http.get(f"/v1/videos/{video_id}")).json())

    async def cancel(self, video_id: str) -> httpx.Response:
        return await self._http.post(f"/v1/videos/{video_id}/cancel")

    async def backends(self, *, model: str | None = None, provider: str | None = None) -> bytes:
        """The whole answer, as JSON."""
        query = {name: text for name, text in (("model", model), ("provider", provider)) if text is not None}
        return self._checked(await self._http.get("/v1/backends", params=query)).content

    async def ask(self, method: str, path: str, shape: type[T], *, form: dict[str, Any] | None = None) -> T:
        """Any other call, its answer as `shape`."""
        reply = self._checked(await self._http.request(method, path, json=form))
        return msgspec.json.decode(reply.content, type=shape)

    async def download(self, video_id: str, target: Path) -> int:
        """The clip, written beside `target` and renamed when it is whole; its size in bytes."""
        partial = target.with_name(target.name + ".part")
        size = 0
        async with self._http.stream("GET", f"/v1/videos/{video_id}/content") as reply:
            if not reply.is_success:
                await reply.aread()
                raise Refused(reply)
            with partial.open("wb") as file:
                async for piece in reply.aiter_bytes():
                    size += file.write(piece)
        partial.replace(target)
        return size

    async def _post(
        self, path: str, form: dict[str, Any], files: dict[str, Path], *, key: str | None = None
    ) -> httpx.Response:
        headers = {"idempotency-key": key} if key else {}
        if not files:
            return self._checked(await self._http.post(path, json=form, headers=headers))
        fields = {name: _text(value) for name, value in form.items()}
        parts = {name: (file.name, await asyncio.to_thread(file.read_bytes)) for name, file in files.items()}
        return self._checked(await self._http.post(path, data=fields, files=parts, headers=headers))

    @staticmethod
    def _checked(reply: httpx.Response) -> httpx.Response:
        if not reply.is_success:
            raise Refused(reply)
        return reply


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


@contextlib.asynccontextmanager
async def connected(
    url: str | None, key: str | None, settings: Settings, *, work: bool = True
) -> AsyncIterator[Client]:
    """A client of the server at `url`; without one, of a server that this process starts for as long as it is needed
    (without a worker when `work` is false: nothing can be bought then)."""
    async with contextlib.AsyncExitStack() as stack:
        if url is None:
            url, key = await _started(stack, settings, work=work)
        http = httpx.AsyncClient(
            base_url=url.rstrip("/").removesuffix("/v1"),
            headers={"authorization": f"Bearer {key or ''}"},
            timeout=httpx.Timeout(120, connect=5),
            trust_env=False,
            verify=_trusted(),
        )
        await stack.enter_async_context(http)
        try:
            yield Client(http)
        except httpx.ConnectError as error:
            raise click.ClickException(f"nobody answers at {url}: is `filmgate serve` running there?") from error
        except httpx.TransportError as error:
            raise click.ClickException(f"the connection to {url} broke: {type(error).__name__} {error}") from error


async def _started(stack: contextlib.AsyncExitStack, settings: Settings, *, work: bool) -> tuple[str, str]:
    """A server of our own on a free port of loopback, with a key that only this process knows."""
    key = secrets.token_urlsafe(24)
    server = msgspec.structs.replace(settings.server, host="127.0.0.1", port=_free_port(), tls_cert=None, tls_key=None)
    settings = msgspec.structs.replace(settings, server=server, local_key=Secret(key))
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(app.serve(settings, ready=ready.set_result, stop=stop, work=work))

    async def end() -> None:
        stop.set()
        await serving

    either: set[asyncio.Future[Any]] = {ready, serving}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        await serving  # raises what was wrong
    stack.push_async_callback(end)
    return ready.result(), key


def _trusted() -> ssl.SSLContext:
    """Who may vouch for a server: this machine's certificates, SSL_CERT_FILE among them, and the well-known ones."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
