"""Live figures: the prior fades as evidence comes, evidence fades with time, nobody pays for another's fault."""

from __future__ import annotations

import math
import random

import pytest

from gateway.catalogue import Backend
from gateway.circuits import REST_US
from gateway.health import HALF_LIFE_US, MAX_TRACKS, SECOND_US, TRIAL_US, Figures, Health, bucket
from gateway.jobs import Attempt, AttemptState
from gateway.renders import WINDOW
from providers.spec import Kind, VideoRequest
from tests.catalogue_rows import NOW_US, backend, picture
from tests.health_news import ROW, SILENT, failed, fault, rendered


def out(health: Health, *, since_seconds: float, times: int = 1) -> None:
    """Renders that went out so long ago, and are out still."""
    for _ in range(times):
        health.started(ROW.id, bucket=SILENT, at_us=NOW_US - int(since_seconds * SECOND_US))


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


def test_a_bucket_tells_from_what_a_clip_begins() -> None:
    assert bucket(VideoRequest(seconds=5, first_frame=picture())) == "≤5s/silent/picture"
    assert bucket(VideoRequest(seconds=8, audio=True, references=(picture(),))) == "≤10s/audio/references"


def test_unseen_a_backend_is_what_the_catalogue_says_scaled_by_the_clip() -> None:
    health = Health()

    five, fifteen = figures(health), figures(health, of="≤15s/audio")

    assert [five.p50_seconds, five.p95_seconds] == pytest.approx([100, 240])
    assert [fifteen.p50_seconds, fifteen.p95_seconds] == pytest.approx([300, 720])
    assert five.samples == 0
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
    assert medians[1] > 40  # one render does not overturn the catalogue
    assert medians[-1] == pytest.approx(30, rel=0.1)
    assert figures(health).samples == WINDOW


def test_quantiles_of_a_known_distribution_are_found() -> None:
    health, draw = Health(), random.Random(7)
    for _ in range(2000):
        rendered(health, draw.lognormvariate(math.log(80), 0.2))

    found = figures(health)

    assert found.p50_seconds == pytest.approx(80, rel=0.12)  # three standard errors of the window
    assert found.p95_seconds == pytest.approx(80 * math.exp(1.645 * 0.2), rel=0.2)


def test_evidence_fades_back_to_the_prior_and_leaves_doubt() -> None:
    health = Health()
    rendered(health, 40, times=30)

    fresh, later, much_later = (figures(health, now_us=NOW_US + n * HALF_LIFE_US) for n in (0, 1, 12))

    assert fresh.p50_seconds < later.p50_seconds < much_later.p50_seconds
    assert (fresh.samples, later.samples, much_later.samples) == (30, 15, 0)
    assert much_later.p50_seconds == pytest.approx(100, rel=0.02)
    assert fresh.error < later.error < much_later.error


def test_new_renders_outweigh_old_ones() -> None:
    health = Health()
    rendered(health, 300, times=20, at_us=NOW_US - 6 * HALF_LIFE_US)
    rendered(health, 40, times=20)

    assert figures(health).p50_seconds < 60


def test_the_order_in_which_news_arrives_does_not_matter() -> None:
    forward, backward = Health(), Health()
    news = [(NOW_US + n * 600 * SECOND_US, 40.0 + 5 * n) for n in range(12)]
    for at_us, seconds in news:
        rendered(forward, seconds, at_us=at_us)
    for at_us, seconds in reversed(news):
        rendered(backward, seconds, at_us=at_us)

    one, other = (figures(health, now_us=NOW_US + HALF_LIFE_US * 3) for health in (forward, backward))

    assert one.p50_seconds == pytest.approx(other.p50_seconds)
    assert one.p95_seconds == pytest.approx(other.p95_seconds)
    assert one.success == pytest.approx(other.success)


def test_what_one_bucket_teaches_is_believed_of_another_until_it_is_seen() -> None:
    health = Health()
    rendered(health, 10, times=20)

    assert figures(health, of="≤10s/silent").p50_seconds == pytest.approx(20, rel=0.15)

    for _ in range(20):
        health.observe(backend=ROW.id, bucket="≤10s/silent", at_us=NOW_US, render_seconds=14, fault=None)

    assert figures(health, of="≤10s/silent").p50_seconds == pytest.approx(14, rel=0.15)
    assert figures(health).p50_seconds == pytest.approx(10, rel=0.15)


