"""Callers' addresses of every temper, over real sockets, and a store whose jobs end when a test says so."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.delivery import Deliveries, Standard
from gateway.jobs import Job, JobEvent
from gateway.settings import Webhooks
from gateway.store import connect
from gateway.store.outbox import STANDARD, TOLD, Delivery, DeliveryState, Try, Webhook
from gateway.store.spec import Event, Store
from providers.guard import Guard
from providers.spec import Secret
from tests.records import DECISION, NOW_US, a_job, an_attempt, ended, started
from tests.vendors.wire import Reply, Request, Server

CALLER = "caller1"
DAYS_IN_SECONDS = 1e-5  # of a schedule of three days: 2.7 s
SHIPPED = Webhooks()


def scaled(by: float = DAYS_IN_SECONDS, **changes: Any) -> Webhooks:
    """The shipped schedule in a fraction of its time, without jitter."""
    words: dict[str, Any] = {
        "retry_seconds": tuple(wait * by for wait in SHIPPED.retry_seconds),
        "jitter": 0.0,
        "timeout_seconds": 0.3,
    }
    return Webhooks(**{**words, **changes})


class Callee:
    """An address that is called: keeps what came, and when; `answer` says what goes back."""

    def __init__(self) -> None:
        self.got: list[Request] = []
        self.at: list[float] = []
        self.answer: Callable[[Request], Reply] = lambda _: Reply()
        self.open = self.most_open = 0
        self.url = ""
        self._server = Server(self._take)
        self._more = asyncio.Event()

    async def _take(self, request: Request) -> Reply:
        self.got.append(request)
        self.at.append(asyncio.get_running_loop().time())
        self._more.set()
        return self.answer(request)

    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.got]

    async def wait(self, count: int, seconds: float = 10) -> None:
        """Returns once so many calls have come; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while len(self.got) < count:
                self._more.clear()
                await self._more.wait()

    async def start(self) -> None:
        port = urlsplit(self.url).port or 0
        self.url = await self._server.start(port=port) + "/hook"

    async def stop(self) -> None:
        """Nobody listens there any more, until the next start."""
        await self._server.stop()


class Shop:
    """A store with callers' endpoints, and what drains it."""

    def __init__(self, store: Store, deliveries: Deliveries, stack: AsyncExitStack) -> None:
        self.store = store
        self.deliveries = deliveries
        self._stack = stack

    async def callee(self) -> Callee:
        """An address that listens until the shop closes."""
        callee = Callee()
        await callee.start()
        self._stack.push_async_callback(callee.stop)
        return callee

    async def endpoint(self, url: str, caller: str = CALLER) -> tuple[Webhook, Secret]:
        return await self.store.post.add(caller, url, TOLD, now_us=NOW_US)

    async def end_a_job(
        self,
        *,
        callback_url: str | None = None,
        event: JobEvent = JobEvent.COMPLETED,
        caller: str = CALLER,
        **spec: Any,
    ) -> Job:
        """A job's whole life, down to its terminal event."""
        job = a_job(caller)
        job = msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, callback_url=callback_url, **spec))
        await self.store.accept(job, decision=DECISION)
        job = started(job)
        await self.store.save(job, attempt=an_attempt(job))
        code = {} if event is JobEvent.COMPLETED else {"error_code": "generation_failed"}
        end = ended(job, event, **code)
        await self.store.save(end, events=(Event(job=job.id, type=event, at_us=NOW_US),))
        return end

    async def log_of(self, job: Job) -> list[tuple[Delivery, tuple[Try, ...]]]:
        return list(await self.store.post.of_job(job.id))

    async def tried(self, job: Job) -> None:
        """Returns once a try is in the log."""
        async with asyncio.timeout(10):
            while True:
                if any(tries for _, tries in await self.log_of(job)):
                    return
                await asyncio.sleep(0.02)

    async def over(self, job: Job, seconds: float = 10) -> list[tuple[Delivery, tuple[Try, ...]]]:
        """The log once nothing is due any more; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                log = await self.log_of(job)
                if log and all(delivery.state is not DeliveryState.DUE for delivery, _ in log):
                    return log
                await asyncio.sleep(0.02)


@asynccontextmanager
async def shop(
    folder: Path, settings: Webhooks | None = None, *, allow: tuple[str, ...] = ("127.0.0.1",)
) -> AsyncIterator[Shop]:
    """A store in `folder`, drained under these settings; it may be opened again."""
    async with AsyncExitStack() as stack:
        store = connect(f"sqlite:///{folder}/filmgate.db")
        await store.open()
        stack.push_async_callback(store.close)
        deliveries = Deliveries(
            store=store,
            guard=Guard(allow),
            settings=settings or scaled(),
            styles={STANDARD: Standard(store.live)},
        )
        await deliveries.start()
        stack.push_async_callback(deliveries.stop)
        yield Shop(store, deliveries, stack)


def verified(request: Request, secret: Secret) -> bool:
    """Whether one of the signatures is this secret's, by the words of Standard Webhooks."""
    key = base64.b64decode(secret.reveal().removeprefix("whsec_"))
    head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}."
    digest = hmac.new(key, head.encode() + request.body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}" in request.headers["webhook-signature"].split(" ")
