"""Ranks the candidates of a match by the money until a clip is in hand and the minutes until then.

Law: pure: no I/O, no clock, no randomness; the same figures give the same decision, whatever the catalogue's order.
Hard limits were `match`'s; here a backend is refused only because it is out of service, is too slow for what the caller
prefers, or would be a fallback that the caller does not allow.

    expected spend   price ÷ chance of success where the vendor bills failures, else price
    expected finish  wait for a slot (Little's law) + median render + (chance of failure ÷ success) × one more render
    price            by expected spend, then finish
    latency          by expected finish, then spend
    balanced         by expected spend + minutes until the finish × what a minute of waiting is worth
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import msgspec

from gateway.catalogue import Candidate, Code, Flaw, Match, Quote, Refusal, refusal
from gateway.health import Z95, Figures, Health, bucket
from gateway.jobs import Preferences, Sort
from providers.spec import Frozen

MICROS = 1_000_000


class Policy(Frozen):
    """The operator's choice of what counts."""

    sort: Sort = "balanced"
    usd_per_minute_of_waiting: float = 0.05


class Ranked(Frozen, gc=False):
    """One candidate in its place, with every number that put it there."""

    backend: str
    provider: str
    model: str
    quote: Quote
    expected_spend_usd_micros: int  # until one clip is in hand
    expected_finish_seconds: float  # submit → done, failures and waiting included
    p50_seconds: float
    p95_seconds: float
    wait_seconds: float  # for a slot
    success: float
    samples: int
    in_flight: int
    slots: int
    score: float  # lower is better: dollars (price, balanced) or seconds (latency)
    reason: str  # one sentence for people
    size: str
    seconds: int
    audio: bool
    warnings: tuple[str, ...] = ()


class Decision(Frozen):
    """The order in which backends are tried, and why the others are not. JSON both in the store and on the wire."""

    model: str  # as the caller named it
    sort: Sort
    ranked: tuple[Ranked, ...]
    made_us: int
    refusals: tuple[Refusal, ...] = ()

    def reason(self) -> str:
        """The decision in one sentence."""
        if self.ranked:
            return self.ranked[0].reason
        if len(self.refusals) == 1:
            return self.refusals[0].message
        return f"None of {len(self.refusals)} backends can make this clip"


class _Placed(msgspec.Struct, frozen=True, gc=False):
    """A candidate with its figures; in order of `turn`, score, and the other measure."""

    turn: int
    score: float
    second: float
    backend: str
    spend: int
    finish: float
    wait: float
    figures: Figures
    candidate: Candidate


def rank(found: Match, health: Health, policy: Policy, preferences: Preferences, *, now_us: int) -> Decision:
    """Put the candidates of `found` in the order in which they are to be tried.

    A caller that prefers a latency without naming a sort gets the cheapest of those that keep it.
    """
    limits = tuple(preferences.max_latency_seconds.items())
    sort: Sort = preferences.sort or ("price" if limits else policy.sort)
    refusals = list(found.refusals)
    placed: list[_Placed] = []
    buckets: dict[int, str] = {}  # candidates that are asked for the same share one request
    for candidate in found.candidates:
        request = candidate.request
        name = buckets.get(id(request)) or buckets.setdefault(id(request), bucket(request))
        figures = health.figures(candidate.backend, name, now_us=now_us)
        if not figures.available:
            flaw = Flaw(Code.UNAVAILABLE, None, "is", f"out of service: {figures.why}", "", "a later try")
            refusals.append(refusal(candidate.backend.id, [flaw], candidate.quote))
            continue
        entry = _place(candidate, figures, sort=sort, policy=policy, order=preferences.order)
        slow = _too_slow(entry, limits) if limits else None
        if slow is not None:
            refusals.append(refusal(candidate.backend.id, [slow], candidate.quote))
            continue
        placed.append(entry)
    placed.sort(key=lambda entry: (entry.turn, entry.score, entry.second))  # equals keep the target's order
    if not preferences.allow_fallbacks:
        for entry in placed[1:]:
            flaw = Flaw(
                Code.NO_FALLBACKS,
                "provider.allow_fallbacks",
                "is",
                f"a fallback: {placed[0].backend} comes first",
                "",
                "provider.allow_fallbacks=true",
            )
            refusals.append(refusal(entry.backend, [flaw], entry.candidate.quote))
        del placed[1:]
    return Decision(
        model=found.target.name,
        sort=sort,
        ranked=tuple(
            _ranked(entry, place, len(placed), sort=sort, ordered=bool(preferences.order))
            for place, entry in enumerate(placed, start=1)
        ),
        refusals=tuple(refusals),
        made_us=now_us,
    )


