"""`filmgate generate`: a picture and a sentence in, an MP4 out, with the decision and the progress in between."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway import log
from gateway.commands import table
from gateway.commands.asking import form_of
from gateway.commands.client import Client, Refused, connected
from gateway.commands.options import clip_options, config_option, said_plainly, settings_of
from gateway.settings import Log

LOOK_SECONDS = 0.5
ENDED = ("completed", "failed")


class _Interrupts:
    """Ctrl-C, told instead of raised: the first asks for a cancel, the second leaves."""

    def __init__(self) -> None:
        self.count = 0
        self._told = asyncio.Event()
        with contextlib.suppress(NotImplementedError):  # no signals of loops on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._tell)

    def _tell(self) -> None:
        self.count += 1
        self._told.set()

    async def within(self, seconds: float) -> bool:
        """Wait that long; whether Ctrl-C came."""
        try:
            await asyncio.wait_for(self._told.wait(), seconds)
        except TimeoutError:
            return False
        self._told.clear()
        return True


@click.command(
    epilog="""\b
Examples:
  filmgate generate photo.jpg "a slow dolly towards the door" --dev
  filmgate generate - "a lighthouse at dusk, waves" --seconds 8 --audio -o dusk.mp4
  filmgate generate a.jpg "morning to night" --last-frame b.jpg --max-price 1.50 --sort latency
  FILMGATE_URL=https://video.example.com FILMGATE_API_KEY=… filmgate generate photo.jpg "rain"
"""
)
@clip_options
@click.option("--model", default="auto", show_default=True, help="A model, provider/model or alias.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("clip.mp4"),
    show_default=True,
    help="Where the clip goes.",
)
@click.option("--url", envvar="FILMGATE_URL", help="A running server. Without it, one is started in this process.")
@click.option("--api-key", envvar="FILMGATE_API_KEY", help="A key of that server.")
@config_option
@click.option("--dev", is_flag=True, help="No key, no vendor: the clip is rendered on this machine.")
@click.option("--yes", "-y", is_flag=True, help="Buy without asking, at whatever price the decision names.")
def generate(
    output: Path, url: str | None, api_key: str | None, config: Path | None, dev: bool, yes: bool, **asked: Any
) -> None:
    """Make one clip from PICTURE (a file, an https address, or - for none) and PROMPT.

    Shows the decision, asks before it spends real money, then follows the job. Ctrl-C cancels where nothing has been
    bought or the vendor can stop, and says so where it can't.
    """
    form, files = form_of(**asked)
    if not output.parent.is_dir():
        output.parent.mkdir(parents=True)
    settings = settings_of(config, dev=dev)
    console = Console(stderr=True)

    log.configure(msgspec.structs.replace(settings, log=Log(level="error")))

    async def main() -> int:
        async with connected(url, api_key, settings) as client:
            found = await client.route(form, files)
            table.show(found, console)
            if not found.ranked:
                return 1
            best = found.ranked[0]
            console.print(escape(best.reason))
            if best.quote.charge_usd_micros and not yes:
                click.confirm(f"Buy it for {best.quote}?", abort=True, err=True)
            job = await client.create(form, files)
            console.print(f"Job {job['id']}")
            for warning in job.get("warnings", ()):
                console.print(f"[dim]note: {escape(warning)}[/dim]")
            job = await _follow(client, job, console)
            return await _deliver(client, job, output, console)

    with said_plainly():
        raise SystemExit(asyncio.run(main()))


async def _follow(client: Client, job: dict[str, Any], console: Console) -> dict[str, Any]:
    """Look until the job ends; the last view of it."""
    interrupts = _Interrupts()
    columns = (
        TextColumn("{task.description:<12}"),
        TextColumn("{task.fields[backend]}", style="bold"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        bar = progress.add_task(job["status"], total=100, backend=job["routing"]["backend"], eta="")
        while job["status"] not in ENDED:
            if await interrupts.within(LOOK_SECONDS):
                if interrupts.count > 1:
                    progress.stop()
                    raise click.ClickException(_left(job))
                await _cancel(client, job, console)
            before, job = job["routing"]["backend"], await client.retrieve(job["id"])
            if job["routing"]["backend"] != before:
                console.print(f"{before} failed; {job['routing']['backend']} goes on, within the job's purse")
            eta = job["routing"].get("eta_seconds")
            elapsed = progress.tasks[0].elapsed or 0.0
            progress.update(
                bar,
                completed=job["progress"],
                description=job["status"].replace("_", " "),
                backend=job["routing"]["backend"],
                eta=f"expected after {table.span(eta)}" if eta and elapsed < eta else "",
            )
        if job["status"] == "completed":
            progress.update(bar, completed=100, eta="")
    return job


async def _cancel(client: Client, job: dict[str, Any], console: Console) -> None:
    console.print("Cancelling … (Ctrl-C again to leave)")
    reply = await client.cancel(job["id"])
    if reply.status_code == 200:  # cancelled; the job says so itself
        return
    if reply.status_code == 202:  # the wish is written down
        console.print("The backend was asked to stop; waiting for its word.")
        return
    console.print(str(Refused(reply)))


def _left(job: dict[str, Any]) -> str:
    return f"left {job['id']} while it was {job['status']}; it goes on at the server, if that goes on"


async def _deliver(client: Client, job: dict[str, Any], output: Path, console: Console) -> int:
    """Write the clip, or say why there is none. The exit status."""
    spent = job["usage"]["cost_usd"] if job.get("usage") else None
    cost = "" if spent is None else f" (${spent:g} spent)"
    if job["status"] != "completed":
        error = job["error"]
        console.print(f"[bold red]{error['code']}[/bold red]: {escape(error['message'])}{cost}")
        return 1
    size = await client.download(job["id"], output)
    made = f"{job['seconds']} s, {job['size']}, by {job['routing']['backend']}"
    console.print(f"[bold green]{output}[/bold green]: {made}, {size / 1e6:.1f} MB{cost}")
    click.echo(str(output))
    return 0
