"""A gateway of a test's own, on loopback: in the test's event loop, or as a process that may be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec

from gateway import app
from gateway.jobs import Attempt, Job
from gateway.settings import load
from gateway.store import connect
from gateway.store.spec import Event
from providers.spec import Secret
from tests.tls import Certificate

ROOT = Path(__file__).parent.parent
KEY = "a-key-of-this-test"
VENDOR_KEY = "id-of-nobody:secret-of-nobody"
SPARE = """
[[backend]]
model = "kling-v3-pro"
provider = "fal"
name = "spare"
model_id.text = "fal-ai/kling-video/o3/pro/text-to-video"
model_id.first_frame = "fal-ai/kling-video/o3/pro/image-to-video"
seconds = { min = 3, max = 15 }
aspect_ratios = ["16:9", "9:16", "1:1"]
follows_picture = true
resolutions = ["1080p"]
audio = "optional"
price_usd_per_second = { silent = 0.12, audio = 0.18 }
typical_seconds = { p50 = 2, p95 = 4 }
poll_floor_seconds = 0.05
max_in_flight = 50
checked = 2026-10-04
source = "a test"
"""
QUICK = """
[[backend]]
model = "kling-v3-pro"
provider = "fal"
replaces = true
model_id.text = "fal-ai/kling-video/v3/pro/text-to-video"
model_id.first_frame = "fal-ai/kling-video/v3/pro/image-to-video"
seconds = { min = 3, max = 15 }
aspect_ratios = ["16:9", "9:16", "1:1"]
follows_picture = true
resolutions = ["1080p"]
audio = "optional"
price_usd_per_second = { silent = 0.112, audio = 0.168 }
typical_seconds = { p50 = 1, p95 = 2 }
poll_floor_seconds = 0.05
max_in_flight = 50
checked = 2026-10-04
source = "a test"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def written(
    folder: Path,
    vendor_url: str,
    *,
    port: int,
    callbacks: bool = True,
    account: dict[str, Any] | None = None,
    tables: str = "",
    **routing: Any,
) -> Path:
    """A configuration with one vendor on loopback and windows of tenths of seconds; two backends of one model, of which
    `fal/kling-v3-pro` ($0.112 a second) is the cheaper and `fal/spare` ($0.12) the second; `tables` are more."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quick.toml").write_text(QUICK + SPARE)
    windows: dict[str, Any] = {
        "sort": "price",
        "intent_seconds": 1.0,
        "read_seconds": 1.0,
        "grace_seconds": 0.2,
        "unknown_after_seconds": 3.0,
        "check_clips": False,  # the vendor servers' clips are small ones: each would count against its backend
        **routing,
    }
    lines = [f"{name} = {_toml(value)}" for name, value in windows.items()]
    (folder / "filmgate.toml").write_text(
        f"""
catalogue = ["quick.toml"]
[server]
port = {port}
public_url = "http://127.0.0.1:{port}"
[store]
url = "sqlite:///{folder}/filmgate.db"
[egress]
allow = ["127.0.0.1"]
[providers.fal]
base_url = "{vendor_url}"
rest_url = "{vendor_url}"
api_url = "{vendor_url}"
api_key = "{VENDOR_KEY}"
callbacks = {_toml(callbacks)}
{chr(10).join(f"{name} = {_toml(value)}" for name, value in (account or {}).items())}
[routing]
"""
        + "\n".join([*lines, tables])
    )
    return folder / "filmgate.toml"


def _toml(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class House:
    """A running gateway as its caller sees it."""

    def __init__(self, http: httpx.AsyncClient, gateway_folder: Path) -> None:
        self.http = http
        self.folder = gateway_folder

    async def create(self, **form: Any) -> dict[str, Any]:
        """A job, accepted. Raises AssertionError with the answer when it was not."""
        form = {"model": "kling-v3-pro", "prompt": "a lighthouse at dusk", **form}
        reply = await self.http.post("/v1/videos", json=form)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def view(self, video_id: str) -> dict[str, Any]:
        return dict((await self.http.get(f"/v1/videos/{video_id}")).json())

    async def until(self, video_id: str, *statuses: str, seconds: float = 20.0) -> dict[str, Any]:
        """The job once its status is one of these; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                video = await self.view(video_id)
                if video["status"] in statuses:
                    return video
                await asyncio.sleep(0.02)

    async def ended(self, video_id: str, seconds: float = 20.0) -> dict[str, Any]:
        return await self.until(video_id, "completed", "failed", seconds=seconds)


@contextlib.asynccontextmanager
async def house(folder: Path, vendor_url: str, *, tls: Certificate | None = None, **words: Any) -> AsyncIterator[House]:
    """A gateway in this event loop, over a real socket; by https with `tls`."""
    port = free_port()
    settings = load(written(folder, vendor_url, port=port, **words), environ={})
    settings = msgspec.structs.replace(settings, local_key=Secret(KEY))
    settings = tls.served(settings) if tls else settings
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(app.serve(settings, ready=ready.set_result, stop=stop))
    either: set[asyncio.Future[Any]] = {ready, serving}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    try:
        headers = {"authorization": f"Bearer {KEY}"}
        verify = tls.trusting() if tls else True
        async with httpx.AsyncClient(
            base_url=ready.result(), headers=headers, timeout=30, trust_env=False, verify=verify
        ) as http:
            yield House(http, folder)
    finally:
        stop.set()
        await serving


class Process:
    """A gateway as a process of its own, on one store, started and killed as often as a test likes."""

    def __init__(self, config: Path, *, key: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.headers = {"authorization": f"Bearer {key}"}
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def start(self, *, failpoint: str = "") -> None:
        """Returns once it answers; raises AssertionError with its log when it does not."""
        env = {**os.environ, "PYTHONPATH": str(ROOT), "FILMGATE_FAILPOINT": failpoint}
        log = (self._config.parent / "log.txt").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--config", str(self._config)], stderr=log, env=env, cwd=ROOT
        )
        log.close()
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/healthz", trust_env=False, timeout=2).status_code == 200:
                    return
            if self._process.poll() is not None:
                if failpoint and self._process.returncode == -signal.SIGKILL:
                    return  # it met its failpoint at once, by work that it found in the store
                break
            time.sleep(0.02)
        raise AssertionError((self._config.parent / "log.txt").read_text()[-3000:])

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def died(self, seconds: float = 20.0) -> None:
        """Returns once the failpoint has killed it."""
        assert self._process is not None
        code = self._process.wait(seconds)
        assert code == -signal.SIGKILL, (code, (self._config.parent / "log.txt").read_text()[-3000:])

    def stop(self) -> None:
        """SIGTERM, and an orderly end."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        assert self._process.wait(30) == 0, (self._config.parent / "log.txt").read_text()[-3000:]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One job as its store tells it afterwards."""

    job: Job
    attempts: tuple[Attempt, ...]
    events: tuple[Event, ...]


async def records(folder: Path) -> list[Record]:
    """Every job of a store that nobody has open."""
    store = connect(f"sqlite:///{folder}/filmgate.db")
    await store.open()
    try:
        found: list[Record] = []
        for caller in ("local", *(key.id for key in await store.keys())):
            after, more = None, True
            while more:
                jobs, more = await store.list_jobs(caller, after=after, limit=100)
                after = jobs[-1].id if jobs else None
                for job in jobs:
                    attempts, events = await store.attempts(job.id), await store.events(job.id)
                    found.append(Record(job=job, attempts=attempts, events=events))
        assert await store.ledger.differs() == (), "a total is not the sum of its jobs"
        return found
    finally:
        await store.close()
