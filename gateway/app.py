"""The composition root: opens every room in order, hands each what it needs, and closes them in reverse.

Law: the one module that knows every other. It decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server as Granian
from litestar.types import ASGIApp

from gateway import failpoints, tls, tokens
from gateway.acceptance import Acceptance
from gateway.admin import serve_admin
from gateway.api import Rooms, application
from gateway.api import styles as dialect_styles
from gateway.api.cors import Cors
from gateway.api.edge import Edge
from gateway.api.files import forget_expired, hold_all
from gateway.api.measured import Measured
from gateway.archive import Archive, BadArchive
from gateway.archiving import Archiver
from gateway.catalogue import load as load_catalogue
from gateway.clips import Clips
from gateway.delivery import Deliveries, Standard, Style
from gateway.derive import Derived
from gateway.health import Health
from gateway.links import Links
from gateway.media import Pictures
from gateway.metrics import Metrics
from gateway.metrics.listener import listening
from gateway.metrics.scrape import Sources
from gateway.mirror import SANDBOX
from gateway.retention import Retention
from gateway.router import Policy
from gateway.settings import Account, Settings, Webhooks, provider_modules
from gateway.store import admin_socket, connect, files_folder
from gateway.store.outbox import STANDARD
from gateway.store.spec import Store, StoreUnavailable
from gateway.worker import Worker
from gateway.worker.buyer import Buyer, Line
from gateway.worker.realms import Realms
from providers.guard import Guard
from providers.spec import Closes
from providers.transport import Transport

BACKLOG = 1024
HEAD = HTTP1Settings(header_read_timeout=10_000, max_buffer_size=40 << 10)  # ms; bytes of a request's head
CONNECTIONS = 8192  # granian's own limit lets its backlog of idle streams block the health route


class CannotServe(Exception):
    """The server cannot start. The message says what to do."""


class Gateway:
    """The running service, apart from its sockets."""

    def __init__(self, *, rooms: Rooms, settings: Settings, store: Store, admin_socket: Path) -> None:
        self.rooms = rooms
        self.settings = settings
        self.store = store
        self.admin_socket = admin_socket

    def asgi(self) -> ASGIApp:
        """The HTTP application."""
        app = Measured(Edge(application(self.rooms)), self.store.live.meter)
        origins = self.settings.server.cors_origins
        return Cors(app, origins) if origins else app


@contextlib.asynccontextmanager
async def opened(settings: Settings, *, work: bool = True) -> AsyncIterator[Gateway]:
    """The service, from the store up; without its worker when `work` is false. Raises what the store raises."""
    failpoints.arm(settings.failpoint)
    catalogue = load_catalogue(settings.catalogue)
    names: dict[str, list[str]] = {}
    for account in settings.accounts:
        names.setdefault(account.provider, []).append(account.name)
    slots = {
        provider: sum(a.max_in_flight or 0 for a in settings.accounts if a.provider == provider)
        for provider in names
        if all(a.max_in_flight for a in settings.accounts if a.provider == provider)
    }
    health = Health(names, slots)
    policy = Policy(sort=settings.routing.sort, usd_per_minute_of_waiting=settings.routing.usd_per_minute_of_waiting)
    acceptance = Acceptance()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(_folder(settings))
        url = settings.store.url if not settings.fleeting else f"sqlite:///{folder}/dev.db"
        store = connect(url)
        await store.open()
        stack.push_async_callback(store.close)
        acceptance.rebuild(await store.feedback_counts())
        transport, speaking = await _speaking(stack, settings, folder)
        link = await _picture_link(settings, store)
        pictures = Pictures(folder / "pictures", transport.fetch, link=link)
        archive, derived = _archive(settings), Derived(folder / "derived")
        archiver = None
        if archive is not None:
            archiver = Archiver(
                store=store, archive=archive, stream=transport.stream, now_us=_now_us, joined=derived.joined_pieces
            )
        rooms = Rooms(
            settings=settings,
            catalogue=catalogue,
            health=health,
            acceptance=acceptance,
            policy=policy,
            store=store,
            pictures=pictures,
            retention=Retention(
                store=store, rules=settings.retention, archive=archive, archiver=archiver, discard=derived.discard
            ),
            derived=derived,
            archive=archive,
            links=Links(await store.secret("links"), life_seconds=settings.server.link_seconds),
            transport=transport,
            now_us=_now_us,
        )
        metrics = Metrics(
            Sources(
                catalogue=catalogue,
                health=health,
                acceptance=acceptance,
                accounts=settings.accounts,
                live=store.live,
                open_attempts=lambda: worker.open_attempts(),
                writable=store.writable,
                now_us=_now_us,
            )
        )
        store.live.meter = metrics
        rooms = msgspec.structs.replace(rooms, scrape=metrics.page)
        mirrored = rooms.mirrored()
        rooms = msgspec.structs.replace(rooms, test=mirrored)
        doubles = _doubles(stack, mirrored.settings, folder)
        worker = Worker(
            store=store,
            realms=Realms(_buyer(rooms, speaking), _buyer(mirrored, doubles, test=True)),
            pictures=pictures,
            clips=Clips(transport.stream) if settings.routing.check_clips else None,
            routing=settings.routing,
            public_url=settings.server.public_url,
        )
        styles: dict[str, Style] = {STANDARD: Standard(store.live), **await dialect_styles(rooms)}
        deliveries = Deliveries(store=store, guard=transport.guard, settings=settings.webhooks, styles=styles)
        await hold_all(rooms)
        if work:
            await deliveries.start()
            stack.push_async_callback(deliveries.stop)
            await worker.start()
            pictures.sweep()
            await derived.sweep(store.job)
            stack.push_async_callback(worker.stop)
            rooms.retention.on_forget(worker.forget)
            stack.callback(asyncio.create_task(metrics.watch_loop(), name="event-loop-lag").cancel)
            if archiver is not None:
                await stack.enter_async_context(archiver.running())
        yield Gateway(rooms=rooms, settings=settings, store=store, admin_socket=admin_socket(url))


def _now_us() -> int:
    return time.time_ns() // 1000


def _archive(settings: Settings) -> Archive | None:
    """Where clips are kept; None where they stay with their vendors. Raises CannotServe."""
    try:
        return Archive(settings.archive.url) if settings.archive.url else None
    except BadArchive as error:
        raise CannotServe(str(error)) from error


async def _picture_link(settings: Settings, store: Store) -> Callable[[str], str] | None:
    """How a kept picture is named to a vendor that takes addresses only; None where vendors cannot reach us."""
    if settings.server.public_url is None:
        return None
    base, key = settings.server.public_url.rstrip("/"), await store.secret("media")
    return lambda sha256: f"{base}/media/{tokens.sign(sha256, key)}"


@contextlib.asynccontextmanager
async def lines(settings: Settings) -> AsyncIterator[list[Line]]:
    """Every account, ready to be spoken to, without the rest of the service. Raises CannotServe."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(_folder(settings))
        yield (await _speaking(stack, settings, folder))[1]


