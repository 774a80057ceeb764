"""A store full of running jobs, written through the Store as api and worker write them (T1, T2, T3), and a vendor that
says of every one of them that it still renders."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import cast

import msgspec

from gateway import ids, keys
from gateway.catalogue import load as load_catalogue
from gateway.catalogue import match
from gateway.health import Health, bucket
from gateway.jobs import (
    Attempt,
    AttemptEvent,
    AttemptState,
    Job,
    JobEvent,
    JobSpec,
    Preferences,
    Routing,
    advance,
    advance_attempt,
)
from gateway.keys import NewKey
from gateway.router import Policy, rank
from gateway.settings import Settings
from gateway.store import connect
from gateway.store.spec import Event, Store
from providers.spec import Operation, VideoRequest
from tests.house import VENDOR_KEY

DAY_US = 86_400_000_000
WRITERS = 64  # jobs written at once: they share commits
PROMPT = (
    "A lighthouse on a cliff at dusk, waves breaking far below, gulls drifting through the beam as it sweeps the fog; "
    "the camera rises slowly and turns towards the open sea. Soft, cold light, film grain. Take {}."
)
# The shipped row, but that its vendor is asked about a job every two hours only, and renders any number at once.
ROW = """
[[backend]]
model = "kling-v3-pro"
provider = "fal"
replaces = true
model_id.text = "fal-ai/kling-video/v3/pro/text-to-video"
seconds = { min = 3, max = 15 }
aspect_ratios = ["16:9", "9:16", "1:1"]
resolutions = ["1080p"]
audio = "optional"
price_usd_per_second = { silent = 0.112, audio = 0.168 }
typical_seconds = { p50 = 100, p95 = 240 }
poll_floor_seconds = 7200
max_in_flight = 1000000
checked = 2026-10-04
source = "a bench"
"""


def written(folder: Path, *, port: int, vendor_url: str) -> Path:
    """The configuration of a gateway whose one vendor is at `vendor_url`."""
    (folder / "slow.toml").write_text(ROW)
    config = folder / "filmgate.toml"
    config.write_text(
        f"""
catalogue = ["slow.toml"]
[server]
port = {port}
[store]
url = "sqlite:///{folder}/filmgate.db"
[providers.fal]
base_url = "{vendor_url}"
api_key = "{VENDOR_KEY}"
"""
    )
    return config


async def new_key(store: Store) -> NewKey:
    """A caller's key, stored."""
    made = keys.make("bench", now_us=time.time_ns() // 1000, random=random.randbytes(keys.RANDOM_BYTES))
    await store.create_key(made.key)
    return made


async def fill(settings: Settings, count: int) -> None:
    """Write so many running jobs, each different, all of one caller."""
    store = connect(settings.store.url)
    await store.open()
    jobs = _Jobs(settings, caller=(await new_key(store)).key.id)
    numbers = iter(range(count))

    async def write() -> None:
        for number in numbers:
            await jobs.write(store, number)

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    await store.close()


class _Jobs:
    """Jobs as a real decision over the catalogue makes them."""

    def __init__(self, settings: Settings, *, caller: str) -> None:
        self._caller = caller
        catalogue = load_catalogue(settings.catalogue)
        asked = VideoRequest(prompt=PROMPT, seconds=5, audio=False, aspect_ratio="16:9")
        target = catalogue.resolve("kling-v3-pro", {})
        found = match(catalogue, target, asked, Preferences(), configured=settings.configured)
        self._decision = rank(found, Health(), Policy(), Preferences(), now_us=time.time_ns() // 1000)
        self._candidate = found.candidates[0]
        self._asked = asked
        self._vendor = settings.accounts[0].settings.base_url

    async def write(self, store: Store, number: int) -> None:
        job = self._job(number)
        await store.accept(job, decision=msgspec.json.encode(self._decision))
        request, backend = self._candidate.request, self._candidate.backend
        attempt = Attempt(
            id=ids.fresh("att"),
            job=job.id,
            no=1,
            state=AttemptState.SUBMITTING,
            backend=backend.id,
            provider=backend.provider,
            account="main",
            model_id=backend.model_id[request.mode],
            price_usd_micros=self._candidate.quote.usd_micros,
            bucket=bucket(request),
            started_us=job.created_us,
        )
        job = advance(job, JobEvent.ATTEMPT_STARTED, attempts=1)
        await store.save(job, attempt=attempt, events=(_event(attempt, JobEvent.ATTEMPT_STARTED),))
        running = advance_attempt(
            attempt, AttemptEvent.ACCEPTED, operation=self._operation(job, attempt), accepted_us=job.created_us
        )
        job = advance(job, JobEvent.PROGRESSED)
        await store.save(job, attempt=running, events=(_event(attempt, AttemptEvent.ACCEPTED),))

    def _job(self, number: int) -> Job:
        best, quote, now_us = self._decision.ranked[0], self._candidate.quote, time.time_ns() // 1000
        return Job(
            id=ids.fresh("video"),
            caller=self._caller,
            spec=JobSpec(
                model="kling-v3-pro",
                video=msgspec.structs.replace(self._asked, prompt=PROMPT.format(number)),
                metadata={"project": "spring-campaign", "shot": str(number)},
                user="editor-7",
            ),
            routing=Routing(
                backend=best.backend,
                provider=best.provider,
                reason=best.reason,
                estimated_cost_usd_micros=quote.usd_micros,
                eta_seconds=best.expected_finish_seconds,
            ),
            seconds=best.seconds,
            size=best.size,
            purse_usd_micros=2 * quote.usd_micros,
            created_us=now_us,
            deadline_us=now_us + DAY_US,
            warnings=self._candidate.warnings,
            reserved_usd_micros=quote.usd_micros,
        )

    def _operation(self, job: Job, attempt: Attempt) -> Operation:
        """With the addresses that the vendor's answer to a submit holds."""
        number = job.id.removeprefix("video_")
        place = f"{self._vendor}/fal-ai/kling-video/requests/{number}"
        urls = {"status": f"{place}/status", "response": place, "cancel": f"{place}/cancel"}
        return Operation(provider=attempt.provider, id=number, ref={"endpoint": attempt.model_id, **urls})


def _event(attempt: Attempt, kind: JobEvent | AttemptEvent) -> Event:
    data = {"backend": attempt.backend}
    return Event(job=attempt.job, type=kind, at_us=attempt.started_us, attempt=attempt.id, data=data)


class Vendor:
    """A vendor at which every job renders for ever. It counts the polls."""

    def __init__(self) -> None:
        self.polls = 0
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Answering(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()


class _Answering(asyncio.Protocol):
    """One connection of a vendor's, with GETs on it."""

    _BODY = b'{"status":"IN_PROGRESS","request_id":"anyone"}'
    _REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *whole, self._head = (self._head + data).split(b"\r\n\r\n")
        self._vendor.polls += len(whole)
        self._transport.write(self._REPLY * len(whole))
