"""Killed at every dangerous moment, started again: no accepted job is lost, no attempt is bought twice, each job ends
once. `make test` does three rounds of each, `make crash` twenty."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.jobs import JobState
from tests.house import ROOT, Process, Record, free_port, records, written
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]

ENDS = {"job.completed", "job.failed", "job.cancelled", "job.expired"}
JOBS = 3  # in each round
PLACES = (
    "before_accept",
    "after_accept",
    "after_intent",
    "mid_post",
    "after_reply",
    "while_running",
    "before_end",
    "after_end",
)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--crash-rounds"))


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.3))) as server:
        yield server


@pytest.mark.parametrize("place", PLACES)
def test_a_kill_loses_nothing_and_buys_nothing_twice(place: str, rounds: int, fal: FalServer, tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "house"
    config = written(folder, fal.url, port=port)
    accepted: list[str] = []

    with Process(config, key=_key(config), port=port) as gateway:
        for number in range(rounds):
            _round(place, number, gateway, fal, accepted)

    _audit(asyncio.run(records(folder)), set(accepted), fal)
    print(f"{place}: {rounds} kills, {len(set(accepted))} accepted jobs, {len(fal.ledger())} ledger rows")


def _round(place: str, number: int, gateway: Process, fal: FalServer, accepted: list[str]) -> None:
    """One kill at `place`, a start, and every accepted job followed to its end."""
    gateway.start(failpoint="" if place == "mid_post" else place)
    if place == "mid_post":
        fal.say(act("accept_then_stall", seconds=5))
        bought = len(fal.ledger())
        accepted += _ask(gateway, number)
        _until(lambda: len(fal.ledger()) > bought)
        gateway.kill()
    else:
        accepted += _ask(gateway, number)
        gateway.died()
    gateway.start()
    accepted += _ask(gateway, number)  # the client tries again, under the same keys
    _all_ended(gateway, set(accepted))
    gateway.stop()
    fal.script.clear()


def _key(config: Path) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "create", "crash", "--config", str(config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return made.stdout.strip().splitlines()[-1]


def _ask(gateway: Process, number: int) -> list[str]:
    """Ask for this round's jobs; the ids of those that were answered. A reply that never comes is no acceptance."""
    answered = []
    for one in range(JOBS):
        form = {"model": "kling-v3-pro", "prompt": f"a lighthouse, take {number}.{one}", "seconds": 5}
        headers = {**gateway.headers, "idempotency-key": f"round-{number}-{one}"}
        try:
            reply = httpx.post(f"{gateway.url}/v1/videos", json=form, headers=headers, trust_env=False, timeout=20)
        except httpx.TransportError:
            continue
        assert reply.status_code == 200, reply.text
        answered.append(reply.json()["id"])
    return answered


def _until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.02)


def _all_ended(gateway: Process, ids: set[str]) -> None:
    def look() -> bool:
        for id in ids:
            reply = httpx.get(f"{gateway.url}/v1/videos/{id}", headers=gateway.headers, trust_env=False)
            assert reply.status_code == 200, f"an accepted job is lost: {id}: {reply.text}"
            if reply.json()["status"] not in ("completed", "failed"):
                return False
        return True

    _until(look, 60)


def _audit(found: list[Record], accepted: set[str], fal: FalServer) -> None:
    rows = fal.ledger()
    tokens = [row.token for row in rows]
    attempts = {attempt.id: attempt for record in found for attempt in record.attempts}

    assert accepted <= {record.job.id for record in found}
    assert len(tokens) == len(set(tokens)), "an attempt has two ledger rows"
    assert {token.partition(".")[0] for token in tokens} <= set(attempts), "a ledger row has no attempt"
    for record in found:
        assert record.job.state.is_terminal, record
        assert [event.type in ENDS for event in record.events].count(True) == 1, record.events
        assert record.job.cost_usd_micros == sum(attempt.spent_usd_micros for attempt in record.attempts)
        if record.job.state is JobState.COMPLETED:
            assert sum(attempt.state == "succeeded" for attempt in record.attempts) == 1
    paid = {attempt.operation.id for attempt in attempts.values() if attempt.operation is not None}
    for row in rows:
        attempt = attempts[row.token.partition(".")[0]]
        assert row.id in paid or attempt.state == "written_off", json.dumps(str(attempt))
