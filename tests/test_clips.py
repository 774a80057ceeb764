"""What a delivered clip is found to be: real files, right and wrong ones, from this machine and from an address."""

from __future__ import annotations

import asyncio
import functools
import io
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import av
import httpx
import pytest
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from gateway.catalogue import ExactSize
from gateway.clips import CHECKS_AT_ONCE, Clips, Differs, Fits, Stream, Unchecked, Verdict, Wanted, judge, wanted_of
from providers.guard import Guard
from providers.spec import Video, VideoRequest
from providers.transport import Transport
from tests.catalogue_rows import asked, backend, picture
from tests.vendors import film

pytestmark = pytest.mark.anyio

URL = "https://files.example/clip.mp4"
SMALL = (320, 180)
WANTED = Wanted(seconds=3, size=SMALL, exact=True)


@functools.lru_cache
def painted(*, luma: int, spot: int = 0, kind: str = "mp4", codec: str = "libx264", faststart: bool = False) -> bytes:
    """Three seconds of one grey at 8 frames a second, with a bright square of `spot` pixels a side in it."""
    with tempfile.NamedTemporaryFile() as target:  # an index that comes first needs a file of its own to be moved in
        options = {"movflags": "+faststart"} if faststart else {}
        with av.open(target.name, "w", format=kind, options=options) as box:
            _paint(box, codec, luma, spot)
        return Path(target.name).read_bytes()


def _paint(box: OutputContainer, codec: str, luma: int, spot: int) -> None:
    stream = box.add_stream(codec, rate=8)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = *SMALL, "yuv420p"
    for index in range(24):
        frame = VideoFrame(*SMALL, "yuv420p")
        grey, *colours = frame.planes
        row, lit = bytes([luma]) * grey.line_size, bytes([200]) * spot + bytes([luma]) * (grey.line_size - spot)
        grey.update(lit * spot + row * (grey.height - spot))
        for plane in colours:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts = index
        box.mux(stream.encode(frame))
    box.mux(stream.encode(None))


def said(file: bytes, wanted: Wanted = WANTED) -> Verdict:
    return judge(io.BytesIO(file), wanted)


def flaw(file: bytes, wanted: Wanted = WANTED) -> str:
    """The one flaw that is found."""
    verdict = said(file, wanted)
    assert isinstance(verdict, Differs), verdict
    assert len(verdict.flaws) == 1, verdict
    return verdict.flaws[0]


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio", [True, False])
def test_a_clip_as_it_was_bought_fits(audio: bool) -> None:
    file = film.clip(3, *SMALL, audio=audio)

    assert said(file, Wanted(seconds=3, size=SMALL, exact=True, audio=audio)) == Fits()


@pytest.mark.parametrize("seconds", [2.5, 3.5])
def test_another_length_is_told_in_seconds(seconds: float) -> None:
    assert flaw(film.clip(seconds, *SMALL, audio=False)) == f"the clip is {seconds:.2f} s long; 3 s were asked for"


@pytest.mark.parametrize(("seconds", "wanted"), [(5.042, 5), (5.1, 5), (10.042, 10), (15.7, 15), (2.8, 3)])
def test_a_few_frames_more_or_less_are_the_same_length(seconds: float, wanted: int) -> None:
    assert said(film.clip(seconds, 64, 36, audio=False), Wanted(seconds=wanted)) == Fits()


def test_another_size_is_told_in_pixels() -> None:
    wanted = Wanted(seconds=3, size=(1920, 1080), exact=True)

    assert flaw(film.clip(3, *SMALL, audio=False), wanted) == "the clip is 320x180; 1920x1080 was asked for"


def test_sound_that_is_missing_or_too_much_is_told() -> None:
    silent, loud = film.clip(3, *SMALL, audio=False), film.clip(3, *SMALL, audio=True)

    assert flaw(silent, Wanted(seconds=3, audio=True)) == "the clip has no sound, which was asked for"
    assert flaw(loud) == "the clip has a sound track; a silent clip was asked for"


def test_a_black_first_frame_is_told() -> None:
    assert flaw(painted(luma=16)) == "the clip begins with a black frame"


