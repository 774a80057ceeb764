"""One day of one policy: jobs arrive, attempts are sent, rendered, failed and followed by others, on a virtual clock.

Law: discrete events in order of time; no socket, no task, no real clock. Attempts move by the gateway's own lifecycle
and are chosen, opened and closed by the gateway's own buyer, as the worker does it. A render's end is known
when it happens, as by a callback, but for one that is out when an outage begins: its next poll that is answered brings
the news. What is left out: all other polls (they are answered), lost replies, cancels.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway.jobs import Attempt, AttemptEvent, AttemptState, JobSpec, Routing, advance_attempt
from gateway.jobs import Job as GatewayJob
from gateway.worker.buyer import Choice, Pass, Wait
from providers.spec import Fault, Kind, Operation, Verdict
from tests.bench.routing import policies
from tests.bench.routing.scenarios import Scenario, catalogue, catalogue_changes
from tests.bench.routing.world import CLIPS, Job, World, true_prices

DEADLINE_SECONDS = 3600.0
PURSE = 2.0  # quotes, as the gateway ships

_SAYS = {
    "outage": Fault(kind=Kind.UNAVAILABLE, verdict=Verdict.ELSEWHERE, message="503"),
    "refuse": Fault(kind=Kind.INSUFFICIENT_FUNDS, verdict=Verdict.ELSEWHERE, message="402"),
    "limit": Fault(kind=Kind.RATE_LIMITED, verdict=Verdict.ELSEWHERE, message="429"),
}
_BROKE = Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE, message="the render failed")


class Sent(NamedTuple):
    """One submit."""

    at: float
    vendor: str
    taken: bool
    said: str  # "" when taken


class Done(NamedTuple):
    """One job's end."""

    at: float  # when it came
    finish: float | None  # seconds until its clip; None: it failed
    spent: float  # dollars
    vendor: str


class Day(NamedTuple):
    """All that came of a policy's day."""

    policy: str
    sent: list[Sent]
    done: list[Done]
    failed_renders: int
    open: list[tuple[float, dict[str, int]]]  # every 10 s
    limits: dict[str, int]


class _Run:
    """A job under way."""

    __slots__ = ("asked", "attempts", "gateway", "job", "over", "spent")

    def __init__(self, job: Job, gateway: GatewayJob) -> None:
        self.job = job
        self.gateway = gateway
        self.attempts: list[Attempt] = []
        self.spent = 0
        self.asked = 0  # how often it was due: a later look makes an earlier timer void
        self.over = False


