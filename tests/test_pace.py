"""When to look again, and when to try again."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.jobs import Attempt, AttemptState, Preferences
from gateway.worker import pace
from providers.spec import Fault, Kind, Verdict
from tests.records import a_job, an_attempt

SECOND = 1_000_000
NOW_US = 1_790_000_000 * SECOND


def tried(state: AttemptState, kind: Kind, provider: str = "acme") -> Attempt:
    fault = Fault(kind=kind, verdict=Verdict.ELSEWHERE, message="no")
    words: dict[str, Any] = {"state": state, "fault": fault, "provider": provider, "backend": f"{provider}/one"}
    return an_attempt(a_job(), **words)


def test_a_bucket_gives_what_a_minute_brings_and_no_more() -> None:
    bucket = pace.Bucket(2)
    for _ in range(2):
        assert bucket.allows(NOW_US)
        bucket.take(NOW_US)

    assert not bucket.allows(NOW_US)
    assert not bucket.allows(NOW_US + 29 * SECOND)
    assert bucket.allows(NOW_US + 30 * SECOND)
    bucket.take(NOW_US + 30 * SECOND, -50)  # however much is put back
    for _ in range(2):
        bucket.take(NOW_US + 30 * SECOND)
    assert not bucket.allows(NOW_US + 30 * SECOND)


@pytest.mark.parametrize(
    ("attempts", "is_retry"),
    [
        ((), False),
        ((tried(AttemptState.REJECTED, Kind.UNAVAILABLE),), True),
        ((tried(AttemptState.NOT_SENT, Kind.TIMEOUT),), True),
        ((tried(AttemptState.REJECTED, Kind.RATE_LIMITED),), False),  # its slots govern that
        ((tried(AttemptState.FAILED, Kind.TIMEOUT),), False),  # it was bought, and goes on elsewhere
        ((tried(AttemptState.REJECTED, Kind.UNAVAILABLE, "beta"),), False),
    ],
)
def test_only_to_ask_a_provider_again_that_was_down_is_a_retry(attempts: tuple[Attempt, ...], is_retry: bool) -> None:
    assert pace.is_retry(attempts, "acme") is is_retry


def test_a_render_is_stuck_after_999_of_1000_and_never_before_the_least() -> None:
    assert pace.stuck_after(100.0, 0.5, least=120.0) == pytest.approx(468.7, abs=1)
    assert pace.stuck_after(10.0, 0.1, least=120.0) == 120.0


@pytest.mark.parametrize(
    ("kind", "verdict", "wish", "is_final"),
    [
        (Kind.CONTENT_POLICY, Verdict.NEVER, Preferences(), True),
        (Kind.CONTENT_POLICY, Verdict.NEVER, Preferences(moderation_fallback=True), False),
        (Kind.CONTENT_POLICY, Verdict.NEVER, Preferences(moderation_fallback=True, allow_fallbacks=False), True),
        (Kind.INVALID_REQUEST, Verdict.NEVER, Preferences(moderation_fallback=True), True),
        (Kind.GENERATION_FAILED, Verdict.ELSEWHERE, Preferences(), False),
        (Kind.GENERATION_FAILED, Verdict.ELSEWHERE, Preferences(allow_fallbacks=False), True),
    ],
)
def test_what_ends_a_job_at_once(kind: Kind, verdict: Verdict, wish: Preferences, is_final: bool) -> None:
    assert pace.is_final(Fault(kind=kind, verdict=verdict), wish) is is_final
