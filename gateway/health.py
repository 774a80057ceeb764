"""Live figures of each backend: how long its renders take, how often they succeed, what is in flight, who is out.

Law: pure: `now` and observations in, figures out; no I/O, no clock, no randomness; memory is bounded. Figures are a
blend of the catalogue's prior and what was seen, and what was seen fades: after HALF_LIFE an observation counts half.
The caller's own faults, a cancel and a 429 say nothing about a backend's worth and never count against it.

Render times are taken as log-normal, which fits what queues and renderers do (a few long ones, none below zero); so a
mean and a spread of logarithms per backend and bucket is all that is kept, and any quantile can be read from it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from gateway.catalogue import Backend
from gateway.jobs import Attempt, AttemptState
from providers.spec import Fault, Frozen, Kind, VideoRequest

SECOND_US = 1_000_000
HALF_LIFE_US = 3600 * SECOND_US
PRIOR_RENDERS = 3.0  # the catalogue's typical_seconds weigh as much as this many renders
PRIOR_SUCCESSES, PRIOR_FAILURES = 9.0, 1.0  # vendors' renders fail one time in eight to one in four in the field
CIRCUIT_FAILURES = 5  # in a row
CIRCUIT_REST_US = 30 * SECOND_US
ACCOUNT_REST_US = 600 * SECOND_US
MAX_TRACKS = 4096  # backend × bucket, and backends; the one unseen for longest goes first
Z95 = 1.6448536269514722  # standard normal quantile of 0.95

_BUCKET_SECONDS = (5, 10, 15, 30)
_LONGEST = _BUCKET_SECONDS[-1]
_BUCKETS = (
    *((f"≤{seconds}s/silent", f"≤{seconds}s/audio") for seconds in _BUCKET_SECONDS),
    (f">{_LONGEST}s/silent", f">{_LONGEST}s/audio"),
)
_SCALES = {  # a clip twice as long is taken to render twice as long, until it has been measured
    name: seconds / 5
    for seconds, names in zip((*_BUCKET_SECONDS, 2 * _LONGEST), _BUCKETS, strict=True)
    for name in names
}
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


def bucket(request: VideoRequest) -> str:
    """Under which a request's render time counts: duration and sound, like "≤5s/silent". An open one counts as 5 s."""
    seconds = request.seconds or 5
    for limit, names in zip(_BUCKET_SECONDS, _BUCKETS, strict=False):
        if seconds <= limit:
            return names[bool(request.audio)]
    return _BUCKETS[-1][bool(request.audio)]


class _Renders:
    """Decayed mean and spread of the logarithm of render seconds."""

    __slots__ = ("at_us", "mean", "spread", "weight")

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us
        self.weight = self.mean = self.spread = 0.0

    def add(self, seconds: float, at_us: int) -> None:
        fade = _fade(at_us - self.at_us)
        self.weight, self.spread, self.at_us = self.weight * fade, self.spread * fade, max(at_us, self.at_us)
        share = _fade(self.at_us - at_us)  # less than one only for news older than what is known
        x = math.log(max(seconds, 0.001))
        self.weight += share
        away = x - self.mean
        self.mean += away * share / self.weight
        self.spread += share * away * (x - self.mean)


class _Outcomes:
    """Decayed counts of good and bad ends of one backend, and its circuit."""

    __slots__ = ("at_us", "bad", "good", "in_a_row", "rests_until_us", "trying")

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us
        self.good = self.bad = 0.0
        self.in_a_row = 0
        self.rests_until_us = 0
        self.trying = False  # half-open: one job is out to see whether it works again

    def add(self, at_us: int, *, ok: bool) -> None:
        fade = _fade(at_us - self.at_us)
        self.good, self.bad, self.at_us = self.good * fade, self.bad * fade, max(at_us, self.at_us)
        share = _fade(self.at_us - at_us)
        if ok:
            self.good += share
            self.in_a_row = self.rests_until_us = 0
            return
        self.bad += share
        self.in_a_row += 1
        if self.in_a_row >= CIRCUIT_FAILURES:
            self.rests_until_us = max(self.rests_until_us, at_us + CIRCUIT_REST_US)


