"""Multipart forms in: parts with bracket keys (`shots[0][prompt]`, `metadata[a]`, `frame_images[][image_url]`) become
the same nested value that a JSON body would be.

Law: nothing is guessed. A key that stands twice, and a list whose elements cannot be told apart, are refused with the
key that would be clear. A part's declared type and file name are not believed: they only tell a file from a text.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from gateway.api import wire
from gateway.api.problems import Problem
from providers.spec import Media

MAX_PARTS = 256
MAX_KEY_CHARS = 200
MAX_DEPTH = 6
MAX_INDEX = 63
MAX_BOUNDARY_CHARS = 70  # RFC 2046, 5.1.1

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
# where a text may be JSON that stands for an object or a list: the keys without their indices, to this depth
_NESTED = frozenset({"metadata", "input_reference", "frame_images", "input_references", "shots", "provider", "video"})
# whose inner keys are the caller's own words, so that "0" is a name and no index
_FREE = ("metadata", "provider.options")

Entry = tuple[tuple[str, ...], Any]


class SentPicture:
    """A picture as it stands in a request: an address or data URI, the bytes of a file, the id of one that was uploaded
    before; or, of a request that is made again, the picture that was taken then."""

    __slots__ = ("data", "file_id", "kept", "name", "text")

    def __init__(
        self,
        *,
        text: str | None = None,
        data: bytes | None = None,
        file_id: str | None = None,
        kept: Media | None = None,
        name: str | None = None,
    ) -> None:
        self.text = text
        self.data = data
        self.file_id = file_id
        self.kept = kept
        self.name = name  # what its sender calls the file; for people


class SentClip:
    """A clip as it stands in a request: the id of a video made here, or the bytes of a file."""

    __slots__ = ("data", "id")

    def __init__(self, *, id: str | None = None, data: bytes | None = None) -> None:
        self.id = id
        self.data = data


async def read_form(pieces: AsyncIterator[bytes], *, boundary: str) -> dict[str, Any]:
    """The form's parts as a nested value; files as SentPicture. Raises Problem 400, 413 or 422."""
    if not 0 < len(boundary) <= MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise _malformed("its Content-Type names no usable boundary")
    parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)
    entries: list[Entry] = []
    segment: MultipartSegment | None = None
    held = bytearray()
    try:
        async for piece in pieces:
            for event in parser.parse(piece):
                if isinstance(event, MultipartSegment):
                    segment, held = event, bytearray()
                elif event is not None:
                    held += event
                elif segment is not None:
                    entries.append((_tokens(segment.name), _value(segment, bytes(held))))
        parser.close()
    except ParserLimitReached as error:
        raise Problem(413, "form_too_large", f"The form is too large: {str(error)[:120]}.") from error
    except (MultipartError, AssertionError) as error:  # the parser states some of its own rules by assert
        raise _malformed(str(error)[:120] or "a part is malformed") from error
    return _branch(entries, ()) if entries else {}


def _tokens(name: str) -> tuple[str, ...]:
    """ "shots[0][prompt]" → ("shots", "0", "prompt")."""
    found = _KEY.fullmatch(name) if len(name) <= MAX_KEY_CHARS else None
    if found is None:
        raise _malformed(f"{name[:80]!r} is no key")
    inner = found[2][1:-1].split("][") if found[2] else []
    if len(inner) >= MAX_DEPTH:
        raise _malformed(f"{name[:80]!r} is nested too deep")
    return (found[1], *inner)


def _value(segment: MultipartSegment, data: bytes) -> Any:
    declared = segment.content_type or ""
    if segment.filename is not None or declared.startswith("image/") or declared == "application/octet-stream":
        return SentPicture(data=data, name=segment.filename)
    name = segment.name[:MAX_KEY_CHARS]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"The part {name!r} is not valid UTF-8."
        raise Problem(400, "invalid_encoding", message, param=name) from error
    if "\0" in text:
        raise wire.nul(name)
    return text


def _branch(entries: list[Entry], path: tuple[str, ...]) -> Any:
    """The value under `path`, of everything whose keys lead there."""
    if any(not tokens for tokens, _ in entries):
        if len(entries) > 1:
            key = _key(path)
            raise Problem(400, "duplicate_field", f"{key!r} stands more than once in the form.", param=key)
        return _leaf(entries[0][1], path)
    groups: dict[str, list[Entry]] = {}
    for tokens, value in entries:
        groups.setdefault(tokens[0], []).append((tokens[1:], value))
    if ".".join(path) in _FREE and "" not in groups:
        return {name: _branch(group, (*path, name)) for name, group in groups.items()}
    if set(groups) == {""}:
        return _column(groups[""], path)
    if path and all(name.isdecimal() and name.isascii() for name in groups):
        return _row(groups, path)
    if "" in groups:
        raise _unclear(path)
    return {name: _branch(group, (*path, name)) for name, group in groups.items()}


