"""`filmgate webhooks`: addresses that are told how jobs ended, as the key's owner sees them on a running server."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from gateway.api.webhooks import DeliveryPage, DeliveryView, SecretView, WebhookPage, WebhookView
from gateway.commands.client import Client, connected
from gateway.commands.options import config_option, said_plainly, settings_of
from gateway.store.outbox import TOLD

T = TypeVar("T")

TEST_SECONDS = 20.0
LOOK_SECONDS = 0.2
ID_WIDTH = 42  # of the longest kind of id
WIDE = 240  # columns of what goes to a file or a pipe


@click.group(
    epilog="""\b
Examples:
  export FILMGATE_URL=http://127.0.0.1:8080 FILMGATE_API_KEY=…
  filmgate webhooks add https://app.example.com/hooks/video      prints the signing secret, once
  filmgate webhooks test hook_…
  filmgate webhooks deliveries video_…                           who was told of a video, with every try
  filmgate webhooks redeliver dlv_…
"""
)
def webhooks() -> None:
    """Tell your own addresses that jobs have ended: add, test, rotate, and see how it went."""


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which server, and whose webhooks."""
    for option in (
        config_option,
        click.option("--api-key", envvar="FILMGATE_API_KEY", help="The key whose webhooks they are."),
        click.option("--url", envvar="FILMGATE_URL", help="The running server.  [default: the configured address]"),
    ):
        command = option(command)
    return command


@webhooks.command()
@click.argument("address", metavar="URL")
@click.option("--event", "events", multiple=True, type=click.Choice(TOLD), help="Only this one. Repeatable.")
@server_options
def add(address: str, events: tuple[str, ...], **server: Any) -> None:
    """Tell URL of every job's end. The signing secret is printed alone on the last line of stdout, and never again."""
    form = {"url": address, **({"events": list(events)} if events else {})}
    made = _asked(server, "POST", "/v1/webhooks", WebhookView, form=form)
    click.echo(f"{made.id} is told of {' and '.join(made.events)}. Keep its secret: it is not shown again.", err=True)
    sys.stdout.write(f"{made.secret}\n")


@webhooks.command("list")
@server_options
def list_webhooks(**server: Any) -> None:
    """Show every endpoint of the key."""
    found = _asked(server, "GET", "/v1/webhooks", WebhookPage).data
    if not found:
        click.echo("There is no webhook yet. Add one with: filmgate webhooks add URL", err=True)
        return
    table = _table("id", "url", "events", "made", "state")
    for one in found:
        state = "" if one.disabled_at is None else f"disabled {_time(one.disabled_at)}: {one.disabled_reason}"
        table.add_row(one.id, one.url, "\n".join(one.events), _time(one.created_at), state)
    _print(table)


@webhooks.command()
@click.argument("webhook", metavar="ID")
@server_options
def remove(webhook: str, **server: Any) -> None:
    """Tell an endpoint nothing any more, also not what it is still owed."""
    _asked(server, "DELETE", f"/v1/webhooks/{webhook}", msgspec.Raw)
    click.echo(f"{webhook} is removed", err=True)


@webhooks.command()
@click.argument("webhook", metavar="ID|callbacks")
@server_options
def rotate(webhook: str, **server: Any) -> None:
    """Make a new secret, printed on stdout; the former one signs along for a day. `callbacks`: the secret that signs
    what goes to a request's callback_url."""
    if webhook == "callbacks":
        secret = _asked(server, "POST", "/v1/webhooks/callback_secret/rotate", SecretView).secret
    else:
        secret = str(_asked(server, "POST", f"/v1/webhooks/{webhook}/rotate", WebhookView).secret)
    click.echo("Both secrets sign for the next 24 hours.", err=True)
    sys.stdout.write(f"{secret}\n")


