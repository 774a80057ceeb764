"""`filmgate route`: the decision before paying, over every backend of the catalogue."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from gateway import log
from gateway.commands import table
from gateway.commands.asking import form_of
from gateway.commands.client import connected
from gateway.commands.options import clip_options, config_option, said_plainly, settings_of
from gateway.settings import Log

EVERY_MODEL = "*"


@click.command(
    epilog="""\b
Examples:
  filmgate route                                    what a 5 s clip from text costs, everywhere
  filmgate route photo.jpg "rain" --seconds 8 --audio
  filmgate route photo.jpg --aspect-ratio 9:16 --sort price --json
  filmgate route --model auto --max-price 0.3
  filmgate route --seconds 10 --sort kept_price --p90 300
"""
)
@clip_options
@click.option("--model", default=EVERY_MODEL, help="A model, provider/model or alias.  [default: every model]")
@click.option("--json", "as_json", is_flag=True, help="The decision as JSON, for programs.")
@click.option("--url", envvar="FILMGATE_URL", help="A running server, whose live figures count; else none are known.")
@click.option("--api-key", envvar="FILMGATE_API_KEY", help="A key of that server.")
@config_option
@click.option("--dev", is_flag=True, help="With the sandbox's backends.")
def route(as_json: bool, url: str | None, api_key: str | None, config: Path | None, dev: bool, **asked: Any) -> None:
    """Show who could make this clip, at what price and how soon; and who could not, and why.

    Nothing is bought. Backends without a credential are shown with their price and marked so.
    """
    asked["prompt"] = asked["prompt"] or "a clip"  # no price depends on the words
    form, files = form_of(**asked)
    # asking a price leaves nothing behind, and works beside a running server
    settings = msgspec.structs.replace(settings_of(config, dev=dev), fleeting=True)

    log.configure(msgspec.structs.replace(settings, log=Log(level="error")))

    async def main() -> None:
        async with connected(url, api_key, settings, work=False) as client:
            found = await client.route(form, files)
        if as_json:
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
        else:
            table.show(found, Console(), everyone=True)

    with said_plainly():
        asyncio.run(main())