class _Prior(NamedTuple):
    mean: float
    variance: float


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
        self._renders: dict[tuple[str, str], _Renders] = {}  # in the order of their last observation
        self._outcomes: dict[str, _Outcomes] = {}
        self._in_flight: dict[str, int] = {}  # by provider
        self._blocked: dict[tuple[str, str], int] = {}

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
    ) -> None:
        """One attempt came to an end: with its render time (submit → done), or with its fault.

        A fault of the operator's (a refused key, an empty balance) takes the account out for ten minutes.
        """
        known = self._outcomes.get(backend)
        if known is not None:
            known.trying = False
        if fault is None:
            self._blocked.pop((_provider(backend), account), None)
            self._outcome(backend, at_us).add(at_us, ok=True)
            if render_seconds is not None:
                self._render(backend, bucket, at_us).add(render_seconds, at_us)
        elif fault.kind.is_operators:
            self.block(_provider(backend), account, at_us + ACCOUNT_REST_US)
        elif not fault.kind.is_callers and fault.kind not in _SAYS_NOTHING:
            self._outcome(backend, at_us).add(at_us, ok=False)

    def started(self, backend: str) -> None:
        """An attempt goes out to this backend."""
        provider = _provider(backend)
        self._in_flight[provider] = self._in_flight.get(provider, 0) + 1
        known = self._outcomes.get(backend)
        if known is not None and known.in_a_row >= CIRCUIT_FAILURES:
            known.trying = True

    def ended(self, backend: str) -> None:
        """An attempt on this backend is over, however it ended."""
        provider = _provider(backend)
        count = self._in_flight.pop(provider, 0) - 1
        if count > 0:
            self._in_flight[provider] = count
        known = self._outcomes.get(backend)
        if known is not None:
            known.trying = False

    def block(self, provider: str, account: str, until_us: int) -> None:
        """Take an account out until then."""
        self._blocked[provider, account] = until_us

    def rebuild(self, attempts: Iterable[Attempt]) -> None:
        """Learn from stored attempts, in any order. Open ones are passed by (the worker tells of them by `started`),
        and blocks are not restored: whoever starts the process again may just have put the account right."""
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
            )
        self._blocked.clear()

    # --- what is asked ---

    def figures(self, backend: Backend, bucket: str, *, now_us: int) -> Figures:
        """What is known of a backend for a bucket."""
        typical = backend.typical_seconds
        outcomes = self._outcomes.get(backend.id)
        good, bad = PRIOR_SUCCESSES, PRIOR_FAILURES
        if outcomes is not None:
            fade = _fade(now_us - outcomes.at_us)
            good += outcomes.good * fade
            bad += outcomes.bad * fade
        why = ""
        if self._blocked or (outcomes is not None and outcomes.in_a_row >= CIRCUIT_FAILURES):
            why = self._why_not(backend, outcomes, now_us)
        renders = self._renders.get((backend.id, bucket))
        if renders is None:
            scale = _SCALES.get(bucket, 1.0)
            p50, p95, samples = typical.p50 * scale, typical.p95 * scale, 0
        else:
            p50, p95, samples = _blend(renders, _prior(typical.p50, typical.p95, _SCALES.get(bucket, 1.0)), now_us)
        return Figures(
            p50_seconds=p50,
            p95_seconds=p95,
            success=good / (good + bad),
            samples=samples,
            in_flight=self._in_flight.get(backend.provider, 0),
            slots=self._slots.get(backend.provider) or backend.max_in_flight * self._counts.get(backend.provider, 1),
            available=not why,
            why=why,
        )

    def account_available(self, provider: str, account: str, *, now_us: int) -> bool:
        """Whether an account may be used; for choosing one of several."""
        return self._blocked.get((provider, account), 0) <= now_us

    def _why_not(self, backend: Backend, outcomes: _Outcomes | None, now_us: int) -> str:
        accounts = self._accounts_of(backend.provider)
        until = min(self._blocked.get((backend.provider, account), 0) for account in accounts)
        if until > now_us:
            left = math.ceil((until - now_us) / SECOND_US)
            which = "its account is" if len(accounts) == 1 else "all of its accounts are"
            return f"{which} out for {left} s more: the vendor refused the credential or the balance"
        if outcomes is not None and outcomes.in_a_row >= CIRCUIT_FAILURES:
            if outcomes.rests_until_us > now_us:
                left = math.ceil((outcomes.rests_until_us - now_us) / SECOND_US)
                return f"it rests for {left} s more after {outcomes.in_a_row} failures in a row"
            if outcomes.trying:
                return f"one job is out to try it again after {outcomes.in_a_row} failures in a row"
        return ""

    def _accounts_of(self, provider: str) -> tuple[str, ...]:
        return self._accounts.get(provider) or ("main",)

    def _render(self, backend: str, bucket: str, at_us: int) -> _Renders:
        found = self._renders.pop((backend, bucket), None) or _Renders(at_us)
        self._renders[backend, bucket] = found  # the last observed stands last
        if len(self._renders) > MAX_TRACKS:
            del self._renders[next(iter(self._renders))]
        return found

    def _outcome(self, backend: str, at_us: int) -> _Outcomes:
        found = self._outcomes.pop(backend, None) or _Outcomes(at_us)
        self._outcomes[backend] = found
        if len(self._outcomes) > MAX_TRACKS:
            del self._outcomes[next(iter(self._outcomes))]
        return found


def _provider(backend: str) -> str:
    return backend.partition("/")[0]


def _fade(age_us: int) -> float:
    """How much an observation of this age still counts: 1 when fresh, ½ after HALF_LIFE."""
    return 1.0 if age_us <= 0 else math.exp2(-age_us / HALF_LIFE_US)


@lru_cache(maxsize=MAX_TRACKS)
def _prior(p50: float, p95: float, scale: float) -> _Prior:
    return _Prior(math.log(p50 * scale), (math.log(p95 / p50) / Z95) ** 2)


def _blend(renders: _Renders, prior: _Prior, now_us: int) -> tuple[float, float, int]:
    """p50, p95 and sample count of the prior's renders and the observed ones, taken as one population."""
    fade = _fade(now_us - renders.at_us)
    weight, spread = renders.weight * fade, renders.spread * fade
    total = PRIOR_RENDERS + weight
    mean = (PRIOR_RENDERS * prior.mean + weight * renders.mean) / total
    between = PRIOR_RENDERS * (prior.mean - mean) ** 2 + weight * (renders.mean - mean) ** 2
    variance = (PRIOR_RENDERS * prior.variance + spread + between) / total
    return math.exp(mean), math.exp(mean + Z95 * math.sqrt(variance)), round(weight)
