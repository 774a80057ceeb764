"""`filmgate keys`: make, list, limit, rotate and revoke API keys, beside a running server or without one."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway import admin
from gateway.commands.options import config_option, said_plainly, settings_of
from gateway.keys import Need, Terms
from gateway.store.money import Spent, usd
from gateway.store.spec import Key

SECOND = 1_000_000
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_NONE = "none"


class Span(click.ParamType[int]):
    """A span of time as people write it: 90s, 30m, 24h, 7d, 2w; 0. In microseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,9})([smhdw])", value) if isinstance(value, str) else None
        if value in (0, "0"):
            return 0
        if found is None:
            self.fail(f"{value!r} is no span of time; write 90s, 30m, 24h, 7d or 2w", param, ctx)
        return int(found[1]) * _SPANS[found[2]] * SECOND


class Moment(click.ParamType[int | str]):
    """When something ends: a span from now, a day (until it begins, UTC), or "none". In microseconds since 1970."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        now = datetime.datetime.now(datetime.UTC)
        if value == _NONE:
            return _NONE
        try:
            day = datetime.datetime.fromisoformat(value)
            when = day if day.tzinfo else day.replace(tzinfo=datetime.UTC)
        except ValueError:
            when = now + datetime.timedelta(microseconds=Span().convert(value, param, ctx))
        if when <= now:
            self.fail(f"{value!r} is over already", param, ctx)
        return int(when.timestamp() * SECOND)


class Limit(click.ParamType[int | str]):
    """A figure, or "none" to take the limit away. Money in micro-dollars."""

    def __init__(self, name: str, *, least: int = 0) -> None:
        self.name = name
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == _NONE:
            return _NONE
        try:
            figure = float(value) * 1e6 if self.name == "USD" else int(value)
            if not self._least <= figure < 2**63:
                raise ValueError(value)
        except ValueError:
            self.fail(f"{value!r} is no figure from {self._least} on; write one, or none", param, ctx)
        return round(figure)


# option → field of Terms
_FIELDS = {
    "budget_day": "budget_day_usd_micros",
    "budget_month": "budget_month_usd_micros",
    "purse": "purse_usd_micros",
    "model": "models",
    "provider": "providers",
    "max_in_flight": "max_in_flight",
    "rpm": "requests_per_minute",
    "scope": "scopes",
    "expires": "expires_us",
    "keep_days": "keep_days",
}


def _terms_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--budget-day", type=Limit("USD"), help="The most that its jobs of one day (UTC) may cost."),
            click.option("--budget-month", type=Limit("USD"), help="The most that its jobs of one month may cost."),
            click.option("--purse", type=Limit("USD"), help="The most that one job may cost, over all attempts."),
            click.option("--model", multiple=True, metavar="NAME", help="Only these models: '*-pro'. Repeatable."),
            click.option("--provider", multiple=True, metavar="NAME", help="Only through these. Repeatable."),
            click.option("--max-in-flight", type=Limit("N", least=1), help="Jobs that have not ended, at once."),
            click.option("--rpm", type=Limit("N", least=1), help="Requests a minute."),
            click.option("--scope", multiple=True, type=click.Choice([*Need, _NONE]), help="Only this. Repeatable."),
            click.option("--expires", type=Moment(), metavar="WHEN", help="90d, 2027-01-31, or none."),
            click.option("--keep-days", type=Limit("N"), help="Erase clips, prompts and pictures after so long."),
        )
    ):
        command = option(command)
    return command


def _terms(given: dict[str, Any]) -> tuple[Terms, tuple[str, ...]]:
    """The terms that were given, and which of their fields those are."""
    found: dict[str, Any] = {}
    for option, field in _FIELDS.items():
        value = given.pop(option)
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            found[field] = () if value == (_NONE,) else value
        else:
            found[field] = None if value == _NONE else value
    return Terms(**found), tuple(found)


@click.group(
    epilog="""\b
Examples:
  filmgate keys create alice                      prints the key, once
  KEY=$(filmgate keys create ci --test | tail -n 1)
  filmgate keys create web --budget-day 50 --budget-month 900 --model '*-pro' --max-in-flight 20
  filmgate keys limit web --budget-day 80 --rpm none
  filmgate keys rotate web --overlap 24h
  filmgate keys list
  filmgate keys revoke alice
"""
)
def keys() -> None:
    """Make, list, limit, rotate and revoke API keys. A running server takes the change up at once."""


@keys.command(
    epilog="""\b
Examples:
  filmgate keys create alice
  filmgate keys create ci --test                              the sandbox only; can never spend
  filmgate keys create web --budget-day 50 --purse 2 --expires 90d
  filmgate keys create board --scope usage --scope metrics    reads figures, makes nothing
