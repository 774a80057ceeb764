"""The command line: one module a command, found here.

Law: a command reads its arguments, calls the rooms, and prints. What goes wrong is said in one or two lines that name
what was tried, what was expected and what to do next; the exit status is 1, or 2 for a wrong use.
"""

from __future__ import annotations

import importlib.metadata

import click

from gateway.commands.audit import command as audit
from gateway.commands.backends import backends
from gateway.commands.check import check
from gateway.commands.generate import generate
from gateway.commands.keys import keys
from gateway.commands.migrate import migrate
from gateway.commands.route import route
from gateway.commands.serve import serve
from gateway.commands.usage import command as usage
from gateway.commands.webhooks import webhooks


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Examples:
  filmgate generate photo.jpg "a slow dolly towards the door" --dev -o clip.mp4
  filmgate route photo.jpg "rain" --seconds 8 --audio
  filmgate keys create alice && filmgate serve
""",
)
@click.version_option(importlib.metadata.version("filmgate"), prog_name="filmgate")
def main() -> None:
    """Filmgate: one endpoint in front of every AI video API.

    Picks the backend that can make a clip at the best price or the soonest finish, buys it once, follows it to the
    end, and hands over the MP4.
    """


for command in (serve, generate, route, backends, check, keys, usage, audit, migrate, webhooks):
    main.add_command(command)
