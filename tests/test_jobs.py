"""The lifecycle table: what can happen, what cannot, and that nothing moves backwards."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import ids
from gateway.jobs import (
    ATTEMPT_TABLE,
    JOB_TABLE,
    Attempt,
    AttemptEvent,
    AttemptState,
    IllegalTransition,
    Job,
    JobEvent,
    JobSpec,
    JobState,
    Routing,
    advance,
    advance_attempt,
    diagram,
)
from providers.spec import VideoRequest


def a_job(state: JobState = JobState.QUEUED) -> Job:
    return Job(
        id=ids.make("video", now_us=1, random=bytes(16)),
        caller="key_1",
        spec=JobSpec(model="auto", video=VideoRequest(prompt="a cat")),
        routing=Routing(backend="acme/cat", provider="acme", reason="", estimated_cost_usd_micros=1),
        seconds=5,
        size="1280x720",
        purse_usd_micros=2,
        created_us=1,
        deadline_us=2,
        state=state,
    )


def an_attempt(state: AttemptState) -> Attempt:
    return Attempt(
        id="att_1",
        job="video_1",
        no=1,
        state=state,
        backend="acme/cat",
        provider="acme",
        account="main",
        model_id="cat",
        price_usd_micros=560_000,
        started_us=1,
    )


@given(st.lists(st.sampled_from(list(JobEvent)), max_size=30))
def test_whatever_happens_a_job_ends_at_most_once_and_its_version_only_rises(events: list[JobEvent]) -> None:
    job, ends = a_job(), 0

    for event in events:
        try:
            after = advance(job, event)
        except IllegalTransition:
            continue
        assert after.version == job.version + 1
        ends += after.state.is_terminal and not job.state.is_terminal
        assert not (job.state.is_terminal and after.state is not job.state)
        job = after

    assert ends <= 1


@given(st.lists(st.sampled_from(list(AttemptEvent)), max_size=20))
def test_an_attempt_never_returns_to_submitting(events: list[AttemptEvent]) -> None:
    attempt = an_attempt(AttemptState.SUBMITTING)

    for event in events:
        try:
            attempt = advance_attempt(attempt, event)
        except IllegalTransition:
            continue
        assert attempt.state is not AttemptState.SUBMITTING


@pytest.mark.parametrize("state", [state for state in JobState if state.is_terminal])
@pytest.mark.parametrize("event", [event for event in JobEvent if event is not JobEvent.SETTLED])
def test_after_the_end_only_the_money_and_a_clips_address_may_change(state: JobState, event: JobEvent) -> None:
    job = a_job(state)
    if (state, event) == (JobState.COMPLETED, JobEvent.REFRESHED):
        assert advance(job, event).state is JobState.COMPLETED
        return

    with pytest.raises(IllegalTransition):
        advance(job, event)
    assert advance(job, JobEvent.SETTLED, cost_usd_micros=5).cost_usd_micros == 5


def test_an_illegal_step_changes_nothing() -> None:
    job = a_job(JobState.COMPLETED)

    with pytest.raises(IllegalTransition, match=r"is completed: job\.attempt_started cannot happen"):
        advance(job, JobEvent.ATTEMPT_STARTED, cost_usd_micros=99)

    assert job.cost_usd_micros is None


def test_only_an_attempt_that_bought_nothing_or_ended_badly_may_be_followed() -> None:
    followed = {state for state in AttemptState if state.may_be_followed}

    assert followed == {"not_sent", "rejected", "failed", "disproved", "written_off"}
    assert not any(state.is_open for state in followed)


def test_every_state_is_reachable() -> None:
    assert set(JOB_TABLE.values()) == set(JobState)
    assert {AttemptState.SUBMITTING, *ATTEMPT_TABLE.values()} == set(AttemptState)


def test_a_job_survives_its_json() -> None:
    job = a_job()

    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job


def test_an_unknown_cost_counts_as_the_price() -> None:
    unknown = an_attempt(AttemptState.UNKNOWN)
    settled = msgspec.structs.replace(unknown, cost_usd_micros=0)

    assert unknown.spent_usd_micros == 560_000
    assert settled.spent_usd_micros == 0


def test_readme_draws_the_table_as_it_is() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")

    assert f"```mermaid\n{diagram()}```" in readme


@given(st.integers(0, 2**47), st.integers(0, 2**47))
def test_ids_sort_by_time(first: int, second: int) -> None:
    low, high = sorted((first * 1000, second * 1000))

    ids_of = [ids.make("video", now_us=now, random=bytes(16)) for now in (low, high)]

    assert ids_of == sorted(ids_of)
    assert all(ids.is_id(id, "video") for id in ids_of)


@pytest.mark.parametrize(
    "text", ["", "video_", "video_" + "0" * 35, "video_" + "w" * 36, "att_" + "0" * 36, "video_" + "0" * 36 + "\n"]
)
def test_what_is_not_an_id_is_told_by_its_shape(text: str) -> None:
    assert not ids.is_id(text, "video")
