"""Jobs and attempts for tests: whole, plausible, and different only in what a test says."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway import ids
from gateway.jobs import (
    Attempt,
    AttemptEvent,
    AttemptState,
    Job,
    JobEvent,
    JobSpec,
    Routing,
    advance,
    advance_attempt,
)
from providers.spec import Operation, VideoRequest

NOW_US = 1_790_000_000_000_000
DECISION = b'{"model":"kling-v3-pro","ranked":[],"refusals":[]}'

_ROUTING = Routing(
    backend="acme/kling-v3-pro", provider="acme", reason="the cheapest that can", estimated_cost_usd_micros=560_000
)


def a_job(caller: str = "caller1", *, prompt: str = "a cat in the rain", **changes: Any) -> Job:
    """A queued job, as the api hands it to `accept`, with a fresh id."""
    job = Job(
        id=ids.fresh("video"),
        caller=caller,
        spec=JobSpec(model="kling-v3-pro", video=VideoRequest(prompt=prompt, seconds=5, audio=False)),
        routing=_ROUTING,
        seconds=5,
        size="1920x1080",
        purse_usd_micros=1_120_000,
        reserved_usd_micros=560_000,
        created_us=NOW_US,
        deadline_us=NOW_US + 3_600_000_000,
    )
    return msgspec.structs.replace(job, **changes)


def an_attempt(job: Job, no: int = 1, **changes: Any) -> Attempt:
    """The intent: an attempt that is submitting."""
    attempt = Attempt(
        id=ids.fresh("attempt"),
        job=job.id,
        no=no,
        state=AttemptState.SUBMITTING,
        backend="acme/kling-v3-pro",
        provider="acme",
        account="main",
        model_id="kling/v3/pro",
        price_usd_micros=560_000,
        started_us=NOW_US + no,
    )
    return msgspec.structs.replace(attempt, **changes)


def started(job: Job) -> Job:
    """The job with one more attempt."""
    return advance(job, JobEvent.ATTEMPT_STARTED, attempts=job.attempts + 1)


def ended(job: Job, event: JobEvent = JobEvent.COMPLETED, **changes: Any) -> Job:
    """The job at its end."""
    return advance(job, event, ended_us=NOW_US + 90_000_000, **changes)


def running(attempt: Attempt, operation_id: str | None = None) -> Attempt:
    """The attempt once the vendor has accepted it."""
    operation = Operation(provider=attempt.provider, id=operation_id or f"op-{attempt.id}")
    return advance_attempt(attempt, AttemptEvent.ACCEPTED, operation=operation, accepted_us=attempt.started_us + 1)


def finished(attempt: Attempt, event: AttemptEvent = AttemptEvent.SUCCEEDED, **changes: Any) -> Attempt:
    """The attempt at its end."""
    return advance_attempt(attempt, event, ended_us=attempt.started_us + 80_000_000, **changes)
