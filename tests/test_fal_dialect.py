"""fal's queue as its clients see it: places, results, failures, cancels, and whose request it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest

from gateway.api import application, buying
from gateway.api.problems import Problem
from gateway.jobs import JobEvent, advance
from gateway.store.spec import Event, StoreUnavailable
from providers.spec import Fault, Kind, Verdict, Video
from tests.api_house import KEY, House, opened

TEXT = "/fal/fal-ai/kling-video/v3/pro/text-to-video"
INPUT: dict[str, Any] = {"prompt": "a red kite over the dunes", "duration": "5", "generate_audio": False}
CLIP = Video(url="https://cdn.example.com/clip.mp4")

pytestmark = pytest.mark.anyio


async def submit(house: House, path: str = TEXT, **more: Any) -> dict[str, Any]:
    answer = await house.client.post(path, json=INPUT | more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_submit_is_answered_with_addresses_of_ours(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        answer = await house.client.post(TEXT, json=INPUT, headers={"authorization": "Key dev"})

    said = answer.json()
    base = f"http://filmgate.test/fal/fal-ai/kling-video/requests/{said['request_id']}"
    assert answer.headers["x-fal-request-id"] == said["request_id"]
    assert said == {
        "status": "IN_QUEUE",
        "request_id": said["request_id"],
        "gateway_request_id": said["request_id"],
        "response_url": base,
        "status_url": f"{base}/status",
        "cancel_url": f"{base}/cancel",
        "queue_position": 0,
    }


async def test_three_places_and_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house)
        seen = [await house.client.get(job["status_url"], params={"logs": "1"})]
        await house.start(job["request_id"])
        seen.append(await house.client.get(job["status_url"], params={"logs": "0"}))
        running = await house.job(job["request_id"])
        done = advance(running, JobEvent.COMPLETED, videos=(CLIP,), ended_us=running.created_us + 90_000_000)
        attempt = (await house.store.attempts(done.id))[0]
        event = Event(job=done.id, type=JobEvent.COMPLETED, at_us=done.created_us, attempt=attempt.id)
        await house.store.save(done, events=(event,))
        seen.append(await house.client.get(job["status_url"], params={"logs": "true"}))

    assert [(one.status_code, one.json()["status"]) for one in seen] == [
        (202, "IN_QUEUE"),
        (202, "IN_PROGRESS"),
        (200, "COMPLETED"),
    ]
    assert seen[0].json()["queue_position"] == 0
    assert seen[1].json()["logs"] is None
    assert seen[2].json()["metrics"] == {"inference_time": 90.0}
    assert [line["level"] for line in seen[2].json()["logs"]] == ["INFO", "INFO"]


@pytest.mark.parametrize(
    "path",
    [
        "/fal/fal-ai/kling-video/requests/{id}",
        "/fal/fal-ai/kling-video/requests/{id}/response",
        "/fal/fal-ai/kling-video/v3/pro/text-to-video/requests/{id}",
        "/fal/fal-ai/kling-video/v3/pro/text-to-video/requests/{id}/response",
    ],
)
async def test_a_result_is_found_by_either_path(tmp_path: Path, path: str) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house, seed=7)
        early = await house.client.get(path.format(id=job["request_id"]))
        await house.finish(job["request_id"], CLIP)
        late = await house.client.get(path.format(id=job["request_id"]))

    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})
    found = late.json()
    assert late.headers["x-fal-request-id"] == job["request_id"]
    assert found["video"]["url"].startswith("http://filmgate.test/v1/links/")
    assert (found["video"]["content_type"], found["video"]["file_name"]) == ("video/mp4", "output.mp4")
    assert found["seed"] == 7
    assert found["filmgate"] == {
        "id": job["request_id"],
        "backend": "fal/kling-v3-pro",
        "provider": "fal",
        "cost_usd": 0.56,
    }


@pytest.mark.parametrize(
    ("kind", "status", "word"),
    [
        (Kind.CONTENT_POLICY, 422, "content_policy_violation"),
        (Kind.INVALID_REQUEST, 422, "value_error"),
        (Kind.UNSUPPORTED, 422, "feature_not_supported"),
        (Kind.GENERATION_FAILED, 500, "internal_server_error"),
        (Kind.UNAVAILABLE, 500, "downstream_service_unavailable"),
        (Kind.INSUFFICIENT_FUNDS, 500, "downstream_service_unavailable"),
    ],
)
async def test_a_failure_is_completed_with_an_error_and_is_never_asked_for_again(
    tmp_path: Path, kind: Kind, status: int, word: str
) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house)
        fault = Fault(kind=kind, verdict=Verdict.NEVER, message="req-77 at vendor.example said no")
        await house.fail(job["request_id"], fault, code=kind.value)
        place = (await house.client.get(job["status_url"], params={"logs": "1"})).json()
        result = await house.client.get(job["response_url"])

    assert (place["status"], place["error_type"]) == ("COMPLETED", word)
    assert result.status_code == status
    assert (result.headers["x-fal-error-type"], result.headers["x-fal-needs-retry"]) == (word, "0")
    detail = result.json()["detail"]
    assert (detail[0]["type"] if status == 422 else result.json()["error_type"]) == word
    assert "vendor.example" not in result.text + json.dumps(place)


async def test_a_cancel_is_a_wish_or_too_late_or_of_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house)
        first = await house.client.put(job["cancel_url"])
        again = await house.client.put(job["cancel_url"])
        wished = (await house.job(job["request_id"])).cancel_requested
        done = await submit(house)
        await house.finish(done["request_id"], CLIP)
        late = await house.client.put(done["cancel_url"])
        unknown = await house.client.put("/fal/fal-ai/kling-video/requests/video_nothing/cancel")

    assert (first.status_code, first.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert again.status_code == 202
    assert wished
    assert (late.status_code, late.json()) == (400, {"status": "ALREADY_COMPLETED"})
    assert (unknown.status_code, unknown.json()) == (404, {"status": "NOT_FOUND"})


async def test_a_cancelled_request_ends_as_fals_do(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house)
        queued = await house.job(job["request_id"])
        ended = advance(queued, JobEvent.CANCELLED, ended_us=queued.created_us + 1)
        await house.store.save(ended, events=(Event(job=ended.id, type=JobEvent.CANCELLED, at_us=1),))
        place = (await house.client.get(job["status_url"])).json()
        result = await house.client.get(job["response_url"])

    assert (place["status"], place["error_type"]) == ("COMPLETED", "client_cancelled")
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")


async def test_an_expired_request_is_a_timeout_that_no_client_asks_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house)
        queued = await house.job(job["request_id"])
        ended = advance(queued, JobEvent.EXPIRED, ended_us=queued.created_us + 1)
        await house.store.save(ended, events=(Event(job=ended.id, type=JobEvent.EXPIRED, at_us=1),))
        result = await house.client.get(job["response_url"])

    assert (result.status_code, result.json()["error_type"]) == (504, "request_timeout")
    assert result.headers["x-fal-request-timeout-type"] == "user"


async def test_the_stream_tells_each_place_once_and_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house)
        await house.finish(job["request_id"], CLIP)
        answer = await house.client.get(job["status_url"] + "/stream", params={"logs": "1"})

    events = [json.loads(text.removeprefix("data: ")) for text in answer.text.split("\n\n") if text]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [event["status"] for event in events] == ["COMPLETED"]


async def test_a_request_of_another_key_is_not_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        job = await submit(house)
        mine = await house.job(job["request_id"])
        await house.store.save(msgspec.structs.replace(mine, caller="key_of_somebody_else", version=mine.version + 1))
        place = await house.client.get(job["status_url"])
        result = await house.client.get(job["response_url"])

    assert (place.status_code, result.status_code) == (404, 404)
    assert place.json()["detail"] == "There is no such video."


async def test_a_job_made_in_our_own_words_can_be_followed_in_fals(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        video = await house.create()
        place = (await house.client.get(f"/fal/filmgate/kling-v3-pro/requests/{video['id']}/status")).json()
        ours = (await house.client.get(f"/v1/videos/{(await submit(house))['request_id']}")).json()

    assert place["status"] == "IN_QUEUE"
    assert place["response_url"].endswith(f"/fal/filmgate/kling-v3-pro/requests/{video['id']}")
    assert ours["model"] == "kling-v3-pro"


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/fal", 404, "not_found"),
        ("POST", "/fal/fal-ai/kling-video/v9/pro/text-to-video", 404, "not_found"),
        ("GET", TEXT, 405, "method_not_allowed"),
        ("POST", "/fal/fal-ai/kling-video/requests/video_x/status", 405, "method_not_allowed"),
        ("DELETE", "/fal/fal-ai/kling-video/requests/video_x", 405, "method_not_allowed"),
        ("POST", f"{TEXT}/stream", 400, "bad_request"),
        ("GET", "/fal/run/fal-ai/kling-video/realtime", 400, "bad_request"),
    ],
)
async def test_what_is_not_there_is_said_in_fals_shape(
    tmp_path: Path, method: str, path: str, status: int, word: str
) -> None:
    async with opened(tmp_path) as house:
        answer = await house.client.request(method, path, json=INPUT if method == "POST" else None)

    assert (answer.status_code, answer.json()["error_type"]) == (status, word)
    assert isinstance(answer.json()["detail"], str)
    assert answer.headers["x-fal-error-type"] == word
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b'{"prompt":"a","prompt":"b"}', 400), (b"[]", 422), (b"[" * 100, 400), (b"\xff", 400)],
)
async def test_hostile_bodies_are_the_callers_own_fault(tmp_path: Path, body: bytes, status: int) -> None:
    async with opened(tmp_path) as house:
        answer = await house.client.post(TEXT, content=body, headers={"content-type": "application/json"})

    assert answer.status_code == status
    assert "detail" in answer.json()


async def test_a_missing_and_a_bad_key_are_refused_in_fals_shape(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        bad = await house.client.post(TEXT, json=INPUT, headers={"authorization": "Key id:secret"})
        del house.client.headers["authorization"]
        missing = await house.client.post(TEXT, json=INPUT)

    assert (bad.status_code, bad.json()["error_type"]) == (401, "invalid_api_key")
    assert (missing.status_code, missing.json()["error_type"]) == (401, "missing_api_key")


async def test_a_webhook_that_would_not_be_called_is_refused_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        answer = await house.client.post(TEXT, json=INPUT, params={"fal_webhook": "https://10.0.0.1/hook"})

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "fal_webhook"]


async def test_no_answer_invites_a_second_post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fal's Python client sends a POST again after 408, 409 and 429; JavaScript's after 429, 502, 503 and 504."""
    async with opened(tmp_path) as house:
        for error, status in (
            (Problem(409, "conflict", "no"), 400),
            (Problem(408, "body_timeout", "no"), 400),
            (StoreUnavailable("the disk is full"), 500),
            (RuntimeError("a defect"), 500),
        ):

            async def fails(*_: Any, error: Exception = error) -> Any:
                raise error

            monkeypatch.setattr(buying, "buy", fails)
            answer = await house.client.post(TEXT, json=INPUT)

            assert (answer.status_code, "disk" in answer.text, "defect" in answer.text) == (status, False, False)


async def test_the_address_that_is_handed_out_is_the_configured_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        hosts = [
            (await house.client.post(TEXT, json=INPUT, headers={"host": host})).json()["status_url"].split("/fal/")[0]
            for host in ("gateway.example:8443", "[::1]:8080")
        ]
        strange = await house.client.post(TEXT, json=INPUT, headers={"host": "evil.example/x?"})
        server = msgspec.structs.replace(house.rooms.settings.server, public_url="https://video.example.com/")
        settings = msgspec.structs.replace(house.rooms.settings, server=server)
        public = application(msgspec.structs.replace(house.rooms, settings=settings))
        transport = httpx.ASGITransport(cast(Any, public))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside.test", headers=KEY) as client:
            hosts.append((await client.post(TEXT, json=INPUT)).json()["status_url"].split("/fal/")[0])

    assert hosts == ["http://gateway.example:8443", "http://[::1]:8080", "https://video.example.com"]
    assert strange.status_code == 400
