"""Where the event loop hands orders to the store's threads and gets them back answered.

Law: an order is answered on the loop, whoever still waits for it. The desk costs the loop at most a tenth of a
millisecond in every one, and only while somebody waits for the store.

Why the loop gives way: a loop with more work than time lets go of the interpreter lock for a microsecond at a time
(each poll of its sockets), too short for a waiting thread to wake up and take it, yet often enough that the
interpreter never calls the loop a hog. A thread that needs the lock for each of its statements then stands still: with
32 callers beside a loop busy in slices of 0.1 ms, an accept took two seconds; with the naps, 30 ms at the 99th
percentile (uvloop alike).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from gateway.store.transactions import Transaction

T = TypeVar("T")

NAP_EVERY_SECONDS = 0.001
NAP_SECONDS = 0.0001


class Order(Generic[T]):
    """A transaction on its way through a thread of the store, and who waits for it."""

    __slots__ = ("error", "future", "landed", "result", "transaction")

    def __init__(
        self, transaction: Transaction[T], future: asyncio.Future[T], landed: Callable[[T], None] | None
    ) -> None:
        self.transaction = transaction
        self.future = future
        self.landed = landed
        self.result: T | None = None
        self.error: Exception | None = None


class Desk:
    """The loop's side. `answer` alone may be called on another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting = 0
        self._ticking = False

    def order(self, transaction: Transaction[T], landed: Callable[[T], None] | None = None) -> Order[T]:
        """`landed` gets the result on the loop, before whoever awaits the order's future."""
        self._waiting += 1
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(NAP_EVERY_SECONDS, self._give_way)
        return Order(transaction, self._loop.create_future(), landed)

    def answer(self, orders: Sequence[Order[Any]]) -> None:
        """Bring finished orders back to the loop, by one call for all of them."""
        with suppress(RuntimeError):  # the loop is gone, and with it everybody who waited
            self._loop.call_soon_threadsafe(self._deliver, orders)

    def _deliver(self, orders: Sequence[Order[Any]]) -> None:
        self._waiting -= len(orders)
        for order in orders:
            if order.error is None and order.landed is not None:
                order.landed(order.result)
            if order.future.done():  # whoever waited has gone away
                continue
            if order.error is None:
                order.future.set_result(order.result)
            else:
                order.future.set_exception(order.error)

    def _give_way(self) -> None:
        if self._waiting:
            time.sleep(NAP_SECONDS)
            self._loop.call_later(NAP_EVERY_SECONDS, self._give_way)
        else:
            self._ticking = False
