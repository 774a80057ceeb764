"""Takes due jobs and moves each one step at a time, until nothing is left to do for it.

Laws: nothing that a step raises may lose its job; one job is in one step at a time; a step under way is let end. Timers
are the event loop's own, one for each job in flight, so following a hundred thousand renders costs the store nothing: a
poll that changes nothing writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from gateway.clips import Clips
from gateway.jobs import Attempt, Job
from gateway.media import Pictures
from gateway.settings import Routing
from gateway.store.spec import Conflict, Store, StoreUnavailable
from gateway.worker.books import Books
from gateway.worker.realms import Realms
from gateway.worker.refreshing import Refreshing
from gateway.worker.steps import Steps
from gateway.worker.watching import Ring

log = structlog.get_logger(__name__)

STEPS_AT_ONCE = 256
REMEMBERED_ATTEMPTS = 2000  # ended ones that health is rebuilt from


class Worker:
    """One worker of one store. `start`, then jobs move; `stop` returns when no step is under way."""

    def __init__(
        self,
        *,
        store: Store,
        realms: Realms,
        pictures: Pictures,
        routing: Routing,
        clips: Clips | None = None,  # None: delivered clips are not checked
        public_url: str | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._realms = realms
        self._now_us = now_us
        self._stopping = False
        self._gate = asyncio.Semaphore(STEPS_AT_ONCE)
        self._books = Books(
            store=store, realms=realms, pictures=pictures, routing=routing, public_url=public_url, now_us=now_us
        )
        self._steps = Steps(
            store=store,
            books=self._books,
            realms=realms,
            pictures=pictures,
            routing=routing,
            clips=clips,
            now_us=now_us,
        )
        self._refreshing = Refreshing(store=store, realms=realms, now_us=now_us)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    async def start(self) -> None:
        """Take up every unfinished job of the store, then listen to the live view."""
        self._books.callback_key = await self._store.secret("callback")
        live, *_ = self._realms
        live.health.rebuild(await self._store.recent_attempts(REMEMBERED_ATTEMPTS))
        for job, attempt in await self._store.open_work():
            self._books.resume(job, attempt)
            self._at(job.id, 0)
        self._store.live.on_wake(self._wake)
        self._store.live.on_ring(self._ring)
        self._store.live.on_refresh(self._refreshing.refresh)
        self._store.live.on_position(self._realms.position)

    async def stop(self) -> None:
        """Begin nothing more. A submit that has left is waited for: at worst its connect and read limits.
        So is a clip that is being checked: at worst the limits of `clips`."""
        self._stopping = True
        self._books.give_up()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._busy:
            await asyncio.wait(self._busy.values())
        await self._refreshing.stop()

    async def forget(self, job: Job) -> bool:
        """Let renderers on this machine let go of what they keep of an erased job. False while one is still at it.
        Raises ProviderError."""
        return await self._refreshing.forget(job)

    def open_attempts(self) -> Iterable[Attempt]:
        """What is out or may be. To be gone through at once."""
        return self._books.open.values()

    def _wake(self, job_id: str) -> None:
        self._at(job_id, 0)

    def _ring(self, attempt_id: str, body: bytes, headers: Mapping[str, str]) -> None:
        job_id = self._books.job_of.get(attempt_id)
        if job_id is None:
            log.info("callback.rang_for_nothing_open", attempt=attempt_id)
            return
        self._steps.watching.rang(attempt_id, Ring(body, headers))
        self._at(job_id, 0)

    def _at(self, job_id: str, seconds: float) -> None:
        old = self._timers.pop(job_id, None)
        if old is not None:
            old.cancel()
        if not self._stopping:
            loop = asyncio.get_running_loop()
            self._timers[job_id] = loop.call_later(seconds, self._due, job_id, loop.time() + seconds)

    def _due(self, job_id: str, at: float) -> None:
        self._timers.pop(job_id, None)
        if job_id in self._busy:
            self._again.add(job_id)
            return
        task = asyncio.get_running_loop().create_task(self._run(job_id, at))
        self._busy[job_id] = task

    def _call_next(self) -> None:
        """Wake the jobs that a slot has come free for."""
        for job_id in self._realms.next_turns(now_us=self._now_us()):
            if job_id not in self._busy:
                self._at(job_id, 0)

    async def _run(self, job_id: str, due: float) -> None:
        """One step, and the timer for the next. Nothing that a step raises may lose the job."""
        delay: float | None = 5.0
        try:
            async with self._gate:
                self._store.live.meter.stepped(asyncio.get_running_loop().time() - due)
                delay = await self._steps.step(job_id)
        except Conflict:
            delay = 0.0  # the caller's wish came between: read again
        except StoreUnavailable as error:
            log.error("store.unavailable", job=job_id, error=str(error))
            delay = 1.0
        except Exception:
            log.exception("step.failed", job=job_id)
        finally:
            del self._busy[job_id]
            if delay is None:
                self._realms.leave(job_id)
            self._call_next()
        if job_id in self._again:
            self._again.discard(job_id)
            delay = 0.0
        if delay is not None:
            self._at(job_id, delay)
