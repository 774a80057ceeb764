"""fal's own clients, Python and JavaScript, take the fal server of these tests for fal.

They also show why the gateway does not use them: on a lost reply each of them buys the clip again.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fal_client
import pytest

from tests.sdk.conftest import Node
from tests.vendors.fal import FalServer
from tests.vendors.fal_caller import INPUT, V3_PICTURE, V3_TEXT, picture
from tests.vendors.fal_models import FORBIDDEN
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.script import act
from tests.vendors.server import Options

KEY = "test-id:test-secret"
ONCE_THROUGH = ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


# --- Python -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FalServer]:
    """The server, with the client sent to it.

    Hosts can be set by environment, but only with https in front, read once at import, and not for uploads. So the
    constants that hold scheme and host are replaced, before anything that the client appends to them.
    """
    client = importlib.import_module("fal_client.client")
    with FalServer(tmp_path, Options(pace=Pace(steps=2))) as server:
        monkeypatch.setattr(client, "QUEUE_URL_FORMAT", f"{server.url}/")
        monkeypatch.setattr(client, "RUN_URL_FORMAT", f"{server.url}/run/")
        monkeypatch.setattr(client, "REST_URL", server.url)
        monkeypatch.setattr(client, "CDN_URL", server.url)
        yield server


@pytest.fixture
def client(fal: FalServer) -> fal_client.SyncClient:
    return fal_client.SyncClient(key=KEY)


def error_of(handle: Any) -> Any:
    """What the client raises for the result: its `message` is typed as text, but is the list where fal sent one."""
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.get(interval=0)
    return caught.value


def test_python_submits_polls_and_gets_its_clip(fal: FalServer, client: Any) -> None:
    handle = client.submit(V3_TEXT, INPUT, hint="a-runner", priority="low", start_timeout=30)

    statuses = [type(status).__name__ for status in handle.iter_events(with_logs=True, interval=0)]
    result = handle.get(interval=0)

    (row,) = fal.ledger()
    assert row.id == handle.request_id
    assert statuses == ["Queued", "InProgress", "Completed"]
    assert result["video"]["content_type"] == "video/mp4"
    assert fal.requests()[0].headers["x-fal-request-timeout"] == "30.0"


def test_python_finds_a_job_by_its_id_alone(fal: FalServer, client: Any) -> None:
    id = client.submit(V3_TEXT, INPUT).request_id
    fal.finish(id)

    assert isinstance(client.status(V3_TEXT, id), fal_client.Completed)
    assert client.result(V3_TEXT, id)["video"]["url"].startswith(fal.url)


def test_python_subscribes(client: Any) -> None:
    seen: list[Any] = []

    result = client.subscribe(V3_TEXT, INPUT, with_logs=True, interval=0, on_queue_update=seen.append)

    assert [type(status).__name__ for status in seen] == ["Queued", "InProgress", "Completed"]
    assert seen[0].position == 0
    assert seen[1].logs[0]["message"]
    assert seen[2].error is None
    assert result["video"]["file_size"] > 0


def test_python_async_subscribes(fal: FalServer) -> None:
    async def subscribe() -> Any:
        return await fal_client.AsyncClient(key=KEY).subscribe(V3_TEXT, INPUT, interval=0)

    assert asyncio.run(subscribe())["video"]["url"].startswith(fal.url)


def test_python_runs_synchronously(fal: FalServer, client: Any) -> None:
    fal.say(act("render", on="run", seconds=0))

    assert client.run(V3_TEXT, INPUT)["video"]["content_type"] == "video/mp4"


def test_python_cancels_and_the_job_ends_as_cancelled(client: Any) -> None:
    handle = client.submit(V3_TEXT, INPUT)

    handle.cancel()

    assert handle.status().error_type == "client_cancelled"
    assert error_of(handle).status_code == 499


def test_python_is_told_that_a_cancel_came_too_late(fal: FalServer, client: Any) -> None:
    handle = client.submit(V3_TEXT, INPUT)
    fal.finish(handle.request_id)

    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        handle.cancel()
    assert caught.value.response.json() == {"status": "ALREADY_COMPLETED"}


def test_python_uploads_a_picture_and_begins_a_clip_with_it(fal: FalServer, client: Any) -> None:
    address = client.upload(picture(300, 300), "image/png", "a.png")

    result = client.subscribe(V3_PICTURE, INPUT | {"start_image_url": address}, interval=0)

    assert address.startswith(f"{fal.url}/files/")
    assert result["video"]["url"].startswith(fal.url)


def test_python_falls_back_to_its_second_way_of_uploading(fal: FalServer, client: Any) -> None:
    fal.say(act("status", on="upload", status=500))

    assert client.upload(b"a picture", "image/png", "a.png").endswith("/a.png")


def test_python_reads_an_invalid_input_in_the_result(client: Any) -> None:
    handle = client.submit(V3_TEXT, INPUT | {"duration": 5})

    error = error_of(handle)

    assert handle.status().error is None  # the status alone would pass for a success
    assert error.status_code == 422
    assert error.message[0]["loc"] == ["body", "duration"]
    assert error.message[0]["type"] == "one_of"


def test_python_reads_moderation_in_the_result(client: Any) -> None:
    error = error_of(client.submit(V3_TEXT, INPUT | {"prompt": FORBIDDEN}))

    assert (error.status_code, error.message[0]["type"]) == (422, "content_policy_violation")


def test_python_reads_a_failed_render_in_status_and_result(fal: FalServer, client: Any) -> None:
    fal.say(act("fail_render", word="runner_server_error", message="the runner broke"))
    handle = client.submit(V3_TEXT, INPUT)

    error = error_of(handle)

    assert (error.status_code, error.error_type, error.message) == (500, "runner_server_error", "the runner broke")
    assert handle.status().error_type == "runner_server_error"


def test_python_reads_a_locked_account_and_a_bad_key(fal: FalServer, client: Any) -> None:
    fal.say(act("status", status=403))

    with pytest.raises(fal_client.FalClientHTTPError, match="User is locked"):
        client.submit(V3_TEXT, INPUT)
    with pytest.raises(fal_client.FalClientHTTPError, match="Invalid Key Authorization header"):
        fal_client.SyncClient(key="nonsense").submit(V3_TEXT, INPUT)


def test_python_hands_over_a_callback(fal: FalServer, client: Any) -> None:
    with Receiver() as gateway:
        handle = client.submit(V3_TEXT, INPUT, webhook_url=f"{gateway.url}/callbacks/a-token?a=b")
        fal.finish(handle.request_id)

        (call,) = gateway.wait()

    assert call.json()["request_id"] == handle.request_id
    assert fal.ledger()[0].token == "a-token"


def test_python_buys_twice_when_a_reply_is_lost(fal: FalServer, client: Any) -> None:
    fal.say(act("accept_then_cut"))

    handle = client.submit(V3_TEXT, INPUT)

    assert [row.id == handle.request_id for row in fal.ledger()] == [False, True]


def test_python_tries_again_after_the_ingress_failed_but_not_after_fal_did(fal: FalServer, client: Any) -> None:
    fal.say(act("html", status=502, body="<html>nginx</html>", accepted=False), act("status", status=503, after=1))

    client.submit(V3_TEXT, INPUT)
    with pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.submit(V3_TEXT, INPUT)

    assert caught.value.error_type == "runner_scheduling_failure"
    assert len(fal.requests()) == 3


# --- JavaScript -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(node: Node) -> dict[str, dict[str, Any]]:
    """What the JavaScript client saw, scene by scene, and the server's ledger under `ledger`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        FalServer(Path(folder), Options(pace=Pace(steps=2))) as server,
    ):
        drawn = base64.b64encode(picture(300, 300)).decode()
        return node.run("fal_judge.mjs", server.url, drawn) | {"ledger": {"rows": server.ledger()}}


