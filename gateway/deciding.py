"""A decision, whole: ranked, in the order of kept prices where that is wanted, its first compared with the others.

Law: pure: no I/O, no clock, no randomness. The api decides here before it sells, and the worker before it buys, so both
say the same thing of the same figures.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import msgspec

from gateway.acceptance import Acceptance, by_kept_price
from gateway.catalogue import Match
from gateway.health import Health
from gateway.jobs import Preferences
from gateway.router import Decision, Policy, Ranked, rank


def decide(
    found: Match,
    health: Health,
    acceptance: Acceptance,
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
    """The order in which the candidates of `found` are tried, and why. What may be known of the job (from `seed` on) is
    for the ranking: see `router.rank`."""
    ranking = partial(
        rank,
        found,
        health,
        policy,
        now_us=now_us,
        seed=seed,
        place=place,
        left_usd_micros=left_usd_micros,
        tried=tried,
        left_seconds=left_seconds,
    )
    if (preferences.sort or policy.sort) == "kept_price":
        # every fallback stays in until the kept prices have said which comes first
        by_price = msgspec.structs.replace(preferences, sort="price", allow_fallbacks=True)
        decision = ranking(by_price)
        decision = by_kept_price(decision, acceptance, preferences)
    else:
        decision = ranking(preferences)
    said = compare(decision)
    if not said:
        return decision
    best, *others = decision.ranked
    best = msgspec.structs.replace(best, reason=f"{best.reason}; {said}")
    return msgspec.structs.replace(decision, ranked=(best, *others))


def compare(decision: Decision) -> str:
    """The first candidate beside the fastest and the cheapest one, for people: "19 % cheaper than the fastest".
    Nothing where there is no other, or no difference worth a word."""
    if len(decision.ranked) < 2:
        return ""
    best = decision.ranked[0]
    fastest = min(decision.ranked, key=lambda one: one.expected_finish_seconds)
    cheapest = min(decision.ranked, key=lambda one: _cost(one, decision))
    parts = []
    cheaper = _less(_cost(best, decision), _cost(fastest, decision))
    sooner = _less(best.expected_finish_seconds, cheapest.expected_finish_seconds)
    if cheaper:
        kept = " per kept clip" if decision.sort == "kept_price" else ""
        parts.append(f"{cheaper} % cheaper{kept} than the fastest")
    if sooner:
        parts.append(f"{sooner} % sooner than the cheapest")
    if best is fastest and best is cheapest:
        parts.append("nobody is cheaper or sooner")
    return ", ".join(parts)


def _cost(one: Ranked, decision: Decision) -> float:
    return one.score if decision.sort == "kept_price" else one.expected_spend_usd_micros


def _less(mine: float, theirs: float) -> int:
    """By how many whole percent; 0 when it is not less."""
    return round((1 - mine / theirs) * 100) if mine < theirs else 0
