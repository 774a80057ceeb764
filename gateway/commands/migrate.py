"""`filmgate migrate`: bring a store to this version's schema before a server opens it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from gateway.commands.options import config_option, said_plainly, settings_of
from gateway.store import connect


@click.command(epilog="\b\nExample:\n  filmgate migrate --config filmgate.toml")
@config_option
def migrate(config: Path | None) -> None:
    """Bring the store to this version's schema. `serve` does so by itself; this is for doing it beforehand."""
    settings = settings_of(config)

    async def main() -> None:
        store = connect(settings.store.url)
        await store.open()
        await store.close()

    with said_plainly():
        asyncio.run(main())
    click.echo(f"{settings.store.url} is up to date")
