"""A gateway with a credential for every provider, one vendor server behind all of them, and a caller of either kind."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from PIL import Image

from gateway import app, keys
from gateway.jobs import Attempt, Job
from gateway.settings import load, provider_modules
from gateway.worker import Worker
from gateway.worker.realms import Realms
from providers.spec import Secret
from tests.house import KEY, VENDOR_KEY, written
from tests.vendors.fal import FalServer

URLS = ("base_url", "rest_url", "api_url", "billing_url", "jwks_url")


def everywhere(vendor: FalServer) -> dict[str, str]:
    """An environment in which every provider that needs a credential has one, and lives at this one address."""
    found = {}
    for name, module in provider_modules().items():
        fields = {field.name for field in msgspec.structs.fields(module.Settings)}
        if "api_key" in fields and name != vendor.name:
            found[f"FILMGATE_PROVIDERS__{name.upper()}__API_KEY"] = VENDOR_KEY
            for url in fields.intersection(URLS):
                found[f"FILMGATE_PROVIDERS__{name.upper()}__{url.upper()}"] = vendor.url
    return found


class Gate:
    """A running gateway, and a client of it with a test key and one with a live key."""

    def __init__(self, gateway: app.Gateway, realms: Realms, live: httpx.AsyncClient, test: httpx.AsyncClient) -> None:
        self.gateway, self.rooms, self.store = gateway, gateway.rooms, gateway.store
        self.realms = realms
        self.live, self.test = live, test

    async def create(self, *, by: httpx.AsyncClient | None = None, **form: Any) -> dict[str, Any]:
        form = {"model": "kling-v3-standard", "prompt": "a lighthouse at dusk", "seconds": 3, **form}
        reply = await (by or self.test).post("/v1/videos", json=form)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def ended(self, video: dict[str, Any], *, by: httpx.AsyncClient | None = None) -> dict[str, Any]:
        """The video once its job has ended."""
        job = await self.job(video)
        async with asyncio.timeout(20):
            while not job.state.is_terminal:
                job = await self.store.live.changed(job.id, job.version, 20) or job
        return dict((await (by or self.test).get(f"/v1/videos/{job.id}")).json())

    async def made(self, **form: Any) -> dict[str, Any]:
        video = await self.ended(await self.create(**form))
        assert video["status"] == "completed", video
        return video

    async def clip(self, video: dict[str, Any]) -> bytes:
        reply = await self.test.get(f"/v1/videos/{video['id']}/content")
        assert reply.status_code == 200, reply.text
        return reply.content

    async def job(self, video: dict[str, Any]) -> Job:
        job = await self.store.job(video["id"])
        assert job is not None
        return job

    async def attempts(self, video: dict[str, Any]) -> tuple[Attempt, ...]:
        return await self.store.attempts(video["id"])


@contextlib.asynccontextmanager
async def gate(
    folder: Path,
    vendor: FalServer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    key: keys.NewKey | None = None,
    quick: bool = False,
) -> AsyncIterator[Gate]:
    """A gateway over `folder` with every provider configured. `key`: the test key of the process before this one;
    `quick`: a live row that is followed fast stands in the catalogue too."""
    realms: list[Realms] = []

    class Watched(Worker):
        def __init__(self, **rooms: Any) -> None:
            realms.append(rooms["realms"])
            super().__init__(**rooms)

    monkeypatch.setattr(app, "Worker", Watched)
    settings = load(written(folder, vendor.url, port=1, check_clips=True), environ=everywhere(vendor))
    assert len(settings.configured) == 7, "every provider but the sandbox has a credential"
    settings = msgspec.structs.replace(settings, local_key=Secret(KEY))
    if not quick:
        settings = msgspec.structs.replace(settings, catalogue=settings.catalogue[:-1])
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(app.opened(settings))
        made = key or a_test_key()
        if key is None:
            await gateway.store.create_key(made.key)
        server = httpx.ASGITransport(cast(Any, gateway.asgi()))

        def client(text: str) -> httpx.AsyncClient:
            headers = {"authorization": f"Bearer {text}"}
            return httpx.AsyncClient(transport=server, base_url="http://filmgate.test", headers=headers, timeout=30)

        live = await stack.enter_async_context(client(KEY))
        test = await stack.enter_async_context(client(made.text.reveal()))
        yield Gate(gateway, realms[0], live, test)


def a_test_key() -> keys.NewKey:
    return keys.make("ci", now_us=1, random=secrets.token_bytes(keys.RANDOM_BYTES), test=True)


def picture(colour: str, *, width: int = 1280, height: int = 720) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
