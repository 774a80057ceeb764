"""Live figures: the prior fades as evidence comes, evidence fades with time, nobody pays for another's fault."""

from __future__ import annotations

import math
import random

import pytest

from gateway.catalogue import Backend
from gateway.health import (
    ACCOUNT_REST_US,
    CIRCUIT_FAILURES,
    CIRCUIT_REST_US,
    HALF_LIFE_US,
    MAX_TRACKS,
    SECOND_US,
    Figures,
    Health,
    bucket,
)
from gateway.jobs import Attempt, AttemptState
from providers.spec import Fault, Kind, Verdict, VideoRequest
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


def figures(health: Health, *, now_us: int = NOW_US, row: Backend = ROW, of: str = SILENT) -> Figures:
    return health.figures(row, of, now_us=now_us)


# --- buckets and priors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "audio", "name"),
    [
        (None, None, "≤5s/silent"),
        (3, False, "≤5s/silent"),
        (5, True, "≤5s/audio"),
        (6, False, "≤10s/silent"),
        (15, True, "≤15s/audio"),
        (16, False, "≤30s/silent"),
        (31, True, ">30s/audio"),
    ],
)
def test_a_bucket_is_a_duration_and_a_sound(seconds: int | None, audio: bool | None, name: str) -> None:
    assert bucket(VideoRequest(seconds=seconds, audio=audio)) == name


def test_unseen_a_backend_is_what_the_catalogue_says_scaled_by_the_clip() -> None:
    health = Health()

    five, fifteen = figures(health), figures(health, of="≤15s/audio")

    assert (five.p50_seconds, five.p95_seconds, five.samples) == (100, 240, 0)
    assert (fifteen.p50_seconds, fifteen.p95_seconds) == (300, 720)
    assert five.success == pytest.approx(0.9)
    assert (five.available, five.why, five.in_flight) == (True, "", 0)


# --- render times -----------------------------------------------------------------------------------------------------


def test_renders_move_the_figures_from_the_prior_to_what_is_seen() -> None:
    health = Health()

    medians = [figures(health).p50_seconds]
    for _ in range(40):
        rendered(health, 30)
        medians.append(figures(health).p50_seconds)

    assert medians == sorted(medians, reverse=True)
    assert medians[1] > 60  # one render does not overturn the catalogue
    assert medians[-1] == pytest.approx(30, rel=0.15)
    assert figures(health).samples == 40


def test_quantiles_of_a_known_distribution_are_found() -> None:
    health, draw = Health(), random.Random(7)
    for _ in range(2000):
        rendered(health, draw.lognormvariate(math.log(80), 0.2))

    found = figures(health)

    assert found.p50_seconds == pytest.approx(80, rel=0.05)
    assert found.p95_seconds == pytest.approx(80 * math.exp(1.645 * 0.2), rel=0.05)


def test_evidence_fades_back_to_the_prior() -> None:
    health = Health()
    rendered(health, 20, times=30)

    fresh, later, much_later = (figures(health, now_us=NOW_US + n * HALF_LIFE_US) for n in (0, 1, 12))

    assert fresh.p50_seconds < later.p50_seconds < much_later.p50_seconds
    assert (fresh.samples, later.samples, much_later.samples) == (30, 15, 0)
    assert much_later.p50_seconds == pytest.approx(100, rel=0.01)


def test_new_renders_outweigh_old_ones() -> None:
    health = Health()
    rendered(health, 300, times=20, at_us=NOW_US - 6 * HALF_LIFE_US)
    rendered(health, 40, times=20)

    assert figures(health).p50_seconds < 60


