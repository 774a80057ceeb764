"""`filmgate serve`: the service, until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from gateway import app, log
from gateway.commands.options import config_option, said_plainly, settings_of
from providers.guard import is_loopback


@click.command(
    epilog="""\b
Examples:
  filmgate serve --dev                      no key, no vendor: clips are rendered on this machine
  filmgate keys create alice
  filmgate serve --config filmgate.toml --port 9000
  filmgate serve --tls-cert fullchain.pem --tls-key privkey.pem
"""
)
@config_option
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: 8080]")
@click.option("--tls-cert", metavar="FILE", help="Serve https, with this certificate (PEM, with its chain).")
@click.option("--tls-key", metavar="FILE", help="The certificate's private key (PEM).")
@click.option("--dev", is_flag=True, help='Loopback only, sandbox on, the key "dev", a store that ends with it.')
def serve(
    config: Path | None, host: str | None, port: int | None, tls_cert: str | None, tls_key: str | None, dev: bool
) -> None:
    """Serve the API until SIGINT or SIGTERM."""
    overrides = {"server.host": host, "server.port": port, "server.tls_cert": tls_cert, "server.tls_key": tls_key}
    settings = settings_of(config, dev=dev, overrides=overrides)
    if dev and not is_loopback(settings.server.host):
        raise click.UsageError(
            f"--dev accepts a key that everybody knows, so it listens on loopback only, not on "
            f"{settings.server.host}. Make a key with `filmgate keys create NAME` to serve others."
        )
    log.configure(settings)

    def ready(url: str) -> None:
        click.echo(f"Filmgate answers at {url}/v1" + (' with the key "dev"' if dev else ""), err=True)

    with said_plainly():
        app.run(settings, ready=ready)
