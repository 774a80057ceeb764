"""Reads catalogue files (TOML) into a Catalogue, or tells every fault in them at once.

Law: the one room of the catalogue that touches the disk. A file is trusted for nothing: unknown keys, wrong types,
contradictions and holes in a price table are faults, each with its file, key path and the line of its row's header.
A row's provider is its `provider` key, else the file's name. A row replaces an earlier one of the same id only when it
says `replaces = true`, so that an operator can set a price, and a slip cannot.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from gateway.catalogue.naming import Catalogue
from gateway.catalogue.pricing import read_price
from gateway.catalogue.rows import AudioGrant, Backend, ExactSize, PictureLimits, Price, Seconds, TypicalSeconds
from gateway.catalogue.shapes import parse_ratio, parse_size, short_side
from providers.spec import Camera, Frozen, Mode

MAX_SECONDS = 3600  # no vendor makes a clip of an hour; a longer one is a slip of the pen

_LEAST = (("references", 0), ("shots", 0), ("prompt_max", 1), ("max_in_flight", 1), ("poll_floor_seconds", 0))
_HEADER = re.compile(r"\s*\[\[\s*backend\s*\]\]")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class CatalogueFault(NamedTuple):
    """One thing wrong in a catalogue file. `line` is that of the row's `[[backend]]`, 1 when it has none."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {f'{self.key}: ' if self.key else ''}{self.message}"


