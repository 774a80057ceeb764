"""Which backend is tried next, with which account, and what it may cost.

Law: nothing is chosen that the caller's request, purse, deadline or `provider` object forbids, nor a backend that this
job has already bought from. Decides on what is known now; sends nothing and saves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from gateway.acceptance import Acceptance
from gateway.catalogue import Backend, Candidate, Catalogue, Code, UnknownModel, dollars, match
from gateway.catalogue.shapes import parse_size
from gateway.deciding import decide
from gateway.draws import seed_of
from gateway.health import Health, bucket
from gateway.jobs import Attempt, AttemptState, Job, Routing
from gateway.router import Decision, Policy, Ranked
from gateway.settings import Routing as RoutingSettings
from gateway.worker import pace
from gateway.worker.turns import Turns
from providers.spec import Fault, Kind, Provider, Verdict

SECOND = 1_000_000
NO_SLOT_SECONDS = 1.0  # until a job that found every account busy, and cannot wait its turn, asks again
NO_TURN_SECONDS = 15.0  # until a job that was never called asks again: a turn is called as soon as there is a slot
NO_BACKEND_SECONDS = 5.0  # until a job that found every backend resting asks again


class Line(NamedTuple):
    """One account, ready to be spoken to."""

    provider: str
    account: str
    adapter: Provider
    max_in_flight: int | None = None  # the operator's own limit; else the backend's
    max_submits_per_minute: float | None = None
    callbacks: bool = True
    test: bool = False  # for jobs of test keys, and for no others


class WrongRealm(Exception):
    """A live and a test job's things came together. A defect of ours; nothing was sent."""


class Choice(NamedTuple):
    """The next attempt's backend and account."""

    candidate: Candidate
    line: Line
    routing: Routing
    first_look_seconds: float


class Wait(NamedTuple):
    """Nothing now, something perhaps later."""

    seconds: float
    in_line: bool = False  # for a slot: woken when its turn comes


class Pass(NamedTuple):
    """Nothing any more: the job fails, for this reason."""

    code: str
    fault: Fault | None


