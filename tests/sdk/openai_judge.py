"""Puts OpenAI's own Python client, of whatever version is installed, through every method of its `videos`.

Usage: openai_judge.py URL KEY PICTURE CUT. PICTURE is the path of a PNG file, CUT an address of the same server whose
first replies are lost. Prints one JSON line for each scene; a method that this version has not is `absent`.
"""

from __future__ import annotations

import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI

warnings.filterwarnings("ignore", category=DeprecationWarning)

URL, KEY, PICTURE, CUT = sys.argv[1:]
CLIP: dict[str, Any] = {
    "model": "sandbox/steady",
    "prompt": f"a red kite, by {openai.__version__}",
    "seconds": "1",
    "size": "426x240",
}
client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
videos: Any = client.videos
scenes: list[Callable[[], dict[str, Any]]] = []
found: dict[str, Any] = {}


def scene(play: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    scenes.append(play)
    return play


def ended(video: Any) -> Any:
    until = time.monotonic() + 60
    while video.status in ("queued", "in_progress"):
        assert time.monotonic() < until, f"{video.id} is still {video.status}"
        time.sleep(0.1)
        video = videos.retrieve(video.id)
    return video


def shown(video: Any) -> dict[str, Any]:
    return dict(video.to_dict())


def refusal(call: Callable[[], Any]) -> dict[str, Any]:
    try:
        call()
    except openai.APIStatusError as error:
        asked = error.response.headers.get("x-should-retry")
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code, "retry": asked}
    raise AssertionError("nothing was refused")


@scene
def version() -> dict[str, Any]:
    return {"version": openai.__version__}


@scene
def create_and_poll() -> dict[str, Any]:
    found["video"] = videos.create_and_poll(**CLIP, poll_interval_ms=100)
    return {"video": shown(found["video"])}


@scene
def create_without_a_model() -> dict[str, Any]:
    video = videos.create(prompt="a red kite", extra_body={"size": "426x240"})
    client.post(f"/videos/{video.id}/cancel", cast_to=object)
    return {"video": shown(video)}


@scene
def create_with_a_file() -> dict[str, Any]:
    return {"video": shown(videos.create(**CLIP, input_reference=Path(PICTURE)))}


@scene
def create_with_a_file_id() -> dict[str, Any]:
    file = client.files.create(file=Path(PICTURE), purpose="vision")
    listed = [one.id for one in client.files.list()]
    again = client.files.retrieve(file.id)
    data = client.files.content(file.id).read()
    video = videos.create(**CLIP, extra_body={"input_reference": {"file_id": file.id}})
    deleted = client.files.delete(file.id)
    return {
        "file": dict(file.to_dict()),
        "same": again == file and data == Path(PICTURE).read_bytes(),
        "listed": file.id in listed,
        "deleted": deleted.deleted,
        "video": shown(video),
    }


@scene
def create_as_json() -> dict[str, Any]:
    return {"video": shown(videos.create(**CLIP, extra_headers={"Content-Type": "application/json"}))}


@scene
def retrieve() -> dict[str, Any]:
    return {"video": shown(videos.retrieve(found["video"].id))}


@scene
def list_pages() -> dict[str, Any]:
    page = videos.list(limit=2)
    ids = [video.id for _, video in zip(range(5), videos.list(limit=2), strict=False)]
    failed = [video.status for video in videos.list(extra_query={"status": "completed", "model": CLIP["model"]})]
    return {"page": len(page.data), "has_more": page.has_more, "ids": ids, "filtered": sorted(set(failed))}


@scene
def download() -> dict[str, Any]:
    told = {}
    for variant in ("video", "thumbnail", "spritesheet"):
        answer = videos.download_content(found["video"].id, variant=variant)
        data = answer.read()
        told[variant] = {"type": answer.response.headers["content-type"], "size": len(data), "start": data[:12].hex()}
    return told


@scene
def remix() -> dict[str, Any]:
    return {"video": shown(videos.remix(found["video"].id, prompt="a blue kite")), "of": found["video"].id}


@scene
def extend() -> dict[str, Any]:
    if not hasattr(videos, "extend"):
        return {"absent": True}
    omit: Any = openai.omit  # the client's own types allow {"id": …}, but its encoder does not
    video = ended(
        videos.extend(prompt="it goes on", seconds="1", video=omit, extra_body={"video": {"id": found["video"].id}})
    )
    data = videos.download_content(video.id).read()
    file = videos.extend(
        prompt="and on",
        seconds="1",
        video=("clip.mp4", io.BytesIO(data), "video/mp4"),
        extra_body={"model": CLIP["model"]},
    )
    return {"video": shown(video), "data": data.hex(), "file": shown(file)}


@scene
def edit() -> dict[str, Any]:
    if not hasattr(videos, "edit"):
        return {"absent": True}
    return refusal(lambda: videos.edit(prompt="x", video=("clip.mp4", io.BytesIO(bytes(100_000)), "video/mp4")))


@scene
def characters() -> dict[str, Any]:
    if not hasattr(videos, "create_character"):
        return {"absent": True}
    clip = ("clip.mp4", io.BytesIO(bytes(100_000)), "video/mp4")
    return {
        "create": refusal(lambda: videos.create_character(name="Mara", video=clip)),
        "get": refusal(lambda: videos.get_character("char_1")),
    }


@scene
def delete() -> dict[str, Any]:
    video = ended(videos.create(**CLIP))
    deleted = videos.delete(video.id)
    return {"deleted": dict(deleted.to_dict()), "id": video.id, "after": refusal(lambda: videos.retrieve(video.id))}


@scene
def models() -> dict[str, Any]:
    listed = [model.id for model in client.models.list()]
    return {"models": listed, "pinned": client.models.retrieve("sandbox").id}


@scene
def create_over_a_line_that_breaks() -> dict[str, Any]:
    with OpenAI(base_url=f"{CUT}/v1", api_key=KEY, max_retries=2) as cut:
        return {"video": shown(cut.videos.create(**CLIP | {"prompt": f"once, by {openai.__version__}"}))}


for play in scenes:
    print(json.dumps({"name": play.__name__, **play()}), flush=True)
