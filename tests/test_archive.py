"""The archive as an object store, and the copies that are made into it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.archive import Archive, ArchiveError, BadArchive, NotThere
from gateway.archiving import COPIES_AT_ONCE, GONE_TRIES, Archiver, object_name, retry_seconds
from gateway.jobs import JobEvent, advance
from providers.spec import Video
from tests.api_house import Stranger, served
from tests.archive_house import FILE, Kept, archive_url, kept_house

pytestmark = pytest.mark.anyio

CLIP = bytes(range(256)) * 12_000  # 3 MB: several requests of a reader
IN_A_FOLDER = pytest.mark.skipif("FILMGATE_TESTS_ARCHIVE" in os.environ, reason="looks at files")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(archive_url(tmp_path))


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    async with kept_house(tmp_path) as kept:
        kept.house.strangers[FILE] = served(CLIP, content_length=str(len(CLIP)))
        yield kept


async def pieces(data: bytes, *, breaks: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]
    if breaks is not None:
        raise breaks


async def read(archive: Archive, name: str, first: int, end: int) -> bytes:
    return b"".join([piece async for piece in archive.read(name, first, end)])


# --- the object store -------------------------------------------------------------------------------------------------


async def test_what_is_put_comes_back_whole_and_in_any_part(archive: Archive) -> None:
    stored = await archive.put("2026/01/02/a.mp4", pieces(CLIP))

    assert stored == (len(CLIP), hashlib.sha256(CLIP).hexdigest())
    assert await read(archive, "2026/01/02/a.mp4", 0, len(CLIP)) == CLIP
    for first, end in ((0, 1), (5, 1 << 20), (1 << 20, (1 << 20) + 1), (len(CLIP) - 3, len(CLIP)), (7, 7)):
        assert await read(archive, "2026/01/02/a.mp4", first, end) == CLIP[first:end]


async def test_nothing_is_there_of_a_source_that_broke(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the vendor went away"):
        await archive.put("a/b.mp4", pieces(CLIP * 4, breaks=RuntimeError("the vendor went away")))

    with pytest.raises(NotThere):
        await read(archive, "a/b.mp4", 0, 1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_second_put_takes_the_place_of_the_first(archive: Archive) -> None:
    await archive.put("a.mp4", pieces(CLIP))

    await archive.put("a.mp4", pieces(b"shorter"))

    assert await read(archive, "a.mp4", 0, 7) == b"shorter"


async def test_what_is_removed_is_gone_and_may_be_removed_again(archive: Archive) -> None:
    await archive.put("a.mp4", pieces(CLIP))

    await archive.remove("a.mp4")
    await archive.remove("a.mp4")

    with pytest.raises(NotThere):
        await read(archive, "a.mp4", 0, 1)


async def test_an_object_that_became_shorter_is_not_ended_as_if_it_were_whole(archive: Archive) -> None:
    await archive.put("a.mp4", pieces(b"0123456789"))

    with pytest.raises(ArchiveError):
        await read(archive, "a.mp4", 0, 20)


@IN_A_FOLDER
async def test_an_archive_in_a_folder_is_for_our_eyes_only(tmp_path: Path) -> None:
    Archive(f"file://{tmp_path}/new/clips")

    assert (tmp_path / "new" / "clips").stat().st_mode & 0o777 == 0o700


@IN_A_FOLDER
async def test_what_a_crash_left_of_a_put_goes_with_its_object(archive: Archive, tmp_path: Path) -> None:
    await archive.put("a.mp4", pieces(b"whole"))
    half = tmp_path / "archive" / "a.mp4#1"
    half.write_bytes(b"hal")

    await archive.remove("a.mp4")

    assert not half.exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("clips", "begins with one of file://, s3://, gs://, az://"),
        ("ftp://host/clips", "begins with one of"),
        ("https://bucket.s3.amazonaws.com/x", "begins with one of"),
        ("file://clips", "three slashes"),
        ("file:///proc/nowhere/clips", "cannot be made"),
    ],
)
def test_an_address_that_names_no_archive_says_what_would(url: str, said: str) -> None:
    with pytest.raises(BadArchive, match=said):
        Archive(url)


# --- copies -----------------------------------------------------------------------------------------------------------


async def test_a_finished_clip_is_copied_and_outlives_its_vendors_file(kept: Kept) -> None:
    job_id = await kept.finished()

    await kept.archiver.settle()
    kept.house.strangers[FILE] = served(b"", status=404)

    whole = await kept.content(job_id)
    part = await kept.content(job_id, range="bytes=1500000-1500009")
    head = await kept.house.client.head(f"/v1/videos/{job_id}/content")
    assert (whole.status_code, whole.content) == (200, CLIP)
    assert whole.headers["content-length"] == str(len(CLIP))
    digest = base64.b64encode(hashlib.sha256(CLIP).digest()).decode()
    assert whole.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert (part.status_code, part.content) == (206, CLIP[1_500_000:1_500_010])
    assert part.headers["content-range"] == f"bytes 1500000-1500009/{len(CLIP)}"
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CLIP)))
    assert (await kept.content(job_id, range=f"bytes={len(CLIP)}-")).status_code == 416


async def test_what_is_archived_is_written_down(kept: Kept) -> None:
    job_id = await kept.finished()

    await kept.archiver.settle()

    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert found.archived is not None
    assert found.archived.object == object_name(await kept.house.job(job_id))
    assert found.archived.size_bytes == len(CLIP)
    assert found.archived.sha256 == hashlib.sha256(CLIP).hexdigest()
    assert found.archived.content_type == "video/mp4"
    assert found.archive_due_us is None


async def test_a_clip_is_copied_once(kept: Kept) -> None:
    asked = 0

    def count(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return served(CLIP)(request)

    kept.house.strangers[FILE] = count
    await kept.finished()

    await kept.archiver.settle()
    await kept.archiver.settle()

    assert asked == 1


async def test_an_object_that_somebody_removed_is_read_from_the_vendor_again(kept: Kept) -> None:
    job_id = await kept.finished()
    await kept.archiver.settle()

    await kept.archive.remove(object_name(await kept.house.job(job_id)))

    answer = await kept.content(job_id)
    assert (answer.status_code, answer.content) == (200, CLIP)
    assert "repr-digest" not in answer.headers


async def test_a_file_on_this_machine_lies_where_it_is(kept: Kept) -> None:
    file = kept.house.folder / "clip.mp4"
    file.write_bytes(b"here")
    video = await kept.house.create()
    await kept.house.finish(video["id"], Video(path=str(file)))

    await kept.archiver.settle()

    found = await kept.house.store.files.of(video["id"])
    assert found is not None
    assert (found.archived, found.archive_due_us) == (None, None)
    assert (await kept.content(video["id"])).content == b"here"


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


def break_off(request: httpx.Request) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        yield CLIP
        raise httpx.ReadError("reset")

    return httpx.Response(200, content=body())


@pytest.mark.parametrize("trouble", [served(b"busy", status=503), refuse, break_off, served(b"")])
async def test_a_vendor_in_trouble_is_asked_again_later_and_later(kept: Kept, trouble: Stranger) -> None:
    kept.house.strangers[FILE] = trouble
    job_id = await kept.finished()

    waits = []
    for tries in range(5):
        await kept.archiver.settle()
        found = await kept.house.store.files.of(job_id)
        assert found is not None
        assert found.archived is None
        assert found.archive_tries == tries + 1
        assert found.archive_due_us is not None
        waits.append((found.archive_due_us - kept.clock()) / 1_000_000)
        kept.clock.move(seconds=waits[-1])
    kept.house.strangers[FILE] = served(CLIP)
    await kept.archiver.settle()

    assert waits == [10, 40, 160, 640, 2560]
    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert found.archived is not None
    assert retry_seconds(400) == 3600


async def test_a_file_that_its_vendor_no_longer_has_is_given_up(kept: Kept) -> None:
    kept.house.strangers[FILE] = served(b"", status=404)
    job_id = await kept.finished()

    for _ in range(GONE_TRIES):
        await kept.archiver.settle()
        kept.clock.move(days=1)

    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert (found.archived, found.archive_due_us, found.archive_tries) == (None, None, GONE_TRIES)


async def test_a_vendor_in_trouble_for_a_month_is_given_up(kept: Kept) -> None:
    kept.house.strangers[FILE] = served(b"busy", status=503)
    job_id = await kept.finished()
    kept.clock.move(days=31)

    await kept.archiver.settle()

    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert found.archive_due_us is None


async def test_an_address_into_a_private_network_is_not_opened_for_a_copy_either(kept: Kept) -> None:
    inside = "https://169.254.169.254/latest"
    kept.house.strangers[inside] = served(b"secrets")
    job_id = await kept.finished(inside)

    await kept.archiver.settle()

    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert found.archived is None


async def test_an_expired_address_is_refreshed_for_the_copy(kept: Kept) -> None:
    fresh = "https://files.vendor.example/fresh.mp4"
    kept.house.strangers[FILE] = served(b"", status=403)
    kept.house.strangers[fresh] = served(CLIP)
    job_id = await kept.finished()
    kept.house.store.live.on_refresh(lambda job: moved(kept, job, fresh))

    await kept.archiver.settle()

    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert found.archived is not None


async def moved(kept: Kept, job_id: str, url: str) -> bool:
    """What the worker does when a vendor gives a new address."""
    job = await kept.house.job(job_id)
    await kept.house.store.save(advance(job, JobEvent.REFRESHED, videos=(Video(url=url),)))
    return True


async def test_what_was_due_when_the_process_ended_is_copied_by_the_next(tmp_path: Path) -> None:
    async with kept_house(tmp_path) as kept:
        kept.house.strangers[FILE] = refuse
        job_id = await kept.finished()
        await kept.archiver.settle()

    async with kept_house(tmp_path) as kept:
        kept.house.strangers[FILE] = served(CLIP)
        kept.clock.move(seconds=10)
        await kept.archiver.settle()
        found = await kept.house.store.files.of(job_id)

    assert found is not None
    assert found.archived is not None


async def test_only_so_many_clips_are_copied_at_once(kept: Kept) -> None:
    now = most = 0
    go_on = asyncio.Event()

    def hold(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            nonlocal now, most
            now += 1
            most = max(most, now)
            if now == COPIES_AT_ONCE:
                go_on.set()
            await go_on.wait()
            yield CLIP
            now -= 1

        return httpx.Response(200, content=body())

    kept.house.strangers[FILE] = hold
    ids = [await kept.finished() for _ in range(COPIES_AT_ONCE + 3)]

    await kept.archiver.settle()

    assert most == COPIES_AT_ONCE
    for job_id in ids:
        found = await kept.house.store.files.of(job_id)
        assert found is not None
        assert found.archived is not None


async def test_a_copy_that_is_stopped_leaves_nothing_and_stays_due(kept: Kept, tmp_path: Path) -> None:
    begun = asyncio.Event()

    def endless(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield CLIP
            begun.set()
            await asyncio.Event().wait()

        return httpx.Response(200, content=body())

    kept.house.strangers[FILE] = endless
    job_id = await kept.finished()
    async with kept.archiver.running():
        await asyncio.wait_for(begun.wait(), 5)

    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert found.archived is None
    assert found.archive_due_us is not None
    assert not list((tmp_path / "archive").rglob("*.mp4*"))


async def test_a_clip_that_is_erased_while_it_is_copied_is_gone_from_the_archive_too(
    kept: Kept, tmp_path: Path
) -> None:
    begun = asyncio.Event()

    def slow(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield CLIP
            begun.set()
            await asyncio.Event().wait()

        return httpx.Response(200, content=body())

    kept.house.strangers[FILE] = slow
    job_id = await kept.finished()
    async with kept.archiver.running():
        await asyncio.wait_for(begun.wait(), 5)
        assert (await kept.house.client.delete(f"/v1/videos/{job_id}")).status_code == 200
        found = await kept.house.store.files.of(job_id)

    assert found is not None
    assert (found.archived, found.archive_due_us) == (None, None)
    assert found.files_gone_us is not None
    assert not list((tmp_path / "archive").rglob("*.mp4*"))


async def test_a_copy_that_ends_after_its_clip_was_erased_is_taken_back(kept: Kept, tmp_path: Path) -> None:
    """Another replica's copy: nobody here could stop it."""
    last: list[str] = []

    def erased_meanwhile(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield CLIP
            await kept.house.store.files.erase(last[0], kept.clock())

        return httpx.Response(200, content=body())

    kept.house.strangers[FILE] = erased_meanwhile
    last.append(await kept.finished())

    await kept.archiver.settle()

    found = await kept.house.store.files.of(last[0])
    assert found is not None
    assert found.archived is None
    with pytest.raises(NotThere):
        await read(kept.archive, object_name(await kept.house.job(last[0])), 0, 1)


async def test_a_defect_of_a_library_puts_a_copy_off_and_stops_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await kept.finished()
    monkeypatch.setattr(Archiver, "_keep", broken)

    await kept.archiver.settle()

    found = await kept.house.store.files.of(job_id)
    assert found is not None
    assert found.archive_due_us == kept.clock() + 3_600_000_000


async def broken(*_: object) -> None:
    raise ZeroDivisionError
