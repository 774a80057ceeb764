"""AtlasCloud's callbacks: whose they are, how long they are good, and which job they name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from providers import atlascloud
from providers.guard import Guard
from providers.spec import Fault, Kind, ProviderError, Secret, Succeeded, VideoRequest
from providers.transport import Transport
from tests.vendors.atlascloud import AtlasServer
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio

KEY = "planted-key-0123456789"
PRO_TEXT = "kwaivgi/kling-v3.0-pro/text-to-video"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="1080p", aspect_ratio="16:9")


def before(server: AtlasServer, *, now: Callable[[], float] | None = None) -> atlascloud.Adapter:
    """The adapter with the server's addresses, through the connections of production."""
    settings = atlascloud.Settings(
        api_key=Secret(KEY),
        base_url=f"{server.url}/api/v1",
        billing_url=f"{server.url}/public/v1",
        jwks_url=f"{server.url}/api/v1/webhooks/jwks.json",
    )
    transport = Transport(guard=Guard())
    return atlascloud.Adapter(settings, transport, now=now) if now else atlascloud.Adapter(settings, transport)


async def test_callback_as_atlas_sends_it_is_taken_and_names_its_job(tmp_path: Path) -> None:
    with AtlasServer(tmp_path, Options(pace=Pace(steps=0))) as server, Receiver() as doorbell:
        adapter = before(server)
        words: dict[str, Any] = {"model_id": PRO_TEXT, "callback_url": f"{doorbell.url}/cb/t", "client_id": "a"}

        operation = await adapter.submit(SMALL, **words)
        (ring,) = await asyncio.to_thread(doorbell.wait)
        await adapter.check_callback(ring.headers, ring.body)
        claim = adapter.operation_in(ring.body, model_id=PRO_TEXT)

        assert claim is not None
        assert claim.id == operation.id
        assert isinstance(await adapter.poll(claim), Succeeded)


@pytest.mark.parametrize("session", ["", 5, None, "../../elsewhere", "a" * 4000, ["A"]])
def test_callback_whose_session_is_no_id_names_nothing(session: Any) -> None:
    body = msgspec.json.encode({"session_id": session, "status": "OK", "payload": {"id": "A"}})

    adapter = atlascloud.Adapter(atlascloud.Settings(api_key=Secret(KEY)), Transport(guard=Guard()))

    assert adapter.operation_in(body, model_id=PRO_TEXT) is None


async def refusal(adapter: atlascloud.Adapter, headers: dict[str, str], body: bytes) -> Fault:
    with pytest.raises(ProviderError) as caught:
        await adapter.check_callback(headers, body)
    return caught.value.fault


def jwks_calls(server: AtlasServer) -> int:
    return len([seen for seen in server.requests() if seen.path.endswith("jwks.json")])


BODY = b'{"session_id": "A", "status": "OK"}'


async def test_only_that_body_at_that_time_by_that_key_is_taken(tmp_path: Path) -> None:
    with AtlasServer(tmp_path) as server:
        adapter = before(server)
        good = server.signature(BODY)
        other = server.signature(b"another body")

        await adapter.check_callback(good, BODY)
        refused = [
            (good, BODY + b" "),
            (good | {"x-atlascloud-timestamp": str(int(good["x-atlascloud-timestamp"]) - 1)}, BODY),
            (good | {"x-atlascloud-signature-ed25519": other["x-atlascloud-signature-ed25519"]}, BODY),
            (good | {"x-atlascloud-signature-ed25519": good["x-atlascloud-signature-ed25519"] + "AA"}, BODY),
            (good | {"x-atlascloud-signature-ed25519": "é" * 86}, BODY),
            (good | {"x-atlascloud-signature-ed25519": ""}, BODY),
            (good | {"x-atlascloud-timestamp": "²" * 10}, BODY),
            (good | {"x-atlascloud-timestamp": "9" * 5000}, BODY),
            ({name: text for name, text in good.items() if not name.endswith("ed25519")}, BODY),  # the HMAC alone
            ({}, BODY),
        ]
        for headers, body in refused:
            assert (await refusal(adapter, headers, body)).kind is Kind.AUTHENTICATION

        assert jwks_calls(server) == 1


@pytest.mark.parametrize(("late", "is_taken"), [(300, True), (302, False), (-298, True), (-302, False)])
async def test_callback_is_good_for_five_minutes(tmp_path: Path, late: int, is_taken: bool) -> None:
    with AtlasServer(tmp_path, Options(virtual=True)) as server:
        signed = server.signature(BODY)
        adapter = before(server, now=lambda: int(signed["x-atlascloud-timestamp"]) + late)

        if is_taken:
            await adapter.check_callback(signed, BODY)
        else:
            assert "300 s" in (await refusal(adapter, signed, BODY)).message


async def test_keys_are_asked_for_once_a_day_anew_and_when_one_is_not_known(tmp_path: Path) -> None:
    with AtlasServer(tmp_path, Options(virtual=True)) as server:
        adapter = before(server, now=lambda: server.clock.now_us() / 1e6)

        async def check() -> int:
            await adapter.check_callback(server.signature(BODY), BODY)
            return jwks_calls(server)

        first = [await check(), await check()]
        server.advance(3600)
        server.rotate()
        after_rotation = [await check(), await check()]
        server.advance(24 * 3600)
        next_day = await check()

    assert (first, after_rotation, next_day) == ([1, 1], [2, 2], 3)


async def test_key_that_is_told_of_no_more_is_refused_after_a_day(tmp_path: Path) -> None:
    with AtlasServer(tmp_path, Options(virtual=True)) as server:
        adapter = before(server, now=lambda: server.clock.now_us() / 1e6)
        await adapter.check_callback(server.signature(BODY), BODY)
        server.advance(24 * 3600)
        by_the_old_key = server.signature(BODY)
        server.rotate()

        said = await refusal(adapter, by_the_old_key, BODY)

    assert said.kind is Kind.AUTHENTICATION


async def test_forger_with_ever_new_keys_does_not_make_us_ask_each_time(tmp_path: Path) -> None:
    with AtlasServer(tmp_path, Options(virtual=True)) as server:
        adapter = before(server, now=lambda: server.clock.now_us() / 1e6)
        forged = [server.signature(BODY) | {"x-atlascloud-key-id": f"forged-{number}"} for number in range(20)]

        faults = await asyncio.gather(*(refusal(adapter, headers, BODY) for headers in forged))
        asked = jwks_calls(server)

    assert {fault.kind for fault in faults} == {Kind.AUTHENTICATION}
    assert asked == 1


async def test_callback_is_not_taken_while_the_keys_cannot_be_had() -> None:
    told: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(str(request.url))
        return httpx.Response(503, stream=httpx.ByteStream(b"{}"))

    transport = Transport(guard=Guard(), client=httpx.MockTransport(answer))
    adapter = atlascloud.Adapter(atlascloud.Settings(api_key=Secret(KEY)), transport)
    headers = {"x-atlascloud-timestamp": str(int(adapter._now())), "x-atlascloud-key-id": "k"}

    said = [await refusal(adapter, headers, BODY) for _ in range(2)]

    assert [fault.kind for fault in said] == [Kind.UNAVAILABLE] * 2
    assert told == ["https://api.atlascloud.ai/api/v1/webhooks/jwks.json"] * 2
