"""What was used, added up for people: by day, model, backend or key, as records or as CSV.

Law: pure. Every sum is of rows that the store has kept; money is integer micro-dollars until it is shown.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from gateway.store.money import Used, date_of, days_since_1970
from providers.spec import Frozen

By = Literal["day", "model", "backend", "key"]

LONGEST_DAYS = 3 * 366
DEFAULT_DAYS = 30
MICROS = 1_000_000

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class Figures(Frozen, omit_defaults=False):
    """Sums over some jobs. Money in US dollars."""

    jobs: int = 0  # accepted
    completed: int = 0
    failed: int = 0  # ended without a clip: failed, cancelled, expired
    seconds: int = 0  # of the completed clips
    cost_usd: float = 0.0
    reserved_usd: float = 0.0  # for what has not ended


class Line(Frozen):
    """One group. `name` is its day, model or backend, or the key's id; `label` the key's name."""

    name: str
    label: str
    figures: Figures


class BadRange(Exception):
    """The days cannot be read, or are too many. `param`: from, or to."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def days(since: str | None, until: str | None, *, today: int) -> tuple[int, int]:
    """The first and the last day, since 1970, of dates as people write them; both are included. Without an end, until
    today; without a beginning, the thirty days to the end. Raises BadRange."""
    last = _day("to", until) if until is not None else today
    first = _day("from", since) if since is not None else last - DEFAULT_DAYS + 1
    if first > last:
        raise BadRange("from", f"from {date_of(first)} to {date_of(last)} there is no day")
    if last - first >= LONGEST_DAYS:
        raise BadRange("from", f"at most {LONGEST_DAYS} days are added up at once")
    return first, last


def _day(param: str, text: str) -> int:
    try:
        if not _DAY.fullmatch(text):  # other forms of ISO 8601 are dates, too
            raise ValueError(text)
        return days_since_1970(datetime.date.fromisoformat(text))
    except ValueError:
        raise BadRange(param, f"{param} is a day such as 2026-11-25 (UTC), not {text[:40]!r}") from None


def lines(rows: Iterable[Used], by: By, *, names: Mapping[str, str] | None = None) -> list[Line]:
    """One line for each group: days in their order, everything else by what it cost, the dearest first."""
    groups: dict[str, list[Used]] = {}
    for row in rows:
        groups.setdefault(_group(row, by), []).append(row)
    called = names or {}
    found = [Line(name=name, label=called.get(name, name), figures=total(group)) for name, group in groups.items()]
    found = [line for line in found if line.figures != Figures()]
    if by == "day":
        return sorted(found, key=lambda line: line.name)
    return sorted(found, key=lambda line: (-line.figures.cost_usd, -line.figures.jobs, line.name))


def total(rows: Iterable[Used]) -> Figures:
    jobs = completed = failed = seconds = cost = reserved = 0
    for row in rows:
        jobs += row.jobs
        completed += row.completed
        failed += row.failed
        seconds += row.seconds
        cost += row.cost_usd_micros
        reserved += row.reserved_usd_micros
    return Figures(
        jobs=jobs,
        completed=completed,
        failed=failed,
        seconds=seconds,
        cost_usd=cost / MICROS,
        reserved_usd=reserved / MICROS,
    )


def as_csv(found: Iterable[Line], by: By) -> str:
    """A header, then one record a line, as RFC 4180 has it. What a spreadsheet would take for a formula is quoted."""
    file = io.StringIO()
    writer = csv.writer(file)
    label = ["name"] if by == "key" else []
    writer.writerow([by, *label, *Figures.__struct_fields__])
    for line in found:
        names = [line.name, line.label] if label else [line.name]
        figures = msgspec.structs.astuple(line.figures)
        writer.writerow([*map(_plain, names), *(_number(figure) for figure in figures)])
    return file.getvalue()


def _group(row: Used, by: By) -> str:
    match by:
        case "day":
            return date_of(row.day).isoformat()
        case "model":
            return row.model
        case "backend":
            return row.backend
        case "key":
            return row.caller


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _number(figure: int | float) -> str:
    return str(figure) if isinstance(figure, int) else f"{figure:.6f}".rstrip("0").rstrip(".")
