"""How many clips of each backend its callers keep, and the order by the price of a kept clip.

Law: pure: no I/O, no clock, no randomness. What is known is counts of callers' own words (`feedback`), one a job, over
a prior of one in four, so that a backend nobody has judged is neither praised nor hurt. Counts do not fade: whether a
model's clips are kept changes with the model, not with the hour.

    chance     (1 + accepted) ÷ (4 + accepted + rejected): the mean of a Beta posterior, its prior Beta(1, 3)
    tries      1 ÷ chance: clips until one is kept
    kept_price expected spend × tries
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.catalogue import Code, Flaw, dollars, refusal
from gateway.jobs import Preferences
from gateway.router import Decision, Ranked
from providers.spec import Frozen

MICROS = 1_000_000
PRIOR_ACCEPTED, PRIOR_REJECTED = 1.0, 3.0  # callers throw three to five clips away for one that they use


class Judged(Frozen, omit_defaults=False):
    """What callers said of one backend's clips."""

    accepted: int = 0
    rejected: int = 0

    @property
    def rate(self) -> float:
        """The chance that its next clip is kept, 0 to 1."""
        return (PRIOR_ACCEPTED + self.accepted) / (PRIOR_ACCEPTED + PRIOR_REJECTED + self.accepted + self.rejected)

    @property
    def tries(self) -> float:
        """Clips until one is kept, itself included. The inverse of the mean: the mean of the inverse does not exist
        for this prior."""
        return 1 / self.rate


_NOBODY = Judged()


class Acceptance:
    """The counts of every backend on this process. Fed by the feedback route, read by the ranking."""

    def __init__(self) -> None:
        self._judged: dict[str, Judged] = {}

    def rebuild(self, counts: Iterable[tuple[str, int, int]]) -> None:
        """Start again from what is stored: backend, accepted, rejected."""
        self._judged = {backend: Judged(accepted=kept, rejected=not_kept) for backend, kept, not_kept in counts}

    def observe(self, backend: str, accepted: bool, *, before: bool | None = None) -> None:
        """One word of a caller. `before` is what it said earlier of the same clip, which no longer counts."""
        if before is accepted:
            return
        known = self.judged(backend)
        kept = known.accepted + accepted - (before is True)
        not_kept = known.rejected + (not accepted) - (before is False)
        self._judged[backend] = Judged(accepted=max(kept, 0), rejected=max(not_kept, 0))

    def judged(self, backend: str) -> Judged:
        return self._judged.get(backend, _NOBODY)

    def rate(self, backend: str) -> float:
        """The chance that its next clip is kept: one in four while nobody has said anything."""
        return self.judged(backend).rate

    def tries(self, backend: str) -> float:
        """Clips until one is kept: four while nobody has said anything."""
        return self.judged(backend).tries


def by_kept_price(decision: Decision, acceptance: Acceptance, preferences: Preferences) -> Decision:
    """The candidates of a decision, made by price with all its fallbacks, in the order of what a kept clip costs.

    `provider.order` goes before the price and a last resort behind it, as everywhere; equals keep the order that they
    came in. Without `allow_fallbacks` the first alone stays. Scores become dollars per kept clip.
    """
    order = preferences.order
    scored = [(_turn(one, order), one.last_resort, _kept_price(one, acceptance), one) for one in decision.ranked]
    scored.sort(key=lambda entry: entry[:3])
    refusals = list(decision.refusals)
    if not preferences.allow_fallbacks:
        for *_, one in scored[1:]:
            grants = f"a fallback: {scored[0][3].backend} comes first"
            flaw = Flaw(
                Code.NO_FALLBACKS, "provider.allow_fallbacks", "is", grants, "", "provider.allow_fallbacks=true"
            )
            refusals.append(refusal(one.backend, [flaw], one.quote))
        del scored[1:]
    ranked = tuple(
        msgspec.structs.replace(
            one, score=score, reason=_reason(one, score, acceptance, place, len(scored), ordered=bool(order))
        )
        for place, (_, _, score, one) in enumerate(scored, start=1)
    )
    return msgspec.structs.replace(decision, sort="kept_price", ranked=ranked, refusals=tuple(refusals))


def _turn(one: Ranked, order: tuple[str, ...]) -> int:
    names = (one.provider, one.backend, f"{one.provider}/{one.model}")
    return next((turn for turn, name in enumerate(order) if name in names), len(order))


def _kept_price(one: Ranked, acceptance: Acceptance) -> float:
    return one.expected_spend_usd_micros / MICROS * acceptance.tries(one.backend)


def _reason(one: Ranked, score: float, acceptance: Acceptance, place: int, count: int, *, ordered: bool) -> str:
    """The router's sentence, the standing by price in it exchanged for the standing by kept price."""
    judged = acceptance.judged(one.backend)
    total = judged.accepted + judged.rejected
    said = f"{judged.accepted} of {total} kept" if total else "no clip judged yet"
    kept = f"about {dollars(round(score * 100) * 10_000)} for a clip that is kept ({judged.tries:.1f} tries; {said})"
    if count == 1:
        standing = "the only one that can"
    elif ordered:
        standing = f"number {place} of {count} in provider.order"
    elif place > 1:
        standing = f"number {place} of {count} by kept price"
    else:
        standing = f"lowest of {count}"
    told, _, rest = one.reason.partition("); ")  # what it is; its standing; whatever else there is to say
    return "; ".join((f"{told})", kept, standing, *rest.split("; ")[1:]))
