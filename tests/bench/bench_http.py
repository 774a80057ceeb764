"""CPU time of a create and of a status read, against bare Litestar. Goals: create ≤ 4 ×, status read ≤ 2 × bare.

    python -m tests.bench.bench_http [--runs 5] [--requests 2000] [--connections 32] [--folder DIR] [--profile DIR]

Counted: user + system time of every thread of the server's process (event loop, HTTP threads, the store's writer and
readers), divided by requests. The server runs alone in its process and the load in another.

Filmgate: the service as `filmgate serve` runs it, without its worker, every provider with a credential. A create is
authenticated by a stored key, decoded and checked, held against the backends of the shipped catalogue that make its
model, ranked, and durable (SQLite, synchronous=FULL, on the disk of --folder) before it is answered. `create, any
model`, which has no goal, asks for an alias of all models: every backend of the catalogue is decided on, and that
decision is written down. A status read is of one of the jobs just made.

Bare: a Litestar handler that decodes the same JSON and answers as many bytes, in the same event loop, behind the same
server with the same settings; no key, no check, no disk.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.catalogue import load as load_catalogue
from gateway.settings import load as load_settings
from gateway.settings import provider_modules, shipped
from gateway.store import connect
from tests.bench import load
from tests.bench.measured import Measured
from tests.bench.stock import new_key
from tests.house import VENDOR_KEY, free_port

MODEL = "kling-v3-pro"
ANY_MODEL = "anything"  # an alias of as many letters
WARM_UP = 500  # requests of each kind, uncounted
SLICE = 200  # requests that one side answers before it is the other's turn


class Case(NamedTuple):
    """One kind of request. `model` is what a create asks for; None: a status read."""

    name: str
    model: str | None
    goal: float | None  # times bare


CASES = (Case("create", MODEL, 4.0), Case("create, any model", ANY_MODEL, None), Case("status read", None, 2.0))


def body(model: str) -> bytes:
    """What a plain create sends."""
    asked = {
        "model": model,
        "prompt": "A lighthouse on a cliff at dusk, waves breaking far below, gulls drifting through the beam as it "
        "sweeps the fog; the camera rises slowly and turns towards the open sea. Soft, cold light, film grain.",
        "seconds": "5",
        "generate_audio": False,
        "aspect_ratio": "16:9",
        "metadata": {"project": "spring-campaign", "shot": "12b"},
        "user": "editor-7",
        "provider": {"sort": "balanced"},
    }
    return msgspec.json.encode(asked)


class Made(msgspec.Struct):
    """The part of a Video object that is read here."""

    id: str


class Side:
    """One of the two programs, and the CPU time that it took for a request: µs, run by run, for each case."""

    def __init__(self, program: Measured, lines: load.Lines, key: str) -> None:
        self.took: dict[str, list[float]] = {case.name: [] for case in CASES}
        self._program = program
        self._lines = lines
        self._key = key
        self._ids = ["video_of_nobody"]

    async def send(self, case: Case, requests: int) -> float:
        """So many requests of one kind; the seconds of CPU that they took."""
        if case.model is not None:
            sent = [load.post("/v1/videos", body(case.model), key=self._key)] * requests
        else:
            sent = [load.get(f"/v1/videos/{random.choice(self._ids)}", key=self._key) for _ in range(requests)]
        before = self._program.cpu_seconds()
        answers = await self._lines.send(sent)
        took = self._program.cpu_seconds() - before
        if case.model is not None and answers[0].startswith(b"{"):
            self._ids = [found.id for found in map(_made.decode, answers)]
        return took


async def compare(bare: Side, ours: Side, *, runs: int, requests: int) -> None:
    """Fill in what each side took. A run is cut into slices in which the sides take turns, so that whatever else the
    machine does hurts both alike."""
    for case in CASES:
        for side in (bare, ours):
            await side.send(case, WARM_UP)
    for run in range(runs):
        print(f"http: run {run + 1} of {runs} …", file=sys.stderr, flush=True)
        for case in CASES:
            took = dict.fromkeys((bare, ours), 0.0)
            for _ in range(requests // SLICE):
                for side in took:
                    took[side] += await side.send(case, SLICE)
            for side, seconds in took.items():
                side.took[case.name].append(seconds * 1e6 / (requests // SLICE * SLICE))


_made = msgspec.json.Decoder(Made)


def written(folder: Path, port: int) -> Path:
    """A configuration in which one name stands for every model of the shipped catalogue, and every provider has a
    credential."""
    models = load_catalogue(sorted((shipped() / "catalogue").glob("*.toml"))).model_names()
    config = folder / "filmgate.toml"
    config.write_text(
        f"""