def _place(candidate: Candidate, figures: Figures, *, sort: Sort, policy: Policy, order: tuple[str, ...]) -> _Placed:
    row = candidate.backend
    price, success, p50 = candidate.quote.usd_micros, figures.success, figures.p50_seconds
    spend = round(price / success) if row.failed_jobs_are_billed else price
    ahead = figures.in_flight - figures.slots + 1  # renders that must end before ours begins
    wait = ahead * p50 / figures.slots if ahead > 0 else 0.0
    finish = wait + p50 + (1 - success) / success * p50
    if sort == "price":
        score, second = spend / MICROS, finish
    elif sort == "latency":
        score, second = finish, spend / MICROS
    else:
        score, second = spend / MICROS + finish / 60 * policy.usd_per_minute_of_waiting, finish
    turn = _turn(candidate, order) if order else 0
    return _Placed(turn, score, second, row.id, spend, finish, wait, figures, candidate)


def _turn(candidate: Candidate, order: tuple[str, ...]) -> int:
    row = candidate.backend
    names = (row.provider, row.id, f"{row.provider}/{row.model}")
    return next((turn for turn, name in enumerate(order) if name in names), len(order))


def _too_slow(entry: _Placed, limits: tuple[tuple[str, float], ...]) -> Flaw | None:
    """The first limit that this backend's render time, if it ends well, does not keep."""
    p50 = entry.figures.p50_seconds
    sigma = math.log(entry.figures.p95_seconds / p50) / Z95
    for name, limit in limits:
        took = entry.wait + p50 * math.exp(_z(name) * sigma)
        if took > limit:
            param = f"provider.preferred_max_latency.{name}"
            grants, wish = f"{name} of about {_span(took)}", f"{name} within {_span(limit)}"
            return Flaw(Code.TOO_SLOW, param, "has a", grants, wish, f"preferred_max_latency.{name}={math.ceil(took)}")
    return None


@lru_cache(maxsize=64)
def _z(name: str) -> float:
    """Standard normal quantile of "p90". Raises ValueError for what is no percentile."""
    percent = float(name.removeprefix("p"))
    if not 0 < percent < 100:
        raise ValueError(f"{name!r} is no percentile: p50, p90 or p99")
    return NormalDist().inv_cdf(percent / 100)


_UNSEEN = "no renders seen yet"
_BEST: dict[Sort, str] = {
    "price": "cheapest",
    "latency": "soonest",
    "balanced": "best balance of money and minutes",
}
_BY: dict[Sort, str] = {"price": "by price", "latency": "by time", "balanced": "by money and minutes"}


def _ranked(entry: _Placed, place: int, count: int, *, sort: Sort, ordered: bool) -> Ranked:
    candidate, figures = entry.candidate, entry.figures
    row, request = candidate.backend, candidate.request
    if count == 1:
        standing = "the only one that can"
    elif ordered:
        standing = f"number {place} of {count} in provider.order"
    elif place > 1:
        standing = f"number {place} of {count} {_BY[sort]}"
    else:
        standing = f"{_BEST[sort]} of {count}"
    seen = f"{figures.samples} {'render' if figures.samples == 1 else 'renders'} seen" if figures.samples else _UNSEEN
    return Ranked(
        backend=row.id,
        provider=row.provider,
        model=row.model,
        quote=candidate.quote,
        expected_spend_usd_micros=entry.spend,
        expected_finish_seconds=entry.finish,
        p50_seconds=figures.p50_seconds,
        p95_seconds=figures.p95_seconds,
        wait_seconds=entry.wait,
        success=figures.success,
        samples=figures.samples,
        in_flight=figures.in_flight,
        slots=figures.slots,
        score=entry.score,
        reason=(
            f"{row.id}: {candidate.quote}, done in about {_span(entry.wait + figures.p50_seconds)} "
            f"(95 % within {_span(entry.wait + figures.p95_seconds)}; {seen}); {standing}"
        ),
        size=candidate.size,
        seconds=request.seconds or 0,
        audio=bool(request.audio),
        warnings=candidate.warnings,
    )


def _span(seconds: float) -> str:
    return _written(round(seconds))


@lru_cache(maxsize=4096)
def _written(seconds: int) -> str:
    return f"{seconds} s" if seconds < 300 else f"{seconds / 60:.0f} min"
