"""What every vendor server is made of beside its routes: the ledger, the journal, the clock, and a job's way in time.

Law: the ledger is the oracle of money. A row is on disk before the first byte of the reply that acknowledges it, and
no row is ever changed.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import heapq
import itertools
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from tests.vendors.wire import Request

LEDGER = "ledger.jsonl"
REQUESTS = "requests.jsonl"
CALLBACKS = "callbacks.jsonl"
REDACTED = "•••"


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One billed job, written at the moment of its acceptance."""

    at_us: int
    id: str  # the vendor's
    endpoint: str
    account: str  # the public half of the key that bought it
    body_sha256: str
    callback_url: str = ""
    token: str = ""  # the last part of the callback's path, which names the attempt where the gateway puts one
    client_id: str = ""  # the caller's own id or idempotency key, at vendors that take one
    usd_micros: int | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request as it came, credentials out: of a secret header only its first word is kept."""

    at_us: int
    method: str
    path: str
    query: dict[str, list[str]] = {}
    headers: dict[str, str] = {}
    body: Any = None  # JSON as it stood; else text; else {"bytes": length, "sha256": …}


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver a callback; `status` 0: no answer."""

    at_us: int
    id: str
    url: str
    status: int


_Line = TypeVar("_Line", bound=msgspec.Struct)


class Journal(Generic[_Line]):
    """An append-only file of JSON lines, read back from disk."""

    def __init__(self, path: Path, kind: type[_Line], *, durable: bool = False) -> None:
        self.path = path
        self._kind = kind
        self._durable = durable
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)

    def write(self, line: _Line) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")
        if self._durable:
            os.fsync(self._file)

    def lines(self) -> list[_Line]:
        return read(self.path, self._kind)

    def close(self) -> None:
        os.close(self._file)


def read(path: Path, kind: type[_Line]) -> list[_Line]:
    """The lines of a journal, from another process too; none when the file is not there."""
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()] if path.exists() else []


_SECRET = re.compile(r"authorization|cookie|api-?key|secret|token")


def seen(request: Request, at_us: int) -> Seen:
    headers = dict(request.headers)
    for name in headers:
        if _SECRET.search(name):
            scheme, space, _ = headers[name].partition(" ")
            headers[name] = f"{scheme} {REDACTED}" if space else REDACTED
    return Seen(
        at_us=at_us,
        method=request.method,
        path=request.path,
        query=request.query,
        headers=headers,
        body=_readable(request.body),
    )


def _readable(body: bytes) -> Any:
    if not body:
        return None
    if len(body) <= 1 << 20:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        try:
            return body.decode()
        except UnicodeDecodeError:
            pass
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


class Clock:
    """Seconds since the server began: real ones, or virtual ones that pass only by `advance`."""

    def __init__(self, *, virtual: bool = False) -> None:
        self.virtual = virtual
        self._begun = time.monotonic()
        self._begun_us = time.time_ns() // 1000
        self._passed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._passed if self.virtual else time.monotonic() - self._begun

    def now_us(self) -> int:
        """The same moment as microseconds since 1970."""
        return self._begun_us + int(self.now() * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        if math.isinf(seconds):
            await asyncio.get_running_loop().create_future()
        if not self.virtual:
            await asyncio.sleep(seconds)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed + seconds, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Lets virtual time pass; whoever sleeps wakes in order, at the moment for which it asked."""
        await _settle()
        until = self._passed + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            when, _, wake = heapq.heappop(self._sleepers)
            self._passed = when
            if not wake.done():
                wake.set_result(None)
            await _settle()
        self._passed = until


async def _settle() -> None:
    """Lets whoever is awake run on to its next sleep."""
    for _ in range(10):
        await asyncio.sleep(0)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long renders take: `seconds`, of which the first third is spent in the queue. With `steps`, time plays no
    part: the job ends with that many polls of its status behind it (the first says queued, the others running)."""

    seconds: float = 0.3
    steps: int | None = None


class Phase(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Render:
    """One job's way from queued to done."""

    def __init__(self, clock: Clock, pace: Pace, *, stuck: bool = False) -> None:
        self._clock = clock
        self._pace = pace
        self._stuck = stuck
        self._polls = 0
        self._done = asyncio.Event()
        self._begun = clock.now()
        self._ended: float | None = None

    @property
    def phase(self) -> Phase:
        if self._done.is_set():
            return Phase.DONE
        if self._pace.steps is not None:
            return Phase.RUNNING if self._polls else Phase.QUEUED
        return Phase.RUNNING if self._clock.now() >= self._begun + self._pace.seconds / 3 else Phase.QUEUED

    @property
    def started_after(self) -> float:
        """Seconds from submit to the start of the render."""
        return 0.0 if self._pace.steps is not None else self._pace.seconds / 3

    @property
    def ended_after(self) -> float | None:
        """Seconds from submit to the end; None while it has not come."""
        return None if self._ended is None else self._ended - self._begun

    def poll(self) -> Phase:
        """The phase now; where steps count, this was one."""
        phase = self.phase
        self._polls += 1
        if self._pace.steps is not None and self._polls >= self._pace.steps and not self._stuck:
            self.finish()
        return phase

    def finish(self) -> None:
        """Ends it now, whatever the time."""
        if self._ended is None:
            self._ended = self._clock.now()
        self._done.set()

    async def run(self) -> None:
        """Returns when it is done; somebody must await this for time to have its way."""
        if self._pace.steps == 0 and not self._stuck:
            self.finish()
        if self._pace.steps is None and not self._stuck:
            sleep = asyncio.ensure_future(self._clock.sleep(self._pace.seconds))
            done = asyncio.ensure_future(self._done.wait())
            try:
                await asyncio.wait({sleep, done}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleep.cancel()
                done.cancel()
            self.finish()
        await self._done.wait()


def token_in(callback_url: str) -> str:
    """The last part of a callback's path: where the gateway puts the token of the attempt."""
    return callback_url.partition("?")[0].rstrip("/").rpartition("/")[2]


def accepted(
    *, request: Request, id: str, endpoint: str, account: str, at_us: int, callback_url: str = "", **more: Any
) -> Row:
    """The ledger's row for a job that `request` has bought."""
    return Row(
        at_us=at_us,
        id=id,
        endpoint=endpoint,
        account=account,
        body_sha256=hashlib.sha256(request.body).hexdigest(),
        callback_url=callback_url,
        token=token_in(callback_url),
        **more,
    )


def bearer(headers: Mapping[str, str], scheme: str) -> str | None:
    """What follows `scheme` in the Authorization header; None when it is not of that scheme."""
    given, _, text = headers.get("authorization", "").partition(" ")
    return text if given.lower() == scheme.lower() and text else None
