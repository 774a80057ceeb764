"""The URL guard: which addresses are opened, judged where the connection is made; and strangers' files through it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpcore
import httpx
import pytest

from providers.guard import Guard, UrlRefused, is_loopback, is_public, origin
from providers.spec import Outcome, ProviderError
from providers.transport import Fetched, FetchRefused, Transport
from tests.vendors import wire
from tests.vendors.wire import Manner, Reply, Request, Server

pytestmark = pytest.mark.anyio

# --- addresses --------------------------------------------------------------------------------------------------------

INSIDE = """
    127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 169.254.169.254 0.0.0.0 0.1.2.3
    100.64.0.1 100.100.100.200 100.127.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1
    203.0.113.1 168.63.129.16 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    ::1 :: ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:168.63.129.16 ::ffff:0:127.0.0.1
    fe80::1 fc00::1 fd00::1 fd00:ec2::254 fec0::1 ff02::1 ff0e::1 2001:db8::1 2001::1 2001:0:53aa:64c:0:7fff:f5ff:fffe
    2002:7f00:1:: 2002:a00:1:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1
"""
OUTSIDE = """
    8.8.8.8 1.1.1.1 93.184.216.34 100.63.255.255 100.128.0.1 168.63.129.15 172.32.0.1 192.0.1.1 223.255.255.255
    ::ffff:8.8.8.8 2606:4700:4700::1111 2a00:1450:4001::1
"""


@pytest.mark.parametrize("text", INSIDE.split())
def test_address_that_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", OUTSIDE.split())
def test_address_that_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


REFUSED = {
    "http://example.com/a.png": "only https",
    "ftp://example.com/a.png": "only https",
    "file:///etc/passwd": "names no host",
    "gopher://example.com/1": "only https",
    "data:image/png;base64,AA": "names no host",
    "//example.com/a.png": "only https",
    "/a.png": "names no host",
    "": "names no host",
    "https://": "names no host",
    "https://user:pass@example.com/": "user or password",
    "https://user@example.com/": "user or password",
    "https://example.com:22/": "only ports",
    "https://example.com:6379/": "only ports",
    "https://example.com:80/": "only ports",
    "https://example.com:0/": "only ports",
    "https://[::1]/": "not a public one",
    "https://[::ffff:127.0.0.1]/": "not a public one",
    "https://169.254.169.254/latest/meta-data": "not a public one",
    "https://192.0.0.192/": "not a public one",
    "https://[fe80::1%25eth0]/": "",
    "https://example.com:99999/": "",
    "https://example.com/\x00": "",
    "https://example.com/" + "a" * 5000: "longer than",
}


@pytest.mark.parametrize("url", REFUSED, ids=lambda url: url[:40])
def test_address_whose_form_is_not_opened(url: str) -> None:
    with pytest.raises(UrlRefused) as caught:
        Guard().parse(url)

    assert REFUSED[url] in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a.png", "https://example.com:443/", "https://example.com:8443/?q=1", "https://8.8.8.8/"],
)
def test_address_whose_form_is_opened(url: str) -> None:
    assert Guard().parse(url).host


def test_allowed_host_is_opened_as_it_stands_and_no_other() -> None:
    guard = Guard(["127.0.0.1", "Pictures.local", "::1"])

    assert guard.parse("http://127.0.0.1:9000/a").port == 9000
    assert guard.parse("http://pictures.LOCAL/a").host == "pictures.local"
    assert guard.parse("http://[::1]:9000/a").port == 9000
    for url in ("http://127.0.0.2/", "http://localhost/", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/"):
        with pytest.raises(UrlRefused):
            guard.parse(url)


@pytest.mark.parametrize(
    "host", ["0177.0.0.1", "0x7f.0.0.1", "2130706433", "0x7f000001", "127.1", "0", "017700000001", "localhost"]
)
async def test_loopback_in_disguise_is_refused_when_it_is_resolved(host: str) -> None:
    """The resolver reads these as the C library does; what it makes of them is what is judged."""
    with pytest.raises(UrlRefused):
        await Guard(["127.0.0.1"]).resolve(host, 443)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://a.example/x", "https://A.example:443/y", True),
        ("http://a.example", "http://a.example:80/", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://a.example:0", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "https://a.example.evil.test", False),
    ],
)
def test_origin(one: str, other: str, is_same: bool) -> None:
    assert (origin(httpx.URL(one)) == origin(httpx.URL(other))) is is_same


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", "0.0.0.1", "::2", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


# --- names, where the connection is made ------------------------------------------------------------------------------

Names = Callable[..., Awaitable[list[Any]]]


def resolving(*rounds: list[str], asked: list[str] | None = None) -> Names:
    """A resolver that gives each list of addresses in turn."""
    answers = iter(rounds)

    async def getaddrinfo(host: str, port: int, **kwargs: object) -> list[Any]:
        if asked is not None:
            asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(answers)]

    return getaddrinfo


@contextlib.contextmanager
def connecting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The addresses that would be connected to; none of them is."""
    tried: list[str] = []

    async def connect_tcp(self: object, host: str, *args: object, **kwargs: object) -> httpcore.AsyncNetworkStream:
        tried.append(host)
        raise httpcore.ConnectError("nobody there")

    with monkeypatch.context() as patch:
        patch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect_tcp)
        yield tried


