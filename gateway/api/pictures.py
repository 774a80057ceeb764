"""`GET /media/{token}`: a caller's picture, for a vendor that takes addresses only.

Law: the token is signed and names one picture; who has it may read that picture for as long as its job holds it, and
nothing else. Nothing is served but the three kinds of picture that we take in, by their own magic bytes.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway import tokens
from gateway.api import Rooms
from gateway.api.answers import Answer
from gateway.api.openapi import Operation
from gateway.api.problems import not_found
from gateway.media import PictureRefused, content_type

MAX_TOKEN_CHARS = 200


OPERATIONS = (
    Operation(
        "get",
        "/media/{token}",
        "readPicture",
        "For vendors: a picture, as long as its job holds it.",
        "image/*",
        key=False,
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    @get("/media/{token:str}")
    async def picture(request: Request[Any, Any, Any]) -> Answer:
        token = request.path_params["token"]
        key = await rooms.store.secret("media")
        name = tokens.verify(token, key) if len(token) <= MAX_TOKEN_CHARS else None
        if name is None:
            raise not_found("picture")
        try:
            data = await rooms.pictures.read(name)
        except PictureRefused as error:
            raise not_found("picture") from error
        kind = content_type(data).encode()
        headers = (
            (b"content-type", kind),
            (b"cache-control", b"private, max-age=3600"),
            (b"x-content-type-options", b"nosniff"),
        )
        return Answer(data, headers=headers)

    return [picture]
