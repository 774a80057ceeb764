"""Who is told of what has just become durable: open streams, each with a short queue of its own.

Law: it speaks in the order of the store's sequence, of what is on disk only, from the event loop alone. A listener that
does not keep up loses its queue, never an event: it is told so, and reads what it missed from the store. Progress is no
event: it is kept nowhere, and the latest figure stands for those before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from gateway.jobs import Job, JobEvent

MOST_QUEUED = 64  # events that wait for one listener

# The events that a caller is told of; the index `events_of_caller` holds these and no others.
SHOWN = frozenset(
    {
        JobEvent.ACCEPTED.value,
        JobEvent.ATTEMPT_STARTED.value,
        JobEvent.COMPLETED.value,
        JobEvent.FAILED.value,
        JobEvent.CANCELLED.value,
        JobEvent.EXPIRED.value,
    }
)


class Happened(NamedTuple):
    """One durable event that its caller may be told of. `job` is at least as new as the event."""

    seq: int
    type: str
    at_us: int
    attempt: str | None
    job: Job


class Listener:
    """One open stream: what it has not yet taken."""

    __slots__ = ("_moved", "_queue", "_waiter", "ended", "fell_behind")

    def __init__(self) -> None:
        self._queue: deque[Happened] | None = None  # most listeners are idle, and an empty deque holds 600 bytes
        self._moved: dict[str, Job] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False  # nothing will come any more
        self.fell_behind = False  # its queue was full and was dropped: what was in it stands in the store

    def tell(self, happened: Happened) -> None:
        if self.fell_behind or self.ended:
            return
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= MOST_QUEUED:
            self._queue, self.fell_behind = None, True
        else:
            self._queue.append(happened)
        self._wake()

    def move(self, job: Job) -> None:
        """The job's progress has risen."""
        if self._moved is None:
            self._moved = {}
        if len(self._moved) < MOST_QUEUED:
            self._moved[job.id] = job
            self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def take(self) -> deque[Happened]:
        """What waits, oldest first."""
        found, self._queue = self._queue or deque(), None
        return found

    def take_moved(self) -> Iterable[Job]:
        """The jobs whose progress has risen."""
        found, self._moved = self._moved, None
        return found.values() if found else ()

    def catch_up(self) -> None:
        """From here on it listens again; what it missed must be read after this."""
        self.fell_behind = False

    async def wait(self, seconds: float) -> bool:
        """True as soon as there is something to take; False when `seconds` have passed without."""
        if self._queue or self._moved or self.ended or self.fell_behind:
            return True
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        alarm = loop.call_later(seconds, self._wake)
        try:
            await waiter
        finally:
            alarm.cancel()
            self._waiter = None
        return bool(self._queue or self._moved or self.ended or self.fell_behind)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Feed:
    """Every open stream, by caller, and by job for those that follow one."""

    def __init__(self) -> None:
        self._by_caller: dict[str, set[Listener]] = {}
        self._by_job: dict[str, set[Listener]] = {}
        self._open: dict[str, int] = {}
        self._count = 0
        self._ended = False

    @contextmanager
    def listen(self, caller: str, job_id: str | None = None) -> Iterator[Listener]:
        """A listener to all of a caller's jobs, or to one. Whoever listens before reading the store misses nothing."""
        listener = Listener()
        listener.ended = self._ended
        group, key = (self._by_caller, caller) if job_id is None else (self._by_job, job_id)
        group.setdefault(key, set()).add(listener)
        self._open[caller] = self._open.get(caller, 0) + 1
        self._count += 1
        try:
            yield listener
        finally:
            group[key].discard(listener)
            if not group[key]:
                del group[key]
            self._count -= 1
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    def count(self, caller: str | None = None) -> int:
        """Open streams: a caller's, or all."""
        return self._count if caller is None else self._open.get(caller, 0)

    def announce(self, happened: Happened) -> None:
        """Tell everybody whom it concerns. In the order of `seq`."""
        for listener in self._concerned(happened.job):
            listener.tell(happened)

    def move(self, job: Job) -> None:
        """Tell that a job's progress has risen."""
        for listener in self._concerned(job):
            listener.move(job)

    def end(self) -> None:
        """End every stream, and each that still comes: the process is going."""
        self._ended = True
        for group in (self._by_caller, self._by_job):
            for listeners in group.values():
                for listener in listeners:
                    listener.end()

    def _concerned(self, job: Job) -> Iterator[Listener]:
        if self._count:
            yield from self._by_caller.get(job.caller, ())
            yield from self._by_job.get(job.id, ())
