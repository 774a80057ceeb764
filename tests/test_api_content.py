"""The clip itself: whole, in ranges, from a file or from a vendor, and what is said when it is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import application
from gateway.api.streaming import asked_range
from gateway.jobs import JobEvent, advance
from gateway.store.spec import Event
from providers.spec import Fault, Kind, Verdict, Video
from tests.api_house import House, opened, served

pytestmark = pytest.mark.anyio

CLIP = bytes(range(256)) * 4000  # 1,024,000 bytes: several pieces
FILE = "https://files.vendor.example/clip.mp4?signature=abc"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def from_file(house: House, data: bytes = CLIP) -> str:
    """The path of a finished job's content, kept on this machine."""
    path = house.folder / "clip.mp4"
    path.write_bytes(data)
    video = await house.create()
    await house.finish(video["id"], Video(path=str(path)))
    return f"/v1/videos/{video['id']}/content"


async def from_vendor(house: House, **video: Any) -> str:
    made = await house.create()
    await house.finish(made["id"], Video(url=FILE, **video))
    return f"/v1/videos/{made['id']}/content"


def ranged(request: httpx.Request) -> httpx.Response:
    """A vendor's file host that knows ranges."""
    asked = request.headers.get("range")
    if asked is None:
        return served(CLIP, content_length=str(len(CLIP)), accept_ranges="bytes", content_type="text/html")(request)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start = int(first) if first else len(CLIP) - int(last)
    end = int(last) + 1 if first and last else len(CLIP)
    if start >= len(CLIP):
        return served(b"x", status=416, content_range=f"bytes */{len(CLIP)}")(request)
    part = CLIP[start:end]
    told = f"bytes {start}-{start + len(part) - 1}/{len(CLIP)}"
    return served(part, status=206, content_range=told, content_length=str(len(part)))(request)


# --- whole ------------------------------------------------------------------------------------------------------------


async def test_a_file_of_this_machine_is_sent_whole(house: House) -> None:
    path = await from_file(house)

    answer = await house.client.get(path, headers={"accept": "application/binary"})

    assert (answer.status_code, answer.content) == (200, CLIP)
    assert answer.headers["content-length"] == str(len(CLIP))
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["etag"] == f'"{path.split("/")[3]}"'
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_vendors_file_is_passed_on_under_our_own_type(house: House) -> None:
    house.strangers[FILE] = ranged
    path = await from_vendor(house, content_type="text/html")

    answer = await house.client.get(path)

    assert (answer.status_code, answer.content) == (200, CLIP)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(CLIP))
    assert "vendor.example" not in str(answer.headers)


async def test_a_vendors_file_of_unknown_length_is_passed_on_without_one(house: House) -> None:
    house.strangers[FILE] = served(CLIP)
    path = await from_vendor(house)

    answer = await house.client.get(path)

    assert (answer.status_code, answer.content) == (200, CLIP)
    assert "content-length" not in answer.headers


async def test_head_tells_everything_and_sends_nothing(house: House) -> None:
    house.strangers[FILE] = ranged

    for path in (await from_file(house), await from_vendor(house)):
        answer = await house.client.head(path)

        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(CLIP))
        assert answer.headers["accept-ranges"] == "bytes"


# --- ranges -----------------------------------------------------------------------------------------------------------

RANGES = [
    ("bytes=0-9", CLIP[:10], f"bytes 0-9/{len(CLIP)}"),
    ("bytes=1023990-", CLIP[-10:], f"bytes 1023990-1023999/{len(CLIP)}"),
    ("bytes=-10", CLIP[-10:], f"bytes 1023990-1023999/{len(CLIP)}"),
    ("bytes=300000-900000", CLIP[300_000:900_001], f"bytes 300000-900000/{len(CLIP)}"),
    ("bytes=5-99999999", CLIP[5:], f"bytes 5-1023999/{len(CLIP)}"),
    ("BYTES=0-9", CLIP[:10], f"bytes 0-9/{len(CLIP)}"),
]


@pytest.mark.parametrize("source", ["file", "vendor"])
@pytest.mark.parametrize(("asked", "part", "told"), RANGES, ids=[row[0] for row in RANGES])
async def test_one_range_is_sent_alone(house: House, source: str, asked: str, part: bytes, told: str) -> None:
    house.strangers[FILE] = ranged
    path = await (from_file(house) if source == "file" else from_vendor(house))

    answer = await house.client.get(path, headers={"range": asked})

    assert (answer.status_code, answer.headers["content-range"]) == (206, told)
    assert answer.content == part
    assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("source", ["file", "vendor"])
