"""Runway's own clients, Python and JavaScript, take the Runway server of these tests for Runway.

They also show why the gateway does not use them: on a lost reply each of them buys the clip again, and the Python one
waits for a cancelled task until its time is over.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runwayml
from runwayml.lib import polling

from tests.sdk.conftest import Node
from tests.vendors.fal_caller import picture
from tests.vendors.kit import Pace
from tests.vendors.runway import NO_CREDITS, RunwayServer
from tests.vendors.runway_models import FORBIDDEN
from tests.vendors.script import act
from tests.vendors.server import Options

KEY = "key_test"
PICTURE = picture(640, 360)


# --- Python -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def runway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunwayServer]:
    """The server. The client's helpers look every 6 s; here they look at once."""
    monkeypatch.setattr(polling, "POLL_TIME", 0)
    monkeypatch.setattr(polling, "POLL_JITTER", 0)
    with RunwayServer(tmp_path, Options(pace=Pace(steps=2))) as server:
        server.tells_cancelled = True
        yield server


@pytest.fixture
def client(runway: RunwayServer) -> Iterator[runwayml.RunwayML]:
    with runwayml.RunwayML(api_key=KEY, base_url=runway.url) as client:
        yield client


def text(client: runwayml.RunwayML, prompt: str = "a cat") -> Any:
    return client.text_to_video.create(model="gen4.5", prompt_text=prompt, ratio="1280:720", duration=5)


def test_python_submits_polls_and_gets_its_clip(runway: RunwayServer, client: runwayml.RunwayML) -> None:
    created = text(client)

    told: list[Any] = [client.tasks.retrieve(created.id) for _ in range(3)]

    (row,) = runway.ledger()
    assert row.id == created.id
    assert created.estimated_cost.credits == 60
    assert [type(one).__name__ for one in told] == ["AwaitablePending", "AwaitableRunning", "AwaitableSucceeded"]
    assert told[1].progress == 0.5
    assert told[2].cost.credits == 60
    assert told[2].output[0].startswith(f"{runway.url}/files/")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("gen4_turbo", {"ratio": "1584:672"}),
        ("veo3.1_fast", {"ratio": "1080:1920", "duration": 8, "audio": False, "negative_prompt": "rain", "seed": 7}),
        ("kling3.0_pro", {"duration": 15, "audio": True, "cfg_scale": 0.5}),
        ("seedance2", {"ratio": "3840:1646", "duration": 4, "seed": 7}),
    ],
)
def test_python_begins_a_clip_with_a_picture(client: Any, model: str, words: dict[str, Any]) -> None:
    image = [{"uri": "data:image/png;base64," + base64.b64encode(PICTURE).decode(), "position": "first"}]

    done = client.image_to_video.create(
        model=model, prompt_text="a cat", prompt_image=image, **words
    ).wait_for_task_output()

    assert done.status == "SUCCEEDED"


def test_python_waits_for_a_throttled_task(runway: RunwayServer, client: runwayml.RunwayML) -> None:
    runway.max_concurrent = 1
    first, second = text(client), text(client)

    waiting = client.tasks.retrieve(second.id)
    runway.finish(first.id)

    assert waiting.status == "THROTTLED"
    assert second.wait_for_task_output().status == "SUCCEEDED"


def test_python_async_waits_for_its_clip(runway: RunwayServer) -> None:
    async def wait() -> Any:
        async with runwayml.AsyncRunwayML(api_key=KEY, base_url=runway.url) as client:
            task = await client.text_to_video.create(model="gen4.5", prompt_text="a cat", ratio="720:1280", duration=2)
            return await task.wait_for_task_output()

    assert asyncio.run(wait()).cost.credits == 24


def test_python_uploads_a_picture_and_begins_a_clip_with_it(runway: RunwayServer, client: Any) -> None:
    uri = client.uploads.create_ephemeral(file=("a.png", PICTURE)).uri

    task = client.image_to_video.create(
        model="gen4.5", prompt_text="a cat", prompt_image=uri, ratio="960:960", duration=5
    )

    assert uri.startswith("runway://")
    assert asyncio.run(runway.picture(uri)) == PICTURE
    assert task.wait_for_task_output().status == "SUCCEEDED"


@pytest.mark.parametrize(
    ("verb", "word", "code", "credits"),
    [("fail_render", "", "INTERNAL", 0), ("fail_result", "SAFETY.OUTPUT.IMAGE", "SAFETY.OUTPUT.IMAGE", 60)],
)
def test_python_reads_a_failure_and_its_cost(
    runway: RunwayServer, client: runwayml.RunwayML, verb: str, word: str, code: str, credits: int
) -> None:
    runway.say(act(verb, word=word, message="it broke"))

    with pytest.raises(polling.TaskFailedError) as caught:
        text(client).wait_for_task_output()

    failed: Any = caught.value.task_details
    assert (failed.failure, failed.failure_code, failed.cost.credits) == ("it broke", code, credits)


def test_python_reads_moderation_of_its_prompt(client: runwayml.RunwayML) -> None:
    with pytest.raises(polling.TaskFailedError) as caught:
        text(client, f"a {FORBIDDEN} scene").wait_for_task_output()

    failed: Any = caught.value.task_details
    assert (failed.failure_code, failed.cost.credits) == ("SAFETY.INPUT.TEXT", 60)