[server]
port = {port}
[store]
url = "sqlite:///{folder}/filmgate.db"
[routing.aliases.{ANY_MODEL}]
models = {msgspec.json.encode(models).decode()}
[providers.sandbox]
enabled = true
"""
        + "".join(f'[providers.{name}]\napi_key = "{VENDOR_KEY}"\n' for name in sorted(vendors()))
    )
    return config


def vendors() -> set[str]:
    """Every provider that wants a credential."""
    return {name for name, module in provider_modules().items() if "api_key" in module.Settings.__struct_fields__}


def backends(folder: Path) -> dict[str, int]:
    """How many backends each of the bench's models is held against."""
    settings = load_settings(folder / "filmgate.toml", environ={})
    catalogue = load_catalogue(settings.catalogue)
    return {name: len(catalogue.resolve(name, settings.routing.aliases).backends) for name in (MODEL, ANY_MODEL)}


async def key_in(folder: Path) -> str:
    """A caller's key, put into the store before the gateway opens it."""
    store = connect(f"sqlite:///{folder}/filmgate.db")
    await store.open()
    made = await new_key(store)
    await store.close()
    return made.text.reveal()


async def sizes_of(lines: load.Lines, key: str) -> tuple[int, int]:
    """Bytes of the gateway's answer to a create and to a status read."""
    (created,) = await lines.send([load.post("/v1/videos", body(MODEL), key=key)])
    (seen,) = await lines.send([load.get(f"/v1/videos/{_made.decode(created).id}", key=key)])
    return len(created), len(seen)


def report(bare: Side, ours: Side) -> bool:
    """Print the table; whether every goal is met."""
    print(f"  {'':<18} {'bare Litestar, µs':<20} {'Filmgate, µs':<20} {'ratio':<22} goal")
    met = True
    for name, _, goal in CASES:
        pairs = [mine / theirs for mine, theirs in zip(ours.took[name], bare.took[name], strict=True)]
        ratio = statistics.median(pairs)
        verdict = "none"
        if goal is not None:
            verdict = f"≤ {goal:g} ×: {'met' if ratio <= goal else 'missed'}"
            met = met and ratio <= goal
        print(
            f"  {name:<18} {spread(bare.took[name]):<20} {spread(ours.took[name]):<20} "
            f"{f'{ratio:.2f} × ({min(pairs):.2f}–{max(pairs):.2f})':<22} {verdict}"
        )
    return met


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


async def measure(folder: Path, args: argparse.Namespace) -> tuple[Side, Side, tuple[int, int], dict[str, int]]:
    """Both sides, measured; the sizes of the gateway's answers; and how many backends it decides on for each model."""
    our_port, bare_port = free_port(), free_port()
    config = written(folder, our_port)
    key = await key_in(folder)
    profiles = [("--profile", args.profile / f"{who}.prof") if args.profile else () for who in ("ours", "bare")]
    program = Measured("gateway", "--config", config, *profiles[0], log=folder / "ours.log")
    with program:
        async with load.Lines(our_port, connections=args.connections) as lines:
            ours = Side(program, lines, key)
            sizes = await sizes_of(lines, key)
            plain = ("bare", "--port", str(bare_port), "--create-bytes", str(sizes[0]), "--status-bytes", str(sizes[1]))
            other = Measured(*plain, *profiles[1], log=folder / "bare.log")
            with other:
                async with load.Lines(bare_port, connections=args.connections) as bare_lines:
                    bare = Side(other, bare_lines, key)
                    await compare(bare, ours, runs=args.runs, requests=args.requests)
    return bare, ours, sizes, backends(folder)


def main(given: Sequence[str] = ()) -> int:
    """Run the bench; the exit code says whether the goals were met."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_http", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--runs", type=int, default=5, help="of each side, taking turns")
    options.add_argument("--requests", type=int, default=2000, help="of each kind in a run")
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--folder", type=Path, help="where the store lies (default: the temporary folder)")
    options.add_argument("--profile", type=Path, help="a folder: write each event loop's profile there (it slows both)")
    args = options.parse_args(given)
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="filmgate-bench-") as name:
        bare, ours, sizes, held = asyncio.run(measure(Path(name), args))
    print(
        f"CPU of the server's process a request (user + system, all threads), {args.connections} connections, median "
        f"and spread of {args.runs} interleaved runs\n"
        f"of {args.requests} requests of each kind. A create: {len(body(MODEL))} bytes in, {sizes[0]} out, durable "
        f"(synchronous=FULL), {held[MODEL]} backends decided on (any model: {held[ANY_MODEL]}).\n"
        f"A status read: {sizes[1]} bytes out"
    )
    return 0 if report(bare, ours) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
