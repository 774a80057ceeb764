"""Conversations with Pika as its clients' code tells them: adapter and vendor server are held to them, each by itself.

Law: a transcript is written from the sources that it names, never from our adapter or server. In it `$name` is what the
vendor chooses (`values` gives one example), "…" stands for anything, and the status "2xx" for any success.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tests.vendors.script import Act

FOLDER = Path(__file__).parent.parent / "recordings" / "pika"


class Request(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    url: str  # a path, or `$name`
    headers: dict[str, str] = {}
    without: list[str] = []  # headers that must not be there
    body: Any = None  # JSON; text is sent as it stands


class Reply(msgspec.Struct, forbid_unknown_fields=True):
    status: int | str
    body: Any = None

    def is_answered_by(self, status: int) -> bool:
        return 200 <= status < 300 if self.status == "2xx" else status == self.status


class Exchange(msgspec.Struct, forbid_unknown_fields=True):
    request: Request
    reply: Reply


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """One call of an adapter, the exchanges that it makes, and what comes of it."""

    call: str  # submit | find | poll | refresh | upload
    exchanges: list[Exchange]
    means: dict[str, Any]
    ask: dict[str, str | int] = {}  # what is asked for otherwise than in the transcript's own


class Transcript(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    read: str
    made: str
    calls: list[Call]
    ask: dict[str, str | int] = {}  # what is asked for: model_id, client_id, prompt, seconds, resolution, pictures
    values: dict[str, str] = {}
    acts: list[Act] = []  # what the vendor server is told beforehand
    steps: int = 0  # with how many polls behind it a job of the vendor server ends


def transcripts() -> dict[str, Transcript]:
    paths = sorted(FOLDER.glob("transcript-*.json"))
    return {path.stem.partition("-")[2]: msgspec.json.decode(path.read_bytes(), type=Transcript) for path in paths}


def filled(value: Any, values: dict[str, str]) -> Any:
    """`value` with every `$name` replaced by what it stands for."""
    match value:
        case dict():
            return {name: filled(inner, values) for name, inner in value.items()}
        case list():
            return [filled(inner, values) for inner in value]
        case str():
            for name, text in values.items():
                value = value.replace(name, text)
    return value


def unlike(told: Any, got: Any, values: dict[str, str], place: str = "") -> list[str]:
    """Where `got` is not what a transcript tells; a `$name` that is met for the first time takes its value here."""
    match told, got:
        case "…", got if got not in (None, ""):
            return []
        case dict(), dict():
            found = [f"{place}.{name} is missing" for name in told.keys() - got.keys()]
            found += [f"{place}.{name} is not told of" for name in got.keys() - told.keys()]
            shared = told.keys() & got.keys()
            return found + [one for name in shared for one in unlike(told[name], got[name], values, f"{place}.{name}")]
        case str(), str() if told.startswith("$") and told not in values:
            values[told] = got
            return []
    told = filled(told, values)
    return [] if told == got else [f"{place or 'the body'} is {got!r}, not {told!r}"]
