"""The URL guard: which addresses of strangers we open, checked where the connection is made.

Law: a stranger's URL (a caller's picture, a file in a vendor's reply) is opened only as https on 443 or 8443, without
user or password, and only when *every* address that its name resolves to is public; we then connect to that very
address, so a second look-up cannot say something else. Hosts in `allow` (`[egress] allow`) are let through as they are.

`ipaddress.is_global` alone will not do: it calls 192.0.0.192 (a cloud's metadata), 168.63.129.16 (another's),
multicast, 6to4 and NAT64 addresses global, so our own deny-list stands behind it. The library httpx-secure was weighed:
it trusts `is_global` and opens a TCP connection even to refused hosts, so the check is done here, in the backend.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence

import httpcore
import httpx

MAX_URL_CHARS = 4096
PORTS = (443, 8443)
DENIED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "fec0::/10",
        "ff00::/8",
        "fd00:ec2::254/128",
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UrlRefused(Exception):
    """This address is not opened. The message says why, for the person who sent it."""


def is_public(address: Address) -> bool:
    """Whether an address may be connected to. An IPv4 address wrapped in IPv6 is judged as the IPv4 that it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global and not any(
        network.version == address.version and address in network for network in DENIED
    )


class Guard:
    """What may be opened. `allow` names hosts (as they stand in the URL) beyond public https."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allow = frozenset(host.lower() for host in allow)

    def allows(self, host: str) -> bool:
        return host.lower().strip("[]") in self._allow

    def parse(self, url: str) -> httpx.URL:
        """The URL, when its form is one that we open. Raises UrlRefused. Looks nothing up."""
        if len(url) > MAX_URL_CHARS:
            raise UrlRefused(f"the address is longer than {MAX_URL_CHARS} characters")
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise UrlRefused("this is not an address") from error
        if not parsed.host:
            raise UrlRefused("the address names no host")
        if parsed.userinfo:
            raise UrlRefused("an address with a user or password is not opened")
        if self.allows(parsed.host) and parsed.scheme in ("http", "https"):
            return parsed
        if parsed.scheme != "https":
            raise UrlRefused(f"only https addresses are opened, not {parsed.scheme or 'relative'} ones")
        if (443 if parsed.port is None else parsed.port) not in PORTS:
            raise UrlRefused(f"only ports {PORTS[0]} and {PORTS[1]} are opened")
        literal = _literal(parsed.host)
        if literal is not None and not is_public(literal):
            raise UrlRefused("the address is not a public one")
        return parsed

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of `host`, all of them public unless the host is allowed. Raises UrlRefused."""
        literal = _literal(host)
        if literal is not None:
            addresses: list[str] = [str(literal)]
        else:
            loop = asyncio.get_running_loop()
            try:
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                raise httpcore.ConnectError(f"{host} has no address") from error
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self.allows(host):
            for text in addresses:
                if not is_public(ipaddress.ip_address(text.split("%")[0])):
                    raise UrlRefused(f"{host} is not at a public address")
        return addresses


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that the guard has passed; the TLS name and the Host header stay the URL's own."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        try:
            async with asyncio.timeout(timeout):  # a name server may keep silent too
                addresses = await self._guard.resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a pool that connects through the guard."""

    def __init__(self, guard: Guard, *, max_connections: int = 100) -> None:
        super().__init__(trust_env=False, http2=False)
        # httpx offers no way to hand a network backend to its pool, so the pool is replaced by its twin
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=max_connections,
            max_keepalive_connections=0,
            network_backend=_GuardedBackend(guard),
        )


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and effective port: what decides whether a credential may go along."""
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host.lower(), default if url.port is None else url.port


def is_loopback(host: str) -> bool:
    literal = _literal(host)
    return literal.is_loopback if literal is not None else host.lower() == "localhost"


__all__: Sequence[str] = ("Guard", "GuardedTransport", "UrlRefused", "is_loopback", "is_public", "origin")
