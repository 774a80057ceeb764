"""Who is asked first: our router, seven simpler rules, and oracles that know what no router can.

Law: every policy runs in the gateway's own `Buyer`: the same slots, the same cut after a 429, the same failover within
the same purse. They differ in the order of candidates alone (and the simple ones know no circuit), so that what the
table shows is the order's doing. That flatters the simple ones: the gateways that use them have no such buyer.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean

import msgspec

from gateway.acceptance import Acceptance
from gateway.catalogue import Candidate, Catalogue, match
from gateway.health import Health
from gateway.jobs import Attempt, Preferences, Sort
from gateway.jobs import Job as GatewayJob
from gateway.router import Decision, Policy, rank
from gateway.settings import Routing
from gateway.worker.buyer import Buyer, Line
from providers.spec import Fault, MediaForm, Operation, Status, VideoRequest
from tests.bench.routing.world import Job, World

DOLLARS_A_MINUTE = 0.05
SORTS: tuple[Sort, ...] = ("price", "latency", "balanced")  # a kept price is a price to these vendors: nobody judges


class Nobody:
    """An adapter that is never spoken to: the simulation answers in its place."""

    name = "nobody"
    takes: tuple[MediaForm, ...] = ()

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        raise AssertionError("the simulation never speaks to a vendor")

    async def poll(self, operation: Operation) -> Status:
        raise AssertionError("the simulation never speaks to a vendor")


class Ours(Buyer):
    """The gateway's buyer as it is, with a catalogue that can be replaced."""

    def __init__(self, catalogue: Catalogue, sort: Sort, health: Health | None = None) -> None:
        lines = [Line(row.provider, "main", Nobody()) for row in catalogue.backends]
        super().__init__(
            catalogue=catalogue,
            health=health or Health(),
            acceptance=Acceptance(),
            policy=Policy(sort=sort, usd_per_minute_of_waiting=DOLLARS_A_MINUTE),
            routing=Routing(),
            lines=lines,
            configured=[row.provider for row in catalogue.backends],
        )

    def reprice(self, catalogue: Catalogue) -> None:
        """The operator's catalogue is replaced."""
        self._catalogue = catalogue
        self._backends = {backend.id: backend for backend in catalogue.backends}

    def acknowledged(self, attempt: Attempt, *, took: float, now_us: int) -> None:
        """A submit was answered after so many seconds."""


class Deaf(Health):
    """Health that hears of slots only, for rules that know no circuit and no figures."""

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
        return


Order = Callable[[GatewayJob, dict[str, Candidate], int], Sequence[str]]  # backend ids, first to last; others are left


class Rule(Ours):
    """The gateway's buyer with another order of candidates."""

    def __init__(self, catalogue: Catalogue, order: Order, sort: Sort = "balanced") -> None:
        super().__init__(catalogue, sort, Deaf())
        self._order = order
        self._made: dict[int, tuple[Decision, dict[str, Candidate]]] = {}

    def reprice(self, catalogue: Catalogue) -> None:
        super().reprice(catalogue)
        self._made.clear()

    def decide(
        self, job: GatewayJob, attempts: Sequence[Attempt] = (), *, now_us: int
    ) -> tuple[Decision, dict[str, Candidate]]:
        made = self._made.get(id(job.spec.video))
        if made is None:  # nothing that it rests on ever changes
            target = self._catalogue.resolve(job.spec.model, {})
            found = match(self._catalogue, target, job.spec.video, Preferences(), configured=self._configured)
            decision = rank(found, Health(), self._policy, Preferences(), now_us=now_us)
            made = decision, {candidate.backend.id: candidate for candidate in found.candidates}
            self._made[id(job.spec.video)] = made
        decision, candidates = made
        by_id = {ranked.backend: ranked for ranked in decision.ranked}
        ranked = tuple(by_id[name] for name in self._order(job, candidates, now_us))
        return msgspec.structs.replace(decision, ranked=ranked), candidates


# --- rules ------------------------------------------------------------------------------------------------------------


class FirstListed(Rule):
    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(catalogue, lambda job, found, now_us: list(found))


class Random(Rule):
    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        self._draw = random.Random(seed)
        super().__init__(catalogue, lambda job, found, now_us: self._draw.sample(list(found), len(found)))


class RoundRobin(Rule):
    def __init__(self, catalogue: Catalogue) -> None:
        self._turn = 0
        super().__init__(catalogue, self._next)

    def _next(self, job: GatewayJob, found: dict[str, Candidate], now_us: int) -> list[str]:
        names = list(found)
        self._turn += 1
        cut = self._turn % len(names)
        return names[cut:] + names[:cut]


class Cheapest(Rule):
    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(
            catalogue, lambda job, found, now_us: sorted(found, key=lambda name: found[name].quote.usd_micros)
        )