def test_python_cancels_and_the_task_is_cancelled_or_gone(runway: RunwayServer, client: runwayml.RunwayML) -> None:
    task = text(client)

    client.tasks.delete(task.id)

    told: Any = client.tasks.retrieve(task.id)
    assert (told.status, told.cost.credits) == ("CANCELLED", 0)
    runway.tells_cancelled = False
    with pytest.raises(runwayml.NotFoundError):
        client.tasks.retrieve(task.id)
    with pytest.raises(runwayml.NotFoundError):
        client.tasks.delete(task.id)


def test_python_waits_in_vain_for_a_cancelled_task(client: runwayml.RunwayML) -> None:
    task = text(client)
    client.tasks.delete(task.id)

    with pytest.raises(polling.TaskTimeoutError):
        task.wait_for_task_output(timeout=0.05)


def test_python_is_refused_in_runways_words(runway: RunwayServer, client: Any) -> None:
    runway.say(act("status", status=400, message=NO_CREDITS, after=1))

    with pytest.raises(runwayml.BadRequestError) as invalid:
        client.text_to_video.create(model="gen4.5", prompt_text="a cat", ratio="1:1", duration=50)
    with pytest.raises(runwayml.BadRequestError, match="enough credits"):
        text(client)

    body: Any = invalid.value.body
    assert {tuple(issue["path"]) for issue in body["issues"]} == {("ratio",), ("duration",)}
    assert runway.ledger() == []


def test_python_reads_a_bad_key(tmp_path: Path) -> None:
    with (
        RunwayServer(tmp_path, Options(keys=("key_right",))) as server,
        runwayml.RunwayML(api_key=KEY, base_url=server.url) as client,
        pytest.raises(runwayml.AuthenticationError),
    ):
        text(client)


def test_python_buys_twice_when_a_reply_is_lost(runway: RunwayServer, client: runwayml.RunwayML) -> None:
    runway.say(act("accept_then_cut"))

    task = text(client)

    assert [row.id == task.id for row in runway.ledger()] == [False, True]


# --- JavaScript -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(node: Node) -> dict[str, dict[str, Any]]:
    """What the JavaScript client saw, scene by scene, and the server's ledger under `ledger`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RunwayServer(Path(folder), Options(pace=Pace(steps=2), keys=(KEY,))) as server,
    ):
        server.tells_cancelled = True
        drawn = base64.b64encode(PICTURE).decode()
        return node.run("runway_judge.mjs", server.url, drawn) | {"ledger": {"rows": server.ledger()}}


needs_node = pytest.mark.node


@needs_node
def test_javascript_submits_polls_and_gets_its_clip(seen: dict[str, dict[str, Any]]) -> None:
    scene = seen["submit_and_poll"]

    assert scene["created"]["id"] == seen["ledger"]["rows"][0].id
    assert scene["created"]["estimatedCost"] == {"credits": 60}
    assert [one["status"] for one in scene["told"]] == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert scene["told"][2]["cost"] == {"credits": 60}
    assert scene["start"] == "ftyp"


@needs_node
@pytest.mark.parametrize("scene", ["wait", "upload"])
def test_javascript_waits_for_its_clip(seen: dict[str, dict[str, Any]], scene: str) -> None:
    assert seen[scene]["done"]["status"] == "SUCCEEDED"
    assert seen[scene].get("uri", "runway://").startswith("runway://")


@needs_node
@pytest.mark.parametrize(
    ("scene", "code", "credits"), [("failure", "THIRD_PARTY.UNAVAILABLE", 0), ("moderation", "SAFETY.INPUT.TEXT", 60)]
)
def test_javascript_reads_a_failure_and_its_cost(
    seen: dict[str, dict[str, Any]], scene: str, code: str, credits: int
) -> None:
    error = seen[scene]["error"]

    assert error["name"] == "TaskFailedError"
    assert (error["task"]["failureCode"], error["task"]["cost"]["credits"]) == (code, credits)


@needs_node
def test_javascript_cancels(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["cancel"]["told"]["status"] == "CANCELLED"
    assert seen["cancel"]["waited"] == "TaskFailedError"
    assert seen["cancel_again"]["error"]["name"] == "NotFoundError"


@needs_node
def test_javascript_is_refused_in_runways_words(seen: dict[str, dict[str, Any]]) -> None:
    error = seen["invalid"]["error"]

    assert (error["name"], error["status"]) == ("BadRequestError", 400)
    assert sorted(issue["path"][0] for issue in error["body"]["issues"]) == ["duration", "ratio"]
    assert seen["bad_key"]["error"]["status"] == 401


@needs_node
def test_javascript_buys_twice_when_a_reply_is_lost(seen: dict[str, dict[str, Any]]) -> None:
    rows = seen["ledger"]["rows"]
    (found,) = (row for row in rows if row.id == seen["lost_reply"]["id"])

    assert [row.id for row in rows if row.body_sha256 == found.body_sha256][1:] == [found.id]
