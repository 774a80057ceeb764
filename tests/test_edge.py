"""What reaches the server's socket and is no honest request: raw bytes to a real server, and what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gateway import app
from tests.house import KEY, House, house

pytestmark = pytest.mark.anyio
BODY = json.dumps({"model": "kling-v3-pro", "prompt": "x"}).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
KEYED = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
POST = b"POST /v1/videos/route HTTP/1.1\r\nHost: a\r\n" + KEYED + b"Content-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"


def at(path: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET " + path + b" HTTP/" + version + b"\r\nHost: a\r\n" + KEYED + b"\r\n"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("edge"), "http://127.0.0.1:9") as gateway:
        yield gateway


async def answered(gateway: House, sent: bytes, *, seconds: float = 5.0) -> tuple[int, str]:
    """The status, and the code where the answer has one; 0 when the server only closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.http.base_url.port or 0)
    try:
        writer.write(sent)
        async with asyncio.timeout(seconds):
            head = await reader.readline()
            while head and (line := await reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if not head:
                return 0, ""
            body = await reader.readexactly(length) if length else b""
    finally:
        writer.close()
    said = json.loads(body) if body.startswith(b"{") else {}
    return int(head.split()[1]), said.get("error", {}).get("code", "")


SOUND = [
    ("a length", POST + LENGTH + b"\r\n" + BODY),
    ("chunks", POST + CHUNKED + b"\r\n" + CHUNKS),
    ("chunks with a trailer", POST + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"X-A: b\r\n\r\n"),
    ("HTTP/1.0 without a host", b"GET /healthz HTTP/1.0\r\n\r\n"),
    ("a head of 30 KB", GET + b"X-A: " + b"a" * 30_000 + b"\r\n\r\n"),
]
BAD: list[tuple[str, bytes, int, str]] = [
    ("two lengths", POST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY, 400, ""),
    ("a negative length", POST + b"Content-Length: -1\r\n\r\n", 400, ""),
    ("a signed length", POST + b"Content-Length: +26\r\n\r\n" + BODY, 400, ""),
    ("an unknown transfer coding", POST + b"Transfer-Encoding: xchunked\r\n\r\n", 400, ""),
    ("a coding after chunked", POST + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400, ""),
    ("no chunk size", POST + CHUNKED + b"\r\nzz\r\n" + BODY, 400, ""),
    ("a folded header", POST + b"X-A: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY, 400, ""),
    ("a space before the colon", POST + b"X-A : b\r\n" + LENGTH + b"\r\n" + BODY, 400, ""),
    ("a NUL in a header", POST + b"X-A: b\x00\r\n" + LENGTH + b"\r\n" + BODY, 400, ""),
    ("no host", GET.replace(b"Host: a\r\n", b"") + b"\r\n", 400, "ambiguous_request"),
    ("two hosts", GET + b"Host: b\r\n\r\n", 400, "ambiguous_request"),
    ("two keys", POST + KEYED + LENGTH + b"\r\n" + BODY, 400, "ambiguous_request"),
    ("two types", POST + b"Content-Type: text/plain\r\n" + LENGTH + b"\r\n" + BODY, 400, "ambiguous_request"),
    ("an address of 100 KB", at(b"/v1/videos/" + b"a" * 100_000), 431, ""),
    ("a head of 100 KB", GET + b"X-A: " + b"a" * 100_000 + b"\r\n\r\n", 431, ""),
    ("300 headers", GET + b"".join(b"X-%d: a\r\n" % n for n in range(300)) + b"\r\n", 431, ""),
    ("an unknown version", at(b"/healthz", b"9.9"), 400, ""),
    ("TLS", bytes.fromhex("16030100a50100") + b"x" * 100, 400, ""),
    ("TRACE", GET.replace(b"GET", b"TRACE") + b"\r\n", 405, "method_not_allowed"),
    ("dots", at(b"/v1/videos/..%2f..%2fetc"), 404, ""),
    ("two slashes", at(b"//v1/videos"), 404, "route_not_found"),
    ("two slashes, written otherwise", at(b"/v1/%2fvideos"), 404, "route_not_found"),
    ("a slash at the end", at(b"/v1/videos/"), 404, "route_not_found"),
    ("a path that is no UTF-8", at(b"/v1/videos/%ff%fe"), 404, ""),
    ("a path of raw bytes", at(b"/v1/\xff\xfe"), 400, ""),
    ("a query that is no UTF-8", at(b"/v1/videos?after=%ff%00"), 422, "invalid_cursor"),
]


@pytest.mark.parametrize(("name", "sent"), SOUND)
async def test_a_sound_request_is_answered(gateway: House, name: str, sent: bytes) -> None:
    assert await answered(gateway, sent) == (200, "")


@pytest.mark.parametrize(("name", "sent", "status", "code"), BAD)
async def test_a_request_that_could_be_read_in_two_ways_is_refused(
    gateway: House, name: str, sent: bytes, status: int, code: str
) -> None:
    found = await answered(gateway, sent)

    assert found[0] == status, found
    assert not code or found[1] == code
    assert await answered(gateway, SOUND[0][1]) == (200, "")  # and it goes on


async def test_of_a_length_and_chunks_the_chunks_count_and_the_connection_ends(gateway: House) -> None:
    """RFC 9112, 6.3: such a message may be read by its coding alone, and then the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.http.base_url.port or 0)
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    writer.write(POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS + smuggled)

    async with asyncio.timeout(5):
        answer = await reader.read()  # until it is closed
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_slow_heads_are_given_ten_seconds() -> None:
    assert app.HEAD.header_read_timeout == 10_000
