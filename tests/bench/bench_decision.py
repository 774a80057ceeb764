"""CPU time of one decision (match + rank) over every backend of the shipped catalogue. Goal: 100 µs or less.

    PYTHONPATH=. python tests/bench/bench_decision.py [--runs 15] [--decisions 500]

The cases take turns, run by run, so that a noisy machine hurts them alike. Prints each case's median and spread
(least and most) per decision, and ends with 1 when a median misses the goal.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.catalogue import Catalogue, load, match
from gateway.health import Health
from gateway.jobs import Preferences
from gateway.router import Policy, rank
from providers.spec import Media, VideoRequest

GOAL_US = 100
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


def decider(catalogue: Catalogue, health: Health, video: VideoRequest) -> Callable[[], object]:
    """One decision over the whole catalogue, every provider configured."""
    target, preferences, policy = catalogue.everything(), Preferences(), Policy()
    configured = frozenset(row.provider for row in catalogue.backends)

    def decide() -> object:
        found = match(catalogue, target, video, preferences, configured=configured)
        return rank(found, health, policy, preferences, now_us=NOW_US)

    return decide


def main() -> int:
    """Run the bench; the exit code says whether the goal was met."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=15)
    options.add_argument("--decisions", type=int, default=500)
    args = options.parse_args()
    catalogue = load(sorted(FOLDER.glob("*.toml")))
    health = observed(catalogue)
    cases = {name: decider(catalogue, health, video) for name, video in CASES.items()}
    took: dict[str, list[float]] = {name: [] for name in cases}
    for decide in cases.values():
        decide()
    for _ in range(args.runs):
        for name, decide in cases.items():
            began = time.process_time_ns()
            for _ in range(args.decisions):
                decide()
            took[name].append((time.process_time_ns() - began) / args.decisions / 1000)
    print(
        f"{len(catalogue.backends)} backends, {args.runs} interleaved runs of {args.decisions} decisions, CPU µs each"
    )
    for name, times in took.items():
        print(f"  {name:<24} median {statistics.median(times):6.1f}   spread {min(times):.1f}–{max(times):.1f}")
    worst = max(statistics.median(times) for times in took.values())
    print(f"goal ≤ {GOAL_US} µs: {'met' if worst <= GOAL_US else 'missed'} ({worst:.1f} µs)")
    return 0 if worst <= GOAL_US else 1


if __name__ == "__main__":
    sys.exit(main())
