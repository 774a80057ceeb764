"""For every catalogue, wish, purse, deadline and history: nothing is chosen that the job may not buy."""

from __future__ import annotations

from typing import Any, cast

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalogue import Backend, Catalogue
from gateway.health import Health, bucket
from gateway.jobs import Attempt, AttemptState, Job, JobSpec, Preferences, Routing
from gateway.router import Policy
from gateway.settings import Routing as RoutingSettings
from gateway.worker import pace
from gateway.worker.buyer import Buyer, Choice, Line, Pass, Wait
from providers.spec import Fault, Kind, Provider, Verdict, VideoRequest
from tests.catalogue_rows import NOW_US, find
from tests.test_router_laws import rows, videos, wishes

SECOND = 1_000_000
ACCOUNTS = [("p0", "main"), ("p1", "a"), ("p1", "b")]  # p2 has no credential
NOTHING_BOUGHT = (AttemptState.NOT_SENT, AttemptState.REJECTED)


class Past(msgspec.Struct, frozen=True):
    """One attempt of the job so far."""

    backend: int
    state: AttemptState
    kind: Kind
    price_usd_micros: int
    cost_usd_micros: int | None
    ago_seconds: float


def pasts() -> st.SearchStrategy[list[Past]]:
    ended = [AttemptState.FAILED, AttemptState.REJECTED, AttemptState.NOT_SENT, AttemptState.WRITTEN_OFF]
    kinds = [Kind.GENERATION_FAILED, Kind.UNAVAILABLE, Kind.RATE_LIMITED, Kind.CONTENT_POLICY, Kind.TIMEOUT]
    past = st.builds(
        Past,
        backend=st.integers(0, 7),
        state=st.sampled_from(ended),
        kind=st.sampled_from(kinds),
        price_usd_micros=st.sampled_from([200_000, 500_000]),
        cost_usd_micros=st.none() | st.sampled_from([0, 200_000, 700_000]),
        ago_seconds=st.floats(0, 200),
    )
    return st.lists(past, max_size=4)


def attempts_of(past: list[Past], catalogue: list[Backend]) -> list[Attempt]:
    made = []
    for no, one in enumerate(past, start=1):
        row = catalogue[one.backend % len(catalogue)]
        at_us = NOW_US - int(one.ago_seconds * SECOND)
        made.append(
            Attempt(
                id=f"att_{no}",
                job="video_1",
                no=no,
                state=one.state,
                backend=row.id,
                provider=row.provider,
                account="main",
                model_id="m",
                price_usd_micros=one.price_usd_micros,
                cost_usd_micros=0 if one.state in NOTHING_BOUGHT else one.cost_usd_micros,
                started_us=at_us,
                ended_us=at_us,
                fault=Fault(kind=one.kind, verdict=Verdict.ELSEWHERE, message="it broke"),
            )
        )
    return made


@settings(max_examples=300, deadline=None)
@given(
    catalogue=rows(),
    video=videos(),
    wish=wishes(),
    moderation=st.booleans(),
    past=pasts(),
    purse=st.sampled_from([100_000, 500_000, 1_000_000, 3_000_000]),
    left=st.sampled_from([5.0, 60.0, 300.0, 3600.0]),
    slots=st.lists(st.none() | st.integers(1, 2), min_size=3, max_size=3),
    busy=st.lists(st.integers(0, 2), min_size=3, max_size=3),
)
def test_nothing_is_chosen_that_the_job_may_not_buy(
    catalogue: list[Backend],
    video: VideoRequest,
    wish: Preferences,
    moderation: bool,
    past: list[Past],
    purse: int,
    left: float,
    slots: list[int | None],
    busy: list[int],
) -> None:
    wish = msgspec.structs.replace(wish, moderation_fallback=moderation)
    adapter = cast(Provider, object())
    buyer = Buyer(
        catalogue=Catalogue(catalogue),
        health=Health(accounts={"p0": ["main"], "p1": ["a", "b"]}),
        policy=Policy(),
        routing=RoutingSettings(),
        lines=[Line(*account, adapter, max_in_flight=limit) for account, limit in zip(ACCOUNTS, slots, strict=True)],
        configured=frozenset({"p0", "p1"}),
    )
    open_: dict[tuple[str, str], int] = {}
    for account, count in zip(ACCOUNTS, busy, strict=True):
        for number in range(count):
            buyer.opened(_open(account, number, catalogue))
            open_[account] = open_.get(account, 0) + 1
    attempts = attempts_of(past, catalogue)
    job = Job(
        id="video_1",
        caller="key_1",
        spec=JobSpec(model="one", video=video, preferences=wish),
        routing=Routing(backend="", provider="", reason="", estimated_cost_usd_micros=0),
        seconds=5,
        size="",
        purse_usd_micros=purse,
        created_us=NOW_US,
        deadline_us=NOW_US + int(left * SECOND),
        attempts=len(attempts),
    )

    chosen = buyer.choose(job, attempts, now_us=NOW_US)

    match chosen:
        case Wait(seconds=seconds):
            assert 0 < seconds < float("inf")
        case Pass(code=code):
            assert code
        case Choice(candidate=candidate, line=line):
            row = candidate.backend
            _asks_what_the_caller_allows(row, catalogue, job)
            spent = sum(attempt.spent_usd_micros for attempt in attempts)
            assert spent + candidate.quote.charge_usd_micros <= purse
            figures = buyer.health.figures(row, bucket(candidate.request), now_us=NOW_US)
            assert figures.p50_seconds <= left
            account = line.provider, line.account
            assert line.provider == row.provider
            assert open_.get(account, 0) < (line.max_in_flight or row.max_in_flight)
            assert sum(a.state not in NOTHING_BOUGHT for a in attempts) < RoutingSettings().max_attempts
            same = [a for a in attempts if a.backend == row.id]
            assert all(a.state in NOTHING_BOUGHT for a in same), "it has bought here already"
            assert all(NOW_US - a.started_us >= pace.RETRY_SECONDS[0] * SECOND for a in same)
            assert not any(a.fault is not None and a.fault.kind is Kind.CONTENT_POLICY for a in attempts)
            again = Buyer.decide(buyer, job, attempts, now_us=NOW_US)[0]
            assert again == Buyer.decide(buyer, job, attempts, now_us=NOW_US)[0]  # the same figures, the same seed


def _open(account: tuple[str, str], number: int, catalogue: list[Backend]) -> Attempt:
    name = next((row.id for row in catalogue if row.provider == account[0]), f"{account[0]}/gone")
    fields: dict[str, Any] = {"job": f"other_{number}", "no": 1, "state": AttemptState.RUNNING, "model_id": "m"}
    return Attempt(
        id=f"other_{account}_{number}",
        backend=name,
        provider=account[0],
        account=account[1],
        price_usd_micros=1,
        started_us=NOW_US - SECOND,
        bucket="≤5s/silent",
        **fields,
    )


def _asks_what_the_caller_allows(row: Backend, catalogue: list[Backend], job: Job) -> None:
    wish = job.spec.preferences
    assert row.provider in ("p0", "p1")
    names = {row.provider, row.id}
    assert not wish.only or names & set(wish.only)
    assert not names & set(wish.ignore)
    found = find(Catalogue(catalogue), "one", job.spec.video, wish, configured=frozenset({"p0", "p1"}))
    candidate = found.candidate(row.id)
    assert candidate is not None
    assert wish.max_price_usd_micros is None or candidate.quote.usd_micros <= wish.max_price_usd_micros
