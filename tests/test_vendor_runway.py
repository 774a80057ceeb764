"""The Runway server of these tests has Runway's own manners: bodies judged at once, pictures and prompts later."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.vendors.kit import Pace
from tests.vendors.runway import RunwayServer
from tests.vendors.runway_models import FORBIDDEN
from tests.vendors.script import act
from tests.vendors.server import Options

HEADERS = {"authorization": "Bearer key_test", "x-runway-version": "2024-11-06"}
TEXT: dict[str, Any] = {"model": "gen4.5", "promptText": "a cat", "ratio": "1280:720", "duration": 5}
VEO: dict[str, Any] = {"model": "veo3.1", "promptText": "a cat", "ratio": "1280:720", "duration": 4}
KLING: dict[str, Any] = {"model": "kling3.0_pro", "ratio": "1920:1080", "duration": 5}
SEEDANCE: dict[str, Any] = {"model": "seedance2", "promptText": "a cat", "ratio": "1470:630", "duration": 4}
FIRST = {"uri": "https://pictures.example/a.png", "position": "first"}
LAST = {"uri": "https://pictures.example/b.png", "position": "last"}


@pytest.fixture
def runway(tmp_path: Path) -> Iterator[RunwayServer]:
    with RunwayServer(tmp_path, Options(pace=Pace(steps=2))) as server:
        yield server


@pytest.fixture
def at_once(tmp_path: Path) -> Iterator[RunwayServer]:
    """One whose tasks are done when they are created."""
    with RunwayServer(tmp_path, Options(pace=Pace(steps=0))) as server:
        yield server


def create(server: RunwayServer, body: Any, endpoint: str = "text_to_video", **headers: str) -> httpx.Response:
    url = f"{server.url}/v1/{endpoint}"
    return httpx.post(url, json=body, headers=HEADERS | headers, trust_env=False)


def task(server: RunwayServer, body: Any = TEXT, endpoint: str = "text_to_video") -> str:
    return str(create(server, body, endpoint).raise_for_status().json()["id"])


def look(server: RunwayServer, id: str) -> dict[str, Any]:
    said: dict[str, Any] = httpx.get(f"{server.url}/v1/tasks/{id}", headers=HEADERS, trust_env=False).json()
    return said


def delete(server: RunwayServer, id: str) -> int:
    return httpx.delete(f"{server.url}/v1/tasks/{id}", headers=HEADERS, trust_env=False).status_code


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.effect_noise((width, height), 60).save(target, kind)
    return target.getvalue()


def test_task_is_pending_then_running_then_has_its_clip_and_its_cost(runway: RunwayServer) -> None:
    created = create(runway, TEXT).json()

    told = [look(runway, created["id"]) for _ in range(3)]

    assert created["estimatedCost"] == {"credits": 60}
    assert [one["status"] for one in told] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert [one.get("estimatedCost") for one in told] == [{"credits": 60}, {"credits": 60}, None]
    assert (told[1]["progress"], told[2]["cost"], len(told[2]["output"])) == (0.5, {"credits": 60}, 1)
    assert runway.ledger()[0].usd_micros == 600_000


@pytest.mark.parametrize(
    ("endpoint", "body", "found"),
    [
        ("text_to_video", [], [((), "invalid_type")]),
        ("text_to_video", {"model": "gen4_turbo"}, [(("model",), "invalid_union_discriminator")]),
        ("text_to_video", {"model": "gen4.5"}, [((n,), "invalid_type") for n in ("promptText", "duration", "ratio")]),
        ("text_to_video", TEXT | {"ratio": "960:960"}, [(("ratio",), "invalid_enum_value")]),
        ("text_to_video", TEXT | {"duration": 11}, [(("duration",), "too_big")]),
        ("text_to_video", TEXT | {"duration": "5"}, [(("duration",), "invalid_type")]),
        ("text_to_video", TEXT | {"promptText": ""}, [(("promptText",), "too_small")]),
        ("text_to_video", TEXT | {"promptText": "🛶" * 501}, [(("promptText",), "too_big")]),
        ("text_to_video", TEXT | {"seed": -1}, [(("seed",), "too_small")]),
        ("text_to_video", TEXT | {"a_field_of_theirs": 1}, []),
        ("text_to_video", VEO | {"a_field_of_theirs": 1}, [((), "unrecognized_keys")]),
        ("text_to_video", VEO | {"duration": 5}, [(("duration",), "invalid_enum_value")]),
        ("text_to_video", VEO | {"audio": 1}, [(("audio",), "invalid_type")]),
        ("text_to_video", KLING | {"seed": 1}, [((), "unrecognized_keys")]),
        (
            "text_to_video",
            KLING | {"providerSettings": {"multiPrompt": [{"prompt": "x", "duration": 2}]}},
            [(("providerSettings", "multiPrompt"), "custom")],
        ),
        ("image_to_video", VEO, [(("promptImage",), "invalid_type")]),
        ("image_to_video", VEO | {"promptImage": [LAST]}, [(("promptImage",), "custom")]),
        ("image_to_video", VEO | {"promptImage": [FIRST, FIRST]}, [(("promptImage",), "custom")]),
        (
            "image_to_video",
            TEXT | {"promptImage": [FIRST, LAST]},
            [(("promptImage", 1, "position"), "invalid_enum_value")],
        ),
        ("image_to_video", VEO | {"promptImage": "http://pictures.example/a.png"}, [(("promptImage",), "custom")]),
        ("image_to_video", VEO | {"promptImage": "https://192.0.2.1/a.png"}, [(("promptImage",), "custom")]),
        ("image_to_video", VEO | {"promptImage": FIRST["uri"]}, []),
        ("image_to_video", SEEDANCE | {"promptImage": [FIRST, {"uri": LAST["uri"]}]}, [(("promptImage",), "custom")]),
        ("image_to_video", SEEDANCE | {"promptImage": [{"uri": LAST["uri"]}]}, []),
        ("text_to_video", SEEDANCE | {"references": [{"uri": FIRST["uri"]}] * 10}, [(("references",), "too_big")]),
    ],
)
def test_body_is_judged_at_once_and_every_fault_is_told(
    runway: RunwayServer, endpoint: str, body: Any, found: list[tuple[Any, str]]
) -> None:
    answer = create(runway, body, endpoint)

    said = answer.json()
    assert answer.status_code == (400 if found else 200), said
    assert [(tuple(one["path"]), one["code"]) for one in said.get("issues", [])] == found
    assert len(runway.ledger()) == (0 if found else 1)


def test_key_and_version_are_needed(tmp_path: Path) -> None:
    with RunwayServer(tmp_path, Options(keys=("key_right",))) as server:
        wrong = create(server, TEXT)
        old = create(server, TEXT, authorization="Bearer key_right", **{"x-runway-version": "2023-01-01"})
        right = create(server, TEXT, authorization="Bearer key_right")

    assert [answer.status_code for answer in (wrong, old, right)] == [401, 400, 200]


@pytest.mark.parametrize(
    ("body", "credits"),
    [
        (VEO, 160),  # sound, unless it is said otherwise
        (VEO | {"audio": False}, 80),
        (SEEDANCE, 144),
        (SEEDANCE | {"ratio": "3840:3840", "duration": 5}, 750),
        (KLING | {"promptText": "a cat"}, 60),
        (KLING | {"promptText": "a cat", "audio": True}, 85),
        (KLING | {"providerSettings": {"multiPrompt": [{"prompt": "x", "duration": 7}]}}, 84),
    ],
)
def test_estimate_counts_seconds_size_and_sound(runway: RunwayServer, body: Any, credits: int) -> None:
    assert create(runway, body).json()["estimatedCost"] == {"credits": credits}


def test_moderation_shows_when_the_task_has_run_and_costs_all_of_it(at_once: RunwayServer) -> None:
    at_once.say(act("fail_result"), act("fail_render", word="THIRD_PARTY.UNAVAILABLE", message="away"))
    withheld, broken = task(at_once), task(at_once)
    rejected = task(at_once, TEXT | {"promptText": f"a {FORBIDDEN} scene"})

    told = [look(at_once, id) for id in (withheld, broken, rejected)]

    assert [one["status"] for one in told] == ["FAILED"] * 3
    assert [one["failureCode"] for one in told] == [
        "SAFETY.OUTPUT.VIDEO",
        "THIRD_PARTY.UNAVAILABLE",
        "SAFETY.INPUT.TEXT",
    ]
    assert [one["cost"]["credits"] for one in told] == [60, 0, 60]
    assert told[1]["failure"] == "away"


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (data_uri(picture(64, 64)), "SUCCEEDED"),
        (data_uri(picture(64, 64, "WEBP")), "SUCCEEDED"),
        (data_uri(picture(64, 64, "GIF")), "FAILED"),
        (data_uri(b"no picture"), "FAILED"),
        ("runway://never-uploaded", "FAILED"),
    ],
    ids=["png", "webp", "gif", "nonsense", "no such upload"],
)
def test_picture_is_looked_at_when_the_task_runs(at_once: RunwayServer, uri: str, status: str) -> None:
    told = look(at_once, task(at_once, VEO | {"promptImage": uri}, "image_to_video"))

    assert (told["status"], told.get("failureCode")) == (status, None if status == "SUCCEEDED" else "ASSET.INVALID")


def test_upload_wants_its_own_form_and_512_bytes(runway: RunwayServer) -> None:
    asked = {"filename": "a.png", "type": "ephemeral"}
    place = httpx.post(f"{runway.url}/v1/uploads", json=asked, headers=HEADERS, trust_env=False).json()

    def put(data: bytes, **fields: str) -> int:
        form = place["fields"] | fields
        return httpx.post(place["uploadUrl"], data=form, files={"file": ("a.png", data)}, trust_env=False).status_code

    assert put(b"x" * 511) == 400
    assert put(b"x" * 600, policy="another") == 403
    assert put(picture(64, 64)) == 204
    assert (
        look(runway, task(runway, VEO | {"promptImage": place["runwayUri"]}, "image_to_video"))["status"] == "PENDING"
    )


def test_delete_stops_what_goes_on_destroys_what_has_ended_and_both_are_gone(runway: RunwayServer) -> None:
    going, done = task(runway), task(runway)
    runway.finish(done)
    (url,) = look(runway, done)["output"]

    first, second = [delete(runway, going), delete(runway, going)], [delete(runway, done), delete(runway, done)]

    assert (first, second) == ([204, 404], [204, 404])
    assert [look(runway, id)["error"] for id in (going, done)] == ["Not found"] * 2
    assert httpx.get(url, trust_env=False).status_code == 404


def test_tasks_beyond_the_tiers_limit_of_their_model_are_throttled(runway: RunwayServer) -> None:
    runway.max_concurrent = 1
    first, second, other = task(runway), task(runway), task(runway, VEO)

    before = [look(runway, id)["status"] for id in (second, second, second, other)]
    runway.finish(first)
    after = look(runway, second)["status"]

    assert before == ["THROTTLED"] * 3 + ["PENDING"]
    assert after == "PENDING"
