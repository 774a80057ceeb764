"""What the worker writes down: transitions, ends and money, and which attempts are open.

Laws: an attempt and its job change in one transaction. A caller's wish that came between is kept: the job is read again
and the change made anew. What only this process knows (a vendor's reply) is saved again and again until the disk takes
it, since nobody else could tell it. A job's cost is the sum over its attempts, written-off spend included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from gateway import failpoints, tokens
from gateway.jobs import Attempt, AttemptEvent, AttemptState, Job, JobEvent, advance, advance_attempt
from gateway.media import Pictures
from gateway.settings import Routing
from gateway.store.spec import Conflict, Event, Store, StoreUnavailable
from gateway.worker import pace
from gateway.worker.buyer import Choice, Line
from gateway.worker.realms import Realms
from providers.spec import Fault, Operation, Succeeded

log = structlog.get_logger(__name__)

SAVE_AGAIN_SECONDS = 0.5
SECOND = 1_000_000


class Books:
    """`open` holds each job's open attempt, `job_of` the job of each open attempt."""

    def __init__(
        self,
        *,
        store: Store,
        realms: Realms,
        pictures: Pictures,
        routing: Routing,
        public_url: str | None,
        now_us: Callable[[], int],
    ) -> None:
        self.open: dict[str, Attempt] = {}
        self.job_of: dict[str, str] = {}
        self._store = store
        self._realms = realms
        self._pictures = pictures
        self._routing = routing
        self._now_us = now_us
        self._giving_up = False
        self._public_url = public_url.rstrip("/") if public_url else None
        self.callback_key = b""

    def callback_url(self, attempt: Attempt, line: Line) -> str | None:
        """Where the vendor rings for this attempt; the same each time, so that a submit can be found by it."""
        if self._public_url is None or not line.callbacks:
            return None
        return f"{self._public_url}/callbacks/{tokens.sign(attempt.id, self.callback_key)}"

    def give_up(self) -> None:
        """The process is going: a store that cannot write is not waited for any more."""
        self._giving_up = True

    def resume(self, job: Job, attempt: Attempt | None) -> None:
        """Take up a job as the store tells it after a start."""
        if not job.state.is_terminal:
            self._pictures.hold(job.spec.video)
        if attempt is not None and attempt.state.is_open:
            self._follow(attempt)
            self._realms.of(attempt).opened(attempt)

    async def attempts(self, job: Job) -> tuple[Attempt, ...]:
        """All that a job has tried so far."""
        return await self._store.attempts(job.id) if job.attempts else ()

    async def start(self, job: Job, attempt: Attempt, choice: Choice) -> None:
        """T2: the intent, before the POST. Raises Conflict when the job has changed since it was read."""
        spent = sum(before.spent_usd_micros for before in await self.attempts(job))
        started = advance(
            job,
            JobEvent.ATTEMPT_STARTED,
            routing=choice.routing,
            seconds=choice.candidate.request.seconds or 0,
            size=choice.candidate.size,
            warnings=choice.candidate.warnings,
            attempts=job.attempts + 1,
            reserved_usd_micros=spent + attempt.price_usd_micros,
        )
        event = self._event(JobEvent.ATTEMPT_STARTED, attempt, price_usd_micros=attempt.price_usd_micros)
        await self._store.save(started, attempt=attempt, events=(event,))
        self._follow(attempt)
        self._realms.of(attempt).opened(attempt)
        log.info("attempt.started", **_named(attempt))

    async def accepted(self, job_id: str, attempt: Attempt, operation: Operation) -> None:
        """T3: the vendor's handle of an attempt that was taken on, by its reply or found later."""
        event = AttemptEvent.FOUND if attempt.state is AttemptState.UNKNOWN else AttemptEvent.ACCEPTED
        running = advance_attempt(attempt, event, operation=operation, accepted_us=self._now_us(), fault=None)
        await self.note(job_id, running, event)
        self._realms.of(running).taken(running)
        log.info(event.value, **_named(running))

    async def note(self, job_id: str, attempt: Attempt, event: AttemptEvent) -> None:
        """A change of an attempt that stays open (T3)."""

        def build(job: Job) -> Job:
            return advance(job, JobEvent.SETTLED if job.state.is_terminal else JobEvent.PROGRESSED)

        await self._surely(job_id, build, attempt, event)
        self._follow(attempt)

    async def close(
        self,
        job_id: str,
        attempt: Attempt,
        event: AttemptEvent,
        *,
        won: Succeeded | None = None,
        warnings: tuple[str, ...] = (),
        not_checked: str = "",
    ) -> float | None:
        """The end of an attempt, and what becomes of its job (T4 when that ends too). Seconds until the job is due.

        `warnings` are added to the job's; `not_checked`, why a clip was not looked at, stands in the event.
        """
        others = [a for a in await self._store.attempts(job_id) if a.id != attempt.id]
        cost = sum(a.spent_usd_micros for a in (*others, attempt))
        now = self._now_us()

        def build(job: Job) -> Job:
            if job.state.is_terminal:
                return advance(job, JobEvent.SETTLED, cost_usd_micros=cost, reserved_usd_micros=0)
            ends: dict[str, Any] = {"cost_usd_micros": cost, "reserved_usd_micros": 0, "ended_us": now}
            said = {"warnings": (*job.warnings, *warnings)}
            if won is not None:
                return advance(job, JobEvent.COMPLETED, videos=won.videos, cancel_requested=False, **ends, **said)
            if attempt.state is AttemptState.CANCELLED and job.cancel_requested:
                return advance(job, JobEvent.CANCELLED, error_code="cancelled", **ends)
            code = self._final_code(job, attempt)
            if code:
                return advance(job, JobEvent.FAILED, error_code=code, fault=attempt.fault, **ends, **said)
            # a vendor that billed above its quote is recorded; what is reserved stays within the purse (I7)
            return advance(job, JobEvent.PROGRESSED, reserved_usd_micros=min(cost, job.purse_usd_micros), **said)

        failpoints.reach("before_end")
        told = {"not_checked": not_checked} if not_checked else {}
        before, job = await self._surely(job_id, build, attempt, event, **told)
        self.open.pop(job_id, None)
        self.job_of.pop(attempt.id, None)
        self._realms.of(attempt).closed(attempt, now_us=now)
        self._say(job, attempt, event)
        if not job.state.is_terminal:
            return 0.0
        if not before.state.is_terminal:  # else its pictures were let go of when it ended
            self._pictures.release(job.spec.video)
        failpoints.reach("after_end")
        return None

    async def end(self, job: Job, event: JobEvent, *, code: str, fault: Fault | None = None) -> None:
        """The end of a job whose attempts stay as they are. An open one goes on being followed for its cost."""
        cost: int | None = None
        if job.id not in self.open:
            cost = sum(attempt.spent_usd_micros for attempt in await self.attempts(job))
        ended = advance(
            job,
            event,
            error_code=code,
            fault=fault,
            cost_usd_micros=cost,
            reserved_usd_micros=job.reserved_usd_micros if cost is None else 0,
            ended_us=self._now_us(),
        )
        failpoints.reach("before_end")
        at = Event(job=job.id, type=event, at_us=self._now_us(), data={"code": code})
        await self._store.save(ended, events=(at,))
        log.info(event.value, job=job.id, code=code)
        self._pictures.release(job.spec.video)
        failpoints.reach("after_end")

    async def refuse_cancel(self, job_id: str) -> None:
        """The render can't be stopped: the caller's wish is withdrawn, and whoever waits for it is told so."""
        job = await self._read(job_id)
        if job.cancel_requested and not job.state.is_terminal:
            refused = advance(job, JobEvent.CANCEL_REFUSED, cancel_requested=False)
            event = Event(job=job_id, type=JobEvent.CANCEL_REFUSED, at_us=self._now_us())
            await self._store.save(refused, events=(event,))
            log.info(JobEvent.CANCEL_REFUSED.value, job=job_id)

    def _final_code(self, job: Job, attempt: Attempt) -> str:
        """The error code when no attempt may follow this one; empty when one may."""
        if attempt.state is AttemptState.WRITTEN_OFF and self._routing.on_unknown != "resubmit":
            return "outcome_unknown"
        if attempt.state is AttemptState.CANCELLED:  # by the vendor, though nobody here asked for it
            return "cancelled_by_provider"
        fault = attempt.fault
        if fault is not None and pace.is_final(fault, job.spec.preferences):
            return pace.code_of(fault)
        return ""

    async def _surely(
        self, job_id: str, build: Callable[[Job], Job], attempt: Attempt, event: AttemptEvent, **told: str
    ) -> tuple[Job, Job]:
        """The job before and after, once it is on disk. `told` stands in the attempt's event."""
        while True:
            before = await self._read(job_id)
            after = build(before)
            events = [self._event(event, attempt, **told)]
            if after.state is not before.state:
                data = {} if after.error_code is None else {"code": after.error_code}
                kind = JobEvent(f"job.{after.state}")
                events.append(Event(job=job_id, type=kind, at_us=self._now_us(), data=data))
            try:
                await self._store.save(after, attempt=attempt, events=tuple(events))
                return before, after
            except Conflict:
                continue
            except StoreUnavailable:
                trouble = self._store.trouble()
                if self._giving_up or (trouble is not None and trouble.lasting):
                    raise
                log.error("store.save_again", job=job_id, attempt=attempt.id)
                await asyncio.sleep(SAVE_AGAIN_SECONDS)

    async def _read(self, job_id: str) -> Job:
        job = self._store.live.job(job_id) or await self._store.job(job_id)
        if job is None:
            raise LookupError(f"{job_id} is not in the store")
        return job

    def _follow(self, attempt: Attempt) -> None:
        self.open[attempt.job] = attempt
        self.job_of[attempt.id] = attempt.job

    def _event(self, kind: JobEvent | AttemptEvent, attempt: Attempt, **data: Any) -> Event:
        data["backend"] = attempt.backend
        if attempt.cost_usd_micros is not None:
            data["cost_usd_micros"] = attempt.cost_usd_micros
        if attempt.fault is not None:
            data |= {"kind": attempt.fault.kind, "message": attempt.fault.message}
        return Event(job=attempt.job, type=kind, at_us=self._now_us(), attempt=attempt.id, data=data)

    def _say(self, job: Job, attempt: Attempt, event: AttemptEvent) -> None:
        said = _named(attempt)
        log.info(event.value, **said, cost_usd_micros=attempt.cost_usd_micros)
        if job.state.is_terminal:
            log.info(f"job.{job.state}", **said, cost_usd_micros=job.cost_usd_micros, code=job.error_code)


def _named(attempt: Attempt) -> dict[str, Any]:
    """Whose line of the log it is. A test is told as such: its backend was only played."""
    said = {"job": attempt.job, "attempt": attempt.id, "backend": attempt.backend}
    return {**said, "test": True} if attempt.test else said
