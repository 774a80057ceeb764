"""Asks a vendor again for a clip whose address has expired, and lets go of what a renderer here keeps of one.

Laws. A vendor is asked about a job once at a time, however many readers wait for the answer, and not again soon after
it had none. What it gives is saved as any other change of the job is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import structlog

from gateway.jobs import Attempt, AttemptState, Job, JobEvent, JobState, advance
from gateway.store.spec import Conflict, Event, Store, StoreUnavailable
from gateway.worker.realms import Realms
from providers.spec import Forgets, ProviderError, RefreshesResult, Video

log = structlog.get_logger(__name__)

REMEMBER_SECONDS = 30.0  # a vendor that had no new address is left alone so long
REMEMBERED = 10_000
SECOND = 1_000_000


class Refreshing:
    """`refresh` is what the front rooms reach by the live view."""

    def __init__(self, *, store: Store, realms: Realms, now_us: Callable[[], int]) -> None:
        self._store = store
        self._realms = realms
        self._now_us = now_us
        self._asking: dict[str, asyncio.Task[bool]] = {}
        self._in_vain: OrderedDict[str, int] = OrderedDict()  # job → when

    async def refresh(self, job_id: str) -> bool:
        """Whether the job's clip has another address now than the vendor gave before."""
        asking = self._asking.get(job_id)
        if asking is None:
            if self._now_us() < self._in_vain.get(job_id, 0) + REMEMBER_SECONDS * SECOND:
                return False
            asking = self._asking[job_id] = asyncio.create_task(self._refresh(job_id))
            asking.add_done_callback(lambda _: self._asking.pop(job_id))
        return await asyncio.shield(asking)  # a reader that goes away leaves the others theirs

    async def stop(self) -> None:
        """What is being asked is let end: at worst the limits of a vendor's reply."""
        while self._asking:
            await asyncio.wait(self._asking.values())

    async def forget(self, job: Job) -> bool:
        """Let renderers on this machine let go of what they keep of an erased job. False while one is still at it.
        Raises ProviderError."""
        words, clip = job.words_erased_us is not None, job.clip_erased_us is not None
        ended = True
        for attempt in await self._store.attempts(job.id):
            line = self._realms.line(attempt)
            if line is None or not isinstance(line.adapter, Forgets) or attempt.operation is None:
                continue
            if attempt.state.is_open:
                ended = False
                continue
            await line.adapter.forget(attempt.operation, words=words, clip=clip)
        return ended

    async def _refresh(self, job_id: str) -> bool:
        try:
            fresh = await self._fresh(job_id)
        except ProviderError as error:
            log.warning("content.not_refreshed", job=job_id, kind=error.fault.kind, said=error.fault.message[:160])
            fresh = ()
        except StoreUnavailable as error:
            log.error("store.unavailable", job=job_id, error=str(error))
            fresh = ()
        except Exception:  # an adapter's defect: the clip is not to be had, and nothing else suffers
            log.exception("adapter.failed", job=job_id)
            fresh = ()
        if fresh and await self._saved(job_id, fresh):
            self._in_vain.pop(job_id, None)
            return True
        self._in_vain[job_id] = self._now_us()
        self._in_vain.move_to_end(job_id)
        if len(self._in_vain) > REMEMBERED:
            self._in_vain.popitem(last=False)
        return False

    async def _fresh(self, job_id: str) -> tuple[Video, ...]:
        """What the vendor gives now; nothing where it has no such call, or only repeats itself."""
        job = await self._store.job(job_id)
        if job is None or not _has_a_clip(job):
            return ()
        made = _maker(await self._store.attempts(job_id))
        line = self._realms.line(made) if made is not None else None
        if made is None or made.operation is None or line is None or not isinstance(line.adapter, RefreshesResult):
            return ()
        fresh = await line.adapter.refresh(made.operation)
        return fresh if fresh != job.videos else ()

    async def _saved(self, job_id: str, videos: tuple[Video, ...]) -> bool:
        while True:
            job = await self._store.job(job_id)
            if job is None or not _has_a_clip(job):
                return False
            event = Event(job=job_id, type=JobEvent.REFRESHED, at_us=self._now_us())
            try:
                await self._store.save(advance(job, JobEvent.REFRESHED, videos=videos), events=(event,))
            except Conflict:
                continue
            except StoreUnavailable as error:
                log.error("store.unavailable", job=job_id, error=str(error))
                return False
            log.info(JobEvent.REFRESHED.value, job=job_id)
            return True


def _has_a_clip(job: Job) -> bool:
    return job.state is JobState.COMPLETED and job.clip_erased_us is None and bool(job.videos)


def _maker(attempts: tuple[Attempt, ...]) -> Attempt | None:
    """The attempt that made the clip."""
    return next((one for one in reversed(attempts) if one.state is AttemptState.SUCCEEDED), None)