async def test_a_range_beyond_the_end_is_a_416(house: House, source: str) -> None:
    house.strangers[FILE] = ranged
    path = await (from_file(house) if source == "file" else from_vendor(house))

    answer = await house.client.get(path, headers={"range": "bytes=1024000-"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(CLIP)}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,4-5", "bytes=9-2", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=" + "9" * 30 + "-", ""]
)
async def test_what_is_no_single_range_is_answered_with_the_whole(house: House, asked: str) -> None:
    path = await from_file(house, b"0123456789")

    answer = await house.client.get(path, headers={"range": asked})

    assert (answer.status_code, answer.content) == (200, b"0123456789")


async def test_a_range_of_another_version_is_answered_with_the_whole(house: House) -> None:
    path = await from_file(house, b"0123456789")
    etag = (await house.client.head(path)).headers["etag"]

    same = await house.client.get(path, headers={"range": "bytes=0-3", "if-range": etag})
    other = await house.client.get(path, headers={"range": "bytes=0-3", "if-range": '"another"'})

    assert (same.status_code, same.content) == (206, b"0123")
    assert (other.status_code, other.content) == (200, b"0123456789")


async def test_a_vendor_that_ignores_ranges_is_passed_on_as_it_answers(house: House) -> None:
    house.strangers[FILE] = served(CLIP)
    path = await from_vendor(house)

    answer = await house.client.get(path, headers={"range": "bytes=0-9"})

    assert (answer.status_code, answer.content) == (200, CLIP)
    assert "content-range" not in answer.headers


async def test_no_range_of_an_empty_file_is_there(house: House) -> None:
    path = await from_file(house, b"")

    assert (await house.client.get(path, headers={"range": "bytes=0-"})).status_code == 416
    assert (await house.client.get(path)).content == b""


@given(text=st.text(alphabet="bytes=-0123456789, ", max_size=20), size=st.integers(0, 50))
def test_whatever_range_is_understood_lies_within_the_file(text: str, size: int) -> None:
    scope = cast(Any, {"headers": [(b"range", text.encode())]})

    span = asked_range(scope, etag='"x"')

    bounds = span.within(size) if span is not None else None
    assert bounds is None or 0 <= bounds[0] < bounds[1] <= size


# --- known already ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_clip_that_the_reader_has_is_not_sent_again(house: House, form: str) -> None:
    path = await from_file(house)
    etag = (await house.client.head(path)).headers["etag"]

    answer = await house.client.get(path, headers={"if-none-match": form.format(etag), "range": "bytes=0-3"})

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag
    assert answer.headers["cache-control"].startswith("private")


