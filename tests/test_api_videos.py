"""`/v1/videos`: what is bought, what is shown, what is refused, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.health import SECOND_US
from gateway.jobs import JobState
from gateway.router import Decision
from gateway.store.spec import StoreUnavailable
from providers.spec import Camera
from tests.api_house import START_US, House, opened, picture, served

pytestmark = pytest.mark.anyio

OPENAI_FIELDS = {
    "id",
    "object",
    "created_at",
    "completed_at",
    "expires_at",
    "model",
    "progress",
    "prompt",
    "remixed_from_video_id",
    "seconds",
    "size",
    "status",
    "error",
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


# --- create -----------------------------------------------------------------------------------------------------------


async def test_a_created_video_is_openais_object_with_our_fields_after_it(house: House) -> None:
    video = await house.create(metadata={"shot": "12"})

    assert set(video) >= OPENAI_FIELDS
    assert (video["object"], video["status"], video["progress"]) == ("video", "queued", 0)
    assert (video["seconds"], video["size"]) == ("5", "1920x1080")
    assert video["created_at"] == START_US // SECOND_US
    assert video["routing"]["backend"] == "fal/kling-v3-pro"
    assert video["routing"]["estimated_cost_usd"] == 0.56
    assert video["usage"] == {"cost_usd": None}
    assert video["metadata"] == {"shot": "12"}
    assert video["warnings"] == ["generate_audio was not given: the clip is silent"]


async def test_the_job_is_on_disk_with_its_decision_and_quote_before_the_answer(house: House) -> None:
    video = await house.create(provider={"max_price": {"request": 0.9}}, user="u-1", deadline_seconds=160)

    job = await house.job(video["id"])
    kept = await house.store.decision(video["id"])
    assert (job.caller, job.state, job.spec.user) == ("local", JobState.QUEUED, "u-1")
    assert (job.reserved_usd_micros, job.purse_usd_micros) == (560_000, 900_000)
    assert job.deadline_us - job.created_us == 160 * SECOND_US
    assert kept is not None
    assert msgspec.json.decode(kept, type=Decision).ranked[0].backend == "fal/kling-v3-pro"


async def test_a_purse_that_nobody_sets_is_two_quotes(house: House) -> None:
    job = await house.job((await house.create())["id"])

    assert job.purse_usd_micros == 2 * 560_000


async def test_the_worker_is_woken_for_what_was_accepted(house: House) -> None:
    woken: list[str] = []
    house.store.live.on_wake(woken.append)

    video = await house.create()

    assert woken == [video["id"]]


async def test_every_field_reaches_the_job(house: House) -> None:
    for name in ("a", "b"):
        house.strangers[f"https://pictures.example/{name}.png"] = served(picture(width=640, height=360))

    video = await house.create(
        prompt="a kite",
        negative_prompt="rain",
        cfg_scale=0.5,
        generate_audio=True,
        seconds="6",
        frame_images=[
            {"image_url": {"url": "https://pictures.example/a.png"}, "frame_type": "first_frame"},
            {"image_url": "https://pictures.example/b.png", "frame_type": "last_frame", "type": "image_url"},
        ],
        provider={
            "only": ["fal"],
            "sort": "latency",
            "preferred_max_latency": {"p90": 900},
            "options": {"fal": {"x": 1}},
        },
    )

    spec = (await house.job(video["id"])).spec
    asked = spec.video
    assert (asked.prompt, asked.negative_prompt, asked.cfg_scale, asked.audio, asked.seconds) == (
        "a kite",
        "rain",
        0.5,
        True,
        6,
    )
    assert asked.first_frame is not None
    assert asked.first_frame.source_url == "https://pictures.example/a.png"
    assert asked.last_frame is not None
    assert asked.last_frame.source_url == "https://pictures.example/b.png"
    assert asked.options == {"fal": {"x": 1}}
    assert (spec.preferences.only, spec.preferences.sort) == (("fal",), "latency")
    assert spec.preferences.max_latency_seconds == {"p90": 900.0}


async def test_a_file_in_a_form_becomes_the_first_frame(house: House) -> None:
    answer = await house.client.post(
        "/v1/videos",
        data={"model": "kling-v3-pro", "prompt": "push in", "seconds": "5"},
        files={"input_reference": ("upload", picture("JPEG"), "application/octet-stream")},
    )

    job = await house.job(answer.json()["id"])
    assert job.spec.video.first_frame is not None
    assert job.spec.video.first_frame.content_type == "image/jpeg"
    assert [file.name for file in (house.folder / "pictures").iterdir()] == [job.spec.video.first_frame.sha256]


async def test_an_alias_fills_its_defaults_and_keeps_its_name(house: House) -> None:
    video = await house.create(model="sora-2", seconds=None)

    assert (video["model"], video["seconds"]) == ("sora-2", "4")
    assert video["routing"]["backend"] in ("fal/kling-v3-standard", "fal/kling-v3-pro")


# --- refusals ---------------------------------------------------------------------------------------------------------


IMPOSSIBLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("too long", {"seconds": 20}, "seconds", "3–15 s"),
    ("no camera", {"camera": Camera.ORBIT_LEFT}, "camera", "camera"),
    ("excluded", {"provider": {"ignore": ["fal"]}}, "provider.ignore", "provider.ignore"),
    ("too dear", {"provider": {"max_price": {"request": 0.1}}}, "provider.max_price", "$0.56"),
    ("too slow", {"provider": {"preferred_max_latency": {"p90": 1}}}, "provider.preferred_max_latency.p90", "p90"),
]


@pytest.mark.parametrize(("name", "fields", "param", "said"), IMPOSSIBLE, ids=[row[0] for row in IMPOSSIBLE])
async def test_what_no_backend_can_do_is_refused_with_reasons_and_nothing_is_kept(
    house: House, name: str, fields: dict[str, Any], param: str, said: str
) -> None:
    body = {"model": "kling-v3-pro", "prompt": "a kite", "seconds": 5, **fields}

    answer = await house.client.post("/v1/videos", json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, param), answer.text
    assert said in error["message"]
    assert [refusal["backend"] for refusal in error["refusals"]] == ["fal/kling-v3-pro"]
    assert error["refusals"][0]["code"] == error["code"]
    assert (await house.store.list_jobs("local", after=None, limit=1))[0] == ()


async def test_a_refused_request_leaves_no_picture_behind(house: House) -> None:
    files = {"input_reference": ("a.png", picture(), "image/png")}

    answer = await house.client.post(
        "/v1/videos", data={"model": "kling-v3-pro", "prompt": "x", "seconds": "20"}, files=files
    )

    assert answer.status_code == 422
    assert list((house.folder / "pictures").iterdir()) == []


PICTURES: list[tuple[str, str, int, str]] = [
    ("a GIF", "https://pictures.example/a.gif", 422, "unsupported_image_format"),
    ("a dead address", "https://pictures.example/gone.png", 422, "input_fetch_failed"),
    ("a private address", "https://10.0.0.1/a.png", 422, "url_not_allowed"),
    ("a cloud's metadata", "https://192.0.0.192/latest", 422, "url_not_allowed"),
    ("loopback as IPv6", "https://[::1]/a.png", 422, "url_not_allowed"),
    ("6to4 of loopback", "https://[2002:7f00:1::]/a.png", 422, "url_not_allowed"),
    ("plain http", "http://pictures.example/a.png", 422, "url_not_allowed"),
    ("a file", "file:///etc/passwd", 422, "url_not_allowed"),
    ("ftp", "ftp://pictures.example/a.png", 422, "url_not_allowed"),
    ("a password", "https://user:pw@pictures.example/a.png", 422, "url_not_allowed"),
    ("another port", "https://pictures.example:22/a.png", 422, "url_not_allowed"),
    ("5,000 characters", "https://pictures.example/" + "a" * 5000, 422, "url_not_allowed"),
    ("no address", "kite.png", 422, "url_not_allowed"),
    ("bad base64", "data:image/png;base64,@@", 422, "invalid_image"),
]


@pytest.mark.parametrize(("name", "address", "status", "code"), PICTURES, ids=[row[0] for row in PICTURES])
async def test_a_picture_that_is_not_taken_is_named(
    house: House, name: str, address: str, status: int, code: str
) -> None:
    house.strangers["https://pictures.example/a.gif"] = served(picture("GIF"))

    body = {"model": "kling-v3-pro", "prompt": "x", "input_reference": {"image_url": address}}
    answer = await house.client.post("/v1/videos", json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, "input_reference"), answer.text


async def test_a_picture_too_large_for_the_room_is_413(house: House) -> None:
    body = {"model": "kling-v3-pro", "prompt": "x", "input_reference": "data:image/png;base64," + "A" * (29 << 20)}

    answer = await house.client.post("/v1/videos", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "input_too_large")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (picture("JPEG", width=200, height=200), "picture_too_small"),
        (picture() + bytes(12_000_000), "picture_too_large"),
    ],
    ids=["200 x 200", "12 MB"],
)
async def test_a_picture_that_no_backend_takes_is_refused_by_the_catalogue(
    house: House, data: bytes, code: str
) -> None:
    form = {"model": "kling-v3-pro", "prompt": "x", "seconds": "5"}

    answer = await house.client.post("/v1/videos", data=form, files={"input_reference": ("a", data)})

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert answer.json()["error"]["refusals"]


async def test_one_bad_picture_of_several_lets_go_of_the_good_ones(house: House) -> None:
    house.strangers["https://pictures.example/a.png"] = served(picture())
    frames = [
        {"image_url": "https://pictures.example/a.png", "frame_type": "first_frame"},
        {"image_url": "https://pictures.example/missing.png", "frame_type": "last_frame"},
    ]

    answer = await house.client.post(
        "/v1/videos", json={"model": "kling-v3-pro", "prompt": "x", "frame_images": frames}
    )

    assert answer.json()["error"]["param"] == "frame_images"
    assert list((house.folder / "pictures").iterdir()) == []


async def test_a_model_without_a_credential_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path, configured=()) as house:
        answer = await house.client.post("/v1/videos", json={"model": "kling-v3-pro", "prompt": "x"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "no_credential")


async def test_backends_that_all_rest_are_a_503_that_may_be_tried_again(house: House) -> None:
    until = START_US + 10_000 * SECOND_US
    house.rooms.health.block("fal", "main", until)

    answer = await house.client.post("/v1/videos", json={"model": "kling-v3-pro", "prompt": "x"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "5"


async def test_a_store_that_cannot_write_takes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def accept(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(house.store, "accept", accept)
    files = {"input_reference": ("a.png", picture())}

    answer = await house.client.post("/v1/videos", data={"model": "kling-v3-pro", "prompt": "x"}, files=files)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert answer.headers["x-should-retry"] == "false"  # it may be on disk after all: a second POST could buy twice
    assert list((house.folder / "pictures").iterdir()) == []


async def test_a_defect_of_ours_shows_a_number_and_no_traceback(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def accept(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(house.store, "accept", accept)

    answer = await house.client.post("/v1/videos", json={"model": "kling-v3-pro", "prompt": "x"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


# --- once, by key -----------------------------------------------------------------------------------------------------


async def test_the_same_key_and_request_is_the_same_job(house: House) -> None:
    headers = {"idempotency-key": "order-1"}
    first = await house.client.post(
        "/v1/videos", json={"model": "kling-v3-pro", "prompt": "x", "seconds": 5}, headers=headers
    )

    again = await house.client.post(
        "/v1/videos", json={"seconds": "5", "prompt": "x", "model": "kling-v3-pro"}, headers=headers
    )
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.json() == first.json()


async def test_a_replay_holds_its_picture_only_once(house: House) -> None:
    form = {"model": "kling-v3-pro", "prompt": "x", "seconds": "5"}
    once = {"idempotency-key": "order-1"}
    answers = [
        await house.client.post("/v1/videos", data=form, files={"input_reference": ("a", picture())}, headers=once)
        for _ in range(3)
    ]
    job = await house.job(answers[2].json()["id"])
    assert len(list((house.folder / "pictures").iterdir())) == 1

    house.rooms.pictures.release(job.spec.video)  # as the worker does at the job's end

    assert list((house.folder / "pictures").iterdir()) == []


async def test_the_same_key_with_another_request_is_refused(house: House) -> None:
    headers = {"idempotency-key": "order-1"}
    body = {"model": "kling-v3-pro", "prompt": "x"}
    await house.client.post("/v1/videos", json=body, headers=headers)

    answer = await house.client.post("/v1/videos", json=body | {"seed": None, "prompt": "y"}, headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")


async def test_fifty_at_once_with_one_key_are_one_job(house: House) -> None:
    body = {"model": "kling-v3-pro", "prompt": "x"}
    headers = {"idempotency-key": "order-1"}

    answers = await asyncio.gather(*(house.client.post("/v1/videos", json=body, headers=headers) for _ in range(50)))

    taken = [answer for answer in answers if answer.status_code == 200]
    assert len({answer.json()["id"] for answer in taken}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in taken) == 1
    for told_to_wait in (answer for answer in answers if answer not in taken):
        assert (told_to_wait.status_code, told_to_wait.json()["error"]["code"]) == (409, "idempotency_in_progress")
        assert (told_to_wait.headers["x-should-retry"], told_to_wait.headers["retry-after"]) == ("true", "1")
    assert len((await house.store.list_jobs("local", after=None, limit=9))[0]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "caf\xe9"])
async def test_a_key_of_another_shape_is_a_400(house: House, key: str) -> None:
    answer = await house.client.post(
        "/v1/videos",
        json={"model": "kling-v3-pro", "prompt": "x"},
        headers=[(b"idempotency-key", key.encode("latin-1"))],
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_idempotency_key")


# --- the dry run ------------------------------------------------------------------------------------------------------


async def test_a_dry_run_shows_the_whole_decision_and_buys_nothing(house: House) -> None:
    answer = await house.client.post("/v1/videos/route", json={"model": "sora-2", "prompt": "x"})

    decision = msgspec.json.decode(answer.content, type=Decision)
    assert {ranked.backend for ranked in decision.ranked} == {"fal/kling-v3-standard", "fal/kling-v3-pro"}
    assert (await house.store.list_jobs("local", after=None, limit=1))[0] == ()


async def test_a_dry_run_of_the_impossible_is_an_answer_too(house: House) -> None:
    body = {"model": "kling-v3-pro", "prompt": "x", "seconds": "20"}
    files = {"input_reference": ("a.png", picture())}

    answer = await house.client.post("/v1/videos/route", data=body, files=files)

    decision = msgspec.json.decode(answer.content, type=Decision)
    assert (answer.status_code, decision.ranked) == (200, ())
    assert decision.refusals[0].nearest == "seconds=15"
    assert list((house.folder / "pictures").iterdir()) == []