"""
)
@click.argument("name")
@click.option("--test", is_flag=True, help="A test key: its jobs are made by the sandbox and cost nothing.")
@_terms_options
@config_option
def create(name: str, test: bool, config: Path | None, **given: Any) -> None:
    """Make a key called NAME. It is printed alone on the last line of stdout, and never again."""
    terms, _ = _terms(given)
    with said_plainly():
        made = admin.with_store(settings_of(config).store.url, admin.CreateKey(name=name, test=test, terms=terms))
    kind = "Test key" if test else "Key"
    click.echo(f"{kind} {made.key.name} ({made.key.id}) is good from now on. Keep it: it is not shown again.", err=True)
    sys.stdout.write(made.text.reveal() + "\n")


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs; money in micro-dollars.")
@config_option
def list_keys(config: Path | None, as_json: bool) -> None:
    """Show every key, revoked ones too, with its limits and what it has used; never the keys themselves."""
    with said_plainly():
        listed = admin.with_store(settings_of(config).store.url, admin.ListKeys())
    if as_json:
        shown = [
            {**msgspec.to_builtins(key), "hash": None, "old_hash": None, "spent": listed.spent.get(key.id, Spent())}
            for key in listed.keys
        ]
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode() + "\n")
        return
    if not listed.keys:
        click.echo("There is no key yet. Make one with: filmgate keys create NAME", err=True)
        return
    table = Table(box=SIMPLE_HEAD)
    for title in ("name", "key", "used today", "this month"):
        table.add_column(title, no_wrap=title == "key", overflow="fold", min_width=8)
    table.add_column("limits", overflow="fold", min_width=12)
    for key in listed.keys:
        spent = listed.spent.get(key.id, Spent())
        table.add_row(
            escape(key.name),
            key.hint,
            _of(spent.day_usd_micros, key.budget_day_usd_micros),
            _of(spent.month_usd_micros, key.budget_month_usd_micros),
            escape(", ".join(_limits(key))),
            style="dim" if key.revoked_us is not None else None,
        )
    Console().print(table)


@keys.command(
    epilog="""\b
Examples:
  filmgate keys limit web --budget-day 80            jobs from now on; what is out goes on
  filmgate keys limit web --model none --rpm none    takes these limits away
  filmgate keys limit web --expires 30d
"""
)
@click.argument("key", metavar="ID|NAME")
@_terms_options
@config_option
def limit(key: str, config: Path | None, **given: Any) -> None:
    """Change what a key may do; what is not named stays as it is. `none` takes a limit away."""
    terms, fields = _terms(given)
    if not fields:
        raise click.UsageError("say what to change, such as --budget-day 50; see --help")
    with said_plainly():
        changed = admin.with_store(
            settings_of(config).store.url, admin.LimitKey(key=key, terms=terms, fields=fields)
        ).key
    if changed is None:
        raise _unknown(key)
    click.echo(f"{changed.name} ({changed.id}): {', '.join(_limits(changed)) or 'no limits'}", err=True)


@keys.command(
    epilog="""\b
Examples:
  filmgate keys rotate web                    the old text goes on for a day
  filmgate keys rotate web --overlap 7d
  filmgate keys rotate web --overlap 0        it has leaked: from now on the new one alone
"""
)
@click.argument("key", metavar="ID|NAME")
@click.option("--overlap", type=Span(), default="24h", show_default=True, help="How long the old text still works.")
@config_option
def rotate(key: str, overlap: int, config: Path | None) -> None:
    """Give a key a new text: the same key, its jobs and its limits. Printed alone on the last line, and never again."""
    with said_plainly():
        made = admin.with_store(settings_of(config).store.url, admin.RotateKey(key=key, overlap_us=overlap))
    until = made.key.old_hash_until_us
    old = "does not work any more" if until is None else f"works until {_minute(until)} UTC"
    click.echo(f"Key {made.key.name} ({made.key.id}) has a new text; the old one {old}.", err=True)
    sys.stdout.write(made.text.reveal() + "\n")


@keys.command()
@click.argument("key", metavar="ID|NAME")
@config_option
def revoke(key: str, config: Path | None) -> None:
    """Refuse a key from the next request on. Jobs that it has started go on to their end."""
    with said_plainly():
        found = admin.with_store(settings_of(config).store.url, admin.RevokeKey(key=key)).found
    if not found:
        raise _unknown(key)
    click.echo(f"{key} is revoked", err=True)


def _unknown(key: str) -> click.ClickException:
    return click.ClickException(f"no live key is called {key!r}; `filmgate keys list` shows them")


def _limits(key: Key) -> list[str]:
    """What holds for a key, in words."""
    said: list[str] = []
    if key.revoked_us is not None:
        said.append(f"revoked {_day(key.revoked_us)}")
    if key.test:
        said.append("test: sandbox only")
    if key.expires_us is not None:
        said.append(f"until {_minute(key.expires_us)}")
    if key.budget_day_usd_micros is not None:
        said.append(f"{usd(key.budget_day_usd_micros)} a day")
    if key.budget_month_usd_micros is not None:
        said.append(f"{usd(key.budget_month_usd_micros)} a month")
    if key.purse_usd_micros is not None:
        said.append(f"{usd(key.purse_usd_micros)} a job")
    only = (("models", key.models), ("providers", key.providers), ("scopes", key.scopes))
    said += [f"{what} {' '.join(words)}" for what, words in only if words]
    if key.max_in_flight is not None:
        said.append(f"{key.max_in_flight} jobs at once")
    if key.requests_per_minute is not None:
        said.append(f"{key.requests_per_minute} requests a minute")
    if key.keep_days is not None:
        said.append(f"keeps {key.keep_days} days")
    if key.old_hash_until_us is not None and key.old_hash_until_us > datetime.datetime.now().timestamp() * SECOND:
        said.append(f"old text until {_minute(key.old_hash_until_us)}")
    return said


def _of(spent: int, budget: int | None) -> str:
    """ "$12.50 of $50.00"."""
    return usd(spent) if budget is None else f"{usd(spent)} of {usd(budget)}"


def _day(at_us: int) -> str:
    return datetime.datetime.fromtimestamp(at_us / SECOND, datetime.UTC).strftime("%Y-%m-%d")


def _minute(at_us: int) -> str:
    return datetime.datetime.fromtimestamp(at_us / SECOND, datetime.UTC).strftime("%Y-%m-%d %H:%M")
