"""Event streams: what happened, then what happens, each event once, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway import admin
from gateway.api import application, events
from gateway.api.events import EventStream
from gateway.jobs import JobEvent, advance
from gateway.settings import Server
from gateway.store.spec import Event, Key
from providers.spec import Video
from tests import api_house
from tests.house import House, house
from tests.listening import Told, listening
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio
LOCAL = Key(id="local", name="local", hash="", hint="", created_us=0)


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.2))) as server:
        yield server


@pytest.fixture
async def rooms(tmp_path: Path, fal: FalServer) -> AsyncIterator[House]:
    async with house(tmp_path / "house", fal.url) as opened:
        yield opened


async def another_key(rooms: House, name: str = "other") -> dict[str, str]:
    """The headers of a caller of its own."""
    url = f"sqlite:///{rooms.folder}/filmgate.db"
    made = await asyncio.to_thread(admin.with_store, url, admin.CreateKey(name=name))
    return {"authorization": f"Bearer {made.text.reveal()}"}


def durable(told: list[Told]) -> list[str]:
    return [event.name for event in told if event.data["sequence_number"] is not None]


async def test_stream_of_a_job_tells_its_life_and_ends(rooms: House) -> None:
    video = await rooms.create()

    async with listening(rooms.http, f"/v1/videos/{video['id']}/events") as stream:
        told = [event async for event in stream]

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.retry_ms == events.RETRY_MS
    assert durable(told) == ["video.queued", "video.in_progress", "video.completed"]
    numbers = [event.data["sequence_number"] for event in told if event.data["sequence_number"] is not None]
    assert numbers == sorted(set(numbers))
    assert [event.id for event in told if event.name == "video.completed"] == [str(numbers[-1])]
    assert {event.data["type"] for event in told} == {event.name for event in told}
    assert told[-1].data["video"] == await rooms.view(video["id"])
    assert all(event.data["video"]["id"] == video["id"] for event in told)


async def test_stream_of_all_jobs_begins_now_and_says_where(rooms: House) -> None:
    before = await rooms.create()
    await rooms.ended(before["id"])

    async with listening(rooms.http, "/v1/events") as stream:
        told = aiter(stream)
        opened = await anext(told)
        video = await rooms.create()
        event = await anext(told)

    assert (opened.name, opened.data) == ("stream.opened", {"type": "stream.opened", "sequence_number": int(opened.id)})
    assert (event.name, event.data["video"]["id"]) == ("video.queued", video["id"])
    assert int(event.id) > int(opened.id)


async def test_stream_from_zero_tells_everything(rooms: House) -> None:
    videos = [await rooms.create(prompt=f"take {number}") for number in range(3)]
    for video in videos:
        await rooms.ended(video["id"])

    async with listening(rooms.http, "/v1/events?after=0") as stream:
        told: list[Told] = []
        async for event in stream:
            told.append(event)
            if len(durable(told)) == 9:
                break

    for video in videos:
        mine = [event for event in told if event.data["video"]["id"] == video["id"]]
        assert durable(mine) == ["video.queued", "video.in_progress", "video.completed"]


async def test_header_counts_more_than_the_address(rooms: House) -> None:
    video = await rooms.create()
    await rooms.ended(video["id"])
    async with listening(rooms.http, f"/v1/videos/{video['id']}/events") as stream:
        first = await anext(aiter(stream))

    async with listening(rooms.http, f"/v1/videos/{video['id']}/events?after=0", last_id=first.id) as stream:
        told = [event async for event in stream]

    assert durable(told) == ["video.in_progress", "video.completed"]


async def test_finished_job_with_nothing_left_to_tell_answers_204(rooms: House) -> None:
    video = await rooms.create()
    await rooms.ended(video["id"])
    async with listening(rooms.http, f"/v1/videos/{video['id']}/events") as stream:
        async for _ in stream:
            pass

    reply = await rooms.http.get(f"/v1/videos/{video['id']}/events", headers={"last-event-id": stream.last_id})

    assert (reply.status_code, reply.content) == (204, b"")


@pytest.mark.parametrize("given", ["-1", "1e3", "x", "9" * 19, "٣"])
async def test_cursor_that_is_no_number_is_refused(rooms: House, given: str) -> None:
    reply = await rooms.http.get("/v1/events", params={"after": given})

    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_cursor")


async def test_other_callers_see_nothing(rooms: House) -> None:
    other = await another_key(rooms)
    async with (
        listening(rooms.http, "/v1/events?after=0", headers=other) as theirs,
        listening(rooms.http, "/v1/events?after=0") as ours,
    ):
        video = await rooms.create()
        await rooms.ended(video["id"])
        reply = await rooms.http.post(
            "/v1/videos", json={"model": "kling-v3-pro", "prompt": "their own"}, headers=other
        )
        first = await anext(aiter(theirs))
        ours_first = await anext(aiter(ours))

    assert first.data["video"]["id"] == reply.json()["id"]
    assert ours_first.data["video"]["id"] == video["id"]
    hidden = await rooms.http.get(f"/v1/videos/{video['id']}/events", headers=other)
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "video_not_found")
    assert (await rooms.http.get("/v1/events", headers={"authorization": ""})).status_code == 401


async def test_silent_stream_beats_and_a_revoked_key_ends_it(rooms: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BEAT_SECONDS", 0.05)
    other = await another_key(rooms)

    async with asyncio.timeout(5), listening(rooms.http, "/v1/events", headers=other) as stream:
        told = aiter(stream)
        await anext(told)
        while await stream.line() != ":":
            pass
        url = f"sqlite:///{rooms.folder}/filmgate.db"
        await asyncio.to_thread(admin.with_store, url, admin.RevokeKey(key="other"))
        assert [event async for event in told] == []


async def test_open_streams_do_not_delay_the_end_of_the_server(tmp_path: Path, fal: FalServer) -> None:
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        async with house(tmp_path / "house", fal.url) as rooms:
            url, headers = str(rooms.http.base_url), dict(rooms.http.headers)
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, trust_env=False))
            stream = await stack.enter_async_context(listening(http, "/v1/events"))
            told = aiter(stream)
            await anext(told)
            began = loop.time()
        rest = [event async for event in told]

        assert rest == []  # and the answer was whole: a cut one would have raised
        assert loop.time() - began < 2


# --- apart from sockets: readers of every pace ------------------------------------------------------------------------


class Reader:
    """The other end of a stream: takes what is sent while `open`."""

    def __init__(self) -> None:
        self.got = b""
        self.open = asyncio.Event()
        self.gone = asyncio.Event()
        self._more = asyncio.Event()

    async def send(self, message: Any) -> None:
        await self.open.wait()
        self.got += message.get("body", b"")
        self._more.set()

    async def until(self, what: Callable[[], bool]) -> None:
        """Returns once it is so; raises TimeoutError when what comes does not make it so."""
        async with asyncio.timeout(5):
            while not what():
                self._more.clear()
                await self._more.wait()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def numbers(self) -> list[int]:
        return [int(line[4:]) for line in self.got.splitlines() if line.startswith(b"id: ")]

    def names(self) -> list[str]:
        frames = [line for line in self.got.splitlines() if line.startswith(b"data: ")]
        return [json.loads(frame[6:])["type"] for frame in frames]


def serve(rooms: api_house.House, reader: Reader, *, after: int | None = 0) -> asyncio.Task[None]:
    stream = EventStream(rooms.rooms, LOCAL, after=after)
    scope: Any = {"type": "http", "method": "GET", "path": "/v1/events", "headers": []}
    return asyncio.create_task(stream(scope, reader.receive, reader.send))


async def test_slow_reader_misses_nothing_and_meets_nothing_twice(tmp_path: Path) -> None:
    async with api_house.opened(tmp_path) as rooms:
        reader = Reader()
        task = serve(rooms, reader)
        for number in range(60):  # three events each, far more than a queue holds
            video = await rooms.create(prompt=f"take {number}")
            await rooms.finish(video["id"], Video(url="https://files.example/a.mp4"))
            if number == 20:
                reader.open.set()
            if number == 25:
                reader.open.clear()
        reader.open.set()
        last = await rooms.store.last_happened("local")
        await reader.until(lambda: reader.numbers()[-1:] == [last])
        reader.gone.set()
        await task

        stored = await rooms.store.happened("local", after=0, limit=1000)
        assert reader.numbers() == [one.seq for one in stored]
        assert len(stored) == 180


async def test_reader_that_takes_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEND_SECONDS", 0.05)
    async with api_house.opened(tmp_path) as rooms:
        reader = Reader()
        reader.open.set()
        task = serve(rooms, reader)
        await rooms.create()
        await reader.until(lambda: bool(reader.numbers()))
        reader.open.clear()
        await rooms.create()

        async with asyncio.timeout(5):
            await task
        assert rooms.store.live.feed.count() == 0


async def test_deleted_video_is_not_told_of(tmp_path: Path) -> None:
    async with api_house.opened(tmp_path) as rooms:
        gone, kept = await rooms.create(), await rooms.create(prompt="another")
        await rooms.finish(gone["id"], Video(url="https://files.example/a.mp4"))
        await rooms.store.files.erase(gone["id"], 1, deleted=True)
        reader = Reader()
        reader.open.set()
        task = serve(rooms, reader)
        await reader.until(lambda: bool(reader.numbers()))
        reader.gone.set()
        await task

        assert reader.names() == ["video.queued"]
        assert kept["id"].encode() in reader.got
        assert gone["id"].encode() not in reader.got


async def test_ends_that_openai_does_not_know_are_told_as_failed(tmp_path: Path) -> None:
    async with api_house.opened(tmp_path) as rooms:
        for event in (JobEvent.CANCELLED, JobEvent.EXPIRED):
            job = await rooms.job((await rooms.create(prompt=event.value))["id"])
            ended = advance(job, event, ended_us=job.created_us, error_code=event.value[4:], cost_usd_micros=0)
            await rooms.store.save(ended, events=(Event(job=job.id, type=event, at_us=job.created_us),))
        reader = Reader()
        reader.open.set()
        task = serve(rooms, reader)
        await reader.until(lambda: len(reader.numbers()) == 4)
        reader.gone.set()
        await task

        assert reader.names() == ["video.queued", "video.failed"] * 2
        assert b'"code":"cancelled"' in reader.got
        assert b'"code":"expired"' in reader.got


async def test_progress_has_no_id_and_is_the_latest_figure(tmp_path: Path) -> None:
    async with api_house.opened(tmp_path) as rooms:
        job, _ = await rooms.start((await rooms.create())["id"])
        reader = Reader()
        reader.open.set()
        task = serve(rooms, reader)
        await reader.until(lambda: len(reader.numbers()) == 2)
        for share in (0.2, 0.3, 0.1):
            rooms.store.live.set_progress(job.id, share)
        await reader.until(lambda: b"video.progress" in reader.got)
        reader.gone.set()
        await task

        frames = reader.got.decode().split("\n\n")
        moved = [frame for frame in frames if "video.progress" in frame]
        assert len(moved) == 1
        assert "id:" not in moved[0].split("data:")[0]
        assert json.loads(moved[0].split("data: ")[1])["video"]["progress"] == 30


async def test_streams_of_a_key_are_limited(tmp_path: Path) -> None:
    async with api_house.opened(tmp_path) as rooms:
        settings = msgspec.structs.replace(rooms.rooms.settings, server=Server(streams_per_key=2))
        app: Any = application(msgspec.structs.replace(rooms.rooms, settings=settings))
        readers = [Reader(), Reader()]
        tasks = [serve(rooms, reader) for reader in readers]
        await asyncio.sleep(0)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://filmgate.test", headers=api_house.KEY
        ) as client:
            refused = await client.get("/v1/events")
        for reader in readers:
            reader.open.set()
            reader.gone.set()
        await asyncio.gather(*tasks)

        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
        assert refused.headers["retry-after"] == "15"
        assert rooms.store.live.feed.count() == 0
