"""`filmgate audit`: does every vendor's own list agree with our ledger?"""

from __future__ import annotations

import asyncio
import datetime
import sys
from pathlib import Path

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway import admin, app
from gateway.auditing import Finding, Found, audit
from gateway.catalogue import dollars
from gateway.commands.options import config_option, said_plainly, settings_of
from gateway.settings import Settings
from providers.spec import Lists, ProviderError

MARGIN_SECONDS = 3600
_MEANS = {
    Finding.ORPHAN: "paid there, unknown here",
    Finding.ADOPTABLE: "paid there; most likely the attempt whose reply was lost",
    Finding.COST: "the costs differ",
    Finding.MISSING: "known here, not in the vendor's list",
}


@click.command(
    "audit",
    epilog="""\b
Examples:
  filmgate audit                     the last 24 hours, beside a running server or without one
  filmgate audit --hours 168 --json
""",
)
@config_option
@click.option("--hours", type=click.FloatRange(0.1, 24 * 365), default=24.0, show_default=True, help="How far back.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON, for programs.")
def command(config: Path | None, hours: float, as_json: bool) -> None:
    """Compare each vendor's list of jobs with the ledger: orphans and costs that differ; and the ledger's totals, which
    budgets are held against, with the sum of their jobs. Exit 1 when anything differs.

    Free calls only. Vendors without a list are named; their bills are the only other witness.
    """
    settings = settings_of(config)
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=hours)
    with said_plainly():
        found, silent = asyncio.run(_audit(settings, since))
        totals = admin.with_store(settings.store.url, admin.CheckTotals()).differs
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        _show(found)
        if not totals:
            click.echo("Every key's totals are the sum of their jobs.")
        for line in silent:
            click.echo(line, err=True)
    for wrong in totals:  # nothing but a damaged store, or a hand in it, can bring this about
        click.echo(f"{wrong.of} of {wrong.caller} on {wrong.day}: {wrong.total}, but its jobs: {wrong.jobs}", err=True)
    raise SystemExit(1 if totals or any(one.kind is not Finding.MISSING for one in found) else 0)


async def _audit(settings: Settings, since: datetime.datetime) -> tuple[list[Found], list[str]]:
    since_us = int(since.timestamp() * 1_000_000)
    earlier = since_us - MARGIN_SECONDS * 1_000_000
    asked = admin.ListAttempts(since_us=earlier)
    attempts = (await asyncio.to_thread(admin.with_store, settings.store.url, asked)).attempts
    found: list[Found] = []
    silent: list[str] = []
    async with app.lines(settings) as lines:
        for line in lines:
            if not isinstance(line.adapter, Lists):
                silent.append(f"{line.provider} ({line.account}) has no list of jobs to compare with")
                continue
            try:
                theirs = await line.adapter.list_jobs(since=since)
            except ProviderError as error:
                silent.append(f"{line.provider} ({line.account}) could not be asked: {error.fault.message}")
                continue
            ours = [a for a in attempts if (a.provider, a.account) == (line.provider, line.account)]
            found += audit(line.provider, line.account, theirs=theirs, ours=ours, since_us=since_us)
    return found, silent


def _show(found: list[Found]) -> None:
    if not found:
        click.echo("Every vendor's list agrees with the ledger.")
        return
    table = Table(box=SIMPLE_HEAD)
    for title in ("finding", "account", "vendor's job", "attempt", "ours", "theirs", "which means"):
        table.add_column(title)
    for one in found:
        money = [dollars(cost) if cost is not None else "" for cost in (one.ours_usd_micros, one.theirs_usd_micros)]
        account = f"{one.provider}/{one.account}"
        table.add_row(one.kind, account, one.operation, one.attempt or "", *money, _MEANS[one.kind])
    Console().print(table)
