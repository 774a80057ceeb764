"""Copies each finished clip into the archive, before its vendor drops the file.

Laws. What is owed stands in the store, so a restart forgets nothing and nothing is copied twice but after a crash. A
clip is said to be archived once it is there whole, under its own hash. A clip that is erased while it is copied is gone
from the archive before the erasure is said to be done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import structlog

from gateway.archive import Archive, ArchiveError, Stored
from gateway.jobs import Job
from gateway.store.kept import Archived, Due
from gateway.store.spec import Store, StoreUnavailable
from providers.guard import UrlRefused

log = structlog.get_logger(__name__)

COPIES_AT_ONCE = 4
LOOK_SECONDS = 2.0  # between two looks at what is due
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 10.0, 3600.0
GIVE_UP_SECONDS = 30 * 24 * 3600.0  # no vendor keeps a file longer
GONE_TRIES = 3  # a file host may say "not there" of what is not there yet
COPY_SECONDS = 3600.0
MAX_CLIP_BYTES = 8 << 30
PIECE_BYTES = 256 << 10
SECOND = 1_000_000
_GONE = frozenset({401, 403, 404, 410})


class Opens(Protocol):
    """How a stranger's file is read: `Transport.stream`."""

    def __call__(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[httpx.Response]: ...


class _NotHad(Exception):
    """The clip did not come. `gone`: its host no longer has it."""

    def __init__(self, why: str, *, gone: bool = False) -> None:
        super().__init__(why)
        self.gone = gone


class _Stopped(Exception):
    """The copy is not wanted any more."""


def object_name(job: Job) -> str:
    """Where the archive has a job's clip: by day, the same whenever it is asked."""
    return f"{datetime.fromtimestamp(job.created_us // SECOND, UTC):%Y/%m/%d}/{job.id}.mp4"


def retry_seconds(tries: int) -> float:
    """How long after so many tries the next one comes: 10 s, 40 s, 160 s, 640 s, then every hour."""
    return min(FIRST_RETRY_SECONDS * 4.0 ** min(tries, 16), LAST_RETRY_SECONDS)


class Archiver:
    """One for a process."""

    def __init__(
        self,
        *,
        store: Store,
        archive: Archive,
        stream: Opens,
        now_us: Callable[[], int],
        joined: Callable[[str, AsyncIterator[bytes]], AsyncIterator[bytes]] | None = None,
    ) -> None:
        """`joined` makes one file of what a job made and of what it continues, by the job's id."""
        self._store = store
        self._archive = archive
        self._stream = stream
        self._now_us = now_us
        self._joined = joined
        self._copying: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._stopping = False

    async def run(self) -> None:
        """Look for what is due, for ever."""
        while True:
            try:
                await self._begin()
            except StoreUnavailable as error:
                log.error("store.unavailable", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """`run` beside what is done within, then an end."""
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await self.stop()

    async def settle(self) -> None:
        """Copy all that is due now; returns when none of it is under way."""
        while await self._begin() or self._copying:
            await asyncio.wait([task for task, _ in self._copying.values()])

    async def stop(self) -> None:
        """Leave what is half copied; it stays due."""
        self._stopping = True
        await asyncio.gather(*[self.drop(job_id) for job_id in list(self._copying)])

    async def drop(self, job_id: str) -> None:
        """Stop copying this job's clip; returns when nothing of the copy is under way."""
        if (copying := self._copying.get(job_id)) is not None:
            task, stop = copying
            stop.set()
            await asyncio.wait({task})

    async def _begin(self) -> int:
        """Start what is due and has room; how many."""
        room = COPIES_AT_ONCE - len(self._copying)
        if room <= 0 or self._stopping:
            return 0
        due = await self._store.files.to_archive(self._now_us(), COPIES_AT_ONCE + room)
        fresh = [one for one in due if one.job not in self._copying][:room]
        for one in fresh:
            stop = asyncio.Event()
            task = asyncio.create_task(self._copy(one, stop))
            self._copying[one.job] = task, stop
        return len(fresh)

    async def _copy(self, due: Due, stop: asyncio.Event) -> None:
        """One try, and what the store is told of it."""
        try:
            job = await self._store.job(due.job)
            if job is None or job.clip_erased_us is not None or not job.videos or job.videos[0].url is None:
                await self._store.files.archive_later(due.job, None)  # or a file that lies here already
                return
            try:
                await self._keep(job, stop)
            except _Stopped:
                pass
            except (_NotHad, ArchiveError, UrlRefused, httpx.HTTPError, httpx.StreamError, ValueError) as error:
                await self._put_off(job, due.tries, error)
        except StoreUnavailable as error:
            log.error("store.unavailable", job=due.job, error=str(error))
        except Exception:  # a defect of ours or of a library: the clip stays due, later
            log.exception("archive.failed", job=due.job)
            with contextlib.suppress(StoreUnavailable):
                await self._store.files.archive_later(due.job, self._now_us() + round(LAST_RETRY_SECONDS * SECOND))
        finally:
            del self._copying[due.job]

    async def _keep(self, job: Job, stop: asyncio.Event) -> None:
        name = object_name(job)
        try:
            stored = await self._fetched(job, name, stop)
        except _NotHad as error:
            if not error.gone or not await self._store.live.refresh(job.id):
                raise
            job = await self._store.job(job.id) or job
            stored = await self._fetched(job, name, stop)
        kept = Archived(
            object=name,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            content_type=job.videos[0].content_type[:100] if job.videos else "video/mp4",
            at_us=self._now_us(),
        )
        if await self._store.files.archived(job.id, kept):
            log.info("clip.archived", job=job.id, bytes=kept.size_bytes, sha256=kept.sha256)
        else:
            await self._archive.remove(name)

    async def _fetched(self, job: Job, name: str, stop: asyncio.Event) -> Stored:
        async with self._stream(job.videos[0].url or "" if job.videos else "") as response:
            if response.status_code != 200:
                raise _NotHad(f"its address answered {response.status_code}", gone=response.status_code in _GONE)
            pieces = self._pieces(response, stop)
            if job.spec.extends is not None and self._joined is not None:
                pieces = self._joined(job.id, pieces)
            return await self._archive.put(name, pieces)

    async def _pieces(self, response: httpx.Response, stop: asyncio.Event) -> AsyncIterator[bytes]:
        """The file's bytes, as long as somebody wants them, within the room's bounds."""
        loop = asyncio.get_running_loop()
        until, size = loop.time() + COPY_SECONDS, 0
        stopped = asyncio.ensure_future(stop.wait())
        pieces = response.aiter_raw(PIECE_BYTES)
        try:
            while True:
                step: asyncio.Future[bytes] = asyncio.ensure_future(anext(pieces, b""))
                either: set[asyncio.Future[Any]] = {step, stopped}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    step.cancel()
                    await asyncio.gather(step, return_exceptions=True)
                    raise _Stopped
                piece = step.result()
                if not piece:
                    break
                size += len(piece)
                if size > MAX_CLIP_BYTES:
                    raise _NotHad(f"it is larger than {MAX_CLIP_BYTES >> 30} GB")
                if loop.time() > until:
                    raise _NotHad(f"it did not arrive within {COPY_SECONDS:g} s")
                yield piece
            if size == 0:
                raise _NotHad("it is empty")
        finally:
            stopped.cancel()

    async def _put_off(self, job: Job, tries: int, error: Exception) -> None:
        """Try later, unless there is nothing to be had any more."""
        now = self._now_us()
        gone = isinstance(error, _NotHad) and error.gone and tries + 1 >= GONE_TRIES
        age = (now - (job.ended_us or now)) / SECOND
        why = str(error) if isinstance(error, _NotHad | ArchiveError) else type(error).__name__
        if gone or age > GIVE_UP_SECONDS:
            log.error("clip.lost", job=job.id, why=why)
            await self._store.files.archive_later(job.id, None)
            return
        seconds = retry_seconds(tries)
        log.warning("clip.not_archived", job=job.id, why=why, tries=tries + 1, again_seconds=seconds)
        await self._store.files.archive_later(job.id, now + round(seconds * SECOND))
