"""The UlazAI server of these tests has UlazAI's own manners: slashes, refusals before it bills, credits, a history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options
from tests.vendors.transcripts import filled, transcripts, unlike
from tests.vendors.ulazai import UlazServer

KEY = "planted-key-0123456789"
GENERATE = "/video-studio/generate/"
BODY: dict[str, Any] = {"model_slug": "kling_3_0", "prompt": "a boat", "quality_mode": "pro", "duration_seconds": 5}
PICTURE = "https://pictures.example/a.png"


@pytest.fixture
def ulaz(tmp_path: Path) -> Iterator[UlazServer]:
    with UlazServer(tmp_path, Options(pace=Pace(steps=0), keys=(KEY,))) as server:
        yield server


@pytest.fixture
def ask(ulaz: UlazServer) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"{ulaz.url}/api/v1", headers=headers, timeout=10, trust_env=False) as client:
        yield client


def job(ask: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """The end of the job that this body buys."""
    (id,) = ask.post(GENERATE, json=body).raise_for_status().json()["job_ids"]
    told: dict[str, Any] = ask.get(f"/video-studio/status/{id}/").raise_for_status().json()["job"]
    return told


# --- the transcripts --------------------------------------------------------------------------------------------------

TOLD = transcripts("ulazai")


@pytest.mark.parametrize("name", TOLD)
def test_server_keeps_to_the_transcript(name: str, tmp_path: Path) -> None:
    transcript = TOLD[name]
    options = Options(pace=Pace(steps=transcript.steps), keys=(KEY,))
    with UlazServer(tmp_path, options) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        server.say(*transcript.acts)
        values = {"$key": transcript.values["$key"], "$base": server.url}
        for one in transcript.exchanges:
            content = {"json": one.request.body} if one.request.body is not None else {}
            headers = filled(one.request.headers, values)
            answer = client.request(one.request.method, filled(one.request.path, values), headers=headers, **content)

            assert answer.status_code == one.reply.status, answer.text
            assert unlike(one.reply.body, answer.json(), values) == []
        assert server.script.left() == ()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"model_slug": "kling_9"}, 404),
        ({"prompt": ""}, 400),
        ({"prompt": "x" * 2501}, 400),
        ({"duration_seconds": 2}, 400),
        ({"duration_seconds": "5"}, 400),
        ({"quality_mode": "4k"}, 400),
        ({"quality_mode": None}, 400),
        ({"sound": "on"}, 400),
        ({"aspect_ratio": "4:3"}, 400),
        ({"aspect_ratio": "16:9", "start_frame_url": PICTURE}, 400),
        ({"input_image_urls": ["data:image/png;base64,AAAA"]}, 400),
        ({"input_image_urls": PICTURE}, 400),
        ({"start_frame_url": PICTURE, "end_frame_url": "a.png"}, 400),
    ],
)
def test_what_is_wrong_is_refused_before_it_is_billed(
    ulaz: UlazServer, ask: httpx.Client, changes: dict[str, Any], status: int
) -> None:
    answer = ask.post(GENERATE, json=BODY | changes)

    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert answer.json()["error"]
    assert ulaz.ledger() == []


def test_post_without_its_last_slash_is_a_redirect_and_buys_nothing(ulaz: UlazServer, ask: httpx.Client) -> None:
    answer = ask.post(GENERATE.rstrip("/"), json=BODY)

    assert (answer.status_code, answer.headers["location"]) == (301, f"/api/v1{GENERATE}")
    assert ulaz.ledger() == []


def test_unknown_key_is_refused(ulaz: UlazServer, ask: httpx.Client) -> None:
    assert ask.post(GENERATE, json=BODY, headers={"authorization": "Bearer another"}).status_code == 401
    assert ask.post(GENERATE, json=BODY, headers={"authorization": f"Token {KEY}"}).status_code == 401
    assert ulaz.ledger() == []


# --- what comes of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "credits"), [({"quality_mode": "std"}, 100), ({"duration_seconds": 8, "sound": True}, 320)]
)
def test_credits_are_those_of_the_documents(ask: httpx.Client, changes: dict[str, Any], credits: int) -> None:
    told = job(ask, BODY | changes)

    assert (told["status"], told["credits_charged"]) == ("completed", credits)
    assert told["result_urls"][0].endswith(".mp4")


def test_failed_job_is_told_with_success_and_refunded(ulaz: UlazServer, ask: httpx.Client) -> None:
    ulaz.say(act("fail_render", message="the provider gave up"))

    told = job(ask, BODY | {"input_image_urls": [PICTURE]})

    assert (told["status"], told["error_message"], told["credits_refunded"]) == ("failed", "the provider gave up", True)
    assert told["mode"] == "image_to_video"


def test_history_tells_the_latest_first(ulaz: UlazServer, ask: httpx.Client) -> None:
    ids = [job(ask, BODY)["job_id"] for _ in range(3)]

    told = ask.get("/video-studio/history/", params={"limit": 2}).json()["jobs"]

    assert [one["job_id"] for one in told] == ids[:0:-1]
    assert ask.get("/models/video/").json()["models"][0]["slug"] == "kling_3_0"
