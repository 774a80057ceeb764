"""Options that several commands share, and the one place where trouble becomes an exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click

from gateway.admin import AdminError
from gateway.app import CannotServe
from gateway.catalogue import CatalogueError
from gateway.jobs import Sort
from gateway.settings import Settings, SettingsError, load
from gateway.store.spec import StoreError

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="FILMGATE_CONFIG",
    help="Configuration file over the shipped one (see config/filmgate.toml).",
)


def clip_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What can be asked of a clip, the same for `generate` and `route`."""
    for option in reversed(
        (
            click.argument("picture", default="-", metavar="PICTURE|-"),
            click.argument("prompt", default=""),
            click.option("--seconds", type=int, metavar="N", help="Duration; 5, or the nearest, when left open."),
            click.option("--audio/--silent", "audio", default=None, help="With or without a sound track."),
            click.option("--size", metavar="WxH", help='Pixels, such as "1280x720".'),
            click.option("--resolution", metavar="NAME", help="480p, 720p, 1080p, 4k …"),
            click.option("--aspect-ratio", metavar="W:H", help="16:9, 9:16, 1:1 …"),
            click.option("--last-frame", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE"),
            click.option("--negative-prompt", metavar="TEXT"),
            click.option("--seed", type=int),
            click.option("--sort", type=click.Choice(get_args(Sort)), help="What counts most."),
            click.option("--max-price", type=float, metavar="USD", help="The most that all attempts may cost."),
            click.option("--p90", type=float, metavar="SECONDS", help="Done within, in nine cases of ten."),
            click.option("--only", multiple=True, metavar="NAME", help="Only this provider or backend. Repeatable."),
            click.option("--ignore", multiple=True, metavar="NAME", help="Not this one. Repeatable."),
        )
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def said_plainly() -> Iterator[None]:
    """Turns what the rooms raise into a short message on stderr and exit status 1."""
    try:
        yield
    except (SettingsError, CatalogueError, StoreError, AdminError, CannotServe) as error:
        raise click.ClickException(str(error)) from error


def settings_of(config: Path | None, *, dev: bool = False, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings, or a plain message."""
    with said_plainly():
        return load(config, dev=dev, overrides=overrides)
