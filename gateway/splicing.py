"""What is made of finished clips: their last frame, a thumbnail, a sheet of frames, and one clip of two.

Laws. Everything here blocks and is for a thread. A file may be a stranger's: the MP4 demuxer alone is let at it, which
opens no other file, and a frame too large for this room is not unpacked. Frames are made one at a time, so memory does
not grow with a clip's length.

Two clips are joined by copying their packets where both were coded alike, to the byte of their headers; otherwise both
are coded again, in the first one's size, with silence where one of them has no sound.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from providers.spec import Frozen

MAX_PIXELS = 8192 * 4608
MAX_SECONDS = 600.0
THUMBNAIL_WIDTH = 640
SHEET_COLUMNS, SHEET_ROWS, SHEET_WIDTH = 6, 4, 240
MAX_PNG_BYTES = 8_000_000  # a larger last frame is handed on as JPEG: many backends take no more
RATE = 48_000
_SAMPLES = 1024  # of one AAC frame
_CLOCK = Fraction(1, 90_000)
_SEARCH_SECONDS = 3.0  # before the end, where the last frame is looked for from


class Unreadable(ValueError):
    """The file is no clip that can be worked with. The message says why."""


class Look(Frozen):
    """What a clip is."""

    seconds: float
    width: int
    height: int
    audio: bool


def look(clip: Path) -> Look:
    """Raises Unreadable."""
    with _opened(clip) as box:
        return _look(box)


def last_frame(clip: Path) -> tuple[Look, bytes]:
    """What the clip is, and its last frame as a PNG, or a JPEG where that would be large. Raises Unreadable."""
    with _opened(clip) as box:
        found, last = _look(box), None
        box.seek(int(max(found.seconds - _SEARCH_SECONDS, 0.0) * av.time_base))
        for last in _frames(box):  # noqa: B007 - the last one is what is wanted
            pass
        if last is None:
            raise Unreadable("its last frame cannot be decoded")
        image: Image.Image = last.to_image()  # type: ignore[no-untyped-call]
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 95, "subsampling": 0})):
        out = io.BytesIO()
        image.save(out, kind, **options)
        if out.tell() <= MAX_PNG_BYTES:
            break
    return found, out.getvalue()


def thumbnail(clip: Path, target: Path) -> None:
    """The frame in the middle, small, as WebP. Raises Unreadable."""
    with _opened(clip) as box:
        found = _look(box)
        box.seek(int(found.seconds / 2 * av.time_base))
        frame = next(_frames(box), None)
        if frame is None:
            raise Unreadable("none of its frames can be decoded")
        _small(frame, THUMBNAIL_WIDTH).save(target, "WEBP", quality=82, method=4)


def spritesheet(clip: Path, target: Path) -> None:
    """Frames from all over the clip, row by row, as one JPEG. Raises Unreadable."""
    with _opened(clip) as box:
        found = _look(box)
        count = SHEET_COLUMNS * SHEET_ROWS
        step, taken = found.seconds / count, list[Image.Image]()
        for frame in _frames(box):
            if not taken or float(frame.time or 0.0) >= (len(taken) + 0.5) * step:
                taken.append(_small(frame, SHEET_WIDTH))
                if len(taken) == count:
                    break
    if not taken:
        raise Unreadable("none of its frames can be decoded")
    width, height = taken[0].size
    columns = min(SHEET_COLUMNS, len(taken))
    sheet = Image.new("RGB", (columns * width, -(-len(taken) // columns) * height))
    for place, image in enumerate(taken):
        sheet.paste(image, (place % columns * width, place // columns * height))
    sheet.save(target, "JPEG", quality=85)


def join(first: Path, second: Path, target: Path) -> None:
    """One MP4 of both, in this order. Raises Unreadable."""
    with _opened(first) as one, _opened(second) as other:
        _look(one)
        _look(other)
        with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as out:
            if _are_alike(one, other):
                _copy(one, other, out)
            else:
                _code_anew(one, other, out)


# --- joining ----------------------------------------------------------------------------------------------------------


def _are_alike(one: InputContainer, other: InputContainer) -> bool:
    """Whether packets of both can stand in one stream each."""
    for kind in ("video", "audio"):
        pair = [list(getattr(box.streams, kind))[:1] for box in (one, other)]
        if [len(streams) for streams in pair] not in ([0, 0], [1, 1]):
            return False
        if pair[0] and _coding(pair[0][0]) != _coding(pair[1][0]):
            return False
    return True


def _coding(stream: Any) -> tuple[Any, ...]:
    context = stream.codec_context
    own = (context.name, context.extradata, stream.time_base)
    if isinstance(stream, VideoStream):
        return (*own, context.width, context.height, context.pix_fmt)
    return (*own, context.sample_rate, context.layout.name)


def _copy(one: InputContainer, other: InputContainer, out: OutputContainer) -> None:
    kinds = ["video", "audio"] if one.streams.audio else ["video"]
    made = {kind: out.add_stream_from_template(getattr(one.streams, kind)[0]) for kind in kinds}
    end = Fraction(0)
    for box in (one, other):
        begin = end
        for packet in box.demux([getattr(box.streams, kind)[0] for kind in kinds]):
            if packet.dts is None or packet.pts is None:
                continue
            base, is_audio = packet.time_base, packet.stream.type == "audio"
            if is_audio and box is other and packet.pts + (packet.duration or 0) <= 0:
                continue  # a coder's run-up stands before zero, where the first clip's end is already
            end = max(end, begin + (packet.pts + (packet.duration or 0)) * base)
            shift = round(begin / base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = made[packet.stream.type]
            out.mux(packet)


def _code_anew(one: InputContainer, other: InputContainer, out: OutputContainer) -> None:
    shape = one.streams.video[0]
    rate = shape.average_rate or shape.guessed_rate or Fraction(24)
    video: Any = out.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "18"})
    video.width, video.height, video.pix_fmt = shape.width - shape.width % 2, shape.height - shape.height % 2, "yuv420p"
    video.time_base = video.codec_context.time_base = _CLOCK
    video.codec_context.thread_count = 2
    sound = _Sound(out) if one.streams.audio or other.streams.audio else None
    begin, last = Fraction(0), -1
    for box in (one, other):
        source = box.streams.video[0]
        graph, end = _fitting(source, video.width, video.height), begin
        wanted = [source, *box.streams.audio[:1]]
        for packet in box.demux(wanted):
            for frame in packet.decode():
                if isinstance(frame, AudioFrame):
                    if sound is not None:
                        sound.put(frame)
                    continue
                if not isinstance(frame, VideoFrame):
                    continue
                at = begin + (frame.pts or 0) * (frame.time_base or _CLOCK)
                end = max(end, at + 1 / rate)
                graph.push(frame)
                fit: Any = graph.pull()
                last = max(round(at / _CLOCK), last + 1)
                fit.pts, fit.time_base, fit.pict_type = last, _CLOCK, 0
                out.mux(video.encode(fit))
        begin = end
        if sound is not None:
            sound.end_at(begin)
    out.mux(video.encode(None))
    if sound is not None:
        sound.close()


def _fitting(source: VideoStream, width: int, height: int) -> Graph:
    """Whatever comes, in this size: its own shape kept, with black beside it where the shapes differ by more than the
    rounding of sides."""
    graph = Graph()
    mine, wanted = source.width / source.height, width / height
    scale = (
        f"{width}:{height}"
        if abs(mine / wanted - 1) <= 0.02
        else f"{width}:{height}:force_original_aspect_ratio=decrease"
    )
    links = [
        graph.add_buffer(template=source),
        graph.add("scale", scale),
        graph.add("pad", f"{width}:{height}:-1:-1"),
        graph.add("setsar", "1"),
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ]
    for before, after in itertools.pairwise(links):
        before.link_to(after)
    graph.configure()
    return graph


class _Sound:
    """A track of sound that is as long as it is told to be."""

    def __init__(self, out: OutputContainer) -> None:
        self._out = out
        self._stream: Any = out.add_stream("aac", rate=RATE, layout="stereo", options={"b": "160k"})
        self._written = 0  # samples, those that wait included
        self._fifo = AudioFifo()
        self._begin()
        self._pts = 0

    def _begin(self) -> None:
        self._resampler = AudioResampler(format="fltp", layout="stereo", rate=RATE)

    def put(self, frame: AudioFrame) -> None:
        frame.pts = None
        for even in self._resampler.resample(frame):
            self._write(even)

    def end_at(self, end: Fraction) -> None:
        """Silence up to this moment; what is beyond it stays."""
        for even in self._resampler.resample(None):
            self._write(even)
        self._begin()
        left = round(end * RATE) - self._written
        while left > 0:
            count = min(left, _SAMPLES)
            silence = AudioFrame(format="fltp", layout="stereo", samples=count)
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            silence.sample_rate = RATE
            self._write(silence)
            left -= count

    def _write(self, frame: AudioFrame) -> None:
        frame.pts = None
        self._written += frame.samples
        self._fifo.write(frame)
        while self._fifo.samples >= _SAMPLES:
            self._encode(self._fifo.read(_SAMPLES))

    def _encode(self, frame: AudioFrame | None) -> None:
        if frame is not None:
            frame.pts, frame.time_base = self._pts, Fraction(1, RATE)
            self._pts += frame.samples
        self._out.mux(self._stream.encode(frame))

    def close(self) -> None:
        if self._fifo.samples:
            self._encode(self._fifo.read(partial=True))
        self._encode(None)


# --- reading ----------------------------------------------------------------------------------------------------------


class _opened:
    """A clip, open for reading; what the library says of a broken one is Unreadable."""

    def __init__(self, clip: Path) -> None:
        self._clip = clip

    def __enter__(self) -> InputContainer:
        try:
            self._box = av.open(str(self._clip), "r", format="mov")
        except (av.error.FFmpegError, OSError) as error:
            raise Unreadable("it is no MP4 or QuickTime video, or is cut off") from error
        return self._box

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._box.close()
        if isinstance(error, av.error.FFmpegError):
            raise Unreadable(
                f"it is broken, or not of a kind that can be decoded here: {type(error).__name__}"
            ) from error


def _look(box: InputContainer) -> Look:
    if not box.streams.video:
        raise Unreadable("it holds no video")
    video = box.streams.video[0]
    if video.duration and video.time_base is not None:
        seconds = float(video.duration * video.time_base)
    else:
        seconds = box.duration / av.time_base if box.duration else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise Unreadable(f"it is {seconds:.1f} s long; up to {MAX_SECONDS:g} s can be worked with")
    if not 0 < video.width * video.height <= MAX_PIXELS:
        raise Unreadable(f"its frames are {video.width}x{video.height}, which is more than can be worked with")
    video.codec_context.thread_count = 2
    return Look(seconds=seconds, width=video.width, height=video.height, audio=bool(box.streams.audio))


def _frames(box: InputContainer) -> Iterator[VideoFrame]:
    yield from box.decode(box.streams.video[0])


def _small(frame: VideoFrame, width: int) -> Image.Image:
    """The frame at this width at most."""
    width = min(width, frame.width)
    small = frame.reformat(width, max(round(width * frame.height / frame.width), 1), format="rgb24")
    image: Image.Image = small.to_image()  # type: ignore[no-untyped-call]
    return image