@contextlib.asynccontextmanager
async def transport(*allow: str) -> AsyncIterator[Transport]:
    opened = Transport(guard=Guard(allow), connect_seconds=0.3)
    try:
        yield opened
    finally:
        await opened.close()


async def refusal(opened: Transport, url: str, **limits: Any) -> FetchRefused:
    with pytest.raises(FetchRefused) as caught:
        await opened.fetch(url, **{"max_bytes": 1_000_000, **limits})
    return caught.value


async def test_connection_goes_to_the_very_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    async with transport() as opened:
        names = resolving(["93.184.216.34", "93.184.216.35"], asked=asked)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
        with connecting(monkeypatch) as tried:
            caught = await refusal(opened, "https://pictures.example/a.png")

    assert asked == ["pictures.example"]
    assert tried == ["93.184.216.34", "93.184.216.35"]
    assert caught.code == "input_fetch_failed"


async def test_name_that_changes_its_mind_is_refused_at_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with transport() as opened:
        names = resolving(["93.184.216.34"], ["127.0.0.1"])
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
        with connecting(monkeypatch) as tried:
            first = await refusal(opened, "https://pictures.example/a.png")
            second = await refusal(opened, "https://pictures.example/a.png")

    assert tried == ["93.184.216.34"]
    assert [first.code, second.code] == ["input_fetch_failed", "url_not_allowed"]


@pytest.mark.parametrize(
    "addresses", [["10.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["fe80::1%eth0"], ["::ffff:7f00:1"]]
)
async def test_name_with_any_address_inside_is_not_connected_to(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with transport() as opened:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(addresses))
        with connecting(monkeypatch) as tried:
            caught = await refusal(opened, "https://pictures.example/a.png")

    assert tried == []
    assert caught.code == "url_not_allowed"


async def test_name_server_that_keeps_silent_is_waited_for_as_long_as_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silence(*args: object, **kwargs: object) -> list[Any]:
        await asyncio.Event().wait()
        return []

    async with transport() as opened:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silence)
        async with asyncio.timeout(10):
            caught = await refusal(opened, "https://pictures.example/a.png")

    assert caught.code == "input_fetch_failed"
    assert "ConnectTimeout" in caught.message


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "https://10.0.0.1/x", "https://inside.example/x", "gopher://a/x"]
)
async def test_foreign_address_in_a_vendors_reply_is_opened_like_any_strangers(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with transport() as opened:
        door = opened.door("https://vendor.example")
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(["10.1.2.3"]))
        with connecting(monkeypatch) as tried, pytest.raises(ProviderError) as caught:
            await door.exchange("PUT", url, content=b"a picture")

    assert tried == []
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "UrlRefused" in caught.value.fault.message


