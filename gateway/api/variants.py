"""What content is made here of a finished clip: a thumbnail, a sheet of its frames, or the clip joined to the one that
it continues.

Law: a file that is served was made whole, of a clip that its reader may see; one that was erased while something was
made of it leaves nothing behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import structlog

from gateway.api import Rooms
from gateway.api.answers import Answer
from gateway.api.problems import Problem
from gateway.api.streaming import BrokeOff, Stream
from gateway.derive import Clip, NothingBefore, TooLarge, Unwanted, Variant
from gateway.jobs import Job
from gateway.splicing import Unreadable

log = structlog.get_logger(__name__)

Read = Callable[[], Awaitable[Answer]]  # a clip as it would be sent, whole


def as_file(rooms: Rooms, read: Read, *, path: str | None = None) -> Clip:
    """A clip as a file of this machine, for as long as it is open; at `path` it lies already."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Path]:
        if path is not None:
            yield Path(path)
            return
        answer = await read()
        if not isinstance(answer, Stream):
            raise _unmade("it is not to be had")
        try:
            async with rooms.derived.poured(answer.pieces()) as poured:
                yield poured
        except (BrokeOff, TooLarge) as error:
            raise _unmade(str(error)) from error
        finally:
            await answer.close()

    return opened


async def picture(rooms: Rooms, job: Job, variant: Variant, clip: Clip) -> Path:
    """A picture of the clip. Raises Problem, and what `clip` raises."""
    try:
        made = await rooms.derived.variant(job.id, variant, clip)
    except Unwanted as error:
        raise _erased() from error
    except Unreadable as error:
        log.warning("variant.not_made", job=job.id, variant=variant.word, why=str(error))
        raise _unmade(str(error)) from error
    await _must_still_be_there(rooms, job)
    return made


async def joined(rooms: Rooms, job: Job, part: Clip) -> Path:
    """The clip that this job continues and its own, as one. Raises Problem, and what `part` raises."""
    try:
        made = await rooms.derived.joined(job.id, part)
    except NothingBefore as error:
        log.error("clip.not_joined", job=job.id, why="the clip before it is not kept here")
        raise Problem(410, "gone", "The clip that this one continues is no longer kept here.") from error
    except Unwanted as error:
        raise _erased() from error
    except Unreadable as error:
        log.error("clip.not_joined", job=job.id, why=str(error))
        raise _unmade(str(error)) from error
    await _must_still_be_there(rooms, job)
    return made


async def _must_still_be_there(rooms: Rooms, job: Job) -> None:
    now = await rooms.store.job(job.id)
    if now is None or now.clip_erased_us is not None:
        await rooms.derived.discard(job.id)
        raise _erased()


def _erased() -> Problem:
    return Problem(410, "gone", "The clip is no longer there: it was erased.")


def _unmade(why: str) -> Problem:
    return Problem(422, "content_unreadable", f"The clip cannot be worked with: {why}.")
