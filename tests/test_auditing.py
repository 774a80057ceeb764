"""The auditor: what was paid at a vendor and is unknown here, and costs that differ."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.auditing import Finding, audit
from gateway.jobs import Attempt, AttemptState
from providers.spec import Operation, Succeeded, VendorJob

HOUR = 3_600_000_000
NOON = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 1_000_000


def ours(id: str, *, operation: str | None, state: AttemptState, cost: int | None = None, at_us: int = NOON) -> Attempt:
    return Attempt(
        id=id,
        job="video_1",
        no=1,
        state=state,
        backend="acme/cat",
        provider="acme",
        account="main",
        model_id="cat",
        price_usd_micros=560_000,
        cost_usd_micros=cost,
        operation=Operation(provider="acme", id=operation) if operation else None,
        started_us=at_us,
    )


def theirs(id: str, *, cost: int | None = None, at_us: int = NOON) -> VendorJob:
    created = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    return VendorJob(id=id, created_at=created, status=Succeeded(videos=()), cost_usd_micros=cost)


def findings(their: list[VendorJob], our: list[Attempt]) -> list[tuple[Finding, str, str | None]]:
    found = audit("acme", "main", theirs=their, ours=our, since_us=NOON - HOUR)
    return [(one.kind, one.operation, one.attempt) for one in found]


def test_two_lists_that_agree_give_nothing() -> None:
    ledger = [ours("att_1", operation="a", state=AttemptState.SUCCEEDED, cost=5)]

    assert findings([theirs("a", cost=5)], ledger) == []


def test_what_was_paid_there_and_is_unknown_here_is_an_orphan() -> None:
    assert findings([theirs("a")], []) == [(Finding.ORPHAN, "a", None)]


def test_an_orphan_beside_a_lost_submit_is_most_likely_that_one() -> None:
    lost = ours("att_1", operation=None, state=AttemptState.WRITTEN_OFF, at_us=NOON - 1_000_000)

    assert findings([theirs("a")], [lost]) == [(Finding.ADOPTABLE, "a", "att_1")]


def test_costs_that_differ_are_told() -> None:
    ledger = [ours("att_1", operation="a", state=AttemptState.SUCCEEDED, cost=5)]

    assert findings([theirs("a", cost=9)], ledger) == [(Finding.COST, "a", "att_1")]
    assert findings([theirs("a", cost=None)], ledger) == []


def test_what_their_list_does_not_show_is_missing_unless_it_is_older_than_the_audit() -> None:
    new = ours("att_1", operation="a", state=AttemptState.RUNNING)
    old = ours("att_2", operation="b", state=AttemptState.SUCCEEDED, at_us=NOON - 2 * HOUR)

    assert findings([], [new, old]) == [(Finding.MISSING, "a", "att_1")]
