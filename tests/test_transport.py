"""The door: what each failure of a call comes to, where credentials go, and what comes out of errors.

What an adapter makes of it is the conformance suite's; here is what needs no vendor.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import gzip
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest

from providers.guard import Guard
from providers.spec import Fault, Kind, Outcome, ProviderError, Secret, Verdict
from providers.transport import Door, Judge, Judged, Reply, Transport, retry_after
from tests.vendors import wire
from tests.vendors.wire import Manner, Request, Server, json_reply

pytestmark = pytest.mark.anyio

KEY = Secret("planted0123456789key")


class Thing(msgspec.Struct):
    id: str


@contextlib.asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    server = Server(handler)
    yield await server.start()
    await server.stop()


def replying(reply: wire.Reply, seen: list[Request] | None = None) -> Any:
    async def handler(request: Request) -> wire.Reply:
        (seen if seen is not None else []).append(request)
        return reply

    return handler


@contextlib.asynccontextmanager
async def door_to(url: str, **limits: Any) -> AsyncIterator[Door]:
    transport = Transport(guard=Guard(["127.0.0.1"]), **limits)
    try:
        yield transport.door(url, headers={"authorization": f"Key {KEY.reveal()}"}, secrets=[KEY])
    finally:
        await transport.close()


def mocked(handler: Any, judge: Judge | None = None) -> Door:
    transport = Transport(guard=Guard(), client=httpx.MockTransport(handler))
    return transport.door("https://vendor.example/base", secrets=[KEY], judge=judge)


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Any:
    return lambda request: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


async def failing_post(door: Door, path: str = "/buy") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await door.post(path, json={"a": 1}, reply=Thing)
    return caught.value


# --- the outcome of a POST --------------------------------------------------------------------------------------------

REJECTED = {
    400: Kind.INVALID_REQUEST,
    401: Kind.AUTHENTICATION,
    402: Kind.INSUFFICIENT_FUNDS,
    403: Kind.AUTHENTICATION,
    404: Kind.UNAVAILABLE,
    413: Kind.INVALID_REQUEST,
    415: Kind.INVALID_REQUEST,
    422: Kind.INVALID_REQUEST,
    429: Kind.RATE_LIMITED,
}


async def test_post_answered_with_an_error_is_rejected_where_the_table_says_so_and_unknown_elsewhere() -> None:
    for status in range(300, 600):
        error = await failing_post(mocked(answer(status, b'{"id": "x"}')))

        told = (error.outcome, error.fault.kind, error.fault.verdict)
        if status in REJECTED:
            assert told == (Outcome.REJECTED, REJECTED[status], Verdict.ELSEWHERE), status
        else:
            assert told == (Outcome.UNKNOWN, Kind.UNKNOWN, Verdict.UNSURE), status
        assert error.status == status


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"[]", b'{"id": 5}', b'{"id": "x"', b"\xff", b"<html>", b"[" * 9999]
)
async def test_success_that_cannot_be_read_is_unknown(status: int, body: bytes) -> None:
    error = await failing_post(mocked(answer(status, body)))

    assert (error.outcome, error.fault.verdict) == (Outcome.UNKNOWN, Verdict.UNSURE)


async def test_success_that_can_be_read_is_the_thing() -> None:
    thing = await mocked(answer(202, b'{"id": "x", "more": [1]}')).post("/buy", reply=Thing)

    assert thing == Thing(id="x")


NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError", "ProxyError")
BROKEN = (
    "WriteError",
    "WriteTimeout",
    "ReadError",
    "ReadTimeout",
    "CloseError",
    "RemoteProtocolError",
    "DecodingError",
)


@pytest.mark.parametrize("name", NOT_SENT + BROKEN)
async def test_post_whose_connection_fails(name: str) -> None:
    failure: type[httpx.TransportError] = getattr(httpx, name)
    outcome = Outcome.NOT_SENT if name in NOT_SENT else Outcome.UNKNOWN

    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("as staged")

    error = await failing_post(mocked(fail))

    assert error.outcome is outcome
    assert error.fault.verdict is (Verdict.ELSEWHERE if outcome is Outcome.NOT_SENT else Verdict.UNSURE)
    assert error.fault.kind is (Kind.TIMEOUT if "Timeout" in name else Kind.UNAVAILABLE)


@pytest.mark.parametrize("path", ["http://[bad", "https://vendor.example:port/x", "ftp://vendor.example/x", "x\x00y"])
async def test_address_that_is_none_is_not_sent(path: str) -> None:
    error = await failing_post(mocked(answer(200, b'{"id": "x"}')), path)

    assert error.outcome is Outcome.NOT_SENT


async def test_body_that_cannot_be_written_is_not_sent() -> None:
    door = mocked(answer(200, b'{"id": "x"}'))

    with pytest.raises(ProviderError) as caught:
        await door.post("/buy", json={"prompt": "\ud800"}, reply=Thing)

    assert caught.value.outcome is Outcome.NOT_SENT


# --- time and size ----------------------------------------------------------------------------------------------------


async def test_call_ends_by_its_limits_however_slowly_the_reply_drips() -> None:
    reply = wire.Reply(body=b'{"id": "x"}' + b" " * 500, manner=Manner(drip_seconds=30))

    async with serving(replying(reply)) as url, door_to(url, connect_seconds=0.2, read_seconds=1.0) as door:
        begun = time.monotonic()
        error = await failing_post(door)
        took = time.monotonic() - begun

    assert (error.outcome, error.fault.kind) == (Outcome.UNKNOWN, Kind.TIMEOUT)
    assert took < 5  # its pieces come every 0.6 s, so no single wait is too long


async def test_post_that_waits_for_a_free_connection_is_not_sent_late() -> None:
    """The pool holds a hundred; whoever comes next must not be sent when the window of its intent is over."""
    arrived = asyncio.Semaphore(0)

    async def hold(request: Request) -> wire.Reply:
        arrived.release()
        return wire.Reply(manner=Manner(before_seconds=60))

    async with serving(hold) as url, door_to(url, connect_seconds=2.0, read_seconds=20.0) as door:
        holding = [asyncio.create_task(door.post("/buy", reply=Thing)) for _ in range(100)]
        for _ in holding:
            await arrived.acquire()
        error = await failing_post(door)
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)

    assert (error.outcome, error.fault.kind) == (Outcome.NOT_SENT, Kind.TIMEOUT)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_reply_larger_than_the_limit_is_left_off(is_chunked: bool) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b" " * 65536
            await asyncio.sleep(0)

    reply = wire.Reply(stream=endless()) if is_chunked else wire.Reply(body=b" " * 300_000)
    async with serving(replying(reply)) as url, door_to(url, max_reply_bytes=100_000) as door:
        error = await failing_post(door)

    assert error.outcome is Outcome.UNKNOWN
    assert "100,000" in error.fault.message
    assert sent < 50_000_000


async def test_reply_in_an_encoding_that_was_not_asked_for_is_not_unfolded() -> None:
    seen: list[Request] = []
    bomb = gzip.compress(b'{"id": "' + b"x" * 50_000_000 + b'"}', 1)
    reply = wire.Reply(body=bomb, headers={"content-encoding": "gzip"})

    async with serving(replying(reply, seen)) as url, door_to(url) as door:
        error = await failing_post(door)

    assert error.outcome is Outcome.UNKNOWN
    assert "encoding" in error.fault.message
    assert seen[0].headers["accept-encoding"] == "identity"


# --- connections ------------------------------------------------------------------------------------------------------


async def test_each_purchase_has_a_fresh_connection_and_reads_share_one() -> None:
    opened: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append("one")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"content-length: 7" in head.lower():
                    await reader.readexactly(7)
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"id": "x"}')
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, door_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as door:
        for _ in range(3):
            await door.post("/buy", json={"a": 1}, reply=Thing)
        bought_on = len(opened)
        for _ in range(3):
            await door.get("/look", reply=Thing)

    assert bought_on == 3
    assert len(opened) == 4


async def test_redirect_of_a_purchase_is_not_followed() -> None:
    elsewhere: list[Request] = []
    async with serving(replying(json_reply({"id": "x"}), elsewhere)) as other:
        moved = wire.Reply(status=307, headers={"location": f"{other}/buy"})
        async with serving(replying(moved)) as url, door_to(url) as door:
            error = await failing_post(door)

    assert error.outcome is Outcome.UNKNOWN
    assert elsewhere == []


async def test_cookie_of_a_reply_is_not_sent_again() -> None:
    seen: list[Request] = []
    reply = json_reply({"id": "x"}, headers={"set-cookie": "session=of-another-account; Path=/"})

    async with serving(replying(reply, seen)) as url, door_to(url) as door:
        await door.get("/one", reply=Thing)
        await door.get("/two", reply=Thing)

    assert ["cookie" in request.headers for request in seen] == [False, False]


async def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async with serving(replying(json_reply({"id": "x"}))) as url, door_to(url) as door:
        thing = await door.post("/buy", reply=Thing)

    assert thing.id == "x"


# --- credentials ------------------------------------------------------------------------------------------------------


class Signing(httpx.Auth):
    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["x-signature"] = KEY.reveal()
        yield request


async def test_credentials_go_to_their_own_origin_only() -> None:
    ours: list[Request] = []
    theirs: list[Request] = []
    transport = Transport(guard=Guard(["127.0.0.1"]))
    async with (
        serving(replying(json_reply({"id": "x"}), ours)) as url,
        serving(replying(json_reply({"id": "x"}), theirs)) as other,
    ):
        door = transport.door(f"{url}/v1", auth=Signing(), headers={"authorization": KEY.reveal()}, secrets=[KEY])
        await door.get("/a", reply=Thing)
        await door.get(f"{url}/b", reply=Thing)
        await door.get(f"{other}/c", headers={"x-own": "1"}, reply=Thing)
        await door.exchange("PUT", f"{other}/d", content=b"bytes")
    await transport.close()

    assert [request.path for request in ours] == ["/v1/a", "/b"]
    assert all(request.headers["authorization"] and request.headers["x-signature"] for request in ours)
    assert [request.path for request in theirs] == ["/c", "/d"]
    assert all(KEY.reveal() not in str(request.headers) for request in theirs)
    assert theirs[0].headers["x-own"] == "1"


@pytest.mark.parametrize("url", ["http://vendor.example", "http://10.0.0.1", "ftp://127.0.0.1", "vendor.example", ""])
def test_door_to_a_plain_address_beyond_loopback_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Transport(guard=Guard(), client=httpx.MockTransport(answer(200))).door(url)


@pytest.mark.parametrize("text", ["key-with-newline\n", " key", "key ", "kéy", "key\x00", "a\r\nx-b: c"])
def test_credential_that_no_header_can_carry_is_refused_without_being_shown(text: str) -> None:
    transport = Transport(guard=Guard(), client=httpx.MockTransport(answer(200)))

    with pytest.raises(ValueError, match="has spaces around it or letters") as caught:
        transport.door("https://vendor.example", secrets=[Secret(text)])

    assert text.strip() not in str(caught.value)


@pytest.mark.parametrize("padding", [0, 150, 185, 199, 480, 5000])
async def test_credential_in_a_reply_is_scrubbed_before_the_message_is_cut(padding: int) -> None:
    body = f"{'x' * padding}{KEY.reveal()}".encode()

    error = await failing_post(mocked(answer(500, body)))

    shown = f"{error!r} {error.fault!r}"
    assert not any(KEY.reveal()[at : at + 8] in shown for at in range(len(KEY.reveal()) - 7))
    assert len(error.fault.message) <= 500


# --- the vendor's own reading -----------------------------------------------------------------------------------------


async def test_judge_is_asked_before_the_table_and_may_leave_the_outcome_to_it() -> None:
    fault = Fault(kind=Kind.CONTENT_POLICY, verdict=Verdict.NEVER, message=f"no: {KEY.reveal()}\n!")

    error = await failing_post(mocked(answer(422), judge=lambda reply: Judged(fault=fault)))

    told = (error.fault.kind, error.fault.verdict, error.outcome)
    assert told == (Kind.CONTENT_POLICY, Verdict.NEVER, Outcome.REJECTED)
    assert error.fault.message == "no: ••• !"


async def test_judge_may_narrow_an_unknown_and_find_an_error_in_a_success() -> None:
    fault = Fault(kind=Kind.RATE_LIMITED, verdict=Verdict.ELSEWHERE, message="shed")

    def judge(reply: Reply) -> Judged | None:
        return Judged(fault=fault, outcome=Outcome.REJECTED) if b"shed" in reply.body else None

    shed = await failing_post(mocked(answer(503, b"shed", {"retry-after": "7"}), judge))
    hidden = await failing_post(mocked(answer(200, b'{"id": "x", "shed": 1}'), judge))
    other = await failing_post(mocked(answer(503), judge))

    assert [error.outcome for error in (shed, hidden, other)] == [Outcome.REJECTED, Outcome.REJECTED, Outcome.UNKNOWN]
    assert shed.retry_after_seconds == 7


# --- Retry-After ------------------------------------------------------------------------------------------------------

NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        ("1.5", 1.5),
        (" 5 ", 5.0),
        ("1e9", 300.0),
        ("inf", 300.0),
        ("-5", 0.0),
        ("nan", None),
        ("abc", None),
        ("", None),
        (None, None),
        ("Thu, 99 Foo 2026 00:00:00 GMT", None),
        (email.utils.formatdate(NOW + 40, usegmt=True), 40.0),
        (email.utils.formatdate(NOW + 4000, usegmt=True), 300.0),
        (email.utils.formatdate(NOW - 40, usegmt=True), 0.0),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, now=NOW) == seconds
