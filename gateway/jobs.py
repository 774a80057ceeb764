"""Job and Attempt, and the whole lifecycle of both as one table.

Law: pure. No I/O, no clock, no randomness: `now` and ids come in as data. A transition that the table does not name
raises `IllegalTransition` and changes nothing. States only ever move along the table, so `version` only rises.

    job      queued → active → completed | failed | cancelled | expired
    attempt  submitting → running → succeeded | failed | cancelled
             submitting → not_sent | rejected | unknown
             unknown → running | disproved | written_off

A crash leaves an attempt `submitting`; after its window it is `unknown`, never fresh. Money is integer micro-dollars
(`usd_micros`), time integer microseconds since 1970 UTC (`_us`).
"""

from __future__ import annotations

import enum
from typing import Any, Literal

import msgspec

from providers.spec import Fault, Frozen, Kind, Operation, Video, VideoRequest

# --- what a caller asked for ------------------------------------------------------------------------------------------

Sort = Literal["price", "latency", "balanced", "kept_price"]


class Preferences(Frozen):
    """The caller's `provider` object. Names of providers (`acme`) or backends (`acme/cat`)."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    moderation_fallback: bool = False  # a clip that one model's moderation refuses may be tried on another model
    require_parameters: bool = True
    sort: Sort | None = None
    max_price_usd_micros: int | None = None  # max_price.request: the job's purse over all attempts
    max_latency_seconds: dict[str, float] = {}  # preferred_max_latency: p50 | p90 | p99 → seconds
    # what the caller's key may use, at the moment of asking: names or patterns; empty: everything
    allowed_models: tuple[str, ...] = ()
    allowed_providers: tuple[str, ...] = ()


class JobSpec(Frozen):
    """The whole request, as kept with the job: the clip, and how the caller wants it bought."""

    model: str  # as the caller named it: a model, provider/model, auto, or an alias
    video: VideoRequest
    preferences: Preferences = Preferences()
    metadata: dict[str, str] = {}
    user: str | None = None
    deadline_seconds: float | None = None
    remixed_from: str | None = None
    extends: str | None = None  # the job whose clip this one continues; "" for a clip that the caller sent
    extends_seconds: int = 0  # how long that clip is: what is delivered is both, joined
    dialect: str = ""  # whose client asked, where that is not our own API
    endpoint: str = ""  # the model as that client named it
    ignored: tuple[str, ...] = ()  # sentences on what it sent that nothing here has a use for
    callback_url: str | None = None  # is told how the job ended


class Routing(Frozen):
    """The short form of the decision, shown on every Video object. The long form is stored beside the job."""

    backend: str
    provider: str
    reason: str  # one sentence for people
    estimated_cost_usd_micros: int
    pretend: bool = False  # the price is only ranked by, never charged
    eta_seconds: float | None = None  # expected submit → done, from now of the decision


# --- states and the table ---------------------------------------------------------------------------------------------


class JobState(enum.StrEnum):
    QUEUED = "queued"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self not in (JobState.QUEUED, JobState.ACTIVE)


class AttemptState(enum.StrEnum):
    SUBMITTING = "submitting"
    RUNNING = "running"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_SENT = "not_sent"
    REJECTED = "rejected"
    DISPROVED = "disproved"
    WRITTEN_OFF = "written_off"

    @property
    def is_open(self) -> bool:
        return self in (AttemptState.SUBMITTING, AttemptState.RUNNING, AttemptState.UNKNOWN)

    @property
    def may_be_followed(self) -> bool:
        """Whether another attempt may start after this one (I5)."""
        return self in (
            AttemptState.NOT_SENT,
            AttemptState.REJECTED,
            AttemptState.FAILED,
            AttemptState.DISPROVED,
            AttemptState.WRITTEN_OFF,
        )


class JobEvent(enum.StrEnum):
    """What can happen to a job. The value is the event's name in the store and in the log."""

    ACCEPTED = "job.accepted"  # the first of every job: its row is on disk
    ATTEMPT_STARTED = "job.attempt_started"
    PROGRESSED = "job.progressed"  # anything about an attempt that leaves the job as it is
    CANCEL_REQUESTED = "job.cancel_requested"
    CANCEL_REFUSED = "job.cancel_refused"  # too late, or the vendor cannot: the wish is withdrawn
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"
    SETTLED = "job.settled"  # money that became true after the end
    REFRESHED = "job.refreshed"  # the vendor gave a new address for a clip whose old one had expired


