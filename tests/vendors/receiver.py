"""Somebody who is called back: an address that takes POSTs, keeps them, and answers as it is told.

Law: what it got is read without sleeping: `wait` returns when enough has come.
"""

from __future__ import annotations

import threading
import types
from typing import Self

from tests.vendors.wire import LoopThread, Reply, Request, Server


class Receiver:
    """`answers` are the statuses of the first replies; after them, 200."""

    def __init__(self, *answers: int, headers: dict[str, str] | None = None) -> None:
        self._answers = list(answers)
        self._headers = headers or {}
        self._got: list[Request] = []
        self._more = threading.Condition()
        self._server = Server(self._take)
        self.url = ""

    async def _take(self, request: Request) -> Reply:
        with self._more:
            self._got.append(request)
            self._more.notify_all()
        return Reply(status=self._answers.pop(0) if self._answers else 200, headers=self._headers)

    @property
    def got(self) -> list[Request]:
        with self._more:
            return list(self._got)

    def wait(self, count: int = 1, seconds: float = 10) -> list[Request]:
        """What has come, once it is `count` or more; raises TimeoutError when it does not become so many."""
        with self._more:
            if not self._more.wait_for(lambda: len(self._got) >= count, seconds):
                raise TimeoutError(f"{len(self._got)} of {count} calls came within {seconds} s")
            return list(self._got)

    def __enter__(self) -> Self:
        self._thread = LoopThread("receiver")
        self.url = self._thread.run(self._server.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._thread.run(self._server.stop())
        self._thread.stop()