def test_the_order_in_which_news_arrives_does_not_matter() -> None:
    forward, backward = Health(), Health()
    news = [(NOW_US + n * 600 * SECOND_US, 40.0 + 10 * n) for n in range(12)]
    for at_us, seconds in news:
        rendered(forward, seconds, at_us=at_us)
    for at_us, seconds in reversed(news):
        rendered(backward, seconds, at_us=at_us)

    one, other = (figures(health, now_us=NOW_US + HALF_LIFE_US * 3) for health in (forward, backward))

    assert one.p50_seconds == pytest.approx(other.p50_seconds)
    assert one.p95_seconds == pytest.approx(other.p95_seconds)
    assert one.success == pytest.approx(other.success)


def test_buckets_are_apart() -> None:
    health = Health()
    rendered(health, 10, times=20)

    assert figures(health, of="≤5s/audio").p50_seconds == 100
    assert figures(health).p50_seconds < 20


# --- success ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.GENERATION_FAILED, Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.OPERATION_LOST])
def test_a_vendors_failure_counts_against_it(kind: Kind) -> None:
    health = Health()

    failed(health, kind, times=2)

    assert figures(health).success == pytest.approx(9 / 12)


@pytest.mark.parametrize(
    "kind",
    [
        Kind.CONTENT_POLICY,
        Kind.INVALID_REQUEST,
        Kind.UNSUPPORTED,
        Kind.RATE_LIMITED,
        Kind.CANCELLED,
        Kind.AUTHENTICATION,
    ],
)
def test_what_is_not_the_vendors_failure_does_not(kind: Kind) -> None:
    health = Health()

    failed(health, kind, times=20)

    assert figures(health, now_us=NOW_US + ACCOUNT_REST_US).success == pytest.approx(0.9)
    assert figures(health, now_us=NOW_US + ACCOUNT_REST_US).available


# --- out of service ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.AUTHENTICATION, Kind.INSUFFICIENT_FUNDS])
def test_an_operators_fault_takes_the_account_out_for_ten_minutes(kind: Kind) -> None:
    health, other = Health(), backend("beta/one")

    failed(health, kind)

    assert not figures(health).available
    assert figures(health).why.startswith("its account is out for 600 s more")
    assert not figures(health, row=backend("acme/two")).available  # the same account
    assert figures(health, row=other).available
    assert not figures(health, now_us=NOW_US + ACCOUNT_REST_US - 1).available
    assert figures(health, now_us=NOW_US + ACCOUNT_REST_US).available


def test_one_of_two_accounts_is_enough() -> None:
    health = Health({"acme": ["main", "second"]})

    health.block("acme", "main", NOW_US + 60 * SECOND_US)

    assert figures(health).available
    assert not health.account_available("acme", "main", now_us=NOW_US)
    assert health.account_available("acme", "second", now_us=NOW_US)

    health.block("acme", "second", NOW_US + 30 * SECOND_US)

    assert figures(health).why.startswith("all of its accounts are out for 30 s more")


def test_a_success_puts_its_account_back() -> None:
    health = Health()
    health.block("acme", "main", NOW_US + ACCOUNT_REST_US)

    rendered(health, 50)

    assert figures(health).available


def test_failures_in_a_row_open_the_circuit_and_a_success_closes_it() -> None:
    health = Health()
    failed(health, times=CIRCUIT_FAILURES - 1)
    assert figures(health).available

    failed(health)

    assert figures(health).why == "it rests for 30 s more after 5 failures in a row"
    assert figures(health, now_us=NOW_US + CIRCUIT_REST_US).available

    failed(health, at_us=NOW_US + CIRCUIT_REST_US)  # still ill: rests again at once

    assert not figures(health, now_us=NOW_US + 2 * CIRCUIT_REST_US - 1).available

    rendered(health, 50, at_us=NOW_US + 2 * CIRCUIT_REST_US)
    failed(health, at_us=NOW_US + 2 * CIRCUIT_REST_US)

    assert figures(health, now_us=NOW_US + 2 * CIRCUIT_REST_US).available


def test_a_success_in_between_keeps_the_circuit_shut() -> None:
    health = Health()
    failed(health, times=CIRCUIT_FAILURES - 1)
    rendered(health, 50)
    failed(health, times=CIRCUIT_FAILURES - 1)

    assert figures(health).available


