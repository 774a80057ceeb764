"""What a kept clip costs: counts over a prior, the order by kept price, and the comparison that people read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.acceptance import Acceptance
from gateway.catalogue import Backend, Catalogue, Code, TypicalSeconds
from gateway.deciding import compare, decide
from gateway.health import Health
from gateway.jobs import JobSpec, Preferences, Sort
from gateway.router import Decision, Policy
from gateway.settings import Routing, load
from gateway.worker.buyer import Buyer
from providers.spec import VideoRequest
from tests.catalogue_rows import NOW_US, backend, find
from tests.records import a_job

FAST = TypicalSeconds(p50=30, p95=60)
SLOW = TypicalSeconds(p50=200, p95=500)

CHEAP = backend("acme/one", usd_per_second=0.05, typical_seconds=SLOW)  # $0.25 a clip
DEAR = backend("beta/one", usd_per_second=0.30, typical_seconds=FAST)  # $1.50
MIDDLE = backend("gamma/one", usd_per_second=0.10)  # $0.50
THREE = [DEAR, CHEAP, MIDDLE]
KEPT = Preferences(sort="kept_price")


def judged(**verdicts: tuple[int, int]) -> Acceptance:
    acceptance = Acceptance()
    acceptance.rebuild((f"{provider}/one", kept, not_kept) for provider, (kept, not_kept) in verdicts.items())
    return acceptance


def decided(
    acceptance: Acceptance,
    preferences: Preferences = KEPT,
    *,
    rows: list[Backend] = THREE,
    policy: Policy | None = None,
) -> Decision:
    found = find(Catalogue(rows), "one", VideoRequest(prompt="a fox", seconds=5, audio=False), preferences)
    return decide(found, Health(), acceptance, policy or Policy(), preferences, now_us=NOW_US)


def order(decision: Decision) -> list[str]:
    return [ranked.provider for ranked in decision.ranked]


# --- what callers said ------------------------------------------------------------------------------------------------


def test_a_backend_that_nobody_judged_is_taken_to_please_one_time_in_four() -> None:
    acceptance = Acceptance()

    assert (acceptance.rate("acme/one"), acceptance.tries("acme/one")) == (0.25, 4.0)


def test_verdicts_move_the_rate_away_from_the_prior() -> None:
    acceptance = judged(acme=(6, 0), beta=(0, 6))

    assert (acceptance.rate("acme/one"), acceptance.rate("beta/one")) == (0.7, 0.1)
    assert acceptance.tries("beta/one") == pytest.approx(10)
    assert acceptance.tries("gamma/one") == 4


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=40))
def test_after_any_words_the_counts_are_those_of_the_last_word_on_each_clip(words: list[tuple[int, bool]]) -> None:
    acceptance = Acceptance()
    last: dict[int, bool] = {}

    for clip, accepted in words:
        acceptance.observe("acme/one", accepted, before=last.get(clip))
        last[clip] = accepted

    known = acceptance.judged("acme/one")
    assert (known.accepted, known.rejected) == (sum(last.values()), len(last) - sum(last.values()))


def test_rebuilding_forgets_what_was_there() -> None:
    acceptance = judged(acme=(9, 0))

    acceptance.rebuild([("beta/one", 1, 2)])

    assert acceptance.tries("acme/one") == 4
    assert acceptance.judged("beta/one").rejected == 2


# --- the order --------------------------------------------------------------------------------------------------------


def test_while_nobody_is_judged_the_kept_price_orders_as_the_price_does() -> None:
    assert order(decided(Acceptance())) == order(decided(Acceptance(), Preferences(sort="price")))


def test_a_cheap_backend_whose_clips_nobody_keeps_comes_last() -> None:
    decision = decided(judged(acme=(0, 96), gamma=(6, 0)))

    assert (order(decision), decision.sort) == (["gamma", "beta", "acme"], "kept_price")
    assert [round(ranked.score, 2) for ranked in decision.ranked] == [0.71, 6.0, 25.0]
    assert decision.ranked[0].expected_spend_usd_micros == 500_000


def test_the_reason_says_what_a_kept_clip_costs_and_from_how_many_words_that_is_known() -> None:
    decision = decided(judged(gamma=(6, 0)))

    first, second, _ = (ranked.reason for ranked in decision.ranked)
    assert first.startswith("gamma/one: $0.50, done in about ")
    assert "; about $0.71 for a clip that is kept (1.4 tries; 6 of 6 kept); lowest of 3; " in first
    assert second.endswith(
        "; about $1.00 for a clip that is kept (4.0 tries; no clip judged yet); number 2 of 3 by kept price"
    )
    assert not any("cheapest of" in ranked.reason or "by price" in ranked.reason for ranked in decision.ranked)


def test_the_operators_policy_may_ask_for_it_and_a_caller_may_ask_otherwise() -> None:
    acceptance, policy = judged(acme=(0, 96)), Policy(sort="kept_price")

    assert order(decided(acceptance, Preferences(), policy=policy))[-1] == "acme"
    assert order(decided(acceptance, Preferences(sort="price"), policy=policy))[0] == "acme"


def test_the_configuration_takes_it_as_the_sort_of_every_request() -> None:
    assert load(environ={"FILMGATE_ROUTING__SORT": "kept_price"}).routing.sort == "kept_price"


@pytest.mark.parametrize(("sort", "first"), [("kept_price", "gamma/one"), ("price", "acme/one")])
def test_the_worker_buys_in_the_order_that_was_decided(sort: Sort, first: str) -> None:
    buyer = Buyer(
        catalogue=Catalogue(THREE),
        health=Health(),
        acceptance=judged(acme=(0, 96)),
        policy=Policy(),
        routing=Routing(),
        lines=[],
        configured=["acme", "beta", "gamma"],
    )
    spec = JobSpec(model="one", video=VideoRequest(prompt="a fox", seconds=5), preferences=Preferences(sort=sort))

    decision, _ = buyer.decide(a_job(spec=spec, deadline_us=NOW_US + 3_600_000_000), now_us=NOW_US)

    assert decision.ranked[0].backend == first


def test_provider_order_goes_before_the_kept_price() -> None:
    decision = decided(judged(acme=(9, 0)), msgspec.structs.replace(KEPT, order=("beta",)))

    assert order(decision) == ["beta", "acme", "gamma"]
    assert "; number 1 of 3 in provider.order" in decision.ranked[0].reason


def test_without_fallbacks_the_best_by_kept_price_stays_and_the_others_say_why_not() -> None:
    decision = decided(judged(acme=(0, 96)), msgspec.structs.replace(KEPT, allow_fallbacks=False))

    assert order(decision) == ["gamma"]
    assert {refused.backend: refused.code for refused in decision.refusals} == {
        "acme/one": Code.NO_FALLBACKS,
        "beta/one": Code.NO_FALLBACKS,
    }
    assert all("gamma/one comes first" in refused.message for refused in decision.refusals)


def test_a_latency_that_is_wanted_stays_a_limit() -> None:
    wishes = msgspec.structs.replace(KEPT, max_latency_seconds={"p90": 100.0})

    decision = decided(Acceptance(), wishes)

    assert order(decision) == ["beta"]
    assert {refused.code for refused in decision.refusals} == {Code.TOO_SLOW}


@given(
    verdicts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=3),
    sort=st.sampled_from(["price", "latency", "balanced", "kept_price"]),
    first=st.sampled_from([(), ("beta",), ("gamma/one", "acme")]),
    fallbacks=st.booleans(),
)
def test_no_verdict_drops_or_invents_a_backend(
    verdicts: list[tuple[int, int]], sort: Sort, first: tuple[str, ...], fallbacks: bool
) -> None:
    acceptance = judged(**dict(zip(("acme", "beta", "gamma"), verdicts, strict=True)))

    decision = decided(acceptance, Preferences(sort=sort, order=first, allow_fallbacks=fallbacks))

    named = [ranked.backend for ranked in decision.ranked] + [refused.backend for refused in decision.refusals]
    assert sorted(named) == ["acme/one", "beta/one", "gamma/one"]
    assert fallbacks or len(decision.ranked) == 1
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision
    if sort == "kept_price" and not first:
        scores = [ranked.score for ranked in decision.ranked]
        assert scores == sorted(scores)


# --- the comparison ---------------------------------------------------------------------------------------------------


def beside(*others: tuple[int, float], sort: Sort = "price") -> Decision:
    """A decision whose first costs $0.80 and takes 100 s; the others cost and take what is said."""
    decision = decided(Acceptance())
    (first, *_), rows = decision.ranked, [(800_000, 100.0), *others]
    ranked = [
        msgspec.structs.replace(
            first, expected_spend_usd_micros=micros, expected_finish_seconds=seconds, score=micros / 250_000
        )
        for micros, seconds in rows
    ]
    return msgspec.structs.replace(decision, sort=sort, ranked=tuple(ranked))


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (beside((1_000_000, 50.0)), "20 % cheaper than the fastest"),
        (beside((400_000, 400.0)), "75 % sooner than the cheapest"),
        (beside((1_000_000, 50.0), (400_000, 400.0)), "20 % cheaper than the fastest, 75 % sooner than the cheapest"),
        (beside((1_000_000, 50.0), sort="kept_price"), "20 % cheaper per kept clip than the fastest"),
        (beside((1_000_000, 100.0), (800_000, 101.0)), "nobody is cheaper or sooner"),
        (beside((400_000, 50.0)), ""),  # provider.order alone put the first there
        (beside(), ""),
        (msgspec.structs.replace(beside(), ranked=()), ""),
    ],
)
def test_the_first_is_compared_with_the_fastest_and_the_cheapest(decision: Decision, said: str) -> None:
    assert compare(decision) == said


@pytest.mark.parametrize("sort", ["price", "latency", "balanced", "kept_price"])
def test_the_first_reason_alone_ends_with_the_comparison(sort: Sort) -> None:
    decision = decided(Acceptance(), Preferences(sort=sort))

    said = compare(decision)
    assert "than the " in said
    assert [ranked.reason.endswith(f"; {said}") for ranked in decision.ranked] == [True, False, False]


def test_where_there_is_one_alone_nothing_is_compared() -> None:
    alone = decided(Acceptance(), rows=[MIDDLE])

    assert alone.ranked[0].reason.endswith("; the only one that can")