async def _speaking(stack: contextlib.AsyncExitStack, settings: Settings, folder: Path) -> tuple[Transport, list[Line]]:
    transport = Transport(guard=Guard(settings.egress.allow), read_seconds=settings.routing.read_seconds)
    stack.push_async_callback(transport.close)
    found = [_line(account, transport, folder) for account in settings.accounts]
    for line in found:
        if isinstance(line.adapter, Closes):
            stack.push_async_callback(line.adapter.close)
    return transport, found


def _buyer(rooms: Rooms, lines: list[Line], *, test: bool = False) -> Buyer:
    return Buyer(
        catalogue=rooms.catalogue,
        health=rooms.health,
        acceptance=rooms.acceptance,
        policy=rooms.policy,
        routing=rooms.settings.routing,
        lines=lines,
        configured=rooms.settings.configured,
        test=test,
    )


def _doubles(stack: contextlib.AsyncExitStack, settings: Settings, folder: Path) -> list[Line]:
    """A line for every provider that a test key sees; all of them lead to one sandbox, whatever is configured."""
    module = provider_modules()[SANDBOX]
    double = module.make(module.Settings(folder=str(folder / "tests"), pace=0, failures=False))
    if isinstance(double, Closes):
        stack.push_async_callback(double.close)
    return [
        Line(
            provider=account.provider,
            account=account.name,
            adapter=double,
            max_in_flight=account.max_in_flight,
            callbacks=account.callbacks,
            test=True,
        )
        for account in settings.accounts
    ]


