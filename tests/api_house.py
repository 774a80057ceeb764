"""The front rooms over real ones: a store on disk, two catalogue files, pictures, the guard. No worker, no vendor.

What a worker would do to a job is done by `House.finish` and its like, through the same table and the same store.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
from PIL import Image

from gateway import ids
from gateway.acceptance import Acceptance
from gateway.api import Rooms, application
from gateway.catalogue import Alias, load
from gateway.derive import Derived
from gateway.health import Health
from gateway.jobs import (
    Attempt,
    AttemptEvent,
    AttemptState,
    Job,
    JobEvent,
    advance,
    advance_attempt,
)
from gateway.links import Links
from gateway.media import Pictures
from gateway.retention import Retention
from gateway.router import Policy
from gateway.settings import Account, Routing, Settings, shipped
from gateway.settings import Retention as RetentionRules
from gateway.store import connect
from gateway.store.spec import Event, Store
from providers.guard import Guard
from providers.spec import Fault, Operation, Secret, Video
from providers.transport import Transport

START_US = 1_780_000_000_000_000
KEY = {"authorization": "Bearer dev"}
Stranger = Callable[[httpx.Request], httpx.Response]


class House:
    """Everything that a test of the front rooms may touch."""

    def __init__(self, rooms: Rooms, client: httpx.AsyncClient, strangers: dict[str, Stranger], folder: Path) -> None:
        self.rooms = rooms
        self.client = client
        self.strangers = strangers  # address → what it answers
        self.folder = folder

    @property
    def store(self) -> Store:
        return self.rooms.store

    async def create(self, **fields: Any) -> dict[str, Any]:
        """A video by JSON, with what a plain request needs."""
        body = {"model": "kling-v3-pro", "prompt": "a red kite over the dunes", "seconds": 5, **fields}
        answer = await self.client.post("/v1/videos", json=body)
        assert answer.status_code == 200, answer.text
        video: dict[str, Any] = answer.json()
        return video

    async def job(self, video_id: str) -> Job:
        job = await self.store.job(video_id)
        assert job is not None
        return job

    async def send(self, video_id: str) -> tuple[Job, Attempt]:
        """T2: an attempt is on its way out."""
        job = await self.job(video_id)
        attempt = Attempt(
            id=ids.fresh("att"),
            job=job.id,
            no=job.attempts + 1,
            state=AttemptState.SUBMITTING,
            backend=job.routing.backend,
            provider=job.routing.provider,
            account="main",
            model_id="model",
            price_usd_micros=job.reserved_usd_micros,
            started_us=job.created_us,
        )
        job = advance(job, JobEvent.ATTEMPT_STARTED, attempts=attempt.no)
        await self.store.save(job, attempt=attempt, events=(self._event(job, JobEvent.ATTEMPT_STARTED, attempt),))
        return job, attempt

    async def start(self, video_id: str) -> tuple[Job, Attempt]:
        """T3: an attempt is out."""
        job, attempt = await self.send(video_id)
        operation = Operation(provider=attempt.provider, id=f"op-{attempt.id}")
        attempt = advance_attempt(attempt, AttemptEvent.ACCEPTED, operation=operation, accepted_us=job.created_us)
        job = advance(job, JobEvent.PROGRESSED)
        await self.store.save(job, attempt=attempt, events=(self._event(job, AttemptEvent.ACCEPTED, attempt),))
        return job, attempt

    async def finish(self, video_id: str, *videos: Video, cost_usd_micros: int = 560_000) -> Job:
        """T4: the render is done."""
        job, attempt = await self.start(video_id)
        now = job.created_us + 90_000_000
        attempt = advance_attempt(attempt, AttemptEvent.SUCCEEDED, ended_us=now, cost_usd_micros=cost_usd_micros)
        job = advance(job, JobEvent.COMPLETED, videos=videos, ended_us=now, cost_usd_micros=cost_usd_micros)
        await self.store.save(job, attempt=attempt, events=(self._event(job, JobEvent.COMPLETED, attempt),))
        return job

    async def fail(self, video_id: str, fault: Fault, *, code: str) -> Job:
        """T4, for worse."""
        job, attempt = await self.start(video_id)
        now = job.created_us + 90_000_000
        attempt = advance_attempt(attempt, AttemptEvent.FAILED, ended_us=now, cost_usd_micros=0, fault=fault)
        job = advance(job, JobEvent.FAILED, ended_us=now, cost_usd_micros=0, fault=fault, error_code=code)
        await self.store.save(job, attempt=attempt, events=(self._event(job, JobEvent.FAILED, attempt),))
        return job

    def _event(self, job: Job, kind: JobEvent | AttemptEvent, attempt: Attempt) -> Event:
        data = {"backend": attempt.backend, "message": "req-77 at vendor.example said no"}
        return Event(job=job.id, type=kind, at_us=job.created_us, attempt=attempt.id, data=data)


@asynccontextmanager
async def opened(folder: Path, *, dev: bool = True, configured: tuple[str, ...] = ("fal",)) -> AsyncIterator[House]:
    """A house over `folder`; `configured` are the providers that have a credential."""
    strangers: dict[str, Stranger] = {}

    def meet(request: httpx.Request) -> httpx.Response:
        known = strangers.get(str(request.url))
        return known(request) if known is not None else httpx.Response(404)

    transport = Transport(guard=Guard(), client=httpx.MockTransport(meet))
    derived = Derived(folder / "derived")
    store = connect(f"sqlite:///{folder}/filmgate.db")
    await store.open()
    clock = iter(range(START_US, START_US * 2, 1_000_000))  # a second between any two looks
    rooms = Rooms(
        settings=Settings(
            dev=dev,
            local_key=Secret("dev") if dev else None,
            routing=Routing(
                aliases={
                    "sora-2": Alias(models=("kling-v3-standard", "kling-v3-pro"), seconds=4, generate_audio=True),
                }
            ),
            accounts=tuple(Account(provider=name, name="main", settings=None) for name in configured),
        ),
        catalogue=load([shipped() / "catalogue" / f"{name}.toml" for name in ("fal", "sandbox")]),
        health=Health(),
        acceptance=Acceptance(),
        policy=Policy(),
        store=store,
        pictures=Pictures(folder / "pictures", transport.fetch),
        retention=Retention(store=store, rules=RetentionRules(), discard=derived.discard),
        derived=derived,
        links=Links(await store.secret("links"), life_seconds=3600),
        transport=transport,
        now_us=lambda: next(clock),
    )
    rooms = msgspec.structs.replace(rooms, test=rooms.mirrored())
    server = httpx.ASGITransport(cast(Any, application(rooms)), raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=server, base_url="http://filmgate.test", headers=KEY) as client:
            yield House(rooms, client, strangers, folder)
    finally:
        await store.close()
        await transport.close()


def served(data: bytes, *, status: int = 200, pieces: int = 3, **headers: str) -> Stranger:
    """A stranger that answers `data`, in some pieces."""
    step = max(len(data) // pieces, 1)

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(data), step):
            yield data[start : start + step]

    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx.Response(status, content=body(), headers=sent)


def picture(kind: str = "PNG", *, width: int = 640, height: int = 360) -> bytes:
    """A small, valid picture."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 80, 40)).save(file, kind)
    return file.getvalue()
