"""The two realms of one worker: live jobs are bought by one buyer, those of test keys by another.

Law: a job, its attempts and the lines that they go out on are of one realm, for ever. What would cross over is a defect
and raises before anything leaves; a test job's line ends at an adapter that can buy nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.jobs import Attempt, Job
from gateway.worker.buyer import Buyer, Line, WrongRealm
from providers.spec import BuysNothing


class Realms:
    """Who buys for whom."""

    def __init__(self, live: Buyer, test: Buyer | None = None) -> None:
        if live.test or (test is not None and not test.test):
            raise WrongRealm("a buyer stands in the other one's place")
        self._live = live
        self._test = test

    def __iter__(self) -> Iterator[Buyer]:
        yield self._live
        if self._test is not None:
            yield self._test

    def of(self, one: Job | Attempt) -> Buyer:
        """The buyer of this job's or attempt's realm. Raises WrongRealm where there is none."""
        if not one.test:
            return self._live
        if self._test is None:
            raise WrongRealm(f"{one.id} belongs to a test key, and nobody here serves those")
        return self._test

    def line(self, attempt: Attempt) -> Line | None:
        """The account that an attempt goes out on; None when it is gone."""
        return self.of(attempt).line(attempt.provider, attempt.account)

    def position(self, job_id: str) -> int | None:
        """How many jobs will be served before this one; None when it does not wait."""
        places = (buyer.turns.position(job_id) for buyer in self)
        return next((place for place in places if place is not None), None)

    def leave(self, job_id: str) -> None:
        """Out of every line."""
        for buyer in self:
            buyer.turns.leave(job_id)

    def next_turns(self, *, now_us: int) -> list[str]:
        """The jobs whose turn it is, one for each provider that has a slot free."""
        return [job for buyer in self for job in buyer.next_turns(now_us=now_us)]


def must_be_of_one_realm(one: Job | Attempt, line: Line) -> None:
    """The last look before anything leaves: by its own word, the line's, and the adapter's. Raises WrongRealm."""
    if one.test is not line.test:
        raise WrongRealm(f"{one.id} (test: {one.test}) on the line {line.provider}/{line.account}")
    if one.test and not isinstance(line.adapter, BuysNothing):
        raise WrongRealm(f"{one.id} is a test, and {line.provider}/{line.account} can buy")
