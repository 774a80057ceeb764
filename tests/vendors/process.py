"""A vendor server as a process of its own, for tests that kill the gateway and for anybody who wants to try by hand.

Law: it says on stdout where it listens once it does, and ends in order on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.vendors.kit import Pace
from tests.vendors.server import Options, Vendor


def arguments(vendor: type[Vendor], given: Sequence[str] | None = None) -> tuple[Path, Options]:
    """The command line of a vendor server as a process of its own."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.vendors.{vendor.name}", description=vendor.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the ledger and the journals are kept")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.3, help="how long a render takes")
    parser.add_argument("--steps", type=int, help="instead: how many polls it takes")
    parser.add_argument("--key", action="append", default=[], help="a credential that is known; default: any")
    parser.add_argument("--virtual", action="store_true", help="time passes only by POST /_advance")
    parser.add_argument("--true-size", action="store_true", help="clips in the size that was bought")
    parser.add_argument("--fetch-pictures", action="store_true", help="fetch and check pictures as the vendor does")
    said = parser.parse_args(given)
    return said.folder, Options(
        port=said.port,
        pace=Pace(seconds=said.seconds, steps=said.steps),
        virtual=said.virtual,
        keys=tuple(said.key),
        true_size=said.true_size,
        fetch_pictures=said.fetch_pictures,
    )


def serve(vendor: type[Vendor]) -> None:
    """Runs until SIGTERM or SIGINT."""

    async def run() -> None:
        server = vendor(*arguments(vendor))
        await server.start()
        print(f"listening on {server.url}", flush=True)
        end = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end.set)
        await end.wait()
        await server.stop()

    asyncio.run(run())
