"""The Video object: OpenAI's, whole, with our additive fields after it.

Law: an OpenAI client sees `queued`, `in_progress`, `completed` or `failed` and nothing else, and every one of OpenAI's
fields, null where there is nothing. What is shown of a backend is its name and our own sentences, never a vendor's
words or ids.
"""

from __future__ import annotations

import msgspec

from gateway.api.answers import JSON, Answer, Header, encode
from gateway.jobs import Job, JobState
from gateway.store.live import LiveView
from providers.spec import Kind

SECOND = 1_000_000
POLL_LEAST_MS, POLL_MOST_MS = 1000, 5000
GUESSED_SHARE, GUESSED_MOST = 0.9, 0.95  # of the bar, at the expected end and after it
LOOKS_PER_RENDER = 20  # what is asked of a polling client: so many looks until the expected end

_STATUS = {
    JobState.QUEUED: "queued",
    JobState.ACTIVE: "in_progress",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
    JobState.EXPIRED: "failed",
}
# what a list may be filtered by → the states that are shown so
STATUSES = {status: tuple(state for state, shown in _STATUS.items() if shown == status) for status in _STATUS.values()}
_SAID = {  # a vendor's message is for the operator: it may name the vendor's account, host or model
    Kind.INVALID_REQUEST: "The backend refused the request.",
    Kind.CONTENT_POLICY: "The request or the clip was refused by a content policy.",
    Kind.UNSUPPORTED: "The backend cannot make this clip.",
    Kind.AUTHENTICATION: "The operator's account at the backend was refused.",
    Kind.INSUFFICIENT_FUNDS: "The operator's account at the backend has no funds.",
    Kind.RATE_LIMITED: "The backends that can make this clip are at their limits.",
    Kind.UNAVAILABLE: "The backends that can make this clip are not available.",
    Kind.TIMEOUT: "The backend did not answer in time.",
    Kind.GENERATION_FAILED: "The render failed.",
    Kind.OPERATION_LOST: "The backend no longer knows the render.",
    Kind.CANCELLED: "The render was cancelled.",
    Kind.UNKNOWN: "It is not known whether the backend took the job.",
}
_SAID_BY_CODE = {
    "wrong_output": "The clip that was made is not what was asked for: see `warnings`.",
    "budget_exceeded": "To go on would have cost more than the API key's budget has left, so nothing more was bought.",
}
_ENDED = {
    JobState.CANCELLED: "The job was cancelled.",
    JobState.EXPIRED: "The job's deadline passed before it was done.",
}


class ErrorView(msgspec.Struct):
    code: str
    message: str


class RoutingView(msgspec.Struct):
    """Who makes it, why, and what was expected when that was decided."""

    backend: str
    provider: str
    reason: str
    estimated_cost_usd: float
    pretend: bool  # the cost is only ranked by, never charged
    eta_seconds: float | None
    queue_position: int | None  # jobs that get a slot before this one; null when it waits for none
    decision: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # by `?include=routing.decision` alone


class UsageView(msgspec.Struct):
    cost_usd: float | None  # null until it is known


class VideoView(msgspec.Struct, kw_only=True):
    """One job as its owner sees it."""

    id: str
    object: str = "video"
    created_at: int  # unix seconds
    completed_at: int | None
    expires_at: int | None
    model: str
    progress: int
    prompt: str | None
    remixed_from_video_id: str | None
    seconds: str
    size: str
    status: str
    error: ErrorView | None
    routing: RoutingView
    usage: UsageView
    attempts: int
    warnings: tuple[str, ...]
    metadata: dict[str, str]
    test: bool | msgspec.UnsetType = msgspec.UNSET  # true for a job of a test key, and else not there


class PageView(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[VideoView]
    first_id: str | None
    last_id: str | None
    has_more: bool


def view(job: Job, live: LiveView, *, decision: bytes | None = None) -> VideoView:
    """The job as it is shown now; with the decision that it was accepted with, where that is handed in."""
    state, spec, routing = job.state, job.spec, job.routing
    done = state is JobState.COMPLETED
    return VideoView(
        id=job.id,
        created_at=job.created_us // SECOND,
        completed_at=job.ended_us // SECOND if done and job.ended_us is not None else None,
        expires_at=None,
        model=spec.model,
        progress=100 if done else live.progress(job.id),
        prompt=spec.video.prompt or None,
        remixed_from_video_id=spec.remixed_from,
        seconds=str(job.seconds + spec.extends_seconds),
        size=job.size,
        status=_STATUS[state],
        error=_error(job) if state.is_terminal and not done else None,
        routing=RoutingView(
            backend=routing.backend,
            provider=routing.provider,
            reason=routing.reason,
            estimated_cost_usd=routing.estimated_cost_usd_micros / SECOND,
            pretend=routing.pretend,
            eta_seconds=routing.eta_seconds,
            decision=msgspec.Raw(decision) if decision is not None else msgspec.UNSET,
            queue_position=None if state.is_terminal else live.position(job.id),
        ),
        usage=UsageView(job.cost_usd_micros / SECOND if job.cost_usd_micros is not None else None),
        attempts=job.attempts,
        warnings=(*spec.ignored, *job.warnings),
        metadata=spec.metadata,
        test=job.test or msgspec.UNSET,
    )


def guess_progress(job: Job, live: LiveView, *, now_us: int) -> None:
    """Show the share of the expected time that has passed, where that is more than what the vendor told."""
    eta = job.routing.eta_seconds
    if job.state is JobState.ACTIVE and eta:
        passed = (now_us - job.created_us) / SECOND
        live.set_progress(job.id, min(GUESSED_SHARE * passed / eta, GUESSED_MOST))


def answer(
    job: Job,
    live: LiveView,
    *,
    status: int = 200,
    headers: tuple[Header, ...] = (),
    decision: bytes | None = None,
) -> Answer:
    """The Video object, with the time to wait before the next look while it is unfinished."""
    told = [JSON, *headers]
    if not job.state.is_terminal:
        told.append((b"openai-poll-after-ms", b"%d" % poll_after_ms(job)))
    return Answer(encode(view(job, live, decision=decision)), status=status, headers=told)


def poll_after_ms(job: Job) -> int:
    """Python's SDK reads it once and keeps to it, so it fits the whole render: a twentieth of it, 1 to 5 s."""
    eta = job.routing.eta_seconds
    if eta is None:
        return POLL_MOST_MS
    return int(min(max(eta * 1000 / LOOKS_PER_RENDER, POLL_LEAST_MS), POLL_MOST_MS))


def _error(job: Job) -> ErrorView:
    if said := _ENDED.get(job.state):
        return ErrorView(code=job.state.value, message=said)
    kind = job.fault.kind if job.fault is not None else Kind.GENERATION_FAILED
    code = job.error_code or kind.value
    return ErrorView(code=code, message=_SAID_BY_CODE.get(code) or _SAID[kind])
