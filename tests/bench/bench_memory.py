"""Memory of a gateway with 10,000 jobs in flight. Goal: 4 KB or less for each.

    python -m tests.bench.bench_memory [--jobs 10000] [--lines 12] [--folder DIR]

Measured: the resident memory of the whole service with its worker (RSS, after garbage collection and malloc_trim), once
started on a store with 500 running jobs and once with 10,000 more, each taken up from disk, shown in the live view, its
attempt open, polled once at a vendor on loopback and its next look set. The difference, divided by the jobs, is what
one more job costs; what the first 500 brought in (connections, caches) is not counted twice.

Then the same with 100 and 500 more under tracemalloc, which sees Python's objects alone (not what the event loop and
SQLite allocate for themselves): which lines hold the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.settings import load
from tests.bench.measured import Measured
from tests.bench.stock import Vendor, fill, written
from tests.bench.subject import Told
from tests.house import free_port

GOAL_BYTES = 4096
FIRST_JOBS, FIRST_TRACED_JOBS = 500, 100
TRACED_JOBS = 500
PATIENCE_SECONDS = 150.0
IDLE_SHARE = 0.05  # of one processor


class Seen(NamedTuple):
    """One gateway, at rest."""

    jobs: int
    polls: int  # that its vendor has answered
    told: Told


async def occupied(folder: Path, vendor: Vendor, jobs: int, *, traced: bool) -> Seen:
    """What a gateway with so many running jobs says of its memory, once it has nothing left to do but wait. Raises
    TimeoutError when it does not come to rest."""
    folder.mkdir()
    config = written(folder, port=free_port(), vendor_url=vendor.url)
    await fill(load(config, environ={}), jobs)
    before = vendor.polls
    words = ("gateway", "--config", str(config), "--work", *(["--trace"] if traced else []))
    program = Measured(*words, log=folder / "log.txt")
    await asyncio.to_thread(program.__enter__)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _idle(program)
        return Seen(jobs, vendor.polls - before, await asyncio.to_thread(program.settled))
    finally:
        await asyncio.to_thread(program.__exit__)


async def _idle(program: Measured) -> None:
    """Returns when the process has used next to no processor time for two seconds."""
    used = 0.0
    while True:
        now = await asyncio.to_thread(program.cpu_seconds)
        if now - used < IDLE_SHARE * 2.0:
            return
        used = now
        await asyncio.sleep(2.0)


async def measure(folder: Path, jobs: int, *, traced: bool) -> tuple[Seen, Seen]:
    """With the first jobs alone, and with `jobs` more."""
    vendor = Vendor()
    await vendor.start()
    try:
        found = []
        first = FIRST_TRACED_JOBS if traced else FIRST_JOBS
        for count in (first, first + jobs):
            under = " under tracemalloc" if traced else ""
            print(f"memory: {count:,} jobs{under} …", file=sys.stderr, flush=True)
            found.append(await occupied(folder / f"{count}-{traced}", vendor, count, traced=traced))
        return found[0], found[1]
    finally:
        vendor.stop()


def by_line(few: Seen, many: Seen) -> list[tuple[float, str]]:
    """Bytes a job that each line of code holds, most first."""
    growth: Counter[str] = Counter()
    for seen, sign in ((few, -1), (many, 1)):
        for place in seen.told.places:
            growth[f"{_short(place.file)}:{place.line}"] += sign * place.bytes
    jobs = many.jobs - few.jobs
    return sorted(((held / jobs, where) for where, held in growth.items()), reverse=True)


def _short(file: str) -> str:
    return file.rpartition("site-packages/")[2] if "site-packages/" in file else file


def main(given: Sequence[str] = ()) -> int:
    """Run the bench; the exit code says whether the goal was met."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_memory", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--jobs", type=int, default=10_000)
    options.add_argument("--lines", type=int, default=12, help="lines of code to name; 0: leave tracemalloc out")
    options.add_argument("--folder", type=Path, help="where the stores lie (default: the temporary folder)")
    args = options.parse_args(given)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="filmgate-bench-") as name:
        few, many = asyncio.run(measure(Path(name), args.jobs, traced=False))
        each = (many.told.rss_bytes - few.told.rss_bytes) / args.jobs
        print("RSS of the whole service with its worker, at rest; every job running, its next look two hours away")
        for seen in (few, many):
            print(f"  {seen.jobs:>7,} jobs {seen.told.rss_bytes / 2**20:8.1f} MB   ({seen.polls:,} polls answered)")
        met = each <= GOAL_BYTES
        print(f"  a job {each:,.0f} bytes; goal ≤ {GOAL_BYTES:,}: {'met' if met else 'missed'}")
        if args.lines:
            few, many = asyncio.run(measure(Path(name), TRACED_JOBS, traced=True))
            lines = by_line(few, many)
            print(f"Python's objects, by tracemalloc: {sum(held for held, _ in lines):,.0f} bytes a job, held by")
            for held, where in lines[: args.lines]:
                print(f"  {held:7,.0f}  {where}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
