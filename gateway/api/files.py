"""`/v1/files`: pictures that are uploaded once and used by id, as OpenAI's clients do it.

Laws. A file is a picture, judged by its bytes like any other, and its key's own; others see 404. It is kept until it is
deleted or its time is over, whoever else holds the same picture; a key holds at most MOST_FILES and MOST_BYTES.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta

from gateway import ids
from gateway.api import Rooms, form
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation, Query
from gateway.api.paging import page_of
from gateway.api.parts import SentPicture
from gateway.api.problems import Problem, not_found
from gateway.media import MAX_PICTURE_BYTES, PictureRefused
from gateway.store.shelf import NoRoom, UserFile
from gateway.store.spec import Key
from providers.spec import Frozen, Media, VideoRequest

SECOND = 1_000_000
PREFIX = "file"
LIVES_DAYS = 30
SHORTEST_SECONDS = 3600  # of `expires_after`, which OpenAI has from an hour to 30 days
MOST_FILES = 1000
MOST_BYTES = 2 << 30
LIST_DEFAULT, LIST_MOST = 100, 1000
MAX_NAME_CHARS = 200
FORM_BYTES = MAX_PICTURE_BYTES + (1 << 20)


class ExpiresForm(Frozen, forbid_unknown_fields=True):
    anchor: str = "created_at"
    seconds: int | float = LIVES_DAYS * 86_400


class FileForm(Frozen, forbid_unknown_fields=True):
    """The body of `POST /v1/files`. `purpose` is kept as it is sent: every file here is a picture."""

    file: SentPicture
    purpose: Annotated[str, Meta(min_length=1, max_length=64)]
    expires_after: ExpiresForm | None = None


_SHAPES: dict[str, type] = {"": FileForm, "expires_after": ExpiresForm}


class FileView(msgspec.Struct, kw_only=True):
    """OpenAI's file object."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str = "processed"
    content_type: str


