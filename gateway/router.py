"""Ranks the candidates of a match by the money until a clip is in hand and the minutes until then.

Law: pure: no I/O, no clock, no randomness; the same figures and the same seed give the same decision, whatever the
catalogue's order. Hard limits were `match`'s; here a backend is refused only because it is out of service, is too slow
for what the caller prefers or for its deadline, or would be a fallback that the caller does not allow.

    expected spend   price ÷ chance of success where the vendor bills failures, else price
    one try          wait for a slot (Little's law) + mean render
    expected finish  success × one try + failure × (the share of a try until it is known + one try of the best other)
    price            by expected spend; those within 1 % of each other by finish
    latency          by finish, then spend
    balanced         by expected spend + minutes until the finish × what a minute of waiting is worth; of near-equals
                     the emptier one, so that they fill evenly

Nobody knows a backend's pace exactly, least of all one that was not asked of late. So with a seed each one's finish is
drawn once from what is known of it: near-equals share the jobs, one that may have become the best gets one now and
then, and the more is known, the less is left to the draw. Seed 0 draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache

import msgspec

from gateway.catalogue import Candidate, Code, Flaw, Match, Quote, Refusal, refusal
from gateway.draws import normal
from gateway.health import Figures, Health, bucket
from gateway.jobs import Preferences, Sort
from providers.spec import Frozen

MICROS = 1_000_000
UNTIL_KNOWN = 0.6  # share of a render's time after which a failure shows
NEAR_PRICES = 1.01
FULL = 0.1  # by so much of its render a backend without a free slot goes behind its equal with nothing in flight


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
    drawn_finish_seconds: float = 0.0  # what the draw made of the expected finish, and the score rests on; 0: no draw
    overdue: int = 0  # of those in flight, how many are late
    trial: bool = False  # counted at its settled pace, to see whether it has recovered
    last_resort: bool = False  # a failure there would leave too little of the purse for anybody else


class Decision(Frozen):
    """The order in which backends are tried, and why the others are not. JSON both in the store and on the wire."""

    model: str  # as the caller named it
    sort: Sort
    ranked: tuple[Ranked, ...]
    made_us: int
    refusals: tuple[Refusal, ...] = ()
    seed: int = 0  # of the draw; 0: nothing was drawn

    def reason(self) -> str:
        """The decision in one sentence."""
        if self.ranked:
            return self.ranked[0].reason
        if len(self.refusals) == 1:
            return self.refusals[0].message
        return f"None of {len(self.refusals)} backends can make this clip"


class _Placed(msgspec.Struct, gc=False):
    """A candidate with its figures, before and after it was compared with the others."""

    candidate: Candidate
    figures: Figures
    turn: int
    spend: int
    wait: float
    render: float  # mean seconds of a render that ends well
    drawn: float  # likewise, as drawn
    finish: float = 0.0
    drawn_finish: float = 0.0
    score: float = 0.0
    second: float = 0.0
    last_resort: bool = False


def rank(
    found: Match,
    health: Health,
    policy: Policy,
    preferences: Preferences,
    *,
    now_us: int,
    seed: int = 0,
    place: tuple[str, int] | None = None,
    left_usd_micros: int | None = None,
    tried: Collection[str] = (),
    left_seconds: float | None = None,
) -> Decision:
    """Put the candidates of `found` in the order in which they are to be tried.

    `seed` belongs to the job: its later decisions draw alike. `place` is the provider that the job already stands in
    line for, and how many jobs are before it there. `left_usd_micros` is what is left of its purse and `tried` the
    backends that it has bought from: a vendor whose failure would cost so much that nobody else could be paid comes
    after all others. `left_seconds` is the time until its deadline: what would more likely than not be bought for
    nothing is refused. A caller that prefers a latency without naming a sort gets the cheapest of those that keep it.
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
        entry = _place(candidate, figures, order=preferences.order, seed=seed, place=place)
        if left_seconds is not None and entry.wait + figures.p50_seconds > left_seconds:
            refusals.append(refusal(candidate.backend.id, [_too_late(entry, left_seconds)], candidate.quote))
            continue
        placed.append(entry)
    if limits:
        placed = _quick_enough(placed, limits, refusals)
    _score(placed, sort, policy, tried)
    if left_usd_micros is not None:
        _find_last_resorts(placed, left_usd_micros, tried)
    placed.sort(key=lambda e: (e.turn, e.last_resort, e.score, e.second))  # equals keep the target's order
    if sort == "price" and seed and len(placed) > 1:
        placed = _near_prices_by_finish(placed)
    if not preferences.allow_fallbacks:
        for entry in placed[1:]:
            flaw = Flaw(
                Code.NO_FALLBACKS,
                "provider.allow_fallbacks",
                "is",
                f"a fallback: {placed[0].candidate.backend.id} comes first",
                "",
                "provider.allow_fallbacks=true",
            )
            refusals.append(refusal(entry.candidate.backend.id, [flaw], entry.candidate.quote))
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
        seed=seed,
    )


