"""Who is out of service: circuits and accounts that rest, and what brings each back: one real job, or free evidence."""

from __future__ import annotations

import pytest

from gateway.catalogue import Backend
from gateway.circuits import (
    FAILED_RENDERS,
    LONGEST_REST_US,
    LONGEST_SILENCE_US,
    REFUSED_SUBMITS,
    REST_US,
    SILENCE_US,
)
from gateway.health import SECOND_US, Figures, Health
from providers.spec import Kind
from tests.catalogue_rows import NOW_US, backend
from tests.health_news import ROW, SILENT, failed, fault, refused, rendered


def polled(health: Health, kind: Kind | None = None, *, at_us: int, row: Backend = ROW) -> None:
    """One poll: answered, or with this fault."""
    health.polled(row.id, at_us=at_us, fault=None if kind is None else fault(kind))


def silent(health: Health, kind: Kind = Kind.UNAVAILABLE, *, until_us: int) -> None:
    """Polls that went without an answer from NOW_US on, every 20 s."""
    for at_us in range(NOW_US, until_us + 1, 20 * SECOND_US):
        polled(health, kind, at_us=at_us)


def figures(health: Health, *, now_us: int = NOW_US, row: Backend = ROW, of: str = SILENT) -> Figures:
    return health.figures(row, of, now_us=now_us)


def test_failures_are_told_apart_by_kind() -> None:
    health = Health()
    failed(health, Kind.GENERATION_FAILED, times=3)
    failed(health, Kind.TIMEOUT)

    found = health.faults(ROW.id, now_us=NOW_US)

    assert found == {Kind.GENERATION_FAILED: pytest.approx(3), Kind.TIMEOUT: pytest.approx(1)}
    assert health.faults("acme/other", now_us=NOW_US) == {}


def test_a_submit_that_was_not_taken_says_nothing_of_renders() -> None:
    health = Health()

    refused(health, times=REFUSED_SUBMITS)

    assert figures(health).success == pytest.approx(0.9)


@pytest.mark.parametrize("kind", [Kind.AUTHENTICATION, Kind.INSUFFICIENT_FUNDS])
def test_an_operators_fault_takes_the_account_out_and_one_job_tries_it_again(kind: Kind) -> None:
    health, other, after = Health(), backend("beta/one"), NOW_US + REST_US

    failed(health, kind)

    assert figures(health).why.startswith("its account is out for 60 s more")
    assert not figures(health, row=backend("acme/two")).available  # the same account
    assert figures(health, row=other).available
    assert not figures(health, now_us=after - 1).available
    assert figures(health, now_us=after).available

    health.started(ROW.id, bucket=SILENT, at_us=after)

    assert "one job is out to try its account again" in figures(health, now_us=after).why

    health.ended(ROW.id, bucket=SILENT, at_us=after)
    failed(health, kind, at_us=after)

    assert figures(health, now_us=after).why.startswith("its account is out for 120 s more")


def test_an_accounts_rest_has_an_end() -> None:
    health, now = Health(), NOW_US
    for _ in range(12):
        failed(health, Kind.INSUFFICIENT_FUNDS, at_us=now)
        now += LONGEST_REST_US

    assert figures(health, now_us=now).available


def test_a_submit_that_is_taken_puts_its_account_back_but_an_old_render_does_not() -> None:
    health = Health()
    health.block("acme", "main", NOW_US + REST_US)

    rendered(health, 50)

    assert not figures(health).available

    health.accepted(ROW.id)

    assert figures(health).available


def test_one_of_two_accounts_is_enough() -> None:
    health = Health({"acme": ["main", "second"]})

    health.block("acme", "main", NOW_US + 60 * SECOND_US)

    assert figures(health).available
    assert not health.account_available("acme", "main", now_us=NOW_US)
    assert health.account_available("acme", "second", now_us=NOW_US)

    health.block("acme", "second", NOW_US + 30 * SECOND_US)

    assert figures(health).why.startswith("all of its accounts are out for 30 s more")


def test_renders_that_fail_in_a_row_open_the_circuit_and_a_success_closes_it() -> None:
    health, after = Health(), NOW_US + REST_US
    failed(health, times=FAILED_RENDERS - 1)
    assert figures(health).available

    failed(health)

    assert figures(health).why == "it rests for 60 s more after 5 failures in a row"
    assert figures(health, now_us=after).available

    health.accepted(ROW.id)
    failed(health, at_us=after)  # taken, but still ill: rests twice as long

    assert figures(health, now_us=after).why == "it rests for 120 s more after 6 failures in a row"

    rendered(health, 50, at_us=after + 2 * REST_US)
    failed(health, at_us=after + 2 * REST_US)

    assert figures(health, now_us=after + 2 * REST_US).available


def test_a_success_in_between_keeps_the_circuit_shut() -> None:
    health = Health()
    failed(health, times=FAILED_RENDERS - 1)
    rendered(health, 50)
    failed(health, times=FAILED_RENDERS - 1)

    assert figures(health).available


def test_refused_submits_open_the_circuit_and_the_first_that_is_taken_closes_it() -> None:
    health = Health()
    refused(health, times=REFUSED_SUBMITS)
    assert figures(health).why == "it rests for 60 s more after 3 refused submits in a row"

    rendered(health, 50)  # it was taken on before

    assert not figures(health).available

    health.accepted(ROW.id)

    assert figures(health).available


