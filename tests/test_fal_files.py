"""Uploads by fal's two ways: pictures alone, bounded, used by the key that sent them, read by who has the address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import keys
from gateway.api import fal_files
from tests.api_house import House, opened, picture

pytestmark = pytest.mark.anyio

PICTURE = "/fal/fal-ai/kling-video/v3/pro/image-to-video"
NO_KEY = {"authorization": ""}


async def initiated(house: House, name: str = "a.png") -> dict[str, str]:
    body = {"file_name": name, "content_type": "image/png"}
    answer = await house.client.post("/fal/storage/upload/initiate?storage_type=fal-cdn-v3", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def uploaded(house: House, data: bytes, **headers: str) -> httpx.Response:
    token = (await house.client.post("/fal/storage/auth/token", json={})).json()
    sent = {"authorization": f"{token['token_type']} {token['token']}", "x-fal-file-name": "a.png", **headers}
    return await house.client.post("/fal/files/upload", content=data, headers=sent)


def kept(house: House) -> list[Path]:
    return list((house.folder / "pictures").glob("*"))


async def test_a_picture_is_put_without_a_key_and_read_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        given = await initiated(house, "../../my cat.png")
        put = await house.client.put(given["upload_url"], content=picture(), headers=NO_KEY)
        again = await house.client.put(given["upload_url"], content=picture(), headers=NO_KEY)
        read = await house.client.get(given["file_url"], headers=NO_KEY)

    assert given["file_url"].endswith("/mycat.png")
    assert (put.status_code, again.status_code) == (200, 404)
    assert (read.content, read.headers["content-type"]) == (picture(), "image/png")


async def test_a_clip_begins_with_an_upload_though_its_address_is_never_fetched(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        address = (await uploaded(house, picture())).json()["access_url"]
        answer = await house.client.post(PICTURE, json={"prompt": "a", "image_url": address})
        job = await house.job(answer.json()["request_id"])

    assert answer.status_code == 200
    assert job.spec.video.first_frame is not None
    assert job.spec.video.first_frame.source_url is None


async def test_another_keys_upload_is_no_picture(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        new = keys.make("other", now_us=1, random=bytes(range(keys.RANDOM_BYTES)))
        await house.store.create_key(new.key)
        address = (await uploaded(house, picture())).json()["access_url"]
        headers = {"authorization": f"Key {new.text.reveal()}"}
        answer = await house.client.post(PICTURE, json={"prompt": "a", "image_url": address}, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "file_download_error"


@pytest.mark.parametrize(
    ("data", "word"), [(b"GIF89a", "unsupported_image_format"), (b"", "image_load_error"), (b"x", "image_load_error")]
)
async def test_what_is_no_picture_is_refused_and_not_kept(tmp_path: Path, data: bytes, word: str) -> None:
    async with opened(tmp_path) as house:
        answer = await uploaded(house, data)
        left = kept(house)

    assert (answer.status_code, answer.json()["detail"][0]["type"], left) == (422, word, [])


async def test_an_upload_larger_than_any_picture_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        answer = await uploaded(house, b"\x89PNG" + bytes(21 << 20))
        parts = await house.client.post("/fal/storage/upload/initiate-multipart", json={})

    assert (answer.status_code, parts.status_code) == (413, 413)


@pytest.mark.parametrize("token", ["", "Bearer x", "Bearer local.1.abc"])
async def test_a_forged_or_missing_token_uploads_nothing(tmp_path: Path, token: str) -> None:
    async with opened(tmp_path) as house:
        answer = await house.client.post("/fal/files/upload", content=picture(), headers={"authorization": token})
        start = await house.client.post("/fal/storage/upload/initiate", json={}, headers=NO_KEY)

    assert (answer.status_code, start.status_code) == (401, 401)


async def test_the_oldest_uploads_go_when_there_are_too_many_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def status(house: House, address: str) -> int:
        return (await house.client.get(address)).status_code

    async with opened(tmp_path) as house:
        monkeypatch.setattr(fal_files, "MOST_BYTES", len(picture()) * 2 + 50)
        addresses = [(await uploaded(house, picture(width=640 + n))).json()["access_url"] for n in range(3)]
        by_size: list[Any] = [await status(house, address) for address in addresses]
        files = len(kept(house))
        monkeypatch.setattr(fal_files, "MOST_FILES", 1)
        last = (await uploaded(house, picture(width=700))).json()["access_url"]
        by_count = [await status(house, address) for address in (addresses[1], last)]

    assert by_size == [404, 200, 200]
    assert files == 2
    assert by_count == [404, 200]
