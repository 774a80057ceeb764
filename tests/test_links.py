"""Signed links to a clip: what opens without a key, for how long, and for nobody else's job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.links import SECOND, Links, Unusable
from providers.spec import Video
from tests.api_house import House, opened

pytestmark = pytest.mark.anyio

KEY = b"a-secret-of-this-test-and-no-other"
JOB = "video_0123456789"
NOW_US = 1_780_000_000 * SECOND + 123_456
CLIP = bytes(range(256)) * 400


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


def token_of(url: str) -> str:
    return url.split("/")[5]


def test_a_link_names_its_job_until_its_end() -> None:
    links = Links(KEY, life_seconds=60)

    url = links.content(JOB, now_us=NOW_US, base="https://video.example.com/")

    assert url.startswith("https://video.example.com/v1/links/")
    assert url.endswith(f"/{JOB}.mp4")
    token = token_of(url)
    assert links.job_of(token, now_us=NOW_US) == JOB
    assert links.job_of(token, now_us=NOW_US + 59 * SECOND) == JOB
    assert links.job_of(token, now_us=NOW_US + 60 * SECOND) is Unusable.EXPIRED


def test_another_gateways_link_opens_nothing() -> None:
    url = Links(KEY, life_seconds=60).content(JOB, now_us=NOW_US, base="https://video.example.com")

    assert Links(KEY + b"!", life_seconds=60).job_of(token_of(url), now_us=NOW_US) is Unusable.UNKNOWN


@given(st.data())
def test_a_link_that_was_touched_anywhere_opens_nothing(data: st.DataObject) -> None:
    links = Links(KEY, life_seconds=60)
    token = token_of(links.content(JOB, now_us=NOW_US, base="x://y"))
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(blacklist_characters=token[place]))

    touched = token[:place] + other + token[place + 1 :]

    assert links.job_of(touched, now_us=NOW_US) is Unusable.UNKNOWN


@given(st.text(max_size=300))
def test_nothing_that_was_never_given_opens_anything(text: str) -> None:
    assert Links(KEY, life_seconds=60).job_of(text, now_us=NOW_US) is Unusable.UNKNOWN


# --- over http --------------------------------------------------------------------------------------------------------


async def linked(house: House) -> tuple[str, str]:
    """A finished job, and the path of a link to its clip."""
    file = house.folder / "clip.mp4"
    file.write_bytes(CLIP)
    video = await house.create()
    await house.finish(video["id"], Video(path=str(file)))
    url = house.rooms.links.content(video["id"], now_us=house.rooms.now_us(), base="http://filmgate.test")
    return video["id"], url.removeprefix("http://filmgate.test")


def stranger(house: House) -> httpx.AsyncClient:
    """A client without any key."""
    return httpx.AsyncClient(transport=house.client._transport, base_url="http://filmgate.test")


async def test_a_link_opens_the_clip_without_a_key(house: House) -> None:
    _, path = await linked(house)

    async with stranger(house) as client:
        whole = await client.get(path)
        part = await client.get(path, headers={"range": "bytes=256-511"})
        head = await client.head(path)

    assert (whole.status_code, whole.content) == (200, CLIP)
    assert whole.headers["content-type"] == "video/mp4"
    assert (part.status_code, part.content) == (206, CLIP[256:512])
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CLIP)))


async def test_a_link_past_its_end_is_gone_and_a_wrong_one_unknown(house: House) -> None:
    job_id, path = await linked(house)
    early = house.rooms.links.content(job_id, now_us=1, base="http://filmgate.test")

    async with stranger(house) as client:
        expired = await client.get(early)
        wrong = await client.get(path.replace("/links/", "/links/x"))
        unsigned = await client.get(f"/v1/links/{job_id}/{job_id}.mp4")

    assert (expired.status_code, expired.json()["error"]["code"]) == (410, "link_expired")
    for answer in (wrong, unsigned):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "link_not_found")


async def test_a_link_to_a_deleted_video_is_gone(house: House) -> None:
    job_id, path = await linked(house)
    assert (await house.client.delete(f"/v1/videos/{job_id}")).status_code == 200

    async with stranger(house) as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")


async def test_a_link_to_a_video_in_the_making_is_not_ready_yet(house: House) -> None:
    video = await house.create()
    url = house.rooms.links.content(video["id"], now_us=house.rooms.now_us(), base="http://filmgate.test")

    async with stranger(house) as client:
        answer = await client.get(url)

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")
