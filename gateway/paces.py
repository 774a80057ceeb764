"""What is remembered of one backend, and the render times that it comes to.

Law: pure; of bounded size. Three things make the times quick, since news of a render is minutes old when it comes:

- what one kind of clip teaches of a backend's pace is believed of its other kinds, until they are seen themselves;
- renders that are out longer than nearly all are evidence before they end: while several are overdue at once, the
  backend counts as that much slower;
- a backend that has grown slow, and so is sent nothing, is counted at its settled pace for one job now and then, which
  tells whether it has recovered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from gateway.buckets import scale_of
from gateway.catalogue import Backend
from gateway.circuits import SECOND_US, Circuit
from gateway.renders import Renders, fade
from providers.spec import Kind

PRIOR_RENDERS = 1.0  # the catalogue's typical_seconds weigh as much as this many renders
OUTCOMES_WINDOW = 60.0  # good and bad ends that are remembered at most
PACE_RENDERS = 4.0  # and a backend's pace over all clips as this many of one kind
WIDEST = 0.8  # the most that is ever doubted
OVERDUE, OVERDUE_SHARE = 2, 0.08  # so many open renders, and so many of all, must be late before it says something
SETTLED_WINDOW, SETTLED_RENDERS = 100.0, 8.0
SLOWER, TRIAL_US = math.log(1.3), 50 * SECOND_US  # a backend this much slower than settled is tried this often
AGAIN_RENDERS = 5.0  # a settled pace that has returned is believed as after this many renders
CLIP = 0.5  # one render moves what is settled as if it were off by no more than this
MAX_BUCKETS = 40  # of one backend; the first seen goes first
Z95 = 1.6448536269514722  # standard normal quantile of 0.95


class Known:
    """What is remembered of one backend over all its buckets."""

    __slots__ = ("at_us", "bad", "cells", "circuit", "faults", "good", "open", "pace", "sent_us", "settled", "times")

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
        self.times: dict[str, tuple[int, Times]] = {}  # by bucket: as worked out last, until there is news

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
        self.times.clear()
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


class Times(NamedTuple):
    """Of one backend and bucket, as worked out for one second."""

    p50: float
    p95: float
    mean: float
    sigma: float
    error: float
    samples: int = 0
    overdue: int = 0
    trial: bool = False


def times_of(backend: Backend, bucket: str, known: Known | None, now_us: int) -> Times:
    """The times of a whole second; worked out once for each, as long as there is no news."""
    typical = backend.typical_seconds
    if known is None or (known.pace is None and not known.open):
        return _unseen(typical.p50, typical.p95, scale_of(bucket))
    made = known.times.get(bucket)
    if made is None or made[0] != now_us:
        made = known.times[bucket] = now_us, _seen(typical.p50, typical.p95, bucket, known, now_us)
    return made[1]


@lru_cache(maxsize=4096)
def _unseen(p50: float, p95: float, scale: float) -> Times:
    """By the catalogue alone."""
    mean, variance = _prior(p50, p95)
    sigma = math.sqrt(variance)
    return _read(mean + scale, sigma, error=min(sigma, WIDEST))


def _seen(typical_p50: float, typical_p95: float, bucket: str, known: Known, now_us: int) -> Times:
    """By the catalogue, by the backend's pace over all its clips, by what was seen of clips like this one, and by what
    is overdue: each weighs as many renders as it rests on."""
    prior, variance = _prior(typical_p50, typical_p95)
    pace, settled, scale = known.pace, known.settled, scale_of(bucket)
    mean, squares, faded = prior, PRIOR_RENDERS * variance, 0.0
    if pace is not None:
        kept = fade(now_us - pace.at_us)
        faded = pace.weight * kept
        mean = (PRIOR_RENDERS * prior + faded * pace.mean) / (PRIOR_RENDERS + faded)
        squares += pace.spread * kept
    sigma = math.sqrt(squares / (PRIOR_RENDERS + faded))
    late, excess = _overdue(known.open, mean, sigma, now_us)
    if pace is not None and settled is not None and settled.weight >= SETTLED_RENDERS:
        is_slower = pace.mean + excess - settled.mean > SLOWER
        if is_slower and now_us - known.sent_us >= TRIAL_US:
            samples, error = round(settled.weight), sigma / math.sqrt(settled.weight)
            return _read(settled.mean + scale, sigma, error=error, samples=samples, overdue=late, trial=True)
    own = known.cells.get(bucket)
    weight = 0.0 if own is None else own.weight * fade(now_us - own.at_us)
    like = PRIOR_RENDERS + min(faded, PACE_RENDERS)
    centre = mean + scale
    if own is not None:
        centre = (like * centre + weight * own.mean) / (like + weight)
    error = sigma / math.sqrt(like + weight)
    return _read(centre + excess, sigma, error=min(error, WIDEST), samples=round(weight), overdue=late)


def _read(
    mean: float, sigma: float, *, error: float = 0.0, samples: int = 0, overdue: int = 0, trial: bool = False
) -> Times:
    p50 = math.exp(mean)
    return Times(
        p50, p50 * math.exp(Z95 * sigma), p50 * math.exp(sigma * sigma / 2), sigma, error, samples, overdue, trial
    )


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


@lru_cache(maxsize=4096)
def _prior(p50: float, p95: float) -> tuple[float, float]:
    """Mean and variance of the logarithm of a 5 s clip's render seconds, by the catalogue."""
    return math.log(p50), (math.log(p95 / p50) / Z95) ** 2
