"""Files that are made of jobs' clips, kept beside the store: thumbnails, sheets of frames, and clips joined to the one
that they continue.

Laws. What is made can be made again, so a half-made file is worth nothing and the next start clears it away. One is
made at a time: a decoder takes a whole core and a part of the memory. What is kept of a job is named by its id and goes
with its clip (`discard`).

A continued clip is joined when it is first wanted, by a reader or by the archive, never while its job ends: a join can
take long and can fail, and neither is to hold up or lose a clip that is paid for. The clip before it may be gone by
then, with its vendor or by its owner's wish, so its bytes are kept here from the moment when its last frame was taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import BinaryIO

from gateway import splicing
from gateway.splicing import Look

PIECE_BYTES = 256 << 10
MAX_CLIP_BYTES = 512 << 20


class Variant(enum.Enum):
    """What can be had of a clip beside itself: how it is called, and its type."""

    THUMBNAIL = ("thumbnail", "image/webp", "webp")
    SPRITESHEET = ("spritesheet", "image/jpeg", "jpg")

    def __init__(self, word: str, content_type: str, suffix: str) -> None:
        self.word = word
        self.content_type = content_type
        self.suffix = suffix


VARIANTS = {variant.word: variant for variant in Variant}
_MAKERS: dict[Variant, Callable[[Path, Path], None]] = {
    Variant.THUMBNAIL: splicing.thumbnail,
    Variant.SPRITESHEET: splicing.spritesheet,
}

Clip = Callable[[], AbstractAsyncContextManager[Path]]  # opens a clip as a file of this machine


class NothingBefore(ValueError):
    """The clip that a job continues is not kept here any more."""


class Unwanted(ValueError):
    """What it was made of was erased before it was made."""


class TooLarge(ValueError):
    """The clip has more bytes than are worked with."""


class Derived:
    """What was made, and how more is. One for a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Lock()
        self._making: dict[Path, asyncio.Task[Path]] = {}
        self._unwanted: set[Path] = set()  # of these

    async def variant(self, job_id: str, variant: Variant, clip: Clip) -> Path:
        """A picture made of the job's clip. Raises Unreadable, Unwanted, and what `clip` raises."""
        maker = _MAKERS[variant]
        return await self._made(self._path(job_id, variant.suffix), clip, maker)

    async def joined(self, job_id: str, part: Clip) -> Path:
        """The clip before this job's and its own (`part`), as one. Raises NothingBefore, Unreadable, Unwanted, and what
        `part` raises."""
        before = self._path(job_id, "before.mp4")

        def make(part: Path, target: Path) -> None:
            if not before.is_file():
                raise NothingBefore(job_id)
            splicing.join(before, part, target)

        return await self._made(self._path(job_id, "joined.mp4"), part, make)

    async def joined_pieces(self, job_id: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same, of a part that comes piece by piece, itself piece by piece. Raises what `joined` does."""

        @contextlib.asynccontextmanager
        async def part() -> AsyncIterator[Path]:
            async with self.poured(pieces) as path:
                yield path

        path = await self.joined(job_id, part)
        with await asyncio.to_thread(path.open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece

    async def keep_before(self, job_id: str, clip: Path) -> tuple[Look, bytes]:
        """Keep a clip as the one that this job continues: what it is, and its last frame. Raises Unreadable."""
        async with self._turn:
            found = await asyncio.to_thread(splicing.last_frame, clip)
            await asyncio.to_thread(_copy, clip, self._path(job_id, "before.mp4"))
        return found

    @contextlib.asynccontextmanager
    async def poured(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[Path]:
        """What comes, as a file for as long as this is open. Raises TooLarge, and what `pieces` raises."""
        half = _half(self._folder)
        try:
            with await asyncio.to_thread(_new, half) as file:
                size = 0
                async for piece in pieces:
                    size += len(piece)
                    if size > MAX_CLIP_BYTES:
                        raise TooLarge(f"it is larger than {MAX_CLIP_BYTES >> 20} MB")
                    await asyncio.to_thread(file.write, piece)
            yield half
        finally:
            half.unlink(missing_ok=True)

    async def discard(self, job_id: str) -> None:
        """Remove all that was made of a job's clip, or kept for it; what is being made leaves nothing either."""
        for suffix in ("before.mp4", "joined.mp4", *(variant.suffix for variant in Variant)):
            path = self._path(job_id, suffix)
            if path in self._making:
                self._unwanted.add(path)
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def sweep(self, job: Callable[[str], Awaitable[object | None]]) -> None:
        """Clear away what was half made, and what was kept for a job that a crash never let become one. For a start."""
        found = list(self._folder.iterdir()) if self._folder.is_dir() else []
        for half in [path for path in found if path.name.startswith(".")]:
            half.unlink(missing_ok=True)
        for job_id in {path.name.partition(".")[0] for path in found if not path.name.startswith(".")}:
            if await job(job_id) is None:
                await self.discard(job_id)

    async def _made(self, target: Path, clip: Clip, make: Callable[[Path, Path], None]) -> Path:
        """`target`, made once however many ask for it at once, and to its end though none of them waits any more."""
        if await asyncio.to_thread(target.is_file):
            return target
        making = self._making.get(target)
        if making is None:
            making = self._making[target] = asyncio.create_task(self._make(target, clip, make))
            making.add_done_callback(lambda done: self._over(target, done))
        return await asyncio.shield(making)

    async def _make(self, target: Path, clip: Clip, make: Callable[[Path, Path], None]) -> Path:
        async with clip() as path, self._turn:
            half = _half(self._folder)
            try:
                await asyncio.to_thread(make, path, half)
                if target in self._unwanted:
                    raise Unwanted("it was erased meanwhile")
                half.chmod(0o600)
                half.replace(target)
            finally:
                half.unlink(missing_ok=True)
        return target

    def _over(self, target: Path, done: asyncio.Task[Path]) -> None:
        del self._making[target]
        self._unwanted.discard(target)
        if not done.cancelled():
            done.exception()  # told to whoever waits; nobody may

    def _path(self, job_id: str, suffix: str) -> Path:
        return self._folder / f"{job_id}.{suffix}"


def _half(folder: Path) -> Path:
    """A name for a file while it is made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f".{secrets.token_hex(12)}.half"


def _new(path: Path) -> BinaryIO:
    """For our eyes only."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all, and on disk on return. A file that lies here already is not written twice."""
    half = _half(target.parent)
    try:
        if source.parent == target.parent:
            os.link(source, half)
        else:
            with source.open("rb") as file, _new(half) as out:
                while piece := file.read(PIECE_BYTES):
                    out.write(piece)
        for path, flags in ((half, os.O_RDONLY), (half.parent, os.O_RDONLY)):
            handle = os.open(path, flags)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