async def serve(
    settings: Settings, *, ready: Callable[[str], None] | None = None, stop: asyncio.Event, work: bool = True
) -> None:
    """Serve until `stop` is set; `ready` is told the address once requests are answered.

    Raises CannotServe, and what the store raises.
    """
    try:
        certificate = tls.files(settings.server)
    except tls.BadCertificate as error:
        raise CannotServe(str(error)) from error
    async with opened(settings, work=work) as gateway, contextlib.AsyncExitStack() as doors:
        if not settings.dev and settings.local_key is None and not await gateway.store.keys():
            raise CannotServe(
                "there is no API key yet. Make one with: filmgate keys create NAME\n"
                "(or try Filmgate without any key, on this machine only: filmgate serve --dev)"
            )
        host, port = settings.server.host, settings.server.port
        _must_be_free(host, port)
        await _open_metrics(doors, gateway)
        server = Granian(
            gateway.asgi(),
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HEAD,
            websockets=False,
            backlog=BACKLOG,
            backpressure=CONNECTIONS,
            log_enabled=False,
            ssl_cert=certificate[0] if certificate else None,
            ssl_key=certificate[1] if certificate else None,
            ssl_protocol_min=SSLProtocols.tls12,  # some Pythons in use are built without 1.3
        )
        admin = await serve_admin(gateway.admin_socket, gateway.store)
        try:
            serving = asyncio.create_task(server.serve())
            await _answering(host, port, serving)
            if ready is not None:
                ready(f"http{'s' if certificate else ''}://{f'[{host}]' if ':' in host else host}:{port}")
            stopping = asyncio.create_task(stop.wait())
            keeping = asyncio.create_task(_keep_house(gateway.rooms, settings.webhooks))
            await asyncio.wait({serving, stopping, keeping}, return_when=asyncio.FIRST_COMPLETED)
            gateway.store.live.feed.end()  # the server waits for open streams
            server.stop()  # type: ignore[no-untyped-call]
            await serving
            stopping.cancel()
            if keeping.done():
                keeping.result()
            keeping.cancel()
        finally:
            await admin.close()


def run(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """`serve` in an event loop of its own, until SIGINT or SIGTERM."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, stop.set)
        await serve(settings, ready=ready, stop=stop)

    loop_factory: Any = None
    with contextlib.suppress(ImportError):
        import uvloop  # not on every platform

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def _line(account: Account, transport: Transport, folder: Path) -> Line:
    """One account's adapter. A provider that keeps files gets a folder beside the store, unless it names its own."""
    module = provider_modules()[account.provider]
    settings = account.settings
    if getattr(settings, "folder", "") is None:
        settings = msgspec.structs.replace(settings, folder=str(folder / account.provider))
    try:
        adapter = module.make(settings, transport)
    except ValueError as error:
        raise CannotServe(f"[providers.{account.provider}], account {account.name!r}: {error}") from error
    return Line(
        provider=account.provider,
        account=account.name,
        adapter=adapter,
        max_in_flight=account.max_in_flight,
        max_submits_per_minute=account.max_submits_per_minute,
        callbacks=account.callbacks,
    )


@contextlib.contextmanager
def _folder(settings: Settings) -> Iterator[Path]:
    """Where files that belong to the store are kept: beside it, or in a temporary folder."""
    if settings.fleeting:
        with tempfile.TemporaryDirectory(prefix="filmgate-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
        return
    folder = files_folder(settings.store.url)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    yield folder


def _must_be_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotServe(
                f"{host}:{port} cannot be listened on: {error.strerror}. Choose another --port."
            ) from error


async def _open_metrics(doors: contextlib.AsyncExitStack, gateway: Gateway) -> None:
    """The listener for metrics, where one is wanted. Raises CannotServe."""
    host, port, page = gateway.settings.server.metrics_host, gateway.settings.server.metrics_port, gateway.rooms.scrape
    if port is None or page is None:
        return
    try:
        await doors.enter_async_context(listening(host, port, page))
    except OSError as error:
        raise CannotServe(f"{host}:{port} cannot be listened on for metrics: {error.strerror}") from error


async def _keep_house(rooms: Rooms, webhooks: Webhooks) -> None:
    """Forgets what has expired, hour by hour; raises CannotServe once only a new process could write again."""
    store = rooms.store
    for second in itertools.count():
        trouble = store.trouble()
        if trouble is not None and trouble.lasting:
            raise CannotServe(f"the store can no longer be written: {trouble.message}")
        if second % 3600 == 0:
            with contextlib.suppress(StoreUnavailable):
                await store.forget_expired(_now_us())
                await store.post.forget(_now_us() - int(webhooks.keep_days * 86_400 * 1_000_000))
                await rooms.retention.keep_house(_now_us())
                await forget_expired(rooms)
        await asyncio.sleep(1)


async def _answering(host: str, port: int, serving: asyncio.Task[None]) -> None:
    """Returns once a connection is taken; raises what ended the server before."""
    while not serving.done():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    await serving
