"""Real clips for vendor servers to hand out: H.264 in MP4, 24 frames a second, AAC exactly when audio was asked.

Law: the same words give the same bytes; the picture moves and is never black.
"""

from __future__ import annotations

import array
import functools
import io
import math

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

FRAMES_PER_SECOND = 24
_SAMPLE_RATE = 48_000


@functools.lru_cache(maxsize=64)
def clip(seconds: float, width: int, height: int, *, audio: bool) -> bytes:
    """An MP4 of that duration and size (even numbers of pixels)."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "32", "threads": "1"}
        sound = container.add_stream("aac", rate=_SAMPLE_RATE, layout="mono") if audio else None
        _draw(container, video, round(seconds * FRAMES_PER_SECOND))
        if sound is not None:
            _hum(container, sound, round(seconds * _SAMPLE_RATE))
    return target.getvalue()


def size_of(ratio: float, short_side: int) -> tuple[int, int]:
    """The even width and height of that shape (width ÷ height) whose shorter side is `short_side`."""
    width, height = (short_side * ratio, short_side) if ratio >= 1 else (short_side, short_side / ratio)
    return round(width / 2) * 2, round(height / 2) * 2


def _draw(container: OutputContainer, video: VideoStream, frames: int) -> None:
    for index in range(frames):
        frame = VideoFrame(video.width, video.height, "yuv420p")
        luma, *chroma = frame.planes
        row = bytes(64 + (x + 4 * index) % 128 for x in range(luma.line_size))  # grey stripes that travel
        luma.update(row * luma.height)
        for plane, shade in zip(chroma, (110, 150), strict=True):
            plane.update(bytes([shade]) * plane.buffer_size)
        frame.pts = index
        container.mux(video.encode(frame))
    container.mux(video.encode(None))


def _hum(container: OutputContainer, sound: AudioStream, samples: int) -> None:
    step = 2 * math.pi * 440 / _SAMPLE_RATE
    for start in range(0, samples, 1024):
        count = min(1024, samples - start)
        frame = AudioFrame(format="fltp", layout="mono", samples=count)
        wave = array.array("f", (0.1 * math.sin(step * (start + n)) for n in range(count)))
        frame.planes[0].update(wave.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts = _SAMPLE_RATE, start
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))
