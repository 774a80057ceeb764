"""Holds a delivered clip against what was bought: container, length, frame size, sound, and a first frame to be seen.

Laws. A verdict rests on the file alone, on its headers and its first frame. A clip that cannot be looked at now (its
host is slow, its link is not opened, there is no turn for it) is `Unchecked`, never a mismatch. A file is a stranger's:
it is read through the guard, capped in bytes and time, and handed to the MP4 demuxer only, which opens no other file;
the demuxers that a guess could lead to (playlists, concatenations) would.

The tolerances are made for what vendors deliver, not for what they announce:
- length: clips are whole frames, and some models make one more than was asked (5.04 s at 24 fps; a vendor's own example
  says "5.1" for 5): a quarter of a second, or 5 % of long clips, is no difference that a caller would have paid for;
- shape: sides are rounded to what a model's blocks divide (1928x1072 and 1284x716 are sold as 16:9): 2 %, as
  everywhere in the catalogue;
- size: the same rounding moves a side by less than 1 %; 4 % is far from the next size that is sold, and no caller sees
  it. Where nobody has named pixels, a resolution is kept by its short side or by its count of pixels: 720p from a 3:2
  picture comes as 1176x784, which has as many pixels as 1280x720;
- black: nothing of the frame, seen small, is brighter than what a codec makes of black. A night has its lights.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import BinaryIO

import av
import httpx
from av.container import InputContainer
from av.video.stream import VideoStream

from gateway.catalogue import Candidate
from gateway.catalogue.shapes import parse_size
from providers.guard import UrlRefused
from providers.spec import Frozen, Video

MAX_CLIP_BYTES = 200 << 20  # 15 s of 4k at 100 Mbit/s
FETCH_SECONDS = 30.0
CHECKS_AT_ONCE = 4
TURN_SECONDS = 10.0  # a job is not kept from being done any longer by the checks of others
PIECE_BYTES = 256 << 10

LENGTH_SECONDS, LENGTH_SHARE = 0.25, 0.05
SHAPE_SHARE = 0.02
SIZE_SHARE = 0.04
BLACK = 32  # of 255: studio black is 16, and a coder's noise lies a little above
_THUMBNAIL = 64, 36
_MAX_PIXELS = 8192 * 4608  # a larger frame is not unpacked
_MAX_PACKETS = 300  # until the first frame

Stream = Callable[[str], AbstractAsyncContextManager[httpx.Response]]


class Wanted(Frozen):
    """What was bought, as well as it is known."""

    seconds: int
    size: tuple[int, int] | None = None
    exact: bool = False  # the caller or the vendor's own table named these pixels
    audio: bool = False


def wanted_of(candidate: Candidate) -> Wanted:
    """What its backend was asked for."""
    request = candidate.request
    stated = candidate.backend.exact_size(request.resolution, request.aspect_ratio)
    return Wanted(
        seconds=request.seconds or 0,
        size=stated or parse_size(candidate.size),
        exact=stated is not None or request.width is not None,
        audio=bool(request.audio),
    )


class Fits(Frozen, tag="fits"):
    """Nothing differs."""


class Differs(Frozen, tag="differs"):
    """The file is not what was bought. Each flaw is a sentence for people."""

    flaws: tuple[str, ...]


class Unchecked(Frozen, tag="unchecked"):
    """The file could not be looked at."""

    why: str


Verdict = Fits | Differs | Unchecked


class Clips:
    """Checks clips, a few at a time. `stream` opens a stranger's address through the guard: `Transport.stream`."""

    def __init__(
        self,
        stream: Stream,
        *,
        max_bytes: int = MAX_CLIP_BYTES,
        fetch_seconds: float = FETCH_SECONDS,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._fetch_seconds = fetch_seconds
        self._turn_seconds = turn_seconds
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def check(self, video: Video, wanted: Wanted) -> Verdict:
        """Fetch the clip where it is not on this machine, and judge it. Answers within the two limits together."""
        try:
            async with asyncio.timeout(self._turn_seconds):
                await self._turns.acquire()
        except TimeoutError:
            return Unchecked(why=f"other clips were being checked for {self._turn_seconds:g} s")
        try:
            async with self._opened(video) as file:
                return await asyncio.to_thread(judge, file, wanted)
        except UrlRefused as error:
            return Unchecked(why=f"its address was not opened: {error}")
        except TimeoutError:
            return Unchecked(why=f"it did not arrive within {self._fetch_seconds:g} s")
        except (_NotHad, httpx.HTTPError, httpx.StreamError, OSError, ValueError) as error:
            return Unchecked(why=str(error) if isinstance(error, _NotHad) else f"it was not read: {_name(error)}")
        finally:
            self._turns.release()

    @contextlib.asynccontextmanager
    async def _opened(self, video: Video) -> AsyncIterator[BinaryIO]:
        if video.path is not None:
            file: BinaryIO = await asyncio.to_thread(Path(video.path).open, "rb")
            with file:
                yield file
            return
        with tempfile.TemporaryFile(prefix="filmgate-clip-") as kept:  # without a name: a crash leaves nothing behind
            async with asyncio.timeout(self._fetch_seconds):
                await self._fetch(video.url or "", kept)
            await asyncio.to_thread(kept.seek, 0)
            yield kept

    async def _fetch(self, url: str, file: BinaryIO) -> None:
        async with self._stream(url) as response:
            if response.status_code != 200:
                raise _NotHad(f"its address answered {response.status_code}")
            size = 0
            async for piece in response.aiter_raw(PIECE_BYTES):
                size += len(piece)
                if size > self._max_bytes:
                    raise _NotHad(f"it is larger than the {self._max_bytes >> 20} MB that are fetched for a check")
                await asyncio.to_thread(file.write, piece)


class _NotHad(Exception):
    """The file did not come."""


def _name(error: Exception) -> str:
    return type(error).__name__


# --- what the file says -----------------------------------------------------------------------------------------------


def judge(file: BinaryIO, wanted: Wanted) -> Verdict:
    """Hold a whole file against what was wanted. Blocks: for a thread."""
    size = file.seek(0, 2)
    file.seek(0)
    try:
        with av.open(file, "r", format="mov") as box:  # the demuxer of MP4 and QuickTime, and no other
            flaws = _flaws(box, size, wanted)
    except av.error.FFmpegError:
        flaws = ["the file is no MP4 or QuickTime video, or is cut off"]
    return Differs(flaws=tuple(flaws)) if flaws else Fits()


def _flaws(box: InputContainer, size: int, wanted: Wanted) -> list[str]:
    if not box.streams.video:
        return ["the file holds no video"]
    video = box.streams.video[0]
    flaws = []
    length = _length(box, video)
    if length is None or not _lasts(length, wanted.seconds):
        said = "tells no length" if length is None else f"is {length:.2f} s long"
        flaws.append(f"the clip {said}; {wanted.seconds} s were asked for")
    if wanted.size is not None and not _has_size((video.width, video.height), wanted.size, exact=wanted.exact):
        about = "" if wanted.exact else "about "
        flaws.append(f"the clip is {_text(video.width, video.height)}; {about}{_text(*wanted.size)} was asked for")
    if wanted.audio and not box.streams.audio:
        flaws.append("the clip has no sound, which was asked for")
    if not wanted.audio and box.streams.audio:
        flaws.append("the clip has a sound track; a silent clip was asked for")
    if any(entry.pos + entry.size > size for stream in box.streams for entry in stream.index_entries):
        flaws.append("the file is cut off: it ends before its clip does")
    elif video.width * video.height <= _MAX_PIXELS:
        brightest = _brightest(box, video)
        if brightest is None:
            flaws.append("the clip's first frame cannot be decoded")
        elif brightest <= BLACK:
            flaws.append("the clip begins with a black frame")
    return flaws


def _length(box: InputContainer, video: VideoStream) -> float | None:
    """Seconds of picture; the whole file's where the stream tells none."""
    if video.duration and video.time_base is not None:
        return float(video.duration * video.time_base)
    return box.duration / av.time_base if box.duration else None


def _lasts(length: float, seconds: int) -> bool:
    return abs(length - seconds) <= max(LENGTH_SECONDS, LENGTH_SHARE * seconds)


def _has_size(size: tuple[int, int], wanted: tuple[int, int], *, exact: bool) -> bool:
    (width, height), (wanted_width, wanted_height) = size, wanted
    if height < 1 or not _near(width / height, wanted_width / wanted_height, SHAPE_SHARE):
        return False
    if _near(min(size), min(wanted), SIZE_SHARE):
        return True
    short = min(wanted)
    return not exact and _near(width * height, short * short * 16 / 9, SIZE_SHARE)


def _near(value: float, wanted: float, share: float) -> bool:
    return abs(value / wanted - 1) <= share


def _brightest(box: InputContainer, video: VideoStream) -> int | None:
    """The brightest grey of the first frame, seen small, of 255; None when no frame can be had."""
    # threads would unpack later frames before they give the first
    video.thread_type, video.codec_context.thread_count = "NONE", 1
    for count, packet in enumerate(box.demux(video)):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return None
        for frame in frames:
            small = frame.reformat(*_THUMBNAIL, format="gray")
            width, height = _THUMBNAIL
            row, grey = small.planes[0].line_size, bytes(small.planes[0])
            return max(max(grey[start : start + width]) for start in range(0, row * height, row))
        if count > _MAX_PACKETS:
            break
    return None


def _text(width: int, height: int) -> str:
    return f"{width}x{height}"
