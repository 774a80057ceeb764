"""How things stand at the moment of a scrape: read from the rooms that know, kept nowhere.

Law: it only reads, on the event loop, and asks no vendor and no disk. Every series stands for a row of the catalogue
whose provider has a credential, or for that provider or account, so there are as many as the configuration makes.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.acceptance import Acceptance
from gateway.catalogue import Backend, Catalogue
from gateway.catalogue.rows import price_of
from gateway.health import Health
from gateway.jobs import Attempt, AttemptState, JobState
from gateway.settings import Account
from gateway.store.live import LiveView

MICROS = 1_000_000
SECOND_US = 1_000_000
BUCKET, CLIP_SECONDS = "≤5s/silent", 5  # the clip that stands for all: 5 s, silent, from text
OPEN = tuple(state for state in AttemptState if state.is_open)
BACKEND = ("provider", "backend")


class Sources(NamedTuple):
    """Who is asked at a scrape."""

    catalogue: Catalogue
    health: Health
    acceptance: Acceptance
    accounts: tuple[Account, ...]
    live: LiveView
    open_attempts: Callable[[], Iterable[Attempt]]
    writable: Callable[[], bool]
    now_us: Callable[[], int]


class Scrape(Collector):
    """Gauges, made anew for each scrape."""

    def __init__(self, sources: Sources) -> None:
        self._of = sources

    def describe(self) -> list[Metric]:
        """Nothing: the registry is not to collect before everything stands."""
        return []

    def collect(self) -> Iterator[Metric]:
        now_us = self._of.now_us()
        providers = {account.provider for account in self._of.accounts}
        rows = [row for row in self._of.catalogue.backends if row.provider in providers]
        yield _gauge("build_info", "Which Filmgate this is.", ("version",), [((metadata.version("filmgate"),), 1)])
        yield _gauge("store_writable", "Whether the store takes writes.", (), [((), self._of.writable())])
        yield _gauge("event_streams_open", "Open event streams.", (), [((), self._of.live.feed.count())])
        yield from self._jobs()
        yield from self._attempts(rows)
        yield from self._backends(rows, now_us)
        yield from self._slots(rows, now_us)
        yield from self._prices(rows, now_us)

    def _jobs(self) -> Iterator[Metric]:
        counts = Counter((job.state, job.test) for job in self._of.live.unfinished_jobs())
        states = [(state, test) for state in (JobState.QUEUED, JobState.ACTIVE) for test in (False, True)]
        yield _gauge(
            "jobs",
            "Jobs that have not ended.",
            ("state", "test"),
            [((state.value, "true" if test else "false"), counts[state, test]) for state, test in states],
        )

    def _attempts(self, rows: list[Backend]) -> Iterator[Metric]:
        """An attempt may be out on a row that the catalogue has lost since: it counts all the same."""
        attempts = [attempt for attempt in self._of.open_attempts() if not attempt.test]
        counts = Counter((attempt.provider, attempt.backend, attempt.state.value) for attempt in attempts)
        known = dict.fromkeys((row.provider, row.id) for row in rows)
        known |= dict.fromkeys((attempt.provider, attempt.backend) for attempt in attempts)
        yield _gauge(
            "attempts_open",
            'Attempts that have not ended; state="unknown": whether they were bought is not known.',
            (*BACKEND, "state"),
            [((*at, state.value), counts[(*at, state.value)]) for at in known for state in OPEN],
        )
        reserved: Counter[tuple[str, str]] = Counter()
        for attempt in attempts:
            reserved[attempt.provider, attempt.backend] += attempt.price_usd_micros
        for job in self._of.live.unfinished_jobs():
            if job.state is JobState.QUEUED and not job.test:
                reserved[job.routing.provider, job.routing.backend] += job.reserved_usd_micros
        yield _gauge(
            "reserved_usd",
            "US dollars that open attempts and queued jobs may yet cost.",
            BACKEND,
            [(at, reserved[at] / MICROS) for at in dict.fromkeys((*known, *reserved))],
        )

    def _backends(self, rows: list[Backend], now_us: int) -> Iterator[Metric]:
        figures = [(row, self._of.health.figures(row, BUCKET, now_us=now_us)) for row in rows]
        yield _gauge(
            "backend_info",
            "Which model a backend makes.",
            (*BACKEND, "model"),
            [((row.provider, row.id, row.model), 1) for row in rows],
        )
        yield _gauge(
            "backend_available",
            "0 while it rests after failures in a row, or all its accounts are out.",
            BACKEND,
            [((row.provider, row.id), known.available) for row, known in figures],
        )
        yield _gauge(
            "backend_success_ratio",
            "Chance that a render ends well, as routing takes it.",
            BACKEND,
            [((row.provider, row.id), known.success) for row, known in figures],
        )
        yield _gauge(
            "backend_render_expected_seconds",
            "Render time of a silent 5 s clip, as routing takes it.",
            (*BACKEND, "percentile"),
            [
                ((row.provider, row.id, name), seconds)
                for row, known in figures
                for name, seconds in (("50", known.p50_seconds), ("95", known.p95_seconds))
            ],
        )
        yield _gauge(
            "account_available",
            "0 while an account is out: the vendor refused its credential or balance.",
            ("provider", "account"),
            [
                ((one.provider, one.name), self._of.health.account_available(one.provider, one.name, now_us=now_us))
                for one in self._of.accounts
            ],
        )
        judged = [(row, self._of.acceptance.judged(row.id)) for row in rows]
        heard = [(row, one) for row, one in judged if one.accepted + one.rejected]
        yield _gauge(
            "clip_acceptance_ratio",
            "Share of clips that callers kept, of those that they judged; none where they judged none.",
            BACKEND,
            [((row.provider, row.id), one.accepted / (one.accepted + one.rejected)) for row, one in heard],
        )
        yield _gauge(
            "clips_judged",
            "Clips that callers have judged.",
            (*BACKEND, "verdict"),
            [
                ((row.provider, row.id, verdict), count)
                for row, one in judged
                for verdict, count in (("accepted", one.accepted), ("rejected", one.rejected))
            ],
        )

    def _slots(self, rows: list[Backend], now_us: int) -> Iterator[Metric]:
        """Slots belong to a provider; where its rows allow different counts, the most."""
        limits: dict[str, int] = {}
        used, waiting = {}, {}
        for row in rows:
            known = self._of.health.figures(row, BUCKET, now_us=now_us)
            limits[row.provider] = max(limits.get(row.provider, 0), known.slots)
            used[row.provider], waiting[row.provider] = known.in_flight, known.waiting
        for name, says, values in (
            ("slots_limit", "Renders at once that a provider's accounts allow just now.", limits),
            ("slots_in_use", "Renders that are out at a provider.", used),
            ("jobs_waiting_for_slot", "Jobs that wait for a slot of a provider.", waiting),
        ):
            yield _gauge(name, says, ("provider",), [((provider,), count) for provider, count in values.items()])

    def _prices(self, rows: list[Backend], now_us: int) -> Iterator[Metric]:
        prices: list[tuple[tuple[str, ...], float]] = []
        for row in rows:
            length = row.seconds.nearest(CLIP_SECONDS)
            for resolution, audio in dict.fromkeys(
                (r.resolution, r.audio) for r in (row.price.rates if row.price else ())
            ):
                price = price_of(row, resolution=resolution, audio=audio, seconds=length)
                if price is not None:
                    labels = (row.provider, row.id, resolution or "", "true" if audio else "false")
                    prices.append((labels, price.charge_usd_micros / MICROS / length))
        yield _gauge(
            "price_usd_per_second",
            "Price in force of a second of a clip of 5 s, or of the nearest length; 0 where it is never charged.",
            (*BACKEND, "resolution", "audio"),
            prices,
        )
        today = datetime.datetime.fromtimestamp(now_us / SECOND_US, datetime.UTC).date()
        yield _gauge(
            "price_age_seconds",
            "Time since the day on which a person compared a backend's row with its source.",
            BACKEND,
            [
                ((row.provider, row.id), (today - row.checked).total_seconds())
                for row in rows
                if row.checked is not None
            ],
        )


def _gauge(
    name: str, says: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"filmgate_{name}", says, labels=labels)
    for at, value in values:
        family.add_metric(at, float(value))
    return family
