"""Live figures of each backend: how long its renders take, how often they succeed, what is in flight, who is out.

Law: pure: `now` and observations in, figures out; no I/O, no clock, no randomness; memory is bounded. Figures are a
blend of the catalogue's prior and what was seen, and what was seen fades. The caller's own faults, a cancel and a 429
say nothing about a backend's worth and never count against it; a submit that bought nothing counts for the circuit,
never for the chance that a render ends well.

Three things make the figures quick, since news of a render is minutes old when it comes:
- what one kind of clip teaches of a backend's pace is believed of its other kinds, until they are seen themselves;
- renders that are out longer than nearly all are evidence before they end: while several are overdue at once, the
  backend counts as that much slower;
- a backend that has grown slow, and so is sent nothing, is counted at its settled pace for one job now and then, which
  tells whether it has recovered.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from gateway.buckets import bucket, scale_of
from gateway.catalogue import Backend
from gateway.circuits import ACCOUNT_REST_US, SECOND_US, AccountRest, Circuit
from gateway.jobs import Attempt, AttemptState
from gateway.renders import HALF_LIFE_US, Renders, fade
from providers.spec import Fault, Frozen, Kind

PRIOR_RENDERS = 1.0  # the catalogue's typical_seconds weigh as much as this many renders
PRIOR_SUCCESSES, PRIOR_FAILURES = 9.0, 1.0  # vendors' renders fail one time in eight to one in four in the field
OUTCOMES_WINDOW = 60.0  # good and bad ends that are remembered at most
PACE_RENDERS = 4.0  # and a backend's pace over all clips as this many of one kind
DRIFT_PER_HOUR = 0.3  # standard deviation of what an hour does to the logarithm of a pace that nobody looks at
WIDEST = 0.8  # the most that is ever doubted
OVERDUE, OVERDUE_SHARE = 2, 0.08  # so many open renders, and so many of all, must be late before it says something
SETTLED_WINDOW, SETTLED_RENDERS = 100.0, 8.0
SLOWER, TRIAL_US = math.log(1.3), 50 * SECOND_US  # a backend this much slower than settled is tried this often
AGAIN_RENDERS = 5.0  # a settled pace that has returned is believed as after this many renders
CLIP = 0.5  # one render moves what is settled as if it were off by no more than this
MAX_TRACKS, MAX_BUCKETS = 4096, 40  # backends; buckets of one backend. The one unseen for longest goes first
Z95 = 1.6448536269514722  # standard normal quantile of 0.95

__all__ = ["ACCOUNT_REST_US", "HALF_LIFE_US", "SECOND_US", "Z95", "Figures", "Health", "bucket"]

_SAYS_NOTHING = frozenset({Kind.RATE_LIMITED, Kind.CANCELLED})


class Figures(Frozen, gc=False):
    """What is known of one backend for one bucket, now."""

    p50_seconds: float  # submit → done
    p95_seconds: float
    success: float  # chance that a render ends well, 0 to 1
    samples: int  # renders that these times rest on, as far as they have not faded; 0: the catalogue's prior alone
    in_flight: int  # renders that are out at the provider, on any of its backends: they share its accounts' slots
    slots: int  # renders at once over all of the provider's accounts
    available: bool
    why: str = ""  # why not available, for people
    error: float = 0.0  # standard error of the logarithm of p50
    waiting: int = 0  # jobs here that wait for a slot of the provider
    overdue: int = 0  # renders that are out for longer than 95 % of those before them
    trial: bool = False  # the times are its settled ones, for one job that tries whether it has recovered

    @property
    def sigma(self) -> float:
        """Spread of the logarithm of render seconds."""
        return math.log(self.p95_seconds / self.p50_seconds) / Z95


class _Known:
    """What is remembered of one backend over all its buckets."""

    __slots__ = ("at_us", "bad", "cells", "circuit", "faults", "good", "open", "pace", "sent_us", "settled")

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us
        self.good = self.bad = 0.0
        self.faults: dict[Kind, float] = {}
        self.circuit = Circuit()
        self.open: dict[tuple[int, str], int] = {}  # start and bucket → how many, in the order of their start
        self.sent_us = 0
        self.cells: dict[str, Renders] = {}  # by bucket
        self.pace: Renders | None = None  # logarithm of seconds, over all buckets, as if of clips of 5 s
        self.settled: Renders | None = None  # likewise, over a longer time

    def count(self, at_us: int, kind: Kind | None) -> None:
        """One render ended: well, or with this fault."""
        kept = fade(at_us - self.at_us) * min(1.0, OUTCOMES_WINDOW / (self.good + self.bad + 1.0))
        self.good, self.bad, self.at_us = self.good * kept, self.bad * kept, max(at_us, self.at_us)
        for known in self.faults:
            self.faults[known] *= kept
        share = fade(self.at_us - at_us)
        if kind is None:
            self.good += share
        else:
            self.bad += share
            self.faults[kind] = self.faults.get(kind, 0.0) + share

    def rendered(self, bucket: str, x: float, at_us: int) -> None:
        """One render ended well, with this logarithm of its seconds."""
        like_five = x - scale_of(bucket)
        if self.pace is None or self.settled is None:
            self.pace, self.settled = Renders(at_us), Renders(at_us, SETTLED_WINDOW)
        settled = self.settled
        if settled.weight >= SETTLED_RENDERS:
            if self.pace.mean - settled.mean > SLOWER >= like_five - settled.mean:
                self.pace = settled.copy(AGAIN_RENDERS)  # it is what it was: what it was meanwhile is void
                self.cells.clear()
            # a bad hour is not what it has settled at; a lasting change moves it all the same
            settled.add(settled.mean + min(max(like_five - settled.mean, -CLIP), CLIP), at_us)
        else:
            settled.add(like_five, at_us)
        self.pace.add(like_five, at_us)
        if bucket not in self.cells and len(self.cells) >= MAX_BUCKETS:
            del self.cells[next(iter(self.cells))]
        self.cells.setdefault(bucket, Renders(at_us)).add(x, at_us)


class _Times(NamedTuple):
    """Of one backend and bucket, as worked out for one moment."""

    p50: float
    p95: float
    error: float
    samples: int
    overdue: int
    trial: bool


class Health:
    """The figures of every backend on this process. One instance; called by the worker only, read by the router.

    `accounts` names each provider's accounts; a provider that is not named has the one account `main`. `slots` gives
    the renders at once over all accounts of a provider, where the operator knows better than the catalogue's row.
    """

    def __init__(
        self, accounts: Mapping[str, Collection[str]] | None = None, slots: Mapping[str, int] | None = None
    ) -> None:
        self._accounts = {provider: tuple(names) for provider, names in (accounts or {}).items()}
        self._counts = {provider: len(names) or 1 for provider, names in self._accounts.items()}
        self._slots = dict(slots or {})
        self._limits: dict[str, int] = {}  # providers that take fewer just now
        self._waiting: dict[str, int] = {}
        self._known: dict[str, _Known] = {}  # in the order of their last news
        self._in_flight: dict[str, int] = {}  # by provider
        self._rests: dict[tuple[str, str], AccountRest] = {}

    # --- what is told ---

    def observe(
        self,
        *,
        backend: str,
        bucket: str,
        at_us: int,
        render_seconds: float | None,
        fault: Fault | None,
        account: str = "main",
        bought: bool = True,
    ) -> None:
        """One attempt came to an end: with its render time (submit → done), or with its fault.

        `bought` is False for a submit that was not taken. A fault of the operator's (a refused key, an empty balance)
        takes the account out: for a minute at first, then one job tries it, and each vain try doubles the rest.
        """
        known = self._of(backend, at_us)
        if fault is None:
            known.circuit.succeed()
            known.count(at_us, None)
            if render_seconds is not None:
                known.rendered(bucket, math.log(max(render_seconds, 0.001)), at_us)
        elif fault.kind.is_operators:
            self._rests.setdefault((_provider(backend), account), AccountRest()).refuse(at_us)
        elif fault.kind.is_callers or fault.kind in _SAYS_NOTHING:
            return
        elif not bought:
            known.circuit.refuse(at_us)
        else:
            known.circuit.fail(at_us)
            known.count(at_us, fault.kind)

    def started(self, backend: str, *, bucket: str = "", account: str = "main", at_us: int = 0) -> None:
        """An attempt goes out to this backend. With its bucket and start it is evidence before it ends."""
        provider = _provider(backend)
        self._in_flight[provider] = self._in_flight.get(provider, 0) + 1
        known = self._of(backend, at_us)
        known.sent_us = max(known.sent_us, at_us)
        known.open[at_us, bucket] = known.open.get((at_us, bucket), 0) + 1
        rest = self._rests.get((provider, account))
        for tried in (known.circuit if known.circuit.is_open else None, rest):
            if tried is not None and tried.trying is None and tried.until_us <= at_us:
                tried.trying = at_us

    def accepted(self, backend: str, *, account: str = "main") -> None:
        """The vendor took an attempt on: what only submits had closed is open again."""
        self._rests.pop((_provider(backend), account), None)
        known = self._known.get(backend)
        if known is not None:
            known.circuit.take()

    def ended(self, backend: str, *, bucket: str = "", account: str = "main", at_us: int = 0) -> None:
        """An attempt on this backend is over, however it ended. Bucket and start are those that `started` was told."""
        provider = _provider(backend)
        count = self._in_flight.pop(provider, 0) - 1
        if count > 0:
            self._in_flight[provider] = count
        rest, known = self._rests.get((provider, account)), self._known.get(backend)
        for tried in (rest, known.circuit if known is not None else None):
            if tried is not None and tried.trying == at_us:
                tried.trying = None
        if known is None:
            return
        if known.open.get((at_us, bucket), 0) > 1:
            known.open[at_us, bucket] -= 1
        else:
            known.open.pop((at_us, bucket), None)

    def block(self, provider: str, account: str, until_us: int) -> None:
        """Take an account out until then."""
        rest = self._rests.setdefault((provider, account), AccountRest())
        rest.until_us = until_us

    def waits(self, provider: str, count: int) -> None:
        """So many jobs wait here for a slot of this provider."""
        self._waiting[provider] = count

    def limit(self, provider: str, slots: int | None) -> None:
        """The provider takes no more than so many renders at once just now; None: as many as it should."""
        if slots is None:
            self._limits.pop(provider, None)
        else:
            self._limits[provider] = max(slots, 1)

    def rebuild(self, attempts: Iterable[Attempt]) -> None:
        """Learn from stored attempts, in any order. Open ones are passed by (the worker tells of them by `started`),
        and rests are not restored: whoever starts the process again may just have put the account right."""
        ended = (attempt for attempt in attempts if not attempt.state.is_open and attempt.ended_us is not None)
        for attempt in sorted(ended, key=lambda attempt: attempt.ended_us or 0):
            if attempt.state is not AttemptState.SUCCEEDED and attempt.fault is None:
                continue
            took = None
            if attempt.fault is None and attempt.accepted_us is not None and attempt.ended_us is not None:
                took = (attempt.ended_us - attempt.accepted_us) / SECOND_US
            self.observe(
                backend=attempt.backend,
                bucket=attempt.bucket,
                at_us=attempt.ended_us or 0,
                render_seconds=took,
                fault=attempt.fault,
                account=attempt.account,
                bought=attempt.state not in (AttemptState.NOT_SENT, AttemptState.REJECTED),
            )
        self._rests.clear()

    # --- what is asked ---

    def figures(self, backend: Backend, bucket: str, *, now_us: int) -> Figures:
        """What is known of a backend for a bucket."""
        provider = backend.provider
        known = self._known.get(backend.id)
        good, bad, why = PRIOR_SUCCESSES, PRIOR_FAILURES, ""
        if known is not None:
            kept = fade(now_us - known.at_us)
            good, bad = good + known.good * kept, bad + known.bad * kept
            why = known.circuit.why_not(now_us)
        if self._rests:
            why = self._why_no_account(provider, now_us) or why
        times = self._times(backend, bucket, known, now_us)
        slots = self._slots.get(provider) or backend.max_in_flight * self._counts.get(provider, 1)
        if provider in self._limits:
            slots = min(slots, self._limits[provider])
        return Figures(
            p50_seconds=times.p50,
            p95_seconds=times.p95,
            success=good / (good + bad),
            samples=times.samples,
            in_flight=self._in_flight.get(provider, 0),
            slots=slots,
            available=not why,
            why=why,
            error=times.error,
            waiting=self._waiting.get(provider, 0),
            overdue=times.overdue,
            trial=times.trial,
        )

    def faults(self, backend: str, *, now_us: int) -> dict[Kind, float]:
        """How often renders of this backend failed of late, by kind; faded."""
        known = self._known.get(backend)
        if known is None:
            return {}
        kept = fade(now_us - known.at_us)
        return {kind: count * kept for kind, count in known.faults.items() if count * kept >= 0.01}

    def account_available(self, provider: str, account: str, *, now_us: int) -> bool:
        """Whether an account may be used; for choosing one of several."""
        rest = self._rests.get((provider, account))
        return rest is None or not rest.is_out(now_us)

    def _times(self, backend: Backend, bucket: str, known: _Known | None, now_us: int) -> _Times:
        typical, scale = backend.typical_seconds, scale_of(bucket)
        prior, variance = _prior(typical.p50, typical.p95)
        if known is None or (known.pace is None and not known.open):
            p50 = math.exp(prior + scale)
            return _Times(p50, p50 * typical.p95 / typical.p50, min(math.sqrt(variance), WIDEST), 0, 0, False)
        pace = known.pace
        faded = 0.0 if pace is None else pace.weight * fade(now_us - pace.at_us)
        mean = prior if pace is None else (PRIOR_RENDERS * prior + faded * pace.mean) / (PRIOR_RENDERS + faded)
        squares, count = PRIOR_RENDERS * variance, PRIOR_RENDERS
        if pace is not None and pace.weight:
            squares, count = squares + pace.spread * faded / pace.weight, count + faded
        sigma = math.sqrt(squares / count)
        late, excess = _overdue(known.open, mean, sigma, now_us)
        settled = known.settled
        if pace is not None and settled is not None and settled.weight >= SETTLED_RENDERS:
            slower = pace.mean + excess - settled.mean
            if slower > SLOWER and now_us - known.sent_us >= TRIAL_US:
                p50 = math.exp(settled.mean + scale)
                return _Times(p50, p50 * math.exp(Z95 * sigma), 0.0, round(settled.weight), late, True)
        own = known.cells.get(bucket)
        weight = 0.0 if own is None else own.weight * fade(now_us - own.at_us)
        like = PRIOR_RENDERS + min(faded, PACE_RENDERS)
        centre = mean + scale
        if own is not None:
            centre = (like * centre + weight * own.mean) / (like + weight)
        age_hours = 0.0 if pace is None else max(now_us - pace.at_us, 0) / 3.6e9
        error = math.sqrt(sigma * sigma / (like + weight) + DRIFT_PER_HOUR * DRIFT_PER_HOUR * age_hours)
        centre += excess
        return _Times(math.exp(centre), math.exp(centre + Z95 * sigma), min(error, WIDEST), round(weight), late, False)

    def _why_no_account(self, provider: str, now_us: int) -> str:
        accounts = self._accounts.get(provider) or ("main",)
        rests = [self._rests.get((provider, account)) for account in accounts]
        out = [rest for rest in rests if rest is not None and rest.is_out(now_us)]
        if len(out) < len(rests):
            return ""
        which = "its account is" if len(accounts) == 1 else "all of its accounts are"
        until = min(rest.until_us for rest in out)
        if until <= now_us:
            return "one job is out to try its account again: the vendor had refused the credential or the balance"
        left = math.ceil((until - now_us) / SECOND_US)
        return f"{which} out for {left} s more: the vendor refused the credential or the balance"

    def _of(self, backend: str, at_us: int) -> _Known:
        found = self._known.pop(backend, None) or _Known(at_us)
        self._known[backend] = found
        if len(self._known) > MAX_TRACKS:
            del self._known[next(iter(self._known))]
        return found


def _provider(backend: str) -> str:
    return backend.partition("/")[0]


def _overdue(open_: Mapping[tuple[int, str], int], mean: float, sigma: float, now_us: int) -> tuple[int, float]:
    """How many open renders are out for longer than 95 % of those before them, and by how much the backend is slower
    for it: nothing while they are few."""
    late, excess, soonest = 0, 0.0, now_us - int(math.exp(mean + Z95 * sigma) * SECOND_US)
    for (at_us, name), count in open_.items():
        if at_us > soonest:
            break  # the others went out later
        if at_us == 0:
            continue
        away = math.log((now_us - at_us) / SECOND_US) - mean - scale_of(name)
        if away > Z95 * sigma:
            late += count
            excess += count * away
    if late < max(OVERDUE, OVERDUE_SHARE * len(open_)):
        return late, 0.0
    return late, excess / (late + 1)


@lru_cache(maxsize=MAX_TRACKS)
def _prior(p50: float, p95: float) -> tuple[float, float]:
    """Mean and variance of the logarithm of a 5 s clip's render seconds, by the catalogue."""
    return math.log(p50), (math.log(p95 / p50) / Z95) ** 2