class SoonestToAcknowledge(Rule):
    """Mean of each vendor's last ten submits; one that was never asked counts as nothing and so comes first."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._took: dict[str, deque[float]] = {}
        super().__init__(catalogue, lambda job, found, now_us: sorted(found, key=self._mean))

    def acknowledged(self, attempt: Attempt, *, took: float, now_us: int) -> None:
        self._took.setdefault(attempt.backend, deque(maxlen=10)).append(took)

    def _mean(self, backend: str) -> float:
        return fmean(self._took[backend]) if backend in self._took else 0.0


class SoonestToRender(Rule):
    """Mean of all that each vendor has rendered so far; one that was never seen comes first."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        super().__init__(catalogue, lambda job, found, now_us: sorted(found, key=self._mean))

    def closed(self, attempt: Attempt, *, now_us: int) -> None:
        super().closed(attempt, now_us=now_us)
        if attempt.fault is None and attempt.ended_us is not None and attempt.accepted_us is not None:
            total, count = self._sums.get(attempt.backend, (0.0, 0))
            self._sums[attempt.backend] = (total + attempt.ended_us - attempt.accepted_us, count + 1)

    def _mean(self, backend: str) -> float:
        total, count = self._sums.get(backend, (0.0, 1))
        return total / count


class LeastBusy(Rule):
    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(catalogue, lambda job, found, now_us: sorted(found, key=self._open))

    def _open(self, backend: str) -> int:
        return self._in_flight[backend.partition("/")[0], "main"]


# --- oracles ----------------------------------------------------------------------------------------------------------


class Clairvoyant(Rule):
    """Knows for each job and vendor how the render would end and when, and asks nobody that would fail. No router can
    be this good: it wins by luck that is not yet rolled."""

    def __init__(self, catalogue: Catalogue, world: World, sort: Sort, prices: dict[str, tuple[int, ...]]) -> None:
        super().__init__(catalogue, self._by_truth, sort)
        self._world, self._sort, self._prices = world, sort, prices

    def _by_truth(self, gateway_job: GatewayJob, found: dict[str, Candidate], now_us: int) -> list[str]:
        job, now = self._world.jobs[int(gateway_job.id)], now_us / 1e6
        scores: dict[str, float] = {}
        for name in found:
            score = self._score(job, name.partition("/")[0], now)
            if score != math.inf:
                scores[name] = score
        return sorted(scores or found, key=lambda name: scores.get(name, 0.0))

    def _score(self, job: Job, vendor: str, now: float) -> float:
        world = self._world
        at = now + world.submit_seconds(vendor)
        if world.says(vendor, at):
            return math.inf
        done, well = world.ends(job, vendor, at)
        if not well:
            return math.inf
        return scored(self._sort, self._prices[vendor][job.clip] * world.price_factor(vendor, at) / 1e6, done - now)


class Informed(Clairvoyant):
    """Knows every vendor's true figures at every moment (median, spread, failures, queue, who is out), but not the
    dice: the best that measuring could ever reach."""

    billed = frozenset({"flint"})

    def _score(self, job: Job, vendor: str, now: float) -> float:
        world = self._world
        if world.says(vendor, now):
            return math.inf
        fails = world.fails(vendor, now)
        mean = world.median(vendor, job.clip, now) * math.exp(world.sigma(vendor) ** 2 / 2)
        finish = world.queue(vendor, now) + mean * (1 + fails / (1 - fails))
        price = self._prices[vendor][job.clip] * world.price_factor(vendor, now) / 1e6
        return scored(self._sort, price / (1 - fails) if vendor in self.billed else price, finish)


def scored(sort: Sort, usd: float, seconds: float) -> float:
    """What a clip costs by what counts; the other measure breaks ties."""
    match sort:
        case "price" | "kept_price":
            return usd + seconds * 1e-9
        case "latency":
            return seconds + usd * 1e-6
        case "balanced":
            return usd + seconds / 60 * DOLLARS_A_MINUTE


# --- all of them ------------------------------------------------------------------------------------------------------

OURS = tuple(f"ours: {sort}" for sort in SORTS)
RULES = (
    "first listed",
    "random",
    "round robin",
    "cheapest list price",
    "lowest submit latency",
    "lowest mean render",
    "least busy",
)
ORACLES = tuple(f"oracle: {sort}" for sort in SORTS)
INFORMED = tuple(f"informed: {sort}" for sort in SORTS)
ALL = (*RULES, *OURS, *INFORMED, *ORACLES)


def make(name: str, catalogue: Catalogue, world: World, prices: dict[str, tuple[int, ...]]) -> Ours:
    """The policy of this name, knowing nothing yet. Raises KeyError for a name that is none of ALL."""
    kind, _, word = name.partition(": ")
    sort: Sort = next((sort for sort in SORTS if sort == word), "balanced")
    makers: dict[str, Callable[[], Ours]] = {
        "first listed": lambda: FirstListed(catalogue),
        "random": lambda: Random(catalogue, seed=5),
        "round robin": lambda: RoundRobin(catalogue),
        "cheapest list price": lambda: Cheapest(catalogue),
        "lowest submit latency": lambda: SoonestToAcknowledge(catalogue),
        "lowest mean render": lambda: SoonestToRender(catalogue),
        "least busy": lambda: LeastBusy(catalogue),
        "ours": lambda: Ours(catalogue, sort),
        "oracle": lambda: Clairvoyant(catalogue, world, sort, prices),
        "informed": lambda: Informed(catalogue, world, sort, prices),
    }
    return makers[kind]()