async def test_a_clip_that_the_reader_has_is_not_asked_for_at_its_vendor(house: House) -> None:
    asked: list[str] = []

    def spy(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return ranged(request)

    house.strangers[FILE] = spy
    path = await from_vendor(house)

    known = await house.client.get(path, headers={"if-none-match": f'"{path.split("/")[3]}"'})
    other = await house.client.get(path, headers={"if-none-match": '"another"'})

    assert (known.status_code, other.status_code) == (304, 200)
    assert len(asked) == 1


# --- not there --------------------------------------------------------------------------------------------------------


async def test_before_the_end_it_is_not_ready(house: House) -> None:
    video = await house.create()
    path = f"/v1/videos/{video['id']}/content"

    queued = await house.client.get(path)
    await house.start(video["id"])
    running = await house.client.get(path)

    for answer in (queued, running):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")
        assert answer.headers["x-should-retry"] == "false"


async def test_a_job_that_made_nothing_has_no_content(house: House) -> None:
    failed, cancelled = await house.create(), await house.create()
    fault = Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE)
    await house.fail(failed["id"], fault, code="generation_failed")
    job = await house.job(cancelled["id"])
    ended = advance(job, JobEvent.CANCELLED, ended_us=1, cost_usd_micros=0, error_code="cancelled")
    await house.store.save(ended, events=(Event(job=job.id, type=JobEvent.CANCELLED, at_us=1),))

    for video in (failed, cancelled):
        answer = await house.client.get(f"/v1/videos/{video['id']}/content")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_failed")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_link_is_gone(house: House, status: int) -> None:
    house.strangers[FILE] = served(b"<Error>AccessDenied</Error>", status=status)
    path = await from_vendor(house)

    answer = await house.client.get(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
    assert "AccessDenied" not in answer.text


async def test_a_lost_file_is_gone(house: House) -> None:
    path = await from_file(house)
    (house.folder / "clip.mp4").unlink()

    answer = await house.client.get(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


def break_off(request: httpx.Request) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000  # less than a piece: nothing has been passed on yet
        raise httpx.ReadError("reset")

    return httpx.Response(200, content=body())


@pytest.mark.parametrize(
    "stranger", [served(b"busy", status=503), refuse, served(b"x", content_encoding="gzip"), break_off]
)
async def test_a_vendor_that_cannot_be_read_just_now_is_a_502_that_may_be_tried_again(
    house: House, stranger: Any
) -> None:
    house.strangers[FILE] = stranger
    path = await from_vendor(house)

    answer = await house.client.get(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "content_unreachable")
    assert answer.json()["error"]["retryable"] is True
    assert "vendor.example" not in answer.text


async def test_a_vendors_address_into_a_private_network_is_not_opened(house: House) -> None:
    opened_addresses: list[str] = []

    def spy(request: httpx.Request) -> httpx.Response:
        opened_addresses.append(str(request.url))
        return httpx.Response(200)

    house.strangers["https://169.254.169.254/latest"] = spy
    video = await house.create()
    await house.finish(video["id"], Video(url="https://169.254.169.254/latest"))

    answer = await house.client.get(f"/v1/videos/{video['id']}/content")

    assert answer.status_code == 502
    assert opened_addresses == []


async def test_a_variant_that_nobody_makes_is_a_400(house: House) -> None:
    path = await from_file(house)

    thumbnail = await house.client.get(f"{path}?variant=poster")
    video = await house.client.get(f"{path}?variant=video")

    assert (thumbnail.status_code, thumbnail.json()["error"]["code"]) == (400, "unsupported_variant")
    assert video.status_code == 200


# --- in the middle ----------------------------------------------------------------------------------------------------


async def run(house: House, path: str, *, hang_up_after: int | None = None) -> list[dict[str, Any]]:
    """The ASGI messages that are sent for a GET; the caller hangs up after so many."""
    sent: list[dict[str, Any]] = []
    hung_up = anyio.Event()
    asked = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if asked:
            return cast(dict[str, Any], asked.pop())
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if len(sent) == hang_up_after:
            hung_up.set()
        await anyio.lowlevel.checkpoint()

    headers = [(b"authorization", b"Bearer dev"), (b"host", b"filmgate.test")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    await cast(Any, application(house.rooms))(scope, receive, send)
    return sent


async def test_a_file_that_breaks_off_never_ends_as_if_it_were_whole(house: House) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield CLIP
        raise httpx.ReadError("reset")

    house.strangers[FILE] = lambda request: httpx.Response(200, content=body())
    path = await from_vendor(house)
    sent: list[dict[str, Any]] = []

    with pytest.raises(Exception, match="after response started"):
        sent += await run(house, path)

    assert not any(message.get("more_body") is False for message in sent)


async def test_a_caller_that_hangs_up_stops_the_vendors_stream(house: House) -> None:
    given_out = 0
    closed = anyio.Event()

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal given_out
            while True:
                given_out += 1
                yield bytes(256 << 10)

        async def aclose(self) -> None:
            closed.set()

    house.strangers[FILE] = lambda request: httpx.Response(200, stream=Endless())
    path = await from_vendor(house)

    sent = await run(house, path, hang_up_after=5)

    assert closed.is_set()
    assert given_out < 20
    assert not any(message.get("more_body") is False for message in sent)


async def test_a_caller_that_hangs_up_while_the_vendor_is_silent_is_not_waited_for(house: House) -> None:
    closed = anyio.Event()

    class Silent(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield bytes(600 << 10)
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            closed.set()

    house.strangers[FILE] = lambda request: httpx.Response(200, stream=Silent())
    path = await from_vendor(house)

    with anyio.fail_after(5):
        sent = await run(house, path, hang_up_after=2)

    assert closed.is_set()
    assert not any(message.get("more_body") is False for message in sent)


async def test_a_caller_that_takes_nothing_any_more_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.streaming.STALL_SECONDS", 0.05)
    path = await from_file(house)
    request = httpx.Request("GET", f"http://filmgate.test{path}")
    headers = [(b"authorization", b"Bearer dev"), (b"host", b"filmgate.test")]
    scope = {"type": "http", "method": "GET", "path": request.url.path, "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await anyio.sleep_forever()

    with anyio.fail_after(5), pytest.raises(Exception, match="after response started"):
        await cast(Any, application(house.rooms))(scope, receive, send)
