"""A 2 GB clip through the gateway, from a vendor's host and from the archive. Goal: RSS rises less than 20 MB.

    python -m tests.bench.bench_download [--mb 2048] [--folder DIR]

Measured over real sockets, the gateway in a process of its own: resident memory (its highest, looked at every 20 ms)
against what it was after a first, small download, while the clip is read whole; cut at 40 % and taken up by Range;
read in 20 places at once; and read by somebody who stops reading. Every byte that arrives is checked: what a place of
the film holds depends on the place alone. Then the same clip is copied to an archive in a folder, and read from there
after its vendor has dropped it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import random
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.jobs import AttemptEvent, JobEvent, advance_attempt
from gateway.links import Links
from gateway.store import connect
from gateway.store.spec import Event, Key
from providers.spec import Video
from tests.bench.film_host import FilmHost, hosting, sha256_of
from tests.bench.measured import Measured
from tests.house import free_port, written
from tests.records import DECISION, a_job, an_attempt, ended, running, started

GOAL_BYTES = 20 << 20
GOAL_BYTES_A_READER = 2 << 20  # where several read at once
WARM_BYTES = 32 << 20
PLACES = 20
STALL_SECONDS = 2.0
LATER_US = 3_000_000
PIECE_BYTES = 256 << 10


class Step(NamedTuple):
    """One way of reading, and what it did to the gateway."""

    name: str
    bytes: int
    seconds: float
    rss_rise: int
    right: bool
    goal: int = GOAL_BYTES


class Memory:
    """The resident memory of another process, and its highest since `mark`."""

    def __init__(self, pid: int) -> None:
        self._statm = Path(f"/proc/{pid}/statm")
        self.base = self.highest = self.now()

    def now(self) -> int:
        return int(self._statm.read_text().split()[1]) * resource.getpagesize()

    def mark(self) -> None:
        self.base = self.highest = self.now()

    @property
    def rise(self) -> int:
        return self.highest - self.base

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async def look() -> None:
            while True:
                self.highest = max(self.highest, self.now())
                await asyncio.sleep(0.02)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()


async def finished_jobs(folder: Path, *urls: str, caller: str = "k") -> list[str]:
    """A store with a finished clip of `caller`'s at each of the addresses; the paths of links to them. All but the
    first are due in an archive a little later."""
    store = connect(f"sqlite:///{folder}/filmgate.db")
    await store.open()
    try:
        await store.create_key(Key(id="k", name="k", hash="0" * 64, hint="", created_us=1))
        links = Links(await store.secret("links"), life_seconds=3600)
        now = time.time_ns() // 1000
        paths = []
        for number, url in enumerate(urls):
            job = started((await store.accept(a_job(caller, created_us=now), decision=DECISION)).job)
            attempt = an_attempt(job)
            await store.save(job, attempt=attempt)
            attempt = running(attempt)
            job = msgspec.structs.replace(job, version=job.version + 1)
            await store.save(job, attempt=attempt)
            attempt = advance_attempt(attempt, AttemptEvent.SUCCEEDED, ended_us=now, cost_usd_micros=560_000)
            job = msgspec.structs.replace(ended(job, videos=(Video(url=url),), cost_usd_micros=560_000), ended_us=now)
            await store.save(job, attempt=attempt, events=(Event(job=job.id, type=JobEvent.COMPLETED, at_us=now),))
            if number:
                await store.files.archive_later(job.id, now + LATER_US)
            paths.append(links.content(job.id, now_us=now, base=""))
        return paths
    finally:
        await store.close()


class Reader:
    """A client of the gateway, as bare as can be: what it costs is not the gateway's."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path

    @contextlib.asynccontextmanager
    async def opened(self, first: int = 0, end: int | None = None) -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
        """The status, and the body to read from."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=PIECE_BYTES)
        try:
            asked = f"range: bytes={first}-{'' if end is None else end - 1}\r\n" if first or end is not None else ""
            writer.write(f"GET {self._path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{asked}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            yield int(head.split()[1]), reader
        finally:
            writer.close()

    async def head(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"HEAD {self._path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        told = await reader.read()
        writer.close()
        return told

    async def sha256(self, first: int = 0, end: int | None = None, *, stop_after: int | None = None) -> tuple[int, str]:
        """How many bytes came, and their hash; at most `stop_after` are read."""
        digest, size = hashlib.sha256(), 0
        async with self.opened(first, end) as (status, body):
            if status not in (200, 206):
                return 0, f"status {status}"
            while piece := await body.read(PIECE_BYTES if stop_after is None else min(PIECE_BYTES, stop_after - size)):
                digest.update(piece)
                size += len(piece)
                if size == stop_after:
                    break
        return size, digest.hexdigest()


async def steps(reader: Reader, memory: Memory, size: int, *, name: str, stall_seconds: float) -> list[Step]:
    """Read the clip in every way."""
    await reader.sha256(0, min(WARM_BYTES, size))
    memory.mark()
    found = []

    async def step(what: str, total: int, reading: AsyncIterator[bool], *, readers: int = 1) -> None:
        began, right = time.monotonic(), True
        if readers == 1:  # what one leaves behind is counted with the next; what several need is counted apart
            memory.highest = memory.now()
        else:
            memory.mark()
        async with memory.watched():
            async for one in reading:
                right = right and one
        goal = max(GOAL_BYTES, readers * GOAL_BYTES_A_READER)
        found.append(Step(f"{name}: {what}", total, time.monotonic() - began, memory.rise, right, goal))

    async def whole() -> AsyncIterator[bool]:
        yield await reader.sha256() == (size, sha256_of(0, size))

    async def resumed() -> AsyncIterator[bool]:
        cut = size * 2 // 5 + 12_345
        yield await reader.sha256(stop_after=cut) == (cut, sha256_of(0, cut))
        yield await reader.sha256(cut) == (size - cut, sha256_of(cut, size))

    async def in_places() -> AsyncIterator[bool]:
        draw = random.Random(5)
        spans = [(first := draw.randrange(size), min(first + draw.randrange(1, 4 << 20), size)) for _ in range(PLACES)]
        told = await asyncio.gather(*[reader.sha256(first, end) for first, end in spans])
        for (first, end), one in zip(spans, told, strict=True):
            yield one == (end - first, sha256_of(first, end))

    async def stalled() -> AsyncIterator[bool]:
        async with reader.opened() as (status, _):
            await asyncio.sleep(stall_seconds)
            yield status == 200

    await step("whole", size, whole())
    await step("cut at 40 %, resumed", size, resumed())
    await step(f"not read for {stall_seconds:g} s", 0, stalled())
    await step(f"{PLACES} ranges at once", PLACES * (2 << 20), in_places(), readers=PLACES)
    return found


async def _until_kept(reader: Reader, seconds: float) -> None:
    """Returns once the gateway has the clip in its archive: it then tells its hash."""
    until = time.monotonic() + seconds
    while b"repr-digest" not in await reader.head():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing was archived within {seconds:g} s")
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def served(place: Path, *urls: str, archive: Path | None = None) -> AsyncIterator[tuple[Memory, list[Reader]]]:
    """A gateway with finished clips at these addresses, its memory, and a reader of each."""
    config = written(place, "http://127.0.0.1:9", port=(port := free_port()))
    if archive is not None:
        config.write_text(f'{config.read_text()}\n[archive]\nurl = "file://{archive}"\n')
    paths = await finished_jobs(place, *urls)
    program = Measured("gateway", "--config", config, "--work", log=place / "log.txt")
    await asyncio.to_thread(program.__enter__)
    try:
        yield Memory(program.pid), [Reader(port, path) for path in paths]
    finally:
        await asyncio.to_thread(program.__exit__)


async def measure(folder: Path, size: int, *, stall_seconds: float = STALL_SECONDS) -> list[Step]:
    """From the vendor, then the copy into an archive, then from there."""
    found: list[Step] = []
    async with hosting() as (host, url):
        film, small = f"{url}/{size}.mp4", f"{url}/{WARM_BYTES}.mp4"
        async with served(folder / "without", film) as (memory, (reader,)):
            found += await steps(reader, memory, size, name="vendor", stall_seconds=stall_seconds)
            found.append(await _left(host))
        async with served(folder / "with", small, film, archive=folder / "archive") as (memory, (first, reader)):
            await _until_kept(first, 30)
            await first.sha256()
            memory.mark()
            began = time.monotonic()
            async with memory.watched():
                await _until_kept(reader, 120 + size / (10 << 20))
            found.append(Step("archive: copied", size, time.monotonic() - began, memory.rise, right=True))
            host.gone = True
            found += await steps(reader, memory, size, name="archive", stall_seconds=stall_seconds)
    return found


async def _left(host: FilmHost) -> Step:
    """Nobody reads any more: the vendor's connections are let go, or idle."""
    before = host.sent
    await asyncio.sleep(0.3)
    return Step("vendor: after its readers", 0, 0.3, 0, right=host.sent == before)


def main(given: Sequence[str] = ()) -> int:
    """Run the bench; the exit code says whether the goal was met."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_download", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--mb", type=int, default=2048)
    options.add_argument("--folder", type=Path, help="where the stores and the archive lie")
    args = options.parse_args(given)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="filmgate-bench-") as name:
        found = asyncio.run(measure(Path(name), args.mb << 20))
    met = all(step.right and step.rss_rise < step.goal for step in found)
    print(f"A clip of {args.mb:,} MB through the gateway; RSS against that after a first download of 32 MB")
    for step in found:
        speed = f"{step.bytes / step.seconds / 2**20:7,.0f} MB/s" if step.bytes else " " * 12
        print(
            f"  {step.name:<34} {step.seconds:7.1f} s {speed}   RSS +{step.rss_rise / 2**20:5.1f} MB"
            f"   {'every byte right' if step.right else 'WRONG'}"
        )
    each = GOAL_BYTES_A_READER >> 20
    print(f"  goal: RSS rises < {GOAL_BYTES >> 20} MB, by {each} MB a reader of several: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
