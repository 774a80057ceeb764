"""The ranking: money until a clip is in hand, minutes until then, and never against a hard limit."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import msgspec
import pytest

from gateway.catalogue import Alias, Catalogue, Code, TypicalSeconds, match
from gateway.draws import normal, seed_of
from gateway.health import Z95, Health
from gateway.jobs import Preferences, Sort
from gateway.router import Decision, Policy, rank
from providers.spec import Fault, Kind, Verdict, VideoRequest
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
    sound, ill = decision.ranked
    mean = sound.p50_seconds * math.exp((math.log(2.4) / Z95) ** 2 / 2)
    assert sound.expected_finish_seconds == pytest.approx(mean + 0.1 * 0.6 * mean)  # it fails, and the other is asked
    assert ill.expected_finish_seconds == pytest.approx(mean + 5 / 14 * 0.6 * mean)


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

    mean = 100 * math.exp((math.log(2.4) / Z95) ** 2 / 2)
    assert ranked.wait_seconds == pytest.approx((5 - 2 + 1) * mean / 2)
    assert ranked.expected_finish_seconds > ranked.wait_seconds + mean
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


# --- what is drawn ----------------------------------------------------------------------------------------------------


def drawn(catalogue: Catalogue, seeds: int, *, sort: Sort = "latency", health: Health | None = None) -> Counter[str]:
    """Who comes first, over so many jobs."""
    wish = Preferences(sort=sort)
    found, health = find(catalogue, "one", EASY, wish), health or Health()
    jobs = (seed_of(f"job_{number}") for number in range(seeds))
    return Counter(rank(found, health, Policy(), wish, now_us=NOW_US, seed=seed).ranked[0].provider for seed in jobs)


def test_near_equals_share_the_jobs() -> None:
    twins = Catalogue([backend("acme/one"), backend("beta/one")])

    for sort in ("price", "latency", "balanced"):
        assert 160 < drawn(twins, 400, sort=sort)["acme"] < 240  # four standard deviations about 200


def test_the_more_is_known_the_less_is_drawn() -> None:
    rows = Catalogue([backend("acme/one"), backend("beta/one")])
    unsure, sure = Health(), Health()
    for health, times in ((unsure, 2), (sure, 30)):
        for _ in range(times):
            for name, seconds in (("acme/one", 60.0), ("beta/one", 90.0)):
                health.observe(backend=name, bucket="≤5s/silent", at_us=NOW_US, render_seconds=seconds, fault=None)

    assert 5 < drawn(rows, 200, health=unsure)["beta"] < 100
    assert drawn(rows, 200, health=sure)["beta"] <= 2


def test_of_balanced_near_equals_the_emptier_one_takes_more_jobs() -> None:
    twins, health = Catalogue([backend("acme/one"), backend("beta/one")]), Health()
    for name in ("acme/one", "beta/one"):
        for seconds in (40.0, 60.0, 90.0) * 10:
            health.observe(backend=name, bucket="≤5s/silent", at_us=NOW_US, render_seconds=seconds, fault=None)
    health.started("acme/one")  # of two slots

    busy = drawn(twins, 400, sort="balanced", health=health)["acme"]

    assert 20 < busy < 160  # half of 400 but for chance: 160 to 240; and yet some
    assert 160 < drawn(twins, 400, sort="latency", health=health)["acme"] < 240


def test_a_price_is_never_drawn_away() -> None:
    assert drawn(THREE, 100, sort="price") == {"acme": 100}


def test_the_seed_and_what_it_drew_are_kept_with_the_decision() -> None:
    found = find(THREE, "one", EASY)

    decision = rank(found, Health(), Policy(), Preferences(), now_us=NOW_US, seed=77)
    again = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)

    assert (again, again.seed) == (decision, 77)
    assert all(ranked.drawn_finish_seconds > 0 for ranked in decision.ranked)
    assert all(ranked.drawn_finish_seconds == 0 for ranked in decide(THREE).ranked)


def test_draws_are_normal_and_depend_on_seed_and_name_alone() -> None:
    numbers = [normal(seed, name) for seed in range(500) for name in ("acme/one", "beta/one")]

    assert normal(3, "acme/one") == normal(3, "acme/one") != normal(3, "beta/one")
    assert statistics.fmean(numbers) == pytest.approx(0, abs=0.1)
    assert statistics.pstdev(numbers) == pytest.approx(1, abs=0.1)
    assert statistics.correlation(numbers[::2], numbers[1::2]) == pytest.approx(0, abs=0.15)


# --- what the job brings ----------------------------------------------------------------------------------------------


def test_jobs_in_line_are_waited_for_and_ones_own_place_counts_instead() -> None:
    health = Health()
    for _ in range(2):
        health.started("acme/one")
    health.waits("acme", 9)
    found = find(Catalogue([backend("acme/one", max_in_flight=2)]), "one", EASY)

    new, in_line = (
        rank(found, health, Policy(), Preferences(), now_us=NOW_US, place=place).ranked[0]
        for place in (None, ("acme", 1))
    )

    assert new.wait_seconds == pytest.approx(in_line.wait_seconds * 10 / 2)


def test_a_failure_that_would_use_up_the_purse_is_the_last_resort() -> None:
    bills = backend("acme/one", usd_per_second=0.05, failed_jobs_are_billed=True)
    dearer = backend("beta/one", usd_per_second=0.10)
    found, wish = find(Catalogue([bills, dearer]), "one", EASY), Preferences(sort="price")

    def first(left: int | None, tried: tuple[str, ...] = ()) -> str:
        made = rank(found, Health(), Policy(), wish, now_us=NOW_US, left_usd_micros=left, tried=tried)
        return made.ranked[0].provider

    assert [first(None), first(750_000), first(700_000)] == ["acme", "acme", "beta"]
    assert first(700_000, tried=("beta/one",)) == "acme"  # nobody else is left to be paid


def test_a_failure_is_expected_to_be_made_good_by_who_was_not_tried() -> None:
    slow = backend("gamma/one", typical_seconds=SLOW)
    found = find(Catalogue([backend("acme/one"), backend("beta/one"), slow]), "one", EASY)

    fresh, later = (
        rank(found, Health(), Policy(sort="latency"), Preferences(), now_us=NOW_US, tried=tried).ranked[0]
        for tried in ((), ("beta/one",))
    )

    assert (fresh.provider, later.provider) == ("acme", "acme")
    assert later.expected_finish_seconds > fresh.expected_finish_seconds


# --- the caller's wishes ----------------------------------------------------------------------------------------------


def test_preferred_latency_keeps_those_who_keep_it_and_takes_the_cheapest() -> None:
    decision = decide(THREE, Preferences(max_latency_seconds={"p90": 250}), policy=Policy(sort="latency"))

    assert (order(decision), decision.sort) == (["gamma", "beta"], "price")
    (refused,) = decision.refusals
    assert (refused.backend, refused.code) == ("acme/one", Code.TOO_SLOW)
    assert refused.param == "provider.preferred_max_latency.p90"
    assert refused.message == "acme/one has a p90 of about 7 min (asked: p90 within 250 s)"


@pytest.mark.parametrize(("name", "limit", "kept"), [("p50", 109, True), ("p50", 107, False), ("p95", 253, True)])
def test_a_quantile_is_held_against_the_chance_to_be_done_in_time(name: str, limit: float, kept: bool) -> None:
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


def test_the_shipped_catalogue_ranks_its_main_model() -> None:
    found = find(shipped(), "kling-v3-pro", VideoRequest(prompt="a", first_frame=picture()))

    decision = rank(found, Health(), Policy(), Preferences(), now_us=NOW_US)

    assert decision.reason() == (
        "fal/kling-v3-pro: $0.56, done in about 100 s (95 % within 240 s; no renders seen yet); the only one that can"
    )
    assert (decision.ranked[0].size, decision.ranked[0].seconds, decision.ranked[0].audio) == ("1920x1080", 5, False)
