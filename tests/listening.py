"""A client of event streams, as small as one can be: it reads lines, and knows no more than the format says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec


class Told(msgspec.Struct, frozen=True):
    """One event as a client has it. `id` is the last one that was seen, as browsers keep it."""

    id: str
    name: str
    data: dict[str, Any]


class Stream:
    """One open stream; `last_id` is what to come again with, `beats` counts comments."""

    def __init__(self, reply: httpx.Response, last_id: str) -> None:
        self.status = reply.status_code
        self.headers = reply.headers
        self.last_id = last_id
        self.beats = 0
        self.retry_ms: int | None = None
        self._reply = reply
        self._lines = reply.aiter_lines()

    async def __aiter__(self) -> AsyncIterator[Told]:
        name, data = "", ""
        async for line in self._lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "" if line:
                    self.beats += 1
                case "":
                    if data:
                        yield Told(self.last_id, name, json.loads(data))
                    name, data = "", ""
                case "id":
                    self.last_id = value
                case "event":
                    name = value
                case "data":
                    data += value
                case "retry":
                    self.retry_ms = int(value)

    async def line(self) -> str:
        """The next line as it comes."""
        return await anext(self._lines)


@asynccontextmanager
async def listening(
    http: httpx.AsyncClient, path: str, *, last_id: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Stream]:
    """The stream at `path`, resumed where `last_id` says."""
    sent = {**(headers or {}), **({"last-event-id": last_id} if last_id else {})}
    async with http.stream("GET", path, headers=sent) as reply:
        yield Stream(reply, last_id)
