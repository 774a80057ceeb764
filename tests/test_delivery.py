"""Webhooks: what is owed is told, to addresses of every temper, on schedule, under one id, never to a wrong place."""

from __future__ import annotations

import asyncio
import math
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from gateway.delivery import Standard
from gateway.jobs import Job, JobEvent
from gateway.store.outbox import DeliveryState, event_id
from tests.callees import CALLER, DAYS_IN_SECONDS, SHIPPED, Callee, scaled, shop, verified
from tests.records import NOW_US
from tests.vendors.wire import Manner, Reply, Request

pytestmark = pytest.mark.anyio

SECOND = 1_000_000
LATENESS = 0.25  # seconds that a busy machine may add to a wait


async def test_end_is_told_at_once_signed_and_shaped_as_openais(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        _, secret = await opened.endpoint(callee.url)

        job = await opened.end_a_job(metadata={"scene": "12"})
        ((delivery, tries),) = await opened.over(job)

        (request,) = callee.got
        body = request.json()
        assert (body["id"], body["object"], body["type"]) == (event_id(job), "event", "video.completed")
        assert body["created_at"] == (job.ended_us or 0) // SECOND
        assert (body["data"]["id"], body["data"]["status"]) == (job.id, "completed")
        assert body["data"]["metadata"] == {"scene": "12"}
        assert "prompt" not in body["data"]
        assert request.headers["content-type"] == "application/json"
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 10
        assert request.headers["webhook-id"] == delivery.event == body["id"]
        assert verified(request, secret)
        assert (delivery.state, [(one.no, one.status, one.error) for one in tries]) == ("delivered", [(1, 200, None)])


@pytest.mark.parametrize("event", [JobEvent.FAILED, JobEvent.CANCELLED, JobEvent.EXPIRED])
async def test_every_other_end_is_a_failure(tmp_path: Path, event: JobEvent) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        await opened.endpoint(callee.url)

        await opened.over(await opened.end_a_job(event=event))

        assert callee.got[0].json()["type"] == "video.failed"
        assert callee.got[0].json()["data"]["error"]["code"]


async def test_endpoint_and_callback_are_both_told_each_with_its_secret(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        endpoint, callback = await opened.callee(), await opened.callee()
        _, secret = await opened.endpoint(endpoint.url)

        log = await opened.over(await opened.end_a_job(callback_url=callback.url))

        (own,) = await opened.store.post.secrets(CALLER, now_us=NOW_US)
        assert verified(endpoint.got[0], secret)
        assert verified(callback.got[0], own)
        assert not verified(callback.got[0], secret)
        assert endpoint.ids() == callback.ids()  # one event
        assert {delivery.webhook is None for delivery, _ in log} == {True, False}


async def test_other_callers_endpoints_hear_nothing(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        ours, theirs = await opened.callee(), await opened.callee()
        await opened.endpoint(ours.url)
        await opened.endpoint(theirs.url, "caller2")

        await opened.over(await opened.end_a_job())

        assert (len(ours.got), len(theirs.got)) == (1, 0)


# --- addresses of every temper ----------------------------------------------------------------------------------------


async def test_address_that_always_fails_is_tried_ten_times_on_the_schedule(tmp_path: Path) -> None:
    async with shop(tmp_path, scaled()) as opened:
        callee = await opened.callee()
        callee.answer = lambda _: Reply(status=500, body=b"no")
        await opened.endpoint(callee.url)

        ((delivery, tries),) = await opened.over(await opened.end_a_job())

        assert delivery.state is DeliveryState.FAILED
        assert [one.no for one in tries] == list(range(1, 11))
        assert {(one.status, one.error) for one in tries} == {(500, "refused")}
        assert len(callee.got) == 10
        assert len(set(callee.ids())) == 1
        assert len({request.body for request in callee.got}) == 1
        gaps = [(later.at_us - sooner.at_us) / SECOND for sooner, later in pairwise(tries)]
        for gap, wait in zip(gaps, SHIPPED.retry_seconds, strict=True):
            assert wait * DAYS_IN_SECONDS - 0.001 <= gap <= wait * DAYS_IN_SECONDS + LATENESS
        hours = [gap / DAYS_IN_SECONDS / 3600 for gap in gaps]
        print("the waits, as hours of the real schedule:", " ".join(f"{hour:.2f}" for hour in hours))


async def test_address_that_is_dead_for_an_hour_hears_everything_once(tmp_path: Path) -> None:
    by = 1e-4  # an hour is 0.36 s
    async with shop(tmp_path, scaled(by)) as opened:
        callee = await opened.callee()
        await opened.endpoint(callee.url)
        await callee.stop()

        jobs = [await opened.end_a_job() for _ in range(12)]
        await asyncio.sleep(3600 * by)
        await callee.start()
        logs = [await opened.over(job) for job in jobs]

        assert sorted(callee.ids()) == sorted(event_id(job) for job in jobs)
        for ((delivery, tries),) in logs:
            assert delivery.state is DeliveryState.DELIVERED
            assert {one.error for one in tries[:-1]} == {"unreachable"}
            assert tries[-1].status == 200


async def test_hanging_address_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    async with shop(tmp_path, scaled(timeout_seconds=8.0)) as opened:
        dead, well = await opened.callee(), await opened.callee()
        dead.answer = lambda _: Reply(manner=Manner(before_seconds=math.inf))
        await opened.endpoint(dead.url)
        await opened.endpoint(well.url)

        began = asyncio.get_running_loop().time()
        for _ in range(40):
            await opened.end_a_job()
        await well.wait(40)

        assert well.at[-1] - began < 7  # before the first of the dead one's tries has ended
        assert len(set(well.ids())) == 40
        assert len(dead.got) <= 4


async def test_caller_whose_addresses_all_hang_keeps_no_other_caller_waiting(tmp_path: Path) -> None:
    async with shop(tmp_path, scaled(timeout_seconds=8.0, at_once_in_all=8, at_once=2)) as opened:
        dead, well = await opened.callee(), await opened.callee()
        dead.answer = lambda _: Reply(manner=Manner(before_seconds=math.inf))
        for number in range(12):
            await opened.endpoint(f"{dead.url}/{number}")

        began = asyncio.get_running_loop().time()
        await opened.end_a_job()
        await dead.wait(2)
        await opened.end_a_job(callback_url=well.url, caller="caller2")
        await well.wait(1)

        assert well.at[-1] - began < 7
        assert len(dead.got) == 2  # a quarter of eight


async def test_timeout_is_a_try_in_vain(tmp_path: Path) -> None:
    async with shop(tmp_path, scaled(timeout_seconds=0.1)) as opened:
        callee = await opened.callee()
        answers = iter([Reply(manner=Manner(before_seconds=math.inf))])
        callee.answer = lambda _: next(answers, Reply())
        await opened.endpoint(callee.url)

        ((delivery, tries),) = await opened.over(await opened.end_a_job())

        assert delivery.state is DeliveryState.DELIVERED
        assert [(one.status, one.error) for one in tries] == [(None, "timeout"), (200, None)]
        assert 90 <= tries[0].ms < 1000


async def test_answer_that_never_ends_is_taken_by_its_status(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        callee.answer = lambda _: Reply(body=b"x" * 5_000_000, manner=Manner(drip_seconds=60))
        await opened.endpoint(callee.url)

        began = asyncio.get_running_loop().time()
        ((delivery, tries),) = await opened.over(await opened.end_a_job())

        assert (delivery.state, tries[0].status) == ("delivered", 200)
        assert asyncio.get_running_loop().time() - began < 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_a_failure_and_never_followed(tmp_path: Path, status: int) -> None:
    async with shop(tmp_path, scaled(retry_seconds=())) as opened:
        elsewhere, callee = await opened.callee(), await opened.callee()
        callee.answer = lambda _: Reply(status=status, headers={"location": elsewhere.url})
        await opened.endpoint(callee.url)

        ((delivery, tries),) = await opened.over(await opened.end_a_job())

        assert (delivery.state, tries[0].status, tries[0].error) == ("failed", status, "redirected")
        assert elsewhere.got == []


async def test_gone_disables_the_endpoint_and_what_it_is_still_owed(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee, well = await opened.callee(), await opened.callee()
        statuses = iter([500, 410])
        callee.answer = lambda _: Reply(status=next(statuses, 200))
        webhook, _ = await opened.endpoint(callee.url)
        await opened.endpoint(well.url)

        first = await opened.end_a_job()
        await callee.wait(2)
        await opened.over(first)
        second = await opened.end_a_job()
        await opened.over(second)

        known = await opened.store.post.webhook(webhook.id)
        assert known is not None
        assert known.disabled_us is not None
        assert known.disabled_why == "the address answered 410"
        states = {delivery.webhook: delivery.state for delivery, _ in await opened.log_of(first)}
        assert states[webhook.id] == "disabled"
        assert len(callee.got) == 2
        assert sorted(well.ids()) == sorted([event_id(first), event_id(second)])


async def test_gone_ends_a_callback_and_no_other(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        callee.answer = lambda _: Reply(status=410)

        first = await opened.over(await opened.end_a_job(callback_url=callee.url))
        second = await opened.over(await opened.end_a_job(callback_url=callee.url))

        assert [delivery.state for delivery, _ in (*first, *second)] == ["disabled", "disabled"]
        assert len(set(callee.ids())) == 2


async def test_wait_that_an_address_asks_for_is_granted(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        answers = iter([Reply(status=429, headers={"retry-after": "0.4"})])
        callee.answer = lambda _: next(answers, Reply())
        await opened.endpoint(callee.url)

        await opened.over(await opened.end_a_job())

        assert callee.at[1] - callee.at[0] >= 0.39


async def test_one_address_is_asked_four_things_at_once_and_one_while_it_fails(tmp_path: Path) -> None:
    async with shop(tmp_path, scaled(retry_seconds=(), timeout_seconds=5)) as opened:
        callee = _Slow()
        await callee.start()
        await opened.endpoint(callee.url)

        peaks = []
        for status, jobs in ((200, 9), (500, 1), (500, 4)):
            callee.hold(status)
            asked = [await opened.end_a_job() for _ in range(jobs)]
            await callee.wait(1)
            await asyncio.sleep(0.05)  # what must not come has had its time
            callee.let_go()
            for job in asked:
                await opened.over(job)
            peaks.append(callee.most_open)
        await callee.stop()

        assert peaks == [4, 1, 1]


class _Slow(Callee):
    """Holds every call until it is let go, and sees how many wait at once."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self._gate = asyncio.Event()

    def hold(self, status: int) -> None:
        self.status, self.most_open = status, 0
        self.got.clear()
        self._gate.clear()

    def let_go(self) -> None:
        self._gate.set()

    async def _take(self, request: Request) -> Reply:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        reply = await super()._take(request)
        await self._gate.wait()
        self.open -= 1
        return msgspec.structs.replace(reply, status=self.status)


# --- addresses that are not called ------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://localhost/hook", "https://127.0.0.1/hook", "http://files.example/hook"])
async def test_address_within_is_refused_where_the_connection_is_made(tmp_path: Path, url: str) -> None:
    async with shop(tmp_path, scaled(retry_seconds=()), allow=()) as opened:
        await opened.endpoint(url)

        ((delivery, tries),) = await opened.over(await opened.end_a_job())

        assert (delivery.state, tries[0].status, tries[0].error) == ("failed", None, "address_refused")


async def test_name_that_turns_to_a_private_address_later_is_refused_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path, scaled(retry_seconds=()), allow=()) as opened:
        await opened.endpoint("https://hooks.example/a")

        async def rebound(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            return [(2, 1, 6, "", ("10.0.0.7", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebound)
        ((_, tries),) = await opened.over(await opened.end_a_job())

        assert tries[0].error == "address_refused"


# --- what survives ----------------------------------------------------------------------------------------------------


async def test_what_is_owed_survives_the_process_under_the_same_id(tmp_path: Path) -> None:
    async with shop(tmp_path, scaled(1.0)) as opened:
        callee = Callee()
        await callee.start()
        callee.answer = lambda _: Reply(status=503)
        await opened.endpoint(callee.url)
        job = await opened.end_a_job()
        await opened.tried(job)
    callee.answer = lambda _: Reply()

    async with shop(tmp_path, scaled()) as again:
        ((known, _),) = await again.log_of(job)
        await again.store.post.again(known.id, now_us=NOW_US)
        ((delivery, tries),) = await again.over(job)
    await callee.stop()

    assert delivery.state is DeliveryState.DELIVERED
    assert [one.status for one in tries] == [503, 200]
    assert len(set(callee.ids())) == 1


async def test_redelivery_has_the_same_id_and_a_longer_log(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        await opened.endpoint(callee.url)
        job = await opened.end_a_job()
        ((delivery, _),) = await opened.over(job)

        await opened.store.post.again(delivery.id, now_us=NOW_US)
        await callee.wait(2)
        ((after, tries),) = await opened.over(job)

        assert len(set(callee.ids())) == 1
        assert (after.state, [one.no for one in tries]) == ("delivered", [1, 2])


async def test_two_secrets_sign_during_a_rotation_and_never_three(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        webhook, first = await opened.endpoint(callee.url)
        now_us = time.time_ns() // 1000
        second = await opened.store.post.rotate(webhook.id, now_us=now_us)

        await opened.over(await opened.end_a_job())
        third = await opened.store.post.rotate(webhook.id, now_us=now_us)
        await opened.over(await opened.end_a_job())

        assert [verified(callee.got[0], secret) for secret in (first, second)] == [True, True]
        assert [verified(callee.got[1], secret) for secret in (first, second, third)] == [False, True, True]
        assert len(callee.got[1].headers["webhook-signature"].split(" ")) == 2
        day_us = 24 * 3600 * SECOND
        assert await opened.store.post.secrets(webhook.id, now_us=now_us + day_us) == (third,)


async def test_event_stays_below_twenty_kilobytes(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        await opened.endpoint(callee.url)

        await opened.over(await opened.end_a_job(metadata={f"name{n}": "ü" * 512 for n in range(16)}))
        await opened.over(
            await opened.end_a_job(metadata={f"name{n}": "ü" * 512 for n in range(16)} | {"a": "ü" * 4000})
        )

        assert [len(request.body) < 20_000 for request in callee.got] == [True, True]
        assert [request.json()["data"]["metadata"] is None for request in callee.got] == [False, True]


async def test_defect_of_ours_sends_nothing_and_does_not_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, met = [], asyncio.Event()

    def broken(self: Standard, job: Job, *, now_us: int) -> bytes:
        asked.append(job.id)
        met.set()
        raise RuntimeError("a defect")

    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        webhook, _ = await opened.endpoint(callee.url)
        monkeypatch.setattr(Standard, "body", broken)

        job = await opened.end_a_job()
        await opened.store.post.test(webhook, now_us=NOW_US)  # which no style has a part in
        await callee.wait(1)
        await asyncio.wait_for(met.wait(), 10)
        await asyncio.sleep(0.1)

        assert asked == [job.id]
        assert [request.json()["type"] for request in callee.got] == ["webhook.test"]


async def test_log_is_dropped_after_its_time(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        callee = await opened.callee()
        await opened.endpoint(callee.url)
        job = await opened.end_a_job()
        ((delivery, _),) = await opened.over(job)
        assert delivery.ended_us is not None

        assert await opened.store.post.forget(delivery.ended_us) == 0
        assert await opened.store.post.forget(delivery.ended_us + 1) == 1
        assert await opened.log_of(job) == []
