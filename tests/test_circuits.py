"""Who is out of service: circuits and accounts that rest, and the one real job that brings each back."""

from __future__ import annotations

import pytest

from gateway.catalogue import Backend
from gateway.circuits import (
    ACCOUNT_REST_US,
    FAILED_RENDERS,
    LONGEST_ACCOUNT_REST_US,
    LONGEST_SUBMIT_REST_US,
    REFUSED_SUBMITS,
    REST_US,
)
from gateway.health import SECOND_US, Figures, Health
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
    health, other, after = Health(), backend("beta/one"), NOW_US + ACCOUNT_REST_US

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
        now += LONGEST_ACCOUNT_REST_US

    assert figures(health, now_us=now).available


def test_a_submit_that_is_taken_puts_its_account_back_but_an_old_render_does_not() -> None:
    health = Health()
    health.block("acme", "main", NOW_US + ACCOUNT_REST_US)

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

    assert figures(health).why == "it rests for 30 s more after 5 failures in a row"
    assert figures(health, now_us=after).available

    health.accepted(ROW.id)
    failed(health, at_us=after)  # taken, but still ill: rests twice as long

    assert figures(health, now_us=after).why == "it rests for 60 s more after 6 failures in a row"

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
    assert figures(health).why == "it rests for 30 s more after 3 refused submits in a row"

    rendered(health, 50)  # it was taken on before

    assert not figures(health).available

    health.accepted(ROW.id)

    assert figures(health).available


def test_in_a_long_outage_the_tries_are_never_further_apart_than_the_longest_rest() -> None:
    health, now = Health(), NOW_US
    refused(health, times=REFUSED_SUBMITS)
    for _ in range(20):
        now += LONGEST_SUBMIT_REST_US
        assert figures(health, now_us=now).available
        refused(health, at_us=now)


def test_after_its_rest_one_job_tries_first_and_the_end_of_another_changes_nothing() -> None:
    health, after = Health(), NOW_US + REST_US
    health.started(ROW.id, bucket=SILENT, at_us=NOW_US)
    refused(health, times=REFUSED_SUBMITS)

    health.started(ROW.id, bucket=SILENT, at_us=after)
    health.ended(ROW.id, bucket=SILENT, at_us=NOW_US)

    assert figures(health, now_us=after).why == "one job is out to try it again after 3 refused submits in a row"

    health.ended(ROW.id, bucket=SILENT, at_us=after)

    assert figures(health, now_us=after).available