@webhooks.command()
@server_options
def secret(**server: Any) -> None:
    """Print the secret that signs what goes to a request's callback_url."""
    sys.stdout.write(f"{_asked(server, 'GET', '/v1/webhooks/callback_secret', SecretView).secret}\n")


@webhooks.command()
@click.argument("webhook", metavar="ID")
@server_options
def test(webhook: str, **server: Any) -> None:
    """Send an endpoint a `webhook.test` event, and say what it answered."""

    async def ask(client: Client) -> DeliveryView:
        made = await client.ask("POST", f"/v1/webhooks/{webhook}/test", DeliveryView)
        until = asyncio.get_running_loop().time() + TEST_SECONDS
        while asyncio.get_running_loop().time() < until:
            page = await client.ask("GET", f"/v1/webhooks/{webhook}/deliveries", DeliveryPage)
            for one in page.data:
                if one.id == made.id and one.tries:
                    return one
            await asyncio.sleep(LOOK_SECONDS)
        raise click.ClickException(
            f"{made.id} was not tried within {TEST_SECONDS:g} s; is the server busy or stopping?"
        )

    told = _connected(server, ask)
    last = told.tries[-1]
    if last.error is not None:
        raise click.ClickException(f"{told.url}: {last.error}, status {last.status}, after {last.ms} ms ({told.id})")
    click.echo(f"{told.url} answered {last.status} in {last.ms} ms ({told.id})", err=True)


@webhooks.command()
@click.argument("whose", metavar="ID|VIDEO")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="The newest so many.")
@server_options
def deliveries(whose: str, limit: int, **server: Any) -> None:
    """Show what an endpoint was sent, or who was told of a video: every try, newest first."""
    kind = "videos" if whose.startswith("video_") else "webhooks"
    page = _asked(server, "GET", f"/v1/{kind}/{whose}/deliveries?limit={limit}", DeliveryPage)
    if not page.data:
        click.echo("Nothing was owed yet.", err=True)
        return
    table = _table("delivery, event, video", "type", "url", "state", "tries")
    for one in page.data:
        tries = [f"{_time(try_.at)}  {try_.status or ''} {try_.error or 'taken'}  {try_.ms} ms" for try_ in one.tries]
        state = one.state if one.next_try_at is None else f"{one.state} {_time(one.next_try_at)}"
        ids = [one.id, one.event_id, *([one.video_id] if one.video_id else [])]
        table.add_row("\n".join(ids), one.type, one.url, state, "\n".join(tries))
    _print(table)


@webhooks.command()
@click.argument("delivery", metavar="DELIVERY")
@server_options
def redeliver(delivery: str, **server: Any) -> None:
    """Send it again, from the start of the schedule, under the same webhook-id."""
    _asked(server, "POST", f"/v1/webhooks/deliveries/{delivery}/redeliver", DeliveryView)
    click.echo(f"{delivery} is due now", err=True)


def _asked(server: dict[str, Any], method: str, path: str, shape: type[T], *, form: dict[str, Any] | None = None) -> T:
    """One call, answered."""

    async def ask(client: Client) -> T:
        return await client.ask(method, path, shape, form=form)

    return _connected(server, ask)


def _connected(server: dict[str, Any], ask: Callable[[Client], Awaitable[T]]) -> T:
    config: Path | None = server["config"]
    settings = settings_of(config)
    at = settings.server
    scheme = "https" if at.tls_cert else "http"
    url = server["url"] or f"{scheme}://{f'[{at.host}]' if ':' in at.host else at.host}:{at.port}"

    async def main() -> T:
        async with connected(url, server["api_key"], settings) as client:
            return await ask(client)
        raise AssertionError("a connection swallows nothing")

    with said_plainly():
        return asyncio.run(main())


def _table(ids: str, *titles: str) -> Table:
    """A table whose first column can be copied from: it is never broken."""
    table = Table()
    table.add_column(ids, no_wrap=True, min_width=ID_WIDTH)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=WIDE)).print(table)


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
