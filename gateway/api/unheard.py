"""Jobs whose answer never reached whoever asked for them, so that the same question asked again is not a second job.

Some clients send a POST again when its reply was lost, with nothing that says so. Law: two equal requests are two jobs,
unless the first one's caller is known to have hung up before its answer left: then the next equal request of the same
key, within SECONDS, gets that job, and only the next.

What cannot be known is not guessed: an answer that was written to the connection and lost on its way counts as heard.
And this memory is the process's own: a crash between a job and its answer, or a second try at another replica, is a
second job. (An `Idempotency-Key` has neither limit, for clients that can send one.)
"""

from __future__ import annotations

import asyncio
from collections import deque

from litestar.types import Receive, Scope, Send

from gateway.api.answers import Answer

SECONDS = 30.0

Mark = tuple[str, ...]  # whose, and what


class Question:
    """One request on its way to a job, and whether its caller still listens."""

    def __init__(self, lost: Unheard, mark: Mark, receive: Receive) -> None:
        self._lost = lost
        self._mark = mark
        self.job: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.hung_up = asyncio.ensure_future(_until_gone(receive))
        self.hung_up.add_done_callback(self._gone)

    def _gone(self, listening: asyncio.Future[None]) -> None:
        if not listening.cancelled() and listening.exception() is None:
            self._lost.put(self._mark, self.job)

    def became(self, job_id: str | None) -> None:
        """The job that it came to; None when it came to none."""
        if not self.job.done():
            self.job.set_result(job_id)

    def over(self) -> None:
        """Its answer leaves now: nothing that happens later is known to be a loss."""
        self.hung_up.cancel()
        self.became(None)


class Heard(Answer):
    """An answer whose leaving ends its question. Made from another answer."""

    __slots__ = ("_question",)

    def __init__(self, answer: Answer, question: Question) -> None:
        self.body, self.status, self.headers = answer.body, answer.status, answer.headers
        self.request_id = answer.request_id
        self._question = question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._question.over()
        await super().__call__(scope, receive, send)


class Unheard:
    """The jobs that wait to be asked for again."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._waiting: dict[Mark, deque[asyncio.Future[str | None]]] = {}

    def ask(self, mark: Mark, receive: Receive) -> Question:
        """Begin a question whose body has been read. End it by `over`, or hand it to the answer (`Heard`)."""
        return Question(self, mark, receive)

    def put(self, mark: Mark, job: asyncio.Future[str | None]) -> None:
        self._waiting.setdefault(mark, deque()).append(job)
        asyncio.get_running_loop().call_later(self._seconds, self._forget, mark, job)

    def take(self, mark: Mark) -> asyncio.Future[str | None] | None:
        """The oldest job of an equal request that nobody heard of, or will be: it may still be on its way."""
        waiting = self._waiting.get(mark)
        if not waiting:
            return None
        job = waiting.popleft()
        if not waiting:
            del self._waiting[mark]
        return job

    def _forget(self, mark: Mark, job: asyncio.Future[str | None]) -> None:
        waiting = self._waiting.get(mark)
        if waiting is not None and job in waiting:
            waiting.remove(job)
            if not waiting:
                del self._waiting[mark]


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
