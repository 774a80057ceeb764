"""fal's own clients, Python and JavaScript, take this gateway for fal, with nothing changed but where they are sent.

Python over https with a certificate of a test's own authority and three variables; JavaScript by `proxyUrl`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.house import KEY, House, house
from tests.market import market, vendors
from tests.sdk.conftest import Node
from tests.tls import Certificate, certificate
from tests.vendors.fal import FalServer
from tests.vendors.fal_caller import picture
from tests.vendors.kit import Pace
from tests.vendors.server import Options
from tests.vendors.wire import Reply, Request, Server

JUDGE = Path(__file__).parent / "fal_judge.py"
QUICK = """
[[backend]]
provider = "{provider}"
model = "kling-v3-pro"
replaces = true
model_id = {{ text = "{path}/text-to-video", first_frame = "{path}/image-to-video" }}
seconds = {{ min = 3, max = 15 }}
aspect_ratios = ["16:9", "9:16", "1:1"]
follows_picture = true
resolutions = ["1080p"]
audio = "optional"
price_usd_per_second = {{ silent = {price}, audio = {price} }}
typical_seconds = {{ p50 = 1, p95 = 2 }}
poll_floor_seconds = 0.05
checked = 2026-10-04
source = "a test"
"""
PATHS = {"fal": "fal-ai/kling-video/v3/pro", "wavespeed": "kwaivgi/kling-v3.0-pro"}

Seen = dict[str, dict[str, Any]]


@contextlib.asynccontextmanager
async def a_picture() -> AsyncIterator[str]:
    """The address of a picture of 16:9, as any web server would have it."""

    async def answer(_: Request) -> Reply:
        return Reply(body=picture(640, 360), headers={"content-type": "image/png"})

    server = Server(answer)
    url = await server.start()
    try:
        yield f"{url}/grass.png"
    finally:
        await server.stop()


async def judged(gateway: House, tls: Certificate, picture_url: str, *scenes: str) -> Seen:
    """What fal's Python client saw of this gateway, scene by scene."""
    host = gateway.http.base_url.netloc.decode()
    given = {"FAL_KEY": KEY, "FAL_QUEUE_RUN_HOST": f"{host}/fal", "FAL_RUN_HOST": f"{host}/fal/run"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(JUDGE),
        picture_url,
        *scenes,
        env={**os.environ, **given, "SSL_CERT_FILE": str(tls.authority)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    found = [json.loads(line) for line in out.decode().splitlines()]
    return {line.pop("name"): line for line in found}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Every scene of the Python client, over https, with fal's vendor server behind the gateway."""
    folder = tmp_path_factory.mktemp("python")

    async def see() -> Seen:
        tls = certificate(folder / "tls")
        with FalServer(folder / "fal", Options(pace=Pace(seconds=0.2))) as vendor:
            async with house(folder / "gateway", vendor.url, tls=tls) as gateway, a_picture() as url:
                return await judged(gateway, tls, url)

    return asyncio.run(see())


def test_python_submits_follows_and_gets_its_clip(python: Seen) -> None:
    scene = python["submit_status_result"]

    assert list(dict.fromkeys(scene["statuses"])) in (
        ["Queued", "InProgress", "Completed"],
        ["InProgress", "Completed"],
    )
    assert (scene["by_id"], scene["same"]) == ("Completed", True)
    assert scene["metrics"]["inference_time"] > 0
    assert scene["logs"][-1]["message"] == "made by fal"
    assert scene["result"]["video"]["content_type"] == "video/mp4"


def test_python_subscribes(python: Seen) -> None:
    assert python["subscribe"]["statuses"][-1] == "Completed"
    assert python["subscribe"]["result"]["filmgate"]["cost_usd"] == 0.56


def test_python_async_does_all_of_it(python: Seen) -> None:
    scene = python["asynchronous"]

    assert scene["statuses"][-1] == "Completed"
    ids = {scene[name]["filmgate"]["id"] for name in ("result", "run", "subscribed")}
    assert len(ids) == 3


def test_python_cancels_or_learns_that_it_is_too_late(python: Seen) -> None:
    assert python["cancel"] == {
        "error_type": "client_cancelled",
        "result": {"status": 499, "type": "client_cancelled"},
    }
    assert python["cancel_too_late"] == {"status": 400, "body": {"status": "ALREADY_COMPLETED"}}


def test_python_reads_every_refusal_in_its_own_words(python: Seen) -> None:
    seen = python["refusals"]

    assert seen["duration"]["status"] == 422
    assert seen["duration"]["message"][0]["loc"] == ["body", "duration"]
    assert seen["picture"]["message"][0]["type"] == "missing"
    assert (seen["endpoint"]["status"], seen["endpoint"]["type"]) == (404, "not_found")
    assert (seen["key"]["status"], seen["key"]["type"]) == (401, "invalid_api_key")


def test_python_uploads_both_ways_and_begins_a_clip_with_a_picture_of_its_own(python: Seen) -> None:
    scene = python["uploads"]

    assert "/fal/files/" in scene["address"]
    assert scene["old_way"].endswith("/b.png")
    assert scene["result"]["video"]["url"].startswith("https://127.0.0.1:")


@pytest.mark.parametrize("cheapest", ["fal", "wavespeed"])
def test_the_guides_example_is_made_by_whoever_is_cheapest(
    cheapest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> dict[str, Any]:
        tls = certificate(tmp_path / "tls")
        with vendors(tmp_path / "vendors") as servers:
            sellers = {name: servers[name] for name in PATHS}
            rows = "".join(
                QUICK.format(provider=name, path=path, price=0.06 if name == cheapest else 0.17)
                for name, path in PATHS.items()
            )
            async with market(tmp_path / "g", sellers, tls=tls, rows=rows, sort="price") as gateway, a_picture() as url:
                result = (await judged(gateway, tls, url, "guide"))["guide"]["result"]
                async with httpx.AsyncClient(verify=tls.trusting(), trust_env=False) as anybody:
                    clip = await anybody.get(result["video"]["url"])  # no key: as an <img> or a player would
                assert clip.content[4:8] == b"ftyp"
            ledgers = {name: len(server.ledger()) for name, server in sellers.items()}
            return {"result": result, "ledgers": ledgers}

    seen = asyncio.run(scenario())

    made_by = seen["result"]["filmgate"]
    with capsys.disabled():
        print(f"\nthe guide's example was made by {made_by['provider']} for ${made_by['cost_usd']:.3f}")
    assert made_by["provider"] == cheapest
    assert seen["ledgers"] == {"fal": int(cheapest == "fal"), "wavespeed": int(cheapest == "wavespeed")}
    assert any("aspect_ratio=16:9 was ignored" in text for text in seen["result"]["warnings"])


# --- JavaScript -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def javascript(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Every scene of the JavaScript client, through `proxyUrl`, over plain http."""
    folder = tmp_path_factory.mktemp("javascript")
    drawn = base64.b64encode(picture(400, 300)).decode()

    async def see() -> Seen:
        with FalServer(folder / "fal", Options(pace=Pace(seconds=0.2))) as vendor:
            async with house(folder / "gateway", vendor.url) as gateway:
                url = str(gateway.http.base_url)
                return await asyncio.to_thread(node.run, "fal_gateway_judge.mjs", url.rstrip("/"), KEY, drawn)

    return asyncio.run(see())


needs_node = pytest.mark.node


@needs_node
def test_javascript_submits_polls_and_gets_its_clip(javascript: Seen) -> None:
    scene = javascript["status_and_result"]

    assert scene["queued"]["status"] == "IN_QUEUE"
    assert scene["last"]["status"] == "COMPLETED"
    assert scene["result"]["requestId"] == scene["queued"]["request_id"]
    assert scene["result"]["data"]["video"]["content_type"] == "video/mp4"


@needs_node
def test_javascript_follows_the_stream_of_statuses(javascript: Seen) -> None:
    assert javascript["stream"]["statuses"][-1] == "COMPLETED"
    assert javascript["stream"]["last"]["logs"][-1]["message"] == "made by fal"


@needs_node
@pytest.mark.parametrize("scene", ["subscribe", "subscribe_by_stream"])
def test_javascript_subscribes(javascript: Seen, scene: str) -> None:
    assert javascript[scene]["updates"][-1] == "COMPLETED"
    assert javascript[scene]["result"]["data"]["filmgate"]["provider"] == "fal"


@needs_node
def test_javascript_runs_synchronously(javascript: Seen) -> None:
    assert javascript["run"]["result"]["data"]["video"]["file_name"] == "output.mp4"


@needs_node
def test_javascript_uploads_and_begins_a_clip_with_a_picture_in_its_input(javascript: Seen) -> None:
    assert javascript["upload"]["same"]
    assert javascript["a_picture_in_the_input"]["result"]["data"]["video"]["url"]


@needs_node
def test_javascript_cancels(javascript: Seen) -> None:
    assert javascript["cancel"]["status"]["error_type"] == "client_cancelled"


@needs_node
def test_javascript_reads_refusals(javascript: Seen) -> None:
    invalid = javascript["invalid_input"]["error"]

    assert (invalid["name"], invalid["status"]) == ("ValidationError", 422)
    assert invalid["fields"][0]["loc"] == ["body", "duration"]
    assert javascript["no_such_key"]["error"]["status"] == 401


@needs_node
def test_the_proxy_fetches_nothing(javascript: Seen) -> None:
    assert javascript["elsewhere"]["status"] == 400
    assert javascript["elsewhere"]["body"]["error_type"] == "bad_request"
