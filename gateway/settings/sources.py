"""Where a configured value came from, and how a fault in it is told.

Law: an error in a file names the file, the key's path and the line of its table's header; a key that nobody knows is
told with the nearest that somebody does.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.catalogue import Alias
from gateway.settings.tables import File


class SettingsError(Exception):
    """The configuration cannot be used. One line per fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Source:
    """One layer of configuration, with the text that its faults are shown in."""

    def __init__(self, name: str, text: str, raw: dict[str, Any]) -> None:
        self.name = name
        self.text = text
        self.raw = raw

    @classmethod
    def of_file(cls, path: Path) -> Source:
        try:
            text = path.read_text("utf-8")
            return cls(str(path), text, tomllib.loads(text))
        except FileNotFoundError as error:
            raise SettingsError([f"{path}: there is no such file"]) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError([f"{path}: {error}"]) from error

    def unknown_keys(self, modules: Mapping[str, Any]) -> list[str]:
        faults = []
        for path, known in _strays(self.raw, modules):
            near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"
            faults.append(f"{self.place(path)}: unknown key {'.'.join(path)!r}{hint}")
        return faults

    def place(self, path: tuple[str, ...]) -> str:
        """File and line of the key, or of the nearest table header above it."""
        for depth in range(len(path), 0, -1):
            header = re.escape(".".join(path[:depth]))
            found = re.search(rf"^\s*\[+\s*{header}\s*\]+", self.text, re.MULTILINE)
            if found:
                return f"{self.name}:{self.text.count(chr(10), 0, found.end()) + 1}"
        found = re.search(rf"^\s*{re.escape(path[0])}\s*=", self.text, re.MULTILINE)
        return f"{self.name}:{self.text.count(chr(10), 0, found.end()) + 1}" if found else self.name


def _strays(raw: Mapping[str, Any], modules: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Paths of keys that nobody knows, each with the keys that are known in its place."""
    tables = {field.name: field.type for field in msgspec.structs.fields(File)}
    for key, value in raw.items():
        if key == "providers":
            yield from _vendor_strays(value, modules)
        elif key not in tables:
            yield (key,), {*tables, "providers"}
        elif isinstance(value, dict):
            yield from _table_strays((key,), value, tables[key])


def _table_strays(
    path: tuple[str, ...], value: Mapping[str, Any], shape: Any
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    known = {field.name: field.type for field in msgspec.structs.fields(shape)}
    for key, inner in value.items():
        if key not in known:
            yield (*path, key), set(known)
        elif key == "aliases" and isinstance(inner, dict):
            for alias, table in inner.items():
                yield from _table_strays((*path, key, alias), table, Alias)


def _vendor_strays(value: Mapping[str, Any], modules: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    for name, table in value.items():
        if name not in modules:
            yield ("providers", name), set(modules)
            continue
        known = {field.name for field in msgspec.structs.fields(modules[name].Settings)} | {
            "max_in_flight",
            "callbacks",
        }
        for key in table:
            if key not in known | {"accounts", "enabled"}:
                yield ("providers", name, key), known | {"accounts", "enabled"}
        for account in table.get("accounts", ()):
            for key in account:
                if key not in known | {"name"}:
                    yield ("providers", name, "accounts", key), known | {"name"}


def explain(error: Exception, sources: list[Source], *, prefix: str = "") -> str:
    """A validation error as a sentence that begins with its place."""
    text = str(error)
    found = re.search(r" - at `\$\.?([^`]*)`", text)
    inside = re.sub(r"\[\.\.\.\]|\[\d+\]", "", found.group(1)) if found else ""
    path = tuple(part for part in f"{prefix}.{inside}".split(".") if part)
    said = text[: found.start()] if found else text
    for source in reversed(sources):
        table: Any = source.raw
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if table is not None:
            return f"{source.place(path)}: {'.'.join(path)}: {said}"
    return f"{'.'.join(path)}: {said}"
