"""`POST /v1/videos/{id}/feedback`: who may say what of which clip, and what the routing makes of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import app, ids, keys
from gateway.settings import Settings, StoreSettings
from gateway.store.spec import Feedback, StoreUnavailable
from providers.spec import Fault, Kind, Verdict, Video
from tests.api_house import House, opened

pytestmark = pytest.mark.anyio
PRO, STANDARD = "fal/kling-v3-pro", "fal/kling-v3-standard"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def made(house: House, **fields: Any) -> str:
    """A completed video's id."""
    video = await house.create(**fields)
    await house.finish(video["id"], Video(url="https://files.example/a.mp4"))
    return str(video["id"])


async def say(house: House, video_id: str, body: Any, **words: Any) -> httpx.Response:
    return await house.client.post(f"/v1/videos/{video_id}/feedback", json=body, **words)


def kept(house: House, backend: str = PRO) -> tuple[int, int]:
    judged = house.rooms.acceptance.judged(backend)
    return judged.accepted, judged.rejected


# --- what is taken ----------------------------------------------------------------------------------------------------


async def test_a_word_on_a_completed_video_is_on_disk_and_counts_for_the_backend_that_made_it(house: House) -> None:
    video_id = await made(house)

    answer = await say(house, video_id, {"accepted": True, "note": "the light is right"})

    assert answer.status_code == 200
    assert answer.json() == {"id": video_id, "object": "video.feedback", "accepted": True}
    assert await house.store.feedback_counts() == ((PRO, 1, 0),)
    assert (kept(house), kept(house, STANDARD)) == ((1, 0), (0, 0))


async def test_the_last_word_counts_once_however_often_it_is_said(house: House) -> None:
    video_id = await made(house)

    for accepted in (True, True, False, False, True, False):
        assert (await say(house, video_id, {"accepted": accepted})).json()["accepted"] is accepted

    assert await house.store.feedback_counts() == ((PRO, 0, 1),)
    assert kept(house) == (0, 1)


async def test_words_at_once_leave_the_counts_as_the_store_has_them(house: House) -> None:
    video_ids = [await made(house) for _ in range(3)]
    words = [(video_id, number % 2 == 0) for number in range(7) for video_id in video_ids]

    await asyncio.gather(*(say(house, video_id, {"accepted": accepted}) for video_id, accepted in words))

    ((backend, *counts),) = await house.store.feedback_counts()
    assert (backend, sum(counts)) == (PRO, 3)
    assert list(kept(house)) == counts


async def test_a_new_process_counts_what_was_said_before(house: House, tmp_path: Path) -> None:
    for accepted in (True, True, False):
        await say(house, await made(house), {"accepted": accepted})
    await house.store.close()

    settings = Settings(store=StoreSettings(url=f"sqlite:///{tmp_path}/filmgate.db"))
    async with app.opened(settings, work=False) as gateway:
        judged = gateway.rooms.acceptance.judged(PRO)

    assert (judged.accepted, judged.rejected) == (2, 1)


async def test_what_was_said_orders_the_next_clip_by_its_kept_price(house: House) -> None:
    request = {"model": "sora-2", "prompt": "x", "provider": {"sort": "kept_price"}}
    before = (await house.client.post("/v1/videos/route", json=request)).json()
    for _ in range(6):
        await say(house, await made(house, model="kling-v3-standard"), {"accepted": False})
        await say(house, await made(house), {"accepted": True})

    after = (await house.client.post("/v1/videos/route", json=request)).json()
    bought = await house.create(**request)

    assert [ranked["backend"] for ranked in before["ranked"]] == [STANDARD, PRO]
    assert [ranked["backend"] for ranked in after["ranked"]] == [PRO, STANDARD]
    assert after["sort"] == "kept_price"
    assert bought["routing"]["backend"] == PRO
    assert "(1.4 tries; 6 of 6 kept); lowest of 2" in bought["routing"]["reason"]
    assert (await house.job(bought["id"])).spec.preferences.sort == "kept_price"


# --- what is not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code"), [("queued", "video_not_finished"), ("running", "video_not_finished"), ("failed", "video_failed")]
)
async def test_there_is_nothing_to_say_of_a_clip_that_is_not_there(house: House, end: str, code: str) -> None:
    video_id = (await house.create())["id"]
    if end == "running":
        await house.start(video_id)
    if end == "failed":
        await house.fail(video_id, Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE), code="failed")

    answer = await say(house, video_id, {"accepted": True})

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, code)
    assert await house.store.feedback_counts() == ()


