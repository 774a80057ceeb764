"""Any client, any backend: each of five clients fetches a clip that each vendor, and the sandbox, has made."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.house import KEY, House
from tests.market import market, vendors
from tests.sdk.conftest import Node, without
from tests.tls import Certificate, certificate
from tests.vendors.server import Vendor

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
HERE = Path(__file__).parent
BACKENDS = {  # provider → the model that pins it
    "fal": "fal/kling-v3-pro",
    "wavespeed": "wavespeed/kling-v3-pro",
    "kling": "kling/kling-v3-pro",
    "atlascloud": "atlascloud/kling-v3-pro",
    "runway": "runway/kling-v3-pro",
    "pika": "pika/pika-2.5",
    "ulazai": "ulazai/kling-v3-pro",
    "sandbox": "sandbox/steady",  # the lane that never breaks
}
CLIENTS = ["openai py", "openai js", "fal py", "fal js", "curl"]


class Cell(msgspec.Struct, frozen=True):
    """One client's clip of one backend."""

    name: str
    id: str | None
    start: str  # bytes 4 to 8: "ftyp" for an MP4
    error: str | None


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Vendor]]:
    with vendors(tmp_path / "vendors") as started:
        yield started


def command(client: str, gateway: House, node: Node) -> tuple[list[str], dict[str, str]]:
    """The program of a client, up to the models, and the environment that leads it here."""
    url, host = str(gateway.http.base_url).rstrip("/"), gateway.http.base_url.netloc.decode()
    match client:
        case "openai py":
            return [sys.executable, str(HERE / "any_openai.py")], {
                "OPENAI_BASE_URL": f"{url}/v1",
                "OPENAI_API_KEY": KEY,
            }
        case "fal py":
            given = {"FAL_KEY": KEY, "FAL_QUEUE_RUN_HOST": f"{host}/fal", "FAL_RUN_HOST": f"{host}/fal/run"}
            return [sys.executable, str(HERE / "any_fal.py")], given
        case "curl":
            if shutil.which("curl") is None:
                without("curl is not installed")
            return ["sh", str(HERE / "any_curl.sh"), url, KEY], {}
        case _:
            return [node.program, str(node.folder / f"any_{client.split()[0]}.mjs"), url, KEY], {}


async def cells(client: str, gateway: House, tls: Certificate, node: Node) -> list[Cell]:
    program, given = command(client, gateway, node)
    trust = dict.fromkeys(("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"), str(tls.authority))
    process = await asyncio.create_subprocess_exec(
        *program,
        *BACKENDS.values(),
        env={**os.environ, **trust, **given},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, said.decode()[-3000:]
    return [msgspec.convert(json.loads(line), Cell) for line in out.decode().splitlines()]


async def test_every_client_gets_a_clip_from_every_backend(
    servers: dict[str, Vendor], tmp_path: Path, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = certificate(tmp_path / "tls")
    made: dict[str, dict[str, str]] = {}
    async with market(tmp_path / "house", servers, tls=tls) as gateway:
        clips = await asyncio.gather(*(cells(client, gateway, tls, node) for client in CLIENTS))
        for client, found in zip(CLIENTS, clips, strict=True):
            assert [cell.name for cell in found] == list(BACKENDS.values())
            for provider, cell in zip(BACKENDS, found, strict=True):
                assert cell.start == "ftyp", (client, cell)
                job: dict[str, Any] = await gateway.view(str(cell.id))
                assert job["routing"]["provider"] == provider, (client, job)
                made.setdefault(provider, {})[client] = f"{job['usage']['cost_usd']:.2f}"

    with capsys.disabled():
        print(f"\n{'':12}" + "".join(f"{client:>11}" for client in CLIENTS))
        for provider, row in made.items():
            print(f"{provider:12}" + "".join(f"{'$' + row[client]:>11}" for client in CLIENTS))
    assert {name: len(server.ledger()) for name, server in servers.items()} == dict.fromkeys(servers, len(CLIENTS))
