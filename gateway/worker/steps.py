"""One step of one job: begin the next attempt and send it, once; what has been sent is `watching`'s.

Laws. A paid POST leaves only after its attempt is on disk (T2), only from that very step, and only within
`intent_seconds` by this process's own monotonic clock; whatever becomes of it, that attempt is never sent again (I3,
I4). An attempt found `submitting` by anybody else (after a crash) is left alone until its window is over and is then
`unknown`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from gateway import failpoints, ids
from gateway.clips import Clips
from gateway.jobs import Attempt, AttemptEvent, AttemptState, Job, JobEvent, JobState, advance_attempt
from gateway.media import PictureRefused, Pictures, addresses
from gateway.settings import Routing
from gateway.store.spec import BudgetExceeded, Store
from gateway.worker import pace
from gateway.worker.books import Books
from gateway.worker.buyer import Choice, Line, Pass, Wait, WrongRealm
from gateway.worker.realms import Realms, must_be_of_one_realm
from gateway.worker.watching import Watching
from providers.spec import Fault, Kind, Operation, Outcome, ProviderError, Verdict, VideoRequest

log = structlog.get_logger(__name__)

SECOND = 1_000_000


class Steps:
    """What the worker does with a job that is due."""

    def __init__(
        self,
        *,
        store: Store,
        books: Books,
        realms: Realms,
        pictures: Pictures,
        routing: Routing,
        now_us: Callable[[], int],
        clips: Clips | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watching = Watching(
            live=store.live,
            books=books,
            realms=realms,
            pictures=pictures,
            routing=routing,
            clips=clips,
            now_us=now_us,
        )
        self._store = store
        self._books = books
        self._realms = realms
        self._pictures = pictures
        self._routing = routing
        self._now_us = now_us
        self._monotonic = monotonic

    async def step(self, job_id: str) -> float | None:
        """Move the job once. Seconds until it is due again; None when nothing is left to do."""
        job = self._store.live.job(job_id) or await self._store.job(job_id)
        if job is None:
            return None
        attempt = self._books.open.get(job_id)
        if attempt is None:
            return None if job.state.is_terminal else await self._begin(job)
        if job.state is JobState.ACTIVE and self._now_us() >= job.deadline_us:
            await self.watching.stop_render(attempt)
            await self._books.end(job, JobEvent.EXPIRED, code="expired")
            return 0.0
        match attempt.state:
            case AttemptState.SUBMITTING:
                return await self._outwait(job, attempt)
            case AttemptState.UNKNOWN:
                return await self.watching.reconcile(job, attempt)
            case _:
                return await self.watching.look(job, attempt)

    async def _begin(self, job: Job) -> float | None:
        """Start the next attempt, or end the job because there can be none."""
        now = self._now_us()
        if job.cancel_requested:
            await self._books.end(job, JobEvent.CANCELLED, code="cancelled")
            return None
        if now >= job.deadline_us:
            await self._books.end(job, JobEvent.EXPIRED, code="expired")
            return None
        attempts = await self._books.attempts(job)
        match self._realms.of(job).choose(job, attempts, now_us=now):
            case Wait(seconds=seconds):
                return min(seconds, max((job.deadline_us - now) / SECOND, 0.0))
            case Pass(code=code, fault=fault):
                await self._books.end(job, JobEvent.FAILED, code=code, fault=fault)
                return None
            case choice:
                try:
                    return await self._submit(job, choice)
                except BudgetExceeded as over:
                    return await self._begin_within(job, attempts, over, now_us=now)

    async def _begin_within(
        self, job: Job, attempts: Sequence[Attempt], over: BudgetExceeded, *, now_us: int
    ) -> float | None:
        """The key's budget has no room for the attempt that was chosen: one for which it has, or the job's end."""
        least = min(job.purse_usd_micros, job.reserved_usd_micros + over.left_usd_micros)
        match self._realms.of(job).choose(
            msgspec.structs.replace(job, purse_usd_micros=least), attempts, now_us=now_us
        ):
            case Wait(seconds=seconds):
                return min(seconds, max((job.deadline_us - now_us) / SECOND, 0.0))
            case Choice() as choice:
                with contextlib.suppress(BudgetExceeded):  # somebody else took what was left
                    return await self._submit(job, choice)
        before = f"{attempts[-1].fault.message}; " if attempts and attempts[-1].fault else ""
        fault = Fault(kind=Kind.UNSUPPORTED, verdict=Verdict.NEVER, message=f"{before}{over}")
        await self._books.end(job, JobEvent.FAILED, code="budget_exceeded", fault=fault)
        return None

    async def _submit(self, job: Job, choice: Choice) -> float | None:
        """T2, then the one POST, then T3."""
        try:
            prepared = await self._prepared(job, choice)
            sent_before = self._monotonic() + self._routing.intent_seconds
            attempt = self._realms.of(job).attempt(job, choice, id=ids.fresh("att"), now_us=self._now_us())
            if not isinstance(prepared, ProviderError):
                handed = addresses(choice.candidate.request, prepared)
                attempt = msgspec.structs.replace(attempt, handed=handed)
            await self._books.start(job, attempt, choice)
        finally:
            self._realms.of(job).free(choice)
        failpoints.reach("after_intent")
        try:
            if isinstance(prepared, ProviderError):
                raise ProviderError(prepared.fault, outcome=Outcome.NOT_SENT)
            operation = await self._send(attempt, prepared, choice.line, sent_before)
        except ProviderError as error:
            return await self._not_accepted(job.id, attempt, error)
        failpoints.reach("after_reply")
        await self._books.accepted(job.id, attempt, operation)
        return choice.first_look_seconds

    async def _prepared(self, job: Job, choice: Choice) -> VideoRequest | ProviderError:
        """The request with its pictures in a form that the vendor takes; or why there is none: then nothing is sent."""
        try:
            must_be_of_one_realm(job, choice.line)
            formats = choice.candidate.backend.picture.formats
            return await self._pictures.hand_over(choice.candidate.request, choice.line.adapter, formats=formats)
        except ProviderError as error:
            return error
        except WrongRealm as error:
            return _held_back(error, job.id)
        except PictureRefused as error:
            fault = Fault(kind=Kind.INVALID_REQUEST, verdict=Verdict.NEVER, message=error.message)
            return ProviderError(fault, outcome=Outcome.NOT_SENT)

    async def _send(self, attempt: Attempt, request: VideoRequest, line: Line, before: float) -> Operation:
        if self._monotonic() >= before:
            fault = Fault(kind=Kind.TIMEOUT, verdict=Verdict.ELSEWHERE, message="its intent was too old to be sent")
            raise ProviderError(fault, outcome=Outcome.NOT_SENT)
        try:
            must_be_of_one_realm(attempt, line)
        except WrongRealm as error:
            raise _held_back(error, attempt.job) from error
        url = self._books.callback_url(attempt, line)
        try:
            return await line.adapter.submit(request, model_id=attempt.model_id, callback_url=url, client_id=attempt.id)
        except ProviderError:
            raise
        except Exception as error:  # an adapter's defect: whether the POST left is unknown, so the outcome is
            log.exception("adapter.failed", attempt=attempt.id, backend=attempt.backend)
            fault = Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE, message=type(error).__name__)
            raise ProviderError(fault, outcome=Outcome.UNKNOWN) from error

    async def _not_accepted(self, job_id: str, attempt: Attempt, error: ProviderError) -> float | None:
        """A submit that gave no operation: three outcomes, three ways on."""
        fault = error.fault
        log.warning(
            "attempt.not_accepted",
            job=job_id,
            attempt=attempt.id,
            backend=attempt.backend,
            outcome=error.outcome,
            kind=fault.kind,
            said=fault.message[:160],
        )
        if error.outcome in (Outcome.UNKNOWN, Outcome.ACCEPTED):
            unknown = advance_attempt(attempt, AttemptEvent.LOST, fault=fault)
            await self._books.note(job_id, unknown, AttemptEvent.LOST)
            self._realms.of(attempt).lost(attempt, fault, now_us=self._now_us())
            if self.watching.has_rung(attempt):
                return 0.0
            return pace.next_doubt(0.0, window=self._routing.unknown_after_seconds)
        event = AttemptEvent.REJECTED if error.outcome is Outcome.REJECTED else AttemptEvent.NOT_SENT
        fault = msgspec.structs.replace(fault, retry_after_seconds=error.retry_after_seconds)
        closed = advance_attempt(attempt, event, fault=fault, cost_usd_micros=0, ended_us=self._now_us())
        return await self._books.close(job_id, closed, event)

    async def _outwait(self, job: Job, attempt: Attempt) -> float:
        """An attempt that somebody else was sending: after its window its outcome is unknown, never fresh."""
        left = self._routing.overdue_seconds - (self._now_us() - attempt.started_us) / SECOND
        if left > 0 and not self.watching.has_rung(attempt):
            return left
        fault = Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE, message="the process ended while it was being sent")
        await self._books.note(job.id, advance_attempt(attempt, AttemptEvent.LOST, fault=fault), AttemptEvent.LOST)
        return 0.0


def _held_back(error: WrongRealm, job_id: str) -> ProviderError:
    """A defect of ours that nobody is to pay for."""
    log.error("attempt.held_back", job=job_id, error=str(error))
    fault = Fault(kind=Kind.UNAVAILABLE, verdict=Verdict.NEVER, message="held back: live and test do not mix")
    return ProviderError(fault, outcome=Outcome.NOT_SENT)
