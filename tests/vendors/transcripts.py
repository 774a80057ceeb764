"""Conversations with a vendor as its documents and clients tell them, for vendors that publish no official client.

Law: a transcript is written from the sources that it names, never from our adapter or server; each of these is held to
it by itself. In it `$name` is what is chosen on the other side (`values` gives one example; `$base` is the address that
was asked), and "…" stands for anything. What a reply says beyond its transcript is not looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from providers.spec import Fault, Outcome, Status
from tests.vendors.script import Act

RECORDINGS = Path(__file__).parent.parent / "recordings"


class Form(msgspec.Struct, forbid_unknown_fields=True):
    """A form with one file, whose bytes are `text`."""

    field: str
    content_type: str
    text: str


class Request(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    path: str
    headers: dict[str, str] = {}
    body: Any = None
    form: Form | None = None


class Reply(msgspec.Struct, forbid_unknown_fields=True):
    status: int
    body: Any


class Exchange(msgspec.Struct, forbid_unknown_fields=True):
    request: Request
    reply: Reply


class Means(msgspec.Struct, forbid_unknown_fields=True):
    """What an adapter makes of a call. Messages are not compared."""

    operation: str | None = None
    status: Status | None = None
    address: str | None = None
    error: Fault | None = None
    outcome: Outcome | None = None


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """One call of an adapter, the exchanges that it makes, and what comes of it (`means`, with `$name`s)."""

    call: str  # submit | poll | upload
    exchanges: list[Exchange]
    means: dict[str, Any]


class Transcript(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    read: str
    made: str
    calls: list[Call]
    ask: dict[str, Any] = {}  # what is asked for: model_id, callback_url, and fields of a VideoRequest
    values: dict[str, str] = {}
    acts: list[Act] = []  # what the vendor server is told beforehand
    steps: int = 0  # with how many polls behind it a job of the vendor server ends

    @property
    def exchanges(self) -> list[Exchange]:
        return [exchange for call in self.calls for exchange in call.exchanges]


def transcripts(vendor: str) -> dict[str, Transcript]:
    """Those of one vendor, by the rest of the file's name."""
    paths = sorted((RECORDINGS / vendor).glob("transcript-*.json"))
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
    """Where `got` is not what is told; a `$name` that is met for the first time takes its value here."""
    match told, got:
        case "…", got if got not in (None, ""):
            return []
        case dict(), dict():
            missing = [f"{place}.{name} is missing" for name in told.keys() - got.keys()]
            shared = [name for name in told if name in got]
            return missing + [
                one for name in shared for one in unlike(told[name], got[name], values, f"{place}.{name}")
            ]
        case list(), list() if len(told) == len(got):
            pairs = enumerate(zip(told, got, strict=True))
            return [one for at, (a, b) in pairs for one in unlike(a, b, values, f"{place}[{at}]")]
        case str(), str() if told.startswith("$") and told not in values and told[1:].isidentifier():
            values[told] = got
            return []
    told = filled(told, values)
    return [] if told == got else [f"{place or 'the body'} is {got!r}, not {told!r}"]