class Buyer:
    """Chooses by the catalogue, the live figures and the operator's policy; knows how busy each account is."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        health: Health,
        policy: Policy,
        routing: RoutingSettings,
        lines: Sequence[Line],
        configured: Collection[str],
        acceptance: Acceptance | None = None,  # None: nobody has judged a clip
        test: bool = False,  # buys for jobs of test keys, and for no others
    ) -> None:
        if any(line.test is not test for line in lines):
            raise WrongRealm("a buyer was given a line of the other realm")
        self.health = health
        self.test = test
        self._catalogue = catalogue
        self._acceptance = acceptance or Acceptance()
        self._policy = policy
        self._routing = routing
        self._lines = {(line.provider, line.account): line for line in lines}
        self._configured = configured
        self._in_flight: Counter[tuple[str, str]] = Counter()
        self._slots: dict[tuple[str, str], pace.Slots] = {}  # accounts that have said "too many"
        self._sent: dict[tuple[str, str], pace.Bucket] = {}
        self._retries: dict[str, pace.Bucket] = {}  # by provider
        self.turns = Turns()
        self._backends = {backend.id: backend for backend in catalogue.backends}

    def line(self, provider: str, account: str) -> Line | None:
        return self._lines.get((provider, account))

    def free(self, choice: Choice) -> None:
        """Give back the slot that `choose` held for this choice: its attempt has one of its own by now, or none."""
        self._in_flight[choice.line.provider, choice.line.account] -= 1

    def opened(self, attempt: Attempt) -> None:
        """An attempt takes a slot, from its intent on."""
        self._must_be_mine(attempt)
        self._in_flight[attempt.provider, attempt.account] += 1
        self.health.started(attempt.backend, bucket=attempt.bucket, account=attempt.account, at_us=attempt.started_us)

    def taken(self, attempt: Attempt) -> None:
        """The vendor took an attempt on."""
        self.health.accepted(attempt.backend, account=attempt.account)

    def lost(self, attempt: Attempt, fault: Fault, *, now_us: int) -> None:
        """A submit's outcome is unknown: for the circuit it is one that was not taken, until it is found."""
        if not self.test:
            self._tell(attempt, now_us, fault=fault, bought=False)

    def polled(self, attempt: Attempt, *, now_us: int, fault: Fault | None = None) -> None:
        """A render was looked at: with an answer, or with this fault."""
        if not self.test:
            self.health.polled(attempt.backend, at_us=now_us, fault=fault)

    def closed(self, attempt: Attempt, *, now_us: int) -> None:
        """An attempt gives its slot back and is remembered for what it was."""
        account = attempt.provider, attempt.account
        self._in_flight[account] -= 1
        self.health.ended(attempt.backend, bucket=attempt.bucket, account=attempt.account, at_us=attempt.started_us)
        if self.test:
            return  # a staged failure is no news, and the next test is to fare like this one
        if attempt.state is AttemptState.REJECTED and attempt.fault and attempt.fault.kind is Kind.RATE_LIMITED:
            self._slots[account] = pace.fewer_slots(self._in_flight[account], now_us=now_us)
        render = None
        is_right = attempt.state is AttemptState.SUCCEEDED and attempt.fault is None  # else its clip is a wrong one
        if is_right and attempt.ended_us is not None:
            render = (attempt.ended_us - (attempt.accepted_us or attempt.started_us)) / SECOND
        elif attempt.fault is None:
            return
        fault, bought = attempt.fault if render is None else None, attempt.state not in pace.NOTHING_BOUGHT
        self._tell(attempt, now_us, fault=fault, bought=bought, render=render)

    def _tell(
        self, attempt: Attempt, now_us: int, *, fault: Fault | None, bought: bool, render: float | None = None
    ) -> None:
        self.health.observe(
            backend=attempt.backend,
            bucket=attempt.bucket,
            at_us=now_us,
            render_seconds=render,
            fault=fault,
            account=attempt.account,
            bought=bought,
        )

    def decide(
        self, job: Job, attempts: Sequence[Attempt] = (), *, now_us: int
    ) -> tuple[Decision, dict[str, Candidate]]:
        """The job's request, matched and ranked on what is known now and on what it has tried. Raises UnknownModel."""
        self._tell_limits(now_us)
        spec = job.spec
        target = self._catalogue.resolve(spec.model, self._routing.aliases)
        found = match(self._catalogue, target, spec.video, spec.preferences, configured=self._configured)
        decision = decide(
            found,
            self.health,
            self._acceptance,
            self._policy,
            spec.preferences,
            now_us=now_us,
            seed=seed_of(job.id),
            place=self.turns.place(job.id),
            left_usd_micros=job.purse_usd_micros - sum(attempt.spent_usd_micros for attempt in attempts),
            tried=[attempt.backend for attempt in attempts],
            left_seconds=(job.deadline_us - now_us) / SECOND,
        )
        return decision, {candidate.backend.id: candidate for candidate in found.candidates}

    def choose(self, job: Job, attempts: Sequence[Attempt], *, now_us: int) -> Choice | Wait | Pass:
        """What to try next, given everything that this job has tried. A Choice holds a slot until `free`."""
        self._must_be_mine(job)
        chosen = self._choose(job, attempts, now_us=now_us)
        if isinstance(chosen, Choice):
            self.turns.went(job.id, job.caller, chosen.line.provider)
        elif not (isinstance(chosen, Wait) and chosen.in_line):
            self.turns.leave(job.id)
        for provider in {provider for provider, _ in self._lines}:
            self.health.waits(provider, self.turns.waiting(provider))
        return chosen

    def _choose(self, job: Job, attempts: Sequence[Attempt], *, now_us: int) -> Choice | Wait | Pass:
        last = attempts[-1].fault if attempts else None
        code = pace.code_of(last) if last else "no_backend"
        if pace.taken_on(attempts) >= self._routing.max_attempts:
            return Pass(code, last)
        try:
            decision, candidates = self.decide(job, attempts, now_us=now_us)
        except UnknownModel as error:
            return Pass("model_not_found", Fault(kind=Kind.INVALID_REQUEST, verdict=Verdict.NEVER, message=str(error)))
        spent = sum(attempt.spent_usd_micros for attempt in attempts)
        refused = self._moderated(attempts)
        waits: list[float] = []
        over_purse: Ranked | None = None
        for ranked in decision.ranked:
            until = pace.closed_until(attempts, ranked.backend)
            if until > now_us:
                waits.append((until - now_us) / SECOND)
                continue
            candidate = candidates[ranked.backend]
            if candidate.backend.model in refused:
                continue
            if spent + candidate.quote.charge_usd_micros > job.purse_usd_micros:
                over_purse = over_purse or ranked
                continue
            provider = candidate.backend.provider
            line = self._free_line(candidate.backend, now_us=now_us)
            if line is None or not self.turns.may_go(job.id, provider):
                if now_us + int(ranked.expected_finish_seconds * SECOND) > job.deadline_us:
                    waits.append(NO_SLOT_SECONDS)  # its turn would come too late: perhaps the next one is free
                    continue
                # the ranking has counted the wait, so what comes after this one is worse than waiting for it
                self.turns.wait(job.id, job.caller, provider)
                return Wait(min([*waits, NO_TURN_SECONDS]), in_line=True)
            if not self._may_retry(provider, attempts, now_us=now_us):
                waits.append(pace.RETRY_SECONDS[1])
                continue
            self._in_flight[line.provider, line.account] += 1  # held until `free`: nobody else may take it
            if line.max_submits_per_minute:
                self._sent.setdefault((line.provider, line.account), pace.Bucket(line.max_submits_per_minute)).take(
                    now_us
                )
            return self._choice(candidate, ranked, line, now_us=now_us, again=bool(attempts))
        resting = any(refusal.code is Code.UNAVAILABLE for refusal in decision.refusals)
        if resting and not (last is not None and last.kind.is_operators):  # a refused account does not mend by waiting
            waits.append(NO_BACKEND_SECONDS)
        soonest = min(waits, default=float("inf"))
        if soonest != float("inf"):
            return Wait(soonest)
        if over_purse is None:
            late = next((refusal for refusal in decision.refusals if refusal.param == "deadline_seconds"), None)
            if last is not None or late is None:
                return Pass(code, last)
            message = f"nothing was bought, as it would have come too late: {late.message}"
            return Pass("expired", Fault(kind=Kind.TIMEOUT, verdict=Verdict.NEVER, message=message))
        message = (
            f"{over_purse.backend} could go on for {over_purse.quote}, but {dollars(spent)} of the job's purse of "
            f"{dollars(job.purse_usd_micros)} are spent or may be"
        )
        if last is None:
            return Pass("purse_exhausted", Fault(kind=Kind.UNSUPPORTED, verdict=Verdict.NEVER, message=message))
        return Pass(code, msgspec.structs.replace(last, message=f"{last.message}; {message}"))

    def could_follow(self, job: Job, attempts: Sequence[Attempt], *, now_us: int) -> bool:
        """Whether another backend could go on in time, and within the purse, were the last attempt stopped."""
        if not job.spec.preferences.allow_fallbacks or pace.taken_on(attempts) >= self._routing.max_attempts:
            return False
        try:
            decision, candidates = self.decide(job, attempts, now_us=now_us)
        except UnknownModel:
            return False
        stopped = attempts[-1]
        spent = sum(attempt.spent_usd_micros for attempt in attempts)
        if Kind.CANCELLED not in stopped.bills:
            spent -= stopped.spent_usd_micros
        return any(
            pace.closed_until(attempts, ranked.backend) <= now_us
            and spent + candidates[ranked.backend].quote.charge_usd_micros <= job.purse_usd_micros
            and now_us + int(ranked.expected_finish_seconds * SECOND) <= job.deadline_us
            for ranked in decision.ranked
        )

    def stuck_after(self, attempt: Attempt, *, now_us: int) -> float:
        """Seconds after which this attempt's render is out for longer than nearly all; infinity when nobody can say."""
        backend = self._backends.get(attempt.backend)
        if backend is None:
            return float("inf")
        figures = self.health.figures(backend, attempt.bucket, now_us=now_us)
        return pace.stuck_after(figures.p50_seconds, figures.sigma, least=self._routing.stuck_after_seconds)

    def next_turns(self, *, now_us: int) -> list[str]:
        """The jobs whose turn it is, one for each provider that has a slot free."""
        called = []
        for provider in self.turns.providers():
            rows = [row for row in self._backends.values() if row.provider == provider]
            widest = max(rows, key=lambda row: row.max_in_flight)
            if self._free_line(widest, now_us=now_us) is not None:
                job = self.turns.call(provider)
                called += [job] if job is not None else []
        return called

    def attempt(self, job: Job, choice: Choice, *, id: str, now_us: int) -> Attempt:
        """The attempt of this choice, as it is written down before its POST."""
        self._must_be_mine(job)
        backend, request = choice.candidate.backend, choice.candidate.request
        return Attempt(
            id=id,
            job=job.id,
            no=job.attempts + 1,
            state=AttemptState.SUBMITTING,
            backend=backend.id,
            provider=backend.provider,
            account=choice.line.account,
            model_id=backend.model_id[request.mode],
            price_usd_micros=choice.candidate.quote.charge_usd_micros,
            bills=backend.billed_endings,
            bucket=bucket(request),
            started_us=now_us,
            test=self.test,
        )

    def candidate_of(self, job: Job, attempt: Attempt, *, now_us: int) -> Candidate | None:
        """What this attempt's backend was asked, made anew; None when the backend is gone."""
        try:
            _, candidates = self.decide(job, now_us=now_us)
        except UnknownModel:
            return None
        return candidates.get(attempt.backend)

    def outlook(self, attempt: Attempt, elapsed: float, *, now_us: int) -> tuple[float, float]:
        """By the figures so far: the share of the render that is done (0 to 0.95), and seconds until the next look."""
        backend = self._backends.get(attempt.backend)
        if backend is None:
            return 0.0, pace.LONGEST_LOOK_SECONDS
        figures = self.health.figures(backend, attempt.bucket, now_us=now_us)
        look = pace.next_look(
            elapsed, p50=figures.p50_seconds, p95=figures.p95_seconds, floor=backend.poll_floor_seconds
        )
        return min(0.9 * elapsed / max(figures.p50_seconds, 0.1), 0.95), look

    def _must_be_mine(self, one: Job | Attempt) -> None:
        if one.test is not self.test:
            raise WrongRealm(f"{one.id} (test: {one.test}) came to the buyer of the other realm")

    def _choice(self, candidate: Candidate, ranked: Ranked, line: Line, *, now_us: int, again: bool) -> Choice:
        backend = candidate.backend
        figures = self.health.figures(backend, bucket(candidate.request), now_us=now_us)
        if self.test and (size := parse_size(candidate.size)) is not None:  # the vendor would know its own pixels
            request = msgspec.structs.replace(candidate.request, width=size[0], height=size[1])
            candidate = msgspec.structs.replace(candidate, request=request)
        routing = Routing(
            backend=backend.id,
            provider=backend.provider,
            reason=f"{ranked.reason}; chosen after another attempt failed" if again else ranked.reason,
            estimated_cost_usd_micros=candidate.quote.usd_micros,
            pretend=candidate.quote.pretend,
            eta_seconds=round(ranked.expected_finish_seconds, 1),
        )
        look = pace.next_look(0.0, p50=figures.p50_seconds, p95=figures.p95_seconds, floor=backend.poll_floor_seconds)
        return Choice(candidate, line, routing, look)

    def _moderated(self, attempts: Sequence[Attempt]) -> set[str]:
        """Models whose moderation has refused this clip. It is not taken round to others who sell the same one."""
        refused = (a.backend for a in attempts if a.fault is not None and a.fault.kind is Kind.CONTENT_POLICY)
        return {self._backends[backend].model for backend in refused if backend in self._backends}

    def _may_retry(self, provider: str, attempts: Sequence[Attempt], *, now_us: int) -> bool:
        """Whether a submit may go out by the provider's budget of retries; it is counted at once."""
        budget = self._retries.setdefault(provider, pace.Bucket(pace.RETRIES_PER_MINUTE))
        if not pace.is_retry(attempts, provider):
            budget.take(now_us, -pace.RETRY_SHARE)
            return True
        if not budget.allows(now_us):
            return False
        budget.take(now_us)
        return True

    def _tell_limits(self, now_us: int) -> None:
        """A provider that has said "too many" takes fewer for a while: the wait for a slot rests on it."""
        for provider in {provider for provider, _ in self._slots}:
            rows = [row for row in self._backends.values() if row.provider == provider]
            lines = [line for line in self._lines.values() if line.provider == provider]
            if rows:
                widest = max(rows, key=lambda row: row.max_in_flight)
                self.health.limit(provider, sum(self._limit(line, widest, now_us=now_us) for line in lines))

    def _free_line(self, backend: Backend, *, now_us: int) -> Line | None:
        """The least busy account of the backend's provider that is in service and has a slot left."""
        free = [
            (self._in_flight[account], line)
            for account, line in self._lines.items()
            if line.provider == backend.provider
            and self.health.account_available(*account, now_us=now_us)
            and self._in_flight[account] < self._limit(line, backend, now_us=now_us)
            and (account not in self._sent or self._sent[account].allows(now_us))
        ]
        return min(free, key=lambda pair: pair[0])[1] if free else None

    def _limit(self, line: Line, backend: Backend, *, now_us: int) -> int:
        """Renders at once: the operator's figure or the catalogue's, less where the vendor has said "too many"."""
        limit = line.max_in_flight or backend.max_in_flight
        cut = self._slots.get((line.provider, line.account))
        return limit if cut is None else min(limit, cut.now(now_us))