needs_node = pytest.mark.node


@needs_node
def test_javascript_submits(seen: dict[str, dict[str, Any]]) -> None:
    queued = seen["submit"]["queued"]

    assert queued["status"] == "IN_QUEUE"
    assert queued["request_id"] == seen["ledger"]["rows"][0].id


@needs_node
def test_javascript_polls_and_gets_its_clip(seen: dict[str, dict[str, Any]]) -> None:
    scene = seen["status_and_result"]

    assert scene["statuses"] == ONCE_THROUGH
    assert scene["result"]["requestId"] == scene["requestId"]
    assert scene["result"]["data"]["video"]["content_type"] == "video/mp4"


@needs_node
def test_javascript_follows_the_stream_of_statuses(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["stream"]["statuses"] == ONCE_THROUGH
    assert seen["stream"]["last"]["logs"][0]["level"] == "INFO"


@needs_node
@pytest.mark.parametrize("scene", ["subscribe", "subscribe_by_stream"])
def test_javascript_subscribes(seen: dict[str, dict[str, Any]], scene: str) -> None:
    assert seen[scene]["updates"] == ONCE_THROUGH
    assert seen[scene]["result"]["data"]["video"]["file_size"] > 0


@needs_node
def test_javascript_runs_synchronously(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["run"]["result"]["data"]["video"]["file_name"] == "output.mp4"


@needs_node
def test_javascript_cancels_or_learns_that_it_is_too_late(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["cancel"]["status"]["error_type"] == "client_cancelled"
    assert seen["cancel_too_late"]["error"]["body"] == {"status": "ALREADY_COMPLETED"}


@needs_node
def test_javascript_uploads(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["upload"]["same"]
    assert seen["a_picture_in_the_input"]["result"]["data"]["video"]["url"]


@needs_node
@pytest.mark.parametrize(("scene", "type"), [("invalid_input", "one_of"), ("moderation", "content_policy_violation")])
def test_javascript_reads_a_refusal_in_the_result(seen: dict[str, dict[str, Any]], scene: str, type: str) -> None:
    error = seen[scene]["error"]

    assert (error["name"], error["status"], error["message"]) == ("ValidationError", 422, "Unprocessable Entity")
    assert [field["type"] for field in error["fields"]] == [type]


@needs_node
def test_javascript_reads_a_failed_render_in_status_and_result(seen: dict[str, dict[str, Any]]) -> None:
    scene = seen["failed_render"]

    assert (scene["status"]["error"], scene["status"]["error_type"]) == ("the runner broke", "runner_server_error")
    assert (scene["result"]["status"], scene["result"]["body"]["detail"]) == (500, "the runner broke")


@needs_node
def test_javascript_reads_a_locked_account_and_a_missing_key(seen: dict[str, dict[str, Any]]) -> None:
    assert (seen["locked"]["error"]["name"], seen["locked"]["error"]["status"]) == ("ApiError", 403)
    assert "User is locked" in seen["locked"]["error"]["body"]["detail"]
    assert seen["no_key"]["error"]["status"] == 401


@needs_node
def test_javascript_buys_twice_when_a_reply_is_lost(seen: dict[str, dict[str, Any]]) -> None:
    rows = seen["ledger"]["rows"]
    (found,) = (row for row in rows if row.id == seen["lost_reply"]["requestId"])

    assert [row.id for row in rows if row.body_sha256 == found.body_sha256][1:] == [found.id]


@needs_node
def test_nodes_own_cryptography_confirms_the_signature(seen: dict[str, dict[str, Any]]) -> None:
    scene = seen["signature"]

    assert (scene["confirmed"], scene["forged"]) == (True, False)
    assert scene["told"]["status"] == "OK"
