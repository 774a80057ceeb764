"""An end as fal tells it: the body a receiver knows, under a signature that fal's documented check accepts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.api import fal_hook
from gateway.jobs import Job
from gateway.settings import Server
from gateway.store.outbox import DeliveryState
from providers.spec import Fault, Kind, Verdict, Video
from tests.api_house import House, opened
from tests.house import house
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio

TEXT = "/fal/fal-ai/kling-video/v3/pro/text-to-video"
INPUT = {"prompt": "a red kite", "duration": "5", "generate_audio": False}


def is_signed(headers: Mapping[str, str], body: bytes, jwks: dict[str, Any], *, now: float) -> bool:
    """fal.ai/docs webhooks, "verification", read 2026-11-23: every key of the set is tried; 300 s of grace."""
    names = ("request-id", "user-id", "timestamp")
    told = [headers[f"x-fal-webhook-{name}"] for name in names]
    if abs(now - int(told[2])) > 300:
        return False
    message = "\n".join([*told, hashlib.sha256(body).hexdigest()]).encode()
    signature = bytes.fromhex(headers["x-fal-webhook-signature"])
    for key in jwks["keys"]:
        public = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except InvalidSignature:
            continue
        return True
    return False


async def told(opened_house: House, job: Job) -> tuple[dict[str, Any], bytes, dict[str, str]]:
    """The body and the headers that go to the receiver."""
    from gateway.delivery import Outgoing

    name, style = await fal_hook.webhook_style(opened_house.rooms)
    now_us = job.created_us + 100_000_000
    body = style.body(job, now_us=now_us)
    delivery = Outgoing(
        id="dlv_1",
        event="evt_1",
        type="video.completed",
        caller=job.caller,
        job=job.id,
        webhook=None,
        target="x",
        url="https://x.example/",
        style=name,
        state=DeliveryState.DUE,
        tries=0,
        step=0,
        due_us=1,
        created_us=1,
    )
    return json.loads(body), body, style.headers(delivery, body, now_us=now_us)


async def test_a_completed_request_is_told_with_the_models_output(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        id = (await house.client.post(TEXT, json=INPUT)).json()["request_id"]
        job = await house.finish(id, Video(url="https://cdn.example.com/clip.mp4"))
        said, _, _ = await told(house, job)

    assert (said["request_id"], said["gateway_request_id"], said["status"]) == (id, id, "OK")
    assert said["payload"]["video"]["url"].startswith("http://127.0.0.1:8080/v1/links/")
    assert "error" not in said


async def test_a_failed_request_is_told_with_the_body_its_result_would_have(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        asked = (await house.client.post(TEXT, json=INPUT)).json()
        fault = Fault(kind=Kind.CONTENT_POLICY, verdict=Verdict.NEVER, message="no")
        job = await house.fail(asked["request_id"], fault, code="content_policy")
        said, _, _ = await told(house, job)
        result = (await house.client.get(asked["response_url"])).json()

    assert (said["status"], said["error"]) == ("ERROR", "Invalid status code: 422")
    assert said["payload"] == result


async def test_the_signature_passes_fals_check_and_no_change_does(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        id = (await house.client.post(TEXT, json=INPUT)).json()["request_id"]
        job = await house.finish(id, Video(url="https://cdn.example.com/clip.mp4"))
        _, body, headers = await told(house, job)
        del house.client.headers["authorization"]  # the keys are for everybody
        jwks = (await house.client.get("/fal/.well-known/jwks.json")).json()
        now = job.created_us / 1e6 + 100

    assert is_signed(headers, body, jwks, now=now)
    assert not is_signed(headers, body + b" ", jwks, now=now)
    assert not is_signed({**headers, "x-fal-webhook-user-id": "somebody"}, body, jwks, now=now)
    assert not is_signed(headers, body, jwks, now=now + 400)
    assert "d" not in jwks["keys"][0]


@pytest.mark.parametrize(
    ("server", "base"),
    [
        (Server(), "http://127.0.0.1:8080"),
        (Server(host="::1", port=9000, tls_cert="a", tls_key="b"), "https://[::1]:9000"),
        (Server(public_url="https://video.example.com/"), "https://video.example.com"),
    ],
)
def test_links_in_a_webhook_lead_to_where_callers_find_us(server: Server, base: str) -> None:
    assert fal_hook.home(server) == base


async def test_a_receiver_is_called_once_the_clip_is_there(tmp_path: Path) -> None:
    with FalServer(tmp_path / "fal", Options(pace=Pace(seconds=0.1))) as vendor, Receiver() as receiver:
        async with house(tmp_path / "gateway", vendor.url) as gateway:
            hook = f"{receiver.url}/told?a=b"
            asked = (await gateway.http.post(TEXT, json=INPUT, params={"fal_webhook": hook})).json()
            (call,) = await asyncio.to_thread(receiver.wait)
            jwks = (await gateway.http.get("/fal/.well-known/jwks.json")).json()
            result = (await gateway.http.get(asked["response_url"])).json()

    headers = {name.lower(): value for name, value in call.headers.items()}
    assert is_signed(headers, call.body, jwks, now=int(headers["x-fal-webhook-timestamp"]))
    assert call.json()["request_id"] == asked["request_id"]
    assert call.json()["payload"]["filmgate"] == result["filmgate"]
    assert headers["x-fal-webhook-request-id"] == asked["request_id"]
