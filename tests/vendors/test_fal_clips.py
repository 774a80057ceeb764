"""What the fal server of these tests hands out and sends: clips, files, callbacks, the list, prices."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from tests.vendors import ed25519
from tests.vendors.fal import FalServer
from tests.vendors.fal_caller import INPUT, PIKA, V3_PICTURE, V3_TEXT, FalCaller, picture
from tests.vendors.fal_models import ENDPOINTS, usd_micros_of
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.script import act
from tests.vendors.server import Options


@pytest.fixture
def at_once(tmp_path: Path) -> Iterator[FalServer]:
    """One whose jobs are done when they are submitted."""
    with FalServer(tmp_path, Options(pace=Pace(steps=0))) as server:
        yield server


@pytest.fixture
def ask_at_once(at_once: FalServer) -> Iterator[FalCaller]:
    with FalCaller(at_once.url) as caller:
        yield caller


@pytest.mark.parametrize("audio", [True, False])
def test_the_clip_is_a_real_one_as_long_as_was_bought(ask_at_once: FalCaller, audio: bool) -> None:
    ask = ask_at_once
    body = {"prompt": "x", "duration": "3", "aspect_ratio": "9:16", "generate_audio": audio}
    video = ask.result(ask.job(body)).json()["video"]

    whole, part = httpx.get(video["url"]), httpx.get(video["url"], headers={"range": "bytes=4-7"})

    assert len(whole.content) == video["file_size"]
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{video['file_size']}"
    with av.open(io.BytesIO(whole.content)) as clip:
        (stream,) = clip.streams.video
        assert (stream.width, stream.height, stream.frames) == (180, 320, 72)
        assert stream.average_rate is not None
        assert float(stream.average_rate) == 24
        assert len(clip.streams.audio) == int(audio)


def test_a_file_can_be_missing_cut_or_something_else(at_once: FalServer, ask_at_once: FalCaller) -> None:
    url = ask_at_once.result(ask_at_once.job()).json()["video"]["url"]
    at_once.say(act("status", on="file", status=403), act("half_reply", on="file"), act("html", on="file"))

    assert httpx.get(url).status_code == 403
    with pytest.raises(httpx.TransportError):
        httpx.get(url)
    assert httpx.get(url).headers["content-type"] == "text/html"


def test_an_uploaded_picture_gives_the_clip_its_shape(ask_at_once: FalCaller) -> None:
    ask = ask_at_once
    asked = {"content_type": "image/png", "file_name": "a.png"}
    put = ask.http.post("/storage/upload/initiate", json=asked).json()
    ask.http.put(put["upload_url"], content=picture(400, 400)).raise_for_status()

    video = ask.result(ask.job({"prompt": "x", "start_image_url": put["file_url"]}, V3_PICTURE)).json()["video"]

    with av.open(io.BytesIO(httpx.get(video["url"]).content)) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (180, 180)


def test_a_callback_carries_the_result_and_a_signature_that_the_published_key_confirms(
    at_once: FalServer, ask_at_once: FalCaller
) -> None:
    with Receiver() as gateway:
        id = ask_at_once.job(callback=f"{gateway.url}/callbacks/t?a=b")["request_id"]
        (call,) = gateway.wait()

    told = call.json()
    (key,) = httpx.get(f"{at_once.url}/.well-known/jwks.json").json()["keys"]
    names = ("x-fal-webhook-request-id", "x-fal-webhook-user-id", "x-fal-webhook-timestamp")
    signed = "\n".join([*(call.headers[name] for name in names), hashlib.sha256(call.body).hexdigest()]).encode()
    signature = bytes.fromhex(call.headers["x-fal-webhook-signature"])
    assert call.target == "/callbacks/t?a=b"
    assert (told["request_id"], told["status"]) == (id, "OK")
    assert told["payload"]["video"]["url"].startswith(at_once.url)
    assert ed25519.verify(base64.urlsafe_b64decode(key["x"] + "="), signed, signature)


def test_a_callback_of_a_failure_carries_the_models_error(ask_at_once: FalCaller) -> None:
    with Receiver() as gateway:
        ask_at_once.job({"prompt": "x", "duration": 5}, callback=gateway.url)
        told = gateway.wait()[0].json()

    assert (told["status"], told["error"]) == ("ERROR", "Invalid status code: 422")
    assert told["payload"]["detail"][0]["type"] == "one_of"


def test_the_list_shows_ended_requests_only_page_by_page(at_once: FalServer, ask_at_once: FalCaller) -> None:
    at_once.say(act("stuck", after=3))
    ask = ask_at_once
    ids = [ask.job(INPUT | {"seed": n})["request_id"] for n in range(4)]
    where = "/v1/models/requests/by-endpoint"

    first = ask.get(where, params={"endpoint_id": f"{V3_TEXT},{PIKA}", "limit": "2", "expand": "payloads"}).json()
    rest = ask.get(where, params={"endpoint_id": V3_TEXT, "limit": "2", "cursor": first["next_cursor"]}).json()

    assert [item["request_id"] for item in first["items"] + rest["items"]] == ids[2::-1]
    assert first["items"][0]["json_input"] == INPUT | {"seed": 2}
    assert (first["has_more"], first["next_cursor"], rest["has_more"]) == (True, "Mg==", False)
    for wrong in ({}, {"endpoint_id": PIKA, "limit": "101"}, {"endpoint_id": PIKA, "start": "yesterday"}):
        assert ask.get(where, params=wrong).status_code == 400


def test_a_run_bills_waits_and_answers_with_the_result(at_once: FalServer, ask_at_once: FalCaller) -> None:
    answer = ask_at_once.submit(endpoint=f"run/{V3_TEXT}")

    assert answer.json()["video"]["file_name"] == "output.mp4"
    assert [row.endpoint for row in at_once.ledger()] == [V3_TEXT]


@pytest.mark.parametrize(
    ("endpoint", "body", "usd"),
    [
        (V3_TEXT, {"duration": "5"}, 0.84),  # audio is on unless it is refused
        (V3_TEXT, {"duration": "5", "generate_audio": False}, 0.56),
        ("fal-ai/kling-video/v3/turbo/standard/text-to-video", {"duration": "10"}, 1.12),
        (PIKA, {"duration": 10, "resolution": "1080p"}, 0.90),
        (PIKA, {"resolution": "8k"}, None),
    ],
)
def test_the_ledger_knows_what_a_clip_costs(endpoint: str, body: dict[str, Any], usd: float | None) -> None:
    assert usd_micros_of(ENDPOINTS[endpoint], body) == (None if usd is None else round(usd * 1_000_000))
