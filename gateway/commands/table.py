"""A decision as people read it: who would make this clip, for how much, by when; and who would not, and why."""

from __future__ import annotations

from collections import Counter

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gateway.catalogue import Code, Refusal, dollars
from gateway.jobs import Sort
from gateway.router import Decision, Ranked

_BY: dict[Sort, str] = {
    "price": "cheapest first",
    "latency": "soonest first",
    "balanced": "best balance of money and minutes first",
    "kept_price": "cheapest per kept clip first",
}


def span(seconds: float) -> str:
    """ "45 s", "3 min 20 s", "8 min"."""
    whole = round(seconds)
    if whole >= 300:
        return f"{round(whole / 60)} min"
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"


def decision(found: Decision, *, everyone: bool = False) -> RenderableType:
    """The tables. `everyone` gives the reason of the first, and lists those that only lack a credential, else they are
    summed up."""
    parts: list[RenderableType] = []
    if found.ranked:
        parts.append(_candidates(found))
        if everyone:
            parts.append(Text(f"{found.reason()}\n"))
    unarmed = [r for r in found.refusals if r.code is Code.NO_CREDENTIAL]
    if unarmed and everyone:
        parts.append(_unarmed(unarmed))
    elif unarmed:
        counts = Counter(r.backend.partition("/")[0] for r in unarmed)
        named = ", ".join(f"{count} of {provider}" for provider, count in sorted(counts.items()))
        parts.append(Text(f"Without a credential here: {named}. `filmgate route` shows their prices.", style="dim"))
    refused = [r for r in found.refusals if r.code is not Code.NO_CREDENTIAL]
    if refused:
        parts.append(_refusals(refused))
    if not found.ranked:
        others = "Nobody with a credential here" if unarmed else "Nobody"
        parts.append(Text(f"{others} can make this clip as it was asked.", style="bold"))
    return Group(*parts)


def _unarmed(found: list[Refusal]) -> Table:
    title = "could make it, but have no credential here"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("backend", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    for one in sorted(found, key=lambda r: r.quote.usd_micros if r.quote else 0):
        pretend = "*" if one.quote and one.quote.pretend else ""
        table.add_row(one.backend, (dollars(one.quote.usd_micros) if one.quote else "?") + pretend, style="dim")
    return table


def _candidates(found: Decision) -> RenderableType:
    clips = {clip(one) for one in found.ranked}
    shared = clips.pop() if len(clips) == 1 else None
    title = ", ".join(part for part in (f"{found.model}: {shared}" if shared else found.model, _BY[found.sort]) if part)
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("", justify="right")
    table.add_column("backend", no_wrap=True)
    if shared is None:
        table.add_column("clip")
    kept = found.sort == "kept_price"
    for heading in ("price", *(["per kept clip"] if kept else []), "done in", "95 % by", "success", "seen"):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, one in enumerate(found.ranked, 1):
        cells = [
            dollars(one.quote.usd_micros) + ("*" if one.quote.pretend else ""),
            *([f"${one.score:.2f}"] if kept else []),
            f"~{span(one.wait_seconds + one.p50_seconds)}",
            span(one.wait_seconds + one.p95_seconds),
            f"{one.success:.0%}",
            str(one.samples) if one.samples else "-",
        ]
        middle = [] if shared else [clip(one)]
        table.add_row(str(place), one.backend, *middle, *cells, style="bold" if place == 1 else None)
    if any(one.quote.pretend for one in found.ranked):
        return Group(table, Text("* pretended: ranked by, never charged", style="dim"))
    return table


def clip(one: Ranked) -> str:
    """ "5 s, 1280x720, with sound"."""
    return f"{one.seconds} s, {one.size}, {'with sound' if one.audio else 'silent'}"


def _refusals(refused: list[Refusal]) -> Table:
    table = Table(title="not these", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("backend", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("why not")
    table.add_column("would do with")
    for one in refused:
        why = one.message.removeprefix(f"{one.backend} ")
        price = dollars(one.quote.usd_micros) if one.quote else ""
        table.add_row(one.backend, price, escape(why), escape(one.nearest or ""), style="dim")
    return table


def show(found: Decision, console: Console, *, everyone: bool = False) -> None:
    console.print(decision(found, everyone=everyone))
