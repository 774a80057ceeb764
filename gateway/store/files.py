"""The store's part in the files and words of ended jobs: where the archive has a clip, and what is erased.

Law: an erasure is durable before a file is touched, so that a crash between the two is taken up again; the ledger (who,
when, on which backend, how long, at what cost, how it ended) stays whatever is erased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.jobs import Job
from gateway.store import erasing
from gateway.store.kept import Age, Archived, Due, Kept, Outlived
from gateway.store.live import LiveView

if TYPE_CHECKING:
    from gateway.store.sql import Engine


class Files:
    """Its writes raise StoreUnavailable when they could not be made durable, like the store's own."""

    def __init__(self, engine: Engine, live: LiveView) -> None:
        self._engine = engine
        self._live = live

    async def of(self, job_id: str) -> Kept | None:
        """None for a job that has not ended, or is unknown."""
        return await self._engine.read(erasing.of(job_id))

    async def erase(
        self, job_id: str, at_us: int, *, words: bool = True, clip: bool = True, deleted: bool = False
    ) -> Job | None:
        """Take the words and the clip of an ended job away from everybody, and the job itself from its caller's sight
        when `deleted`. None when it is unknown, unfinished or (for `deleted`) deleted already. Its version rises by
        one. The files stay until whoever removes them has said `removed`; until then the job still knows its clip."""
        change = erasing.erase(job_id, at_us, words=words, clip=clip, deleted=deleted)
        return await self._engine.write(change, self._show)

    async def unfinished(self, limit: int) -> tuple[str, ...]:
        """Jobs of which something was erased whose files are not removed yet."""
        return await self._engine.read(erasing.unfinished(limit))

    async def removed(self, job_id: str, at_us: int) -> None:
        """What was erased of it is off every disk and out of the archive."""
        await self._engine.write(erasing.removed(job_id, at_us), self._show)

    async def fold_log(self) -> None:
        """Let go of the log of changes, which still has what was there before them."""
        await self._engine.fold_log()

    async def outlived(self, age: Age, *, caller: str | None = None, limit: int) -> tuple[Outlived, ...]:
        """Jobs (of one caller) that ended before those instants and still have what should be gone, oldest first."""
        return await self._engine.read(erasing.outlived(age, caller, limit))

    async def to_archive(self, now_us: int, limit: int) -> tuple[Due, ...]:
        """The longest due first."""
        return await self._engine.read(erasing.to_archive(now_us, limit))

    async def archive_later(self, job_id: str, due_us: int | None) -> None:
        """It was tried; the next try, or None for never."""
        await self._engine.write(erasing.archive_later(job_id, due_us))

    async def archived(self, job_id: str, archived: Archived) -> bool:
        """The archive has it. False when the clip was erased meanwhile: then it must go from the archive again."""
        return await self._engine.write(erasing.archived(job_id, archived))

    async def unclean(self) -> int:
        """How many erased jobs may have left traces in bytes of the store that nothing uses."""
        return await self._engine.read(erasing.unclean())

    async def compact(self, at_us: int) -> None:
        """Write the store anew without such bytes. Every other write waits for it."""
        await self._engine.compact()
        await self._engine.write(erasing.clean(at_us))

    def _show(self, job: Job | None) -> None:
        if job is not None:
            self._live.put(job)
