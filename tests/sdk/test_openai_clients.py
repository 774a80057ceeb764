"""OpenAI's own clients, Python and JavaScript, unmodified, take `filmgate serve --dev` for OpenAI's videos API.

Over real sockets, against a real process; the clips are rendered by the sandbox.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.sdk.conftest import Node
from tests.sdk.dev_server import dev_server

pytestmark = [
    # every method of the clients' `videos` says that OpenAI's own service has ended
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.xdist_group("openai_clients"),
]
MODEL = "sandbox/steady"  # the lane that never breaks
CLIP: dict[str, Any] = {"model": MODEL, "prompt": "a red kite over the dunes", "seconds": "1", "size": "426x240"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of these tests alone."""
    with dev_server(tmp_path_factory.mktemp("filmgate")) as url:
        yield url


@pytest.fixture
def client(server: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server}/v1", api_key="dev") as client:
        yield client


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "kite.png"
    Image.linear_gradient("L").resize((426, 240)).convert("RGB").save(path)
    return path


def is_mp4(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and len(data) > 1000


# --- Python -----------------------------------------------------------------------------------------------------------


def test_python_creates_polls_downloads_and_deletes(client: OpenAI) -> None:
    video: Any = client.videos.create_and_poll(**CLIP, poll_interval_ms=100)

    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.object, video.model, video.seconds, video.size) == ("video", MODEL, "1", "426x240")
    assert video.completed_at is not None
    assert video.completed_at >= video.created_at
    assert is_mp4(client.videos.download_content(video.id).read())
    assert client.videos.retrieve(video.id).status == "completed"
    deleted = client.videos.delete(video.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_python_is_told_how_often_to_look(client: OpenAI) -> None:
    raw = client.videos.with_raw_response.create(**CLIP)

    assert 1000 <= int(raw.headers["openai-poll-after-ms"]) <= 5000
    assert raw.parse()._request_id == raw.headers["x-request-id"]


@pytest.mark.parametrize("form", ["path", "tuple", "bytes"])
def test_python_creates_with_a_file(client: OpenAI, picture: Path, form: str) -> None:
    files: dict[str, Any] = {
        "path": picture,
        "tuple": ("kite.png", io.BytesIO(picture.read_bytes()), "image/png"),
        "bytes": picture.read_bytes(),
    }

    video: Any = client.videos.create(**CLIP, input_reference=files[form])

    assert video.status in ("queued", "in_progress")
    assert video.size == "426x240"


def test_python_creates_with_extra_fields(client: OpenAI) -> None:
    video: Any = client.videos.create(
        **CLIP,
        extra_body={
            "generate_audio": True,
            "seed": 7,
            "metadata": {"shot": "12"},
            "provider": {"only": ["sandbox"], "max_price": {"request": 0.5}},
        },
    )

    assert video.metadata == {"shot": "12"}
    assert video.routing["backend"] == MODEL
    assert video.routing["pretend"] is True
    assert video.routing["estimated_cost_usd"] == 0.1
    assert "generate_audio was not given: the clip is silent" not in video.warnings


def test_python_creates_with_a_picture_in_extra_fields(client: OpenAI) -> None:
    address = "data:image/gif;base64,R0lGODlhAQABAAAAACw="

    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.videos.create(**CLIP, extra_body={"input_reference": {"image_url": address}})

    assert (caught.value.code, caught.value.param) == ("unsupported_image_format", "input_reference")


def test_python_creates_with_json(client: OpenAI) -> None:
    video = client.videos.create(**CLIP, extra_headers={"Content-Type": "application/json"})

    assert video.status in ("queued", "in_progress")


def test_python_asks_for_sora_and_gets_its_clip(client: OpenAI) -> None:
    video = client.videos.create_and_poll(
        model="sora-2",
        prompt="a red kite",
        extra_body={"size": "426x240", "provider": {"only": [MODEL]}},
        poll_interval_ms=100,
    )

    assert (video.status, video.model, video.seconds) == ("completed", "sora-2", "4")


def test_python_lists_over_pages(client: OpenAI) -> None:
    made = [client.videos.create(**CLIP).id for _ in range(5)]

    page = client.videos.list(limit=2)
    newest = [video.id for _, video in zip(range(5), client.videos.list(limit=2), strict=False)]
    oldest = next(iter(client.videos.list(limit=1, order="asc"))).id

    assert (len(page.data), page.has_more) == (2, True)
    assert newest == made[::-1]
    assert oldest < made[0]


def test_python_asks_again_with_a_key_and_gets_the_same_video(client: OpenAI) -> None:
    once = {"Idempotency-Key": "a-key-of-this-test"}

    first = client.videos.create(**CLIP, extra_headers=once)
    again = client.videos.create(**CLIP, extra_headers=once)

    assert again.id == first.id


def test_python_streams_a_download_and_a_part_of_it(client: OpenAI) -> None:
    video = client.videos.create_and_poll(**CLIP, poll_interval_ms=100)
    whole = client.videos.download_content(video.id).read()

    with client.videos.with_streaming_response.download_content(video.id) as response:
        streamed = b"".join(response.iter_bytes(4096))
    part = client.videos.download_content(video.id, extra_headers={"Range": "bytes=4-7"}).read()

    assert streamed == whole
    assert part == b"ftyp"


def test_python_sees_typed_errors(client: OpenAI, server: str) -> None:
    with (
        OpenAI(base_url=f"{server}/v1", api_key="fg_live_nobody") as stranger,
        pytest.raises(openai.AuthenticationError) as bad_key,
    ):
        stranger.videos.create(**CLIP)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.videos.retrieve("video_" + "0" * 36)
    with pytest.raises(openai.NotFoundError) as no_model:
        client.videos.create(**CLIP | {"model": "sandbux"})
    with pytest.raises(openai.UnprocessableEntityError) as impossible:
        client.videos.create(**CLIP | {"seconds": "99"})
    with pytest.raises(openai.UnprocessableEntityError) as unknown_field:
        client.videos.create(**CLIP, extra_body={"lenght": 5})

    assert bad_key.value.code == "invalid_api_key"
    assert (unknown.value.code, no_model.value.code) == ("video_not_found", "model_not_found")
    assert (impossible.value.code, impossible.value.param) == ("seconds_unsupported", "seconds")
    assert "seconds=20" in impossible.value.message
    assert (unknown_field.value.code, unknown_field.value.param) == ("unknown_field", "lenght")
    assert impossible.value.request_id is not None
    assert impossible.value.request_id.startswith("req_")


def test_python_does_not_repeat_what_is_for_good(client: OpenAI) -> None:
    video = client.videos.create(**CLIP | {"seconds": "10"})
    asked_again: list[str] = []

    def count(request: Any) -> None:
        asked_again.append(request.headers["x-stainless-retry-count"])

    client._client.event_hooks["request"] = [count]
    with pytest.raises(openai.ConflictError) as caught:
        client.videos.delete(video.id)

    assert caught.value.code == "video_not_finished"
    assert asked_again == ["0"]  # though a 409 is one of the statuses that the client repeats


def test_python_cancels_and_reads_a_failed_video(client: OpenAI) -> None:
    video = client.videos.create(**CLIP | {"seconds": "20"})

    answer = client.post(f"/videos/{video.id}/cancel", cast_to=openai.types.Video)

    assert (answer.id, answer.status) == (video.id, "failed")
    assert answer.error is not None
    assert answer.error.code == "cancelled"


def test_python_finds_the_models(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}

    assert {"sora-2", "sandbox", "kling-v3-pro"} <= set(models)
    assert models["sandbox"].owned_by == "sandbox"


# --- JavaScript -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(server: str, node: Node, picture: Path) -> dict[str, dict[str, Any]]:
    """What the judge saw, scene by scene."""
    return node.run("openai_judge.mjs", server, "dev", str(picture))


needs_node = pytest.mark.node


@needs_node
def test_javascript_creates_with_a_file_and_downloads_the_clip(seen: dict[str, dict[str, Any]]) -> None:
    scene = seen["create_with_a_file"]

    assert scene["video"]["object"] == "video"
    assert (scene["done"]["status"], scene["done"]["progress"]) == ("completed", 100)
    assert (scene["type"], scene["start"]) == ("video/mp4", "ftyp")
    assert scene["size"] > 1000


@needs_node
@pytest.mark.parametrize("scene", ["create_with_a_stream", "create_with_an_address", "create_as_json"])
def test_javascript_creates_in_every_encoding(seen: dict[str, dict[str, Any]], scene: str) -> None:
    video = seen[scene]["video"]

    assert video["status"] in ("queued", "in_progress")
    assert (video["seconds"], video["size"]) == ("1", "426x240")


@needs_node
def test_javascript_passes_our_own_fields(seen: dict[str, dict[str, Any]]) -> None:
    video = seen["create_with_our_own_fields"]["video"]

    assert video["metadata"] == {"shot": "12"}
    assert video["routing"]["backend"] == MODEL


@needs_node
def test_javascript_asks_for_sora(seen: dict[str, dict[str, Any]]) -> None:
    video = seen["create_sora"]["video"]

    assert (video["model"], video["seconds"]) == ("sora-2", "4")


@needs_node
def test_javascript_lists_over_pages(seen: dict[str, dict[str, Any]]) -> None:
    scene = seen["list"]

    assert (scene["page"], scene["has_more"]) == (2, True)
    assert len(scene["ids"]) == len(set(scene["ids"])) >= 6
    assert scene["ids"] == sorted(scene["ids"], reverse=True)


@needs_node
def test_javascript_deletes(seen: dict[str, dict[str, Any]]) -> None:
    scene = seen["delete"]

    assert scene["deleted"] == {"id": scene["id"], "object": "video.deleted", "deleted": True}
    assert scene["after"]["class"] == "NotFoundError"


@needs_node
@pytest.mark.parametrize(
    ("scene", "kind", "status", "code", "param"),
    [
        ("bad_key", "AuthenticationError", 401, "invalid_api_key", None),
        ("unknown_id", "NotFoundError", 404, "video_not_found", None),
        ("impossible", "UnprocessableEntityError", 422, "seconds_unsupported", "seconds"),
        ("content_too_early", "ConflictError", 409, "not_ready", None),
        ("form_labelled_json", "BadRequestError", 400, "form_labelled_json", None),
    ],
)
def test_javascript_sees_typed_errors(
    seen: dict[str, dict[str, Any]], scene: str, kind: str, status: int, code: str, param: str | None
) -> None:
    error = seen[scene]

    assert (error["class"], error["status"], error["code"], error["param"]) == (kind, status, code, param)
    assert error["requestID"].startswith("req_")
