"""`/content`'s variants and continued clips: what is made, once, of which clip, and what is left once it is erased."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from gateway import derive, splicing
from providers.spec import Video
from tests.api_house import House, opened, served
from tests.archive_house import kept_house
from tests.vendors import film

pytestmark = pytest.mark.anyio
FIRST, SECOND = "https://files.example/first.mp4", "https://files.example/second.mp4"
PATH = "/v1/videos/extensions"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        house.strangers[FIRST] = served(film.clip(1, 640, 360, audio=True))
        house.strangers[SECOND] = served(film.clip(2, 640, 360, audio=True))
        yield house


async def finished(house: House, url: str = FIRST, **fields: Any) -> str:
    video = await house.create(**fields)
    await house.finish(video["id"], Video(url=url))
    return str(video["id"])


async def content(house: House, id: str, variant: str = "video", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.client.get(f"/v1/videos/{id}/content", params={"variant": variant}, headers=sent)


def made_of(house: House) -> list[str]:
    folder = house.folder / "derived"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def seconds(data: bytes) -> float:
    with av.open(io.BytesIO(data), "r") as box:
        return len(list(box.decode(video=0))) / 24


# --- variants ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "kind", "form", "suffix"),
    [("thumbnail", "image/webp", "WEBP", "webp"), ("spritesheet", "image/jpeg", "JPEG", "jpg")],
)
async def test_a_variant_is_a_picture_of_the_clip(
    house: House, variant: str, kind: str, form: str, suffix: str
) -> None:
    id = await finished(house)

    answer = await content(house, id, variant)
    again = await content(house, id, variant, if_none_match=answer.headers["etag"])
    part = await content(house, id, variant, range="bytes=0-3")

    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["content-disposition"] == f'attachment; filename="{id}.{suffix}"'
    assert answer.headers["etag"] == f'"{id}-{variant}"'
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == form
    assert again.status_code == 304
    assert (part.status_code, part.content) == (206, answer.content[:4])


async def test_many_readers_at_once_make_it_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    make = splicing.thumbnail

    def counted(clip: Path, target: Path) -> None:
        made.append(clip)
        make(clip, target)

    monkeypatch.setitem(derive._MAKERS, derive.Variant.THUMBNAIL, counted)
    id = await finished(house)

    answers = await asyncio.gather(*(content(house, id, "thumbnail") for _ in range(8)))

    assert len({answer.content for answer in answers}) == 1
    assert len(made) == 1
    assert made_of(house) == [f"{id}.webp"]


async def test_what_is_erased_while_it_is_made_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = asyncio.Event(), threading.Event()
    loop, make = asyncio.get_running_loop(), splicing.thumbnail

    def slow(clip: Path, target: Path) -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)
        make(clip, target)

    monkeypatch.setitem(derive._MAKERS, derive.Variant.THUMBNAIL, slow)
    id = await finished(house)
    asked = asyncio.create_task(content(house, id, "thumbnail"))
    await begun.wait()

    await house.client.delete(f"/v1/videos/{id}")
    go.set()
    answer = await asked

    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
    assert made_of(house) == []


async def test_one_reader_that_goes_away_leaves_the_others_theirs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = asyncio.Event(), threading.Event()
    loop, make = asyncio.get_running_loop(), splicing.thumbnail

    def slow(clip: Path, target: Path) -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)
        make(clip, target)

    monkeypatch.setitem(derive._MAKERS, derive.Variant.THUMBNAIL, slow)
    id = await finished(house)
    gone, stays = (asyncio.create_task(content(house, id, "thumbnail")) for _ in range(2))
    await begun.wait()

    gone.cancel()
    go.set()

    assert (await stays).status_code == 200


async def test_a_clip_that_cannot_be_decoded_has_no_picture(house: House) -> None:
    house.strangers[FIRST] = served(b"no video at all" * 100)
    id = await finished(house)

    answer = await content(house, id, "thumbnail")

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "content_unreadable")
    assert made_of(house) == []


async def test_what_was_made_goes_with_its_video(house: House) -> None:
    id = await finished(house)
    await content(house, id, "thumbnail")
    await content(house, id, "spritesheet")
    made = made_of(house)

    await house.client.delete(f"/v1/videos/{id}")

    assert made == [f"{id}.jpg", f"{id}.webp"]
    assert made_of(house) == []


# --- extensions -------------------------------------------------------------------------------------------------------


async def extended(house: House, id: str, **fields: Any) -> dict[str, Any]:
    body = {"video": {"id": id}, "prompt": "it goes on", "seconds": "5", **fields}
    answer = await house.client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_extension_begins_with_the_last_frame_and_is_as_long_as_both(house: House) -> None:
    source = await finished(house, model="fal/kling-v3-pro", provider={"sort": "price"})

    video = await extended(house, source)

    job = await house.job(video["id"])
    frame = job.spec.video.first_frame
    assert (video["model"], video["seconds"], video["status"]) == ("fal/kling-v3-pro", "6", "queued")
    assert (job.seconds, job.spec.extends, job.spec.preferences.sort) == (5, source, "price")
    assert frame is not None
    assert (frame.content_type, frame.width, frame.height) == ("image/png", 640, 360)
    (house.folder / "first.mp4").write_bytes(film.clip(1, 640, 360, audio=True))
    assert await house.rooms.pictures.read(frame.sha256) == splicing.last_frame(house.folder / "first.mp4")[1]


async def test_what_is_delivered_is_both_in_one(house: House) -> None:
    video = await extended(house, await finished(house))
    await house.finish(video["id"], Video(url=SECOND))

    whole = await content(house, video["id"])
    head = await house.client.head(f"/v1/videos/{video['id']}/content")
    part = await content(house, video["id"], range="bytes=4-7")

    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert seconds(whole.content) == 3
    assert int(head.headers["content-length"]) == len(whole.content)
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert made_of(house) == [f"{video['id']}.before.mp4", f"{video['id']}.joined.mp4"]


async def test_an_extension_of_an_extension_is_all_three(house: House) -> None:
    second = await extended(house, await finished(house))
    await house.finish(second["id"], Video(url=SECOND))

    third = await extended(house, second["id"])
    await house.finish(third["id"], Video(url=SECOND))

    assert third["seconds"] == "8"  # three that are there, and five that were asked for
    assert seconds((await content(house, third["id"])).content) == 5


async def test_it_survives_the_clip_before_it_and_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        house.strangers[FIRST] = served(film.clip(1, 640, 360, audio=False))
        source = await finished(house)
        video = await extended(house, source)
        await house.client.delete(f"/v1/videos/{source}")
        await house.finish(video["id"], Video(url=SECOND))

    async with opened(tmp_path) as house:
        house.strangers[SECOND] = served(film.clip(2, 640, 360, audio=False))
        await house.rooms.derived.sweep(house.store.job)
        answer = await content(house, video["id"])

    assert seconds(answer.content) == 3


async def test_the_archive_gets_both_and_serves_them_when_everything_else_is_gone(tmp_path: Path) -> None:
    async with kept_house(tmp_path) as kept:
        house = kept.house
        house.strangers[FIRST] = served(film.clip(1, 640, 360, audio=False))
        house.strangers[SECOND] = served(film.clip(2, 640, 360, audio=False))
        video = await extended(house, await finished(house))
        await house.finish(video["id"], Video(url=SECOND))
        await kept.archiver.settle()
        house.strangers.clear()
        await house.rooms.derived.discard(video["id"])

        answer = await content(house, video["id"])
        sheet = await content(house, video["id"], "spritesheet")
        await house.client.delete(f"/v1/videos/{video['id']}")

        assert seconds(answer.content) == 3
        assert sheet.status_code == 200
        assert made_of(house) == []


async def test_a_clip_may_be_sent_as_a_file(house: House) -> None:
    files = {"video": ("clip.mp4", film.clip(2, 640, 360, audio=False), "application/octet-stream")}
    form = {"prompt": "on and on", "seconds": "5", "model": "kling-v3-pro"}

    answer = await house.client.post(PATH, data=form, files=files, headers={"idempotency-key": "k"})
    again = await house.client.post(PATH, data=form, files=files, headers={"idempotency-key": "k"})
    other = await house.client.post(
        PATH, data=form, files={"video": film.clip(1, 640, 360, audio=False)}, headers={"idempotency-key": "k"}
    )

    assert (answer.status_code, answer.json()["seconds"]) == (200, "7")
    assert again.json()["id"] == answer.json()["id"]
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert made_of(house) == [f"{answer.json()['id']}.before.mp4"]


REFUSED: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"prompt": "x"}, 422, "missing_field", "video"),
    ({"video": {"id": "video_" + "0" * 36}, "prompt": "x"}, 404, "video_not_found", None),
    ({"video": {"name": "x"}, "prompt": "x"}, 422, "invalid_value", "video"),
    ({"video": {"id": "UNFINISHED"}, "prompt": "x"}, 409, "not_ready", None),
    ({"video": {"id": "DONE"}, "prompt": " "}, 422, "invalid_value", "prompt"),
    ({"video": {"id": "DONE"}, "prompt": "x", "seconds": 99}, 422, "seconds_unsupported", "seconds"),
    ({"video": {"id": "DONE"}, "prompt": "x", "lenght": 9}, 422, "unknown_field", "lenght"),
    ({"video": {"id": "BROKEN"}, "prompt": "x"}, 422, "invalid_video", "video"),
]


@pytest.mark.parametrize(("body", "status", "code", "param"), REFUSED)
async def test_an_extension_that_cannot_be_leaves_nothing_behind(
    house: House, body: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    house.strangers["https://files.example/broken.mp4"] = served(b"no video" * 99)
    ids = {
        "UNFINISHED": (await house.create())["id"],
        "DONE": await finished(house),
        "BROKEN": await finished(house, "https://files.example/broken.mp4"),
    }
    video = body.get("video", {})
    body = {**body, "video": {**video, "id": ids.get(video["id"], video["id"])}} if "id" in video else body

    answer = await house.client.post(PATH, json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    assert made_of(house) == []
    assert len((await house.store.list_jobs("local", after=None, limit=9))[0]) == 3


async def test_what_a_crash_left_before_there_was_a_job_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "derived"
    folder.mkdir()
    for name in ("video_nobody.before.mp4", ".abc.half"):
        (folder / name).write_bytes(b"x")

    async def job(id: str) -> object | None:
        return None

    await derive.Derived(folder).sweep(job)

    assert list(folder.iterdir()) == []


# --- what nobody here can do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/videos/edits"),
        ("POST", "/v1/videos/characters"),
        ("GET", "/v1/videos/characters/char_1"),
    ],
)
async def test_what_no_backend_can_do_is_refused_for_good_and_says_what_would_do(
    house: House, method: str, path: str
) -> None:
    files = {"video": ("a.mp4", bytes(100_000))} if method == "POST" else None

    answer = await house.client.request(method, path, files=files)
    stranger = await house.client.request(method, path, headers={"authorization": "Bearer nobody"})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["retryable"]) == (422, "unsupported_operation", False)
    assert answer.headers["x-should-retry"] == "false"
    assert "POST /v1/videos" in error["nearest"]
    assert stranger.status_code == 401


async def test_a_remix_of_an_extension_points_to_extensions(house: House) -> None:
    video = await extended(house, await finished(house, input_reference=None))

    answer = await house.client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "x"})

    assert (answer.status_code, answer.json()["error"]["nearest"]) == (422, "POST /v1/videos/extensions")
