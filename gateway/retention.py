"""Erases what has outlived its time, or what its owner deleted: clips, prompts, pictures, what was made of them.

Laws. The ledger stays. An erasure is written down first and the files go after it, so that a crash or an archive that
cannot be reached only puts off what is still owed, and every pass takes it up again. Nothing here reads the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from gateway.archive import Archive, ArchiveError
from gateway.archiving import Archiver, object_name
from gateway.jobs import Job
from gateway.settings import Retention as Rules
from gateway.store.kept import Age
from gateway.store.spec import Store
from providers.spec import ProviderError

log = structlog.get_logger(__name__)

BATCH = 200
DAY_US = 24 * 3600 * 1_000_000
HOUR_US = 3600 * 1_000_000


class Retention:
    """What may be kept, and for how long."""

    def __init__(
        self,
        *,
        store: Store,
        rules: Rules,
        archive: Archive | None = None,
        archiver: Archiver | None = None,
        discard: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`discard` removes what was made of a job's clip, by the job's id."""
        self._store = store
        self._rules = rules
        self._archive = archive
        self._archiver = archiver
        self._forget: Callable[[Job], Awaitable[bool]] | None = None
        self._discard = discard
        self._compacted_us = 0

    def on_forget(self, callback: Callable[[Job], Awaitable[bool]]) -> None:
        """Who lets renderers on this machine let go of an erased job (False: one is still at it): the worker."""
        self._forget = callback

    async def delete(self, job_id: str, at_us: int) -> bool:
        """Erase an ended job of its caller's, at once: its words and clip are gone from the store and every disk when
        this returns, but for an archive that could not be reached: there they go with a later pass. False when it is
        unknown, unfinished or deleted already. Raises StoreUnavailable."""
        if await self._store.files.erase(job_id, at_us, deleted=True) is None:
            return False
        await self._remove(job_id, at_us)
        await self._store.files.fold_log()
        return True

    async def keep_house(self, now_us: int) -> int:
        """One pass: erase what is too old, finish what was begun, and write the store anew where that is due. How many
        jobs were erased. Raises StoreUnavailable."""
        count = 0
        for age, caller in await self._ages(now_us):
            while batch := await self._store.files.outlived(age, caller=caller, limit=BATCH):
                for one in batch:
                    await self._store.files.erase(one.job, now_us, words=one.words, clip=one.clip)
                    await self._remove(one.job, now_us)
                count += len(batch)
        unfinished = await self._store.files.unfinished(BATCH)
        for job_id in unfinished:
            await self._remove(job_id, now_us)
        if count or unfinished:
            await self._store.files.fold_log()
            log.info("retention.erased", jobs=count, taken_up=len(unfinished))
        await self._compact(now_us)
        return count

    async def _ages(self, now_us: int) -> list[tuple[Age, str | None]]:
        """Whose jobs may be how old."""
        rules = self._rules
        ages: list[tuple[Age, str | None]] = []
        if rules.prompts_days is not None or rules.clips_days is not None:
            words, clips = _before(rules.prompts_days, now_us), _before(rules.clips_days, now_us)
            ages.append((Age(words_before_us=words, clips_before_us=clips), None))
        for key in await self._store.keys():
            days = rules.test_days if key.test and key.keep_days is None else key.keep_days
            if days is not None:
                before = _before(days, now_us)
                ages.append((Age(words_before_us=before, clips_before_us=before), key.id))
        return ages

    async def _remove(self, job_id: str, at_us: int) -> None:
        """Take what was erased of a job off every disk and out of the archive; what cannot be now stays owed."""
        job = await self._store.job(job_id)
        if job is None:
            return
        try:
            if self._forget is not None and not await self._forget(job):
                return
            if job.clip_erased_us is not None:
                await self._remove_clip(job)
        except (ArchiveError, ProviderError, OSError) as error:
            log.warning("retention.put_off", job=job_id, why=f"{type(error).__name__}: {error}"[:200])
            return
        await self._store.files.removed(job_id, at_us)

    async def _remove_clip(self, job: Job) -> None:
        if self._archiver is not None:
            await self._archiver.drop(job.id)
        kept = await self._store.files.of(job.id)
        archived = kept.archived if kept is not None else None
        if self._archive is not None:  # by its name, whether it was said to be there or not: a crash may lie between
            await self._archive.remove(archived.object if archived is not None else object_name(job))
        elif archived is not None:
            raise ArchiveError("the clip lies in an archive that is no longer configured")
        for video in job.videos:
            if video.path is not None:
                await asyncio.to_thread(Path(video.path).unlink, missing_ok=True)
        if self._discard is not None:
            await self._discard(job.id)

    async def _compact(self, now_us: int) -> None:
        """What was erased is written over at once, but a page that was moved can have left a copy in bytes that nothing
        uses; only a store that is written anew has none."""
        hours = self._rules.compact_hours
        if not hours or now_us < self._compacted_us + hours * HOUR_US or not await self._store.files.unclean():
            return
        self._compacted_us = now_us
        await self._store.files.compact(now_us)
        log.info("retention.compacted")


def _before(days: float | None, now_us: int) -> int | None:
    return None if days is None else now_us - round(days * DAY_US)
