"""What has been sent: looked at until it ends, looked for while its outcome is unknown.

Laws. Nothing here ever sends a paid POST. A callback only rings: what it claims is believed after an authenticated
poll. An attempt whose outcome is unknown is disproved only where the vendor looks it up by our own id, and only once
its reply is long overdue (I4); else it waits for its callback until the operator's policy ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from gateway import failpoints
from gateway.clips import Clips, Differs, Fits, Unchecked, Verdict, wanted_of
from gateway.jobs import Attempt, AttemptEvent, Job, advance_attempt
from gateway.media import PictureRefused, Pictures
from gateway.settings import Routing
from gateway.store.live import LiveView
from gateway.store.spec import OperationTaken
from gateway.worker import pace
from gateway.worker.books import Books
from gateway.worker.buyer import Line
from gateway.worker.realms import Realms
from providers.spec import (
    BuysByFinding,
    Cancels,
    ChecksCallback,
    Disproves,
    Failed,
    Finds,
    Kind,
    NamesOperation,
    Operation,
    ProviderError,
    Queued,
    Running,
    Status,
    Succeeded,
)

log = structlog.get_logger(__name__)

LOST_AFTER_SECONDS = 60.0  # a vendor may take this long to know a job that it has accepted
FOLLOW_SECONDS = 24 * 3600.0  # an ended job's open attempt is followed this long, for its cost
CANCELLING_SECONDS = 1.0  # between two looks at a render that was asked to stop
SECOND = 1_000_000


class Ring(NamedTuple):
    """One callback, as it came."""

    body: bytes
    headers: Mapping[str, str]


class Watching:
    """Follows attempts that are running or of unknown outcome. Each method returns seconds until the next look."""

    def __init__(
        self,
        *,
        live: LiveView,
        books: Books,
        realms: Realms,
        pictures: Pictures,
        routing: Routing,
        clips: Clips | None,
        now_us: Callable[[], int],
    ) -> None:
        self._live = live
        self._books = books
        self._realms = realms
        self._pictures = pictures
        self._routing = routing
        self._clips = clips
        self._now_us = now_us
        self._rings: dict[str, Ring] = {}  # attempt → its last callback
        self._asked: set[str] = set()  # attempts whose vendor was asked to stop
        self._given_up: set[str] = set()  # attempts that were found stuck
        self._lost_us: dict[str, int] = {}  # attempt → when its vendor first did not know it

    def rang(self, attempt_id: str, ring: Ring) -> None:
        """A callback came for this attempt."""
        self._rings[attempt_id] = ring

    def has_rung(self, attempt: Attempt) -> bool:
        return attempt.id in self._rings

    # --- of unknown outcome -------------------------------------------------------------------------------------------

    async def reconcile(self, job: Job, attempt: Attempt) -> float | None:
        """Find out what became of a submit whose reply was lost, without ever sending it again."""
        if job.cancel_requested and not job.state.is_terminal:
            await self._books.refuse_cancel(job.id)
        line = self._realms.line(attempt)
        waited = (self._now_us() - attempt.started_us) / SECOND
        if line is not None:
            operation, is_sure = await self._claimed(attempt, line), False
            if operation is None:
                operation, is_sure = await self._found(job, attempt, line)
            if operation is not None:
                try:
                    await self._books.accepted(job.id, attempt, operation)
                    return 0.0
                except OperationTaken:  # it belongs to another attempt (I6), so ours is still unknown
                    log.warning("attempt.found_anothers", attempt=attempt.id, operation=operation.id)
            elif is_sure and isinstance(line.adapter, Disproves) and waited > self._routing.overdue_seconds:
                gone = advance_attempt(attempt, AttemptEvent.DISPROVED, cost_usd_micros=0, ended_us=self._now_us())
                return await self._close(job, gone, AttemptEvent.DISPROVED)
        window = self._routing.unknown_after_seconds
        if waited < window or (self._routing.on_unknown == "hold" and not job.state.is_terminal):
            return pace.next_doubt(waited, window=window)
        off = advance_attempt(
            attempt, AttemptEvent.WRITTEN_OFF, cost_usd_micros=attempt.price_usd_micros, ended_us=self._now_us()
        )
        log.warning("attempt.written_off", job=job.id, attempt=attempt.id, usd_micros=attempt.price_usd_micros)
        return await self._close(job, off, AttemptEvent.WRITTEN_OFF)

    async def _claimed(self, attempt: Attempt, line: Line) -> Operation | None:
        """The operation that a callback named, once the vendor itself knows it."""
        ring = self._rings.pop(attempt.id, None)
        if ring is None or not isinstance(line.adapter, NamesOperation):
            return None
        if isinstance(line.adapter, ChecksCallback):
            try:
                await line.adapter.check_callback(ring.headers, ring.body)
            except ProviderError as error:
                log.warning("callback.signature_refused", attempt=attempt.id, said=error.fault.message[:160])
                if error.fault.kind is not Kind.AUTHENTICATION:
                    self._rings.setdefault(attempt.id, ring)  # its keys could not be had just now
                return None
        claimed = line.adapter.operation_in(ring.body, model_id=attempt.model_id)
        if claimed is None:
            return None
        try:
            await line.adapter.poll(claimed)
        except ProviderError as error:
            log.warning("callback.claim_not_confirmed", attempt=attempt.id, kind=error.fault.kind)
            if error.fault.kind is not Kind.OPERATION_LOST:
                self._rings.setdefault(attempt.id, ring)  # the vendor could not be asked just now
            return None
        return claimed

    async def _found(self, job: Job, attempt: Attempt, line: Line) -> tuple[Operation | None, bool]:
        """The operation of a lost submit, where the vendor can be asked for it; and whether it has answered at all."""
        adapter, found = line.adapter, self._realms.of(job).candidate_of(job, attempt, now_us=self._now_us())
        if found is None or not isinstance(adapter, Finds):
            return None, False
        if isinstance(adapter, BuysByFinding) and (job.state.is_terminal or job.cancel_requested):
            return None, False  # nobody wants the clip any more
        try:
            request = found.request
            if isinstance(adapter, BuysByFinding):  # it sends the same body again
                request = await self._pictures.hand_over(
                    request, adapter, formats=found.backend.picture.formats, known=attempt.handed
                )
            operation = await adapter.find(
                request,
                model_id=attempt.model_id,
                client_id=attempt.id,
                callback_url=self._books.callback_url(attempt, line),
                sent_at=datetime.fromtimestamp(attempt.started_us / SECOND, UTC),
            )
        except (ProviderError, PictureRefused) as error:
            log.warning("attempt.look_up_failed", attempt=attempt.id, said=str(error)[:160])
            return None, False
        return operation, True

    # --- running ------------------------------------------------------------------------------------------------------

    async def look(self, job: Job, attempt: Attempt) -> float | None:
        """One poll of a running attempt."""
        failpoints.reach("while_running")
        line = self._realms.line(attempt)
        operation = attempt.operation
        if line is None or operation is None:
            log.error("attempt.has_no_account", attempt=attempt.id, provider=attempt.provider, account=attempt.account)
            return 60.0
        self._rings.pop(attempt.id, None)
        if job.cancel_requested and not job.state.is_terminal and not await self.stop_render(attempt):
            await self._books.refuse_cancel(job.id)
        try:
            status = await line.adapter.poll(operation)
        except ProviderError as error:
            self._realms.of(attempt).polled(attempt, now_us=self._now_us(), fault=error.fault)
            return await self._not_seen(job, attempt, error)
        self._realms.of(attempt).polled(attempt, now_us=self._now_us())
        self._lost_us.pop(attempt.id, None)
        return await self._take(job, attempt, status)

    async def stop_render(self, attempt: Attempt) -> bool:
        """Ask the vendor to stop, once. Whether it took the wish; the truth comes by the next poll."""
        line = self._realms.line(attempt)
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

    async def _take(self, job: Job, attempt: Attempt, status: Status) -> float | None:
        now = self._now_us()
        match status:
            case Queued() | Running():
                if self._followed_enough(job):
                    gone = advance_attempt(attempt, AttemptEvent.FAILED, ended_us=now)
                    return await self._close(job, gone, AttemptEvent.FAILED)
                elapsed = _elapsed(attempt, now)
                await self._give_up_stuck(job, attempt, elapsed, now_us=now)
                seen = status.progress if isinstance(status, Running) else 0.0
                guess, wait = self._realms.of(attempt).outlook(attempt, elapsed, now_us=now)
                self._live.set_progress(job.id, guess if seen is None else seen)
                return min(wait, CANCELLING_SECONDS) if attempt.id in self._asked else wait
            case Succeeded():
                return await self._receive(job, attempt, status)
            case Failed(fault=fault):
                billed = attempt.price_usd_micros if fault.kind in attempt.bills else 0
                cost = billed if status.cost_usd_micros is None else status.cost_usd_micros
                event = AttemptEvent.CANCELLED if fault.kind is Kind.CANCELLED else AttemptEvent.FAILED
                elapsed = _elapsed(attempt, now)
                if fault.kind is Kind.CANCELLED and not job.cancel_requested and self._is_stuck(attempt, elapsed, now):
                    event, fault = AttemptEvent.FAILED, pace.stuck(elapsed)  # it was we who stopped it
                lost = advance_attempt(attempt, event, fault=fault, cost_usd_micros=cost, ended_us=now)
                return await self._close(job, lost, event)

    async def _give_up_stuck(self, job: Job, attempt: Attempt, elapsed: float, *, now_us: int) -> None:
        """Stop a render that is out for longer than nearly all, where its vendor can and another backend could go on.
        One that cannot be stopped is waited for: to go on beside it would buy the clip twice."""
        line = self._realms.line(attempt)
        if job.state.is_terminal or attempt.id in self._given_up or not self._is_stuck(attempt, elapsed, now_us):
            return
        if line is None or not isinstance(line.adapter, Cancels):
            return
        if not self._realms.of(job).could_follow(job, await self._books.attempts(job), now_us=now_us):
            return
        self._given_up.add(attempt.id)
        if await self.stop_render(attempt):
            log.warning(
                "attempt.stuck", job=job.id, attempt=attempt.id, backend=attempt.backend, seconds=round(elapsed)
            )

    def _is_stuck(self, attempt: Attempt, elapsed: float, now_us: int) -> bool:
        return attempt.id in self._given_up or elapsed >= self._realms.of(attempt).stuck_after(attempt, now_us=now_us)

    async def _receive(self, job: Job, attempt: Attempt, won: Succeeded) -> float | None:
        """A clip is there: it is held against what was bought before anybody is told so. It is paid for either way."""
        cost = attempt.price_usd_micros if won.cost_usd_micros is None else won.cost_usd_micros
        ended: dict[str, Any] = {"cost_usd_micros": cost, "ended_us": self._now_us()}
        verdict = await self._judged(job, attempt, won)
        if isinstance(verdict, Differs):
            log.warning("clip.differs", job=job.id, attempt=attempt.id, backend=attempt.backend, flaws=verdict.flaws)
            kept = self._routing.on_mismatch == "warn"
            event = AttemptEvent.SUCCEEDED if kept else AttemptEvent.FAILED
            fault = pace.wrong_output(verdict.flaws, is_final=self._routing.on_mismatch == "fail")
            wrong = advance_attempt(attempt, event, fault=fault, **ended)
            return await self._close(job, wrong, event, won=won if kept else None, warnings=verdict.flaws)
        why = verdict.why if isinstance(verdict, Unchecked) else ""
        if why:
            log.warning("clip.not_checked", job=job.id, attempt=attempt.id, backend=attempt.backend, why=why)
        done = advance_attempt(attempt, AttemptEvent.SUCCEEDED, **ended)
        return await self._close(job, done, AttemptEvent.SUCCEEDED, won=won, not_checked=why)

    async def _judged(self, job: Job, attempt: Attempt, won: Succeeded) -> Verdict:
        """What a look at the clip says; nothing against it where none is wanted, or nobody waits for it any more."""
        if self._clips is None or job.state.is_terminal or not won.videos:
            return Fits()
        asked = self._realms.of(job).candidate_of(job, attempt, now_us=self._now_us())
        if asked is None:
            return Unchecked(why="its backend no longer stands in the catalogue for this request")
        try:
            return await self._clips.check(won.videos[0], wanted_of(asked))
        except Exception as error:  # a defect of the check, or of a library on a file: no reason to keep a clip back
            log.exception("clip.check_failed", job=job.id, attempt=attempt.id)
            return Unchecked(why=f"the check failed: {type(error).__name__}")

    async def _not_seen(self, job: Job, attempt: Attempt, error: ProviderError) -> float | None:
        """A poll without an answer. Only a vendor that goes on not knowing its own job ends the attempt: it may have
        been rendered and billed, so its price stays counted."""
        now = self._now_us()
        log.info("poll.failed", attempt=attempt.id, kind=error.fault.kind, said=error.fault.message[:160])
        lost = False
        if error.fault.kind is Kind.OPERATION_LOST:
            first = self._lost_us.setdefault(attempt.id, now)
            lost = now - first > LOST_AFTER_SECONDS * SECOND
        if lost or self._followed_enough(job):
            gone = advance_attempt(attempt, AttemptEvent.FAILED, fault=error.fault, ended_us=now)
            return await self._close(job, gone, AttemptEvent.FAILED)
        _, wait = self._realms.of(attempt).outlook(attempt, _elapsed(attempt, now), now_us=now)
        return max(wait, error.retry_after_seconds or 0.0)

    def _followed_enough(self, job: Job) -> bool:
        return job.ended_us is not None and self._now_us() - job.ended_us > FOLLOW_SECONDS * SECOND

    async def _close(
        self,
        job: Job,
        attempt: Attempt,
        event: AttemptEvent,
        *,
        won: Succeeded | None = None,
        warnings: tuple[str, ...] = (),
        not_checked: str = "",
    ) -> float | None:
        self._rings.pop(attempt.id, None)
        self._asked.discard(attempt.id)
        self._given_up.discard(attempt.id)
        self._lost_us.pop(attempt.id, None)
        return await self._books.close(job.id, attempt, event, won=won, warnings=warnings, not_checked=not_checked)


def _elapsed(attempt: Attempt, now_us: int) -> float:
    """Seconds since the vendor took it on."""
    return (now_us - (attempt.accepted_us or attempt.started_us)) / SECOND
