"""What is going on right now, in memory: the meeting point of the api and the worker inside one process.

Law: it shows only what is already on disk, it never goes backwards, and it is touched from the event loop alone. Losing
it loses nothing: the store fills it again when it opens.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from gateway.allowances import Allowances
from gateway.jobs import Job, JobState
from gateway.meter import SILENT, Meter
from gateway.store.feed import Feed

if TYPE_CHECKING:
    from gateway.store.spec import Key

REMEMBER_ENDED = 2000


class LiveView:
    """All unfinished jobs and the `remember_ended` ended ones last looked at; progress; wake-ups; keys; streams."""

    def __init__(self, *, remember_ended: int = REMEMBER_ENDED) -> None:
        self.feed = Feed()
        self.allowances = Allowances()
        self.meter: Meter = SILENT  # hears of what has become durable, and of how long things take
        self._remember_ended = remember_ended
        self._unfinished: dict[str, Job] = {}
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._percent: dict[str, int] = {}
        self._waiting: dict[str, list[tuple[int, asyncio.Future[Job | None]]]] = {}
        self._keys: dict[str, Key] = {}
        self._position: Callable[[str], int | None] | None = None
        self._refresh: Callable[[str], Awaitable[bool]] | None = None
        self._wake: Callable[[str], None] | None = None
        self._ring: Callable[[str, bytes, Mapping[str, str]], None] | None = None
        self._post: Callable[[], None] | None = None

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        """The job as last saved; None when it ended too long ago, or was never there: ask the store then."""
        job = self._unfinished.get(job_id)
        if job is None and (job := self._ended.get(job_id)) is not None:
            self._ended.move_to_end(job_id)
        return job

    def put(self, job: Job) -> None:
        """Show a job that has just become durable. An older version than the one shown changes nothing (I8)."""
        known = self._unfinished.get(job.id) or self._ended.get(job.id)
        if known is not None and known.version >= job.version:
            return
        if job.state.is_terminal:
            self._unfinished.pop(job.id, None)
            self._ended[job.id] = job
            self._ended.move_to_end(job.id)
            if len(self._ended) > self._remember_ended:
                forgotten, _ = self._ended.popitem(last=False)
                self._percent.pop(forgotten, None)
        else:
            self._unfinished[job.id] = job
        for version, waiter in self._waiting.get(job.id, ()):
            if job.version > version and not waiter.done():
                waiter.set_result(job)

    def newest(self, job: Job) -> Job:
        """The newer of `job`, as read from disk, and the one shown here, so that no two readers see time run back."""
        known = self.job(job.id)
        if known is None:
            return job
        if known.version >= job.version:
            return known
        self.put(job)
        return job

    def unfinished(self) -> int:
        """How many jobs have not ended."""
        return len(self._unfinished)

    def unfinished_jobs(self) -> Iterable[Job]:
        """Every job that has not ended. To be gone through at once."""
        return self._unfinished.values()

    async def changed(self, job_id: str, version: int, timeout: float) -> Job | None:
        """The job as soon as its version is above `version`; None when `timeout` seconds have passed before that."""
        job = self.job(job_id)
        if job is not None and job.version > version:
            return job
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Job | None] = loop.create_future()
        entry = (version, waiter)
        self._waiting.setdefault(job_id, []).append(entry)
        alarm = loop.call_later(timeout, _give_up, waiter)
        try:
            return await waiter
        finally:
            alarm.cancel()
            waiting = self._waiting[job_id]
            waiting.remove(entry)
            if not waiting:
                del self._waiting[job_id]

    # --- progress -----------------------------------------------------------------------------------------------------

    def progress(self, job_id: str) -> int:
        """0 to 100, never backwards while the job is in view; 100 exactly when it is completed."""
        job = self._ended.get(job_id)
        if job is not None and job.state is JobState.COMPLETED:
            return 100
        return self._percent.get(job_id, 0)

    def set_progress(self, job_id: str, fraction: float) -> None:
        """What the vendor told, 0 to 1. A smaller figure than before (a second attempt, a vendor's whim) is not shown,
        nor is nonsense; 99 is the most that an unfinished job shows."""
        if job_id not in self._unfinished or not fraction > 0:
            return
        percent = int(min(fraction, 0.99) * 100 + 1e-9)
        if percent > self._percent.get(job_id, 0):
            self._percent[job_id] = percent
            self.feed.move(self._unfinished[job_id])

    def on_position(self, ask: Callable[[str], int | None]) -> None:
        """Who knows how many jobs wait before one: the worker."""
        self._position = ask

    def position(self, job_id: str) -> int | None:
        """How many jobs will get a slot before this one; None when it does not wait for one."""
        return self._position(job_id) if self._position is not None else None

    # --- wake-ups -----------------------------------------------------------------------------------------------------

    def on_wake(self, callback: Callable[[str], None]) -> None:
        """Who listens to `wake`: the worker. It must return at once."""
        self._wake = callback

    def on_ring(self, callback: Callable[[str, bytes, Mapping[str, str]], None]) -> None:
        """Who listens to `ring`: the worker. It must return at once."""
        self._ring = callback

    def wake(self, job_id: str) -> None:
        """Api → worker: look at this job now. Nobody listens before the worker has started; it then looks at all."""
        if self._wake is not None:
            self._wake(job_id)

    def ring(self, attempt_id: str, body: bytes, headers: Mapping[str, str]) -> None:
        """A vendor's callback → worker: look at this attempt now. `body` is what it says: a claim."""
        if self._ring is not None:
            self._ring(attempt_id, body, headers)

    def on_post(self, callback: Callable[[], None]) -> None:
        """Who listens to `post`: the delivery of webhooks. It must return at once."""
        self._post = callback

    def post(self) -> None:
        """Store → delivery: something is owed to a caller's address from now on."""
        if self._post is not None:
            self._post()

    # --- files --------------------------------------------------------------------------------------------------------

    def on_refresh(self, callback: Callable[[str], Awaitable[bool]]) -> None:
        """Who can ask a vendor again: the worker."""
        self._refresh = callback

    async def refresh(self, job_id: str) -> bool:
        """Api → worker: the clip's address has expired, ask its vendor for another. Whether there is one now."""
        return await self._refresh(job_id) if self._refresh is not None else False

    # --- keys ---------------------------------------------------------------------------------------------------------

    def key(self, key_id: str) -> Key | None:
        """A key by its id, revoked ones too, as of the last change: a revocation holds from the next request on."""
        return self._keys.get(key_id)

    def put_keys(self, keys: Iterable[Key]) -> None:
        """Show keys that have just become durable, or were revoked."""
        self._keys.update((key.id, key) for key in keys)


def _give_up(waiter: asyncio.Future[Job | None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
