"""`filmgate backends`: every backend with the figures that it is ranked by, and what they rest on."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway import log
from gateway.api.backends import BackendsView, BackendView, PriceView
from gateway.commands.client import connected
from gateway.commands.options import config_option, said_plainly, settings_of
from gateway.commands.table import span
from gateway.settings import Log

STALE_DAYS = 30


@click.command(
    epilog="""\b
Examples:
  filmgate backends                                 what the catalogue says; without a server nothing was seen yet
  filmgate backends --url http://127.0.0.1:8080 --api-key … --model sora-2
  filmgate backends --provider sandbox --dev --json
"""
)
@click.option("--model", help="Only those of this model, provider/model or alias.")
@click.option("--provider", help="Only those of this provider.")
@click.option("--json", "as_json", is_flag=True, help="The answer of GET /v1/backends, for programs.")
@click.option("--url", envvar="FILMGATE_URL", help="A running server, whose live figures count; else none are known.")
@click.option("--api-key", envvar="FILMGATE_API_KEY", help="A key of that server.")
@config_option
@click.option("--dev", is_flag=True, help="With the sandbox's backends.")
def backends(
    model: str | None,
    provider: str | None,
    as_json: bool,
    url: str | None,
    api_key: str | None,
    config: Path | None,
    dev: bool,
) -> None:
    """Show every backend: render times, success, load, price, and how many of its clips are kept."""
    settings = msgspec.structs.replace(settings_of(config, dev=dev), fleeting=True)
    log.configure(msgspec.structs.replace(settings, log=Log(level="error")))

    async def main() -> None:
        async with connected(url, api_key, settings, work=False) as client:
            body = await client.backends(model=model, provider=provider)
        if as_json:
            sys.stdout.write(msgspec.json.format(body, indent=2).decode() + "\n")
        else:
            show(msgspec.json.decode(body, type=BackendsView).data, Console())

    with said_plainly():
        asyncio.run(main())


def show(found: list[BackendView], console: Console) -> None:
    """One line for each backend and kind of clip that was seen; those that can be bought from first."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("backend", no_wrap=True)
    table.add_column("clip", no_wrap=True)
    for heading in ("done in", "95 % by", "seen", "newest", "success", "busy", "kept", "price"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("not now, because")
    for one in sorted(found, key=lambda one: not one.available):
        judged = one.acceptance.accepted + one.acceptance.rejected
        shared = [
            f"{one.success:.0%}",
            f"{one.in_flight}/{one.slots}",
            f"{one.acceptance.rate:.0%} ({one.acceptance.accepted}/{judged})" if judged else "-",
            _price(one.price),
            (one.why or "") if one.credential else "no credential here",
        ]
        for line, render in enumerate(one.renders):
            table.add_row(
                one.id if line == 0 else "",
                render.bucket,
                f"~{span(render.p50_seconds)}",
                span(render.p95_seconds),
                str(render.samples) if render.samples else "-",
                "-" if render.newest_seconds_ago is None else f"{span(render.newest_seconds_ago)} ago",
                *(shared if line == 0 else [""] * len(shared)),
                style=None if one.available else "dim",
            )
    console.print(table)
    notes = ["seen: renders that the times rest on, old ones fading; - is the catalogue's word"]
    if any(one.price is not None and one.price.pretend for one in found):
        notes.append("* pretended: ranked by, never charged")
    real = [one for one in found if one.price is not None and not one.price.pretend]
    if stale := sum(one.checked_days is None or one.checked_days > STALE_DAYS for one in real):
        notes.append(f"{stale} of these prices were last compared with their source more than {STALE_DAYS} days ago")
    console.print(Text("\n".join(notes), style="dim"))


def _price(price: PriceView | None) -> str:
    """ "$0.112–0.168/s": the lowest and the highest rate."""
    if price is None:
        return "?"
    rates = sorted({rate.usd for rate in price.rates})
    spread = f"${rates[0]:g}" if len(rates) == 1 else f"${rates[0]:g}–{rates[-1]:g}"
    return f"{spread}/{'s' if price.per == 'second' else 'clip'}{'*' if price.pretend else ''}"
