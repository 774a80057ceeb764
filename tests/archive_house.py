"""The front rooms of `api_house` with an archive behind them, in a folder or wherever FILMGATE_TESTS_ARCHIVE says."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec

from gateway.api import application
from gateway.archive import Archive
from gateway.archiving import Archiver
from gateway.retention import Retention
from gateway.settings import Retention as Rules
from providers.spec import Video
from tests.api_house import KEY, START_US, House, opened

FILE = "https://files.vendor.example/clip.mp4?signature=abc"
HOUR_US = 3_600_000_000


class Clock:
    """Stands until a test moves it; begins an hour after the jobs of the house."""

    def __init__(self) -> None:
        self.now = START_US + HOUR_US

    def __call__(self) -> int:
        return self.now

    def move(self, *, seconds: float = 0.0, days: float = 0.0) -> None:
        self.now += round((seconds + days * 86_400) * 1_000_000)


class Kept:
    """A house whose clips are archived."""

    def __init__(self, house: House, archive: Archive, archiver: Archiver, clock: Clock) -> None:
        self.house = house
        self.archive = archive
        self.archiver = archiver
        self.clock = clock

    async def finished(self, url: str = FILE, **fields: Any) -> str:
        """A finished job whose clip its vendor has at `url`."""
        video = await self.house.create(**fields)
        await self.house.finish(video["id"], Video(url=url))
        return str(video["id"])

    async def content(self, job_id: str, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.house.client.get(f"/v1/videos/{job_id}/content", headers=sent)


def archive_url(folder: Path) -> str:
    """A place of its own in the archive that the tests are told to use; a folder where they are told none."""
    base = os.environ.get("FILMGATE_TESTS_ARCHIVE")
    return f"{base.rstrip('/')}/{uuid.uuid4().hex}" if base else f"file://{folder / 'archive'}"


@asynccontextmanager
async def kept_house(folder: Path, rules: Rules | None = None, *, url: str | None = None) -> AsyncIterator[Kept]:
    async with opened(folder) as plain:
        archive, clock, store = Archive(url or archive_url(folder)), Clock(), plain.store
        derived = plain.rooms.derived
        archiver = Archiver(
            store=store,
            archive=archive,
            stream=plain.rooms.transport.stream,
            now_us=clock,
            joined=derived.joined_pieces,
        )
        retention = Retention(
            store=store, rules=rules or Rules(), archive=archive, archiver=archiver, discard=derived.discard
        )
        rooms = msgspec.structs.replace(plain.rooms, archive=archive, retention=retention)
        server = httpx.ASGITransport(cast(Any, application(rooms)), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=server, base_url="http://filmgate.test", headers=KEY) as client:
                yield Kept(House(rooms, client, plain.strangers, folder), archive, archiver, clock)
        finally:
            await archiver.stop()
