"""WaveSpeed's own Python client takes the WaveSpeed server of these tests for WaveSpeed.

Unlike fal's it never sends a submit twice; it says that the task may exist, and leaves it at that.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.vendors.fal_caller import picture
from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options
from tests.vendors.wavespeed import WaveSpeedServer
from tests.vendors.wavespeed_models import FORBIDDEN

wavespeed: Any = importlib.import_module("wavespeed")  # it carries no types

TEXT = "kwaivgi/kling-v3.0-pro/text-to-video"
PICTURE = "kwaivgi/kling-v3.0-pro/image-to-video"
INPUT = {"prompt": "a cat", "duration": 3, "sound": False}
KEY = "test-key-of-nobody"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WaveSpeedServer]:
    with WaveSpeedServer(tmp_path, Options(pace=Pace(steps=2), keys=(KEY,))) as server:
        yield server


@pytest.fixture
def client(server: WaveSpeedServer) -> Any:
    return wavespeed.Client(api_key=KEY, base_url=server.url, retry_interval=0.01)


def run(client: Any, model: str = TEXT, given: dict[str, Any] = INPUT) -> dict[str, Any]:
    result: dict[str, Any] = client.run(model, given, poll_interval=0)
    return result


def test_client_submits_polls_and_gets_its_clip(server: WaveSpeedServer, client: Any) -> None:
    result = run(client)

    (row,) = server.ledger()
    (address,) = result["outputs"]
    polls = [seen.path for seen in server.requests() if seen.method == "GET"]
    assert polls == [f"/api/v3/predictions/{row.id}/result"] * 3
    assert httpx.get(address).content[4:8] == b"ftyp"
    assert row.usd_micros == 336_000
    assert server.requests()[0].headers["x-client-name"] == "wavespeed-python"


def test_client_reads_a_prediction_by_its_id_alone(server: WaveSpeedServer, client: Any) -> None:
    run(client)

    result = client.get_result(server.ledger()[0].id)

    assert (result["code"], result["message"], result["data"]["status"]) == (200, "success", "completed")
    assert result["data"]["model"] == TEXT


def test_client_reads_a_failure(server: WaveSpeedServer, client: Any) -> None:
    server.say(act("fail_render", message="the upstream broke"))

    result = client.run_no_throw(TEXT, INPUT, poll_interval=0)

    assert (result["status"], result["outputs"]) == ("failed", None)
    assert result["task_id"] == server.ledger()[0].id
    assert "the upstream broke" in result["error"]


def test_client_reads_moderation_as_a_failed_task(server: WaveSpeedServer, client: Any) -> None:
    with pytest.raises(RuntimeError, match="sensitive information"):
        run(client, given=INPUT | {"prompt": f"a {FORBIDDEN} scene"})

    assert client.get_result(server.ledger()[0].id)["data"]["code"] == 1200


@pytest.mark.parametrize("end", ["timeout", "cancelled", "deleted"])
def test_client_takes_these_for_ends_too(server: WaveSpeedServer, client: Any, end: str) -> None:
    server.say(act("fail_render", word=end, message="no more of it"))

    with pytest.raises(RuntimeError, match=f"Prediction {end}"):
        run(client)


def test_client_reads_an_input_that_is_refused(server: WaveSpeedServer, client: Any) -> None:
    with pytest.raises(RuntimeError, match=r"HTTP 400.*property 'duration'"):
        run(client, given=INPUT | {"duration": "3"})

    assert server.ledger() == []


def test_client_reads_a_bad_key(server: WaveSpeedServer) -> None:
    stranger = wavespeed.Client(api_key="another", base_url=server.url)

    with pytest.raises(RuntimeError, match="HTTP 401"):
        run(stranger)


def test_client_uploads_a_picture_and_begins_a_clip_with_it(
    server: WaveSpeedServer, client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "first.png"
    path.write_bytes(picture(640, 360))

    address = client.upload(str(path))
    result = run(client, PICTURE, INPUT | {"image": address})

    assert httpx.get(address).content == path.read_bytes()
    assert len(result["outputs"]) == 1


def test_client_asks_again_for_a_result_but_never_submits_again(server: WaveSpeedServer, client: Any) -> None:
    server.say(act("status", on="status", status=503), act("status", on="status", status=429), act("accept_then_cut"))

    with pytest.raises(RuntimeError, match="may already have been created"):
        run(client)
    run(client)

    assert len(server.ledger()) == 2
    assert len([seen for seen in server.requests() if seen.method == "POST"]) == 2
    assert len([seen for seen in server.requests() if seen.method == "GET"]) == 5
