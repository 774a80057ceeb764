"""Kling's adapter is held to conversations that were written from the sources, call by call."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from providers import kling
from providers.guard import Guard
from providers.spec import Failed, Operation, ProviderError, Secret, VideoRequest
from providers.transport import Transport
from tests.vendors import transcripts as told

pytestmark = pytest.mark.anyio

SENT_AT = datetime(2026, 11, 23, tzinfo=UTC)


def adapter(answer: Callable[[httpx.Request], httpx.Response], key: str) -> kling.Adapter:
    transport = Transport(guard=Guard(), client=httpx.MockTransport(answer))
    return kling.make(kling.Settings(api_key=Secret(key)), transport)


TOLD = told.transcripts("kling")


@pytest.mark.parametrize("name", TOLD)
async def test_adapter_keeps_to_the_transcript(name: str) -> None:
    told_, seen = TOLD[name], []
    values = told_.values | {"$base": "https://api-singapore.klingai.com"}
    replies = iter([exchange.reply for exchange in told_.exchanges])

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        reply = next(replies)
        said = msgspec.json.encode(told.filled(reply.body, values))
        return httpx.Response(reply.status, stream=httpx.ByteStream(said))

    ask = dict(told_.ask)
    words = {"model_id": ask.pop("model_id"), "callback_url": ask.pop("callback_url", None)}
    request = msgspec.convert(ask, VideoRequest)
    kling_ = adapter(answer, values["$key"])
    operation = Operation(provider="kling", id="none", ref={})
    for call in told_.calls:
        got, operation = await _made(kling_, call.call, request, words | {"client_id": values["$client"]}, operation)
        assert got == msgspec.convert(told.filled(call.means, values), told.Means)

    for one, exchange in zip(seen, told_.exchanges, strict=True):
        asked = told.filled(msgspec.to_builtins(exchange.request), values)
        target = httpx.URL(values["$base"] + asked["path"])
        assert (one.method, one.url) == (asked["method"], target)
        assert one.headers["authorization"] == asked["headers"]["authorization"]
        assert (msgspec.json.decode(one.content) if one.content else None) == asked["body"]


async def _made(
    kling_: kling.Adapter, call: str, request: VideoRequest, words: dict[str, Any], operation: Operation
) -> tuple[told.Means, Operation]:
    """What comes of one call, without its sentences; and the operation from now on."""
    try:
        match call:
            case "submit":
                operation = await kling_.submit(request, **words)
                return told.Means(operation=operation.id), operation
            case "find":
                place = await kling_.find(request, sent_at=SENT_AT, **words)
                return told.Means(operation=place.id if place else None), place or operation
        status = await kling_.poll(operation)
    except ProviderError as error:
        return told.Means(error=msgspec.structs.replace(error.fault, message=""), outcome=error.outcome), operation
    if isinstance(status, Failed):
        status = msgspec.structs.replace(status, fault=msgspec.structs.replace(status.fault, message=""))
    return told.Means(status=status), operation


def test_there_are_transcripts_of_both_protocols() -> None:
    assert {re.match(r"\w+", name)[0] for name in TOLD} == {"legacy", "v2"}  # type: ignore[index]
