"""When a job goes on elsewhere: a render that is stuck, a prompt that one model refuses. A real gateway and a real
vendor server, over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.house import House, house, records
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options

MAIN = "v3/pro"  # the endpoint of the cheapest backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.2))) as server:
        yield server


async def test_a_stuck_render_is_stopped_and_made_elsewhere(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("stuck", endpoint=MAIN))

    async with house(tmp_path / "house", fal.url, stuck_after_seconds=1.0) as gateway:
        video = await gateway.ended((await gateway.create(seconds=5))["id"])

    assert video["status"] == "completed"
    assert video["routing"]["backend"] == "fal/spare"
    (record,) = await records(tmp_path / "house")
    stopped, made = record.attempts
    assert (stopped.state, made.state) == ("failed", "succeeded")
    assert stopped.fault is not None
    assert stopped.fault.code == "stuck"
    assert "99.9 %" in stopped.fault.message


async def test_a_stuck_render_that_will_not_stop_is_waited_for_and_never_bought_beside(
    fal: FalServer, tmp_path: Path
) -> None:
    fal.say(act("render", endpoint=MAIN, seconds=6.0), act("ignore", on="cancel", endpoint=MAIN))

    async with house(tmp_path / "house", fal.url, stuck_after_seconds=1.0) as gateway:
        video = await gateway.ended((await gateway.create(seconds=5))["id"])

    assert video["status"] == "completed"
    assert video["routing"]["backend"] == "fal/kling-v3-pro"
    assert len(fal.ledger()) == 1


async def test_a_stuck_render_is_left_alone_where_nobody_else_could_be_paid(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("render", endpoint=MAIN, seconds=6.0))

    async with house(tmp_path / "house", fal.url, stuck_after_seconds=1.0) as gateway:
        video = await gateway.create(seconds=5, provider={"max_price": {"request": 0.58}})
        video = await gateway.ended(video["id"])

    assert video["status"] == "completed"
    assert video["routing"]["backend"] == "fal/kling-v3-pro"
    assert len(fal.ledger()) == 1


REFUSED = act(
    "fail_result", status=422, word="content_policy_violation", message="flagged", times=0, endpoint="standard"
)


async def test_what_a_model_refuses_another_model_tries_only_if_the_caller_says_so(
    fal: FalServer, tmp_path: Path
) -> None:
    fal.say(REFUSED)

    async with house(tmp_path / "house", fal.url, purse_factor=4.0) as gateway:
        plain = await gateway.create(model="auto", seconds=5)
        assert plain["routing"]["backend"] == "fal/kling-v3-standard"
        allowed = await gateway.create(model="auto", seconds=5, provider={"moderation_fallback": True})
        plain = await gateway.ended(plain["id"], seconds=60)
        allowed = await gateway.ended(allowed["id"], seconds=60)

    assert plain["error"]["code"] == "content_policy_violation"
    assert allowed["status"] == "completed"
    assert allowed["routing"]["backend"] == "fal/kling-v3-pro"


async def test_a_refusal_is_never_taken_round_to_others_who_sell_the_same_model(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("fail_result", status=422, word="content_policy_violation", message="flagged", times=0))

    async with house(tmp_path / "house", fal.url, purse_factor=4.0) as gateway:
        video = await gateway.create(seconds=5, provider={"moderation_fallback": True})
        video = await gateway.ended(video["id"])

    assert video["error"]["code"] == "content_policy_violation"
    assert len(fal.ledger()) == 1  # fal/spare has the same model


async def test_a_vendor_whose_submits_are_lost_is_left_alone_after_three(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("status", status=503, endpoint=MAIN, times=0))

    async with house(tmp_path / "house", fal.url, unknown_after_seconds=30.0) as gateway:
        for _ in range(3):
            await gateway.create(seconds=5)
        async with asyncio.timeout(20):
            while True:
                if "3 refused submits" in (await shown(gateway, "fal/kling-v3-pro"))["why"]:
                    break
                await asyncio.sleep(0.02)
        fourth = await gateway.create(seconds=5)

    assert fourth["routing"]["backend"] == "fal/spare"


async def shown(gateway: House, backend: str) -> dict[str, Any]:
    listed = (await gateway.http.get("/v1/backends?model=kling-v3-pro&provider=fal")).json()["data"]
    (one,) = [one for one in listed if one["id"] == backend]
    return {**one, "why": one["why"] or ""}
