"""Memory of open event streams. Goal: 60 KB or less for each of 2,000 idle ones, the server's share included.

    python -m tests.bench.bench_streams [--streams 2000] [--folder DIR]

Measured: the resident memory of the whole service (RSS, after garbage collection and malloc_trim), once with 100 open
streams of `GET /v1/events` and once with as many more as are asked for; the difference, divided by those, is what one
more stream costs. While all of them are open, `/healthz` is asked a hundred times, over a connection of its own each
time; then one job is created, and every stream must tell of it: how long until the last one has.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from gateway.settings import load
from gateway.store import connect
from tests.bench.measured import Measured
from tests.bench.stock import new_key, written
from tests.house import free_port

GOAL_BYTES = 60 << 10
FIRST_STREAMS = 100
AT_ONCE = 50  # connections that are opened at the same time
HEALTH_CALLS = 100
HEALTH_SECONDS = 1.0  # more than this is no answer
PATIENCE_SECONDS = 60.0


class Found(NamedTuple):
    """What was seen."""

    rss_first: int
    rss_all: int
    health_seconds: list[float]
    told_seconds: float  # from the create until the last stream had told of it


class Listener(asyncio.Protocol):
    """The client's end of one stream."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.opened = asyncio.Event()
        self.told = asyncio.Event()
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if b"stream.opened" in self._seen:
            self.opened.set()
        if b"video.queued" in self._seen:
            self.told.set()


async def open_streams(port: int, key: str, count: int) -> list[Listener]:
    """So many streams, each having said that it is open."""
    request = f"GET /v1/events HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n\r\n".encode()
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

    async def one() -> Listener:
        async with gate:
            _, listener = await loop.create_connection(lambda: Listener(request), "127.0.0.1", port)
            await listener.opened.wait()
            return listener

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def ask_health(port: int) -> list[float]:
    """Seconds that each call took, over a fresh connection."""
    took = []
    for _ in range(HEALTH_CALLS):
        began = time.perf_counter()
        async with httpx.AsyncClient(trust_env=False, timeout=HEALTH_SECONDS) as http:
            reply = await http.get(f"http://127.0.0.1:{port}/healthz")
        assert reply.status_code == 200
        took.append(time.perf_counter() - began)
    return took


async def measure(folder: Path, streams: int) -> Found:
    """Open the streams on a gateway of this bench's own."""
    port = free_port()
    config = written(folder, port=port, vendor_url="http://127.0.0.1:9")
    config.write_text(config.read_text().replace("[server]", f"[server]\nstreams_per_key = {streams + FIRST_STREAMS}"))
    store = connect(load(config, environ={}).store.url)
    await store.open()
    key = (await new_key(store)).text.reveal()
    await store.close()
    program = Measured("gateway", "--config", str(config), log=folder / "log.txt")
    await asyncio.to_thread(program.__enter__)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            listeners = await open_streams(port, key, FIRST_STREAMS)
            first = await asyncio.to_thread(program.settled)
            listeners += await open_streams(port, key, streams)
            health = await ask_health(port)
            every = await asyncio.to_thread(program.settled)
            began = time.perf_counter()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
                form = {"model": "kling-v3-pro", "prompt": "a lighthouse", "seconds": 5}
                reply = await http.post("/v1/videos", json=form, headers={"authorization": f"Bearer {key}"})
                assert reply.status_code == 200, reply.text
                await asyncio.gather(*(listener.told.wait() for listener in listeners))
        return Found(first.rss_bytes, every.rss_bytes, health, time.perf_counter() - began)
    finally:
        await asyncio.to_thread(program.__exit__)


def main(given: Sequence[str] = ()) -> int:
    """Run the bench; the exit code says whether the goal was met."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_streams", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--streams", type=int, default=2000)
    options.add_argument("--folder", type=Path, help="where the store lies (default: the temporary folder)")
    args = options.parse_args(given)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="filmgate-bench-") as name:
        found = asyncio.run(measure(Path(name), args.streams))
    each = (found.rss_all - found.rss_first) / args.streams
    took = sorted(found.health_seconds)
    print("RSS of the whole service with idle event streams")
    for count, rss in ((FIRST_STREAMS, found.rss_first), (FIRST_STREAMS + args.streams, found.rss_all)):
        print(f"  {count:>6,} streams {rss / 2**20:8.1f} MB")
    met = each <= GOAL_BYTES
    print(f"  a stream {each / 1024:.1f} KB; goal ≤ {GOAL_BYTES >> 10}: {'met' if met else 'missed'}")
    print(
        f"/healthz meanwhile: {len(took)} of {HEALTH_CALLS} answered, median {statistics.median(took) * 1e3:.1f} ms, "
        f"slowest {took[-1] * 1e3:.1f} ms"
    )
    print(f"one job told to all of them: the last {found.told_seconds * 1e3:.0f} ms after its create was sent")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
