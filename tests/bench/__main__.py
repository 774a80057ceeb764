"""What Filmgate costs, measured on this machine and held against its goals: `python -m tests.bench [name …]`.

    decision   CPU time of one decision over the catalogue                      (about 10 s)
    http       CPU time of a create and of a status read, against bare Litestar (about 20 s)
    memory     memory of 10,000 jobs in flight                                  (about 40 to 120 s)
    streams    memory of 2,000 idle event streams                               (about 10 s)
    download   memory while a clip of 2 GB is read, resumed, archived           (about 60 s, 2 GB of disk)

Each is a module that can be run alone, with options of its own: `python -m tests.bench.bench_http --help`. Figures are
of CPU time and memory, which a busy machine blurs less than it does wall time; a spread much wider than the difference
that matters says: run again when the machine is quiet. The routing bench is a simulation and has a command of its own:
`python -m tests.bench.routing`.

The exit code is 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from tests.bench import bench_decision, bench_download, bench_http, bench_memory, bench_streams

BENCHES: dict[str, Callable[[], int]] = {
    "decision": bench_decision.main,
    "http": bench_http.main,
    "memory": bench_memory.main,
    "streams": bench_streams.main,
    "download": bench_download.main,
}


def main(given: Sequence[str]) -> int:
    """Run the named benches, or all; 1 when one of them missed its goal."""
    options = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(BENCHES)}; none: all of them")
    names = options.parse_args(given).names or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        options.error(f"there is no bench {unknown[0]!r}; there are {', '.join(BENCHES)}")
    missed = 0
    for name in names:
        print(f"{name}: running …", file=sys.stderr, flush=True)
        began = time.monotonic()
        print(f"--- {name}")
        missed |= BENCHES[name]()
        print(f"{name}: took {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        print(flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
