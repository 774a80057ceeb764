"""Backends, pictures and the shipped catalogue, for every test that matches or ranks."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from gateway.catalogue import (
    AudioGrant,
    Backend,
    Catalogue,
    Match,
    Price,
    Rate,
    Refusal,
    Seconds,
    TypicalSeconds,
    load,
    match,
)
from gateway.jobs import Preferences
from providers.spec import Media, Mode, VideoRequest

SHIPPED = Path(__file__).parents[1] / "config" / "catalogue"
NOW_US = 1_800_000_000_000_000


@cache
def shipped(name: str = "fal") -> Catalogue:
    """One shipped catalogue file."""
    return load([SHIPPED / f"{name}.toml"])


def backend(name: str = "acme/one", *, usd_per_second: float | None = 0.1, **changes: Any) -> Backend:
    """A backend that grants much: text and first frame, 3 to 15 s, 720p, sound on request, dollars per second."""
    provider, _, model = name.partition("/")
    resolutions = changes.get("resolutions", ("720p",))
    audio = changes.get("audio", AudioGrant.OPTIONAL)
    states = {"never": (False,), "optional": (False, True), "always": (True,)}[audio]
    price = None
    if usd_per_second is not None:
        micros = round(usd_per_second * 1_000_000)
        rates = tuple(Rate(resolution=word, audio=state, usd_micros=micros) for word in resolutions for state in states)
        price = Price(per="second", rates=rates)
    fields: dict[str, Any] = {
        "id": name,
        "model": model,
        "provider": provider,
        "model_id": {Mode.TEXT: "t", Mode.FIRST_FRAME: "i"},
        "seconds": Seconds(min=3, max=15),
        "resolutions": resolutions,
        "aspect_ratios": ("16:9", "9:16", "1:1"),
        "follows_picture": True,
        "audio": audio,
        "price": price,
        "typical_seconds": TypicalSeconds(p50=100, p95=240),
        "checked": date(2026, 10, 4),
        "source": "https://acme.test/prices",
    }
    return Backend(**(fields | changes))


def picture(
    width: int = 1920, height: int = 1080, *, size_bytes: int = 800_000, content_type: str = "image/jpeg"
) -> Media:
    """A picture as it stands after its header was checked."""
    return Media(sha256="0" * 64, content_type=content_type, width=width, height=height, size_bytes=size_bytes)


def find(
    catalogue: Catalogue,
    model: str,
    video: VideoRequest,
    preferences: Preferences | None = None,
    *,
    configured: frozenset[str] | None = None,
) -> Match:
    """`match` with every provider configured, unless said otherwise."""
    providers = frozenset(row.provider for row in catalogue.backends) if configured is None else configured
    target = catalogue.everything() if model == "*" else catalogue.resolve(model, {})
    return match(catalogue, target, video, preferences or Preferences(), configured=providers)


def asked(row: Backend, video: VideoRequest, preferences: Preferences | None = None) -> Match:
    """A catalogue of this one row, asked for this clip."""
    return find(Catalogue([row]), row.model, video, preferences)


def only(found: Match) -> Refusal:
    """The one refusal of a match that has nothing else."""
    assert found.candidates == ()
    assert len(found.refusals) == 1
    return found.refusals[0]
