"""What a store promises, and the records and errors that it speaks in. No engine's name stands here.

Law: what `accept`, `save` or any other write has returned from is on disk. A write that raised has changed nothing, but
that after a failing disk a restart may show a change nobody was told of. To stop awaiting a write does not stop it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gateway.jobs import Attempt, Job
from gateway.store.feed import Happened
from gateway.store.live import LiveView
from providers.spec import Frozen

if TYPE_CHECKING:
    from gateway.store.files import Files
    from gateway.store.finding import Sought
    from gateway.store.ledger import Ledger
    from gateway.store.post import Post
    from gateway.store.shelf import Shelf

# --- records ----------------------------------------------------------------------------------------------------------


class Event(Frozen):
    """One line of a job's history. `type` is the value of a JobEvent or AttemptEvent."""

    job: str
    type: str
    at_us: int
    attempt: str | None = None
    data: dict[str, Any] = {}


class Key(Frozen):
    """One caller's API key, without the key: its text is shown once, when it is made, and kept as a hash only."""

    id: str
    name: str
    hash: str  # SHA-256 hex of the key's text
    hint: str  # its first and last characters, for people to tell keys apart
    created_us: int
    revoked_us: int | None = None
    purse_usd_micros: int | None = None  # the most one of its jobs may spend, when the job names no purse
    scopes: tuple[str, ...] = ()  # see `keys.Need`; empty: all that callers do
    test: bool = False  # reaches the sandbox only, and can never spend
    expires_us: int | None = None
    old_hash: str | None = None  # of the text before the last rotation, which opens it
    old_hash_until_us: int | None = None  # until then
    budget_day_usd_micros: int | None = None  # the most that its jobs of one day (UTC) may spend together
    budget_month_usd_micros: int | None = None
    models: tuple[str, ...] = ()  # names or patterns (`*-pro`) of what it may use; empty: every one
    providers: tuple[str, ...] = ()
    max_in_flight: int | None = None  # jobs that have not ended
    requests_per_minute: int | None = None
    keep_days: int | None = None  # how long clips, prompts and pictures of its jobs are kept after their end


class Idempotency(Frozen):
    """A caller's `Idempotency-Key`: the same key and fingerprint before `expires_us` is the same job."""

    key: str
    fingerprint: str  # hash of the parsed request
    expires_us: int


class Feedback(Frozen):
    """What the caller of a completed job says of its clip: kept, or not."""

    job: str
    caller: str
    backend: str  # the one that made the clip
    accepted: bool
    at_us: int
    note: str | None = None  # at most 500 characters


class Verdicts(NamedTuple):
    """How many clips of one backend were kept, and how many were not."""

    backend: str
    accepted: int
    rejected: int


class Accepted(Frozen):
    """What became of an accept: the new job, or on a replay the first one as it stands now."""

    job: Job
    replayed: bool = False
    seq: int = 0  # the number of its event `job.accepted`; 0 on a replay


class Trouble(Frozen):
    """Why the store cannot write. `lasting`: only a new process can help (the disk failed, the file is gone)."""

    message: str
    lasting: bool = False


# --- errors -----------------------------------------------------------------------------------------------------------


class StoreError(Exception):
    """The store could not do it. The message says what to do."""


class BadStoreUrl(StoreError):
    """The configured url names no store that we can open."""


