"""Uploads as fal's clients make them: an address to put a file to, an address to use it by.

Law: a file is a picture, judged by its bytes, kept with all other pictures and for a day at most; no more than
MOST_BYTES are held for this, the oldest goes first. Whoever has a file's address may read it; only the key that
uploaded it can begin a clip with it by that address, which is never fetched. What is held is this process's own
memory: after a restart a picture has to be uploaded again.

Two ways, read 2026-11-23 in fal-client 1.0.3 (`CDNTokenManager`, `_upload_v3`, `_upload_via_storage`) and in
@fal-ai/client 1.10.1 (`initiateUpload`): a token and one POST; or `initiate`, and a PUT without a key.
"""

from __future__ import annotations

import asyncio
import datetime
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from gateway import tokens
from gateway.api.answers import Answer, request_id
from gateway.api.fal_paths import ROOT
from gateway.api.form import Asked
from gateway.api.parts import SentPicture
from gateway.api.problems import Problem, not_found
from gateway.media import PictureRefused, Pictures
from providers.spec import Media, VideoRequest

SECOND = 1_000_000
FILE_SECONDS = 24 * 3600
TOKEN_SECONDS = 3600
MAX_ADDRESS_CHARS = 2048
MOST_FILES = 10_000  # addresses given, filled or not
MOST_BYTES = 4 << 30
_OWN = re.compile(rf"https?://[^?#]*{ROOT}/files/([0-9a-f]{{32}})(?:/[^/?#]*)?")


class File:
    """One address, and the picture behind it once that has come."""

    __slots__ = ("caller", "media")

    def __init__(self, caller: str) -> None:
        self.caller = caller
        self.media: Media | None = None


class Files:
    """The uploads of this process."""

    def __init__(self, pictures: Pictures, key: Callable[[], Any], now_us: Callable[[], int]) -> None:
        """`key` is an async function that gives the secret which signs upload tokens."""
        self._pictures = pictures
        self._key = key
        self._now_us = now_us
        self._files: OrderedDict[str, File] = OrderedDict()

    # --- in -----------------------------------------------------------------------------------------------------------

    async def token(self, caller: str, base: str) -> dict[str, str]:
        """Leave to upload for an hour."""
        until = self._now_us() // SECOND + TOKEN_SECONDS
        moment = datetime.datetime.fromtimestamp(until, datetime.UTC)
        text = tokens.sign(f"{caller}.{until}", await self._key())
        return {"token": text, "token_type": "Bearer", "base_url": base + ROOT, "expires_at": moment.isoformat()}

    async def caller_of(self, authorization: str) -> str:
        """Whose upload token this is. Raises Problem 401."""
        name = tokens.verify(authorization.partition(" ")[2].strip(), await self._key())
        caller, _, until = (name or "").rpartition(".")
        if not caller or int(until) < self._now_us() // SECOND:
            raise Problem(401, "invalid_token", "The upload token is none of ours, or its hour is over.")
        return caller

    def initiate(self, caller: str, base: str, body: dict[str, Any]) -> dict[str, str]:
        """An address to put one file to, and the address by which it is then used."""
        id = self._begin(caller)
        name = _name(body.get("file_name"))
        return {"upload_url": f"{base}{ROOT}/storage/upload/{id}", "file_url": f"{base}{ROOT}/files/{id}/{name}"}

    async def put(self, id: str, data: bytes) -> None:
        """The file of an address that was given. Raises Problem."""
        file = self._files.get(id)
        if file is None or file.media is not None:
            raise not_found("upload")
        await self._fill(id, file, data)

    async def upload(self, caller: str, base: str, data: bytes, file_name: str | None) -> dict[str, str]:
        """One file, at once; its address. Raises Problem."""
        id = self._begin(caller)
        await self._fill(id, self._files[id], data)
        return {"access_url": f"{base}{ROOT}/files/{id}/{_name(file_name)}"}

    def _begin(self, caller: str) -> str:
        id = secrets.token_hex(16)
        self._files[id] = File(caller)
        asyncio.get_running_loop().call_later(FILE_SECONDS, self._drop, id)
        if len(self._files) > MOST_FILES:
            self._drop(next(iter(self._files)))
        return id

    async def _fill(self, id: str, file: File, data: bytes) -> None:
        try:
            media = await self._pictures.take_bytes(data)
        except PictureRefused as error:
            self._drop(id)
            raise Problem(error.status, error.code, error.message, param="file") from error
        if self._files.get(id) is not file or file.media is not None:  # gone, or put twice, meanwhile
            self._pictures.release(VideoRequest(references=(media,)))
            raise not_found("upload")
        file.media = media
        held = sum(one.media.size_bytes for one in self._files.values() if one.media is not None)
        while held > MOST_BYTES:
            oldest = next(key for key, one in self._files.items() if one.media is not None)
            held -= self._files[oldest].media.size_bytes  # type: ignore[union-attr]
            self._drop(oldest)

    def _drop(self, id: str) -> None:
        file = self._files.pop(id, None)
        if file is not None and file.media is not None:
            self._pictures.release(VideoRequest(references=(file.media,)))

    # --- out ----------------------------------------------------------------------------------------------------------

    async def serve(self, id: str) -> Answer:
        """The picture itself. Raises Problem 404."""
        file = self._files.get(id)
        if file is None or file.media is None:
            raise not_found("file")
        kind = file.media.content_type.encode()
        headers = ((b"content-type", kind), (b"cache-control", b"private"), (b"x-content-type-options", b"nosniff"))
        number = request_id()
        own = (b"x-fal-request-id", number.encode())
        return Answer(await self._read(file.media), headers=(*headers, own), number=number)

    async def with_own(self, asked: Asked, caller: str) -> Asked:
        """The request with the bytes of uploads in the place of their addresses. Raises Problem."""
        first, last = asked.first_frame, asked.last_frame
        return msgspec.structs.replace(
            asked,
            first_frame=await self._sent(first, caller) if first else None,
            last_frame=await self._sent(last, caller) if last else None,
            references=tuple([await self._sent(picture, caller) for picture in asked.references]),
        )

    async def _sent(self, picture: SentPicture, caller: str) -> SentPicture:
        text = picture.text
        found = _OWN.fullmatch(text.strip()) if text and len(text) < MAX_ADDRESS_CHARS else None
        file = self._files.get(found[1]) if found else None
        if file is None or file.media is None or file.caller != caller:
            return picture
        return SentPicture(data=await self._read(file.media))

    async def _read(self, media: Media) -> bytes:
        try:
            return await self._pictures.read(media.sha256)
        except PictureRefused as error:
            raise not_found("file") from error


def _name(text: object) -> str:
    """A file's name, fit for the end of an address."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "", text)[-80:] if isinstance(text, str) else ""
    return kept.lstrip(".") or "upload.bin"
