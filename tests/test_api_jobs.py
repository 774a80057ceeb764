"""`/v1/videos/{id}` and the list: reading, cancelling, deleting, and what strangers see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import ids
from gateway.api import videos, view
from gateway.jobs import AttemptEvent, Job, JobEvent, JobState, advance, advance_attempt
from gateway.store.spec import Conflict, Event
from providers.spec import Fault, Kind, Verdict, Video
from tests.api_house import House, opened

pytestmark = pytest.mark.anyio
UNKNOWN = ids.make("video", now_us=0, random=bytes(16))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def get(house: House, path: str) -> dict[str, Any]:
    answer = await house.client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_a_waiting_client_is_told_when_to_look_again_and_a_finished_job_tells_nothing(house: House) -> None:
    video = await house.create()
    path = f"/v1/videos/{video['id']}"

    waiting = await house.client.get(path)
    await house.finish(video["id"], Video(url="https://files.example/a.mp4"))
    done = await house.client.get(path)

    assert waiting.headers["openai-poll-after-ms"] == "5000"
    assert "openai-poll-after-ms" not in done.headers


async def test_a_completed_video_tells_its_cost_and_when(house: House) -> None:
    video = await house.create()
    await house.finish(video["id"], Video(url="https://files.example/a.mp4"), cost_usd_micros=555_000)

    shown = await get(house, f"/v1/videos/{video['id']}")

    assert (shown["status"], shown["progress"], shown["error"]) == ("completed", 100, None)
    assert shown["completed_at"] == video["created_at"] + 90
    assert shown["usage"] == {"cost_usd": 0.555}
    assert shown["attempts"] == 1
    assert "files.example" not in str(shown)


async def test_a_running_job_shows_its_progress(house: House) -> None:
    video = await house.create()
    await house.start(video["id"])
    house.store.live.set_progress(video["id"], 0.42)

    shown = await get(house, f"/v1/videos/{video['id']}")

    assert (shown["status"], shown["progress"]) == ("in_progress", 42)


async def test_a_failed_job_tells_why_in_our_words_only(house: House) -> None:
    video = await house.create()
    said = Fault(kind=Kind.CONTENT_POLICY, verdict=Verdict.NEVER, message="acct_77 at vendor.example: nsfw 0.93")
    await house.fail(video["id"], said, code="content_policy")

    shown = await get(house, f"/v1/videos/{video['id']}")

    assert (shown["status"], shown["error"]["code"]) == ("failed", "content_policy")
    assert "content policy" in shown["error"]["message"]
    assert "acct_77" not in str(shown)


@pytest.mark.parametrize(("event", "code"), [(JobEvent.CANCELLED, "cancelled"), (JobEvent.EXPIRED, "expired")])
async def test_a_cancelled_or_expired_job_is_failed_for_openais_clients(
    house: House, event: JobEvent, code: str
) -> None:
    video = await house.create()
    job = await house.job(video["id"])
    ended = advance(job, event, error_code=code, ended_us=job.created_us, cost_usd_micros=0)
    await house.store.save(ended, events=(Event(job=job.id, type=event, at_us=job.created_us),))

    shown = await get(house, f"/v1/videos/{video['id']}")

    assert (shown["status"], shown["error"]["code"]) == ("failed", code)


async def test_every_status_is_one_that_openais_client_knows() -> None:
    assert set(view._STATUS) == set(JobState)
    assert set(view._STATUS.values()) == {"queued", "in_progress", "completed", "failed"}


async def test_the_decision_of_a_job_and_its_history_without_a_vendors_words(house: House) -> None:
    video = await house.create()
    await house.finish(video["id"], Video(url="https://files.example/a.mp4"))

    shown = await get(house, f"/v1/videos/{video['id']}/decision")

    assert shown["decision"]["ranked"][0]["backend"] == "fal/kling-v3-pro"
    assert [event["type"] for event in shown["events"]] == [
        "job.accepted",
        "job.attempt_started",
        "attempt.accepted",
        "job.completed",
    ]
    assert shown["events"][1]["data"] == {"backend": "fal/kling-v3-pro"}
    assert "vendor.example" not in str(shown)


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_pages_through_everything_newest_first(house: House) -> None:
    made = [(await house.create())["id"] for _ in range(5)]

    first = await get(house, "/v1/videos?limit=2")
    second = await get(house, f"/v1/videos?limit=2&after={first['last_id']}")
    third = await get(house, f"/v1/videos?limit=2&after={second['last_id']}")

    pages = [first, second, third]
    assert [video["id"] for page in pages for video in page["data"]] == made[::-1]
    assert [page["has_more"] for page in pages] == [True, True, False]
    assert (first["object"], first["first_id"], first["last_id"]) == ("list", made[4], made[3])


async def test_a_list_may_begin_with_the_oldest(house: House) -> None:
    made = [(await house.create())["id"] for _ in range(3)]

    page = await get(house, f"/v1/videos?order=asc&after={made[0]}")

    assert [video["id"] for video in page["data"]] == made[1:]


async def test_an_empty_list_has_no_ids(house: House) -> None:
    page = await get(house, "/v1/videos")

    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("limit=0", "out_of_range", "limit"),
        ("limit=-1", "out_of_range", "limit"),
        ("limit=101", "out_of_range", "limit"),
        ("limit=1000000000", "out_of_range", "limit"),
        ("limit=ten", "out_of_range", "limit"),
        ("order=sideways", "invalid_value", "order"),
        ("after=nonsense", "invalid_cursor", "after"),
        ("after=video_1' OR 1=1", "invalid_cursor", "after"),
        ("after=", "invalid_cursor", "after"),
    ],
)
async def test_a_forged_page_is_a_422(house: House, query: str, code: str, param: str) -> None:
    answer = await house.client.get(f"/v1/videos?{query}")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, code, param)


# --- cancelling -------------------------------------------------------------------------------------------------------


def worker(house: House, then: JobEvent | None, **changes: Any) -> list[str]:
    """Who hears the wake-up, and does `then` to the job at once."""
    heard: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def act(job_id: str) -> None:
        job = await house.job(job_id)
        if then is not None:
            ended = advance(job, then, **changes)
            events = () if ended.state == job.state else (Event(job=job.id, type=then, at_us=job.created_us),)
            await house.store.save(ended, events=events)

    def wake(job_id: str) -> None:
        heard.append(job_id)
        tasks.append(asyncio.get_running_loop().create_task(act(job_id)))

    house.store.live.on_wake(wake)
    return heard


ENDS = {"ended_us": 1, "cost_usd_micros": 0}


async def test_a_job_that_was_never_sent_is_cancelled(house: House) -> None:
    video = await house.create()
    heard = worker(house, JobEvent.CANCELLED, error_code="cancelled", **ENDS)

    answer = await house.client.post(f"/v1/videos/{video['id']}/cancel")

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["error"]["code"]) == ("failed", "cancelled")
    assert heard == [video["id"]]
    assert [event.type for event in await house.store.events(video["id"])][-2:] == [
        "job.cancel_requested",
        "job.cancelled",
    ]


async def test_cancelling_twice_is_the_same_answer(house: House) -> None:
    video = await house.create()
    worker(house, JobEvent.CANCELLED, error_code="cancelled", **ENDS)
    await house.client.post(f"/v1/videos/{video['id']}/cancel")

    answer = await house.client.post(f"/v1/videos/{video['id']}/cancel")

    assert answer.status_code == 200


async def test_a_render_that_cannot_be_stopped_is_too_late_and_says_that_it_is_billed(house: House) -> None:
    video = await house.create()
    await house.start(video["id"])
    worker(house, JobEvent.CANCEL_REFUSED, cancel_requested=False)

    answer = await house.client.post(f"/v1/videos/{video['id']}/cancel")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_late")
    assert "billed" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_what_nobody_knows_to_be_bought_is_not_called_bought(house: House) -> None:
    video = await house.create()
    job, attempt = await house.send(video["id"])
    lost = advance_attempt(attempt, AttemptEvent.LOST)
    await house.store.save(advance(job, JobEvent.PROGRESSED), attempt=lost)
    worker(house, JobEvent.CANCEL_REFUSED, cancel_requested=False)

    answer = await house.client.post(f"/v1/videos/{video['id']}/cancel")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_late")
    assert "not known" in answer.json()["error"]["message"]
    assert "billed" not in answer.json()["error"]["message"]


async def test_a_job_that_ends_while_it_is_cancelled_is_too_late(house: House) -> None:
    video = await house.create()
    await house.start(video["id"])
    clip = Video(url="https://files.example/a.mp4")
    worker(house, JobEvent.COMPLETED, videos=(clip,), cancel_requested=False, **ENDS)

    answer = await house.client.post(f"/v1/videos/{video['id']}/cancel")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_late")
    assert "completed" in answer.json()["error"]["message"]


async def test_a_cancel_that_takes_its_time_is_accepted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "CANCEL_SECONDS", 0.05)
    video = await house.create()
    await house.start(video["id"])

    answer = await house.client.post(f"/v1/videos/{video['id']}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (202, "in_progress")
    assert (await house.job(video["id"])).cancel_requested


async def test_a_wish_that_meets_a_change_is_made_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    video = await house.create()
    save, refusals = house.store.save, [Conflict("the worker was faster")]

    async def racing(job: Job, **rest: Any) -> None:
        if refusals and job.cancel_requested:
            raise refusals.pop()
        await save(job, **rest)

    monkeypatch.setattr(house.store, "save", racing)
    worker(house, JobEvent.CANCELLED, error_code="cancelled", **ENDS)

    answer = await house.client.post(f"/v1/videos/{video['id']}/cancel")

    assert answer.status_code == 200
    assert refusals == []


# --- deleting ---------------------------------------------------------------------------------------------------------


async def test_a_running_job_is_not_deleted(house: House) -> None:
    video = await house.create()

    answer = await house.client.delete(f"/v1/videos/{video['id']}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_not_finished")
    assert "/cancel" in answer.json()["error"]["message"]


async def test_a_deleted_job_is_gone_for_its_caller_while_the_ledger_stays(house: House) -> None:
    video = await house.create()
    await house.finish(video["id"], Video(url="https://files.example/a.mp4"))
    path = f"/v1/videos/{video['id']}"

    answer = await house.client.delete(path)

    assert answer.json() == {"id": video["id"], "object": "video.deleted", "deleted": True}
    for method, at in (("GET", path), ("DELETE", path), ("GET", f"{path}/content"), ("POST", f"{path}/cancel")):
        assert (await house.client.request(method, at)).status_code == 404
    assert (await get(house, "/v1/videos"))["data"] == []
    assert (await house.job(video["id"])).cost_usd_micros == 560_000


# --- what is not there ------------------------------------------------------------------------------------------------


ROUTES = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/cancel"),
    ("POST", "/remix"),
    ("GET", "/decision"),
    ("GET", "/content"),
]


@pytest.mark.parametrize(("method", "suffix"), ROUTES)
async def test_an_id_that_does_not_exist_is_a_404_without_a_look_up(
    house: House, monkeypatch: pytest.MonkeyPatch, method: str, suffix: str
) -> None:
    looked_up: list[str] = []

    async def look_up(job_id: str) -> None:
        looked_up.append(job_id)

    monkeypatch.setattr(house.store, "job", look_up)

    unknown = await house.client.request(method, f"/v1/videos/{UNKNOWN}{suffix}")
    for shape in ("x", "job_1", UNKNOWN.upper(), f"{UNKNOWN}0", "video_" + "0" * 35 + "é", "%00", "a" * 500):
        answer = await house.client.request(method, f"/v1/videos/{shape}{suffix}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_not_found")

    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "video_not_found")
    assert looked_up == [UNKNOWN]
