"""Every policy through every scenario; tables as markdown on stdout.

    python -m tests.bench.routing [--quick] [--seed N] [--unseen] [--only NAME …] [--csv FILE] [--plot FILE]

The scenarios and both kinds of seeds are committed in scenarios.toml: the ranking was tuned on one, and `--unseen`
shows the others. `--help` says how to read the tables. Ends with 0 whatever the goals say: the tables are the answer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.bench.routing import policies
from tests.bench.routing.measures import CSV_HEAD, READING, Measures, csv_line, goals, measure, table
from tests.bench.routing.plot import draw
from tests.bench.routing.scenarios import read_ground
from tests.bench.routing.simulation import Day, Simulation
from tests.bench.routing.world import World

JOBS, QUICK = 10_000, 1_000
DRAWN = (("outage", "ours: price"), ("outage", "ours: latency"), ("brown-out", "ours: latency"))


def one(name: str, seed: int, jobs: int, names: Sequence[str]) -> tuple[list[Measures], dict[str, Day], float]:
    """One scenario under every policy, with the days that are drawn and the CPU seconds it took."""
    began = time.process_time()
    ground = read_ground()
    scenario = next(scenario for scenario in ground.scenario if scenario.name == name)
    stretch = JOBS / jobs
    world = World(ground, scenario, seed=seed, jobs=jobs, stretch=stretch)
    found, drawn = [], {}
    for policy in names:
        day = Simulation(world, scenario, policy, stretch=stretch).run()
        found.append(measure(day, scenario))
        if (name, policy) in DRAWN:
            drawn[policy] = day
    return found, drawn, time.process_time() - began


def main() -> int:
    options = argparse.ArgumentParser(
        prog="python -m tests.bench.routing",
        description=__doc__.partition("\n")[0],
        epilog=READING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--quick", action="store_true", help=f"{QUICK} jobs a scenario, on as much fewer slots")
    options.add_argument("--seed", type=int, help="instead of the one that the ranking was tuned on")
    options.add_argument("--unseen", action="store_true", help="the seeds that were never used while tuning")
    options.add_argument("--only", action="append", help="these scenarios alone")
    options.add_argument("--ours", action="store_true", help="our policies alone, without any to compare with")
    options.add_argument("--csv", type=Path)
    options.add_argument("--plot", type=Path, help="a PNG of an outage and a brown-out")
    args = options.parse_args()
    ground = read_ground()
    seeds = ground.seeds.unseen if args.unseen else (args.seed or ground.seeds.tuning,)
    scenarios = [s for s in ground.scenario if not args.only or s.name in args.only]
    names = policies.OURS if args.ours else policies.ALL
    jobs = QUICK if args.quick else JOBS
    rows: list[Measures] = []
    for seed in seeds:
        print(f"# Seed {seed}: {jobs} jobs a scenario\n")
        said, days, took = [], [], 0.0
        with ProcessPoolExecutor(2) as pool:
            runs = [pool.submit(one, scenario.name, seed, jobs, names) for scenario in scenarios]
            for scenario, run in zip(scenarios, runs, strict=True):
                found, drawn, cpu = run.result()
                took += cpu
                rows += found
                by_name = {measures.policy: measures for measures in found}
                print(f"## {scenario.name}\n", *table(by_name), "", sep="\n", flush=True)
                if not args.ours:
                    said += goals(scenario.name, by_name)
                days += [(scenario, day) for day in drawn.values()]
        if said:
            print("## Goals\n\n| goal | met in | misses |\n|---|---:|---|")
            for goal in dict.fromkeys(goal.name for goal in said):
                mine = [g for g in said if g.name == goal]
                misses = "; ".join(f"{g.scenario}: {g.value}" for g in mine if not g.met)
                print(f"| {goal} | {sum(g.met for g in mine)} of {len(mine)} | {misses} |")
        print(f"\n{took:.0f} s of CPU\n")
        if args.plot and days:
            draw(args.plot, days)
    if args.csv:
        args.csv.write_text("\n".join([CSV_HEAD, *(csv_line(row) for row in rows)]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
