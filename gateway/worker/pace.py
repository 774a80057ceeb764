"""When to look again, when to try again, and what a fault is called to a caller.

Law: pure. Seconds in, seconds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.jobs import Attempt, AttemptState
from providers.spec import Fault, Kind, Verdict

LONGEST_LOOK_SECONDS = 30.0
RETRY_SECONDS = (1.0, 60.0)  # first and longest wait before a backend without capacity is asked again
SLOT_CUT, SLOT_BACK_US = 0.7, 10_000_000  # additive increase, multiplicative decrease
_CAPACITY = (Kind.RATE_LIMITED, Kind.UNAVAILABLE, Kind.TIMEOUT)

CODES: dict[Kind, str] = {
    Kind.CONTENT_POLICY: "content_policy_violation",
    Kind.INVALID_REQUEST: "invalid_request",
    Kind.UNSUPPORTED: "unsupported_parameter",
    Kind.AUTHENTICATION: "provider_account",
    Kind.INSUFFICIENT_FUNDS: "provider_account",
    Kind.RATE_LIMITED: "provider_unavailable",
    Kind.UNAVAILABLE: "provider_unavailable",
    Kind.TIMEOUT: "provider_unavailable",
    Kind.GENERATION_FAILED: "generation_failed",
    Kind.OPERATION_LOST: "operation_lost",
    Kind.CANCELLED: "cancelled",
    Kind.UNKNOWN: "outcome_unknown",
}


WRONG_OUTPUT = "wrong_output"


def code_of(fault: Fault) -> str:
    """What a caller is told of an attempt's fault."""
    if fault.kind is Kind.GENERATION_FAILED and fault.code == WRONG_OUTPUT:
        return WRONG_OUTPUT
    return CODES[fault.kind]


def wrong_output(flaws: Sequence[str], *, is_final: bool) -> Fault:
    """The fault of a render whose clip is not what was bought, each flaw a sentence."""
    verdict = Verdict.NEVER if is_final else Verdict.ELSEWHERE
    said = "; ".join(flaws)[:500]
    return Fault(kind=Kind.GENERATION_FAILED, verdict=verdict, message=said, code=WRONG_OUTPUT)


def next_look(elapsed: float, *, p50: float, p95: float, floor: float) -> float:
    """Seconds until the next poll of a render that began `elapsed` seconds ago: none before its early quantile, dense
    around the median, sparse in the tail, never faster than the vendor's `floor`."""
    early = 0.4 * p50
    if elapsed < early:
        return max(floor, min(early - elapsed, LONGEST_LOOK_SECONDS))
    step = p50 / 20 if elapsed < p95 else p50 / 8
    return max(floor, min(step, LONGEST_LOOK_SECONDS))


def next_doubt(waited: float, *, window: float) -> float:
    """Seconds until an attempt of unknown outcome is looked for again: often at first, 20 times a window at least."""
    return max(0.05, min(max(waited / 4, 1.0), window / 20, LONGEST_LOOK_SECONDS))


def closed_until(attempts: Iterable[Attempt], backend: str) -> float:
    """Until when (microseconds) this job leaves `backend` alone: 0 now, infinity for good.

    A backend that merely had no capacity and bought nothing may be asked again after a wait that doubles each time.
    """
    wait, until = RETRY_SECONDS[0], 0.0
    for attempt in attempts:
        if attempt.backend != backend:
            continue
        nothing_bought = attempt.state in (AttemptState.NOT_SENT, AttemptState.REJECTED)
        if not (nothing_bought and attempt.fault is not None and attempt.fault.kind in _CAPACITY):
            return float("inf")
        until = (attempt.ended_us or attempt.started_us) + max(wait, attempt.fault.retry_after_seconds or 0.0) * 1e6
        wait = min(wait * 2, RETRY_SECONDS[1])
    return until


class Slots(NamedTuple):
    """How many renders at once an account was last found to allow."""

    allowed: int
    at_us: int

    def now(self, now_us: int) -> int:
        """The count that is tried: one more for every ten seconds without another "too many"."""
        return self.allowed + max(now_us - self.at_us, 0) // SLOT_BACK_US


def fewer_slots(in_flight: int, *, now_us: int) -> Slots:
    """After a vendor has said "too many" while `in_flight` renders of ours were open."""
    return Slots(max(1, int(in_flight * SLOT_CUT)), now_us)


class Bucket:
    """A token bucket: so many submits a minute, as many at once as came together in it."""

    __slots__ = ("_at_us", "_left", "_per_minute")

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._left = per_minute
        self._at_us = 0

    def _refill(self, now_us: int) -> None:
        passed = max(now_us - self._at_us, 0) if self._at_us else 0
        self._left = min(self._per_minute, self._left + passed / 60e6 * self._per_minute)
        self._at_us = now_us

    def allows(self, now_us: int) -> bool:
        self._refill(now_us)
        return self._left >= 1

    def take(self, now_us: int) -> None:
        self._refill(now_us)
        self._left -= 1


def taken_on(attempts: Iterable[Attempt]) -> int:
    """How many attempts a vendor took on or may have."""
    return sum(a.state not in (AttemptState.NOT_SENT, AttemptState.REJECTED) for a in attempts)


def is_final(fault: Fault) -> bool:
    """Whether no other backend is asked after this: a caller's fault by the vendor's clear word, moderation first."""
    return fault.verdict is Verdict.NEVER or fault.kind is Kind.CONTENT_POLICY