# --- strangers' files -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(*replies: Reply, seen: list[Request] | None = None) -> AsyncIterator[str]:
    queue = iter(replies)

    async def handler(request: Request) -> Reply:
        if seen is not None:
            seen.append(request)
        return next(queue)

    server = Server(handler)
    try:
        yield await server.start()
    finally:
        await server.stop()
    assert server.defects == []


def moved(location: str) -> Reply:
    return Reply(status=302, headers={"location": location})


PICTURE = Reply(body=b"a picture", headers={"content-type": "image/png"})


async def test_file_arrives_whole_with_its_type() -> None:
    seen: list[Request] = []
    async with serving(PICTURE, seen=seen) as url, transport("127.0.0.1") as opened:
        fetched = await opened.fetch(f"{url}/a.png", max_bytes=9)

    assert fetched == Fetched(content_type="image/png", body=b"a picture")
    assert seen[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "target",
    ["http://10.0.0.1/", "https://169.254.169.254/", "http://localhost/", "file:///etc/passwd"],
)
async def test_redirect_to_what_is_not_opened_is_refused(target: str) -> None:
    async with serving(moved(target)) as url, transport("127.0.0.1") as opened:
        caught = await refusal(opened, url)

    assert caught.code == "url_not_allowed"


async def test_redirect_to_a_name_inside_is_refused_at_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(moved("https://inside.example/a.png")) as url, transport("127.0.0.1") as opened:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolving(["10.0.0.1"]))
        caught = await refusal(opened, url)

    assert caught.code == "url_not_allowed"


async def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    hops = [moved("/two"), moved("three"), moved("?four")]
    async with serving(*hops, PICTURE) as url, transport("127.0.0.1") as opened:
        fetched = await opened.fetch(f"{url}/one", max_bytes=100)
    async with serving(*hops, moved("/five"), PICTURE) as url, transport("127.0.0.1") as opened:
        caught = await refusal(opened, f"{url}/one")

    assert fetched.body == b"a picture"
    assert caught.code == "url_not_allowed"


async def test_small_file_that_would_unfold_into_a_large_one_is_refused() -> None:
    bomb = Reply(body=gzip.compress(bytes(50_000_000), 1), headers={"content-encoding": "gzip"})

    async with serving(bomb) as url, transport("127.0.0.1") as opened:
        caught = await refusal(opened, url)

    assert "encoding" in caught.message


@pytest.mark.parametrize("is_announced", [True, False])
async def test_file_larger_than_the_limit_is_left_off(is_announced: bool) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)
            await asyncio.sleep(0)

    reply = Reply(body=bytes(2_000_000)) if is_announced else Reply(stream=endless())
    async with serving(reply) as url, transport("127.0.0.1") as opened:
        caught = await refusal(opened, url)

    assert caught.code == "input_too_large"
    assert sent < 50_000_000


@pytest.mark.parametrize(
    "reply",
    [
        wire.Reply(body=b"x" * 5000, manner=Manner(drip_seconds=60)),
        wire.Reply(body=b"x" * 5000, manner=Manner(before_seconds=60)),
    ],
    ids=["drips", "stalls"],
)
async def test_file_that_does_not_arrive_in_its_time_is_given_up(reply: Reply) -> None:
    async with serving(reply) as url, transport("127.0.0.1") as opened, asyncio.timeout(10):
        caught = await refusal(opened, url, total_seconds=0.4)

    assert caught.code == "input_fetch_failed"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=404, body=b"gone"),
        Reply(status=206, body=b"part"),
        Reply(status=204),
        Reply(status=500),
        Reply(status=304),
        Reply(body=b"x" * 500, manner=Manner(cut=0.5)),
        Reply(manner=Manner(cut=0)),
    ],
    ids=["404", "206", "204", "500", "304", "truncated", "reset"],
)
async def test_answer_that_is_no_file_is_refused(reply: Reply) -> None:
    async with serving(reply) as url, transport("127.0.0.1") as opened:
        caught = await refusal(opened, url)

    assert caught.code == "input_fetch_failed"
