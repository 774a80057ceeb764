"""A picture of one day: who was asked, and how long clips took, through its faults.

Law: drawn with Pillow alone, from the day's own submits and ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.bench.routing.scenarios import Scenario
from tests.bench.routing.simulation import Day

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 1400, 230, 90, 170, 84, 74
STEP = 300.0  # seconds of one column
_COLOURS = ("#4e79a7", "#f28e2b", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#9c755f")
_INK, _PALE, _FAULT = "#222222", "#bbbbbb", "#fbe3e1"
_FONT, _SMALL = ImageFont.load_default(size=15), ImageFont.load_default(size=12)


def draw(path: Path, days: Sequence[tuple[Scenario, Day]]) -> None:
    """One pair of panels for each day: the vendors' shares of submits, and the clips' p50 and p90 until done."""
    pair = 2 * PANEL + 2 * GAP
    image = Image.new("RGB", (WIDTH, TOP + pair * len(days)), "white")
    pen = ImageDraw.Draw(image)
    pen.text((LEFT, 18), "Share of submits, and seconds until done, through faults (shaded)", fill=_INK, font=_FONT)
    for number, (scenario, day) in enumerate(days):
        top = TOP + number * pair
        _shares(pen, top, scenario, day)
        _finishes(pen, top + PANEL + GAP, scenario, day)
    image.save(path)


def _shares(pen: ImageDraw.ImageDraw, top: int, scenario: Scenario, day: Day) -> None:
    end = _frame(pen, top, scenario, day, "share of submits", ("0 %", "50 %", "100 %"))
    vendors = sorted(day.limits)
    columns: dict[int, dict[str, int]] = {}
    for sent in day.sent:
        column = columns.setdefault(int(sent.at / STEP), {})
        column[sent.vendor] = column.get(sent.vendor, 0) + 1
    for number, counts in columns.items():
        x0, x1 = _x(number * STEP, end), _x((number + 1) * STEP, end)
        total, y = sum(counts.values()), float(top + PANEL)
        for vendor, colour in zip(vendors, _COLOURS, strict=False):
            height = PANEL * counts.get(vendor, 0) / total
            if height:
                pen.rectangle((x0, y - height, max(x1 - 1, x0), y), fill=colour)
            y -= height
    for number, (vendor, colour) in enumerate(zip(vendors, _COLOURS, strict=False)):
        y = top + 8 + number * 22
        pen.rectangle((WIDTH - RIGHT + 14, y, WIDTH - RIGHT + 28, y + 14), fill=colour)
        pen.text((WIDTH - RIGHT + 36, y - 1), vendor, fill=_INK, font=_SMALL)
    _mark(pen, top, scenario, end)


def _finishes(pen: ImageDraw.ImageDraw, top: int, scenario: Scenario, day: Day) -> None:
    columns: dict[int, list[float]] = {}
    for done in day.done:
        if done.finish is not None:
            columns.setdefault(int(done.at / STEP), []).append(done.finish)
    points = [(number, sorted(times)) for number, times in sorted(columns.items())]
    lines = [[(number, times[int(len(times) * share)]) for number, times in points] for share in (0.5, 0.9)]
    most = max(seconds for _, seconds in lines[1]) * 1.1
    end = _frame(
        pen, top, scenario, day, "seconds until done, by arrival", ("0 s", f"{most / 2:.0f} s", f"{most:.0f} s")
    )
    _mark(pen, top, scenario, end, shade=True)
    for number, (line, colour, name) in enumerate(zip(lines, ("#4e79a7", "#c0392b"), ("p50", "p90"), strict=True)):
        at = [(_x((column + 0.5) * STEP, end), top + PANEL * (1 - seconds / most)) for column, seconds in line]
        pen.line(at, fill=colour, width=2)
        y = top + 8 + number * 22
        pen.line((WIDTH - RIGHT + 14, y + 7, WIDTH - RIGHT + 28, y + 7), fill=colour, width=3)
        pen.text((WIDTH - RIGHT + 36, y - 1), name, fill=_INK, font=_SMALL)


def _frame(
    pen: ImageDraw.ImageDraw, top: int, scenario: Scenario, day: Day, what: str, ticks: tuple[str, str, str]
) -> float:
    end = max(done.at for done in day.done)
    pen.text((LEFT, top - 22), f"{scenario.name}, {day.policy}: {what}", fill=_INK, font=_FONT)
    for share, text in zip((0.0, 0.5, 1.0), ticks, strict=True):
        y = top + PANEL * (1 - share)
        pen.line((LEFT, y, WIDTH - RIGHT, y), fill=_PALE)
        pen.text((12, y - 8), text, fill=_INK, font=_SMALL)
    for hour in range(int(end / 3600) + 1):
        pen.text((_x(hour * 3600, end) - 6, top + PANEL + 5), f"{hour} h", fill=_INK, font=_SMALL)
    return end


def _mark(pen: ImageDraw.ImageDraw, top: int, scenario: Scenario, end: float, *, shade: bool = False) -> None:
    """The faults: shaded, or (above filled columns) their bounds, with the vendor's name."""
    for event in scenario.event:
        x0, x1 = _x(event.start, end), _x(min(event.end, end), end)
        if x0 >= WIDTH - RIGHT:
            continue
        if shade:
            pen.rectangle((x0, top, x1, top + PANEL), fill=_FAULT)
        for x in (x0, x1):
            pen.line((x, top - 4, x, top + PANEL), fill="#c0392b" if not shade else _FAULT, width=1)
        pen.text((x0, top + PANEL + 22), f"{event.vendor} {event.kind}", fill="#c0392b", font=_SMALL)


def _x(seconds: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(seconds / end, 1.0)
