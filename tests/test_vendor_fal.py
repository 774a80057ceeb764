"""The fal server of these tests has fal's own manners: its addresses, its three statuses, its late refusals."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.vendors.fal import FalServer
from tests.vendors.fal_caller import INPUT, PIKA, V3_PICTURE, V3_TEXT, FalCaller, picture
from tests.vendors.fal_models import FORBIDDEN
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.script import act
from tests.vendors.server import Options


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path, Options(pace=Pace(steps=2))) as server:
        yield server


@pytest.fixture
def ask(fal: FalServer) -> Iterator[FalCaller]:
    with FalCaller(fal.url) as caller:
        yield caller


@pytest.fixture
def at_once(tmp_path: Path) -> Iterator[FalServer]:
    """One whose jobs are done when they are submitted."""
    with FalServer(tmp_path, Options(pace=Pace(steps=0))) as server:
        yield server


@pytest.fixture
def ask_at_once(at_once: FalServer) -> Iterator[FalCaller]:
    with FalCaller(at_once.url) as caller:
        yield caller


def errors(answer: httpx.Response) -> list[tuple[Any, str]]:
    assert answer.status_code == 422, answer.text
    return [(error["loc"][-1], error["type"]) for error in answer.json()["detail"]]


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


# --- the queue --------------------------------------------------------------------------------------------------------


def test_status_goes_from_202_to_200_and_the_result_waits_for_it(ask: FalCaller) -> None:
    job = ask.job()

    early = ask.result(job)
    answers = [ask.get(job["status_url"], params={"logs": "1"}) for _ in range(3)]

    assert (early.status_code, early.json()) == (400, {"detail": "Request is still in progress"})
    assert [answer.status_code for answer in answers] == [202, 202, 200]
    assert [answer.json()["status"] for answer in answers] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert answers[0].json()["queue_position"] == 0
    assert answers[1].json()["logs"][0]["message"]
    assert answers[2].json()["metrics"]["inference_time"] >= 0
    assert ask.result(job).json()["video"]["content_type"] == "video/mp4"


def test_time_alone_moves_a_job_when_steps_do_not_count(tmp_path: Path) -> None:
    with FalServer(tmp_path, Options(pace=Pace(seconds=90), virtual=True)) as timed, FalCaller(timed.url) as ask:
        job = ask.job()

        seen = []
        for seconds in (0, 29, 2, 58, 2):
            timed.advance(seconds)
            seen.append(ask.status(job)["status"])

    assert seen == ["IN_QUEUE", "IN_QUEUE", "IN_PROGRESS", "IN_PROGRESS", "COMPLETED"]


def test_short_and_long_addresses_name_the_same_job_and_another_app_does_not(ask_at_once: FalCaller) -> None:
    id = ask_at_once.job()["request_id"]

    codes = {
        path: ask_at_once.get(f"/{path}").status_code
        for path in (
            f"fal-ai/kling-video/requests/{id}",
            f"fal-ai/kling-video/requests/{id}/response",
            f"{V3_TEXT}/requests/{id}",
            f"{V3_TEXT}/requests/{id}/response",
            f"{V3_TEXT}/requests/{id}/status",
            f"fal-ai/pika/requests/{id}",
        )
    }

    assert list(codes.values()) == [200, 200, 200, 200, 200, 404]


def test_returned_addresses_are_on_the_host_that_was_asked(fal: FalServer, ask: FalCaller) -> None:
    answer = ask.http.post(f"/{V3_TEXT}", json=INPUT, headers={"host": "proxy.test:8080"})

    assert answer.json()["status_url"].startswith("http://proxy.test:8080/fal-ai/kling-video/requests/")


def test_every_answer_names_its_request(ask: FalCaller) -> None:
    job = ask.job()

    named = [ask.get(job[url]).headers["x-fal-request-id"] for url in ("status_url", "response_url")]

    assert named == [job["request_id"]] * 2
    assert ask.get("/nowhere").headers["x-fal-request-id"]


def test_the_stream_tells_each_change_and_closes_at_the_end(ask: FalCaller) -> None:
    job = ask.job()

    answer = ask.get(f"{job['status_url']}/stream", params={"logs": "1"})

    told = [json.loads(line[6:])["status"] for line in answer.text.splitlines() if line]
    assert answer.headers["content-type"] == "text/event-stream"
    assert told == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


def test_cancel_is_taken_refused_or_unknown(fal: FalServer, ask: FalCaller) -> None:
    running, done = ask.job(), ask.job()
    fal.finish(done["request_id"])

    answers = [
        ask.http.put(url)
        for url in (running["cancel_url"], done["cancel_url"], "/fal-ai/kling-video/requests/none/cancel")
    ]

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [
        (202, "CANCELLATION_REQUESTED"),
        (400, "ALREADY_COMPLETED"),
        (404, "NOT_FOUND"),
    ]
    assert ask.status(running)["error_type"] == "client_cancelled"
    assert ask.result(running).status_code == 499


def test_an_ignored_cancel_says_yes_and_the_clip_comes(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("ignore", on="cancel"))
    job = ask.job()

    assert ask.http.put(job["cancel_url"]).status_code == 202
    fal.finish()
    assert ask.result(job).status_code == 200


def test_a_queue_that_is_longer_than_the_caller_allows_refuses(fal: FalServer, ask: FalCaller) -> None:
    ask.job()
    ask.job()

    refused, taken = (ask.submit(params={"fal_max_queue_length": limit}) for limit in "12")

    assert (refused.status_code, taken.status_code) == (429, 200)
    assert len(fal.ledger()) == 3


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        ("", "Authentication is required"),
        ("Key nonsense", "Invalid Key Authorization header format"),
        ("Key id:wrong", "No user found for Key ID and Secret"),
    ],
)
def test_a_bad_key_is_refused_in_fals_words(tmp_path: Path, key: str, detail: str) -> None:
    with FalServer(tmp_path, Options(keys=("id:right",))) as fal, FalCaller(fal.url) as ask:
        wrong, right = ask.submit(key=key), ask.submit(key="Key id:right")

        assert (wrong.status_code, right.status_code) == (401, 200)
        assert detail in wrong.json()["detail"]
        assert len(fal.ledger()) == 1


def test_an_unknown_app_is_refused_at_once_and_an_unknown_path_in_the_result(
    at_once: FalServer, ask_at_once: FalCaller
) -> None:
    assert ask_at_once.submit(endpoint="fal-ai/no-such-app/v1").status_code == 404
    assert ask_at_once.result(ask_at_once.job(endpoint="fal-ai/kling-video/v9/pro")).status_code == 404
    assert len(at_once.ledger()) == 1


# --- what is wrong shows in the result --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "body", "found"),
    [
        (V3_TEXT, {"prompt": "x", "duration": 5}, [("duration", "one_of")]),
        (V3_TEXT, {"prompt": "x", "duration": "16"}, [("duration", "one_of")]),
        (V3_TEXT, {"prompt": "x" * 2501}, [("prompt", "string_too_long")]),
        (V3_TEXT, {"prompt": "x", "cfg_scale": 1.5}, [("cfg_scale", "less_than_equal")]),
        (V3_TEXT, {"prompt": "x", "generate_audio": "yes"}, [("generate_audio", "bool_type")]),
        (V3_TEXT, {"prompt": "x", "multi_prompt": [{"prompt": "y"}]}, [("body", "value_error")]),
        (V3_TEXT, {"multi_prompt": [{"prompt": "y", "duration": 3}]}, [("duration", "one_of")]),
        (V3_TEXT, {}, [("body", "value_error")]),
        (V3_TEXT, [], [("body", "dict_type")]),
        (V3_PICTURE, {"prompt": "x", "image_url": "https://a.example/b.png"}, [("start_image_url", "missing")]),
        (V3_PICTURE, {"prompt": "x", "start_image_url": "data:x"}, [("start_image_url", "image_load_error")]),
        ("fal-ai/kling-video/v2.6/pro/text-to-video", {"prompt": "x", "duration": "7"}, [("duration", "one_of")]),
        ("fal-ai/kling-video/o3/pro/image-to-video", {"prompt": "x"}, [("image_url", "missing")]),
        (
            "fal-ai/kling-video/v3/turbo/pro/text-to-video",
            {"multi_prompt": [{"prompt": "x", "duration": "8"}, {"prompt": "y", "duration": "8"}]},
            [("multi_prompt", "value_error")],
        ),
        (PIKA, {"prompt": "x", "duration": "5"}, [("duration", "one_of")]),
        (PIKA, {"prompt": "x", "duration": 5.0}, [("duration", "one_of")]),
        (PIKA, {"prompt": "x", "seed": True}, [("seed", "int_type")]),
        (PIKA, {"duration": 5}, [("prompt", "missing")]),
    ],
)
def test_a_bad_input_is_taken_and_refused_in_the_result(
    ask_at_once: FalCaller, endpoint: str, body: Any, found: list[tuple[str, str]]
) -> None:
    job = ask_at_once.job(body, endpoint)

    status = ask_at_once.status(job)

    assert status["status"] == "COMPLETED"
    assert "error" not in status
    assert errors(ask_at_once.result(job)) == found


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (V3_TEXT, {"prompt": "x", "duration": "15", "no_such_field": 1}),
        (V3_TEXT, {"multi_prompt": [{"prompt": "x", "duration": "2"}, {"prompt": "y"}]}),
        (V3_PICTURE, {"prompt": "x", "start_image_url": "https://pictures.example/a.png"}),
        (PIKA, {"prompt": "x", "duration": 10, "resolution": "1080p"}),
    ],
)
def test_a_good_input_is_rendered_and_unknown_fields_pass_unread(
    ask_at_once: FalCaller, endpoint: str, body: dict[str, Any]
) -> None:
    answer = ask_at_once.result(ask_at_once.job(body, endpoint))

    assert answer.status_code == 200, answer.text
    assert int(answer.headers["x-fal-billable-units"]) > 0


@pytest.mark.parametrize(
    ("size", "type"), [((299, 400), "image_too_small"), ((1000, 300), "value_error"), ((750, 300), None)]
)
def test_a_picture_outside_klings_limits_is_refused(
    ask_at_once: FalCaller, size: tuple[int, int], type: str | None
) -> None:
    body = {"prompt": "x", "start_image_url": data_uri(picture(*size))}

    answer = ask_at_once.result(ask_at_once.job(body, V3_PICTURE))

    assert answer.status_code == 200 if type is None else errors(answer) == [("start_image_url", type)]


def test_a_picture_elsewhere_is_fetched_when_the_server_is_told_to(tmp_path: Path) -> None:
    options = Options(pace=Pace(steps=0), fetch_pictures=True)
    with FalServer(tmp_path, options) as fal, FalCaller(fal.url) as ask, Receiver() as host:
        empty, dead = (
            ask.result(ask.job({"prompt": "x", "start_image_url": url}, V3_PICTURE))
            for url in (f"{host.url}/empty.png", "http://127.0.0.1:9/none.png")
        )

    assert errors(empty) == [("start_image_url", "image_load_error")]
    assert errors(dead) == [("start_image_url", "file_download_error")]


def test_moderation_shows_only_in_the_result(ask_at_once: FalCaller) -> None:
    job = ask_at_once.job(INPUT | {"prompt": f"a {FORBIDDEN} scene"})

    before = ask_at_once.status(job)
    result = ask_at_once.result(job)

    assert errors(result) == [("prompt", "content_policy_violation")]
    assert {"error", "error_type"}.isdisjoint(before | ask_at_once.status(job))


def test_a_failed_render_is_completed_with_an_error(at_once: FalServer, ask_at_once: FalCaller) -> None:
    at_once.say(act("fail_render", word="runner_disconnected", message="gone"))
    job = ask_at_once.job()

    status, result = ask_at_once.status(job), ask_at_once.result(job)

    assert (status["status"], status["error"], status["error_type"]) == ("COMPLETED", "gone", "runner_disconnected")
    assert (result.status_code, result.json()["detail"]) == (503, "gone")
    assert result.headers["x-fal-error-type"] == "runner_disconnected"


def test_jobs_can_be_stuck_oddly_worded_without_file_or_late_with_their_result(
    at_once: FalServer, ask_at_once: FalCaller
) -> None:
    ask = ask_at_once
    at_once.say(act("stuck"), act("invented_status", word="PAUSED"), act("result_without_file"), act("result_missing"))
    stuck, odd, bare, late = (ask.job() for _ in range(4))

    assert [ask.status(stuck)["status"] for _ in range(3)] == ["IN_QUEUE", "IN_PROGRESS", "IN_PROGRESS"]
    assert [ask.status(odd)["status"] for _ in range(2)] == ["PAUSED", "COMPLETED"]
    assert "url" not in ask.result(bare).json()["video"]
    assert [ask.result(late).status_code for _ in range(2)] == [404, 200]