def test_submits_that_got_no_answer_open_the_circuit_like_refused_ones() -> None:
    health = Health()

    refused(health, times=REFUSED_SUBMITS, kind=Kind.UNKNOWN)

    assert not figures(health).available
    assert figures(health).success == pytest.approx(0.9)


def test_a_rest_lasts_twice_as_long_as_the_trouble_did_and_has_an_end() -> None:
    health, tries = Health(), []
    refused(health, times=REFUSED_SUBMITS)
    for second in range(0, 3600, 10):
        now_us = NOW_US + second * SECOND_US
        if figures(health, now_us=now_us).available:
            tries.append(second)
            refused(health, at_us=now_us)

    assert tries == [60, 180, 540, 1140, 1740, 2340, 2940, 3540]


def test_after_its_rest_one_job_tries_first_and_the_end_of_another_changes_nothing() -> None:
    health, after = Health(), NOW_US + REST_US
    health.started(ROW.id, bucket=SILENT, at_us=NOW_US)
    refused(health, times=REFUSED_SUBMITS)

    health.started(ROW.id, bucket=SILENT, at_us=after)
    health.ended(ROW.id, bucket=SILENT, at_us=NOW_US)

    assert figures(health, now_us=after).why == "one job is out to try it again after 3 refused submits in a row"

    health.ended(ROW.id, bucket=SILENT, at_us=after)

    assert figures(health, now_us=after).available


# --- what is heard for nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.UNKNOWN])
def test_while_polls_go_without_an_answer_no_job_tries(kind: Kind) -> None:
    health, later = Health(), NOW_US + 5 * REST_US
    refused(health, times=REFUSED_SUBMITS)

    silent(health, kind, until_us=later)

    assert figures(health, now_us=later).why == "its polls are not answered, after 3 refused submits in a row"
    assert figures(health, now_us=later + SILENCE_US).available  # nothing more was heard of it, either way


def test_one_render_that_is_silent_for_ever_does_not_keep_its_backend_out() -> None:
    health, later = Health(), NOW_US + LONGEST_SILENCE_US
    refused(health, times=REFUSED_SUBMITS)

    silent(health, until_us=later)

    assert figures(health, now_us=later).available


def test_silence_alone_closes_nothing() -> None:
    health = Health()

    silent(health, until_us=NOW_US + 5 * REST_US)

    assert figures(health, now_us=NOW_US + 5 * REST_US).available


def test_a_poll_that_is_answered_after_a_silence_lets_one_job_try_at_once() -> None:
    health, back = Health(), NOW_US + SILENCE_US
    refused(health, times=REFUSED_SUBMITS)
    refused(health, at_us=NOW_US + REST_US)
    silent(health, until_us=back)
    assert not figures(health, now_us=back).available

    polled(health, at_us=back, row=backend("acme/two"))  # any backend of the provider

    assert figures(health, now_us=back).available

    health.started(ROW.id, bucket=SILENT, at_us=back)
    assert not figures(health, now_us=back).available  # one job

    health.ended(ROW.id, bucket=SILENT, at_us=back)
    refused(health, at_us=back)  # in vain: as if the trouble began now

    assert figures(health, now_us=back).why == "it rests for 60 s more after 5 refused submits in a row"


@pytest.mark.parametrize("said", [None, Kind.RATE_LIMITED, Kind.OPERATION_LOST, Kind.AUTHENTICATION])
def test_polls_that_are_answered_throughout_say_nothing_of_submits(said: Kind | None) -> None:
    health = Health()
    refused(health, times=REFUSED_SUBMITS)

    for second in range(0, 60, 5):
        polled(health, said, at_us=NOW_US + second * SECOND_US)

    assert not figures(health, now_us=NOW_US + REST_US - 1).available


def test_polls_that_fail_now_and_then_are_no_silence() -> None:
    health, rest = Health(), NOW_US + REST_US
    refused(health, times=REFUSED_SUBMITS)
    refused(health, at_us=rest)  # out for two minutes more

    for second in range(0, 110, 10):
        at_us = rest + second * SECOND_US
        polled(health, None if second % 30 else Kind.TIMEOUT, at_us=at_us)

    assert not figures(health, now_us=rest + 110 * SECOND_US).available


def test_two_failures_hours_apart_are_two_silences() -> None:
    health, later = Health(), NOW_US + 100 * REST_US
    polled(health, Kind.TIMEOUT, at_us=NOW_US)
    refused(health, times=REFUSED_SUBMITS, at_us=later)
    polled(health, Kind.TIMEOUT, at_us=later)

    polled(health, at_us=later + SECOND_US)

    assert not figures(health, now_us=later + SECOND_US).available


def test_a_provider_that_takes_one_backends_jobs_again_has_its_others_tried() -> None:
    health, two = Health(), backend("acme/two")
    refused(health, times=REFUSED_SUBMITS)
    health.accepted(two.id)
    assert not figures(health).available  # it was well all along, which says nothing

    for _ in range(REFUSED_SUBMITS):
        health.observe(
            backend=two.id, bucket=SILENT, at_us=NOW_US, render_seconds=None, fault=fault(Kind.TIMEOUT), bought=False
        )
    health.accepted(two.id)

    assert figures(health).available
    assert figures(health, row=two).available


def test_an_answered_poll_does_not_fill_an_account() -> None:
    health, back = Health(), NOW_US + SILENCE_US
    failed(health, Kind.INSUFFICIENT_FUNDS)
    failed(health, Kind.INSUFFICIENT_FUNDS, at_us=back)
    silent(health, until_us=back)

    polled(health, at_us=back + 1)

    assert not figures(health, now_us=back + 1).available