class AttemptEvent(enum.StrEnum):
    ACCEPTED = "attempt.accepted"
    NOT_SENT = "attempt.not_sent"
    REJECTED = "attempt.rejected"
    LOST = "attempt.lost"  # its outcome cannot be known from the reply
    FOUND = "attempt.found"  # by look-up, or by the token of a callback
    DISPROVED = "attempt.disproved"
    WRITTEN_OFF = "attempt.written_off"
    SUCCEEDED = "attempt.succeeded"
    FAILED = "attempt.failed"
    CANCELLED = "attempt.cancelled"


_J, _JE, _A, _AE = JobState, JobEvent, AttemptState, AttemptEvent

JOB_TABLE: dict[tuple[JobState, JobEvent], JobState] = {
    (_J.QUEUED, _JE.ATTEMPT_STARTED): _J.ACTIVE,
    (_J.QUEUED, _JE.CANCEL_REQUESTED): _J.QUEUED,
    (_J.QUEUED, _JE.CANCELLED): _J.CANCELLED,
    (_J.QUEUED, _JE.FAILED): _J.FAILED,
    (_J.QUEUED, _JE.EXPIRED): _J.EXPIRED,
    (_J.ACTIVE, _JE.ATTEMPT_STARTED): _J.ACTIVE,
    (_J.ACTIVE, _JE.PROGRESSED): _J.ACTIVE,
    (_J.ACTIVE, _JE.CANCEL_REQUESTED): _J.ACTIVE,
    (_J.ACTIVE, _JE.CANCEL_REFUSED): _J.ACTIVE,
    (_J.ACTIVE, _JE.COMPLETED): _J.COMPLETED,
    (_J.ACTIVE, _JE.FAILED): _J.FAILED,
    (_J.ACTIVE, _JE.CANCELLED): _J.CANCELLED,
    (_J.ACTIVE, _JE.EXPIRED): _J.EXPIRED,
    # after the end the money may still become true (an expired job's attempt is followed to its end), and a clip may
    # move; nothing else changes
    (_J.COMPLETED, _JE.REFRESHED): _J.COMPLETED,
    (_J.COMPLETED, _JE.SETTLED): _J.COMPLETED,
    (_J.FAILED, _JE.SETTLED): _J.FAILED,
    (_J.CANCELLED, _JE.SETTLED): _J.CANCELLED,
    (_J.EXPIRED, _JE.SETTLED): _J.EXPIRED,
}

ATTEMPT_TABLE: dict[tuple[AttemptState, AttemptEvent], AttemptState] = {
    (_A.SUBMITTING, _AE.ACCEPTED): _A.RUNNING,
    (_A.SUBMITTING, _AE.NOT_SENT): _A.NOT_SENT,
    (_A.SUBMITTING, _AE.REJECTED): _A.REJECTED,
    (_A.SUBMITTING, _AE.LOST): _A.UNKNOWN,
    (_A.UNKNOWN, _AE.FOUND): _A.RUNNING,
    (_A.UNKNOWN, _AE.DISPROVED): _A.DISPROVED,
    (_A.UNKNOWN, _AE.WRITTEN_OFF): _A.WRITTEN_OFF,
    (_A.RUNNING, _AE.SUCCEEDED): _A.SUCCEEDED,
    (_A.RUNNING, _AE.FAILED): _A.FAILED,
    (_A.RUNNING, _AE.CANCELLED): _A.CANCELLED,
}


