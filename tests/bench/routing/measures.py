"""What a day is judged by.

Law: pure; every number comes from the submits and ends of the day itself. Shares and swings of a policy are of all its
submits, wherever they went.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pvariance
from typing import NamedTuple

from tests.bench.routing.policies import DOLLARS_A_MINUTE, RULES
from tests.bench.routing.scenarios import Event, Scenario
from tests.bench.routing.simulation import Day, Sent

FAVOURED = 0.05  # a share of submits before a fault, from which on a policy can be said to have used the vendor
BEFORE = 600.0
USED = 0.2  # share of its slots that a vendor fills on average before its open renders can be said to swing
WARM = 0.25  # of the day that passes before swings are measured


class Measures(NamedTuple):
    """One policy in one scenario. Dollars, seconds, shares of one."""

    scenario: str
    policy: str
    success: float
    spend: float  # per clip in hand
    p50: float
    p90: float
    p99: float
    mean: float
    submits: float  # per job
    beyond: float  # per job, without those that only make up for a failed render
    share: float | None  # to the hurt vendor, from 60 s after the fault on; the worst fault. None: nobody was hurt
    refused: int | None  # submits that the hurt vendor refused, in the worst fault
    first: int | None  # of them, those in its first minute
    back: float | None  # seconds from recovery to the first submit that is taken; the worst fault of a vendor in use
    swing: float  # largest swing of open renders, as a share of the vendor's slots
    clump: float  # largest variance ÷ mean of a vendor's open renders: 1 is what chance makes, herding more

    @property
    def score(self) -> float:
        """Money and minutes together, dollars a clip."""
        return self.spend + self.mean / 60 * DOLLARS_A_MINUTE


def measure(day: Day, scenario: Scenario) -> Measures:
    times = sorted(done.finish for done in day.done if done.finish is not None)
    jobs, clips = len(day.done), max(len(times), 1)
    hurt = [_hurt(day, event) for event in scenario.event if event.hurts]
    backs = [one.back for one in hurt if one.back is not None]
    return Measures(
        scenario=scenario.name,
        policy=day.policy,
        success=len(times) / jobs,
        spend=sum(done.spent for done in day.done) / clips,
        p50=_quantile(times, 0.5),
        p90=_quantile(times, 0.9),
        p99=_quantile(times, 0.99),
        mean=fmean(times) if times else math.inf,
        submits=len(day.sent) / jobs,
        beyond=(len(day.sent) - day.failed_renders) / jobs,
        share=max((one.share for one in hurt), default=None),
        refused=max((one.refused for one in hurt), default=None),
        first=max((one.first for one in hurt), default=None),
        back=max(backs, default=None),
        swing=_swing(day),
        clump=_clump(day),
    )


class _Hurt(NamedTuple):
    share: float
    refused: int
    first: int
    back: float | None


def _hurt(day: Day, event: Event) -> _Hurt:
    before = [sent for sent in day.sent if event.start - BEFORE <= sent.at < event.start]
    after = [sent for sent in day.sent if event.start + 60 <= sent.at < event.end]
    refused = [s for s in day.sent if s.vendor == event.vendor and s.said and event.start <= s.at < event.end]
    first = [sent for sent in refused if sent.at < event.start + 60]
    used = _share(before, event.vendor) >= FAVOURED
    again = (s.at for s in day.sent if s.vendor == event.vendor and s.taken and s.at >= event.end)
    back = next(again, math.inf) - event.end if used else None
    return _Hurt(_share(after, event.vendor), len(refused), len(first), back)


def _share(sent: Sequence[Sent], vendor: str) -> float:
    return sum(one.vendor == vendor for one in sent) / len(sent) if sent else 0.0


def _swing(day: Day) -> float:
    """Between the 5th and the 95th percentile of a vendor's open renders, over its slots; the worst vendor."""
    late = day.open[int(len(day.open) * WARM) :]
    worst = 0.0
    for vendor, slots in day.limits.items():
        counts = sorted(float(open_[vendor]) for _, open_ in late)
        worst = max(worst, (_quantile(counts, 0.95) - _quantile(counts, 0.05)) / slots)
    return worst


def _clump(day: Day) -> float:
    late = day.open[int(len(day.open) * WARM) :]
    found = 0.0
    for vendor, slots in day.limits.items():
        counts = [open_[vendor] for _, open_ in late]
        if fmean(counts) >= USED * slots:  # else it takes what others have no slot for, which comes in bursts
            found = max(found, pvariance(counts) / fmean(counts))
    return found


def _quantile(ascending: Sequence[float], share: float) -> float:
    if not ascending:
        return math.inf
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]


# --- tables -----------------------------------------------------------------------------------------------------------