def _place(
    candidate: Candidate, figures: Figures, *, order: tuple[str, ...], seed: int, place: tuple[str, int] | None
) -> _Placed:
    row, render = candidate.backend, figures.mean_seconds
    price = candidate.quote.usd_micros
    line = place[1] if place is not None and place[0] == row.provider else figures.waiting
    ahead = figures.in_flight + line - figures.slots + 1  # renders that must end before ours begins
    drawn = render
    if seed and figures.error:
        drawn *= math.exp(figures.error * normal(seed, row.id))
    return _Placed(
        candidate=candidate,
        figures=figures,
        turn=_turn(candidate, order) if order else 0,
        spend=round(price / figures.success) if row.failed_jobs_are_billed else price,
        wait=ahead * render / figures.slots if ahead > 0 else 0.0,
        render=render,
        drawn=drawn,
    )


def _score(placed: list[_Placed], sort: Sort, policy: Policy, tried: Collection[str]) -> None:
    """Fill in what depends on the others: the finish, which counts a failover to the best of them, and the score."""
    tries = sorted([e.wait + e.render for e in placed if not tried or e.candidate.backend.id not in tried])
    soonest, next_soonest = (tries[0], tries[min(1, len(tries) - 1)]) if tries else (math.inf, math.inf)
    for entry in placed:
        own = entry.wait + entry.render
        other = soonest if own != soonest else next_soonest
        if other == math.inf:
            other = own
        entry.finish = own + (1 - entry.figures.success) * (UNTIL_KNOWN * entry.render + other - entry.render)
        entry.drawn_finish = entry.finish + entry.drawn - entry.render
        spend = entry.spend / MICROS
        match sort:
            case "latency":
                entry.score, entry.second = entry.drawn_finish, spend
            case "balanced":
                full = FULL * min(entry.figures.in_flight / entry.figures.slots, 1.0)
                minutes = (entry.drawn_finish + full * entry.drawn) / 60
                entry.score = spend + minutes * policy.usd_per_minute_of_waiting
                entry.second = entry.drawn_finish
            case _:
                entry.score, entry.second = spend, entry.drawn_finish


def _find_last_resorts(placed: list[_Placed], left: int, tried: Collection[str]) -> None:
    """Mark who bills failures and would leave too little for anybody else."""
    charges = sorted((e.candidate.quote.charge_usd_micros, e.candidate.backend.id) for e in placed)
    for entry in placed:
        row = entry.candidate.backend
        if row.failed_jobs_are_billed:
            others = (charge for charge, name in charges if name != row.id and name not in tried)
            entry.last_resort = next(others, 0) > left - entry.candidate.quote.charge_usd_micros