class CatalogueError(Exception):
    """The catalogue cannot be used. `faults` holds every reason."""

    def __init__(self, faults: tuple[CatalogueFault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class _Range(Frozen):
    min: int
    max: int


class _Row(Frozen):
    """A row as it is written."""

    model: str
    model_id: dict[Mode, str]
    seconds: tuple[int, ...] | _Range
    resolutions: tuple[str, ...]
    audio: AudioGrant
    typical_seconds: TypicalSeconds
    provider: str | None = None
    name: str | None = None
    replaces: bool = False
    pretend: bool = False
    aspect_ratios: tuple[str, ...] = ()
    sizes: dict[str, str] | None = None
    follows_picture: bool = False
    last_frame: bool = False
    last_frame_required: bool = False
    references: int = 0
    shots: int = 0
    prompt_with_shots: bool = False
    camera: tuple[Camera, ...] = ()
    seed: bool = False
    negative_prompt: bool = False
    cfg_scale: bool = False
    prompt_max: int = 2500
    picture: PictureLimits = PictureLimits()
    price_usd_per_second: Any = None
    price_usd_per_clip: Any = None
    failed_jobs_are_billed: bool = False
    moderated_jobs_are_billed: bool = False
    cancelled_jobs_are_billed: bool = False
    output_days: float | None = None
    max_in_flight: int = 2
    poll_floor_seconds: float = 1.0
    checked: date | None = None
    source: str = ""


class _Draft:
    """One row while it is read: what it holds, and what is wrong with it."""

    def __init__(self, file: str, line: int, name: str) -> None:
        self.file, self.line, self.name = file, line, name
        self.faults: list[CatalogueFault] = []
        self.backend: Backend | None = None
        self.replaces = False

    def add_fault(self, key: str, message: str) -> None:
        path = f"{self.name}.{key}" if key else self.name
        self.faults.append(CatalogueFault(self.file, self.line, path, message))


def load(paths: Iterable[Path]) -> Catalogue:
    """The catalogue of these files, in their order. Raises CatalogueError with every fault of every file."""
    drafts: dict[str, _Draft] = {}
    faults: list[CatalogueFault] = []
    for path in paths:
        for draft in _read_file(path, faults):
            if draft.backend is not None:
                earlier = drafts.get(draft.backend.id)
                if earlier is not None and not draft.replaces:
                    place = f"{earlier.file}:{earlier.line}"
                    draft.add_fault("", f"{draft.backend.id} stands already at {place}; `replaces = true` replaces it")
                elif earlier is None and draft.replaces:
                    draft.add_fault("replaces", f"there is no earlier row {draft.backend.id}")
                drafts[draft.backend.id] = draft
            faults.extend(draft.faults)
    if faults:
        raise CatalogueError(tuple(faults))
    return Catalogue(draft.backend for draft in drafts.values() if draft.backend is not None)


def _read_file(path: Path, faults: list[CatalogueFault]) -> list[_Draft]:
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        faults.append(CatalogueFault(str(path), int(place[1]) if place else 1, "", f"is not TOML: {error}"))
        return []
    except (OSError, UnicodeDecodeError) as error:
        faults.append(CatalogueFault(str(path), 1, "", f"cannot be read: {error}"))
        return []
    strange = "is not known; a catalogue file holds [[backend]] rows only"
    faults.extend(CatalogueFault(str(path), 1, key, strange) for key in tables if key != "backend")
    rows = tables.get("backend", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        faults.append(CatalogueFault(str(path), 1, "backend", "is not a list of tables: write [[backend]]"))
        return []
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if _HEADER.match(line)]
    if len(lines) != len(rows):  # written in a manner of its own, as an inline array
        lines = [1] * len(rows)
    drafts = []
    for index, (line, row) in enumerate(zip(lines, rows, strict=True)):
        draft = _Draft(str(path), line, f"backend[{index}]")
        _read_row(row, draft, provider=path.stem)
        drafts.append(draft)
    return drafts


def _read_row(table: dict[str, Any], draft: _Draft, *, provider: str) -> None:
    good = _read(_Row, table, "", draft)
    draft.replaces = bool(good.get("replaces"))
    if "seconds" in good:
        good["seconds"] = _seconds(good["seconds"])
    _judge_words(good, draft)
    good["sizes"] = _exact_sizes(good, draft)
    _judge_grants(good, draft)
    price = _price(good, draft)
    if draft.faults:
        return
    provider = good["provider"] or provider
    draft.backend = Backend(
        id=f"{provider}/{good['name'] or good['model']}",
        provider=provider,
        price=price,
        **{key: value for key, value in good.items() if key in Backend.__struct_fields__ and key != "provider"},
    )


def _seconds(written: tuple[int, ...] | _Range) -> Seconds:
    if isinstance(written, _Range):
        return Seconds(min=written.min, max=written.max)
    return Seconds(values=tuple(sorted(written)))


def _exact_sizes(good: dict[str, Any], draft: _Draft) -> tuple[ExactSize, ...]:
    """`sizes`, written "720p 1:1" = "960x960" in the row's own words."""
    sizes: dict[tuple[int, int], ExactSize] = {}
    for words, pixels in (good.get("sizes") or {}).items():
        resolution, _, aspect = words.partition(" ")
        size = parse_size(pixels)
        if size is None:
            draft.add_fault(f"sizes.{words!r}", f"{pixels!r} is no size: write 960x960")
        elif resolution not in good.get("resolutions", ()) or aspect not in good.get("aspect_ratios", ()):
            wants = "a resolution and an aspect ratio of this row, as they stand there"
            draft.add_fault(f"sizes.{words!r}", f'is not {wants}: write "720p 1:1"')
        elif size in sizes:  # a caller who names the pixels must mean one of the two
            twin = sizes[size]
            draft.add_fault(f"sizes.{words!r}", f"{pixels} is {twin.resolution} {twin.aspect} already")
        else:
            sizes[size] = ExactSize(resolution=resolution, aspect=aspect, width=size[0], height=size[1])
    return tuple(sizes.values())


def _price(good: dict[str, Any], draft: _Draft) -> Price | None:
    per_second, per_clip = good.get("price_usd_per_second"), good.get("price_usd_per_clip")
    if per_second is not None and per_clip is not None:
        draft.add_fault("price_usd_per_clip", "stands beside price_usd_per_second: give one")
        return None
    if (per_second is None and per_clip is None) or not {"resolutions", "audio", "seconds"} <= good.keys():
        return None
    return read_price(
        per_second if per_clip is None else per_clip,
        per="second" if per_clip is None else "clip",
        resolutions=good["resolutions"],
        audio=good["audio"],
        seconds=good["seconds"],
        add_fault=draft.add_fault,
    )


def _judge_words(good: dict[str, Any], draft: _Draft) -> None:
    """Names, durations, sizes and shapes: what types alone cannot tell."""
    for key in ("model", "name", "provider"):
        text = good.get(key)
        if text is not None and not _NAME.fullmatch(text):
            draft.add_fault(key, f"{text!r} is no name: lower-case letters, digits, dots and dashes")
    seconds: Seconds | None = good.get("seconds")
    if seconds is not None:
        longest = seconds.values[-1] if seconds.values else seconds.max
        every = seconds.all() if (longest or 0) <= MAX_SECONDS else ()
        if not every or every[0] < 1 or len(set(every)) != len(every):
            wants = f"different whole seconds from 1 to {MAX_SECONDS}, or min ≤ max"
            draft.add_fault("seconds", f"grants no duration: it wants a list of {wants}")
            del good["seconds"]
    if good.get("resolutions") == ():
        draft.add_fault("resolutions", "is empty")
    for key, meaning_of in (("resolutions", short_side), ("aspect_ratios", parse_ratio)):
        meanings: list[Any] = []
        for index, word in enumerate(good.get(key, ())):
            meaning = meaning_of(word)
            if meaning is None:
                draft.add_fault(f"{key}[{index}]", f"{word!r} is not known: write 720p, 2k, 4k or 16:9")
            elif meaning in meanings:
                draft.add_fault(f"{key}[{index}]", f"{word!r} says again what stands before it")
            meanings.append(meaning)


def _judge_grants(good: dict[str, Any], draft: _Draft) -> None:
    """Counts, limits, and grants that need one another."""
    fault = draft.add_fault
    modes = good.get("model_id")
    if modes is not None:
        if not modes:
            fault("model_id", "is empty: it names the vendor's id for text, first_frame or references")
        if "references" in good and (good["references"] > 0) != (Mode.REFERENCES in modes):
            fault("references", "counts reference pictures exactly when model_id has a `references`")
        for key in ("last_frame", "follows_picture"):
            if good.get(key) and Mode.FIRST_FRAME not in modes:
                fault(key, "means nothing without a `first_frame` in model_id")
    for key, least in _LEAST:
        if key in good and good[key] < least:
            fault(key, f"{good[key]} is less than {least}")
    picture: PictureLimits | None = good.get("picture")
    if picture is not None:
        if min(picture.min_side, picture.max_bytes) < 1:
            fault("picture", "min_side and max_bytes are 1 or more")
        if not 0 < picture.min_ratio <= picture.max_ratio:
            fault("picture", "min_ratio and max_ratio are width ÷ height, the smaller first")
    typical: TypicalSeconds | None = good.get("typical_seconds")
    if typical is not None and not 0 < typical.p50 <= typical.p95 < math.inf:
        fault("typical_seconds", "wants 0 < p50 ≤ p95")
    if not good.get("pretend") and {"checked", "source"} <= good.keys() and not (good["checked"] and good["source"]):
        fault("checked", "a real row says when it was checked, and `source` where")


def _read(form: type[msgspec.Struct], table: dict[str, Any], prefix: str, draft: _Draft) -> dict[str, Any]:
    """The sound values of `table`, by the fields of `form`, with defaults for what is not written. Each field is judged
    by itself, so that one fault does not hide the next."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(form)}
    for key in table:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1, cutoff=0.4)
            draft.add_fault(prefix + key, f"is not known{f'; did you mean {close[0]}?' if close else ''}")
    good: dict[str, Any] = {}
    for key, field in fields.items():
        if key not in table:
            if field.required:
                draft.add_fault(prefix + key, "is missing")
            else:
                good[key] = field.default
            continue
        value, inner = table[key], _table_form(field.type)
        if isinstance(value, dict) and inner is not None:
            before = len(draft.faults)
            parts = _read(inner, value, f"{prefix}{key}.", draft)
            if len(draft.faults) == before:
                good[key] = inner(**parts)
            continue
        try:
            good[key] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(" - at `$")
            draft.add_fault(prefix + key + place.rstrip("`"), message)
    return good


def _table_form(kind: Any) -> type[msgspec.Struct] | None:
    """The Struct that a field holds, alone or as one of several forms."""
    for form in (kind, *get_args(kind)):
        if isinstance(form, type) and issubclass(form, msgspec.Struct):
            return form
    return None