class StoreInUse(StoreError):
    """Another process has this store open. `pid` is its process id, where it could be read."""

    def __init__(self, message: str, *, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class StoreTooNew(StoreError):
    """The store was written by a newer version than this one."""


class StoreUnavailable(StoreError):
    """Nothing was acknowledged: the disk is full or failing, the file is locked, or the store is closed."""


class Conflict(StoreError):
    """What is stored is not what this change was made from. Read again, decide again."""


class KeyReused(StoreError):
    """The idempotency key already stands for another request."""


class BudgetExceeded(StoreError):
    """The key's budget of a day or month has no room for what is asked. Nothing was written."""

    def __init__(
        self, message: str, *, period: str, budget_usd_micros: int, used_usd_micros: int, asked_usd_micros: int
    ) -> None:
        super().__init__(message)
        self.period = period  # "day" or "month"
        self.budget_usd_micros = budget_usd_micros
        self.used_usd_micros = used_usd_micros  # spent or reserved, without what is asked
        self.asked_usd_micros = asked_usd_micros  # beyond what the job has reserved already

    @property
    def left_usd_micros(self) -> int:
        return max(self.budget_usd_micros - self.used_usd_micros, 0)


class TooManyJobs(StoreError):
    """The key has as many unfinished jobs as it may have. Nothing was written."""

    def __init__(self, message: str, *, most: int) -> None:
        super().__init__(message)
        self.most = most


class InvariantBroken(StoreError):
    """A constraint refused the change and nothing was written. A defect of ours, except for its subclasses."""


class OperationTaken(InvariantBroken):
    """The vendor's operation id belongs to another attempt already (I6)."""


class AttemptMoved(InvariantBroken):
    """The attempt is stored in a state from which it cannot become this one: a late or repeated finding."""


class NameTaken(InvariantBroken):
    """A live key has this name already."""


# --- the store --------------------------------------------------------------------------------------------------------


class Store(Protocol):
    """Durable jobs, attempts, events, keys and secrets. Every method runs on the loop that opened it.

    A write raises StoreUnavailable when it could not be made durable; reads go on even then.
    """

    live: LiveView
    post: Post
    files: Files
    ledger: Ledger
    shelf: Shelf

    async def open(self) -> None:
        """Take the store, bring it to this version's schema, and load the live view.
        Raises StoreInUse, StoreTooNew, StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Finish every write that was begun, then give the store back."""
        ...

    async def accept(self, job: Job, *, decision: bytes, idempotency: Idempotency | None = None) -> Accepted:
        """T1: job, decision (JSON), idempotency row and the event `job.accepted`, all or none, durable on return.
        `job.created_us` is the now that an older key's expiry is judged by. Raises KeyReused; BudgetExceeded or
        TooManyJobs when its caller's key has no room for it."""
        ...

    async def replayed(self, caller: str, idempotency: Idempotency, now_us: int) -> Job | None:
        """The job that this key already stands for, as it is now; None when there is none. Raises KeyReused.
        A look ahead only: `accept` decides."""
        ...

    async def retried(self, caller: str, prefix: str, now_us: int, *, limit: int) -> tuple[Job, ...]:
        """The jobs of this caller whose live idempotency keys begin so, the greatest key first."""
        ...

    async def save(self, job: Job, *, attempt: Attempt | None = None, events: tuple[Event, ...] = ()) -> None:
        """The job after one `advance`, all or none: the stored version must be `job.version - 1`.

        An attempt in `submitting` is new, and the one before it must allow a next (I5); any other is updated, along
        ATTEMPT_TABLE only. An attempt that is not open has its `ended_us`, a followed one its operation. A job that
        ends has its `ended_us` and brings its terminal event along. What is reserved stays within the purse; what it
        cost need not. Raises Conflict when somebody saved the job first, BudgetExceeded when a new attempt reserves
        more than before and the key's budget has no room for it, AttemptMoved, OperationTaken, InvariantBroken."""
        ...

    async def job(self, job_id: str) -> Job | None: ...

    async def attempts(self, job_id: str) -> tuple[Attempt, ...]:
        """In order of their `no`."""
        ...

    async def attempt(self, attempt_id: str) -> Attempt | None: ...

    async def decision(self, job_id: str) -> bytes | None: ...

    async def events(self, job_id: str) -> tuple[Event, ...]:
        """In the order in which they happened."""
        ...

    async def happened(self, caller: str, *, after: int, limit: int, job_id: str | None = None) -> tuple[Happened, ...]:
        """What a caller is told of, after the event of this number, in the order in which it became durable; of all its
        jobs, or of one (which must be its own)."""
        ...

    async def last_happened(self, caller: str) -> int:
        """The number of the newest event of a caller; 0 when there is none."""
        ...

    async def list_jobs(
        self, caller: str, *, after: str | None, limit: int, descending: bool = True, sought: Sought | None = None
    ) -> tuple[tuple[Job, ...], bool]:
        """At most `limit` of the caller's jobs beyond the id `after`, by age, without deleted ones, and of what is
        `sought` alone; and whether there are more."""
        ...

    async def open_work(self) -> list[tuple[Job, Attempt | None]]:
        """Every job that has not ended or has an open attempt, with its latest attempt, oldest first."""
        ...

    async def recent_attempts(self, limit: int) -> tuple[Attempt, ...]:
        """The attempts that ended last, newest first, without those of test keys."""
        ...

    async def attempts_since(self, since_us: int) -> tuple[Attempt, ...]:
        """Every attempt whose intent is not older than this, oldest first, without those of test keys; for the
        auditor."""
        ...

    async def give_feedback(self, feedback: Feedback) -> bool | None:
        """Keep it, in the place of what was said of this job before: whether that was accepted, None where nothing
        was. Raises InvariantBroken unless the job is completed and the caller's own."""
        ...

    async def feedback_counts(self) -> tuple[Verdicts, ...]:
        """Of every backend that anything was said of, by its id, without what test keys said."""
        ...

    async def create_key(self, key: Key) -> None:
        """Raises NameTaken while a live key has this name."""
        ...

    async def keys(self) -> tuple[Key, ...]:
        """All of them, revoked ones too, oldest first."""
        ...

    async def change_key(self, was: Key, key: Key) -> None:
        """Other terms, or another text, for a live key; its id stays. Raises Conflict unless `was` is stored."""
        ...

    async def revoke_key(self, id_or_name: str, at_us: int) -> bool:
        """False when no live key has this id or name. An id is looked for first."""
        ...

    async def secret(self, purpose: str) -> bytes:
        """32 random bytes for this purpose, made on first use, the same ever after."""
        ...

    async def forget_expired(self, now_us: int) -> int:
        """Delete idempotency rows past their time; how many."""
        ...

    def writable(self) -> bool:
        """Whether the last write, or a probe since, became durable. Asking starts a probe when the answer is no."""
        ...

    def trouble(self) -> Trouble | None:
        """Why it is not writable; None when it is."""
        ...
