"""`GET /openapi.json`: the whole HTTP face, described from the very records that decode and encode it.

Law: nothing is described twice. A body's schema is made from the record that reads it and an answer's from the record
that writes it; a module of this package says in `OPERATIONS` what its routes are, and a test holds those against the
routes that are really there.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from importlib import metadata
from typing import Any, NamedTuple

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms
from gateway.api.answers import Answer, encode
from gateway.api.parts import SentClip, SentPicture
from gateway.api.problems import RefusedBackend

REF = "#/components/schemas/{name}"


class Query(NamedTuple):
    """One query parameter, or one header with `place="header"`."""

    name: str
    schema: dict[str, Any]
    says: str
    place: str = "query"


class Operation(NamedTuple):
    """One method of one path. `answer` is the record that is sent, or a media type for what is no JSON."""

    method: str
    path: str
    name: str  # its operationId
    says: str
    answer: Any
    body: Any = None  # the record that the body is decoded as
    form: bool = False  # the body may be a multipart form as well
    query: tuple[Query, ...] = ()
    fails: tuple[int, ...] = ()  # beside those that every operation may answer
    status: int = 200
    also: tuple[int, ...] = ()  # further statuses that succeed
    key: bool = True  # an API key is needed
    or_as: str = ""  # a further media type that the answer may have


class ErrorBody(msgspec.Struct, kw_only=True):
    """What went wrong: `code` is for programs, `message` for people."""

    message: str
    type: str
    param: str | None
    code: str
    request_id: str
    retryable: bool
    nearest: str | msgspec.UnsetType | None = msgspec.UNSET
    refusals: list[RefusedBackend] | msgspec.UnsetType = msgspec.UNSET


class ErrorEnvelope(msgspec.Struct):
    error: ErrorBody


IDEMPOTENCY = Query(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "The same key and body within 24 h is the same job.",
    place="header",
)

OPERATIONS = (Operation("get", "/openapi.json", "openapi", "This document.", dict[str, Any], key=False),)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    made: list[bytes] = []

    @get("/openapi.json")
    async def openapi(request: Request[Any, Any, Any]) -> Answer:
        if not made:
            made.append(encode(document(operations())))
        return Answer(made[0])

    return [openapi]


def operations() -> list[Operation]:
    """Those of every module of the package, by path."""
    package = importlib.import_module("gateway.api")
    found: list[Operation] = []
    for entry in pkgutil.iter_modules(package.__path__):
        found += getattr(importlib.import_module(f"{package.__name__}.{entry.name}"), "OPERATIONS", ())
    return sorted(found, key=lambda one: (one.path, one.method))


def document(described: Iterable[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1 of these operations."""
    described = list(described)
    shapes = [ErrorEnvelope]
    shapes += [shape for one in described for shape in (one.body, one.answer) if not isinstance(shape, str | None)]
    schemas, components = msgspec.json.schema_components(shapes, schema_hook=_schema_of, ref_template=REF)
    known = {id(shape): schema for shape, schema in zip(shapes, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for one in described:
        paths.setdefault(one.path, {})[one.method] = _operation(one, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Filmgate",
            "version": metadata.version("filmgate"),
            "description": "One endpoint in front of every AI video API.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Operation, known: dict[int, Any]) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", one.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    parameters += [
        {"name": query.name, "in": query.place, "schema": query.schema, "description": query.says}
        for query in one.query
    ]
    failed = {"description": "refused", "content": {"application/json": {"schema": known[id(ErrorEnvelope)]}}}
    fails = {400, 404, 405, 503, *one.fails, *((401, 403, 429) if one.key else ())}
    fails |= {408, 411, 413, 415, 422} if one.body is not None else set()
    answers = {str(status): failed for status in sorted(fails)}
    for status in (one.status, *one.also):
        content = _content(one.answer, known) | ({one.or_as: {}} if one.or_as else {})
        answers[str(status)] = {"description": one.says, "content": {} if status in (204, 304) else content}
    told: dict[str, Any] = {"operationId": one.name, "summary": one.says, "responses": answers}
    if parameters:
        told["parameters"] = parameters
    if one.body is not None:
        content = {"application/json": {"schema": known[id(one.body)]}}
        if one.form:
            content["multipart/form-data"] = {"schema": known[id(one.body)]}
        told["requestBody"] = {"required": True, "content": content}
    if one.key:
        told["security"] = [{"key": []}]
    return told


def _content(answer: Any, known: dict[int, Any]) -> dict[str, Any]:
    if answer is None:
        return {}
    if isinstance(answer, str):
        return {answer: {}}
    return {"application/json": {"schema": known[id(answer)]}}


def _schema_of(shape: type) -> dict[str, Any]:
    """Of what msgspec has no schema for."""
    if shape is SentPicture:
        return {
            "description": "An https address, a data URI, {image_url} or {file_id}; in a form, a file.",
            "oneOf": [
                {"type": "string", "pattern": "^(https?://|data:image/)"},
                {
                    "type": "object",
                    "properties": {"image_url": {"type": "string"}},
                    "required": ["image_url"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"file_id": {"type": "string"}},
                    "required": ["file_id"],
                    "additionalProperties": False,
                },
            ],
        }
    if shape is SentClip:
        return {
            "description": "A video that was made here, by its id; in a form, a file as well.",
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
            "additionalProperties": False,
        }
    raise NotImplementedError(shape)  # msgspec's word for a type that a hook does not know