def test_a_night_with_one_light_is_not_black() -> None:
    assert said(painted(luma=16, spot=24)) == Fits()


def test_everything_that_differs_is_told_at_once() -> None:
    verdict = said(painted(luma=16), Wanted(seconds=5, size=(1280, 720), audio=True))

    assert isinstance(verdict, Differs)
    assert len(verdict.flaws) == 4


@pytest.mark.parametrize(
    "file",
    [b"", b"<html><body>Not found</body></html>" * 40, b"\x00" * 4096, b"#EXTM3U\nfile:///etc/passwd\n"],
    ids=["empty", "page", "zeroes", "playlist"],
)
def test_what_is_no_video_is_told(file: bytes) -> None:
    assert flaw(file) == "the file is no MP4 or QuickTime video, or is cut off"


def test_another_container_is_told() -> None:
    assert flaw(painted(luma=90, kind="webm", codec="libvpx")) == "the file is no MP4 or QuickTime video, or is cut off"


def test_a_quicktime_file_fits() -> None:
    assert said(painted(luma=90, kind="mov")) == Fits()


@pytest.mark.parametrize("faststart", [True, False], ids=["index first", "index last"])
def test_a_file_that_is_cut_off_is_told(faststart: bool) -> None:
    file = painted(luma=90, spot=60, faststart=faststart)

    assert said(file) == Fits()
    assert "cut off" in flaw(file[:-200])


def test_a_first_frame_of_noise_is_told() -> None:
    file = bytearray(painted(luma=90, spot=60))
    start = file.index(b"mdat") + 4
    with av.open(io.BytesIO(bytes(file))) as box:
        end = max(entry.pos + entry.size for entry in box.streams.video[0].index_entries)
    file[start:end] = b"\xff" * (end - start)

    assert flaw(bytes(file)) == "the clip's first frame cannot be decoded"


# --- how near is the same ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((964, 536), (960, 540)),  # half of 1928x1072, which is sold as 1920x1080
        ((642, 358), (640, 360)),  # half of 1284x716
        ((588, 392), (540, 360)),  # half of 1176x784: 720p's count of pixels in 3:2
        ((480, 480), (360, 360)),  # half of 960x960: likewise in 1:1
    ],
)
def test_sizes_that_vendors_sell_under_one_name_are_the_same(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert said(film.clip(3, *size, audio=False), Wanted(seconds=3, size=wanted)) == Fits()


@pytest.mark.parametrize(
    ("size", "wanted", "exact"),
    [
        ((480, 480), (360, 360), True),  # by name, another size will not do
        ((360, 640), (640, 360), False),  # lying on its side
        ((640, 360), (960, 540), False),  # the next size below
        ((640, 360), (640, 320), False),  # another shape
    ],
)
def test_a_size_that_a_caller_would_see_is_another(size: tuple[int, int], wanted: tuple[int, int], exact: bool) -> None:
    found = flaw(film.clip(3, *size, audio=False), Wanted(seconds=3, size=wanted, exact=exact))

    assert found.startswith(f"the clip is {size[0]}x{size[1]}; ")
    assert ("about" in found) is not exact


# --- what is wanted ---------------------------------------------------------------------------------------------------


def test_a_candidate_tells_what_its_clip_should_be() -> None:
    square = ExactSize(resolution="720p", aspect="1:1", width=960, height=960)
    row = backend(sizes=(square,), follows_picture=False)
    open_one = VideoRequest(prompt="a cat", seconds=4, audio=True)
    stated = VideoRequest(prompt="a cat", seconds=4, aspect_ratio="1:1")
    named = VideoRequest(prompt="a cat", seconds=4, width=1280, height=720)

    found = [wanted_of(asked(row, request).candidates[0]) for request in (open_one, stated, named)]

    assert found == [
        Wanted(seconds=4, size=(1280, 720), exact=False, audio=True),
        Wanted(seconds=4, size=(960, 960), exact=True, audio=False),
        Wanted(seconds=4, size=(1280, 720), exact=True, audio=False),
    ]


def test_a_clip_that_follows_its_picture_has_its_shape() -> None:
    request = VideoRequest(prompt="a cat", seconds=4, first_frame=picture(900, 600))

    wanted = wanted_of(asked(backend(), request).candidates[0])

    assert (wanted.size, wanted.exact) == ((1080, 720), False)


# --- how the file is had ----------------------------------------------------------------------------------------------


def stream_of(answer: Callable[[httpx.Request], httpx.Response]) -> Stream:
    return Transport(guard=Guard(), client=httpx.MockTransport(answer)).stream


def body(content: bytes, status: int = 200) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(content))