class IllegalTransition(Exception):
    """The table names no such step. A defect of ours, never an input's fault."""


# --- the two records --------------------------------------------------------------------------------------------------


class Attempt(Frozen):
    """One try on one backend. At most one POST is ever sent for it."""

    id: str
    job: str
    no: int  # 1, 2, 3 … within the job
    state: AttemptState
    backend: str
    provider: str
    account: str
    model_id: str
    price_usd_micros: int  # reserved for it: its quote; 0 where the price is pretend
    started_us: int  # the intent, before the POST
    test: bool = False  # as its job: made by the sandbox, whatever its provider is called
    handed: dict[str, str] = {}  # pictures by SHA-256 → the addresses under which the vendor was given them
    bucket: str = ""  # under which its render time counts: see health
    bills: tuple[Kind, ...] = ()  # endings that cost its price all the same
    cost_usd_micros: int | None = None  # None until known
    operation: Operation | None = None
    fault: Fault | None = None  # of one that succeeded: its clip is not what was bought
    accepted_us: int | None = None
    ended_us: int | None = None

    @property
    def spent_usd_micros(self) -> int:
        """What it has cost or may yet cost: its cost once known, its price while nobody knows."""
        if self.cost_usd_micros is not None:
            return self.cost_usd_micros
        return self.price_usd_micros


class Job(Frozen):
    """The caller's durable video. Its `version` rises by one with every saved change (I8)."""

    id: str
    caller: str  # the key's id; nothing crosses callers
    spec: JobSpec
    routing: Routing
    seconds: int  # what the chosen backend was asked for
    size: str  # "1280x720": likewise, as well as it is known
    purse_usd_micros: int
    created_us: int
    deadline_us: int
    test: bool = False  # of a test key: it can reach the sandbox only, and costs nothing
    state: JobState = JobState.QUEUED
    version: int = 0
    warnings: tuple[str, ...] = ()
    reserved_usd_micros: int = 0
    cost_usd_micros: int | None = None  # None until the job has ended and every attempt's cost is known
    cancel_requested: bool = False
    attempts: int = 0
    videos: tuple[Video, ...] = ()
    fault: Fault | None = None
    error_code: str | None = None  # the public code of a job that did not complete
    ended_us: int | None = None
    deleted_us: int | None = None
    words_erased_us: int | None = None  # since then its prompts, pictures, metadata and vendors' messages are gone
    clip_erased_us: int | None = None


def advance(job: Job, event: JobEvent, **changes: Any) -> Job:
    """The job after `event`, with `changes` (fields of Job). Raises IllegalTransition, having changed nothing."""
    state = JOB_TABLE.get((job.state, event))
    if state is None:
        raise IllegalTransition(f"job {job.id} is {job.state}: {event} cannot happen to it")
    return msgspec.structs.replace(job, state=state, version=job.version + 1, **changes)


def advance_attempt(attempt: Attempt, event: AttemptEvent, **changes: Any) -> Attempt:
    """The attempt after `event`. Raises IllegalTransition, having changed nothing."""
    state = ATTEMPT_TABLE.get((attempt.state, event))
    if state is None:
        raise IllegalTransition(f"attempt {attempt.id} is {attempt.state}: {event} cannot happen to it")
    return msgspec.structs.replace(attempt, state=state, **changes)


def diagram() -> str:
    """The lifecycle as Mermaid, drawn from the tables; README holds a copy and a test keeps it equal."""
    lines = ["stateDiagram-v2"]
    for name, table in (("Job", JOB_TABLE), ("Attempt", ATTEMPT_TABLE)):
        prefix = name[0].lower() + "_"
        lines.append(f"    state {name} {{")
        for (source, event), target in table.items():
            if source != target:
                lines.append(f"        {prefix}{source} --> {prefix}{target}: {event.split('.')[1]}")
        lines.append("    }")
    return "\n".join(lines) + "\n"
