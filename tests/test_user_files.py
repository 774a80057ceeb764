"""`/v1/files`: pictures that are uploaded once and used by id; whose they are, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api import files
from gateway.api.parts import SentPicture
from gateway.api.problems import Problem
from gateway.store.spec import Key
from tests.api_house import START_US, House, opened, picture

pytestmark = pytest.mark.anyio
DAY = 86_400


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def upload(house: House, data: bytes | None = None, name: str = "kite.png", **fields: str) -> httpx.Response:
    form = {"purpose": "vision", **fields}
    return await house.client.post("/v1/files", data=form, files={"file": (name, data or picture(), "image/png")})


async def uploaded(house: House, data: bytes | None = None, **fields: str) -> dict[str, Any]:
    answer = await upload(house, data, "kite.png", **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def kept(house: House) -> int:
    return len(list((house.folder / "pictures").iterdir()))


async def test_a_file_is_openais_object_and_its_bytes_come_back(house: House) -> None:
    file = await uploaded(house)

    shown = (await house.client.get(f"/v1/files/{file['id']}")).json()
    content = await house.client.get(f"/v1/files/{file['id']}/content")
    assert {"id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status"} <= set(file)
    assert (file["object"], file["filename"], file["purpose"]) == ("file", "kite.png", "vision")
    assert file["expires_at"] - file["created_at"] == files.LIVES_DAYS * DAY
    assert shown == file
    assert (content.content, content.headers["content-type"]) == (picture(), "image/png")


@pytest.mark.parametrize("field", ["input_reference", "frame_images", "input_references"])
async def test_a_file_is_used_by_its_id_wherever_a_picture_stands(house: House, field: str) -> None:
    named = {"file_id": (await uploaded(house))["id"]}
    sent: dict[str, Any] = {
        "input_reference": named,
        "frame_images": [{"image_url": named, "frame_type": "first_frame"}],
        "input_references": [named],
    }

    video = await house.create(
        **{field: sent[field]}, model="kling-o3-pro" if field == "input_references" else "kling-v3-pro"
    )

    asked = (await house.job(video["id"])).spec.video
    media = asked.first_frame or asked.references[0]
    assert (media.width, media.content_type) == (640, "image/png")


async def test_a_file_is_used_by_a_form_as_the_sdks_write_it(house: House) -> None:
    file = await uploaded(house)
    form = {"model": "kling-v3-pro", "prompt": "x", "input_reference[file_id]": file["id"]}

    answer = await house.client.post("/v1/videos", files={name: (None, text) for name, text in form.items()})

    assert answer.status_code == 200, answer.text


async def test_jobs_that_end_leave_a_file_and_a_file_that_goes_leaves_jobs(house: House) -> None:
    file = await uploaded(house)
    video = await house.create(input_reference={"file_id": file["id"]})
    held = (await house.job(video["id"])).spec.video
    other = await house.create(input_reference={"file_id": file["id"]})

    house.rooms.pictures.release(held)
    after_a_job = kept(house)
    await house.client.delete(f"/v1/files/{file['id']}")
    after_the_file = kept(house)
    house.rooms.pictures.release((await house.job(other["id"])).spec.video)

    assert (after_a_job, after_the_file, kept(house)) == (1, 1, 0)


async def test_a_deleted_file_is_gone(house: House) -> None:
    file = await uploaded(house)

    answer = await house.client.delete(f"/v1/files/{file['id']}")
    after = [
        await house.client.get(f"/v1/files/{file['id']}"),
        await house.client.get(f"/v1/files/{file['id']}/content"),
        await house.client.delete(f"/v1/files/{file['id']}"),
    ]
    used = await house.client.post(
        "/v1/videos", json={"model": "kling-v3-pro", "prompt": "x", "input_reference": {"file_id": file["id"]}}
    )

    assert answer.json() == {"id": file["id"], "object": "file", "deleted": True}
    assert {one.status_code for one in after} == {404}
    assert (used.status_code, used.json()["error"]["code"]) == (404, "file_not_found")
    assert used.json()["error"]["param"] == "input_reference"
    assert kept(house) == 0


async def test_anothers_file_is_as_unknown_as_none(house: House) -> None:
    file = await uploaded(house)

    found = await house.store.shelf.of("key_other", file["id"], now_us=START_US)
    page = await house.store.shelf.page(
        "key_other", after=None, limit=9, descending=True, purpose=None, now_us=START_US
    )

    assert (found, page) == (None, ((), False))


async def test_files_are_listed_by_age_and_purpose(house: House) -> None:
    made = [(await uploaded(house, purpose=purpose))["id"] for purpose in ("vision", "user_data", "vision")]

    everything = (await house.client.get("/v1/files?limit=2")).json()
    rest = (await house.client.get(f"/v1/files?limit=2&after={everything['last_id']}")).json()
    vision = (await house.client.get("/v1/files?purpose=vision&order=asc")).json()

    assert ([file["id"] for file in everything["data"]], everything["has_more"]) == ([made[2], made[1]], True)
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([made[0]], False)
    assert [file["id"] for file in vision["data"]] == [made[0], made[2]]


async def test_a_file_ends_when_its_time_is_over(house: House) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = await uploaded(house, None, **fields)
    for _ in range(3600):
        house.rooms.now_us()  # a second passes with each look

    read = await house.client.get(f"/v1/files/{file['id']}")
    gone = await files.forget_expired(house.rooms)

    assert (read.status_code, gone, kept(house)) == (404, 1, 0)


async def test_a_files_picture_outlives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        file = await uploaded(house)

    async with opened(tmp_path) as house:
        await files.hold_all(house.rooms)
        swept = house.rooms.pictures.sweep()
        content = await house.client.get(f"/v1/files/{file['id']}/content")

    assert (swept, content.status_code) == (0, 200)


@pytest.mark.parametrize(
    ("data", "fields", "status", "code", "param"),
    [
        (b"no picture at all", {}, 422, "invalid_image", "file"),
        (b"%PDF-1.7", {}, 422, "unsupported_image_format", "file"),
        (None, {"purpose": ""}, 422, "too_short", "purpose"),
        (None, {"expires_after[seconds]": "60"}, 422, "out_of_range", "expires_after.seconds"),
        (None, {"expires_after[anchor]": "now"}, 422, "invalid_value", "expires_after.anchor"),
        (None, {"porpuse": "x"}, 422, "unknown_field", "porpuse"),
    ],
)
async def test_what_is_no_file_for_us_is_refused_and_not_kept(
    house: House, data: bytes | None, fields: dict[str, str], status: int, code: str, param: str
) -> None:
    answer = await upload(house, data, **fields)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert not (house.folder / "pictures").exists() or kept(house) == 0


async def test_a_key_has_room_for_so_many_files(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 2)
    await uploaded(house)
    last = await uploaded(house, picture(width=700))

    full = await upload(house, picture(width=800))
    await house.client.delete(f"/v1/files/{last['id']}")
    monkeypatch.setattr(files, "MOST_BYTES", len(picture()) + 1)
    large = await upload(house, picture(width=800))

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in (full, large)] == [
        (413, "too_many_files")
    ] * 2
    assert kept(house) == 1


async def test_a_name_is_for_people_and_leads_nowhere(house: House) -> None:
    answer = await upload(house, name="..\\..\\etc/pass\x07wd.png")

    assert answer.json()["filename"] in ("passwd.png", "pass%07wd.png")


@pytest.mark.parametrize(("keep_days", "seconds"), [(None, 30 * DAY), (7, 7 * DAY), (0, 3600), (90, 30 * DAY)])
async def test_a_file_is_kept_no_longer_than_what_its_keys_jobs_leave(keep_days: int | None, seconds: int) -> None:
    key = Key(id="key_1", name="k", hash="0" * 64, hint="", created_us=0, keep_days=keep_days)
    plain = files.FileForm(file=SentPicture(data=b""), purpose="vision")
    longer = files.FileForm(
        file=SentPicture(data=b""), purpose="vision", expires_after=files.ExpiresForm(seconds=seconds + 1)
    )

    assert files._lives(plain, key) == seconds
    with pytest.raises(Problem):
        files._lives(longer, key)