def test_news_far_off_makes_what_was_known_void() -> None:
    health = Health()
    rendered(health, 30, times=30)

    rendered(health, 300, times=3)
    health.started(ROW.id, bucket=SILENT, at_us=NOW_US)

    assert figures(health).p50_seconds > 120


# --- before a render ends ---------------------------------------------------------------------------------------------


def test_renders_that_are_overdue_make_a_backend_slower_before_they_end() -> None:
    health = Health()
    rendered(health, 30, times=30)
    out(health, since_seconds=200, times=6)
    out(health, since_seconds=1)

    late = figures(health)

    assert (late.overdue, late.trial) == (6, False)
    assert late.p50_seconds > 100


def test_one_straggler_and_renders_that_are_not_late_say_nothing() -> None:
    health = Health()
    rendered(health, 30, times=30)
    before = figures(health).p50_seconds
    out(health, since_seconds=200)
    out(health, since_seconds=20, times=8)

    assert (figures(health).p50_seconds, figures(health).overdue) == (before, 1)


def test_an_overdue_render_that_ended_is_forgotten() -> None:
    health = Health()
    rendered(health, 30, times=30)
    out(health, since_seconds=200, times=3)
    for _ in range(3):
        health.ended(ROW.id, bucket=SILENT, at_us=NOW_US - 200 * SECOND_US)

    assert (figures(health).overdue, figures(health).in_flight) == (0, 0)
    assert figures(health).p50_seconds < 35


def test_a_backend_that_grew_slow_is_tried_now_and_then_and_returns_when_it_has_recovered() -> None:
    health = Health()
    rendered(health, 30, times=60)
    rendered(health, 400, times=4, at_us=NOW_US + SECOND_US)
    health.started(ROW.id, bucket=SILENT, at_us=NOW_US + SECOND_US)
    health.ended(ROW.id, bucket=SILENT, at_us=NOW_US + SECOND_US)

    soon = figures(health, now_us=NOW_US + 2 * SECOND_US)
    due = figures(health, now_us=NOW_US + SECOND_US + TRIAL_US)

    assert (soon.trial, due.trial) == (False, True)
    assert soon.p50_seconds > 120
    assert due.p50_seconds == pytest.approx(30, rel=0.25)
    assert 0 < due.error < soon.error  # it is drawn like any other

    health.started(ROW.id, bucket=SILENT, at_us=NOW_US + SECOND_US + TRIAL_US)

    assert not figures(health, now_us=NOW_US + 2 * SECOND_US + TRIAL_US).trial  # one job at a time

    rendered(health, 31, at_us=NOW_US + 2 * TRIAL_US)

    assert figures(health, now_us=NOW_US + 2 * TRIAL_US).p50_seconds < 45


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

    assert figures(health, now_us=NOW_US + REST_US).success == pytest.approx(0.9)
    assert figures(health, now_us=NOW_US + REST_US).available


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


def test_slots_are_fewer_while_the_vendor_takes_fewer_and_jobs_in_line_are_counted() -> None:
    health, row = Health(), backend("acme/one", max_in_flight=10)
    health.limit("acme", 4)
    health.waits("acme", 7)

    assert (figures(health, row=row).slots, figures(health, row=row).waiting) == (4, 7)

    health.limit("acme", None)

    assert figures(health, row=row).slots == 10


def test_memory_is_bounded_and_the_longest_unseen_goes_first() -> None:
    health = Health()
    rendered(health, 10, times=50)
    rendered(health, 10, times=50, row=backend("acme/kept"))
    for number in range(MAX_TRACKS - 1):
        health.observe(backend=f"x/{number}", bucket=SILENT, at_us=NOW_US, render_seconds=1.0, fault=None)
        if number == 1000:
            rendered(health, 10, row=backend("acme/kept"))

    assert figures(health).samples == 0
    assert figures(health, row=backend("acme/kept")).samples == WINDOW


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