class Simulation:
    """One policy against one world."""

    def __init__(self, world: World, scenario: Scenario, policy: str, *, stretch: float = 1.0) -> None:
        world.reset()
        first = catalogue(scenario, 0.0, stretch=stretch)
        self._world, self._scenario, self._stretch = world, scenario, stretch
        self._prices = true_prices(catalogue(Scenario(name="market"), 0.0))
        self._buyer = policies.make(policy, first, world, self._prices)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._now = 0.0
        self._left = len(world.jobs)
        self._runs: dict[str, _Run] = {}  # those under way
        self._sending: set[int] = set()
        self._running: dict[str, Attempt] = {}  # taken on, by attempt
        self._unheard: dict[str, Callable[[], None]] = {}  # in an outage: ended, and not known of
        limits = {row.provider: row.max_in_flight for row in first.backends}
        self.day = Day(policy, [], [], 0, [], limits)
        self._failed_renders = 0
        self._specs = [JobSpec(model="scene", video=clip) for clip, _ in CLIPS]

    def run(self) -> Day:
        """The whole day, until every job has ended."""
        for job in self._world.jobs:
            self._at(job.at, lambda job=job: self._arrives(job))  # type: ignore[misc]
        for when in catalogue_changes(self._scenario):
            self._at(when, self._reprice)
        for event in self._scenario.event:
            if event.kind == "outage":
                self._at(event.start, lambda vendor=event.vendor: self._poll_all(vendor))  # type: ignore[misc]
        self._at(0.0, self._sample)
        while self._agenda and self._left:
            self._now, _, happen = heapq.heappop(self._agenda)
            happen()
            self._call_next()
        return self.day._replace(failed_renders=self._failed_renders)

    # --- what happens ---------------------------------------------------------------------------------------------

    def _arrives(self, job: Job) -> None:
        gateway = GatewayJob(
            id=str(job.number),
            caller="key",
            spec=self._specs[job.clip],
            routing=Routing(backend="", provider="", reason="", estimated_cost_usd_micros=0),
            seconds=0,
            size="",
            purse_usd_micros=0,
            created_us=self._us(),
            deadline_us=self._us() + int(DEADLINE_SECONDS * 1e6),
        )
        decision, _ = self._buyer.decide(gateway, now_us=self._us())
        if decision.ranked:  # the API sets the purse by the decision that it made
            purse = int(PURSE * decision.ranked[0].quote.usd_micros)
        else:  # or answers 503 and the caller comes again; here the job waits with the dearest clip's purse
            purse = int(PURSE * max(prices[job.clip] for prices in self._prices.values()))
        run = _Run(job, _with(gateway, purse_usd_micros=purse))
        self._runs[gateway.id] = run
        self._step(run)

    def _step(self, run: _Run) -> None:
        """The job is due: its next attempt, a wait, or its end."""
        if run.over or run.job.number in self._sending:
            return
        run.asked += 1
        if self._us() >= run.gateway.deadline_us:
            self._ends(run, None)
            return
        match self._buyer.choose(run.gateway, run.attempts, now_us=self._us()):
            case Wait(seconds=seconds):
                asked = run.asked
                self._at(self._now + seconds, lambda: self._step(run) if run.asked == asked else None)
            case Pass():
                self._ends(run, None)
            case choice:
                self._send(run, choice)

    def _call_next(self) -> None:
        """Wake those whose turn it is, as the worker does after each step."""
        for _ in range(10_000):
            called = self._buyer.next_turns(now_us=self._us())
            if not called:
                return
            for job_id in called:
                self._step(self._runs[job_id])
        raise RuntimeError(f"jobs call each other for ever at {self._now}")

    def _send(self, run: _Run, choice: Choice) -> None:
        no = len(run.attempts) + 1
        attempt = self._buyer.attempt(run.gateway, choice, id=f"{run.job.number}.{no}", now_us=self._us())
        run.gateway = _with(run.gateway, attempts=no)
        run.attempts.append(attempt)
        self._sending.add(run.job.number)
        self._buyer.opened(attempt)
        self._buyer.free(choice)
        seconds = self._world.submit_seconds(attempt.provider)
        self._at(self._now + seconds, lambda: self._answered(run, attempt, seconds))

    def _answered(self, run: _Run, attempt: Attempt, took: float) -> None:
        said = self._world.says(attempt.provider, self._now)
        self.day.sent.append(Sent(self._now, attempt.provider, not said, said))
        self._buyer.acknowledged(attempt, took=took, now_us=self._us())
        if said:
            rejected = advance_attempt(
                attempt, AttemptEvent.REJECTED, fault=_SAYS[said], cost_usd_micros=0, ended_us=self._us()
            )
            self._close(run, rejected)
            return
        operation = Operation(provider=attempt.provider, id=attempt.id)
        running = advance_attempt(attempt, AttemptEvent.ACCEPTED, operation=operation, accepted_us=self._us())
        run.attempts[-1] = running
        self._running[running.id] = running
        self._buyer.taken(running)
        self._world.open[attempt.provider] += 1
        done, well = self._world.ends(run.job, attempt.provider, self._now)
        price = self._prices[attempt.provider][run.job.clip] * self._world.price_factor(attempt.provider, self._now)
        self._at(done, lambda: self._rendered(run, running, round(price), well))

    def _rendered(self, run: _Run, attempt: Attempt, price: int, well: bool) -> None:
        if attempt.id in self._unheard:  # the next poll brings the news
            self._unheard[attempt.id] = lambda: self._rendered(run, attempt, price, well)
            return
        del self._running[attempt.id]
        self._world.open[attempt.provider] -= 1
        if well:
            ended = advance_attempt(attempt, AttemptEvent.SUCCEEDED, cost_usd_micros=price, ended_us=self._us())
        else:
            self._failed_renders += 1
            cost = price if Kind.GENERATION_FAILED in attempt.bills else 0
            ended = advance_attempt(
                attempt, AttemptEvent.FAILED, fault=_BROKE, cost_usd_micros=cost, ended_us=self._us()
            )
        self._close(run, ended)

    def _poll_all(self, vendor: str) -> None:
        """An outage begins. Polls are followed until each render was heard of again: all others are answered."""
        for attempt in list(self._running.values()):
            if attempt.provider == vendor:
                self._unheard[attempt.id] = lambda: None
                self._look_later(attempt)

    def _look_later(self, attempt: Attempt) -> None:
        elapsed = self._now - (attempt.accepted_us or 0) / 1e6
        _, seconds = self._buyer.outlook(attempt, elapsed, now_us=self._us())
        self._at(self._now + seconds, lambda: self._look(attempt))

    def _look(self, attempt: Attempt) -> None:
        said = self._world.says(attempt.provider, self._now)
        fault = _SAYS[said] if said == "outage" else None
        self._buyer.health.polled(attempt.backend, at_us=self._us(), fault=fault)
        if fault is None:
            self._unheard.pop(attempt.id)()
        else:
            self._look_later(attempt)

    def _close(self, run: _Run, attempt: Attempt) -> None:
        run.attempts[-1] = attempt
        self._sending.discard(run.job.number)
        run.spent += attempt.spent_usd_micros
        self._buyer.closed(attempt, now_us=self._us())
        if attempt.state is AttemptState.SUCCEEDED:
            self._ends(run, attempt)
        else:
            self._step(run)

    def _ends(self, run: _Run, won: Attempt | None) -> None:
        self._left -= 1
        run.over = True
        self._buyer.turns.leave(run.gateway.id)
        del self._runs[run.gateway.id]
        finish = None if won is None else self._now - run.job.at
        vendor = "" if won is None else won.provider
        self.day.done.append(Done(run.job.at, finish, run.spent / 1e6, vendor))

    def _reprice(self) -> None:
        self._buyer.reprice(catalogue(self._scenario, self._now, stretch=self._stretch))

    def _sample(self) -> None:
        self.day.open.append((self._now, dict(self._world.open)))
        self._at(self._now + 10.0, self._sample)

    # --- the clock ------------------------------------------------------------------------------------------------

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, happen))

    def _us(self) -> int:
        return int(self._now * 1e6)


def _with(job: GatewayJob, **changes: int) -> GatewayJob:
    return msgspec.structs.replace(job, **changes)
