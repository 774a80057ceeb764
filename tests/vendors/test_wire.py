"""The socket server under every vendor server: right HTTP on raw sockets, and no ghost of a peer that left."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.vendors.wire import LoopThread, Manner, Reply, Request, Server


class Echo:
    """Answers with what it got; `/stream` never ends by itself, `/slow` waits for ever."""

    def __init__(self) -> None:
        self.thread = LoopThread("echo")
        self.server = Server(self.answer)
        self.url = self.thread.run(self.server.start())
        self.left = asyncio.Event()

    async def answer(self, request: Request) -> Reply:
        if request.path == "/stream":
            return Reply(stream=self.endless())
        if request.path == "/slow":
            return Reply(manner=Manner(before_seconds=float("inf")))
        return Reply(body=b"|".join((request.method.encode(), request.path.encode(), request.body)))

    async def endless(self) -> AsyncIterator[bytes]:
        yield b"first"
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.left.set()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=10)

    def say(self, data: bytes) -> bytes:
        """Sends, and reads until the server closes."""
        with self.connect() as peer:
            peer.sendall(data)
            return self.read(peer)

    def read(self, peer: socket.socket) -> bytes:
        return b"".join(iter(lambda: peer.recv(65536), b""))


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.thread.run(server.server.stop())
    server.thread.stop()
    assert server.server.defects == []


def test_two_requests_sent_at_once_are_answered_in_order(echo: Echo) -> None:
    first = b"GET /one HTTP/1.1\r\nhost: x\r\n\r\n"
    second = b"POST /t%77o HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"

    said = echo.say(first + second)

    assert said.index(b"GET|/one|") < said.index(b"POST|/two|hi")
    assert said.count(b"HTTP/1.1 200 OK") == 2


def test_a_chunked_body_after_an_expectation_is_read_whole(echo: Echo) -> None:
    with echo.connect() as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 100")
        peer.sendall(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)

        assert echo.read(peer).endswith(b"POST|/|abcde")


def test_a_head_request_gets_the_length_and_no_body(echo: Echo) -> None:
    said = echo.say(b"HEAD /long HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

    head, _, body = said.partition(b"\r\n\r\n")
    assert b"content-length: 11" in head
    assert body == b""


def test_what_is_not_http_gets_400(echo: Echo) -> None:
    assert echo.say(b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "part", [b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf"]
)
def test_a_peer_that_leaves_early_is_forgotten(echo: Echo, part: bytes) -> None:
    with echo.connect() as peer:
        peer.sendall(part)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1000):
            pass

    assert echo.say(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_stream_ends_when_its_reader_leaves(echo: Echo) -> None:
    with echo.connect() as peer:
        peer.sendall(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        while b"first" not in peer.recv(1000):
            pass

    echo.thread.run(asyncio.wait_for(echo.left.wait(), 10))


def test_stopping_cuts_a_connection_that_is_being_stalled(echo: Echo) -> None:
    with echo.connect() as peer:
        peer.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        while not echo.server.connections:
            pass
        echo.thread.run(echo.server.stop(), timeout=10)

        with pytest.raises(ConnectionResetError):
            peer.recv(1000)
