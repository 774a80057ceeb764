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


SLOTS = 5


def test_one_callers_five_hundred_jobs_do_not_starve_ten_callers_with_one_each() -> None:
    turns = Turns()
    for number in range(500):
        (turns.went if number < SLOTS else turns.wait)(f"big-{number}", "big", "acme")
    for number in range(10):
        turns.wait(f"small-{number}", f"small-{number}", "acme")

    rounds = [served(turns, SLOTS) for _ in range(2)]  # each slot comes free once, and once more

    assert sorted(rounds[0] + rounds[1]) == sorted(f"small-{number}" for number in range(10))  # two renders at most
    assert served(turns, 1) == [f"big-{SLOTS}"]


def test_a_caller_that_comes_back_has_saved_no_turns_up() -> None:
    turns = Turns()
    turns.went("old-1", "old", "acme")
    for number in range(50):
        turns.went(f"busy-{number}", "busy", "acme")
    for number in range(3):
        turns.wait(f"busy-later-{number}", "busy", "acme")
        turns.wait(f"old-later-{number}", "old", "acme")

    assert served(turns, 6) == [f"{who}-later-{number}" for number in range(3) for who in ("old", "busy")]


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


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=25),
    st.booleans(),
)
def test_the_place_that_is_told_is_the_place_in_which_it_is_served(
    jobs: list[tuple[str, int, bool]], called: bool
) -> None:
    turns = Turns()
    names: set[str] = set()
    for caller, number, at_once in jobs:
        name = f"{caller}{number}"
        if at_once and name not in names:
            turns.went(f"{name}-at-once", caller, "acme")
        else:
            turns.wait(name, caller, "acme")
            names.add(name)
    if called:
        turns.call("acme")
    told = {name: turns.position(name) for name in names}

    order = served(turns, len(names))

    assert {name: order.index(name) for name in names} == told
    assert turns.waiting("acme") == 0
