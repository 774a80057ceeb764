"""When to look again, when to try again, and what a fault is called to a caller.

Law: pure. Seconds in, seconds out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.jobs import Attempt, AttemptState, Preferences
from providers.spec import Fault, Kind, Verdict

LONGEST_LOOK_SECONDS = 30.0
RETRY_SECONDS = (1.0, 60.0)  # first and longest wait before a backend without capacity is asked again
RETRIES_PER_MINUTE, RETRY_SHARE = (
    10.0,
    0.2,
)  # retries of a provider that is down: so many, and so many for each new submit
STUCK_SIGMAS = 3.09  # standard normal quantile of 0.999
SLOT_CUT, SLOT_BACK_US = 0.7, 10_000_000  # additive increase, multiplicative decrease
NOTHING_BOUGHT = (AttemptState.NOT_SENT, AttemptState.REJECTED)
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
STUCK = "stuck"


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


def stuck_after(p50: float, sigma: float, *, least: float) -> float:
    """Seconds after which a render is stuck: 99.9 % of those that end well are done by then, and `least` has passed."""
    return max(p50 * math.exp(STUCK_SIGMAS * sigma), least)


def stuck(elapsed: float) -> Fault:
    """The fault of a render that was stopped because it was stuck."""
    message = f"stopped after {elapsed:.0f} s: 99.9 % of this backend's renders that end well are done by then"
    return Fault(kind=Kind.TIMEOUT, verdict=Verdict.ELSEWHERE, message=message, code=STUCK)


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
        if not (attempt.state in NOTHING_BOUGHT and attempt.fault is not None and attempt.fault.kind in _CAPACITY):
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

    def take(self, now_us: int, count: float = 1.0) -> None:
        """Less one; a negative count puts some back."""
        self._refill(now_us)
        self._left = min(self._left - count, self._per_minute)


def taken_on(attempts: Iterable[Attempt]) -> int:
    """How many attempts a vendor took on or may have."""
    return sum(attempt.state not in NOTHING_BOUGHT for attempt in attempts)


def is_retry(attempts: Iterable[Attempt], provider: str) -> bool:
    """Whether this job would ask a provider again that was down when it last did. A vendor's "too many" is not meant:
    its slots govern that."""
    last = [attempt for attempt in attempts if attempt.provider == provider][-1:]
    return any(
        one.state in NOTHING_BOUGHT and one.fault is not None and one.fault.kind in (Kind.UNAVAILABLE, Kind.TIMEOUT)
        for one in last
    )


def is_final(fault: Fault, preferences: Preferences) -> bool:
    """Whether no other backend is asked after this: a caller's fault by the vendor's clear word, moderation first,
    unless the caller lets another model try."""
    if not preferences.allow_fallbacks:
        return True
    if fault.kind is Kind.CONTENT_POLICY:
        return not preferences.moderation_fallback
    return fault.verdict is Verdict.NEVER
