"""The Pika server of these tests has Pika's own manners: its keys, its two shapes of error, its uploads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from tests.vendors.kit import Pace
from tests.vendors.pika import PikaServer
from tests.vendors.pika_models import FORBIDDEN
from tests.vendors.pika_transcripts import filled, transcripts, unlike
from tests.vendors.script import act
from tests.vendors.server import Options

KEY = "pk_test_0123456789"
TEXT = "pika/pika-2.5/text-to-video"
IMAGE = "pika/pika-2.5/image-to-video"
FRAMES = "pika/pikaframes/image-to-video"
FLEX = "pika/pika-h3-flex/image-to-video"
PICTURE = "https://pictures.example/a.png"


@pytest.fixture
def pika(tmp_path: Path) -> Iterator[PikaServer]:
    with PikaServer(tmp_path, Options(pace=Pace(steps=0))) as server:
        yield server


@pytest.fixture
def ask(pika: PikaServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pika.url, headers={"x-api-key": KEY}, timeout=10, trust_env=False) as client:
        yield client


def submit(ask: httpx.Client, body: Any = None, entry: str = TEXT, *, key: str | None = None) -> httpx.Response:
    headers = {"idempotency-key": key} if key else {}
    return ask.post(f"/v1/media/{entry}", json={"prompt": "x"} if body is None else body, headers=headers)


def ended(ask: httpx.Client, body: Any, entry: str) -> dict[str, Any]:
    said: dict[str, Any] = ask.get(f"/v1/media/jobs/{submit(ask, body, entry).json()['id']}").json()
    return said


# --- the transcripts --------------------------------------------------------------------------------------------------

TOLD = transcripts()


@pytest.mark.parametrize("name", TOLD)
def test_server_keeps_to_the_transcript(name: str, tmp_path: Path) -> None:
    transcript = TOLD[name]
    values: dict[str, str] = {}
    options = Options(pace=Pace(steps=transcript.steps), keys=(KEY,))
    with PikaServer(tmp_path, options) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        server.say(*transcript.acts)
        for one in (exchange for call in transcript.calls for exchange in call.exchanges):
            body = one.request.body
            content = {"content": body} if isinstance(body, str) else {"json": body} if body is not None else {}
            answer = client.request(
                one.request.method, filled(one.request.url, values), headers=one.request.headers, **content
            )

            assert one.reply.is_answered_by(answer.status_code), answer.text
            if one.reply.body is not None:
                assert unlike(one.reply.body, answer.json(), values) == []
        assert server.script.left() == ()


# --- keys and errors --------------------------------------------------------------------------------------------------


def test_without_a_key_each_submit_is_a_job_and_with_one_each_key_and_account_is(
    pika: PikaServer, ask: httpx.Client
) -> None:
    ids = [submit(ask, key=key).json()["id"] for key in (None, None, "a", "a", "b")]
    other = ask.post(f"/v1/media/{TEXT}", json={"prompt": "x"}, headers={"idempotency-key": "a", "x-api-key": "pk_b"})

    assert ids[2] == ids[3]
    assert len({*ids, other.json()["id"]}) == len(pika.ledger()) == 5


def test_another_entry_under_a_key_is_a_conflict_and_a_refused_input_binds_none(ask: httpx.Client) -> None:
    refused = submit(ask, {"prompt": ""}, key="a")
    taken = submit(ask, key="a")
    conflict = submit(ask, {"image": PICTURE, "prompt": "x"}, IMAGE, key="a")

    assert [answer.status_code for answer in (refused, taken, conflict)] == [422, 200, 409]


@pytest.mark.parametrize("headers", [{"x-api-key": ""}, {"x-api-key": "sk_1"}, {"authorization": "Key pk_1"}])
def test_a_key_that_is_none_is_refused(pika: PikaServer, headers: dict[str, str]) -> None:
    answer = httpx.get(f"{pika.url}/v1/media/jobs/1", headers=headers)

    assert (answer.status_code, answer.json()) == (401, {"message": "Invalid API key"})
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("entry", "body", "said"),
    [
        (TEXT, {"prompt": "x", "duration_s": 10}, "duration_s must be one of 5"),
        (TEXT, {"prompt": "x", "duration_s": "5"}, "duration_s must be integer"),
        (TEXT, {"prompt": "x", "duration_s": True}, "duration_s must be integer"),
        (TEXT, {"prompt": "x", "resolution": "480p"}, "resolution must be one of 720p, 1080p"),
        (TEXT, [], "the body must be an object"),
        (IMAGE, {"prompt": "x"}, "image is required"),
        (IMAGE, {"image": "data:image/png;base64,AAAA"}, "image must be a public https URL"),
        (IMAGE, {"image": "http://pictures.example/a.png"}, "image must be a public https URL"),
        (FRAMES, {"images": [PICTURE]}, "images must be 2 to 5"),
        (FRAMES, {"images": [PICTURE] * 6}, "images must be 2 to 5"),
        (FRAMES, {"images": [PICTURE] * 3, "transition_duration_s": 6}, "needs exactly 2 images"),
        (FLEX, {"prompt": "x", "duration": 4}, "duration must be 5 to 15"),
    ],
)
def test_a_bad_input_is_refused_at_submit(
    pika: PikaServer, ask: httpx.Client, entry: str, body: Any, said: str
) -> None:
    answer = submit(ask, body, entry)

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_input"
    assert said in answer.json()["error"]["message"]
    assert pika.ledger() == []


def test_what_pika_does_not_know_is_not_found(ask: httpx.Client) -> None:
    assert submit(ask, entry="pika/pika-9/text-to-video").status_code == 404
    assert ask.get("/v1/media/jobs/none").status_code == 404
    assert ask.get("/v1/media/jobs/none/content").status_code == 404
    assert ask.put("/put/none", content=b"x").status_code == 403


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_content_waits_for_the_end(pika: PikaServer, ask: httpx.Client) -> None:
    pika.say(act("stuck"))

    early = ask.get(f"/v1/media/jobs/{submit(ask).json()['id']}/content")

    assert early.status_code == 409


def test_moderation_fails_the_job_and_charges_nothing(ask: httpx.Client) -> None:
    job = ended(ask, {"prompt": f"a {FORBIDDEN} scene"}, TEXT)

    assert (job["status"], job["output"], job["error"]["code"]) == ("failed", None, "content_moderation")
    assert "billing" not in job


@pytest.mark.parametrize(
    ("entry", "body", "usd_micros"),
    [
        (TEXT, {"prompt": "x"}, 450_000),
        (TEXT, {"prompt": "x", "resolution": "720p"}, 200_000),
        (IMAGE, {"image": PICTURE, "duration_s": 10}, 900_000),
        (FRAMES, {"images": [PICTURE] * 2}, None),
    ],
)
def test_the_charge_is_the_ledgers_and_unavailable_where_no_price_is_known(
    pika: PikaServer, ask: httpx.Client, entry: str, body: Any, usd_micros: int | None
) -> None:
    billing = ended(ask, body, entry)["billing"]

    known = {"state": "settled", "charge_micro_usd": usd_micros}
    assert billing == (known if usd_micros else {"state": "unavailable"})
    assert [row.usd_micros for row in pika.ledger()] == [usd_micros]


@pytest.mark.parametrize(
    ("entry", "body", "seconds", "has_sound"),
    [
        (FRAMES, {"images": [PICTURE] * 3, "transition_duration_s": 2}, 4, False),
        (FLEX, {"prompt": "x", "aspect_ratio": "9:16"}, 5, True),
    ],
)
def test_the_clip_is_as_long_as_was_bought(
    ask: httpx.Client, entry: str, body: Any, seconds: int, has_sound: bool
) -> None:
    video = ended(ask, body, entry)["output"]["video"]

    with av.open(io.BytesIO(httpx.get(video["url"]).content)) as clip:
        assert clip.streams.video[0].frames == seconds * 24
        assert bool(clip.streams.audio) is has_sound


# --- uploads ----------------------------------------------------------------------------------------------------------


def place(ask: httpx.Client, content_type: str, size: int) -> httpx.Response:
    return ask.post("/v1/media/uploads", json={"content_type": content_type, "size_bytes": size})


def test_an_upload_gives_the_clip_its_shape(ask: httpx.Client) -> None:
    target = io.BytesIO()
    Image.new("RGB", (400, 400)).save(target, "PNG")
    given = place(ask, "image/png", len(target.getvalue())).json()
    httpx.put(given["upload_url"], content=target.getvalue(), headers=given["headers"]).raise_for_status()

    video = ended(ask, {"image": given["url"]}, IMAGE)["output"]["video"]

    assert video["width"] == video["height"] == 1080


def test_what_was_not_agreed_is_not_taken(ask: httpx.Client) -> None:
    given = place(ask, "image/png", 3).json()
    put = given["upload_url"]

    answers = [
        httpx.put(put, content=b"abc", headers={"content-type": "image/jpeg"}),
        httpx.put(put, content=b"abcd", headers=given["headers"]),
        httpx.put(put, content=b"abc", headers=given["headers"] | {"x-api-key": KEY}),
        httpx.put(put, content=b"abc", headers=given["headers"]),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403, 200]


@pytest.mark.parametrize(
    ("content_type", "size", "status"),
    [("image/png", 20_000_001, 413), ("video/mp4", 50_000_000, 200), ("text/html", 9, 415), ("image/png", 0, 422)],
)
def test_uploads_have_their_limits(ask: httpx.Client, content_type: str, size: int, status: int) -> None:
    assert place(ask, content_type, size).status_code == status
