"""The program whose cost is measured, in a process of its own: the gateway, or a bare handler behind the same server.

    python -m tests.bench.subject gateway --config FILE [--work] [--trace] [--profile FILE]
    python -m tests.bench.subject bare --port N --create-bytes N --status-bytes N [--profile FILE]

Law: it measures itself, but only when it is asked to: a word on stdin is answered by one line of JSON on stdout, and
between two words nothing of the measuring runs. It ends in order when stdin does, so it never outlives its bench.
Both programs run in the event loop, behind the server and with the server's settings of `gateway.app`.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import ctypes
import gc
import resource
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as Granian
from litestar import Litestar, get, post

from gateway import app, log
from gateway.settings import load

Ready = Callable[[str], None]
Serve = Callable[[Ready, asyncio.Event], Coroutine[Any, Any, None]]

ROOT = Path(__file__).parents[2]


class Place(msgspec.Struct, frozen=True):
    """What the allocations of one line of code hold."""

    file: str
    line: int
    bytes: int


class Told(msgspec.Struct, frozen=True):
    """What the process says of itself."""

    cpu_seconds: float = 0.0  # user + system, all threads, since it began
    rss_bytes: int = 0
    places: tuple[Place, ...] = ()


def gateway(config: Path, *, work: bool) -> Serve:
    """The whole service."""
    settings = load(config, environ={})
    log.configure(settings)

    async def serve(ready: Ready, stop: asyncio.Event) -> None:
        await app.serve(settings, ready=ready, stop=stop, work=work)

    return serve


def bare(port: int, *, create_bytes: int, status_bytes: int) -> Serve:
    """Litestar as its manual teaches it: it decodes the JSON of a create, and answers bytes made beforehand."""
    created, seen = b"c" * create_bytes, b"s" * status_bytes

    @post("/v1/videos", status_code=200, media_type="application/json")
    async def create(data: dict[str, Any]) -> bytes:
        return created

    @get("/v1/videos/{video_id:str}", media_type="application/json")
    async def retrieve(video_id: str) -> bytes:
        return seen

    async def serve(ready: Ready, stop: asyncio.Event) -> None:
        server = Granian(
            Litestar(route_handlers=[create, retrieve], openapi_config=None, logging_config=None),
            address="127.0.0.1",
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=app.BACKLOG,
            backpressure=app.CONNECTIONS,
            log_enabled=False,
        )
        serving = asyncio.create_task(server.serve())
        while not serving.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            ready(f"http://127.0.0.1:{port}")
            await stop.wait()
            server.stop()  # type: ignore[no-untyped-call]
            break
        await serving

    return serve


# --- being asked ------------------------------------------------------------------------------------------------------


async def run(serve: Serve) -> None:
    """Serve, and answer words, until stdin ends."""
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(ready.set_result, stop))
    either: set[asyncio.Future[Any]] = {ready, serving}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        _say(Told())
        async for word in _words():
            match word:
                case "cpu":
                    _say(Told(cpu_seconds=cpu_seconds()))
                case "settle":
                    _say(Told(rss_bytes=settled(), places=_places()))
        stop.set()
    await serving


def cpu_seconds() -> float:
    """Processor time of this process so far: user and system, of all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def settled() -> int:
    """Resident bytes of this process once what is garbage has gone back to the system."""
    for _ in range(3):
        gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc's
        libc.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _places() -> tuple[Place, ...]:
    if not tracemalloc.is_tracing():
        return ()
    found = tracemalloc.take_snapshot().statistics("lineno")
    frames = [(statistic.traceback[0], statistic.size) for statistic in found]
    return tuple(Place(frame.filename.removeprefix(f"{ROOT}/"), frame.lineno, size) for frame, size in frames)


def _say(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


async def _words() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


def main() -> None:
    """The process."""
    options = argparse.ArgumentParser(prog="python -m tests.bench.subject", description=__doc__.partition("\n")[0])
    kinds = options.add_subparsers(dest="kind", required=True)
    ours, plain = kinds.add_parser("gateway"), kinds.add_parser("bare")
    ours.add_argument("--config", type=Path, required=True)
    ours.add_argument("--work", action="store_true", help="with its worker")
    ours.add_argument("--trace", action="store_true", help="know where memory is allocated, at a cost")
    plain.add_argument("--port", type=int, required=True)
    plain.add_argument("--create-bytes", type=int, required=True)
    plain.add_argument("--status-bytes", type=int, required=True)
    for kind in (ours, plain):
        kind.add_argument(
            "--profile", type=Path, help="write there, at the end, what the event loop's thread did with its CPU time"
        )
    args = options.parse_args()
    if args.kind == "bare":
        serve = bare(args.port, create_bytes=args.create_bytes, status_bytes=args.status_bytes)
    else:
        if args.trace:
            tracemalloc.start()
        serve = gateway(args.config, work=args.work)
    profile = cProfile.Profile(time.thread_time) if args.profile else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if profile is None:
            runner.run(run(serve))
        else:
            profile.runcall(runner.run, run(serve))
            profile.dump_stats(args.profile)


if __name__ == "__main__":
    main()
