"""Drains the outbox: tells callers' addresses how their jobs ended, until each was told or its schedule is over.

Laws: at least once: what is owed is on disk before it is sent and stays there until an answer is logged, so a crash can
repeat a try but never lose one; every try of one event carries the same id. A target is an endpoint, or the host of one
caller's callbacks: each has a line of its own, so one that is slow or dead keeps nobody else waiting; one that fails is
asked one thing at a time, and a caller has at most a quarter of all places. An address is a stranger's: it is opened
through the guard, where the connection is made, and a redirect is a failure. What it answers is not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import cookiejar

import httpx
import msgspec
import structlog

from gateway import failpoints
from gateway.delivery.standard import Standard, trial_body
from gateway.delivery.style import Outgoing, Style
from gateway.settings import Webhooks
from gateway.store.outbox import Delivery, DeliveryState, Line, Try
from gateway.store.spec import Store, StoreUnavailable
from providers.guard import Guard, GuardedTransport, UrlRefused
from providers.spec import Frozen
from providers.transport import retry_after

__all__ = ["Deliveries", "Outgoing", "Standard", "Style"]

log = structlog.get_logger(__name__)

SECOND = 1_000_000
CONNECT_SECONDS = 5.0
LONGEST_SLEEP_SECONDS = 60.0
AGAIN_SECONDS = 0.5  # until a write that the disk did not take is tried again
FAREWELL_SECONDS = 3.0  # how long a stop waits for tries that are under way
MOST_REPLY_BYTES = 64 << 10
DRAIN_SECONDS = 1.0
GONE = 410
MOST_FAILING = 10_000  # targets that are remembered to fail though nothing waits for them


class Heard(Frozen):
    """What a try came to. `error` is its class, None when the event was taken."""

    status: int | None = None
    error: str | None = None
    wait_seconds: float = 0.0  # the least that the address asks for, before the next try


class Deliveries:
    """Runs from `start` to `stop`, beside the worker."""

    def __init__(
        self,
        *,
        store: Store,
        guard: Guard,
        settings: Webhooks,
        styles: Mapping[str, Style],
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._post = store.post
        self._guard = guard
        self._settings = settings
        self._styles = styles
        self._now_us = now_us
        self._draw = draw
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(guard, max_connections=settings.at_once_in_all),
            timeout=httpx.Timeout(settings.timeout_seconds, connect=min(CONNECT_SECONDS, settings.timeout_seconds)),
            cookies=cookiejar.CookieJar(cookiejar.DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
        )
        self._flying: dict[str, asyncio.Task[None]] = {}  # by the delivery's id
        self._busy: Counter[str] = Counter()  # tries under way, by target, and by caller
        self._failing: set[str] = set()  # targets whose last try was in vain
        self._woken = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin with what a process before this one left owing."""
        self._store.live.on_post(self._woken.set)
        self._run = asyncio.create_task(self._drain(), name="deliveries")

    async def stop(self) -> None:
        """Begin nothing new, give tries under way a moment; what is cut short is tried again after the next start."""
        if self._run is None:
            return
        self._run.cancel()
        await asyncio.gather(self._run, return_exceptions=True)
        if self._flying:
            await asyncio.wait(self._flying.values(), timeout=FAREWELL_SECONDS)
        for task in tuple(self._flying.values()):
            task.cancel()
        await asyncio.gather(*self._flying.values(), return_exceptions=True)
        await self._client.aclose()

    # --- who is next --------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        while True:
            self._woken.clear()
            try:
                seconds = await self._hand_out()
            except StoreUnavailable as error:
                log.error("webhooks.store_unavailable", said=str(error)[:200])
                seconds = AGAIN_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()

    async def _hand_out(self) -> float:
        """Begin every try that is due and has a place; seconds until the next one is due. The end of a try wakes us."""
        now_us = self._now_us()
        lines = await self._post.lines()
        if len(self._failing) > MOST_FAILING:
            self._failing &= {line.target for line in lines}
        soonest_us = now_us + int(LONGEST_SLEEP_SECONDS * SECOND)
        for line in sorted(lines, key=lambda line: (self._busy[line.target], line.due_us)):
            if line.due_us > now_us:
                soonest_us = min(soonest_us, line.due_us)
                continue
            free = self._places(line)
            if free <= 0:
                continue
            taken = frozenset(self._flying)  # of these the read may tell what was true before they ended
            found = await self._post.due(line.target, now_us=now_us, limit=free + self._busy[line.target])
            for delivery in [one for one in found if one.id not in taken][:free]:
                self._begin(delivery)
        return max((soonest_us - self._now_us()) / SECOND, 0.0)

    def _places(self, line: Line) -> int:
        """How many more tries this line may have under way."""
        at_once, in_all = self._settings.at_once, self._settings.at_once_in_all
        own = (1 if line.target in self._failing else at_once) - self._busy[line.target]
        return min(own, max(in_all // 4, at_once) - self._busy[line.caller], in_all - len(self._flying))

    def _begin(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._try(delivery), name=f"deliver-{delivery.id}")
        self._flying[delivery.id] = task
        self._busy.update((delivery.target, delivery.caller))
        task.add_done_callback(lambda _: self._end(delivery, task))

    def _end(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._leave(delivery)
        else:  # a defect of ours: it is still due, and keeps its place for a while, or it would be tried without end
            log.error("webhook.try_broke", delivery=delivery.id, exc_info=error)
            asyncio.get_running_loop().call_later(LONGEST_SLEEP_SECONDS, self._leave, delivery)

    def _leave(self, delivery: Delivery) -> None:
        self._flying.pop(delivery.id, None)
        self._busy.subtract((delivery.target, delivery.caller))
        self._busy = +self._busy
        self._woken.set()

    # --- one try ------------------------------------------------------------------------------------------------------

    async def _try(self, delivery: Delivery) -> None:
        at_us, began = self._now_us(), time.monotonic()
        heard = await self._tell(delivery)
        ms = round((time.monotonic() - began) * 1000)
        failpoints.reach("after_webhook")
        how = Try(no=delivery.tries + 1, at_us=at_us, ms=ms, status=heard.status, error=heard.error)
        (self._failing.discard if heard.error is None else self._failing.add)(delivery.target)
        state, due_us = self._follows(delivery, heard)
        why = f"the address answered {GONE}" if heard.status == GONE and delivery.webhook else None
        await self._log(delivery, how, state, due_us, why)

    def _follows(self, delivery: Delivery, heard: Heard) -> tuple[DeliveryState, int | None]:
        """What becomes of a delivery, and when it is tried again if it is."""
        if heard.error is None:
            return DeliveryState.DELIVERED, None
        if heard.status == GONE:
            return DeliveryState.DISABLED, None
        if delivery.step >= len(self._settings.retry_seconds):
            return DeliveryState.FAILED, None
        wait = self._settings.retry_seconds[delivery.step] * (1 + self._settings.jitter * (2 * self._draw() - 1))
        return DeliveryState.DUE, self._now_us() + int(max(wait, heard.wait_seconds) * SECOND)

    async def _log(
        self, delivery: Delivery, how: Try, state: DeliveryState, due_us: int | None, why: str | None
    ) -> None:
        """Write down how it went, until the disk takes it: nobody else could tell."""
        while True:
            try:
                await self._post.tried(delivery, how, state=state, due_us=due_us, ends_webhook=why)
                break
            except StoreUnavailable:
                trouble = self._store.trouble()
                if trouble is not None and trouble.lasting:
                    return  # the process goes, and the next one tries again
                await asyncio.sleep(AGAIN_SECONDS)
        self._store.live.meter.delivered(state.value, (self._now_us() - delivery.created_us) / SECOND)
        log.info(
            "webhook.tried",
            delivery=delivery.id,
            webhook_id=delivery.event,
            target=delivery.target,
            no=how.no,
            status=how.status,
            error=how.error,
            ms=how.ms,
            state=state.value,
        )

    async def _tell(self, delivery: Delivery) -> Heard:
        """One POST, and what it came to."""
        now_us = self._now_us()
        try:
            owner = delivery.webhook or delivery.caller
            secrets = await self._post.secrets(owner, now_us=now_us)
            outgoing = Outgoing(**msgspec.structs.asdict(delivery), secrets=secrets)
            body, signed = await self._written(outgoing, now_us)
        except (LookupError, StoreUnavailable) as error:
            log.error("webhook.not_written", delivery=delivery.id, said=str(error)[:200])
            return Heard(error="not_written")
        headers = {"content-type": "application/json", "user-agent": "Filmgate", "accept-encoding": "identity"}
        try:
            url = self._guard.parse(delivery.url)
            async with asyncio.timeout(self._settings.timeout_seconds):
                request = self._client.build_request("POST", url, content=body, headers={**headers, **signed})
                response = await self._client.send(request, stream=True)
        except UrlRefused:
            return Heard(error="address_refused")
        except (TimeoutError, httpx.TimeoutException):
            return Heard(error="timeout")
        except httpx.ConnectError:
            return Heard(error="unreachable")
        except (httpx.HTTPError, ValueError):
            return Heard(error="broken_reply")
        await _drain(response)
        return _judged(response)

    async def _written(self, outgoing: Outgoing, now_us: int) -> tuple[bytes, dict[str, str]]:
        """Body and signing headers. Raises LookupError."""
        style = self._styles[outgoing.style]
        if outgoing.job is None:
            body = trial_body(outgoing)
        else:
            job = self._store.live.job(outgoing.job) or await self._store.job(outgoing.job)
            if job is None:
                raise LookupError(f"{outgoing.job} is not in the store")
            body = style.body(job, now_us=now_us)
        return body, style.headers(outgoing, body, now_us=now_us)


def _judged(response: httpx.Response) -> Heard:
    status = response.status_code
    if 200 <= status < 300:
        return Heard(status=status)
    if status == GONE:
        return Heard(status=status, error="gone")
    wait = retry_after(response.headers.get("retry-after"), now=time.time()) if status in (429, 503) else None
    return Heard(status=status, error="redirected" if 300 <= status < 400 else "refused", wait_seconds=wait or 0.0)


async def _drain(response: httpx.Response) -> None:
    """Let the address finish a small answer, which we throw away. Its status counts, whatever becomes of the rest."""
    size = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > MOST_REPLY_BYTES:
                    break
    except (TimeoutError, httpx.HTTPError):
        pass
    finally:
        await response.aclose()
