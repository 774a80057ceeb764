"""Six vendors more: one clip through each of the eight ways to buy it, and what becomes of a reply lost at each."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.house import House, records
from tests.market import SECRETS, market, vendors
from tests.vendors.script import act
from tests.vendors.server import Vendor

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PAIR = {"access_key": "planted-access-0123456789", "secret_key": "planted-secret-of-the-pair-0123456789"}
# the way → the backend, and what of the body that reached the vendor says how long, how loud, from which picture
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "fal": ("fal/kling-v3-pro", {"duration": "8", "generate_audio": True, "start_image_url": "url"}),
    "wavespeed": ("wavespeed/kling-v3-pro", {"duration": 8, "sound": True, "image": "url"}),
    "kling, API key": ("kling/kling-v3-pro", {"duration": "8", "sound": "on", "mode": "pro", "image": "base64"}),
    "kling, JWT": ("kling/kling-v3-pro", {"duration": "8", "sound": "on", "model_name": "kling-v3", "image": "base64"}),
    "kling 2.0": (
        "kling/kling-v3-pro-v2",
        {"settings.duration": 8, "settings.audio": "native", "settings.multi_shot": False},
    ),
    "atlascloud": ("atlascloud/kling-v3-pro", {"duration": 8, "sound": True, "image": "given"}),
    "ulazai": (
        "ulazai/kling-v3-pro",
        {"duration_seconds": 8, "sound": True, "quality_mode": "pro", "prompt_directory_optin": False},
    ),
    "runway": ("runway/kling-v3-pro", {"duration": 8, "audio": True, "model": "kling3.0_pro"}),
}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Vendor]]:
    with vendors(tmp_path / "vendors") as started:
        yield started


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (1280, 720), (40, 90, 140)).save(out, "PNG")
    return out.getvalue()


async def bought(gateway: House, backend: str, **form: Any) -> dict[str, Any]:
    """One clip of 8 s with sound, from a real picture, on exactly this backend; followed to its end."""
    fields = {
        "model": backend,
        "prompt": "a lighthouse at dusk",
        "seconds": "8",
        "generate_audio": "true",
        # the vendor's newer protocol sells the same model at the same price
        "provider": json.dumps({"allow_fallbacks": False, "ignore": [f"{backend}-v2"], **form}),
    }
    files = {"input_reference": ("dusk.png", picture(), "image/png")}
    reply = await gateway.http.post("/v1/videos", data=fields, files=files)
    assert reply.status_code == 200, reply.text
    return await gateway.ended(reply.json()["id"], seconds=60)


def submitted(server: Vendor) -> dict[str, Any]:
    """The body of the one paid POST that reached the vendor."""
    (row,) = server.ledger()
    bodies = [
        seen.body
        for seen in server.requests()
        if seen.method == "POST" and isinstance(seen.body, dict) and "prompt" in json.dumps(seen.body)
    ]
    assert len(bodies) == 1, (row, bodies)
    return dict(bodies[0])


def at(body: dict[str, Any], path: str) -> Any:
    value: Any = body
    for part in path.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("way", WAYS)
async def test_one_clip_through_each_way_to_buy_it(
    way: str, servers: dict[str, Vendor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend, expected = WAYS[way]
    vendor = servers[backend.partition("/")[0]]

    async with market(tmp_path / "house", servers, kling=PAIR if way == "kling, JWT" else None) as gateway:
        video = await bought(gateway, backend)

    assert video["status"] == "completed", video
    body = submitted(vendor)
    with capsys.disabled():
        shown = json.dumps(body, ensure_ascii=False)
        print(f"\n{way}: {shown if len(shown) < 900 else shown[:900] + '…'}")
    for path, value in expected.items():
        found = at(body, path)
        if value in ("url", "base64", "given"):
            assert found
            assert found.startswith("http") is (value == "url") or value == "given"
            assert not found.startswith("data:") or value == "given"
        else:
            assert (found, type(found)) == (value, type(value)), path
    assert all(not server.ledger() for server in servers.values() if server is not vendor)


FOUND = {  # vendor → how a submit whose reply was lost is found
    "fal/kling-v3-pro": "callback",
    "atlascloud/kling-v3-pro": "callback",
    "kling/kling-v3-pro": "look-up",
    "kling/kling-v3-pro-v2": "look-up",
    "wavespeed/kling-v3-pro": "look-up",
    "pika/pika-2.5-image": "replay",
    "runway/kling-v3-pro": "nobody",
    "ulazai/kling-v3-pro": "nobody",
}


@pytest.mark.parametrize("backend", FOUND)
async def test_a_reply_lost_after_acceptance_is_one_ledger_row_at_each_vendor(
    backend: str, servers: dict[str, Vendor], tmp_path: Path
) -> None:
    how = FOUND[backend]
    vendor = servers[backend.partition("/")[0]]
    vendor.say(act("accept_then_cut"))
    if how in ("look-up", "replay"):
        vendor.say(act("callback_drop"))  # so that nothing but the look-up can tell

    async with market(tmp_path / "house", servers) as gateway:
        if backend.startswith("pika"):
            fields = {"model": backend, "prompt": "a lighthouse", "seconds": "5"}
            files = {"input_reference": ("dusk.png", picture(), "image/png")}
            reply = await gateway.http.post("/v1/videos", data=fields, files=files)
            assert reply.status_code == 200, reply.text
            video = await gateway.ended(reply.json()["id"], seconds=60)
        else:
            video = await bought(gateway, backend)

    assert len(vendor.ledger()) == 1
    (record,) = await records(tmp_path / "house")
    (attempt,) = record.attempts
    if how == "nobody":
        assert video["error"]["code"] == "outcome_unknown"
        assert attempt.state == "written_off"
        assert record.job.cost_usd_micros == attempt.price_usd_micros > 0
    else:
        assert video["status"] == "completed", video
        assert "attempt.found" in [event.type for event in record.events]


async def test_no_planted_key_shows_anywhere(
    servers: dict[str, Vendor], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with market(tmp_path / "house", servers) as gateway:
        for backend in {backend.partition("/")[0]: backend for backend, _ in WAYS.values()}.values():
            servers[backend.partition("/")[0]].say(act("status", status=401))
            video = await bought(gateway, backend)
            decision = await gateway.http.get(f"/v1/videos/{video['id']}/decision")
            assert "planted" not in json.dumps(video) + decision.text
    spoken = capfd.readouterr()

    texts = [spoken.out, spoken.err, *(str(await records(tmp_path / "house")),)]
    texts += [file.read_bytes().decode("latin-1") for file in (tmp_path / "house").rglob("*") if file.is_file()]
    for secrets in SECRETS.values():
        for secret in secrets.values():
            assert not any(secret in text for text in texts)


async def test_too_many_at_one_account_lowers_its_slots_and_the_same_backend_is_asked_later(
    servers: dict[str, Vendor], tmp_path: Path
) -> None:
    kling = servers["kling"]
    kling.say(act("status", status=429, body={"code": 1303, "message": "parallel task over resource pack limit"}))

    async with market(tmp_path / "house", {"kling": kling}) as gateway:
        reply = await gateway.http.post(
            "/v1/videos", json={"model": "kling/kling-v3-standard", "prompt": "a lighthouse", "seconds": 5}
        )
        assert reply.status_code == 200, reply.text
        video = await gateway.ended(reply.json()["id"])

    assert video["status"] == "completed", video
    (record,) = await records(tmp_path / "house")
    assert [(a.backend, a.state) for a in record.attempts] == [
        ("kling/kling-v3-standard", "rejected"),
        ("kling/kling-v3-standard", "succeeded"),
    ]
    assert record.job.cost_usd_micros == record.attempts[1].price_usd_micros > 0


async def test_an_empty_purse_at_one_vendor_goes_elsewhere_and_is_not_asked_again(
    servers: dict[str, Vendor], tmp_path: Path
) -> None:
    kling = servers["kling"]
    kling.say(act("status", status=429, body={"code": 1102, "message": "Account balance not enough"}, times=0))

    async with market(tmp_path / "house", servers) as gateway:
        for _ in range(2):
            form = {"model": "kling-v3-pro", "prompt": "a lighthouse", "seconds": 5, "provider": {"order": ["kling"]}}
            reply = await gateway.http.post("/v1/videos", json=form)
            video = await gateway.ended(reply.json()["id"])
            assert video["status"] == "completed", video
            assert not video["routing"]["backend"].startswith("kling/")

    posts = [seen for seen in kling.requests() if seen.method == "POST"]
    assert len(posts) == 1  # once told, the account is left alone


async def test_a_callback_without_the_vendors_signature_names_nothing(
    servers: dict[str, Vendor], tmp_path: Path
) -> None:
    atlas = servers["atlascloud"]
    atlas.say(act("accept_then_cut"), act("callback_drop"))

    async with market(tmp_path / "house", servers, unknown_after_seconds=3.0) as gateway:
        form = {"model": "atlascloud/kling-v3-pro", "prompt": "a lighthouse", "seconds": 5}
        video = (await gateway.http.post("/v1/videos", json=form)).json()
        await gateway.until(video["id"], "in_progress")
        for _ in range(250):
            if atlas.ledger():
                break
            await asyncio.sleep(0.02)
        (row,) = atlas.ledger()
        forged = {"session_id": row.id, "status": "OK", "payload": {"id": row.id, "status": "completed"}}
        reply = await gateway.http.post(row.callback_url, json=forged)
        video = await gateway.ended(video["id"])

    assert reply.status_code == 200
    assert video["error"]["code"] == "outcome_unknown"
    assert len(atlas.ledger()) == 1