READING = """\
How to read the tables. A row is one policy's whole day; every policy meets the same jobs, vendors and dice.

success          jobs that ended with a clip
spend/clip       dollars billed in all, over the clips in hand
p50, p90, p99    seconds from a job's arrival to its clip: waiting, failures and failovers included
submits/job      POSTs to vendors, over jobs; "beyond failures": without those that only make up for a failed render
hurt share       of all submits, those to the vendor that is down, brown or refuses us, from its first minute on
refused          submits that this vendor refused while its fault lasted (and in its first minute)
back             seconds from its recovery until it takes a job again; only if it took 5 % of submits before the fault
regret           dollars and minutes together (a minute at $0.05), against `oracle: balanced`
swing            of a vendor's open renders, 5th to 95th percentile, over its slots; the worst vendor
clump            variance ÷ mean of a vendor's open renders: 1 is what chance makes, more is herding

Hurt share, refused and back are of the day's worst fault. `ours` is the gateway. `informed` knows every vendor's true
figures at every moment, but neither the dice nor our own lines: what perfect measuring would reach. `oracle` knows the
dice too, so it never fails and is out of reach. A quick day has a tenth of the slots: read nothing in its swing and
back. Jobs that come by chance and all go to one vendor, n open on average, swing by 3.3 √n over its slots.
"""

_HEAD = (
    "policy | success | spend/clip | p50 | p90 | p99 | submits/job | beyond failures | hurt share | refused (1st min) "
    "| back | regret | swing | clump"
)


def table(found: Mapping[str, Measures]) -> list[str]:
    """One scenario's rows as a markdown table. Regret is of money and minutes together, against `oracle: balanced`."""
    oracle = found.get("oracle: balanced")
    lines = [f"| {_HEAD} |", "|---" + "|---:" * (_HEAD.count("|")) + "|"]
    for policy, m in found.items():
        regret = "" if oracle is None else f"{m.score / oracle.score - 1:+.1%}"
        cells = [
            policy,
            f"{m.success:.2%}",
            f"${m.spend:.3f}",
            *(f"{x:.0f} s" for x in (m.p50, m.p90, m.p99)),
            f"{m.submits:.2f}",
            f"{m.beyond:.2f}",
            "" if m.share is None else f"{m.share:.1%}",
            "" if m.refused is None else f"{m.refused} ({m.first})",
            "" if m.back is None else f"{m.back:.0f} s",
            regret,
            f"{m.swing:.0%}",
            f"{m.clump:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


class Goal(NamedTuple):
    scenario: str
    name: str
    value: str
    met: bool


def goals(scenario: str, found: Mapping[str, Measures]) -> list[Goal]:
    """The goals that one scenario can say something of."""
    said: list[Goal] = []

    def add(name: str, value: str, met: bool) -> None:
        said.append(Goal(scenario, name, value, met))

    price, latency, balanced = (found[f"ours: {sort}"] for sort in ("price", "latency", "balanced"))
    for kind in ("oracle", "informed"):
        if f"{kind}: price" not in found:
            continue
        ratio = price.spend / found[f"{kind}: price"].spend
        add(f"price: spend ≤ 1.03 × {kind}", f"{ratio:.3f}", ratio <= 1.03)
        ratio = latency.p90 / found[f"{kind}: latency"].p90
        add(f"latency: p90 ≤ 1.15 × {kind}", f"{ratio:.3f}", ratio <= 1.15)
    rules = [found[name] for name in RULES if name in found]
    better = [r.policy for r in rules if r.spend < balanced.spend * 0.99 and r.mean < balanced.mean * 0.99]
    lower = min(rules, key=lambda rule: rule.score)
    add("balanced: no rule is both cheaper and sooner", ", ".join(better) or "none is", not better)
    ratio = balanced.score / lower.score
    add("balanced: money and minutes ≤ the best rule's", f"{ratio:.3f} of {lower.policy}", ratio <= 1.005)
    for one in (price, latency, balanced):
        add(f"{one.policy}: ≥ 99.5 % succeed", f"{one.success:.2%}", one.success >= 0.995)
        add(f"{one.policy}: ≤ 1.2 submits beyond failures", f"{one.beyond:.2f}", one.beyond <= 1.2)
        if one.refused is not None and scenario != "brown-out":
            add(f"{one.policy}: ≤ 5 refused in the first minute", str(one.first), (one.first or 0) <= 5)
            add(f"{one.policy}: ≤ 5 refused in the whole fault", str(one.refused), one.refused <= 5)
        if one.back is not None:
            add(f"{one.policy}: back within 60 s", f"{one.back:.0f} s", one.back <= 60)
        if scenario == "steady":
            add(f"{one.policy}: swing ≤ 30 % (5th to 95th)", f"{one.swing:.0%}", one.swing <= 0.30)
    return said


def csv_line(m: Measures) -> str:
    return ",".join("" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value) for value in m)


CSV_HEAD = ",".join(Measures._fields)
