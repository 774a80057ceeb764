"""For every catalogue, request, wish and history: no decision breaks a hard limit or hangs on an accident."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalogue import AudioGrant, Backend, Catalogue, Match, Seconds, TypicalSeconds
from gateway.health import Health, bucket
from gateway.jobs import Preferences
from gateway.router import Decision, Policy, rank
from providers.spec import Fault, Kind, Media, Shot, Verdict, VideoRequest
from tests.catalogue_rows import NOW_US, backend, find, picture

FAST = TypicalSeconds(p50=30, p95=60)
SLOW = TypicalSeconds(p50=200, p95=500)


def rows() -> st.SearchStrategy[list[Backend]]:
    def build(number: int, fields: dict[str, Any]) -> Backend:
        return backend(f"p{number % 3}/m{number}", model="one", **fields)

    fields = st.fixed_dictionaries(
        {
            "usd_per_second": st.none() | st.sampled_from([0.05, 0.1, 0.2]),
            "audio": st.sampled_from(list(AudioGrant)),
            "seconds": st.sampled_from([Seconds(min=3, max=15), Seconds(values=(5, 10)), Seconds(values=(4, 6, 8))]),
            "resolutions": st.sampled_from([("720p",), ("1080p", "720p"), ("4k",)]),
            "typical_seconds": st.sampled_from([FAST, SLOW]),
            "failed_jobs_are_billed": st.booleans(),
            "follows_picture": st.booleans(),
            "seed": st.booleans(),
            "last_frame": st.booleans(),
            "shots": st.integers(0, 3),
        }
    )
    return st.lists(fields, min_size=1, max_size=8).map(lambda all: [build(n, given) for n, given in enumerate(all)])


def videos() -> st.SearchStrategy[VideoRequest]:
    pictures: st.SearchStrategy[Media | None] = st.none() | st.builds(
        picture, width=st.integers(200, 2000), height=st.integers(200, 2000)
    )
    shots = st.lists(st.builds(Shot, prompt=st.just("s"), seconds=st.integers(1, 6)), max_size=3).map(tuple)
    return st.builds(
        VideoRequest,
        seconds=st.none() | st.integers(1, 20),
        audio=st.none() | st.booleans(),
        resolution=st.none() | st.sampled_from(["720p", "1080p", "4k", "480p"]),
        aspect_ratio=st.none() | st.sampled_from(["16:9", "9:16", "1:1", "4:3"]),
        seed=st.none() | st.just(7),
        first_frame=pictures,
        last_frame=pictures,
        shots=shots,
    )


def wishes() -> st.SearchStrategy[Preferences]:
    names = st.lists(st.sampled_from(["p0", "p1", "p2", "p0/m0", "p1/m1"]), max_size=2).map(tuple)
    return st.builds(
        Preferences,
        order=names,
        only=names,
        ignore=names,
        allow_fallbacks=st.booleans(),
        require_parameters=st.booleans(),
        sort=st.none() | st.sampled_from(["price", "latency", "balanced"]),
        max_price_usd_micros=st.none() | st.sampled_from([300_000, 600_000, 2_000_000]),
        max_latency_seconds=st.just({}) | st.just({"p90": 100.0}),
    )


class Known(msgspec.Struct, frozen=True):
    """What a job brings to its decision, and what was seen before it."""

    seed: int
    place: tuple[str, int] | None
    left_usd_micros: int | None
    tried: tuple[str, ...]
    news: tuple[tuple[str, str, float], ...]  # backend, what happened, seconds ago

    def health(self) -> Health:
        health = Health()
        for name, what, ago in self.news:
            at_us = NOW_US - int(ago * 1e6)
            if what in ("silent", "heard"):
                silent = Fault(kind=Kind.TIMEOUT, verdict=Verdict.SAME)
                health.polled(name, at_us=at_us, fault=silent if what == "silent" else None)
                continue
            fault = None if what == "done" else Fault(kind=_HAPPENED[what], verdict=Verdict.ELSEWHERE)
            health.started(name, bucket="≤5s/silent", at_us=at_us)
            if what == "out":
                continue
            health.ended(name, bucket="≤5s/silent", at_us=at_us)
            health.observe(
                backend=name,
                bucket="≤5s/silent",
                at_us=at_us,
                render_seconds=ago + 1 if fault is None else None,
                fault=fault,
                bought=what == "broke",
            )
        return health

    def rank(self, found: Match, wish: Preferences, *, seed: int | None = None) -> Decision:
        return rank(
            found,
            self.health(),
            Policy(),
            wish,
            now_us=NOW_US,
            seed=self.seed if seed is None else seed,
            place=self.place,
            left_usd_micros=self.left_usd_micros,
            tried=self.tried,
        )


_HAPPENED = {
    "broke": Kind.GENERATION_FAILED,
    "refused": Kind.UNAVAILABLE,
    "no money": Kind.INSUFFICIENT_FUNDS,
    "out": Kind.UNKNOWN,
}


def known() -> st.SearchStrategy[Known]:
    names = st.sampled_from(["p0/m0", "p1/m1", "p2/m2", "p0/m3", "p1/m4"])
    happened = st.sampled_from(["done", "done", "broke", "refused", "refused", "no money", "out", "silent", "heard"])
    return st.builds(
        Known,
        seed=st.integers(0, 2**32),
        place=st.none() | st.tuples(st.sampled_from(["p0", "p1"]), st.integers(0, 5)),
        left_usd_micros=st.none() | st.sampled_from([0, 300_000, 2_000_000]),
        tried=st.lists(names, max_size=2).map(tuple),
        news=st.lists(st.tuples(names, happened, st.floats(0, 5000)), max_size=12).map(tuple),
    )


@settings(max_examples=300, deadline=None)
@given(rows=rows(), video=videos(), wish=wishes(), seen=known(), seed=st.integers(0, 1000))
def test_no_decision_breaks_a_hard_limit_or_depends_on_the_catalogues_order(
    rows: list[Backend], video: VideoRequest, wish: Preferences, seen: Known, seed: int
) -> None:
    catalogue = Catalogue(rows)
    configured = frozenset({"p0", "p1"})
    found = find(catalogue, "one", video, wish, configured=configured)
    decision = seen.rank(found, wish)

    for ranked in decision.ranked:
        candidate = found.candidate(ranked.backend)
        assert candidate is not None
        row, request = candidate.backend, candidate.request
        assert row.provider in configured
        assert request.seconds is not None
        assert row.seconds.grants(request.seconds)
        assert video.seconds in (None, request.seconds)
        assert video.audio in (None, request.audio)
        assert request.audio in {"never": (False,), "optional": (False, True), "always": (True,)}[row.audio]
        assert request.resolution in row.resolutions
        assert video.resolution in (None, request.resolution)
        assert not (video.last_frame and not row.last_frame)
        assert len(video.shots) <= row.shots
        assert not video.shots or request.seconds == sum(shot.seconds for shot in video.shots)
        if video.seed is not None:
            assert request.seed == video.seed or (not wish.require_parameters and ranked.warnings)
            assert row.seed or request.seed is None
        if video.first_frame and row.follows_picture:
            assert request.aspect_ratio is None
            if video.aspect_ratio:
                a, b = map(int, video.aspect_ratio.split(":"))
                assert abs(video.first_frame.width / video.first_frame.height * b / a - 1) <= 0.02
        elif video.aspect_ratio:
            assert request.aspect_ratio == video.aspect_ratio
        names = {row.provider, row.id}
        assert not wish.only or names & set(wish.only)
        assert not names & set(wish.ignore)
        assert wish.max_price_usd_micros is None or candidate.quote.usd_micros <= wish.max_price_usd_micros
        assert wish.allow_fallbacks or len(decision.ranked) == 1
        assert seen.health().figures(row, bucket(request), now_us=NOW_US).available
        assert math.isfinite(ranked.score)
        assert ranked.expected_finish_seconds > 0
    named = [ranked.backend for ranked in decision.ranked] + [refused.backend for refused in decision.refusals]
    assert sorted(named) == sorted(row.id for row in rows)

    shuffled = random.Random(seed).sample(rows, len(rows))
    again = find(Catalogue(shuffled), "one", video, wish, configured=configured)
    assert seen.rank(again, wish) == decision  # the same figures and the same seed
    turns = [_turn_of(ranked.backend, ranked.provider, wish) for ranked in decision.ranked]
    assert turns == sorted(turns)
    if wish.allow_fallbacks:  # a seed changes the order, never who may be asked
        assert {one.backend for one in seen.rank(found, wish, seed=seed).ranked} == {
            one.backend for one in decision.ranked
        }


def _turn_of(backend: str, provider: str, wish: Preferences) -> int:
    """The place in the caller's own order, which goes before all that the router knows."""
    names = {backend, provider, f"{provider}/one"}
    return next((turn for turn, name in enumerate(wish.order) if name in names), len(wish.order))