def test_after_its_rest_one_job_tries_first() -> None:
    health, after = Health(), NOW_US + CIRCUIT_REST_US
    failed(health, times=CIRCUIT_FAILURES)

    health.started(ROW.id)

    assert figures(health, now_us=after).why == "one job is out to try it again after 5 failures in a row"

    health.ended(ROW.id)

    assert figures(health, now_us=after).available


# --- slots and memory -------------------------------------------------------------------------------------------------


def test_in_flight_counts_all_of_a_provider_and_never_falls_below_zero() -> None:
    health = Health()
    health.started("acme/one")
    health.started("acme/two")
    health.started("beta/one")

    assert (figures(health).in_flight, figures(health, row=backend("beta/one")).in_flight) == (2, 1)

    for _ in range(4):
        health.ended("acme/two")
    health.started("acme/one")

    assert figures(health).in_flight == 1


def test_slots_are_the_operators_figure_or_the_rows_times_its_accounts() -> None:
    row = backend("acme/one", max_in_flight=3)

    assert figures(Health(), row=row).slots == 3
    assert figures(Health({"acme": ["a", "b"]}), row=row).slots == 6
    assert figures(Health({"acme": ["a", "b"]}, {"acme": 40}), row=row).slots == 40


def test_memory_is_bounded_and_the_longest_unseen_goes_first() -> None:
    health = Health()
    rendered(health, 10, times=50)
    rendered(health, 10, times=50, row=backend("acme/kept"))
    for number in range(MAX_TRACKS - 1):
        health.observe(backend=f"x/{number}", bucket=SILENT, at_us=NOW_US, render_seconds=1.0, fault=None)
        if number == 1000:
            rendered(health, 10, row=backend("acme/kept"))

    assert figures(health).samples == 0
    assert figures(health, row=backend("acme/kept")).samples == 51


# --- from the store ---------------------------------------------------------------------------------------------------


def attempt(no: int, state: AttemptState, *, kind: Kind | None = None, took: float | None = 60, **more: int) -> Attempt:
    ended_us = NOW_US - no * 60 * SECOND_US
    return Attempt(
        id=f"attempt_{no}",
        job="job_1",
        no=no,
        state=state,
        backend=ROW.id,
        provider="acme",
        account="main",
        model_id="m",
        price_usd_micros=1,
        fault=fault(kind) if kind else None,
        bucket=SILENT,
        started_us=ended_us - 100 * SECOND_US,
        accepted_us=None if took is None else ended_us - int(took * SECOND_US),
        ended_us=None if state.is_open else ended_us,
    )


def test_rebuilt_from_stored_attempts_the_figures_are_the_same() -> None:
    attempts = [
        attempt(1, AttemptState.SUCCEEDED, took=40),
        attempt(2, AttemptState.FAILED, kind=Kind.GENERATION_FAILED),
        attempt(3, AttemptState.SUCCEEDED, took=70),
        attempt(4, AttemptState.REJECTED, kind=Kind.CONTENT_POLICY, took=None),
        attempt(5, AttemptState.RUNNING),
        attempt(6, AttemptState.CANCELLED),
        attempt(0, AttemptState.REJECTED, kind=Kind.AUTHENTICATION, took=None),
    ]
    lived = Health()
    rendered(lived, 70, at_us=NOW_US - 180 * SECOND_US)
    failed(lived, Kind.GENERATION_FAILED, at_us=NOW_US - 120 * SECOND_US)
    rendered(lived, 40, at_us=NOW_US - 60 * SECOND_US)
    rebuilt = Health()

    rebuilt.rebuild(attempts)

    assert figures(rebuilt) == figures(lived)
    assert figures(rebuilt).available  # a block does not outlive the process that saw it
    assert figures(rebuilt).in_flight == 0
