"""`filmgate usage`: what every key has used, for the operator, beside a running server or without one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import get_args

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway import admin, usage
from gateway.commands.options import config_option, said_plainly, settings_of
from gateway.store.money import date_of, day_of
from gateway.usage import By, Figures, Line

_TITLES = {"jobs": "jobs", "completed": "completed", "failed": "failed", "seconds": "seconds"}


@click.command(
    "usage",
    epilog="""\b
Examples:
  filmgate usage                                      the last thirty days, by day
  filmgate usage --by key --from 2026-11-01
  filmgate usage --by backend --key web
  filmgate usage --by model --csv > november.csv
""",
)
@click.option("--by", type=click.Choice(get_args(By)), default="day", show_default=True, help="One line for each.")
@click.option("--from", "since", metavar="DAY", help="The first day (UTC), such as 2026-11-01.")
@click.option("--to", "until", metavar="DAY", help="The last day; today when it is left out.")
@click.option("--key", metavar="ID|NAME", help="Of this key alone, a revoked one too.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV on stdout.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
@config_option
def command(
    by: By, since: str | None, until: str | None, key: str | None, as_csv: bool, as_json: bool, config: Path | None
) -> None:
    """Show what was used: jobs, seconds of clips, and money, by day, model, backend or key."""
    try:
        first, last = usage.days(since, until, today=day_of(time.time_ns() // 1000))
    except usage.BadRange as error:
        raise click.UsageError(str(error)) from error
    with said_plainly():
        asked = admin.ReportUsage(first=first, last=last, key=key)
        reported = admin.with_store(settings_of(config).store.url, asked)
    found = usage.lines(reported.used, by, names=reported.names)
    if as_csv:
        sys.stdout.write(usage.as_csv(found, by))
    elif as_json:
        shown = [{by: line.name, **({"name": line.label} if by == "key" else {}), **_plain(line)} for line in found]
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode() + "\n")
    elif not found:
        click.echo(f"Nothing was used from {date_of(first)} to {date_of(last)}.", err=True)
    else:
        Console().print(_table(found, by, usage.total(reported.used), f"{date_of(first)} to {date_of(last)}"))


def _plain(line: Line) -> dict[str, int | float]:
    return msgspec.structs.asdict(line.figures)


def _table(found: list[Line], by: By, total: Figures, days: str) -> Table:
    table = Table(title=days, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_footer=len(found) > 1)
    table.add_column(by, footer="together")
    for name, title in _TITLES.items():
        table.add_column(title, justify="right", footer=str(getattr(total, name)))
    table.add_column("cost", justify="right", footer=f"${total.cost_usd:,.2f}")
    table.add_column("reserved", justify="right", footer=f"${total.reserved_usd:,.2f}")
    for line in found:
        figures = line.figures
        counts = [str(getattr(figures, name)) for name in _TITLES]
        money = [f"${figures.cost_usd:,.2f}", f"${figures.reserved_usd:,.2f}"]
        table.add_row(escape(line.label or line.name), *counts, *money)
    return table
