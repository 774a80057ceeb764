"""One step of one job: submit, reconcile, or look. Here, and nowhere else, providers are called.

Laws. A paid POST leaves only after its attempt is on disk (T2), only from that very step, and only within
`intent_seconds` by this process's own monotonic clock; whatever becomes of it, that attempt is never sent again (I3,
I4). An attempt found `submitting` by anybody else (after a crash) is left alone until its window is over and is then
`unknown`. A callback only rings: what it claims is believed after an authenticated poll.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from gateway import failpoints, ids, tokens
from gateway.jobs import Attempt, AttemptEvent, AttemptState, Job, JobEvent, JobState, advance_attempt
from gateway.media import PictureRefused, Pictures
from gateway.settings import Routing
from gateway.store.spec import Store
from gateway.worker import pace
from gateway.worker.books import Books
from gateway.worker.buyer import Buyer, Choice, Line, Pass, Wait
from providers.spec import (
    Cancels,
    Failed,
    Fault,
    Finds,
    Kind,
    NamesOperation,
    Operation,
    Outcome,
    ProviderError,
    Queued,
    Running,
    Status,
    Succeeded,
    Verdict,
    VideoRequest,
)

log = structlog.get_logger(__name__)

LOST_AFTER_SECONDS = 60.0  # a vendor may take this long to know a job that it has accepted
FOLLOW_SECONDS = 24 * 3600.0  # an ended job's open attempt is followed this long, for its cost
SECOND = 1_000_000


class Steps:
    """What the worker does with a job that is due. `claims` holds the bodies of callbacks that rang, by attempt."""

    def __init__(
        self,
        *,
        store: Store,
        books: Books,
        buyer: Buyer,
        pictures: Pictures,
        routing: Routing,
        public_url: str | None,
        now_us: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.claims: dict[str, bytes] = {}
        self.callback_key = b""
        self._store = store
        self._books = books
        self._buyer = buyer
        self._pictures = pictures
        self._routing = routing
        self._public_url = public_url.rstrip("/") if public_url else None
        self._now_us = now_us
        self._monotonic = monotonic
        self._asked: set[str] = set()  # attempts whose vendor was asked to stop
        self._lost_us: dict[str, int] = {}  # attempt → when its vendor first did not know it

    async def step(self, job_id: str) -> float | None:
        """Move the job once. Seconds until it is due again; None when nothing is left to do."""
        job = self._store.live.job(job_id) or await self._store.job(job_id)
        if job is None:
            return None
        attempt = self._books.open.get(job_id)
        if attempt is None:
            return None if job.state.is_terminal else await self._begin(job)
        if job.state is JobState.ACTIVE and self._now_us() >= job.deadline_us:
            await self._stop_render(attempt)
            await self._books.end(job, JobEvent.EXPIRED, code="expired")
            return 0.0
        match attempt.state:
            case AttemptState.SUBMITTING:
                return await self._outwait(job, attempt)
            case AttemptState.UNKNOWN:
                return await self._reconcile(job, attempt)
            case _:
                return await self._look(job, attempt)

    async def _begin(self, job: Job) -> float | None:
        """Start the next attempt, or end the job because there can be none."""
        now = self._now_us()
        if job.cancel_requested:
            await self._books.end(job, JobEvent.CANCELLED, code="cancelled")
            return None
        if now >= job.deadline_us:
            await self._books.end(job, JobEvent.EXPIRED, code="expired")
            return None
        attempts = await self._store.attempts(job.id) if job.attempts else ()
        match self._buyer.choose(job, attempts, now_us=now):
            case Wait(seconds=seconds):
                return min(seconds, max((job.deadline_us - now) / SECOND, 0.0))
            case Pass(code=code, fault=fault):
                await self._books.end(job, JobEvent.FAILED, code=code, fault=fault)
                return None
            case choice:
                return await self._submit(job, choice)

    async def _submit(self, job: Job, choice: Choice) -> float | None:
        """T2, then the one POST, then T3."""
        request = choice.candidate.request
        prepared: VideoRequest | ProviderError
        try:
            prepared = await self._pictures.hand_over(request, choice.line.adapter)
        except ProviderError as error:
            prepared = error
        except PictureRefused as error:
            fault = Fault(kind=Kind.INVALID_REQUEST, verdict=Verdict.NEVER, message=error.message)
            prepared = ProviderError(fault, outcome=Outcome.NOT_SENT)
        sent_before = self._monotonic() + self._routing.intent_seconds
        attempt = self._buyer.attempt(job, choice, id=ids.fresh("att"), now_us=self._now_us())
        await self._books.start(job, attempt, choice)
        failpoints.reach("after_intent")
        try:
            if isinstance(prepared, ProviderError):
                raise ProviderError(prepared.fault, outcome=Outcome.NOT_SENT)
            operation = await self._send(attempt, prepared, choice.line, sent_before)
        except ProviderError as error:
            return await self._not_accepted(job.id, attempt, error)
        failpoints.reach("after_reply")
        await self._accepted(job.id, attempt, operation)
        return choice.first_look_seconds

    async def _send(self, attempt: Attempt, request: VideoRequest, line: Line, before: float) -> Operation:
        if self._monotonic() >= before:
            fault = Fault(kind=Kind.TIMEOUT, verdict=Verdict.ELSEWHERE, message="its intent was too old to be sent")
            raise ProviderError(fault, outcome=Outcome.NOT_SENT)
        url = None
        if self._public_url and line.callbacks:
            url = f"{self._public_url}/callbacks/{tokens.sign(attempt.id, self.callback_key)}"
        try:
            return await line.adapter.submit(request, model_id=attempt.model_id, callback_url=url, client_id=attempt.id)
        except ProviderError:
            raise
        except Exception as error:  # an adapter's defect: whether the POST left is unknown, so the outcome is
            log.exception("adapter.failed", attempt=attempt.id, backend=attempt.backend)
            fault = Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE, message=type(error).__name__)
            raise ProviderError(fault, outcome=Outcome.UNKNOWN) from error

    async def _accepted(self, job_id: str, attempt: Attempt, operation: Operation) -> None:
        event = AttemptEvent.FOUND if attempt.state is AttemptState.UNKNOWN else AttemptEvent.ACCEPTED
        running = advance_attempt(attempt, event, operation=operation, accepted_us=self._now_us(), fault=None)
        await self._books.note(job_id, running, event)
        log.info("attempt.accepted", job=job_id, attempt=attempt.id, backend=attempt.backend, by=event.value)

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
            return 0.0 if attempt.id in self.claims else pace.next_doubt(0.0, window=self._window)
        event = AttemptEvent.REJECTED if error.outcome is Outcome.REJECTED else AttemptEvent.NOT_SENT
        closed = advance_attempt(attempt, event, fault=fault, cost_usd_micros=0, ended_us=self._now_us())
        return await self._books.close(job_id, closed, event)

    async def _outwait(self, job: Job, attempt: Attempt) -> float:
        """An attempt that somebody else was sending: after its window its outcome is unknown, never fresh."""
        routing = self._routing
        window = routing.intent_seconds + routing.read_seconds + routing.grace_seconds
        left = window - (self._now_us() - attempt.started_us) / SECOND
        if left > 0 and attempt.id not in self.claims:
            return left
        fault = Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE, message="the process ended while it was being sent")
        await self._books.note(job.id, advance_attempt(attempt, AttemptEvent.LOST, fault=fault), AttemptEvent.LOST)
        return 0.0

    @property
    def _window(self) -> float:
        return self._routing.unknown_after_seconds

    async def _reconcile(self, job: Job, attempt: Attempt) -> float | None:
        """Find out what became of a submit whose reply was lost, without ever sending it again."""
        if job.cancel_requested and not job.state.is_terminal:
            await self._books.refuse_cancel(job.id)
        line = self._buyer.line(attempt.provider, attempt.account)
        waited = (self._now_us() - attempt.started_us) / SECOND
        if line is not None:
            operation = await self._found(job, attempt, line)
            if operation is not None:
                await self._accepted(job.id, attempt, operation)
                return 0.0
            disprovable = self._routing.intent_seconds + self._routing.read_seconds + self._routing.grace_seconds
            if isinstance(line.adapter, Finds) and waited > disprovable:
                gone = advance_attempt(attempt, AttemptEvent.DISPROVED, cost_usd_micros=0, ended_us=self._now_us())
                return await self._books.close(job.id, gone, AttemptEvent.DISPROVED)
        if waited < self._window or (self._routing.on_unknown == "hold" and not job.state.is_terminal):
            return pace.next_doubt(waited, window=self._window)
        off = advance_attempt(
            attempt, AttemptEvent.WRITTEN_OFF, cost_usd_micros=attempt.price_usd_micros, ended_us=self._now_us()
        )
        log.warning("attempt.written_off", job=job.id, attempt=attempt.id, usd_micros=attempt.price_usd_micros)
        return await self._books.close(job.id, off, AttemptEvent.WRITTEN_OFF)

    async def _found(self, job: Job, attempt: Attempt, line: Line) -> Operation | None:
        """The operation of a lost submit: named by its callback, or found by look-up; believed after a poll."""
        body = self.claims.pop(attempt.id, None)
        if body is not None and isinstance(line.adapter, NamesOperation):
            claimed = line.adapter.operation_in(body, model_id=attempt.model_id)
            if claimed is not None:
                try:
                    await line.adapter.poll(claimed)
                    return claimed
                except ProviderError as error:
                    log.warning("callback.claim_not_confirmed", attempt=attempt.id, kind=error.fault.kind)
        if isinstance(line.adapter, Finds):
            request = self._buyer.request_of(job, attempt, now_us=self._now_us())
            if request is not None:
                sent_at = datetime.fromtimestamp(attempt.started_us / SECOND, UTC)
                try:
                    return await line.adapter.find(
                        request, model_id=attempt.model_id, client_id=attempt.id, callback_url=None, sent_at=sent_at
                    )
                except ProviderError as error:
                    log.warning("attempt.look_up_failed", attempt=attempt.id, kind=error.fault.kind)
        return None

    # --- following a render -------------------------------------------------------------------------------------------

    async def _look(self, job: Job, attempt: Attempt) -> float | None:
        """One poll of a running attempt."""
        failpoints.reach("while_running")
        line = self._buyer.line(attempt.provider, attempt.account)
        operation = attempt.operation
        if line is None or operation is None:
            log.error("attempt.has_no_account", attempt=attempt.id, provider=attempt.provider, account=attempt.account)
            return 60.0
        self.claims.pop(attempt.id, None)
        if job.cancel_requested and not job.state.is_terminal and not await self._stop_render(attempt):
            await self._books.refuse_cancel(job.id)
        try:
            status = await line.adapter.poll(operation)
        except ProviderError as error:
            return await self._not_seen(job, attempt, error)
        self._lost_us.pop(attempt.id, None)
        return await self._take(job, attempt, status)

    async def _take(self, job: Job, attempt: Attempt, status: Status) -> float | None:
        now = self._now_us()
        match status:
            case Queued() | Running():
                elapsed = (now - (attempt.accepted_us or attempt.started_us)) / SECOND
                seen = status.progress if isinstance(status, Running) else 0.0
                guess, wait = self._buyer.outlook(attempt, elapsed, now_us=now)
                self._store.live.set_progress(job.id, guess if seen is None else seen)
                return wait
            case Succeeded():
                cost = attempt.price_usd_micros if status.cost_usd_micros is None else status.cost_usd_micros
                won = advance_attempt(attempt, AttemptEvent.SUCCEEDED, cost_usd_micros=cost, ended_us=now)
                return await self._books.close(job.id, won, AttemptEvent.SUCCEEDED, won=status)
            case Failed(fault=fault):
                billed = attempt.price_usd_micros if fault.kind in attempt.bills else 0
                cost = billed if status.cost_usd_micros is None else status.cost_usd_micros
                event = AttemptEvent.CANCELLED if fault.kind is Kind.CANCELLED else AttemptEvent.FAILED
                lost = advance_attempt(attempt, event, fault=fault, cost_usd_micros=cost, ended_us=now)
                return await self._books.close(job.id, lost, event)

    async def _not_seen(self, job: Job, attempt: Attempt, error: ProviderError) -> float | None:
        """A poll without an answer. Only a vendor that goes on not knowing its own job ends the attempt."""
        now = self._now_us()
        log.info("poll.failed", attempt=attempt.id, kind=error.fault.kind, said=error.fault.message[:160])
        if error.fault.kind is Kind.OPERATION_LOST:
            first = self._lost_us.setdefault(attempt.id, now)
            if now - first > LOST_AFTER_SECONDS * SECOND:
                # it may have been rendered and billed: its price stays counted
                lost = advance_attempt(attempt, AttemptEvent.FAILED, fault=error.fault, ended_us=now)
                return await self._books.close(job.id, lost, AttemptEvent.FAILED)
        if job.state.is_terminal and now - (job.ended_us or now) > FOLLOW_SECONDS * SECOND:
            lost = advance_attempt(attempt, AttemptEvent.FAILED, fault=error.fault, ended_us=now)
            return await self._books.close(job.id, lost, AttemptEvent.FAILED)
        elapsed = (now - (attempt.accepted_us or attempt.started_us)) / SECOND
        _, wait = self._buyer.outlook(attempt, elapsed, now_us=now)
        return max(wait, error.retry_after_seconds or 0.0)

    async def _stop_render(self, attempt: Attempt) -> bool:
        """Ask the vendor to stop, once. Whether it took the wish; the truth comes by the next poll."""
        line = self._buyer.line(attempt.provider, attempt.account)
        if attempt.id in self._asked:
            return True
        if line is None or attempt.operation is None or not isinstance(line.adapter, Cancels):
            return False
        try:
            await line.adapter.cancel(attempt.operation)
        except ProviderError as error:
            log.info("cancel.refused", attempt=attempt.id, kind=error.fault.kind)
            return False
        self._asked.add(attempt.id)
        return True
