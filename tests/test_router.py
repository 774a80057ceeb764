"""The ranking: money until a clip is in hand, minutes until then, and never against a hard limit."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalogue import Alias, AudioGrant, Backend, Catalogue, Code, Seconds, TypicalSeconds, match
from gateway.health import Health
from gateway.jobs import Preferences, Sort
from gateway.router import Decision, Policy, rank
from providers.spec import Fault, Kind, Media, Shot, Verdict, VideoRequest
from tests.catalogue_rows import NOW_US, backend, find, picture, shipped

FAST = TypicalSeconds(p50=30, p95=60)
SLOW = TypicalSeconds(p50=200, p95=500)

CHEAP_SLOW = backend("acme/one", usd_per_second=0.05, typical_seconds=SLOW)
DEAR_FAST = backend("beta/one", usd_per_second=0.30, typical_seconds=FAST)
MIDDLE = backend("gamma/one", usd_per_second=0.10)
THREE = Catalogue([DEAR_FAST, CHEAP_SLOW, MIDDLE])
EASY = VideoRequest(prompt="a fox", seconds=5, audio=False)


def decide(
    catalogue: Catalogue,
    preferences: Preferences | None = None,
    *,
    health: Health | None = None,
    policy: Policy | None = None,
    video: VideoRequest = EASY,
) -> Decision:
    preferences = preferences or Preferences()
    found = find(catalogue, "one", video, preferences)
    return rank(found, health or Health(), policy or Policy(), preferences, now_us=NOW_US)


def order(decision: Decision) -> list[str]:
    return [ranked.provider for ranked in decision.ranked]


# --- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sort", "first_to_last"),
    [
        ("price", ["acme", "gamma", "beta"]),
        ("latency", ["beta", "gamma", "acme"]),
        ("balanced", ["acme", "gamma", "beta"]),
    ],
)
def test_sorts_by_what_the_caller_asks(sort: Sort, first_to_last: list[str]) -> None:
    decision = decide(THREE, Preferences(sort=sort), policy=Policy(sort="latency"))

    assert (order(decision), decision.sort) == (first_to_last, sort)


def test_balanced_pays_for_minutes_at_the_operators_rate() -> None:
    orders = [order(decide(THREE, policy=Policy(usd_per_minute_of_waiting=rate))) for rate in (0.0, 0.2, 5.0)]

    assert orders == [["acme", "gamma", "beta"], ["gamma", "acme", "beta"], ["beta", "gamma", "acme"]]


def test_the_policy_sorts_when_the_caller_does_not() -> None:
    assert order(decide(THREE, policy=Policy(sort="latency")))[0] == "beta"
    assert order(decide(THREE, policy=Policy(sort="price")))[0] == "acme"


def test_failures_cost_money_only_where_they_are_billed() -> None:
    free = backend("acme/one", usd_per_second=0.10)
    billed = backend("beta/one", usd_per_second=0.095, failed_jobs_are_billed=True)

    decision = decide(Catalogue([free, billed]), Preferences(sort="price"))

    assert order(decision) == ["acme", "beta"]
    assert [ranked.expected_spend_usd_micros for ranked in decision.ranked] == [500_000, 527_778]
    assert decision.ranked[1].quote.usd_micros == 475_000


def test_a_backend_that_fails_often_is_expected_later() -> None:
    health = Health()
    for _ in range(4):
        broke = Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE)
        health.observe(backend="acme/one", bucket="≤5s/silent", at_us=NOW_US, render_seconds=None, fault=broke)
    twins = Catalogue([backend("acme/one"), backend("beta/one")])

    decision = decide(twins, health=health)

    assert order(decision) == ["beta", "acme"]
    assert decision.ranked[1].expected_finish_seconds == pytest.approx(100 / (9 / 14))


def test_measured_renders_beat_the_catalogues_guess() -> None:
    health = Health()
    for _ in range(30):
        health.observe(backend="acme/one", bucket="≤5s/silent", at_us=NOW_US, render_seconds=12.0, fault=None)

    decision = decide(THREE, Preferences(sort="latency"), health=health)

    assert order(decision)[0] == "acme"
    assert decision.ranked[0].samples == 30
    assert "30 renders seen" in decision.reason()


def test_a_full_account_is_waited_for_by_littles_law() -> None:
    health = Health()
    for _ in range(5):
        health.started("acme/one")
    row = backend("acme/one", max_in_flight=2)

    (ranked,) = decide(Catalogue([row]), health=health).ranked

    assert ranked.wait_seconds == pytest.approx((5 - 2 + 1) * 100 / 2)
    assert ranked.expected_finish_seconds == pytest.approx(200 + 100 / 0.9)
    assert (ranked.in_flight, ranked.slots) == (5, 2)


def test_a_free_slot_is_not_waited_for() -> None:
    health = Health()
    health.started("acme/one")

    assert decide(Catalogue([backend("acme/one", max_in_flight=2)]), health=health).ranked[0].wait_seconds == 0


def test_of_two_equal_prices_the_sooner_is_first_and_of_two_equal_times_the_cheaper() -> None:
    twins = Catalogue([backend("acme/one", typical_seconds=SLOW), backend("beta/one", typical_seconds=FAST)])
    peers = Catalogue([backend("acme/one", usd_per_second=0.2), backend("beta/one", usd_per_second=0.1)])

    assert order(decide(twins, Preferences(sort="price"))) == ["beta", "acme"]
    assert order(decide(peers, Preferences(sort="latency"))) == ["beta", "acme"]


def test_equals_keep_the_order_in_which_they_were_named() -> None:
    catalogue = Catalogue([backend("acme/one"), backend("acme/two"), backend("beta/one")])
    target = catalogue.resolve("all", {"all": Alias(models=("two", "one"))})
    found = match(catalogue, target, EASY, Preferences(), configured=["acme", "beta"])

    decision = rank(found, Health(), Policy(), Preferences(), now_us=NOW_US)

    assert [ranked.backend for ranked in decision.ranked] == ["acme/two", "acme/one", "beta/one"]


# --- the caller's wishes ----------------------------------------------------------------------------------------------


def test_preferred_latency_keeps_those_who_keep_it_and_takes_the_cheapest() -> None:
    decision = decide(THREE, Preferences(max_latency_seconds={"p90": 250}), policy=Policy(sort="latency"))

    assert (order(decision), decision.sort) == (["gamma", "beta"], "price")
    (refused,) = decision.refusals
    assert (refused.backend, refused.code) == ("acme/one", Code.TOO_SLOW)
    assert refused.param == "provider.preferred_max_latency.p90"
    assert refused.message == "acme/one has a p90 of about 7 min (asked: p90 within 250 s)"


@pytest.mark.parametrize(("name", "limit", "kept"), [("p50", 101, True), ("p50", 99, False), ("p95", 241, True)])
def test_a_quantile_is_held_against_the_render_time(name: str, limit: float, kept: bool) -> None:
    decision = decide(Catalogue([MIDDLE]), Preferences(max_latency_seconds={name: limit}))

    assert bool(decision.ranked) is kept


def test_every_preferred_latency_must_be_kept() -> None:
    decision = decide(Catalogue([MIDDLE]), Preferences(max_latency_seconds={"p50": 120, "p99": 130}))

    assert decision.ranked == ()


def test_the_callers_order_comes_before_any_score() -> None:
    decision = decide(THREE, Preferences(order=("beta", "gamma/one"), sort="price"))

    assert order(decision) == ["beta", "gamma", "acme"]
    assert decision.reason().endswith("number 1 of 3 in provider.order")


def test_without_fallbacks_only_the_first_is_tried() -> None:
    decision = decide(THREE, Preferences(allow_fallbacks=False, sort="price"))

    assert order(decision) == ["acme"]
    assert {(refused.backend, refused.code) for refused in decision.refusals} == {
        ("beta/one", Code.NO_FALLBACKS),
        ("gamma/one", Code.NO_FALLBACKS),
    }


def test_who_is_out_of_service_is_refused_with_its_quote() -> None:
    health = Health()
    health.block("acme", "main", NOW_US + 60_000_000)

    decision = decide(THREE, Preferences(sort="price"), health=health)

    assert order(decision) == ["gamma", "beta"]
    (refused,) = decision.refusals
    assert (refused.code, str(refused.quote)) == (Code.UNAVAILABLE, "$0.25")
    assert "is out of service: its account is out for 60 s more" in refused.message


# --- what people and programs read ------------------------------------------------------------------------------------


def test_the_reason_reads_well() -> None:
    decision = decide(THREE, Preferences(sort="price"))

    assert decision.reason() == (
        "acme/one: $0.25, done in about 200 s (95 % within 8 min; no renders seen yet); cheapest of 3"
    )
    assert decision.ranked[1].reason.endswith("; number 2 of 3 by price")
    assert decide(Catalogue([MIDDLE])).reason().endswith("; the only one that can")
    assert decide(Catalogue([MIDDLE]), video=VideoRequest(seconds=99)).reason() == (
        "gamma/one makes 3–15 s (asked: 99 s)"
    )
    assert decide(THREE, video=VideoRequest(seconds=99)).reason() == "None of 3 backends can make this clip"


def test_a_pretend_price_says_so() -> None:
    assert decide(Catalogue([backend("acme/one", pretend=True)])).reason().startswith("acme/one: $0.50 (pretend), ")


def test_a_decision_survives_json() -> None:
    health = Health()
    health.block("acme", "main", NOW_US + 60_000_000)
    decision = decide(THREE, Preferences(max_latency_seconds={"p90": 100}), health=health)

    again = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)

    assert again == decision
    assert {refused.code for refused in again.refusals} == {Code.UNAVAILABLE, Code.TOO_SLOW}


# --- for every catalogue and every request ----------------------------------------------------------------------------


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


@settings(max_examples=250, deadline=None)
@given(rows=rows(), video=videos(), wish=wishes(), seed=st.integers(0, 1000))
def test_no_decision_breaks_a_hard_limit_or_depends_on_the_catalogues_order(
    rows: list[Backend], video: VideoRequest, wish: Preferences, seed: int
) -> None:
    catalogue = Catalogue(rows)
    configured = frozenset({"p0", "p1"})
    found = find(catalogue, "one", video, wish, configured=configured)
    decision = rank(found, Health(), Policy(), wish, now_us=NOW_US)

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
    named = [ranked.backend for ranked in decision.ranked] + [refused.backend for refused in decision.refusals]
    assert sorted(named) == sorted(row.id for row in rows)

    shuffled = random.Random(seed).sample(rows, len(rows))
    again = find(Catalogue(shuffled), "one", video, wish, configured=configured)
    assert rank(again, Health(), Policy(), wish, now_us=NOW_US) == decision


def test_the_shipped_catalogue_ranks_its_main_model() -> None:
    found = find(shipped(), "kling-v3-pro", VideoRequest(prompt="a", first_frame=picture()))

    decision = rank(found, Health(), Policy(), Preferences(), now_us=NOW_US)

    assert decision.reason() == (
        "fal/kling-v3-pro: $0.56, done in about 100 s (95 % within 240 s; no renders seen yet); the only one that can"
    )
    assert (decision.ranked[0].size, decision.ranked[0].seconds, decision.ranked[0].audio) == ("1920x1080", 5, False)
