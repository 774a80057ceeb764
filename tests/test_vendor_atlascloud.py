"""The AtlasCloud server of these tests has Atlas's own manners: refusals before it bills, 401 for any stray path."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway import catalogue, settings
from tests.vendors.atlascloud import AtlasServer
from tests.vendors.atlascloud_models import FORBIDDEN, MODELS
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.script import act
from tests.vendors.server import Options
from tests.vendors.transcripts import filled, transcripts, unlike

KEY = "planted-key-0123456789"
TEXT = {"model": "kwaivgi/kling-v3.0-pro/text-to-video", "prompt": "a boat"}
IMAGE = {
    "model": "kwaivgi/kling-v3.0-pro/image-to-video",
    "prompt": "a boat",
    "image": "https://pictures.example/a.png",
}
TURBO = {"model": "kwaivgi/kling-v3.0-turbo/text-to-video", "prompt": "a boat"}


@pytest.fixture
def atlas(tmp_path: Path) -> Iterator[AtlasServer]:
    with AtlasServer(tmp_path, Options(pace=Pace(steps=0), keys=(KEY,))) as server:
        yield server


@pytest.fixture
def ask(atlas: AtlasServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"{atlas.url}/api/v1", headers=headers, timeout=10, trust_env=False) as client:
        yield client


def prediction(ask: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """The end of the job that this body buys."""
    taken = ask.post("/model/generateVideo", json=body).raise_for_status().json()
    told: dict[str, Any] = ask.get(f"/model/prediction/{taken['data']['id']}").raise_for_status().json()["data"]
    return told


# --- the transcripts --------------------------------------------------------------------------------------------------

TOLD = transcripts("atlascloud")


@pytest.mark.parametrize("name", TOLD)
def test_server_keeps_to_the_transcript(name: str, tmp_path: Path) -> None:
    transcript = TOLD[name]
    options = Options(pace=Pace(steps=transcript.steps), keys=(KEY,))
    with AtlasServer(tmp_path, options) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        server.say(*transcript.acts)
        values = {"$key": transcript.values["$key"], "$base": server.url}
        for one in transcript.exchanges:
            form = one.request.form
            content: dict[str, Any] = {"json": one.request.body} if one.request.body is not None else {}
            if form:
                content = {"files": {form.field: ("a.png", form.text.encode(), form.content_type)}}
            headers = filled(one.request.headers, values)
            answer = client.request(one.request.method, filled(one.request.path, values), headers=headers, **content)

            assert answer.status_code == one.reply.status, answer.text
            assert unlike(one.reply.body, answer.json(), values) == []
        assert server.script.left() == ()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (TEXT | {"model": "kwaivgi/kling-v9/text-to-video"}, 404),
        ({"prompt": "a boat"}, 400),
        (TEXT | {"prompt": ""}, 400),
        (TEXT | {"prompt": "x" * 2501}, 400),
        (TEXT | {"duration": "5"}, 400),
        (TEXT | {"duration": 16}, 400),
        (TEXT | {"aspect_ratio": "4:3"}, 400),
        (TEXT | {"sound": "on"}, 400),
        (TEXT | {"cfg_scale": 1.5}, 400),
        (TURBO | {"duration": 7}, 400),
        (TURBO | {"resolution": "1080P"}, 400),
        (IMAGE | {"image": ""}, 400),
        (IMAGE | {"webhook_url": "http://us.example/cb"}, 400),
        (IMAGE | {"webhook_url": "https://us.example/" + "x" * 1024}, 400),
        (IMAGE | {"webhook_url": 5}, 400),
    ],
)
def test_what_is_wrong_is_refused_before_it_is_billed(
    atlas: AtlasServer, ask: httpx.Client, body: dict[str, Any], status: int
) -> None:
    answer = ask.post("/model/generateVideo", json=body)

    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (status, status, None)
    assert answer.json()["msg"]
    assert atlas.ledger() == []


def test_wrong_path_is_401_with_a_good_key_and_a_bad_key_is_401_everywhere(
    atlas: AtlasServer, ask: httpx.Client
) -> None:
    stray = [ask.post("/v1/model/generateVideo", json=TEXT), ask.get("/model/predictions/1"), ask.delete("/model/1")]
    bad = {"authorization": "Bearer another"}

    assert [answer.status_code for answer in stray] == [401] * 3
    assert ask.post("/model/generateVideo", json=TEXT, headers=bad).status_code == 401
    assert httpx.get(f"{atlas.url}/public/v1/balance", headers=bad, trust_env=False).status_code == 401
    assert [ask.get(path, headers=bad).status_code for path in ("/models", "/webhooks/jwks.json")] == [200, 200]


# --- what comes of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "usd_micros"),
    [
        (TEXT | {"duration": 8, "sound": True}, 8 * 142_800),
        (TEXT, 5 * 95_200),
        (IMAGE | {"model": "kwaivgi/kling-v3.0-std/image-to-video", "duration": 3}, 3 * 71_400),
        (TURBO | {"resolution": "1080p"}, 5 * 119_000),
        (TURBO, 5 * 95_200),
        (TEXT | {"model": "kwaivgi/kling-v3.0-4k/text-to-video", "sound": True}, 5 * 357_000),
        (TEXT | {"model": "kwaivgi/kling-video-o3-pro/text-to-video"}, None),
    ],
)
def test_ledger_knows_the_price(
    atlas: AtlasServer, ask: httpx.Client, body: dict[str, Any], usd_micros: int | None
) -> None:
    told = prediction(ask, body)

    assert told["status"] == "completed"
    assert [(row.id, row.usd_micros) for row in atlas.ledger()] == [(told["id"], usd_micros)]


def test_failures_show_in_a_200_and_say_their_code(atlas: AtlasServer, ask: httpx.Client) -> None:
    atlas.say(act("fail_render", word="timeout", after=1))

    moderated = prediction(ask, TEXT | {"prompt": FORBIDDEN})
    timed_out = prediction(ask, TEXT)
    unread = prediction(ask, IMAGE | {"image": "data:image/png;base64,bm90IGEgcGljdHVyZQ=="})

    assert (moderated["status"], moderated["error_code"]) == ("failed", 1039)
    assert timed_out["status"] == "timeout"
    assert (unread["status"], unread["outputs"]) == ("failed", None)


def test_result_address_reads_the_same_job(ask: httpx.Client) -> None:
    told = prediction(ask, TEXT)

    assert ask.get(f"/model/result/{told['id']}").json()["data"] == told


def test_callback_is_signed_by_a_key_that_is_told(atlas: AtlasServer, ask: httpx.Client) -> None:
    with Receiver() as doorbell:
        told = prediction(ask, TEXT | {"webhook_url": f"{doorbell.url}/cb/t"})
        (ring,) = doorbell.wait()
    (jwk,) = ask.get("/webhooks/jwks.json").json()["keys"]

    headers, body = ring.headers, ring.json()
    assert (jwk["kid"], jwk["crv"]) == (headers["x-atlascloud-key-id"], "Ed25519")
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
    signature = base64.urlsafe_b64decode(headers["x-atlascloud-signature-ed25519"] + "==")
    public.verify(signature, headers["x-atlascloud-timestamp"].encode() + b"." + ring.body)
    assert (body["session_id"], body["event_type"], body["status"]) == (told["id"], "video.task.terminal", "OK")
    assert body["payload"]["outputs"] == told["outputs"]
    assert atlas.ledger()[0].token == "t"


def test_every_model_of_the_catalogue_is_sold(atlas: AtlasServer) -> None:
    rows = catalogue.load([settings.shipped() / "catalogue" / "atlascloud.toml"]).backends

    assert {id for row in rows for id in row.model_id.values()} <= MODELS.keys()
