"""The one door to the network: JSON out and in, bounded, scrubbed, and judged once.

Laws: nothing here retries. A POST that buys has one of four outcomes (`not_sent`, `rejected`, `accepted`, `unknown`),
decided by `_OUTCOMES` below and, before it, by the vendor's own reading of its reply; what no table names is `unknown`.
Credentials go to the origin of their base address and nowhere else. No proxy or other environment is read.

A vendor's plain 400, 413, 415 or 422 to a submit is `rejected × elsewhere`: the catalogue has already refused what no
backend can do, so such a reply tells more often of this vendor's quirk than of the request, and asking another costs
nothing. Adapters narrow it to `never` where the vendor's words are clear (moderation).
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from http import cookiejar
from typing import Any, TypeVar

import httpx
import msgspec

from providers.guard import Guard, GuardedTransport, UrlRefused, is_loopback, origin
from providers.spec import Fault, Frozen, Kind, Outcome, ProviderError, Secret, Verdict

T = TypeVar("T")

MAX_MESSAGE_CHARS = 500
MAX_RETRY_AFTER_SECONDS = 300.0
MAX_REDIRECTS = 3

# errors of httpx after which it is certain that no request left (h11 refuses a malformed one before the first byte)
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.ProxyError,
    httpx.InvalidURL,
)

_REJECTED: dict[int, Kind] = {
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
_OUTCOMES: dict[int, tuple[Outcome, Kind, Verdict]] = {
    status: (Outcome.REJECTED, kind, Verdict.ELSEWHERE) for status, kind in _REJECTED.items()
}


class Reply(Frozen):
    """One answer, whole and bounded. `headers` are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, shape: type[T]) -> T | None:
        """The body as `shape`, or None when it is not that."""
        try:
            return msgspec.json.decode(self.body, type=shape, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300


class Judged(Frozen):
    """A vendor's own reading of one of its replies. Without an outcome, the shared table's stands."""

    fault: Fault
    outcome: Outcome | None = None


Judge = Callable[[Reply], Judged | None]


class Fetched(Frozen):
    """A stranger's file."""

    content_type: str
    body: bytes


class FetchRefused(Exception):
    """A stranger's file could not be had. `code`: url_not_allowed | input_too_large | input_fetch_failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Transport:
    """Every connection that Filmgate opens to a vendor or to a stranger's file.

    A call through a door has ended, one way or the other, `connect_seconds + read_seconds` after it began; a request
    that waits for a free connection leaves at most `connect_seconds` late. No cookie is kept.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        connect_seconds: float = 5.0,
        read_seconds: float = 60.0,
        max_reply_bytes: int = 4 << 20,
        client: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.guard = guard
        self.max_reply_bytes = max_reply_bytes
        self.call_seconds = connect_seconds + read_seconds
        timeout = httpx.Timeout(read_seconds, connect=connect_seconds, pool=connect_seconds)
        jar = cookiejar.CookieJar(cookiejar.DefaultCookiePolicy(allowed_domains=()))  # accounts share these clients
        common: dict[str, Any] = {"trust_env": False, "follow_redirects": False, "timeout": timeout, "cookies": jar}
        # a connection for a paid POST is never a reused one: a stale one would make its outcome unknown
        fresh = httpx.Limits(max_connections=100, max_keepalive_connections=0)
        # httpcore scans its whole pool for every request, so few connections are kept
        kept = httpx.Limits(max_connections=100, max_keepalive_connections=10)
        self.buyer = httpx.AsyncClient(limits=fresh, transport=client, **common)
        self.reader = httpx.AsyncClient(limits=kept, transport=client, **common)
        self.stranger = httpx.AsyncClient(transport=client or GuardedTransport(guard), **common)

    def door(
        self,
        base_url: str,
        *,
        auth: httpx.Auth | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[Secret] = (),
        judge: Judge | None = None,
    ) -> Door:
        """A door to one vendor host. Raises ValueError on plain http beyond loopback, or an unusable credential."""
        base = httpx.URL(base_url.rstrip("/") + "/")
        if base.scheme != "https" and not (base.scheme == "http" and is_loopback(base.host)):
            raise ValueError(f"{base_url}: an address that is sent a credential must be https (http on loopback only)")
        secrets = tuple(secrets)
        if any(not t.isascii() or not t.isprintable() or t != t.strip() for t in map(Secret.reveal, secrets)):
            # said here, without it: the error of a later request would show it
            raise ValueError(f"the credential for {base_url} has spaces around it or letters that no header can carry")
        return Door(self, base, auth=auth, headers=headers or {}, secrets=secrets, judge=judge)

    async def fetch(self, url: str, *, max_bytes: int, total_seconds: float = 60.0) -> Fetched:
        """A stranger's file, through the guard, at most `max_bytes`. Raises FetchRefused."""
        try:
            async with asyncio.timeout(total_seconds), self.stream(url) as response:
                if response.status_code != 200:
                    raise FetchRefused("input_fetch_failed", f"the address answered {response.status_code}")
                if int(response.headers.get("content-length", "0") or 0) > max_bytes:
                    raise FetchRefused("input_too_large", f"the file is larger than {max_bytes:,} bytes")
                body = bytearray()
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > max_bytes:
                        raise FetchRefused("input_too_large", f"the file is larger than {max_bytes:,} bytes")
                return Fetched(content_type=response.headers.get("content-type", ""), body=bytes(body))
        except UrlRefused as error:
            raise FetchRefused("url_not_allowed", str(error)) from error
        except TimeoutError as error:
            raise FetchRefused("input_fetch_failed", f"the file did not arrive within {total_seconds:g} s") from error
        except (httpx.HTTPError, ValueError) as error:
            raise FetchRefused(
                "input_fetch_failed", f"the address could not be read ({type(error).__name__})"
            ) from error

    @contextlib.asynccontextmanager
    async def stream(self, url: str, *, headers: Mapping[str, str] | None = None) -> AsyncIterator[httpx.Response]:
        """A stranger's answer, open for reading with `aiter_raw`. Raises UrlRefused or httpx.HTTPError.

        At most three redirects, each judged anew; a reply in another encoding than identity is refused, so no small
        file can unfold into a large one.
        """
        sent = {"accept-encoding": "identity", **(headers or {})}
        target = self.guard.parse(url)
        for _ in range(MAX_REDIRECTS + 1):
            async with self.stranger.stream("GET", target, headers=sent) as response:
                location = response.headers.get("location")
                if response.is_redirect and location:
                    target = self.guard.parse(str(target.join(location)))
                    continue
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise UrlRefused("the file came in an encoding that was not asked for")
                yield response
                return
        raise UrlRefused(f"more than {MAX_REDIRECTS} redirects")

    async def close(self) -> None:
        for client in (self.buyer, self.reader, self.stranger):
            await client.aclose()


class Door:
    """One vendor host, with its credential. A path is joined to the base; an absolute URL (from a reply) is opened too,
    but the credential goes along only to the base's own origin."""

    def __init__(
        self,
        transport: Transport,
        base: httpx.URL,
        *,
        auth: httpx.Auth | None,
        headers: Mapping[str, str],
        secrets: tuple[Secret, ...],
        judge: Judge | None,
    ) -> None:
        self._transport = transport
        self._base = base
        self._auth = auth
        self._headers = dict(headers)
        self._secrets = secrets
        self._judge = judge

    async def post(
        self,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        reply: type[T],
    ) -> T:
        """A POST that buys. Raises ProviderError, whose `outcome` says whether it was bought."""
        got = await self._send(
            self._transport.buyer, "POST", path, json=json, params=params, headers=headers, buys=True
        )
        if not got.is_ok:
            raise self._error("POST", path, got, buys=True)
        return self._decode("POST", path, got, reply, buys=True)

    async def ask(
        self,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        reply: type[T],
    ) -> T:
        """A POST that buys nothing (uploads, look-ups)."""
        got = await self.exchange("POST", path, json=json, content=content, params=params, headers=headers)
        return self._decode("POST", path, got, reply, buys=False)

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        reply: type[T],
    ) -> T:
        got = await self.exchange("GET", path, params=params, headers=headers)
        return self._decode("GET", path, got, reply, buys=False)

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Any call that buys nothing, its 2xx answer whole. Raises ProviderError on everything else."""
        got = await self._send(
            self._transport.reader, method, path, json=json, content=content, params=params, headers=headers, buys=False
        )
        if not got.is_ok:
            raise self._error(method, path, got, buys=False)
        return got

    async def _send(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        buys: bool,
    ) -> Reply:
        try:
            url = httpx.URL(path) if "://" in path else self._base.join(path.lstrip("/"))
            ours = origin(url) == origin(self._base)
            if not ours:  # an address that a reply named: opened like any stranger's
                self._transport.guard.parse(str(url))
                client = self._transport.stranger
            sent = {"accept-encoding": "identity", **(self._headers if ours else {}), **(headers or {})}
            if json is not None:
                content = msgspec.json.encode(json)
                sent.setdefault("content-type", "application/json")
            request = client.build_request(method, url, params=params or None, content=content, headers=sent)
        except (httpx.InvalidURL, UrlRefused, ValueError) as error:
            raise self._broken(method, path, error, Outcome.NOT_SENT, buys=buys) from error
        try:
            async with asyncio.timeout(self._transport.call_seconds):
                response = await client.send(request, auth=self._auth if ours else None, stream=True)
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except (*_NOT_SENT, UrlRefused) as error:
            raise self._broken(method, path, error, Outcome.NOT_SENT, buys=buys) from error
        except (httpx.HTTPError, httpx.StreamError, TimeoutError, ValueError) as error:
            raise self._broken(method, path, error, Outcome.UNKNOWN, buys=buys) from error
        return Reply(status=response.status_code, headers=dict(response.headers.items()), body=body)

    async def _read(self, response: httpx.Response) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ValueError("the reply came in an encoding that was not asked for")
        limit = self._transport.max_reply_bytes
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > limit:
                raise ValueError(f"the reply is larger than {limit:,} bytes")
        return bytes(body)

    def _decode(self, method: str, path: str, got: Reply, shape: type[T], *, buys: bool) -> T:
        judged = self._judge(got) if self._judge else None
        if judged is not None:  # a 2xx that hides an error
            raise self._verdict(got, judged, (Outcome.UNKNOWN, Kind.UNKNOWN, Verdict.UNSURE))
        value = got.json(shape)
        if value is None:
            message = self.scrub(f"{method} {path} answered {got.status} with a body that is not the expected JSON")
            fault = Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE if buys else Verdict.SAME, message=message)
            raise ProviderError(fault, outcome=Outcome.UNKNOWN, status=got.status)
        return value

    def _error(self, method: str, path: str, got: Reply, *, buys: bool) -> ProviderError:
        usual = _usual(got.status, buys=buys)
        judged = self._judge(got) if self._judge else None
        if judged is None:
            said = self.scrub(got.body.decode("utf-8", "replace"))[:200]  # cut last: half a key is a key
            message = f"{method} {path} answered {got.status}" + (f": {said}" if said else "")
            judged = Judged(fault=Fault(kind=usual[1], verdict=usual[2], message=message))
        return self._verdict(got, judged, usual)

    def _verdict(self, got: Reply, judged: Judged, usual: tuple[Outcome, Kind, Verdict]) -> ProviderError:
        fault = msgspec.structs.replace(judged.fault, message=self.scrub(judged.fault.message))
        return ProviderError(
            fault,
            outcome=judged.outcome or usual[0],
            status=got.status,
            retry_after_seconds=retry_after(got.headers.get("retry-after"), now=time.time()),
        )

    def _broken(self, method: str, path: str, error: Exception, outcome: Outcome, *, buys: bool) -> ProviderError:
        kind = Kind.TIMEOUT if isinstance(error, httpx.TimeoutException | TimeoutError) else Kind.UNAVAILABLE
        verdict = Verdict.SAME if not buys else Verdict.ELSEWHERE if outcome is Outcome.NOT_SENT else Verdict.UNSURE
        where = (path if "://" in path else f"{self._base}{path.lstrip('/')}").partition("?")[0]
        said = f"{method} {where}: {type(error).__name__} {error}"
        return ProviderError(Fault(kind=kind, verdict=verdict, message=self.scrub(said)), outcome=outcome)

    def scrub(self, text: str) -> str:
        """`text` without any credential of this door, on one line, at most 500 characters."""
        for secret in filter(None, self._secrets):
            text = text.replace(secret.reveal(), "•••")
        return " ".join(text.split())[:MAX_MESSAGE_CHARS]


def _usual(status: int, *, buys: bool) -> tuple[Outcome, Kind, Verdict]:
    """The shared table. A call that buys nothing may always be asked again; its kind still says what was wrong."""
    if buys:
        return _OUTCOMES.get(status, (Outcome.UNKNOWN, Kind.UNKNOWN, Verdict.UNSURE))
    if status == 404:
        return Outcome.REJECTED, Kind.OPERATION_LOST, Verdict.SAME
    return Outcome.REJECTED, _REJECTED.get(status, Kind.UNAVAILABLE), Verdict.SAME


def retry_after(text: str | None, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After header (a number or an HTTP date), within 0 to 300; None when it is neither."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if seconds == seconds else None


__all__: Sequence[str] = ("Door", "FetchRefused", "Fetched", "Judge", "Judged", "Reply", "Transport", "retry_after")
