"""WaveSpeed's callbacks are signed in a scheme of their own, which looks like Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import httpx
import pytest

from providers import wavespeed
from providers.guard import Guard
from providers.spec import Kind, ProviderError, Secret, VideoRequest
from providers.transport import Transport
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.server import Options
from tests.vendors.wavespeed import WaveSpeedServer

pytestmark = pytest.mark.anyio

TEXT = "kwaivgi/kling-v3.0-pro/text-to-video"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="1080p", aspect_ratio="16:9")
SECRET = "whsec_c2VjcmV0LW9mLW5vYm9keQ=="  # that it could be decoded is the trap
BODY = b'{"id":"a","status":"completed"}'


def adapter(url: str = "http://127.0.0.1:9", *, secret: str | None = SECRET, now: float = 1000) -> wavespeed.Adapter:
    settings = wavespeed.Settings(
        api_key=Secret("planted0123456789"), base_url=url, webhook_secret=Secret(secret) if secret else None
    )
    transport = Transport(guard=Guard(), client=httpx.AsyncHTTPTransport())
    return wavespeed.Adapter(settings, transport, now=lambda: now)


def signed(key: bytes, *, at: int = 1000, body: bytes = BODY, version: str = "v3") -> dict[str, str]:
    digest = hmac.new(key, f"msg-1.{at}.".encode() + body, hashlib.sha256)
    return {"webhook-id": "msg-1", "webhook-timestamp": str(at), "webhook-signature": f"{version},{digest.hexdigest()}"}


RAW = SECRET.removeprefix("whsec_").encode()
GOOD = signed(RAW)


@pytest.mark.parametrize(
    ("headers", "now"),
    [
        (signed(base64.b64decode(RAW)), 1000),
        (signed(SECRET.encode()), 1000),
        (signed(RAW, version="v1"), 1000),
        (signed(RAW, body=BODY + b" "), 1000),
        (GOOD | {"webhook-id": "msg-2"}, 1000),
        (GOOD | {"webhook-timestamp": "1001"}, 1000),
        (GOOD | {"webhook-signature": "v3,é"}, 1000),
        (signed(RAW) | {"webhook-signature": ""}, 1000),
        ({}, 1000),
        (GOOD, 1301),
        (GOOD, 699),
    ],
    ids=[
        "key decoded",
        "key with its prefix",
        "other version",
        "other body",
        "other id",
        "other time",
        "not ascii",
        "empty",
        "none",
        "stale",
        "from the future",
    ],
)
async def test_forged_or_stale_callback_is_refused(headers: dict[str, str], now: float) -> None:
    with pytest.raises(ProviderError) as caught:
        await adapter(now=now).check_callback(headers, BODY)

    assert caught.value.fault.kind is Kind.AUTHENTICATION
    assert RAW.decode() not in str(caught.value)


@pytest.mark.parametrize("now", [700, 1000, 1300])
async def test_callback_with_the_raw_secret_is_good_for_300_seconds(now: float) -> None:
    await adapter(now=now).check_callback(GOOD, BODY)


async def test_callback_goes_unchecked_where_no_secret_is_set() -> None:
    await adapter(secret=None).check_callback({}, BODY)


async def test_callback_of_the_vendor_passes(tmp_path: Path) -> None:
    with WaveSpeedServer(tmp_path, Options(pace=Pace(steps=0))) as server, Receiver() as gateway:
        at = adapter(server.url, secret=None)
        url = f"{gateway.url}/callbacks/a-token"
        operation = await at.submit(SMALL, model_id=TEXT, callback_url=url, client_id="attempt_1")
        (call,) = gateway.wait()

    now = float(call.headers["webhook-timestamp"])
    await adapter(secret=server.webhook_secret, now=now).check_callback(call.headers, call.body)
    claim = at.operation_in(call.body, model_id=TEXT)
    assert claim is not None
    assert claim.id == operation.id
