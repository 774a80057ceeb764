"""Scenarios as data: the market, what its vendors truly do, and what befalls them.

Law: read from the two files beside this one, and checked while read; a slip in them stops the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from gateway.catalogue import Backend, Catalogue, load

HERE = Path(__file__).parent
CATALOGUE_LAG = 600.0  # seconds until an operator's catalogue follows a vendor's new price


class Vendor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a vendor truly does. Seconds of a silent clip of 5 s; `sigma` of the logarithm."""

    median: float
    sigma: float
    fails: float
    submit_ms: float


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that befalls a vendor (or, a rush, us). `drift` and `price` last; the others end at `to`."""

    kind: Literal["drift", "crowd", "rush", "outage", "brownout", "price", "limit", "refuse"]
    start: float = msgspec.field(name="from")
    end: float = msgspec.field(name="to", default=float("inf"))
    vendor: str = ""
    factor: float = 1.0
    fails: float = 0.0
    seconds: float = 0.0
    slots: int = 0

    @property
    def hurts(self) -> bool:
        """Whether a good router would leave the vendor alone while it lasts."""
        return self.kind in ("outage", "brownout", "refuse")


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One market's day. `prices` and `typical` are factors on the market's rows, `fails` replaces the vendors' own."""

    name: str
    event: tuple[Event, ...] = ()
    prices: dict[str, float] = {}
    typical: dict[str, float] = {}
    fails: dict[str, float] = {}


class Seeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tuning: int
    unseen: tuple[int, ...]


class Ground(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of scenarios.toml."""

    every_seconds: float
    seeds: Seeds
    vendors: dict[str, Vendor]
    scenario: tuple[Scenario, ...]


def read_ground() -> Ground:
    """The committed scenarios. Raises msgspec.ValidationError on a slip."""
    ground = msgspec.toml.decode((HERE / "scenarios.toml").read_bytes(), type=Ground)
    named = {event.vendor for scenario in ground.scenario for event in scenario.event} - {""}
    for scenario in ground.scenario:
        named |= scenario.prices.keys() | scenario.typical.keys() | scenario.fails.keys()
    strangers = (named | {row.provider for row in market()}) ^ ground.vendors.keys()
    if strangers:
        raise msgspec.ValidationError(f"vendors of one file alone: {sorted(strangers)}")
    return ground


def market() -> tuple[Backend, ...]:
    """The rows, through the catalogue's own reader."""
    return load([HERE / "market.toml"]).backends


def catalogue(scenario: Scenario, at: float, *, stretch: float = 1.0) -> Catalogue:
    """What the operator believes at `at`: the market's rows with this scenario's prices and priors. On a stretched day
    jobs are fewer, and so are the slots."""
    return Catalogue(_believed(row, scenario, at, stretch) for row in market())


def fewer(slots: int, stretch: float) -> int:
    """Slots on a stretched day."""
    return max(round(slots / stretch), 1)


def catalogue_changes(scenario: Scenario) -> tuple[float, ...]:
    """When the operator's catalogue is replaced."""
    return tuple(event.start + CATALOGUE_LAG for event in scenario.event if event.kind == "price")


def _believed(row: Backend, scenario: Scenario, at: float, stretch: float) -> Backend:
    factor = scenario.prices.get(row.provider, 1.0)
    for event in scenario.event:
        if event.kind == "price" and event.vendor == row.provider and at >= event.start + CATALOGUE_LAG:
            factor *= event.factor
    off = scenario.typical.get(row.provider, 1.0)
    typical = msgspec.structs.replace(
        row.typical_seconds, p50=row.typical_seconds.p50 * off, p95=row.typical_seconds.p95 * off
    )
    price = row.price
    if price is not None:
        rates = tuple(msgspec.structs.replace(rate, usd_micros=round(rate.usd_micros * factor)) for rate in price.rates)
        price = msgspec.structs.replace(price, rates=rates)
    slots = fewer(row.max_in_flight, stretch)
    return msgspec.structs.replace(row, price=price, typical_seconds=typical, max_in_flight=slots)
