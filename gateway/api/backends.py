"""`GET /v1/backends`: every backend of the catalogue with the figures that it is ranked by, and what they rest on.

Law: reads memory only. The figures are the ranking's own (health and acceptance, asked at this moment); a figure that
rests on nothing seen says so by `samples: 0`. Money is US dollars, time is seconds. Field names keep their meaning.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway.acceptance import Acceptance
from gateway.api import Rooms
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.buying import resolved
from gateway.api.openapi import Operation, Query
from gateway.api.problems import Problem
from gateway.catalogue import AudioGrant, Backend
from gateway.health import Figures, bucket
from providers.spec import Media, Mode, VideoRequest

MICROS = 1_000_000
_PICTURE = Media(sha256="", content_type="image/jpeg", width=1, height=1, size_bytes=1)
_REQUESTS = {  # the smallest request of each mode; its seconds and its sound are what a bucket tells apart
    Mode.TEXT: VideoRequest(),
    Mode.FIRST_FRAME: VideoRequest(first_frame=_PICTURE),
    Mode.REFERENCES: VideoRequest(references=(_PICTURE,)),
}
_SOUNDS = {AudioGrant.NEVER: (False,), AudioGrant.OPTIONAL: (False, True), AudioGrant.ALWAYS: (True,)}


class RenderView(msgspec.Struct, kw_only=True):
    """Render times of one kind of clip. Those of clips like it (as long, with or without sound) count together."""

    bucket: str
    p50_seconds: float  # submit → done
    p95_seconds: float
    samples: int  # renders that this rests on, less what has faded; 0: the catalogue's word alone
    newest_seconds_ago: float | None  # how old the newest of them is; null: none like it was seen


class RateView(msgspec.Struct, kw_only=True):
    resolution: str
    audio: bool
    seconds: int | None  # set where whole clips are priced by their duration
    usd: float  # per second, or per clip


class PriceView(msgspec.Struct, kw_only=True):
    per: Literal["second", "clip"]
    rates: list[RateView]
    pretend: bool  # ranked by, never charged
    failed_jobs_are_billed: bool


class AcceptanceView(msgspec.Struct, kw_only=True):
    """What callers said of its clips, and what that comes to."""

    rate: float  # chance that the next clip is kept, 0 to 1
    tries: float  # clips until one is kept
    accepted: int
    rejected: int


class BackendView(msgspec.Struct, kw_only=True):
    """One model through one provider, as things stand."""

    id: str
    object: str = "backend"
    model: str
    provider: str
    credential: bool  # whether one is set here
    available: bool  # whether a clip would be bought from it now
    why: str | None  # it is not available
    in_flight: int  # renders out at the provider, on any of its backends
    slots: int  # renders at once over all of the provider's accounts
    waiting: int  # jobs here that wait for one of these slots
    overdue: int  # renders that are out for longer than nearly all before them
    trial: bool  # it had grown slow; its times are what it was settled at, and the next job tries it
    success: float  # chance that a render ends well, 0 to 1
    faults: dict[str, float]  # renders that failed of late, by kind; old ones count for less and less
    renders: list[RenderView]  # of what was seen; else of its plainest clip, by the catalogue's word
    price: PriceView | None  # null: not known, and so never bought
    checked: str | None  # the day when a person last compared the row with its source
    checked_days: int | None  # how long ago that is
    acceptance: AcceptanceView


class BackendsView(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[BackendView]


OPERATIONS = (
    Operation(
        "get",
        "/v1/backends",
        "listBackends",
        "Every backend with the figures that it is ranked by.",
        BackendsView,
        query=(
            Query("model", {"type": "string"}, "A model or alias: only those that sell it."),
            Query("provider", {"type": "string"}, "Only those of one provider."),
        ),
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    buckets = {row.id: _buckets(row) for row in rooms.catalogue.backends}  # a test key's rows make the same clips

    @get("/v1/backends")
    async def list_backends(request: Request[Any, Any, Any]) -> Answer:
        seen = rooms.of(ring.caller(request.scope, needs=""))
        backends = {row.id: row for row in seen.catalogue.backends}
        wanted = list(backends.values())
        model, provider = request.query_params.get("model"), request.query_params.get("provider")
        if model is not None:
            wanted = [backends[id] for id in resolved(seen, model).backends if id in backends]
        if provider is not None:
            _must_be_known(provider, {row.provider for row in backends.values()})
            wanted = [row for row in wanted if row.provider == provider]
        now_us = rooms.now_us()
        return Answer(encode(BackendsView(data=[_shown(seen, row, buckets[row.id], now_us=now_us) for row in wanted])))

    return [list_backends]


def _must_be_known(provider: str, known: set[str]) -> None:
    if provider not in known:
        near = difflib.get_close_matches(provider, sorted(known), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        message = f"There is no provider {provider[:80]!r}; {hint}"
        raise Problem(404, "provider_not_found", message, param="provider", nearest=near[0] if near else None)


def _buckets(row: Backend) -> tuple[str, ...]:
    """Every kind of clip that the backend makes, under the name that its render time counts by, the plainest first."""
    shortest = row.seconds.nearest(5)
    lengths = (shortest, *(seconds for seconds in row.seconds.all() if seconds != shortest))
    return tuple(
        dict.fromkeys(
            bucket(msgspec.structs.replace(_REQUESTS[mode], seconds=seconds, audio=audio))
            for audio in _SOUNDS[row.audio]
            for seconds in lengths
            for mode in row.model_id
        )
    )


def _shown(rooms: Rooms, row: Backend, buckets: tuple[str, ...], *, now_us: int) -> BackendView:
    figures = {name: rooms.health.figures(row, name, now_us=now_us) for name in buckets}
    plainest = figures[buckets[0]]
    seen = {name: one for name, one in figures.items() if one.samples and not one.trial}
    today = datetime.fromtimestamp(now_us / MICROS, UTC).date()
    credential = row.provider in rooms.settings.configured
    why = _why_not(row, plainest, credential=credential)
    return BackendView(
        id=row.id,
        model=row.model,
        provider=row.provider,
        credential=credential,
        available=why is None,
        why=why,
        in_flight=plainest.in_flight,
        slots=plainest.slots,
        waiting=plainest.waiting,
        overdue=plainest.overdue,
        trial=plainest.trial,
        success=round(plainest.success, 4),
        faults={kind.value: round(count, 2) for kind, count in rooms.health.faults(row.id, now_us=now_us).items()},
        renders=[_render(rooms, row, name, one, now_us) for name, one in (seen or {buckets[0]: plainest}).items()],
        price=_price(row),
        checked=row.checked.isoformat() if row.checked else None,
        checked_days=(today - row.checked).days if row.checked else None,
        acceptance=_acceptance(rooms.acceptance, row),
    )


def _why_not(row: Backend, figures: Figures, *, credential: bool) -> str | None:
    if not credential:
        return f"no credential for {row.provider} is set here"
    if row.price is None:
        return "its price is not known"
    return figures.why or None


def _render(rooms: Rooms, row: Backend, name: str, figures: Figures, now_us: int) -> RenderView:
    newest_us = rooms.health.newest_us(row.id, name)
    return RenderView(
        bucket=name,
        p50_seconds=round(figures.p50_seconds, 1),
        p95_seconds=round(figures.p95_seconds, 1),
        samples=figures.samples,
        newest_seconds_ago=None if newest_us is None else round((now_us - newest_us) / MICROS, 1),
    )


def _price(row: Backend) -> PriceView | None:
    if row.price is None:
        return None
    rates = [
        RateView(resolution=rate.resolution, audio=rate.audio, seconds=rate.seconds, usd=rate.usd_micros / MICROS)
        for rate in row.price.rates
    ]
    return PriceView(
        per=row.price.per, rates=rates, pretend=row.pretend, failed_jobs_are_billed=row.failed_jobs_are_billed
    )


def _acceptance(acceptance: Acceptance, row: Backend) -> AcceptanceView:
    judged = acceptance.judged(row.id)
    return AcceptanceView(
        rate=round(judged.rate, 4),
        tries=round(judged.tries, 2),
        accepted=judged.accepted,
        rejected=judged.rejected,
    )
