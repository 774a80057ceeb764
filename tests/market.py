"""Every vendor at once: seven vendor servers on loopback and one gateway that has an account at each."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway import app
from gateway.settings import load
from providers.spec import Secret
from tests.house import KEY, House, free_port
from tests.tls import Certificate
from tests.vendors.atlascloud import AtlasServer
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.kling import KlingServer
from tests.vendors.pika import PikaServer
from tests.vendors.runway import RunwayServer
from tests.vendors.server import Options, Vendor
from tests.vendors.ulazai import UlazServer
from tests.vendors.wavespeed import WaveSpeedServer

SERVERS: dict[str, type[Vendor]] = {
    "fal": FalServer,
    "wavespeed": WaveSpeedServer,
    "kling": KlingServer,
    "atlascloud": AtlasServer,
    "runway": RunwayServer,
    "pika": PikaServer,
    "ulazai": UlazServer,
}
# planted credentials: none of them may show anywhere
SECRETS = {
    "fal": {"api_key": "planted-fal-id:planted-fal-secret-0123456789"},
    "wavespeed": {
        "api_key": "planted-wavespeed-key-0123456789",
        "webhook_secret": "planted-wavespeed-hook-0123456789",
    },
    "kling": {"api_key": "planted-kling-key-0123456789"},
    "atlascloud": {"api_key": "planted-atlas-key-0123456789"},
    "runway": {"api_key": "planted-runway-key-0123456789"},
    "pika": {"api_key": "pk_planted-pika-key-0123456789"},
    "ulazai": {"api_key": "planted-ulazai-key-0123456789"},
}
PRICES = """
[[backend]]
provider = "ulazai"
model = "kling-v3-pro"
replaces = true
model_id = { text = "kling_3_0/pro", first_frame = "kling_3_0/pro" }
seconds = { min = 3, max = 15 }
aspect_ratios = ["16:9", "9:16", "1:1"]
resolutions = ["1080p"]
audio = "optional"
follows_picture = true
price_usd_per_second = { silent = 0.2, audio = 0.2 }
typical_seconds = { p50 = 1, p95 = 2 }
poll_floor_seconds = 0.05
checked = 2026-10-04
source = "a test"
"""


@contextlib.contextmanager
def vendors(folder: Path, *, seconds: float = 0.1) -> Iterator[dict[str, Vendor]]:
    """A server for each vendor, its ledger in `folder/<name>`."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(make(folder / name, Options(pace=Pace(seconds=seconds))))
            for name, make in SERVERS.items()
        }


def _addresses(name: str, url: str) -> dict[str, Any]:
    """Each provider's hosts, all of them at its server."""
    match name:
        case "fal":
            return {"base_url": url, "rest_url": url, "api_url": url}
        case "atlascloud":
            jwks = f"{url}/api/v1/webhooks/jwks.json"
            return {"base_url": f"{url}/api/v1", "billing_url": f"{url}/public/v1", "jwks_url": jwks}
        case _:
            return {"base_url": url}


def _quick(path: Path, folder: Path) -> Path:
    """A copy of a catalogue file whose vendors are as quick as these servers are, and are asked as often."""
    text = re.sub(r"(?m)^typical_seconds = .*", "typical_seconds = { p50 = 1, p95 = 2 }", path.read_text())
    copy = folder / path.name
    copy.write_text(re.sub(r"(?m)^poll_floor_seconds = .*", "poll_floor_seconds = 0.05", text))
    return copy


@contextlib.asynccontextmanager
async def market(
    folder: Path,
    servers: dict[str, Vendor],
    *,
    kling: dict[str, str] | None = None,
    tls: Certificate | None = None,
    rows: str = "",
    **routing: Any,
) -> AsyncIterator[House]:
    """The gateway in this event loop. `kling` are its credentials instead of the API key, `rows` more of the
    catalogue; it speaks https with `tls`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prices.toml").write_text(PRICES + rows)
    port = free_port()
    tables: dict[str, Any] = {}
    for name, server in servers.items():
        secrets = kling if name == "kling" and kling else SECRETS[name]
        tables[name] = {**_addresses(name, server.url), **secrets, "max_in_flight": 20}
    overrides = {
        "server.port": port,
        "server.public_url": f"http://127.0.0.1:{port}",
        "store.url": f"sqlite:///{folder}/filmgate.db",
        "egress.allow": ["127.0.0.1"],
        "routing.intent_seconds": 1.0,
        "routing.read_seconds": 1.0,
        "routing.grace_seconds": 0.2,
        "routing.unknown_after_seconds": 6.0,
        "routing.check_clips": False,  # the vendor servers' clips are small ones
        **{f"routing.{key}": value for key, value in routing.items()},
        **{f"providers.{name}": table for name, table in tables.items()},
        "providers.sandbox.enabled": True,
    }
    settings = load(environ={}, overrides=overrides)
    catalogue = [_quick(path, folder) for path in settings.catalogue]
    settings = msgspec.structs.replace(settings, local_key=Secret(KEY), catalogue=(*catalogue, folder / "prices.toml"))
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
