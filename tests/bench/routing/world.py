"""What truly happens: each vendor's state at every moment, and the dice of every job at every vendor.

Law: seeded, and drawn ahead of any policy, so that all meet the same luck. Time is seconds since the day began.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from typing import NamedTuple

from gateway.catalogue import Catalogue
from providers.spec import VideoRequest
from tests.bench.routing.scenarios import Event, Ground, Scenario, Vendor, fewer

# what is asked for, and how often
CLIPS: tuple[tuple[VideoRequest, float], ...] = (
    (VideoRequest(prompt="a red fox", seconds=5, audio=False), 0.5),
    (VideoRequest(prompt="a red fox", seconds=5, audio=True), 0.2),
    (VideoRequest(prompt="a red fox", seconds=10, audio=False), 0.2),
    (VideoRequest(prompt="a red fox", seconds=10, audio=True), 0.1),
)


class Dice(NamedTuple):
    """One job's luck at one vendor."""

    normal: float  # of the logarithm of its render time
    fails: float  # it fails when this is below the vendor's share of failures
    when: float  # and then after this share of its render time


class Job(NamedTuple):
    """One job as the world knows it."""

    number: int
    at: float
    clip: int  # of CLIPS
    dice: dict[str, Dice]


class World:
    """The truth of one scenario and seed. What vendors have open is told by the simulation."""

    def __init__(self, ground: Ground, scenario: Scenario, *, seed: int, jobs: int, stretch: float = 1.0) -> None:
        """`stretch` shortens the day for a quick run: jobs come so much further apart."""
        self.scenario = scenario
        self._stretch = stretch
        self._vendors: dict[str, Vendor] = ground.vendors
        self._fails = {name: scenario.fails.get(name, vendor.fails) for name, vendor in ground.vendors.items()}
        self._events: dict[str, tuple[Event, ...]] = {
            name: tuple(event for event in scenario.event if event.vendor == name) for name in ground.vendors
        }
        self.open: dict[str, int] = dict.fromkeys(ground.vendors, 0)
        self.jobs = self._draw(ground.every_seconds * stretch, seed, jobs)

    def reset(self) -> None:
        """Forget what was open: another policy meets the same day."""
        self.open = dict.fromkeys(self._vendors, 0)

    # --- a vendor at a moment -------------------------------------------------------------------------------------

    def submit_seconds(self, vendor: str) -> float:
        return self._vendors[vendor].submit_ms / 1000

    def says(self, vendor: str, at: float) -> str:
        """What a submit is answered now: "" when it is taken, else outage, refuse or limit."""
        for event in self._events[vendor]:
            if event.start <= at < event.end:
                if event.kind in ("outage", "refuse"):
                    return event.kind
                if event.kind == "limit" and self.open[vendor] >= fewer(event.slots, self._stretch):
                    return event.kind
        return ""

    def fails(self, vendor: str, at: float) -> float:
        """The share of renders begun now that fail."""
        return max((e.fails for e in self._during(vendor, at, "brownout")), default=self._fails[vendor])

    def slowness(self, vendor: str, at: float) -> float:
        """By what factor renders begun now are slower than the vendor's median."""
        factor = math.prod(event.factor for event in self._during(vendor, at, "brownout"))
        for event in self._events[vendor]:
            if event.kind == "drift" and at > event.start:
                factor *= event.factor ** min((at - event.start) / (event.end - event.start), 1.0)
        return factor

    def queue(self, vendor: str, at: float) -> float:
        """Seconds that a job sent now stands behind others' jobs: rising to the middle of the crowd, then falling."""
        return sum(
            e.seconds * (1 - abs(2 * (at - e.start) / (e.end - e.start) - 1)) for e in self._during(vendor, at, "crowd")
        )

    def median(self, vendor: str, clip: int, at: float) -> float:
        request = CLIPS[clip][0]
        scale = (1.8 if request.seconds == 10 else 1.0) * (1.15 if request.audio else 1.0)
        return self._vendors[vendor].median * scale * self.slowness(vendor, at)

    def sigma(self, vendor: str) -> float:
        return self._vendors[vendor].sigma

    def price_factor(self, vendor: str, at: float) -> float:
        """What the vendor bills now, against the market's first price."""
        factor = self.scenario.prices.get(vendor, 1.0)
        for event in self._events[vendor]:
            if event.kind == "price" and at >= event.start:
                factor *= event.factor
        return factor

    # --- one job there --------------------------------------------------------------------------------------------

    def ends(self, job: Job, vendor: str, at: float) -> tuple[float, bool]:
        """When a render that is taken on at `at` is heard of for the last time, and whether it is a clip."""
        dice = job.dice[vendor]
        took = self.median(vendor, job.clip, at) * math.exp(self.sigma(vendor) * dice.normal)
        well = dice.fails >= self.fails(vendor, at)
        if not well:
            took *= 0.1 + 0.9 * dice.when
        done = at + self.queue(vendor, at) + took
        for event in self._events[vendor]:
            if event.kind == "outage" and event.start <= done < event.end:
                done = event.end
        return done, well

    def _during(self, vendor: str, at: float, kind: str) -> list[Event]:
        return [e for e in self._events[vendor] if e.kind == kind and e.start <= at < e.end]

    def _draw(self, every: float, seed: int, count: int) -> list[Job]:
        draw = random.Random(f"{seed}/{self.scenario.name}")
        rushes = [event for event in self.scenario.event if event.kind == "rush"]
        weights = [share for _, share in CLIPS]
        bounds = [sum(weights[: n + 1]) for n in range(len(weights))]
        at, jobs = 0.0, []
        for number in range(count):
            speed = math.prod(rush.factor for rush in rushes if rush.start <= at < rush.end)
            at += draw.expovariate(speed / every)
            clip = min(bisect_right(bounds, draw.random()), len(CLIPS) - 1)
            dice = {name: Dice(draw.gauss(0, 1), draw.random(), draw.random()) for name in self._vendors}
            jobs.append(Job(number, at, clip, dice))
        return jobs


def true_prices(catalogue: Catalogue) -> dict[str, tuple[int, ...]]:
    """Each vendor's first price of each clip, micro-dollars."""
    prices = {}
    for row in catalogue.backends:
        if row.price is None:
            raise ValueError(f"{row.id} has no price")
        rates = {rate.audio: rate.usd_micros for rate in row.price.rates}
        prices[row.provider] = tuple(rates[bool(clip.audio)] * (clip.seconds or 0) for clip, _ in CLIPS)
    return prices