def _row(groups: dict[str, list[Entry]], path: tuple[str, ...]) -> list[Any]:
    """`name[0]…, name[1]…`: in the order of the indices, whatever the order of the parts."""
    if any(len(name) > 2 or int(name) > MAX_INDEX for name in groups) or len({int(name) for name in groups}) != len(
        groups
    ):
        key = _key(path)
        raise Problem(422, "too_long", f"{key!r} is numbered from 0 to {MAX_INDEX}, each number once.", param=key)
    return [_branch(groups[name], (*path, name)) for name in sorted(groups, key=int)]


def _column(entries: list[Entry], path: tuple[str, ...]) -> list[Any]:
    """`name[]` repeated is a list. `name[][key]` repeated is a list of objects, clear only when every object has every
    key: then the n-th of each key belongs together, whether the client wrote object by object or key by key."""
    if all(not tokens for tokens, _ in entries):
        return [_leaf(value, (*path, "")) for _, value in entries]
    columns: dict[tuple[str, ...], list[Any]] = {}
    for tokens, value in entries:
        columns.setdefault(tokens, []).append(value)
    count = len(next(iter(columns.values())))
    if () in columns or any(len(column) != count for column in columns.values()):
        raise _unclear(path)
    return [_branch([(tokens, column[n]) for tokens, column in columns.items()], (*path, "")) for n in range(count)]


def _leaf(value: Any, path: tuple[str, ...]) -> Any:
    """A text as it is; JSON where only an object or a list can be meant."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    if path[0] not in _NESTED or (path[0] == "metadata" and len(path) > 1):
        return value
    names = [name for name in path if name and not name.isdecimal()]
    if len(names) > (3 if names[0] == "provider" else 1):
        return value
    try:
        return wire.decode(value.encode(), Any)
    except Problem as problem:
        key = _key(path)
        raise Problem(problem.status, problem.code, f"{key!r}: {problem.message}", param=key) from problem


def _key(path: tuple[str, ...]) -> str:
    """("shots", "0", "prompt") → "shots[0].prompt", as errors of JSON bodies call it."""
    return "".join(f"[{name}]" if not name or name.isdecimal() else f".{name}" for name in path).lstrip(".")


def _unclear(path: tuple[str, ...]) -> Problem:
    key = _key(path)
    message = f"It is not clear which parts of {key}[] belong together: number them, like {key}[0][…]."
    return Problem(422, "ambiguous_list", message, param=key)


def _malformed(why: str) -> Problem:
    return Problem(400, "invalid_form", f"The body is not a valid multipart form: {why}.")


def clip(kind: type, value: Any) -> Any:
    """msgspec's question for a SentClip: a file, or `{"id": …}`. Pictures are `picture`'s. Raises ValueError."""
    if kind is not SentClip:
        return picture(kind, value)
    match value:
        case SentPicture(data=bytes() as data):
            return SentClip(data=data)
        case str() as id if id.strip():
            return SentClip(id=id.strip())
        case {"id": str() as id, **rest} if not rest:
            return SentClip(id=id)
        case _:
            raise ValueError('a video is a file, or {"id": …} of one that was made here')


def picture(kind: type, value: Any) -> Any:
    """msgspec's question for a SentPicture: a file, an address, `{"image_url": …}`, or OpenRouter's
    `{"type": "image_url", "image_url": {"url": …}}`. Raises ValueError with a sentence."""
    if kind is not SentPicture:
        raise NotImplementedError(kind)  # msgspec's word for a type that a hook does not know
    match value:
        case SentPicture():
            return value
        case str() as text if text.strip():
            return SentPicture(text=text)
        case {"file_id": str() as id, **rest} if set(rest) <= {"type", "detail"}:
            return SentPicture(file_id=id)
        case {"image_url": str() | {"url": str()} | SentPicture() as inner, **rest} if set(rest) <= {"type", "detail"}:
            return picture(kind, inner)
        case {"url": str() as inner, **rest} if set(rest) <= {"detail"}:
            return picture(kind, inner)
        case _:
            raise ValueError('a picture is a file, an address, a data URI, {"image_url": …} or {"file_id": …}')