class FilesView(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[FileView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeletedView(msgspec.Struct):
    id: str
    object: str = "file"
    deleted: bool = True


OPERATIONS = (
    Operation(
        "post", "/v1/files", "uploadFile", "Upload a picture once, to use it by id.", FileView, body=FileForm, form=True
    ),
    Operation(
        "get",
        "/v1/files",
        "listFiles",
        "The key's own files, newest first.",
        FilesView,
        query=(
            Query("after", {"type": "string"}, "The id of the last file of the page before."),
            Query("limit", {"type": "integer", "minimum": 1, "maximum": LIST_MOST}, "How many at most."),
            Query("order", {"enum": ["asc", "desc"]}, "By age; newest first when left out."),
            Query("purpose", {"type": "string"}, "Those of this purpose alone."),
        ),
        fails=(422,),
    ),
    Operation("get", "/v1/files/{file_id}", "retrieveFile", "One file, without its bytes.", FileView, fails=(404,)),
    Operation("delete", "/v1/files/{file_id}", "deleteFile", "Delete a file.", FileDeletedView, fails=(404,)),
    Operation("get", "/v1/files/{file_id}/content", "downloadFile", "The picture itself.", "image/*", fails=(404,)),
)


async def uploaded(rooms: Rooms, key: Key, file_id: str, *, param: str = "file_id") -> Media:
    """The picture of the caller's file of this id. Raises Problem 404."""
    file = await _own(rooms, key, file_id)
    if file is None:
        message = f"There is no file {file_id[:80]!r}. Upload it first: POST /v1/files"
        raise Problem(404, "file_not_found", message, param=param)
    return file.media


async def _own(rooms: Rooms, key: Key, file_id: str) -> UserFile | None:
    if not ids.is_id(file_id, PREFIX):
        return None
    return await rooms.store.shelf.of(key.id, file_id, now_us=rooms.now_us())


async def hold_all(rooms: Rooms) -> None:
    """After a start: hold the picture of every file, before what nobody holds is swept."""
    for file in await rooms.store.shelf.every():
        rooms.pictures.hold(_held(file))


async def forget_expired(rooms: Rooms) -> int:
    """Delete what has outlived its time; how many. Raises StoreUnavailable."""
    gone = await rooms.store.shelf.remove_expired(rooms.now_us())
    for file in gone:
        rooms.pictures.release(_held(file))
    return len(gone)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    shelf = rooms.store.shelf

    @post("/v1/files", status_code=200)
    async def upload(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        asked = await form.decoded(request, FileForm, shapes=_SHAPES, limit=FORM_BYTES)
        seconds = _lives(asked, key)
        media = await _taken(rooms, asked.file)
        now_us = rooms.now_us()
        file = UserFile(
            id=ids.make(PREFIX, now_us=now_us, random=secrets.token_bytes(16)),
            caller=key.id,
            purpose=asked.purpose,
            name=_name(asked.file.name or "", media),
            created_us=now_us,
            expires_us=now_us + seconds * SECOND,
            media=media,
        )
        try:
            await shelf.add(file, most_files=MOST_FILES, most_bytes=MOST_BYTES)
        except BaseException as error:
            rooms.pictures.release(_held(file))
            if isinstance(error, NoRoom):
                raise Problem(413, "too_many_files", f"No room: {error}.") from error
            raise
        return Answer(encode(_shown(file)))

    @get("/v1/files")
    async def list_files(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        query = request.query_params
        after, limit, descending = page_of(request, PREFIX, default=LIST_DEFAULT, most=LIST_MOST)
        files, has_more = await shelf.page(
            key.id,
            after=after,
            limit=limit,
            descending=descending,
            purpose=query.get("purpose"),
            now_us=rooms.now_us(),
        )
        shown = [_shown(file) for file in files]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return Answer(encode(FilesView(data=shown, first_id=first, last_id=last, has_more=has_more)))

    @get("/v1/files/{file_id:str}")
    async def retrieve(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        return Answer(encode(_shown(await _found(rooms, key, request.path_params["file_id"]))))

    @delete("/v1/files/{file_id:str}", status_code=200)
    async def remove(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        file = await _found(rooms, key, request.path_params["file_id"])
        if await shelf.remove(key.id, file.id) is None:
            raise not_found("file")
        rooms.pictures.release(_held(file))
        return Answer(encode(FileDeletedView(id=file.id)))

    @get("/v1/files/{file_id:str}/content")
    async def content(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        file = await _found(rooms, key, request.path_params["file_id"])
        try:
            data = await rooms.pictures.read(file.media.sha256)
        except PictureRefused as error:
            raise not_found("file") from error
        headers = (
            (b"content-type", file.media.content_type.encode()),
            (b"cache-control", b"private, no-cache"),
            (b"x-content-type-options", b"nosniff"),
        )
        return Answer(data, headers=headers)

    return [upload, list_files, retrieve, remove, content]


async def _found(rooms: Rooms, key: Key, file_id: str) -> UserFile:
    file = await _own(rooms, key, file_id)
    if file is None:
        raise not_found("file")
    return file


async def _taken(rooms: Rooms, picture: SentPicture) -> Media:
    """Judged, kept and held. Raises Problem."""
    if picture.data is None:
        message = "'file' is the file itself, as a part of a form; an address can be used as it is, without an upload."
        raise Problem(422, "invalid_value", message, param="file")
    try:
        return await rooms.pictures.take_bytes(picture.data)
    except PictureRefused as error:
        raise Problem(error.status, error.code, error.message, param="file") from error


def _lives(asked: FileForm, key: Key) -> int:
    """For how many seconds it is kept: no longer than what its key's jobs leave behind. Raises Problem 422."""
    longest = LIVES_DAYS * 86_400
    if key.keep_days is not None:
        longest = min(longest, max(key.keep_days * 86_400, SHORTEST_SECONDS))
    if asked.expires_after is None:
        return longest
    seconds = asked.expires_after.seconds
    if asked.expires_after.anchor != "created_at":
        raise Problem(422, "invalid_value", "'expires_after.anchor' is created_at.", param="expires_after.anchor")
    if not SHORTEST_SECONDS <= seconds <= longest:
        message = f"'expires_after.seconds' is from {SHORTEST_SECONDS} to {longest}."
        raise Problem(422, "out_of_range", message, param="expires_after.seconds")
    return int(seconds)


def _name(sent: str, media: Media) -> str:
    kept = "".join(sign for sign in sent.replace("\\", "/").rpartition("/")[2] if sign.isprintable())
    return kept[:MAX_NAME_CHARS] or f"upload.{media.content_type.rpartition('/')[2]}"


def _held(file: UserFile) -> VideoRequest:
    return VideoRequest(references=(file.media,))


def _shown(file: UserFile) -> FileView:
    return FileView(
        id=file.id,
        bytes=file.media.size_bytes,
        created_at=file.created_us // SECOND,
        expires_at=file.expires_us // SECOND,
        filename=file.name,
        purpose=file.purpose,
        content_type=file.media.content_type,
    )
