"""Bytes in: a request's body read under a cap and a clock, and JSON decoded strictly, with errors that teach.

Law: no body may end in a 5xx. What cannot be parsed is 400, what parses and is not taken is 422, what is too large 413,
what is of another type 415. Everything that is decoded is decoded here, from JSON or from a form (`parts`).
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from litestar import Request

from gateway.api.answers import Header, header
from gateway.api.problems import Problem

T = TypeVar("T")

SMALL = 1 << 20  # the cap of every body but those that may carry pictures
LARGE = 32 << 20

BODY_SECONDS = 30.0  # a body must be here by then …
BYTES_PER_SECOND = 32 << 10  # … or keep coming at least as fast as this
MAX_DEPTH = 32
MAX_BRACKETS = 50_000  # opening brackets of a body whose depth must be measured

_CLOSE: Header = (b"connection", b"close")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]|[\]}]', re.DOTALL)
_KEY = re.compile(rb'"([^"\\]*+)"\s*+:')
_COLON = re.compile(rb'"\s*+:')
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")

Hook = Callable[[type, Any], Any]
Shapes = Mapping[str, type]  # "shots" → the record that stands there; "" → the root


class ClientGone(Problem):
    """The caller hung up before its body was whole. Nothing was done, and nobody reads the answer."""

    def __init__(self) -> None:
        super().__init__(400, "client_gone", "The body ended too early.")


# --- reading ----------------------------------------------------------------------------------------------------------


async def pieces(request: Request[Any, Any, Any], *, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises Problem 408, 413 or 415."""
    encoding = header(request.scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise Problem(415, "unsupported_content_encoding", "Send the body as it is, without a Content-Encoding.")
    announced = header(request.scope, b"content-length")
    if announced is not None and announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        raise _too_large(limit)
    receive = request.receive
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS
    size = 0
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            late = f"The body did not arrive within {BODY_SECONDS:g} s."
            raise Problem(408, "body_timeout", late, headers=[_CLOSE]) from error
        if message["type"] != "http.request":
            raise ClientGone
        piece = message["body"]
        if piece:
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            deadline += len(piece) / BYTES_PER_SECOND  # as much more time as an honest line needs
            yield piece
        if not message.get("more_body", False):
            return


async def read(request: Request[Any, Any, Any], *, limit: int) -> bytes:
    """The whole body. Raises Problem as `pieces` does."""
    found = [piece async for piece in pieces(request, limit=limit)]
    return found[0] if len(found) == 1 else b"".join(found)


def _too_large(limit: int) -> Problem:
    message = f"The body is larger than {limit >> 20} MB."
    return Problem(413, "body_too_large", message, headers=[_CLOSE])


def media_type(request: Request[Any, Any, Any]) -> tuple[str, dict[str, str]]:
    """The request's content type, and its parameters, in lower case (the parameters' values as they are)."""
    kind, _, rest = (header(request.scope, b"content-type") or "").partition(";")
    parameters: dict[str, str] = {}
    while rest:
        name, _, rest = rest.partition("=")
        rest = rest.lstrip()
        if rest.startswith('"'):
            value, _, rest = rest[1:].partition('"')
            rest = rest.partition(";")[2]
        else:
            value, _, rest = rest.partition(";")
        parameters[name.strip().lower()] = value.strip()
    return kind.strip().lower(), parameters


def must_be_json(request: Request[Any, Any, Any]) -> None:
    """Raises Problem 415 unless the body is declared as JSON in UTF-8."""
    kind, parameters = media_type(request)
    if kind != "application/json":
        raise unsupported_type(kind, "application/json")
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise Problem(415, "unsupported_charset", "JSON is taken in UTF-8 only.")


def unsupported_type(kind: str, taken: str) -> Problem:
    said = f"not {kind[:80]!r}" if kind else "and say so by a Content-Type"
    return Problem(415, "unsupported_content_type", f"Send {taken}, {said}.")


# --- decoding ---------------------------------------------------------------------------------------------------------


def decode(body: bytes, shape: type[T], *, shapes: Shapes | None = None, dec_hook: Hook | None = None) -> T:
    """A JSON body as `shape`, strictly. Raises Problem 400 or 422."""
    if not body.strip():
        raise Problem(400, "invalid_json", "The body is empty; send a JSON object.")
    if body.startswith(b"--"):
        message = (
            "The body is a multipart form, but it is labelled application/json: leave the Content-Type to the client."
        )
        raise Problem(400, "form_labelled_json", message)
    _must_be_flat(body)
    try:
        found = msgspec.json.decode(body, type=shape, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        _must_be_sound(body)
        raise explain(error, shapes or {"": shape}) from error
    except UnicodeDecodeError as error:
        raise Problem(400, "invalid_encoding", "The body is not valid UTF-8.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, "invalid_json", f"The body is not valid JSON: {str(error)[:120]}.") from error
    _must_be_sound(body)
    return found


def convert(value: Any, shape: type[T], *, shapes: Shapes | None = None, dec_hook: Hook | None = None) -> T:
    """A form's parts as `shape`: text becomes the number or truth that the shape wants. Raises Problem 422."""
    try:
        return msgspec.convert(value, shape, strict=False, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise explain(error, shapes or {"": shape}) from error


def _must_be_flat(body: bytes) -> None:
    """Raises Problem 400 on more than MAX_DEPTH levels. Fewer opening brackets than that settle it at once."""
    brackets = body.count(b"{") + body.count(b"[")
    if brackets <= MAX_DEPTH:
        return
    if brackets > MAX_BRACKETS:
        raise Problem(400, "body_too_complex", f"The body holds more than {MAX_BRACKETS:,} brackets.")
    depth = 0
    for token in _TOKEN.finditer(body):
        match token.group()[:1]:
            case b"{" | b"[":
                depth += 1
                if depth > MAX_DEPTH:
                    raise Problem(400, "body_too_deep", f"The body is nested deeper than {MAX_DEPTH} levels.")
            case b"}" | b"]":
                depth -= 1


def _must_be_sound(body: bytes) -> None:
    """Raises Problem on what the decoder lets pass: a key that stands twice, and U+0000, which no database holds."""
    names = _KEY.findall(body)
    if len(names) != len(set(names)) or len(names) != len(_COLON.findall(body)):  # perhaps: look closely
        try:
            json.loads(body, object_pairs_hook=_no_twins, parse_int=str, parse_float=str)
        except (ValueError, RecursionError) as error:
            raise Problem(400, "invalid_json", "The body is not valid JSON.") from error
    if b"\\u0000" in body and _NUL.search(body):
        raise nul(None)


def _no_twins(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Problem(400, "duplicate_field", f"{name[:80]!r} stands twice in one object.", param=name[:80])
        seen.add(name)


def nul(param: str | None) -> Problem:
    return Problem(422, "invalid_character", "The character U+0000 cannot stand in a text.", param=param)


# --- explaining -------------------------------------------------------------------------------------------------------

_AT = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_WRONG = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
_BOUND = re.compile(r"Expected `([^`]*)`( of length)? (>=|<=|>|<) ([\d.e+-]+)")
_ENUM = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "SentPicture": "a file",
}
_SYNONYMS = {  # other dialects' words for ours
    "audio": "generate_audio",
    "sound": "generate_audio",
    "with_audio": "generate_audio",
    "length": "seconds",
    "ratio": "aspect_ratio",
    "image": "input_reference",
    "image_url": "input_reference",
    "start_image_url": "input_reference",
    "first_frame": "frame_images",
    "last_frame": "frame_images",
    "end_image_url": "frame_images",
    "tail_image_url": "frame_images",
    "multi_prompt": "shots",
    "webhook": "callback_url",
    "webhook_url": "callback_url",
    "sort": "provider",
    "max_price": "provider",
}


def explain(error: msgspec.ValidationError, shapes: Shapes) -> Problem:
    """The decoder's complaint as a problem with a code and a param."""
    text = str(error)
    at = _AT.search(text)
    place = at[1].replace("[...]", "").lstrip(".") if at else ""
    said = text[: at.start()] if at else text
    if found := _UNKNOWN.fullmatch(said):
        return _unknown(found[1], place, shapes)
    if found := _MISSING.fullmatch(said):
        missing = _joined(place, found[1])
        return Problem(422, "missing_field", f"{missing!r} is missing.", param=missing)
    param = place[:120] or None
    if found := _WRONG.fullmatch(said):
        if param is None:
            return Problem(422, "invalid_body", f"The body must be a JSON object, not {_named(found[2])}.")
        message = f"{param!r} must be {_named(found[1])}, not {_named(found[2])}."
        return Problem(422, "wrong_type", message, param=param)
    if found := _BOUND.fullmatch(said):
        unit = {"str": " characters", "array": " entries", "object": " entries"}.get(found[1], "") if found[2] else ""
        word = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}[found[3]]
        code = "out_of_range" if not unit else "too_long" if found[3] == "<=" else "too_short"
        return Problem(422, code, f"{param!r} must be {word} {found[4]}{unit}.", param=param)
    if "out of range" in said:
        return Problem(422, "out_of_range", f"{param!r} is a number too large to be meant.", param=param)
    if found := _ENUM.fullmatch(said):
        return Problem(422, "invalid_value", f"{param!r} does not know {found[1][:80]}.", param=param)
    return Problem(422, "invalid_value", f"{param!r}: {said[:200]}.", param=param)


def _unknown(name: str, place: str, shapes: Shapes) -> Problem:
    known = _fields(re.sub(r"\[\d+\]", "", place), shapes)
    near = (
        [_SYNONYMS[name]] if _SYNONYMS.get(name) in known else difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    )
    param = _joined(place, name[:80])
    hint = f"did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."
    message = f"There is no field {param!r}; {hint}" if near else f"There is no field {param!r}. {hint}"
    return Problem(422, "unknown_field", message, param=param, nearest=near[0] if near else None)


def _fields(place: str, shapes: Shapes) -> list[str]:
    shape = shapes.get(place)
    return [field.encode_name for field in msgspec.structs.fields(shape)] if shape is not None else []


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _named(types: str) -> str:
    """ "int | null" → "a whole number"."""
    words = [_NAMES.get(word, word) for word in types.split(" | ") if word != "null" or types == "null"]
    return " or ".join(dict.fromkeys(words))
