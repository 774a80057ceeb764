"""Budgets hold: over a real gateway, a real vendor server and sockets, what a key's jobs have spent or may yet spend is
never above what its operator granted, and what was not spent is given back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import admin
from gateway.jobs import AttemptState
from gateway.keys import Terms
from tests import house as houses
from tests.house import House, house, records
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options

MAIN, OTHER = "v3/pro", "o3/pro"  # the endpoints of the backends at $1.00 and $1.20 for 5 s
DOLLAR = 1_000_000
ASKED = {"model": "kling-v3-pro", "prompt": "a lighthouse at dusk", "seconds": 5}
THIRD = houses.SPARE.replace('name = "spare"', 'name = "third"').replace("o3/pro", "v3/standard")

pytestmark = pytest.mark.anyio


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.2))) as server:
        yield server


@pytest.fixture(autouse=True)
def round_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        houses, "QUICK", houses.QUICK.replace("silent = 0.112, audio = 0.168", "silent = 0.2, audio = 0.3")
    )
    monkeypatch.setattr(
        houses, "SPARE", houses.SPARE.replace("silent = 0.12, audio = 0.18", "silent = 0.24, audio = 0.36")
    )


async def caller(gateway: House, **terms: Any) -> dict[str, str]:
    """The headers of a new key."""
    url = f"sqlite:///{gateway.folder}/filmgate.db"
    made = await asyncio.to_thread(admin.with_store, url, admin.CreateKey(name="app", terms=Terms(**terms)))
    return {"authorization": f"Bearer {made.text.reveal()}"}


async def create(gateway: House, headers: dict[str, str], **changes: Any) -> httpx.Response:
    return await gateway.http.post("/v1/videos", json=ASKED | changes, headers=headers)


async def used(gateway: House, headers: dict[str, str]) -> dict[str, Any]:
    reply = await gateway.http.get("/v1/usage", headers=headers)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def ended(gateway: House, headers: dict[str, str], reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    async with asyncio.timeout(20):
        while True:
            video = (await gateway.http.get(f"/v1/videos/{reply.json()['id']}", headers=headers)).json()
            if video["status"] in ("completed", "failed"):
                return dict(video)
            await asyncio.sleep(0.02)


async def test_200_parallel_creates_of_a_dollar_against_50_dollars_are_50_jobs(fal: FalServer, tmp_path: Path) -> None:
    # on a busy machine a job that fails in its usual second would give its dollar back
    patient: dict[str, Any] = {"intent_seconds": 30.0, "read_seconds": 30.0}
    async with house(tmp_path / "house", fal.url, **patient) as gateway:
        headers = await caller(gateway, budget_day_usd_micros=50 * DOLLAR)
        seen: list[float] = []

        async def sample() -> None:
            while True:
                seen.append((await used(gateway, headers))["budgets"]["day"]["used_usd"])

        sampling = asyncio.create_task(sample())
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=gateway.http.base_url, timeout=60, trust_env=False, limits=limits
        ) as http:
            form = ASKED | {"provider": {"only": ["fal/kling-v3-pro"]}}  # under load some would be drawn elsewhere
            replies = await asyncio.gather(*(http.post("/v1/videos", json=form, headers=headers) for _ in range(200)))
        sampling.cancel()
        after = await used(gateway, headers)

    assert Counter(reply.status_code for reply in replies) == {200: 50, 402: 150}
    assert after["budgets"]["day"]["used_usd"] == 50.0
    assert after["budgets"]["day"]["left_usd"] == 0.0
    assert after["total"]["jobs"] == 50
    assert max(seen) <= 50.0
    assert len(seen) > 3
    error = next(reply for reply in replies if reply.status_code == 402).json()["error"]
    assert (error["code"], error["type"], error["retryable"]) == ("budget_exceeded", "insufficient_funds", False)
    assert error["message"].startswith(
        "This API key's budget is $50.00 a day; $50.00 of it are spent or reserved, and "
    )
    assert "$1.00 more were asked for. It starts anew at 20" in error["message"]
    found = await records(tmp_path / "house")
    assert len(found) == 50
    assert len(fal.ledger()) <= 50


async def test_a_failed_job_gives_its_money_back_to_the_cent(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("fail_render", endpoint=MAIN, word="runner_disconnected"))

    async with house(tmp_path / "house", fal.url) as gateway:
        headers = await caller(gateway, budget_day_usd_micros=DOLLAR, budget_month_usd_micros=DOLLAR)
        reply = await create(gateway, headers, provider={"only": ["fal/kling-v3-pro"]})
        reserved = await used(gateway, headers)
        video = await ended(gateway, headers, reply)
        released = await used(gateway, headers)
        again = await ended(gateway, headers, await create(gateway, headers))
        spent = await used(gateway, headers)
        refused = await create(gateway, headers)

    assert video["status"] == "failed"
    assert reserved["budgets"]["day"]["used_usd"] == 1.0
    assert released["budgets"]["day"]["used_usd"] == released["budgets"]["month"]["used_usd"] == 0.0
    assert again["status"] == "completed"
    assert spent["budgets"]["month"]["used_usd"] == 1.0
    assert spent["total"] == {
        "jobs": 2,
        "completed": 1,
        "failed": 1,
        "seconds": 5,
        "cost_usd": 1.0,
        "reserved_usd": 0.0,
    }
    assert refused.status_code == 402


async def test_a_failover_beyond_the_budget_ends_the_job_and_says_so(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("fail_render", endpoint=MAIN, word="runner_disconnected"))

    async with house(tmp_path / "house", fal.url) as gateway:
        headers = await caller(gateway, budget_day_usd_micros=1_100_000)
        video = await ended(gateway, headers, await create(gateway, headers))
        after = await used(gateway, headers)

    assert (video["status"], video["error"]["code"]) == ("failed", "budget_exceeded")
    assert "budget" in video["error"]["message"]
    assert after["budgets"]["day"]["used_usd"] == 0.0
    assert [row.endpoint for row in fal.ledger()] == ["fal-ai/kling-video/v3/pro/text-to-video"]
    (record,) = await records(tmp_path / "house")
    assert [attempt.state for attempt in record.attempts] == [AttemptState.FAILED]
    assert record.job.fault is not None
    assert "budget is $1.10 a day" in record.job.fault.message
    assert "$1.20 more were asked for" in record.job.fault.message


async def test_a_failover_takes_what_the_budget_still_has_room_for(
    fal: FalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # far apart, since of near-equals one is drawn
    second = houses.SPARE.replace("p50 = 2, p95 = 4", "p50 = 40, p95 = 60")
    third = THIRD.replace("p50 = 2, p95 = 4", "p50 = 400, p95 = 600").replace("silent = 0.12", "silent = 0.21")
    monkeypatch.setattr(houses, "SPARE", second + third)
    fal.say(act("fail_render", endpoint=MAIN, word="runner_disconnected"))

    async with house(tmp_path / "house", fal.url, sort="latency") as gateway:
        headers = await caller(gateway, budget_day_usd_micros=1_100_000)
        video = await ended(gateway, headers, await create(gateway, headers, provider={"sort": "latency"}))
        after = await used(gateway, headers)

    assert video["status"] == "completed"
    assert video["routing"]["backend"] == "fal/third"
    assert after["budgets"]["day"]["used_usd"] == 1.05


async def test_the_same_intent_reserves_once(fal: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", fal.url) as gateway:
        headers = await caller(gateway, budget_day_usd_micros=DOLLAR)
        once = headers | {"idempotency-key": "order-1"}
        replies = await asyncio.gather(*(create(gateway, once) for _ in range(20)))
        after = await used(gateway, headers)
        other = await create(gateway, headers)

    answered = [reply for reply in replies if reply.status_code == 200]
    assert {reply.status_code for reply in replies} <= {200, 409}  # 409: the first is still being accepted
    assert len({reply.json()["id"] for reply in answered}) == 1
    assert after["budgets"]["day"]["used_usd"] == 1.0
    assert other.status_code == 402


async def test_a_test_key_spends_nothing_whatever_its_budget(fal: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", fal.url) as gateway:
        url = f"sqlite:///{gateway.folder}/filmgate.db"
        asked = admin.CreateKey(name="ci", test=True, terms=Terms(budget_day_usd_micros=0))
        made = await asyncio.to_thread(admin.with_store, url, asked)
        headers = {"authorization": f"Bearer {made.text.reveal()}"}
        video = await ended(gateway, headers, await create(gateway, headers))
        after = await used(gateway, headers)

    assert video["status"] == "completed"
    assert after["budgets"]["day"]["used_usd"] == 0.0
    assert (after["total"]["jobs"], after["total"]["cost_usd"]) == (1, 0.0)
    assert fal.ledger() == []


async def test_a_budget_that_is_lowered_holds_back_new_jobs_and_lets_old_ones_end(
    fal: FalServer, tmp_path: Path
) -> None:
    async with house(tmp_path / "house", fal.url) as gateway:
        headers = await caller(gateway, budget_day_usd_micros=5 * DOLLAR)
        reply = await create(gateway, headers)
        url = f"sqlite:///{gateway.folder}/filmgate.db"
        less = admin.LimitKey(key="app", terms=Terms(budget_day_usd_micros=1), fields=("budget_day_usd_micros",))
        await asyncio.to_thread(admin.with_store, url, less)
        refused = await create(gateway, headers)
        video = await ended(gateway, headers, reply)

    assert refused.status_code == 402
    assert video["status"] == "completed"
