"""`filmgate check`: is the configuration one that can be served, and are its prices still fresh?"""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from gateway import tls
from gateway.catalogue import CatalogueError
from gateway.catalogue import load as load_catalogue
from gateway.commands.options import config_option
from gateway.settings import SettingsError, load

STALE_DAYS = 30


@click.command(epilog="\b\nExample:\n  filmgate check --config filmgate.toml && systemctl restart filmgate")
@config_option
@click.option("--today", type=click.DateTime(["%Y-%m-%d"]), hidden=True)
def check(config: Path | None, today: datetime.datetime | None) -> None:
    """Check the configuration and the catalogue; exit 1 when either cannot be used.

    Every fault is printed with its file and line. Prices that nobody has compared with their source for 30 days are
    warnings: they do not fail the check.
    """
    try:
        settings = load(config)
    except SettingsError as error:
        for fault in error.faults:
            click.echo(f"error: {fault}", err=True)
        raise SystemExit(1) from error
    try:
        catalogue = load_catalogue(settings.catalogue)
    except CatalogueError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        raise SystemExit(1) from error
    try:
        tls.files(settings.server)
    except tls.BadCertificate as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from error
    date = today.date() if today else datetime.datetime.now(datetime.UTC).date()
    stale = 0
    for backend in catalogue.backends:
        if backend.pretend:
            continue
        age = (date - backend.checked).days if backend.checked else None
        if age is None or age > STALE_DAYS:
            stale += 1
            seen = "never" if age is None else f"{age} days ago, on {backend.checked}"
            click.echo(f"warning: {backend.id}: its price was last compared with {backend.source or 'nothing'} {seen}")
    for warning in catalogue.faults_in(settings.routing.aliases):
        click.echo(f"warning: {warning}")
    providers = sorted(settings.configured) or ["none (only `--dev` can serve)"]
    click.echo(
        f"ok: {len(catalogue.backends)} backends of {len(catalogue.model_names())} models; "
        f"providers with a credential: {', '.join(providers)}; {stale} prices older than {STALE_DAYS} days"
    )
