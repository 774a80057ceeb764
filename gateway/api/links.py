"""`GET /v1/links/{token}/{name}`: a job's clip by a signed link, without an API key.

Law: the token alone says whose clip it is and until when; the name after it is for people and players that go by an
ending. A token that we never gave is a 404, one whose time is over, or whose clip was erased, a 410.
"""

from __future__ import annotations

from typing import Any

from litestar import Request, route
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms, content
from gateway.api.answers import Answer
from gateway.api.openapi import Operation
from gateway.api.problems import Problem, not_found
from gateway.links import Unusable

OPERATIONS = tuple(
    Operation(
        method,
        "/v1/links/{token}/{name}",
        f"{method}Link",
        "A clip by a signed link, without an API key. 410 once its time is over.",
        "video/mp4",
        query=content.QUERY,
        fails=(404, 409, 410, 416, 502),
        also=(206, 304),
        key=False,
    )
    for method in ("get", "head")
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    @route("/v1/links/{token:str}/{name:str}", http_method=["GET", "HEAD"], status_code=200)
    async def link(request: Request[Any, Any, Any]) -> Answer:
        found = rooms.links.job_of(request.path_params["token"], now_us=rooms.now_us())
        match found:
            case Unusable.UNKNOWN:
                raise not_found("link")
            case Unusable.EXPIRED:
                raise Problem(410, "link_expired", "The link's time is over. Ask for a new one.")
        job = await rooms.store.job(found)
        if job is None:
            raise not_found("link")
        if job.deleted_us is not None:
            raise Problem(410, "gone", "The clip is no longer there: its owner deleted it.")
        return await content.deliver(rooms, job, request)

    return [link]
