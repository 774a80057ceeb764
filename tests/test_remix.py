"""`POST /v1/videos/{id}/remix`: an old request with a new prompt, and what of it may be gone by then."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers.spec import Video
from tests.api_house import START_US, House, opened, picture, served

pytestmark = pytest.mark.anyio
ADDRESS = "https://pictures.example/a.png"
DATA_URI = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def remix(house: House, video: dict[str, Any], prompt: str = "a kite in rain", **headers: str) -> httpx.Response:
    return await house.client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": prompt}, headers=headers)


async def test_everything_but_the_prompt_stays(house: House) -> None:
    source = await house.create(
        seconds=7,
        generate_audio=True,
        negative_prompt="fog",
        metadata={"shot": "12"},
        user="u-1",
        deadline_seconds=300,
        provider={"sort": "latency", "max_price": {"request": 2}},
    )

    answer = await remix(house, source)

    made, before = await house.job(answer.json()["id"]), await house.job(source["id"])
    assert (answer.status_code, made.id != before.id) == (200, True)
    assert answer.json()["remixed_from_video_id"] == source["id"]
    assert answer.json()["prompt"] == "a kite in rain"
    assert made.spec.video.negative_prompt == "fog"
    assert (made.seconds, made.spec.video.audio, made.spec.metadata) == (7, True, {"shot": "12"})
    assert (made.spec.user, made.spec.deadline_seconds) == ("u-1", 300)
    assert (made.spec.preferences.sort, made.purse_usd_micros) == ("latency", 2_000_000)


async def test_a_form_is_taken_too(house: House) -> None:
    source = await house.create()

    answer = await house.client.post(
        f"/v1/videos/{source['id']}/remix", files={"prompt": (None, b"rain")}, headers={"idempotency-key": "k"}
    )
    again = await remix(house, source, "rain", **{"idempotency-key": "k"})

    assert answer.json()["prompt"] == "rain"
    assert again.json()["id"] == answer.json()["id"]


async def test_a_picture_that_is_still_kept_is_held_anew(house: House) -> None:
    source = await house.create(input_reference=DATA_URI)
    before = (await house.job(source["id"])).spec.video

    made = (await house.job((await remix(house, source)).json()["id"])).spec.video
    house.rooms.pictures.release(before)  # as at the end of the first job

    assert made.first_frame == before.first_frame
    assert made.first_frame is not None
    assert await house.rooms.pictures.read(made.first_frame.sha256)


async def test_a_picture_with_an_address_is_fetched_again_and_must_be_the_same(house: House) -> None:
    house.strangers[ADDRESS] = served(picture())
    source = await house.create(input_reference={"image_url": ADDRESS})
    house.rooms.pictures.release((await house.job(source["id"])).spec.video)

    same = await remix(house, source)
    house.rooms.pictures.release((await house.job(source["id"])).spec.video)
    house.strangers[ADDRESS] = served(picture(width=642))
    changed = await remix(house, source)

    assert same.status_code == 200
    assert (changed.status_code, changed.json()["error"]["code"]) == (409, "input_lost")
    assert list((house.folder / "pictures").iterdir()) == []


async def test_what_is_gone_is_a_409_that_is_not_to_be_sent_again(house: House) -> None:
    without_picture = await house.create(input_reference=DATA_URI)
    house.rooms.pictures.release((await house.job(without_picture["id"])).spec.video)
    without_words = await house.create()
    await house.finish(without_words["id"], Video(url="https://files.example/a.mp4"))
    await house.store.files.erase(without_words["id"], START_US, clip=False)

    answers = [await remix(house, video) for video in (without_picture, without_words)]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert [answer.json()["error"]["code"] for answer in answers] == ["input_lost", "request_erased"]
    assert [answer.json()["error"]["param"] for answer in answers] == ["input_reference", None]
    assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}


async def test_anothers_video_is_a_404(house: House) -> None:
    unknown = "video_" + "0" * 36

    answer = await house.client.post(f"/v1/videos/{unknown}/remix", json={"prompt": "x"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_not_found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "missing_field"),
        ({"prompt": "  "}, 422, "invalid_value"),
        ({"prompt": "x", "seconds": 5}, 422, "unknown_field"),
    ],
)
async def test_only_a_prompt_is_taken(house: House, body: dict[str, Any], status: int, code: str) -> None:
    source = await house.create()

    answer = await house.client.post(f"/v1/videos/{source['id']}/remix", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_video_of_shots_says_what_to_do_instead(house: House) -> None:
    shots = [{"prompt": "a", "seconds": 3}, {"prompt": "b", "seconds": 3}]
    source = await house.create(prompt=None, seconds=None, shots=shots)

    answer = await remix(house, source)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["nearest"]) == (422, "unsupported_operation", "POST /v1/videos")