async def test_a_clip_at_an_address_is_fetched_and_judged() -> None:
    right, wrong = film.clip(3, *SMALL, audio=False), film.clip(2, *SMALL, audio=False)
    clips = Clips(stream_of(lambda request: body(right if request.url.path == "/right" else wrong)))

    assert await clips.check(Video(url="https://files.example/right"), WANTED) == Fits()
    assert isinstance(await clips.check(Video(url="https://files.example/wrong"), WANTED), Differs)


async def test_a_clip_on_this_machine_is_read_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(film.clip(3, *SMALL, audio=False))

    def no_call(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is fetched")

    clips = Clips(stream_of(no_call))
    assert await clips.check(Video(path=str(path)), WANTED) == Fits()
    missing = await clips.check(Video(path=str(tmp_path / "gone.mp4")), WANTED)
    assert missing == Unchecked(why="it was not read: FileNotFoundError")


def refuses(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route")


class Broken(httpx.AsyncByteStream):
    """A body that breaks off."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield film.clip(3, *SMALL, audio=False)[:1000]
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda request: body(b"", 404), "its address answered 404"),
        (lambda request: body(b"", 503), "its address answered 503"),
        (refuses, "it was not read: ConnectError"),
        (lambda request: httpx.Response(200, stream=Broken()), "it was not read: RemoteProtocolError"),
    ],
    ids=["gone", "busy", "unreachable", "breaks off"],
)
async def test_a_clip_that_cannot_be_had_is_not_a_wrong_one(
    answer: Callable[[httpx.Request], httpx.Response], why: str
) -> None:
    assert await Clips(stream_of(answer)).check(Video(url=URL), WANTED) == Unchecked(why=why)


async def test_an_address_that_is_not_public_is_not_opened() -> None:
    clips = Clips(stream_of(lambda request: body(film.clip(3, *SMALL, audio=False))))

    verdict = await clips.check(Video(url="http://169.254.169.254/latest"), WANTED)

    assert isinstance(verdict, Unchecked)
    assert verdict.why.startswith("its address was not opened")


async def test_a_file_beyond_the_cap_is_let_be() -> None:
    clips = Clips(stream_of(lambda request: body(b"x" * (2 << 20))), max_bytes=1 << 20)

    assert await clips.check(Video(url=URL), WANTED) == Unchecked(
        why="it is larger than the 1 MB that are fetched for a check"
    )


async def test_a_host_that_drips_is_waited_for_only_so_long() -> None:
    never = asyncio.Event()

    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"
            await never.wait()

    clips = Clips(stream_of(lambda request: httpx.Response(200, stream=Dripping())), fetch_seconds=0.05)

    assert await clips.check(Video(url=URL), WANTED) == Unchecked(why="it did not arrive within 0.05 s")


async def test_only_a_few_clips_are_checked_at_once_and_the_rest_waits_only_so_long() -> None:
    go, full, begun = asyncio.Event(), asyncio.Event(), 0

    class Held(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal begun
            begun += 1
            if begun == CHECKS_AT_ONCE:
                full.set()
            await go.wait()
            yield film.clip(3, *SMALL, audio=False)

    clips = Clips(stream_of(lambda request: httpx.Response(200, stream=Held())), turn_seconds=0.05)
    first = [asyncio.create_task(clips.check(Video(url=URL), WANTED)) for _ in range(CHECKS_AT_ONCE)]
    await full.wait()
    late = await clips.check(Video(url=URL), WANTED)
    go.set()

    assert late == Unchecked(why="other clips were being checked for 0.05 s")
    assert begun == CHECKS_AT_ONCE
    assert await asyncio.gather(*first) == [Fits()] * CHECKS_AT_ONCE
    assert await clips.check(Video(url=URL), WANTED) == Fits()
