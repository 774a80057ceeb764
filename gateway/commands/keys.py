"""`filmgate keys`: make, list and revoke API keys, beside a running server or without one."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from gateway import admin
from gateway.commands.options import config_option, said_plainly, settings_of


@click.group(
    epilog="""\b
Examples:
  filmgate keys create alice                  prints the key, once
  KEY=$(filmgate keys create ci | tail -n 1)
  filmgate keys list
  filmgate keys revoke alice
"""
)
def keys() -> None:
    """Make, list and revoke API keys. A running server takes the change up at once."""


@keys.command()
@click.argument("name")
@click.option("--purse", type=click.FloatRange(min=0), metavar="USD", help="The most that one job may spend.")
@config_option
def create(name: str, purse: float | None, config: Path | None) -> None:
    """Make a key called NAME. It is printed alone on the last line of stdout, and never again."""
    url = settings_of(config).store.url
    micros = None if purse is None else round(purse * 1_000_000)
    with said_plainly():
        made = admin.with_store(url, admin.CreateKey(name=name, purse_usd_micros=micros))
    click.echo(f"Key {made.key.name} ({made.key.id}) is good from now on. Keep it: it is not shown again.", err=True)
    sys.stdout.write(made.text.reveal() + "\n")


@keys.command("list")
@config_option
def list_keys(config: Path | None) -> None:
    """Show every key, revoked ones too; never the keys themselves."""
    with said_plainly():
        found = admin.with_store(settings_of(config).store.url, admin.ListKeys()).keys
    if not found:
        click.echo("There is no key yet. Make one with: filmgate keys create NAME", err=True)
        return
    table = Table()
    for title in ("id", "name", "key", "made", "a job's purse", "revoked"):
        table.add_column(title)
    for key in found:
        purse = "" if key.purse_usd_micros is None else f"${key.purse_usd_micros / 1e6:,.2f}"
        table.add_row(key.id, key.name, key.hint, _day(key.created_us), purse, _day(key.revoked_us))
    Console().print(table)


@keys.command()
@click.argument("key", metavar="ID|NAME")
@config_option
def revoke(key: str, config: Path | None) -> None:
    """Refuse a key from the next request on. Jobs that it has started go on to their end."""
    with said_plainly():
        found = admin.with_store(settings_of(config).store.url, admin.RevokeKey(key=key)).found
    if not found:
        raise click.ClickException(f"no live key is called {key!r}; `filmgate keys list` shows them")
    click.echo(f"{key} is revoked", err=True)


def _day(at_us: int | None) -> str:
    if at_us is None:
        return ""
    return datetime.datetime.fromtimestamp(at_us / 1_000_000, datetime.UTC).strftime("%Y-%m-%d %H:%M")
