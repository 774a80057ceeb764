"""One intent is one job: what is sent again, by key or by an SDK's own count, and what is sent twice in earnest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.api import once
from gateway.media import Pictures
from providers.spec import Media
from tests.api_house import House, opened, picture

pytestmark = pytest.mark.anyio
BODY = {"model": "kling-v3-pro", "prompt": "a kite", "seconds": 5}


class Gate:
    """Pictures are taken once it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.reached = asyncio.Event()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, take = Gate(), Pictures.take_bytes

    async def waited(self: Pictures, data: bytes) -> Media:
        gate.reached.set()
        await gate.open.wait()
        return await take(self, data)

    monkeypatch.setattr(Pictures, "take_bytes", waited)
    return gate


async def send(house: House, count: int, prompt: str = "a kite") -> httpx.Response:
    headers = {"x-stainless-retry-count": str(count)}
    answer = await house.client.post("/v1/videos", json={**BODY, "prompt": prompt}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def with_picture(house: House, prompt: str = "x", **headers: str) -> httpx.Response:
    form = {"model": "kling-v3-pro", "prompt": prompt, "seconds": "5"}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.client.post("/v1/videos", data=form, files={"input_reference": picture()}, headers=sent)


async def jobs(house: House) -> int:
    return len((await house.store.list_jobs("local", after=None, limit=100))[0])


# --- by key -----------------------------------------------------------------------------------------------------------


async def test_while_the_first_is_accepted_its_key_is_a_409_and_another_body_a_422(house: House, gate: Gate) -> None:
    under_way = asyncio.create_task(with_picture(house, idempotency_key="k"))
    await gate.reached.wait()

    same = await with_picture(house, idempotency_key="k")
    other = await with_picture(house, "y", idempotency_key="k")
    gate.open.set()
    first = await under_way
    again = await with_picture(house, idempotency_key="k")

    assert (same.status_code, same.json()["error"]["code"]) == (409, "idempotency_in_progress")
    assert (same.headers["x-should-retry"], same.headers["retry-after"]) == ("true", "1")
    assert same.json()["error"]["retryable"] is True
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert other.headers["x-should-retry"] == "false"
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first.json()["id"], "true")
    assert await jobs(house) == 1


async def test_a_first_that_fails_leaves_its_key_free(house: House) -> None:
    headers = {"idempotency-key": "k"}

    refused = await house.client.post("/v1/videos", json={**BODY, "seconds": 99}, headers=headers)
    taken = await house.client.post("/v1/videos", json=BODY, headers=headers)

    assert (refused.status_code, taken.status_code) == (422, 200)


# --- by count ---------------------------------------------------------------------------------------------------------


async def test_what_an_sdk_sends_again_is_the_first_ones_job(house: House) -> None:
    first = await send(house, 0)

    answers = [await send(house, count) for count in (1, 2)]

    assert {answer.json()["id"] for answer in answers} == {first.json()["id"]}
    assert {answer.headers["idempotency-replayed"] for answer in answers} == {"true"}
    assert await jobs(house) == 1


async def test_two_equal_requests_in_earnest_are_two_jobs(house: House) -> None:
    ids = {(await send(house, 0)).json()["id"] for _ in range(2)}

    assert len(ids) == 2


async def test_a_second_sending_gets_the_newest_job_that_no_other_was_given(house: House) -> None:
    made = [(await send(house, 0)).json()["id"] for _ in range(3)]

    given = [(await send(house, 1)).json()["id"] for _ in range(3)]
    third_time = (await send(house, 2)).json()["id"]
    nothing_left = (await send(house, 1)).json()["id"]

    assert given == made[::-1]
    assert third_time == made[-1]
    assert nothing_left not in made


async def test_a_sending_whose_first_never_came_here_is_a_job_that_its_next_one_finds(house: House) -> None:
    second = await send(house, 1)
    third = await send(house, 2)

    assert second.json()["id"] == third.json()["id"]
    assert "idempotency-replayed" not in second.headers


async def test_another_body_another_key_or_a_later_time_is_another_job(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (await send(house, 0)).json()["id"]

    other_body = (await send(house, 1, prompt="rain")).json()["id"]
    unmarked = (await house.client.post("/v1/videos", json=BODY)).json()["id"]
    await send(house, 0)
    for _ in range(once.RETRY_SECONDS):
        house.rooms.now_us()  # a second passes with each look
    later = (await send(house, 1)).json()["id"]

    assert len({first, other_body, unmarked, later}) == 4


async def test_a_second_sending_waits_for_a_first_that_is_still_being_accepted(house: House, gate: Gate) -> None:
    first = asyncio.create_task(with_picture(house, x_stainless_retry_count="0"))
    await gate.reached.wait()
    second = asyncio.create_task(with_picture(house, x_stainless_retry_count="1"))
    await asyncio.sleep(0)

    gate.open.set()
    ids = {(await first).json()["id"], (await second).json()["id"]}

    assert len(ids) == 1
    assert await jobs(house) == 1


async def test_what_was_accepted_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        first = (await send(house, 0)).json()["id"]

    async with opened(tmp_path) as house:
        second = (await send(house, 1)).json()["id"]

    assert second == first


async def test_a_count_that_is_none_is_passed_over(house: House) -> None:
    answers = [
        await house.client.post("/v1/videos", json=BODY, headers={"x-stainless-retry-count": text})
        for text in ("", "-1", "9999999", "one", "1.0")
    ]

    assert len({answer.json()["id"] for answer in answers}) == 5