async def test_another_callers_video_is_as_unknown_as_one_that_does_not_exist(house: House) -> None:
    video_id = await made(house)
    stranger = keys.make("stranger", now_us=0, random=random.Random(1).randbytes(keys.RANDOM_BYTES))
    await house.store.create_key(stranger.key)
    theirs = {"authorization": f"Bearer {stranger.text.reveal()}"}

    answers = [
        await say(house, video_id, {"accepted": False}, headers=theirs),
        await say(house, ids.make("video", now_us=0, random=bytes(16)), {"accepted": False}),
        await say(house, "video_x", {"accepted": False}),
    ]

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (404, "video_not_found")
    ] * 3
    assert kept(house) == (0, 0)


async def test_a_deleted_video_is_gone_but_what_was_said_of_it_stays(house: House) -> None:
    video_id = await made(house)
    await say(house, video_id, {"accepted": True})
    await house.client.delete(f"/v1/videos/{video_id}")

    answer = await say(house, video_id, {"accepted": False})

    assert answer.status_code == 404
    assert await house.store.feedback_counts() == ((PRO, 1, 0),)


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_json", None),
        (b"[]", 422, "invalid_body", None),
        (b"{}", 422, "missing_field", "accepted"),
        (b'{"accepted": null}', 422, "wrong_type", "accepted"),
        (b'{"accepted": "true"}', 422, "wrong_type", "accepted"),
        (b'{"accepted": 1}', 422, "wrong_type", "accepted"),
        (b'{"accepted": true, "accepted": false}', 400, "duplicate_field", "accepted"),
        (b'{"acepted": true}', 422, "unknown_field", "acepted"),
        (b'{"accepted": true, "note": "' + b"x" * 501 + b'"}', 422, "too_long", "note"),
        (b'{"accepted": true, "note": "a\\u0000b"}', 422, "invalid_character", None),
        (b'{"accepted": true, "note": "\\ud800"}', 400, "invalid_json", None),
        (b'{"accepted": true, "note": "' + b"x" * (1 << 20) + b'"}', 413, "body_too_large", None),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else None,
)
async def test_a_body_that_says_neither_yes_nor_no_is_refused(
    house: House, body: bytes, status: int, code: str, param: str | None
) -> None:
    video_id = await made(house)

    answer = await house.client.post(
        f"/v1/videos/{video_id}/feedback", content=body, headers={"content-type": "application/json"}
    )

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    assert await house.store.feedback_counts() == ()


async def test_a_form_is_not_taken(house: House) -> None:
    answer = await house.client.post(f"/v1/videos/{await made(house)}/feedback", data={"accepted": "true"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_content_type")


async def test_a_note_of_five_hundred_characters_is_kept_whatever_their_bytes(house: House) -> None:
    answer = await say(house, await made(house), {"accepted": False, "note": "🎬" * 500})

    assert answer.status_code == 200, answer.text


async def test_what_could_not_be_stored_does_not_count(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await made(house)

    async def full(_: Any) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(house.store, "give_feedback", full)
    answer = await say(house, video_id, {"accepted": True})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert kept(house) == (0, 0)


async def test_a_caller_that_hangs_up_does_not_part_the_counts_from_the_store(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = await made(house)
    give, observe = house.store.give_feedback, house.rooms.acceptance.observe
    begun, may_end, counted = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(feedback: Feedback) -> bool | None:
        before = await give(feedback)
        begun.set()
        await may_end.wait()
        return before

    def told(*words: Any, **more: Any) -> None:
        observe(*words, **more)
        counted.set()

    monkeypatch.setattr(house.store, "give_feedback", slow)
    monkeypatch.setattr(house.rooms.acceptance, "observe", told)
    asking = asyncio.create_task(say(house, video_id, {"accepted": True}))
    await begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    may_end.set()
    async with asyncio.timeout(5):
        await counted.wait()

    assert asking.cancelled()
    assert kept(house) == (1, 0)
    assert await house.store.feedback_counts() == ((PRO, 1, 0),)
