"""A sandbox for tests: small requests and pictures, one that closes itself, and a finished clip taken apart."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageChops, ImageDraw, ImageStat

from providers import sandbox
from providers.spec import (
    Camera,
    Failed,
    Media,
    Operation,
    Running,
    Status,
    Succeeded,
    VideoRequest,
)

SIZE = (320, 240)
SMALL: dict[str, Any] = {"resolution": "240p", "aspect_ratio": "4:3", "audio": False}
MOVING = [move for move in Camera if move is not Camera.STATIC]


def asked(**fields: Any) -> VideoRequest:
    return VideoRequest(**{"prompt": "hills at dawn", "seconds": 1, **SMALL, **fields})


def drawn(
    paint: Callable[[ImageDraw.ImageDraw], None], size: tuple[int, int] = (640, 480), ground: str = "navy"
) -> Media:
    image = Image.new("RGB", size, ground)
    paint(ImageDraw.Draw(image))
    return held(image)


def held(image: Image.Image) -> Media:
    file = io.BytesIO()
    image.save(file, "PNG")
    data = file.getvalue()
    return Media(
        sha256=hashlib.sha256(data).hexdigest(),
        content_type="image/png",
        width=image.width,
        height=image.height,
        size_bytes=len(data),
        data=data,
    )


def square(pen: ImageDraw.ImageDraw) -> None:
    pen.rectangle((240, 160, 400, 320), fill="white")


class Take:
    """A finished clip, decoded."""

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as box:
            video = box.streams.video[0]
            assert video.duration is not None
            assert video.time_base is not None
            self.codec = video.codec_context.name
            self.format = video.codec_context.pix_fmt
            self.colours = (video.codec_context.colorspace, video.codec_context.color_range)
            self.rate = video.average_rate
            self.seconds = float(video.duration * video.time_base)
            self.sounds = [
                (
                    stream.codec_context.name,
                    float((stream.duration or 0) * (stream.time_base or 0)),
                    stream.rate,
                    stream.channels,
                )
                for stream in box.streams.audio
            ]
            self.frames: list[Image.Image] = [frame.to_image() for frame in box.decode(video=0)]  # type: ignore[no-untyped-call]
        with av.open(str(path)) as box:
            self.loudest = (
                max((max(bytes(frame.planes[0])) for frame in box.decode(audio=0)), default=0) if self.sounds else 0
            )
        head = path.read_bytes()
        self.starts_fast = head.find(b"moov") < head.find(b"mdat")

    def gap(self, one: int, other: int) -> float:
        return difference(self.frames[one], self.frames[other])

    def bright(self, place: int) -> tuple[int, int, int, int]:
        """The box of what is white in a frame."""
        box = self.frames[place].convert("L").point([0] * 160 + [255] * 96).getbbox()
        assert box is not None
        left, top, right, bottom = box
        return left, top, right, bottom


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, in levels of 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


Sandbox = sandbox.Adapter


def house(folder: Path, **settings: Any) -> Sandbox:
    provider = sandbox.make(sandbox.Settings(folder=str(folder), failures=False, pace=0, **settings))
    assert isinstance(provider, sandbox.Adapter)
    return provider


async def order(provider: Sandbox, request: VideoRequest, lane: str = "swift", client_id: str = "c-1") -> Operation:
    return await provider.submit(request, model_id=lane, callback_url=None, client_id=client_id)


async def until(provider: Sandbox, operation: Operation, wanted: Callable[[Status], bool]) -> list[Status]:
    """Poll until a status is as wanted; all that was seen."""
    seen: list[Status] = []
    while not (seen and wanted(seen[-1])):
        seen.append(await provider.poll(operation))
        await asyncio.sleep(0.005)
    return seen


def is_over(status: Status) -> bool:
    return isinstance(status, Succeeded | Failed)


def is_half_way(status: Status) -> bool:
    return is_over(status) or (isinstance(status, Running) and (status.progress or 0) >= 0.5)


def staged(folder: Path, play: Callable[[Sandbox], Awaitable[None]], **settings: Any) -> None:
    """Run `play` with a sandbox, and close it whatever happens."""

    async def run() -> None:
        provider = house(folder, **settings)
        try:
            await play(provider)
        finally:
            await provider.close()

    asyncio.run(run())


def ended(folder: Path, request: VideoRequest, **settings: Any) -> Status:
    found: list[Status] = []

    async def play(provider: Sandbox) -> None:
        found.extend(await until(provider, await order(provider, request), is_over))

    staged(folder, play, **settings)
    return found[-1]


def filmed(folder: Path, **fields: Any) -> Take:
    status = ended(folder, asked(**fields))
    assert isinstance(status, Succeeded), status
    assert status.cost_usd_micros == 0
    assert status.videos[0].path is not None
    return Take(Path(status.videos[0].path))
