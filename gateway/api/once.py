"""One intent is one job: what a second sending of the same request is answered with.

Laws. Under an `Idempotency-Key` a request is one job for a day: sent again it gets the job as it is now; while the
first is still being accepted it is told to wait (409), with another body it is refused (422).

Without one, OpenAI's SDKs say by `x-stainless-retry-count` that they send again, and nothing else that would tell one
intent from another. So a first sending (count 0) leaves its fingerprint with its job, and a further one (count n) of
the same key within RETRY_SECONDS gets the newest such job that no other n-th sending was given; what is still being
accepted is waited for. Two equal requests that are both first ones stay two jobs.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import structlog
from litestar import Request

from gateway.api.answers import Header, header
from gateway.api.problems import RETRY, Problem
from gateway.jobs import Job
from gateway.store.spec import Accepted, Idempotency, Key, KeyReused, Store

log = structlog.get_logger(__name__)

SECOND = 1_000_000
MAX_KEY_CHARS = 255
KEY_LIVES_US = 24 * 3600 * SECOND
RETRY_SECONDS = 120
MOST_LOOKED_AT = 64  # equal requests of one key within RETRY_SECONDS
REMEMBERED = 10_000

REPLAYED: tuple[Header, ...] = ((b"idempotency-replayed", b"true"),)

Buy = Callable[[Idempotency | None], Awaitable[Accepted]]
_Mark = tuple[str, str]  # whose, and which


class Sending(NamedTuple):
    """What a request says of having been sent before."""

    key: str | None  # its Idempotency-Key
    times: int | None  # how often it was sent before, by its SDK; None: nobody says


def sending(request: Request[Any, Any, Any]) -> Sending:
    """Raises Problem 400 for a key of another shape."""
    key = header(request.scope, b"idempotency-key")
    if key is not None and (not 0 < len(key) <= MAX_KEY_CHARS or not (key.isascii() and key.isprintable())):
        message = f"An Idempotency-Key is 1 to {MAX_KEY_CHARS} printable ASCII characters."
        raise Problem(400, "invalid_idempotency_key", message, param="Idempotency-Key")
    count = header(request.scope, b"x-stainless-retry-count") or ""
    return Sending(key, int(count) if count.isascii() and count.isdigit() and len(count) < 4 else None)


class Once:
    """What is being bought in this process just now, and what was given to whom."""

    def __init__(self, store: Store, now_us: Callable[[], int]) -> None:
        self._store = store
        self._now_us = now_us
        self._keys: dict[_Mark, str] = {}  # Idempotency-Key → fingerprint
        self._firsts: dict[_Mark, list[asyncio.Future[None]]] = {}  # fingerprint → done, one for each
        self._given: OrderedDict[str, int] = OrderedDict()  # job → the count of the last sending that it was given to

    async def buy(self, caller: Key, sent: Sending, fingerprint: str, buy: Buy) -> Accepted:
        """What `buy` makes, at most once for one intent. Raises Problem, KeyReused, and what `buy` raises."""
        if sent.key is not None:
            return await self._by_key(caller, sent.key, fingerprint, buy)
        if sent.times is not None:
            return await self._by_count(caller, sent.times, fingerprint, buy)
        return await buy(None)

    async def _by_key(self, caller: Key, key: str, fingerprint: str, buy: Buy) -> Accepted:
        now = self._now_us()
        idempotency = Idempotency(key=key, fingerprint=fingerprint, expires_us=now + KEY_LIVES_US)
        first = await self._store.replayed(caller.id, idempotency, now)
        if first is not None:  # whatever the catalogue, the prices or the pictures have become since
            return Accepted(job=first, replayed=True)
        mark = (caller.id, key)
        under_way = self._keys.get(mark)
        if under_way is not None:
            if under_way != fingerprint:
                raise KeyReused("this idempotency key is being used for another request")
            message = "The first request with this Idempotency-Key is still being accepted. Ask again in a moment."
            raise Problem(
                409,
                "idempotency_in_progress",
                message,
                param="Idempotency-Key",
                headers=[(b"retry-after", b"1"), RETRY],
            )
        self._keys[mark] = fingerprint
        try:
            return await buy(idempotency)
        finally:
            del self._keys[mark]

    async def _by_count(self, caller: Key, count: int, fingerprint: str, buy: Buy) -> Accepted:
        mark, prefix = (caller.id, fingerprint), f"sent\n{fingerprint}\n"  # no caller's own key has a line break
        if count > 0:
            for pending in list(self._firsts.get(mark, ())):
                await asyncio.wait({pending})
            for job in await self._store.retried(caller.id, prefix, self._now_us(), limit=MOST_LOOKED_AT):
                if self._given.get(job.id, 0) < count:
                    self._give(job, count)
                    log.info("job.asked_again", job=job.id, count=count)
                    return Accepted(job=job, replayed=True)
        now = self._now_us()
        left = Idempotency(
            key=f"{prefix}{now:020}{secrets.token_hex(8)}",
            fingerprint=fingerprint,
            expires_us=now + RETRY_SECONDS * SECOND,
        )
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._firsts.setdefault(mark, []).append(done)
        try:
            accepted = await buy(left)
            if count > 0:
                self._give(accepted.job, count)
            return accepted
        finally:
            done.set_result(None)
            self._firsts[mark].remove(done)
            if not self._firsts[mark]:
                del self._firsts[mark]

    def _give(self, job: Job, count: int) -> None:
        self._given[job.id] = count
        self._given.move_to_end(job.id)
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)
