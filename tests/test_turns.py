"""A fair line: callers take turns, whoever waits is told its place, and a turn that is not taken goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.worker.turns import Turns


def served(turns: Turns, count: int, provider: str = "acme") -> list[str]:
    """The next `count` jobs to get a slot, each leaving the line as it does."""
    order = []
    for _ in range(count):
        job = turns.call(provider)
        if job is None:
            break
        turns.leave(job)
        order.append(job)
    return order


def test_one_callers_five_hundred_jobs_do_not_starve_ten_callers_with_one_each() -> None:
    turns = Turns()
    for number in range(500):
        turns.wait(f"big-{number}", "big", "acme")
    for number in range(10):
        turns.wait(f"small-{number}", f"small-{number}", "acme")

    order = served(turns, 20)

    assert [f"small-{number}" in order[:11] for number in range(10)] == [True] * 10  # on 5 slots: two renders at most
    assert order[0] == "big-0"


def test_within_a_caller_the_oldest_job_goes_first() -> None:
    turns = Turns()
    for job in ("a1", "a2", "a3"):
        turns.wait(job, "a", "acme")

    assert served(turns, 3) == ["a1", "a2", "a3"]


def test_nobody_passes_who_waits() -> None:
    turns = Turns()
    turns.wait("a1", "a", "acme")

    assert not turns.may_go("b1", "acme")
    assert turns.may_go("b1", "other")
    assert turns.call("acme") == "a1"
    assert turns.may_go("a1", "acme")


def test_a_turn_that_is_not_taken_goes_on() -> None:
    turns = Turns()
    turns.wait("a1", "a", "acme")
    turns.wait("b1", "b", "acme")

    assert turns.call("acme") == turns.call("acme") == "a1"
    turns.leave("a1")  # cancelled

    assert turns.call("acme") == "b1"


def test_a_job_that_waits_again_keeps_its_place() -> None:
    turns = Turns()
    turns.wait("a1", "a", "acme")
    turns.wait("b1", "b", "acme")
    turns.wait("a1", "a", "acme")

    assert turns.position("a1") == 0
    assert turns.position("b1") == 1
    assert turns.position("c1") is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=25), st.booleans())
def test_the_place_that_is_told_is_the_place_in_which_it_is_served(jobs: list[tuple[str, int]], called: bool) -> None:
    turns = Turns()
    for caller, number in jobs:
        turns.wait(f"{caller}{number}", caller, "acme")
    if called:
        turns.call("acme")
    names = {f"{caller}{number}" for caller, number in jobs}
    told = {name: turns.position(name) for name in names}

    order = served(turns, len(names))

    assert {name: order.index(name) for name in names} == told
    assert turns.waiting("acme") == 0