def _near_prices_by_finish(placed: list[_Placed]) -> list[_Placed]:
    """Of those whose spend hardly differs from the cheapest one's, the soonest first; then the same with the rest."""
    ordered: list[_Placed] = []
    while placed:
        first = placed[0]
        near = [
            e
            for e in placed
            if (e.turn, e.last_resort) == (first.turn, first.last_resort) and e.score <= first.score * NEAR_PRICES
        ]
        ordered += sorted(near, key=lambda entry: entry.drawn_finish)
        placed = placed[len(near) :]
    return ordered


def _turn(candidate: Candidate, order: tuple[str, ...]) -> int:
    row = candidate.backend
    names = (row.provider, row.id, f"{row.provider}/{row.model}")
    return next((turn for turn, name in enumerate(order) if name in names), len(order))


def _quick_enough(
    placed: list[_Placed], limits: tuple[tuple[str, float], ...], refusals: list[Refusal]
) -> list[_Placed]:
    """Those whose chance to be done in time is as large as asked; the others are refused."""
    kept = []
    for entry in placed:
        others = [other for other in placed if other is not entry] or [entry]
        slow = next((flaw for limit in limits if (flaw := _too_slow(entry, others, *limit)) is not None), None)
        if slow is None:
            kept.append(entry)
        else:
            refusals.append(refusal(entry.candidate.backend.id, [slow], entry.candidate.quote))
    return kept


def _too_slow(entry: _Placed, others: list[_Placed], name: str, limit: float) -> Flaw | None:
    """Why the chance to be done within `limit` is below the percentile of this name: a render that ends well in time,
    or one that fails and the best of the others (or, where there is none, one more) in what is left."""
    wanted, p50 = _share(name), entry.figures.p50_seconds
    if _chance(entry, others, limit) >= wanted:
        return None
    low, high = limit, max(limit, 1.0)
    while _chance(entry, others, high) < wanted and high < 1e7:
        low, high = high, high * 2
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if _chance(entry, others, middle) < wanted else (low, middle)
    took = math.ceil(max(high, p50))
    param = f"provider.preferred_max_latency.{name}"
    grants, wish = f"{name} of about {_span(took)}", f"{name} within {_span(limit)}"
    return Flaw(Code.TOO_SLOW, param, "has a", grants, wish, f"preferred_max_latency.{name}={took}")


def _too_late(entry: _Placed, left: float) -> Flaw:
    took = math.ceil(entry.wait + entry.figures.p50_seconds)
    grants, wish = f"in about {_span(took)}", f"in {_span(left)}, by the deadline"
    return Flaw(Code.TOO_SLOW, "deadline_seconds", "is done", grants, wish, f"deadline_seconds={took}")


def _chance(entry: _Placed, others: list[_Placed], limit: float) -> float:
    success = entry.figures.success
    left = limit - entry.wait - UNTIL_KNOWN * entry.render
    failed_over = max(_in_time(other, left) for other in others)
    return success * _in_time(entry, limit) + (1 - success) * failed_over


def _in_time(entry: _Placed, limit: float) -> float:
    """The chance that a render that ends well is done within `limit`, its wait included."""
    left = limit - entry.wait
    if left <= 0:
        return 0.0
    spread = max(entry.figures.sigma, 1e-6)
    return 0.5 * math.erfc(-math.log(left / entry.figures.p50_seconds) / spread / math.sqrt(2))


@lru_cache(maxsize=64)
def _share(name: str) -> float:
    """0.9 of "p90". Raises ValueError for what is no percentile."""
    percent = float(name.removeprefix("p"))
    if not 0 < percent < 100:
        raise ValueError(f"{name!r} is no percentile: p50, p90 or p99")
    return percent / 100


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
    if figures.trial:
        standing += "; tried again: it had grown slow"
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
        drawn_finish_seconds=entry.drawn_finish if entry.drawn != entry.render else 0.0,
        overdue=figures.overdue,
        trial=figures.trial,
        last_resort=entry.last_resort,
    )


def _span(seconds: float) -> str:
    return _written(round(seconds))


@lru_cache(maxsize=4096)
def _written(seconds: int) -> str:
    return f"{seconds} s" if seconds < 300 else f"{seconds / 60:.0f} min"
