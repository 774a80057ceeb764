"""What a health is told in tests: news of one backend."""

from __future__ import annotations

from gateway.catalogue import Backend
from gateway.health import Health
from providers.spec import Fault, Kind, Verdict
from tests.catalogue_rows import NOW_US, backend

ROW = backend("acme/one")
SILENT = "≤5s/silent"


def fault(kind: Kind) -> Fault:
    return Fault(kind=kind, verdict=Verdict.ELSEWHERE)


def rendered(health: Health, seconds: float, *, times: int = 1, at_us: int = NOW_US, row: Backend = ROW) -> None:
    for _ in range(times):
        health.observe(backend=row.id, bucket=SILENT, at_us=at_us, render_seconds=seconds, fault=None)


def failed(health: Health, kind: Kind = Kind.UNAVAILABLE, *, times: int = 1, at_us: int = NOW_US) -> None:
    for _ in range(times):
        health.observe(backend=ROW.id, bucket=SILENT, at_us=at_us, render_seconds=None, fault=fault(kind))


def refused(health: Health, *, times: int = 1, at_us: int = NOW_US, kind: Kind = Kind.UNAVAILABLE) -> None:
    """Submits that the vendor did not take."""
    for _ in range(times):
        health.observe(backend=ROW.id, bucket=SILENT, at_us=at_us, render_seconds=None, fault=fault(kind), bought=False)
