"""The WaveSpeed server of these tests has WaveSpeed's own manners: early refusals, envelopes, a flat signed webhook."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.vendors.fal_caller import picture
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.server import Options
from tests.vendors.wavespeed import WaveSpeedServer

PRO = "kwaivgi/kling-v3.0-pro"
TURBO = "kwaivgi/kling-v3-turbo-pro"
SHOTS = [{"prompt": "a", "duration": 2}, {"prompt": "b", "duration": 3}]
PNG = "https://pictures.example/a.png"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WaveSpeedServer]:
    with WaveSpeedServer(tmp_path, Options(pace=Pace(steps=2))) as server:
        yield server


@pytest.fixture
def ask(server: WaveSpeedServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/api/v3", headers={"authorization": "Bearer k"}, trust_env=False) as ask:
        yield ask


def submitted(ask: httpx.Client, body: Any = None, model: str = f"{PRO}/text-to-video", **more: Any) -> dict[str, Any]:
    answer = ask.post(f"/{model}", json=body or {"prompt": "a cat"}, **more)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("text-to-video", {"prompt": "x", "duration": "5"}, "duration"),
        ("text-to-video", {"prompt": "x", "duration": 16}, "duration"),
        ("text-to-video", {"prompt": "x", "duration": True}, "duration"),
        ("text-to-video", {"prompt": "x", "sound": "on"}, "sound"),
        ("text-to-video", {"prompt": "x" * 2501}, "prompt"),
        ("text-to-video", {"prompt": "x", "cfg_scale": 2}, "cfg_scale"),
        ("text-to-video", {"prompt": "x", "aspect_ratio": "4:3"}, "aspect_ratio"),
        ("text-to-video", {"prompt": "x", "multi_prompt": SHOTS}, "exactly one"),
        ("text-to-video", {"duration": 5}, "exactly one"),
        ("text-to-video", {"multi_prompt": [{"index": 1, **SHOTS[0]}], "duration": 3}, "multi_prompt"),
        ("text-to-video", {"multi_prompt": SHOTS, "duration": 6}, "add up"),
        ("image-to-video", {"prompt": "x"}, "image"),
        ("image-to-video", {"multi_prompt": SHOTS, "image": PNG, "end_image": PNG}, "end_image"),
    ],
)
def test_a_bad_input_is_refused_at_submit_and_not_billed(
    server: WaveSpeedServer, ask: httpx.Client, model: str, body: dict[str, Any], said: str
) -> None:
    answer = ask.post(f"/{PRO}/{model}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert said in answer.json()["message"]
    assert server.ledger() == []


def test_good_inputs_are_taken_and_their_price_is_known_where_it_is(server: WaveSpeedServer, ask: httpx.Client) -> None:
    submitted(ask, {"prompt": "x", "duration": 10, "sound": True})
    submitted(ask, {"multi_prompt": SHOTS, "duration": 5, "no_such_field": 1})
    submitted(ask, {"image": PNG}, f"{TURBO}/image-to-video")
    submitted(ask, {"prompt": "x"}, "kwaivgi/kling-v3.0-4k/text-to-video")

    assert [row.usd_micros for row in server.ledger()] == [1_680_000, 560_000, 700_000, None]


def test_a_prediction_is_created_then_processing_then_completed(ask: httpx.Client) -> None:
    data = submitted(ask)

    answers = [ask.get(data["urls"]["get"]).json()["data"] for _ in range(3)]

    assert (data["status"], data["outputs"]) == ("created", [])
    assert [answer["status"] for answer in answers] == ["created", "processing", "completed"]
    assert answers[2]["outputs"][0].endswith("/output.mp4")
    assert ask.get(f"/predictions/{data['id']}").json()["data"]["id"] == data["id"]


def test_without_a_key_or_a_model_there_is_nothing(ask: httpx.Client) -> None:
    assert ask.post(f"/{PRO}/text-to-video", json={"prompt": "x"}, headers={"authorization": ""}).status_code == 401
    assert ask.post("/kwaivgi/kling-v9/text-to-video", json={"prompt": "x"}).status_code == 404
    assert ask.get("/predictions/none/result").json() == {"code": 404, "message": "Not found"}


def test_a_picture_that_is_too_small_fails_the_task_and_not_the_submit(ask: httpx.Client) -> None:
    ticket = ask.post("/media/uploads", json={"filename": "a.png", "size": 5, "content_type": "image/png"}).json()
    upload, address = ticket["data"]["upload"], ticket["data"]["download_url"]
    httpx.put(upload["url"], content=picture(200, 200), headers=upload["headers"]).raise_for_status()

    data = submitted(ask, {"prompt": "x", "image": address}, f"{PRO}/image-to-video")
    ended = [ask.get(data["urls"]["get"]).json()["data"] for _ in range(3)][2]

    assert (ended["status"], ended["code"]) == ("failed", 1401)


def test_the_list_is_paged_filtered_and_shows_the_latest_first(ask: httpx.Client) -> None:
    ids = [submitted(ask)["id"] for _ in range(3)]
    other = submitted(ask, None, f"{TURBO}/text-to-video")

    def listed(**more: Any) -> list[str]:
        answer = ask.post("/predictions", json={"page": 1, "page_size": 100, **more}).json()
        assert "input" not in answer["data"]["items"][0] if answer["data"]["items"] else True
        return [item["id"] for item in answer["data"]["items"]]

    assert listed() == [other["id"], *reversed(ids)]
    assert listed(page=2, page_size=3) == [ids[0]]
    assert listed(model=f"{TURBO}/text-to-video") == [other["id"]]
    assert listed(created_before="2020-01-01T00:00:00Z") == []
    assert ask.post("/predictions", json={"page": 1, "page_size": 101}).status_code == 400
    ask.post("/predictions/delete", json={"ids": [other["id"]]})
    assert listed() == list(reversed(ids))


def test_the_webhook_is_flat_signed_and_told_once(server: WaveSpeedServer, ask: httpx.Client) -> None:
    with Receiver() as gateway:
        data = submitted(ask, params={"webhook": f"{gateway.url}/callbacks/a-token"})
        server.finish()
        (call,) = gateway.wait()

    secret = ask.get("/webhook/secret").json()["data"]["secret"]
    version, _, digest = call.headers["webhook-signature"].partition(",")
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    said = call.json()
    assert (said["id"], said["status"], said["input"]) == (data["id"], "completed", {"prompt": "a cat"})
    assert version == "v3"
    assert digest == hmac.new(secret.removeprefix("whsec_").encode(), signed, hashlib.sha256).hexdigest()
    assert abs(time.time() - int(call.headers["webhook-timestamp"])) < 60
    assert server.ledger()[0].token == "a-token"


def test_a_webhook_that_is_not_https_is_refused(server: WaveSpeedServer, ask: httpx.Client) -> None:
    answer = ask.post(f"/{PRO}/text-to-video", json={"prompt": "x"}, params={"webhook": "http://gw.example/cb"})

    assert answer.status_code == 400
    assert server.ledger() == []
