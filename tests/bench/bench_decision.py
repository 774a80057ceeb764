"""What a decision (match + rank) costs in CPU time, and what the figures of a backend cost in memory.

    python -m tests.bench.bench_decision [--runs 15] [--decisions 500]

Goals: 60 µs for a job at the shipped catalogue, where the backends of the model that it names compete; 1 ms in a
catalogue of 1,000 backends, 50 of which compete; 20 KB of health for each backend that is as busy as can be. Shown
beside them, without a goal: the whole shipped catalogue and all of 1,000 backends competing for one job, which only
`filmgate route` without a model asks for.

The cases take turns, run by run, so that a noisy machine hurts them alike. Prints each case's median and spread
(least and most) per decision, and ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from gateway.catalogue import Backend, Catalogue, load, match
from gateway.health import Health
from gateway.jobs import Preferences
from gateway.router import Policy, rank
from providers.spec import Media, VideoRequest

GOAL_US, GOAL_BIG_US, GOAL_BYTES = 60.0, 1000.0, 20_000
EVERY_BUCKET = tuple(
    f"{span}/{sound}{mode}"
    for span in ("≤5s", "≤10s", "≤15s", "≤30s", ">30s")
    for sound in ("silent", "audio")
    for mode in ("", "/picture", "/references")
)
FOLDER = Path(__file__).parents[2] / "config" / "catalogue"
NOW_US = 1_800_000_000_000_000

PICTURE = Media(sha256="0" * 64, content_type="image/jpeg", width=1920, height=1080, size_bytes=800_000)
CASES = {
    "text, all open": VideoRequest(prompt="a red fox runs through snow"),
    "text, 8 s with sound": VideoRequest(prompt="a red fox runs through snow", seconds=8, audio=True),
    "picture, 5 s silent": VideoRequest(prompt="a slow push in", seconds=5, audio=False, first_frame=PICTURE),
    "20 s: nobody": VideoRequest(prompt="a red fox runs through snow", seconds=20),
}


def observed(catalogue: Catalogue) -> Health:
    """Health that has seen renders of every backend, so that each figure is worked out."""
    health = Health()
    for row in catalogue.backends:
        for bucket in ("≤5s/silent", "≤10s/silent", "≤10s/audio"):
            for second in (60.0, 90.0, 140.0):
                health.observe(
                    backend=row.id, bucket=bucket, at_us=NOW_US - 9_000_000, render_seconds=second, fault=None
                )
    return health


def many(rows: tuple[Backend, ...], count: int, models: int) -> Catalogue:
    """A catalogue of `count` rows, made of the given ones, that share `models` models."""
    return Catalogue(
        msgspec.structs.replace(
            rows[n % len(rows)], id=f"vendor{n}/made", provider=f"vendor{n}", model=f"m{n % models}"
        )
        for n in range(count)
    )


def decider(catalogue: Catalogue, health: Health, video: VideoRequest, model: str | None) -> Callable[[], object]:
    """One decision over a model's backends, or over the whole catalogue; every provider configured, drawn by a seed."""
    target = catalogue.resolve(model, {}) if model else catalogue.everything()
    preferences, policy = Preferences(), Policy()
    configured = frozenset(row.provider for row in catalogue.backends)

    def decide() -> object:
        found = match(catalogue, target, video, preferences, configured=configured)
        return rank(found, health, policy, preferences, now_us=NOW_US, seed=7)

    return decide


def health_bytes(backends: int = 50) -> float:
    """Bytes of health for each backend that has seen all kinds of clips and has 100 renders out."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    health = Health()
    for number in range(backends):
        name = f"vendor{number}/made"
        for kind in EVERY_BUCKET:
            for second in range(40):
                health.observe(
                    backend=name, bucket=kind, at_us=NOW_US + second, render_seconds=60.0 + second, fault=None
                )
        for second in range(100):
            health.started(name, bucket=EVERY_BUCKET[0], at_us=NOW_US + second)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / backends


def main(given: Sequence[str] = ()) -> int:
    """Run the bench; the exit code says whether the goals were met."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench.bench_decision", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--runs", type=int, default=15)
    options.add_argument("--decisions", type=int, default=500)
    args = options.parse_args(given)
    shipped = load(sorted(FOLDER.glob("*.toml")))
    competing = Counter(row.model for row in shipped.backends)
    model, rivals = competing.most_common(1)[0]
    fit = next(row for row in shipped.backends if row.model == model)
    text, eight, picture, nobody = CASES.values()
    big, everyone = many((fit,), 1000, 20), many((fit,), 1000, 1)
    cases: dict[str, tuple[Callable[[], object], float | None, int]] = {
        f"shipped, {model} ({rivals}): text": (decider(shipped, observed(shipped), text, model), GOAL_US, 1),
        f"shipped, {model} ({rivals}): picture": (decider(shipped, observed(shipped), picture, model), GOAL_US, 1),
        "1,000 backends, 50 compete": (decider(big, observed(big), text, "m0"), GOAL_BIG_US, 10),
        f"all {len(shipped.backends)} shipped compete": (decider(shipped, observed(shipped), text, None), None, 10),
        "all shipped, 8 s with sound": (decider(shipped, observed(shipped), eight, None), None, 10),
        "all shipped, 20 s: nobody": (decider(shipped, observed(shipped), nobody, None), None, 10),
        "all of 1,000 compete": (decider(everyone, observed(everyone), text, "m0"), None, 100),
    }
    took: dict[str, list[float]] = {name: [] for name in cases}
    for decide, _, _ in cases.values():
        decide()
    for _ in range(args.runs):
        for name, (decide, _, fewer) in cases.items():
            count = max(args.decisions // fewer, 1)
            began = time.process_time_ns()
            for _ in range(count):
                decide()
            took[name].append((time.process_time_ns() - began) / count / 1000)
    print(f"{args.runs} interleaved runs of {args.decisions} decisions or a part of them, CPU µs each")
    missed = False
    for name, times in took.items():
        goal, median = cases[name][1], statistics.median(times)
        missed |= goal is not None and median > goal
        verdict = "" if goal is None else f"   goal {goal:.0f}: {'met' if median <= goal else 'missed'}"
        print(f"  {name:<44} median {median:7.1f}   spread {min(times):.1f}–{max(times):.1f}{verdict}")
    held = health_bytes()
    missed |= held > GOAL_BYTES
    print(f"  health of a backend at its fullest: {held / 1000:.1f} KB   goal {GOAL_BYTES // 1000}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
