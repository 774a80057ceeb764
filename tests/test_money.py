"""Money is safe: whatever a vendor does to a submit, an attempt has at most one row in the vendor's ledger, a job ends
once, and what it cost is said. A real gateway and a real vendor server, over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import house, records
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options

CHEAP, SPARE = 560_000, 600_000  # micro-dollars for 5 s silent on the two backends
MAIN, OTHER = "v3/pro", "o3/pro"  # their endpoints

pytestmark = pytest.mark.anyio


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.2))) as server:
        yield server


def one_row_an_attempt(fal: FalServer) -> None:
    tokens = [row.token for row in fal.ledger()]
    assert len(tokens) == len(set(tokens)), "an attempt was bought twice"


async def test_a_job_is_bought_once_and_costs_its_quote(fal: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.create(seconds=5)
        assert video["status"] == "queued"
        video = await gateway.ended(video["id"])

    assert video["status"] == "completed"
    assert video["progress"] == 100
    assert video["usage"]["cost_usd"] == 0.56
    assert video["routing"]["backend"] == "fal/kling-v3-pro"
    assert len(fal.ledger()) == 1


@pytest.mark.parametrize("verb", ["accept_then_cut", "half_reply", "truncated", "html", "empty", "no_id"])
async def test_a_reply_lost_after_acceptance_is_one_ledger_row_found_by_its_callback(
    verb: str, fal: FalServer, tmp_path: Path
) -> None:
    fal.say(act(verb))

    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.ended((await gateway.create(seconds=5))["id"])

    assert video["status"] == "completed"
    assert video["usage"]["cost_usd"] == 0.56
    assert len(fal.ledger()) == 1
    (record,) = await records(tmp_path / "house")
    assert [event.type for event in record.events if event.attempt] == [
        "job.attempt_started",
        "attempt.lost",
        "attempt.found",
        "attempt.succeeded",
    ]


async def test_a_callback_before_the_reply_is_not_lost(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("callback_before_reply"), act("accept_then_cut"))

    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.ended((await gateway.create(seconds=5))["id"])

    assert video["status"] == "completed"
    assert len(fal.ledger()) == 1


async def test_a_bare_500_is_unknown_and_after_its_window_fails_as_such(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("status", status=500))

    async with house(tmp_path / "house", fal.url, unknown_after_seconds=1.0) as gateway:
        video = await gateway.create(seconds=5)
        seen = await gateway.until(video["id"], "in_progress")
        video = await gateway.ended(video["id"])

    assert seen["error"] is None
    assert video["status"] == "failed"
    assert video["error"]["code"] == "outcome_unknown"
    assert video["usage"]["cost_usd"] == 0.56  # it may have been bought: its price is counted
    assert fal.ledger() == []
    (record,) = await records(tmp_path / "house")
    assert [a.state for a in record.attempts] == ["written_off"]


async def test_a_500_after_acceptance_whose_callback_is_dropped_never_buys_twice(
    fal: FalServer, tmp_path: Path
) -> None:
    fal.say(act("status", status=500, accepted=True), act("callback_drop"))

    async with house(tmp_path / "house", fal.url, unknown_after_seconds=1.0) as gateway:
        video = await gateway.ended((await gateway.create(seconds=5))["id"])

    assert video["error"]["code"] == "outcome_unknown"
    assert len(fal.ledger()) == 1
    assert video["usage"]["cost_usd"] == 0.56


async def test_on_unknown_resubmit_goes_on_elsewhere_inside_the_purse(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("status", status=500, endpoint=MAIN))

    async with house(
        tmp_path / "house", fal.url, unknown_after_seconds=0.5, on_unknown="resubmit", purse_factor=3.0
    ) as gateway:
        first = await gateway.create(seconds=5)
        video = await gateway.ended(first["id"])

    assert video["id"] == first["id"]
    assert video["status"] == "completed"
    assert video["routing"]["backend"] == "fal/spare"
    assert video["usage"]["cost_usd"] == pytest.approx((CHEAP + SPARE) / 1e6)
    (record,) = await records(tmp_path / "house")
    assert [(a.state, a.cost_usd_micros) for a in record.attempts] == [("written_off", CHEAP), ("succeeded", SPARE)]
    one_row_an_attempt(fal)


async def test_on_unknown_resubmit_stops_at_the_purse(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("status", status=500, endpoint=MAIN))

    async with house(tmp_path / "house", fal.url, unknown_after_seconds=0.5, on_unknown="resubmit") as gateway:
        video = await gateway.create(seconds=5, provider={"max_price": {"request": 1.0}})
        video = await gateway.ended(video["id"])

    assert video["status"] == "failed"
    assert video["error"]["code"] == "outcome_unknown"
    assert video["attempts"] == 1
    assert fal.ledger() == []


async def test_on_unknown_hold_waits_for_the_deadline(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("status", status=500))

    async with house(tmp_path / "house", fal.url, unknown_after_seconds=0.2, on_unknown="hold") as gateway:
        video = await gateway.create(seconds=5, deadline_seconds=2)
        await asyncio.sleep(1.0)
        held = await gateway.view(video["id"])
        video = await gateway.ended(video["id"])

    assert held["status"] == "in_progress"
    assert video["error"]["code"] == "expired"


@pytest.mark.parametrize("status", [401, 403, 404, 429])
async def test_a_documented_rejection_fails_over_within_a_second(status: int, fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("status", status=status, endpoint=MAIN))

    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.ended((await gateway.create(seconds=5))["id"])

    (record,) = await records(tmp_path / "house")
    if status in (401, 403):  # the account itself: there is no other backend without it
        assert video["error"]["code"] == "provider_account"
        assert fal.ledger() == []
        return
    assert video["status"] == "completed"
    assert video["routing"]["backend"] == "fal/spare"
    assert video["usage"]["cost_usd"] == SPARE / 1e6
    refused, taken = record.attempts
    assert (refused.state, refused.cost_usd_micros) == ("rejected", 0)
    assert taken.started_us - refused.started_us < 1_000_000
    assert len(fal.ledger()) == 1


async def test_a_vendor_that_cannot_be_reached_was_not_sent_to(tmp_path: Path) -> None:
    async with house(tmp_path / "house", "http://127.0.0.1:9") as gateway:
        video = await gateway.create(seconds=5, deadline_seconds=2)
        video = await gateway.ended(video["id"])

    assert video["error"]["code"] == "provider_unavailable"  # and no later try could be done by the deadline
    assert video["usage"]["cost_usd"] == 0
    (record,) = await records(tmp_path / "house")
    assert {a.state for a in record.attempts} == {"not_sent"}


async def test_a_failed_render_goes_on_elsewhere_under_the_same_id(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("fail_render", endpoint=MAIN, word="runner_disconnected"))

    async with house(tmp_path / "house", fal.url) as gateway:
        first = await gateway.create(seconds=5)
        video = await gateway.ended(first["id"])

    assert video["id"] == first["id"]
    assert video["status"] == "completed"
    assert video["routing"]["backend"] == "fal/spare"
    assert video["usage"]["cost_usd"] == SPARE / 1e6  # fal does not bill its own failures
    assert len(fal.ledger()) == 2
    one_row_an_attempt(fal)


async def test_moderation_is_not_shopped_around(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("fail_result", word="content_policy_violation"))

    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.ended((await gateway.create(seconds=5))["id"])

    assert video["error"]["code"] == "content_policy_violation"
    assert len(fal.ledger()) == 1


async def test_without_fallbacks_a_failure_is_the_end(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("fail_result", status=500, word="internal_server_error"))

    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.create(seconds=5, provider={"allow_fallbacks": False})
        video = await gateway.ended(video["id"])

    assert video["error"]["code"] == "generation_failed"
    assert len(fal.ledger()) == 1


async def test_a_stuck_render_ends_at_the_deadline_and_is_cancelled(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("stuck"))

    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.create(seconds=5, deadline_seconds=2)
        video = await gateway.ended(video["id"])

    assert video["status"] == "failed"
    assert video["error"]["code"] == "expired"
    assert any(seen.method == "PUT" and seen.path.endswith("/cancel") for seen in fal.requests())


async def test_cancel_tells_the_truth(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("stuck"), act("stuck"), act("ignore", on="cancel", after=1))

    async with house(tmp_path / "house", fal.url) as gateway:
        taken = await gateway.create(seconds=5)
        await gateway.until(taken["id"], "in_progress")
        await _accepted(fal, 1)
        reply = await gateway.http.post(f"/v1/videos/{taken['id']}/cancel")
        gone = await gateway.ended(taken["id"])

    assert reply.status_code in (200, 202)
    assert gone["error"]["code"] == "cancelled"
    assert gone["usage"]["cost_usd"] == 0


async def test_callbacks_that_are_dropped_doubled_or_forged_change_nothing(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("callback_drop"), act("callback_duplicate", count=10))

    async with house(tmp_path / "house", fal.url) as gateway:
        one, two = [(await gateway.create(seconds=5))["id"] for _ in range(2)]
        forged = await gateway.http.post("/callbacks/att_000.forged", json={"request_id": "x", "status": "OK"})
        ends = [await gateway.ended(id) for id in (one, two)]
        replies = await asyncio.to_thread(fal.callbacks, 10)

    assert forged.status_code == 404
    assert [video["status"] for video in ends] == ["completed", "completed"]
    assert all(200 <= delivery.status < 300 for delivery in replies if delivery.status)
    assert len(fal.ledger()) == 2
    for record in await records(tmp_path / "house"):
        assert [event.type for event in record.events].count("job.completed") == 1


async def test_a_client_that_asks_again_with_its_key_gets_the_same_job(fal: FalServer, tmp_path: Path) -> None:
    headers = {"idempotency-key": "order-66"}
    form = {"model": "kling-v3-pro", "prompt": "a cat", "seconds": 5}

    async with house(tmp_path / "house", fal.url) as gateway:
        replies = await asyncio.gather(
            *(gateway.http.post("/v1/videos", json=form, headers=headers) for _ in range(20))
        )
        other = await gateway.http.post("/v1/videos", json={**form, "prompt": "a dog"}, headers=headers)
        told = [reply for reply in replies if reply.status_code == 200]
        await gateway.ended(told[0].json()["id"])

    assert len({reply.json()["id"] for reply in told}) == 1
    assert {reply.status_code for reply in replies} <= {200, 409}  # 409: the first is still being accepted
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert len(fal.ledger()) == 1


async def test_a_restart_takes_up_what_was_running(fal: FalServer, tmp_path: Path) -> None:
    fal.say(act("render", seconds=1.0))

    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.create(seconds=5)
        await _accepted(fal, 1)
    async with house(tmp_path / "house", fal.url) as gateway:
        video = await gateway.ended(video["id"])

    assert video["status"] == "completed"
    assert len(fal.ledger()) == 1


async def _accepted(fal: FalServer, count: int) -> None:
    for _ in range(500):
        if len(fal.ledger()) >= count:
            await asyncio.sleep(0.1)  # until the reply has been taken in
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"the vendor took on fewer than {count} jobs")


async def test_open_renders_never_exceed_the_accounts_slots_and_callers_take_turns(
    fal: FalServer, tmp_path: Path
) -> None:
    fal.say(act("render", seconds=0.5, times=0))

    async with house(tmp_path / "house", fal.url, account={"max_in_flight": 2}) as gateway:
        ids = [(await gateway.create(model="fal/kling-v3-pro", seconds=5))["id"] for _ in range(6)]
        await _accepted(fal, 2)
        waiting = [view for view in [await gateway.view(id) for id in ids] if view["status"] == "queued"]
        ends = [await gateway.ended(id) for id in ids]

    assert {view["routing"]["queue_position"] for view in waiting} >= {0, 1, 2}
    assert [video["status"] for video in ends] == ["completed"] * 6
    spans = sorted((a.started_us, a.ended_us or 0) for r in await records(tmp_path / "house") for a in r.attempts)
    for begun, _ in spans:
        assert sum(start <= begun < end for start, end in spans) <= 2
