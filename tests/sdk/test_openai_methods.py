"""Every method of `videos` of OpenAI's clients, the newest and those of a year before, in Python and in JavaScript.

Over real sockets, against a real process; the clips are rendered by the sandbox.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import openai
import pytest
from openai import AsyncOpenAI
from PIL import Image

from tests.sdk.conftest import Node, without
from tests.sdk.dev_server import ROOT, Cutter, dev_server

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.xdist_group("openai_methods"),
    pytest.mark.timeout(180),  # four clients at once, in one fixture
]
OLD_PYTHON = Path(sys.prefix) / "openai-2"  # `make test` installs it there, from tests/sdk/openai-2.lock
CLIENTS = ["python", "python-2", "javascript", "javascript-6"]
NEWEST = ("python", "javascript")
VIDEO = {
    "id",
    "object",
    "created_at",
    "status",
    "model",
    "progress",
    "seconds",
    "size",
    "prompt",
    "error",
    "expires_at",
}
Seen = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dev_server(tmp_path_factory.mktemp("filmgate")) as url:
        yield url


@pytest.fixture(scope="module")
def cutters(server: str) -> Iterator[dict[str, Cutter]]:
    """A line that breaks for each client: the first two replies to it are lost."""
    made = {name: Cutter(server, cuts=2) for name in CLIENTS}
    yield made
    for cutter in made.values():
        cutter.close()


@pytest.fixture(scope="module")
def judged(
    server: str, cutters: dict[str, Cutter], node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Seen]]]:
    """What every client saw, scene by scene. They are all at it at once."""
    picture = tmp_path_factory.mktemp("pictures") / "kite.png"
    Image.linear_gradient("L").resize((426, 240)).convert("RGB").save(picture)
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        yield {
            name: pool.submit(_judge, name, node, (server, "dev", str(picture), cutters[name].url)) for name in CLIENTS
        }


def _judge(name: str, node: Node, arguments: tuple[str, ...]) -> Seen:
    if name.startswith("javascript"):
        package = "openai-6" if name.endswith("-6") else "openai"
        if not (node.folder / "node_modules" / package).is_dir():
            without(f"{package} is not installed: run `npm ci` in tests/sdk/js")
        return node.run("openai_methods.mjs", package, *arguments)
    path = [str(OLD_PYTHON)] if name.endswith("-2") else []
    if path and not OLD_PYTHON.is_dir():
        without(f"openai 2.8 is not installed: pip install --no-deps --target {OLD_PYTHON} -r tests/sdk/openai-2.lock")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "openai_judge.py"), *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*path, str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr}"
    found = [json.loads(line) for line in done.stdout.splitlines() if line]
    return {line.pop("name"): line for line in found}


@pytest.fixture(
    params=[name if name.startswith("p") else pytest.param(name, marks=pytest.mark.node) for name in CLIENTS]
)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def seen(client: str, judged: dict[str, Future[Seen]]) -> Seen:
    return judged[client].result()


def test_the_versions_are_the_newest_and_those_of_a_year_before(client: str, seen: Seen) -> None:
    wanted = {"python": openai.__version__, "python-2": "2.8.0", "javascript": "7.", "javascript-6": "6.9.0"}

    assert seen["version"]["version"].startswith(wanted[client])


@pytest.mark.parametrize(
    "scene", ["create_and_poll", "create_with_a_file", "create_with_a_file_id", "create_as_json", "retrieve", "remix"]
)
def test_a_video_is_openais_object(seen: Seen, scene: str) -> None:
    video = seen[scene]["video"]

    assert set(video) >= VIDEO
    assert (video["object"], video["seconds"], video["size"]) == ("video", "1", "426x240")


def test_a_video_is_completed(seen: Seen) -> None:
    video = seen["create_and_poll"]["video"]

    assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)


def test_a_model_that_is_left_out_is_sora_2(seen: Seen) -> None:
    video = seen["create_without_a_model"]["video"]

    assert (video["model"], video["seconds"]) == ("sora-2", "4")


def test_a_file_is_uploaded_used_listed_and_deleted(seen: Seen) -> None:
    scene = seen["create_with_a_file_id"]

    assert scene["file"]["object"] == "file"
    assert (scene["same"], scene["listed"], scene["deleted"]) == (True, True, True)


def test_a_list_goes_over_pages_and_takes_our_filters(seen: Seen) -> None:
    scene = seen["list_pages"]

    assert (scene["page"], scene["has_more"], scene["filtered"]) == (2, True, ["completed"])
    assert len(scene["ids"]) == 5
    assert scene["ids"] == sorted(set(scene["ids"]), reverse=True)


def test_the_clip_and_both_variants_are_downloaded(seen: Seen) -> None:
    told = seen["download"]

    assert {name: found["type"] for name, found in told.items()} == {
        "video": "video/mp4",
        "thumbnail": "image/webp",
        "spritesheet": "image/jpeg",
    }
    assert bytes.fromhex(told["video"]["start"])[4:8] == b"ftyp"
    assert bytes.fromhex(told["thumbnail"]["start"])[8:12] == b"WEBP"
    assert bytes.fromhex(told["spritesheet"]["start"])[:3] == b"\xff\xd8\xff"
    assert all(found["size"] > 500 for found in told.values())


def test_a_remix_names_its_source_and_has_the_new_prompt(seen: Seen) -> None:
    scene = seen["remix"]

    assert (scene["video"]["remixed_from_video_id"], scene["video"]["prompt"]) == (scene["of"], "a blue kite")


def test_an_extension_is_delivered_with_what_it_continues(client: str, seen: Seen) -> None:
    scene = seen["extend"]

    if client not in NEWEST:
        assert scene == {"absent": True}
        return
    assert (scene["video"]["status"], scene["video"]["seconds"]) == ("completed", "2")
    with av.open(io.BytesIO(bytes.fromhex(scene["data"])), "r") as box:
        assert len(list(box.decode(video=0))) == 48
    assert (scene["file"]["status"], scene["file"]["seconds"]) in (("queued", "3"), ("in_progress", "3"))


@pytest.mark.parametrize("scene", ["edit", "characters"])
def test_what_nobody_here_can_do_is_a_typed_error_for_good(client: str, seen: Seen, scene: str) -> None:
    found = seen[scene]

    if client not in NEWEST:
        assert found == {"absent": True}
        return
    for error in (found,) if scene == "edit" else found.values():
        assert (error["class"], error["status"], error["code"], error["retry"]) == (
            "UnprocessableEntityError",
            422,
            "unsupported_operation",
            "false",
        )


def test_a_deleted_video_is_gone(seen: Seen) -> None:
    scene = seen["delete"]

    assert scene["deleted"] == {"id": scene["id"], "object": "video.deleted", "deleted": True}
    assert (scene["after"]["class"], scene["after"]["code"]) == ("NotFoundError", "video_not_found")


def test_models_are_found(seen: Seen) -> None:
    assert {"sora-2", "sandbox", "kling-v3-pro"} <= set(seen["models"]["models"])
    assert seen["models"]["pinned"] == "sandbox"


def test_three_sendings_of_one_create_are_one_job(
    client: str, seen: Seen, cutters: dict[str, Cutter], server: str
) -> None:
    video = seen["create_over_a_line_that_breaks"]["video"]

    with openai.OpenAI(base_url=f"{server}/v1", api_key="dev") as asking:
        made = [one.id for one in asking.videos.list() if one.prompt == video["prompt"]]
    lost = [reply for reply in cutters[client].swallowed if video["id"].encode() in reply]
    assert len(lost) == 2, cutters[client].swallowed
    assert made == [video["id"]]


@pytest.mark.anyio
async def test_fifty_at_once_under_one_key_are_one_job(server: str) -> None:
    async with AsyncOpenAI(base_url=f"{server}/v1", api_key="dev", max_retries=3) as client:
        sent = [
            client.videos.create(
                model="sandbox/steady",
                prompt="one of fifty",
                seconds="1",  # type: ignore[arg-type]
                extra_headers={"Idempotency-Key": "fifty"},
            )
            for _ in range(50)
        ]
        ids = {video.id for video in await asyncio.gather(*sent)}
        made = [video.id async for video in client.videos.list() if video.prompt == "one of fifty"]

    assert made == list(ids)
