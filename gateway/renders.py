"""How long renders take: a decayed mean and spread of the logarithm of their seconds.

Law: pure, and of constant size. Render times are taken as log-normal, which fits what queues and renderers do (a few
long ones, none below zero), so that any quantile can be read from two numbers; a sketch of buckets would take a hundred
times the memory to say the same of the few dozen renders that are recent enough to count. What was seen fades by the
hour, so that a backend nobody asks grows uncertain, and by the render, so that a busy one is known as it is now. News
far off what is known makes most of that void at once: the backend has changed.
"""

from __future__ import annotations

import math

HALF_LIFE_US = 3600 * 1_000_000
WINDOW = 30.0  # renders that are remembered at most
SURPRISE, NARROWEST = 3.0, 0.25  # news this many spreads off, a spread taken as no less than this, makes the old void
AFTER_SURPRISE = 1.0  # renders that the old then counts as


class Renders:
    """Decayed count, mean and sum of squares of logarithms. `window` bounds the count."""

    __slots__ = ("at_us", "mean", "spread", "weight", "window")

    def __init__(self, at_us: int, window: float = WINDOW) -> None:
        self.at_us = at_us
        self.window = window
        self.weight = self.mean = self.spread = 0.0

    def add(self, x: float, at_us: int) -> None:
        """One more logarithm, seen at `at_us`; older news than what is known counts for less."""
        self._keep(fade(at_us - self.at_us))
        self.at_us = max(at_us, self.at_us)
        share = fade(self.at_us - at_us)
        away = x - self.mean
        if self.weight > 4 and abs(away) > SURPRISE * max(math.sqrt(self.spread / self.weight), NARROWEST):
            self._keep(AFTER_SURPRISE / self.weight)
        elif self.weight > self.window - 1:
            self._keep((self.window - 1) / self.weight)
        self.weight += share
        self.mean += away * share / self.weight
        self.spread += share * away * (x - self.mean)

    def copy(self, weight: float) -> Renders:
        """What this says, with the window of fresh news and counted as so many renders."""
        found = Renders(self.at_us)
        found.weight, found.mean = weight, self.mean
        found.spread = self.spread / self.weight * weight if self.weight else 0.0
        return found

    def _keep(self, share: float) -> None:
        self.weight *= share
        self.spread *= share


def fade(age_us: int) -> float:
    """How much an observation of this age still counts: 1 when fresh, ½ after HALF_LIFE."""
    return 1.0 if age_us <= 0 else math.exp2(-age_us / HALF_LIFE_US)
