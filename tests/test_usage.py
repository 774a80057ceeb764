"""Usage: what a key has used, and nobody else's; the same sums in JSON, CSV and the operator's table."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import keys, usage
from gateway.keys import NewKey, Terms
from gateway.store.money import Used, days_since_1970
from gateway.usage import BadRange
from providers.spec import Fault, Kind, Verdict, Video
from tests.api_house import START_US, House, opened

pytestmark = pytest.mark.anyio

TODAY = datetime.fromtimestamp(START_US / 1e6, UTC).date()
DAY = TODAY.isoformat()
FAULT = Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE, message="no")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def new_key(house: House, name: str, **terms: Any) -> NewKey:
    made = keys.make(name, now_us=0, random=secrets.token_bytes(keys.RANDOM_BYTES), terms=Terms(**terms))
    await house.store.create_key(made.key)
    return made


def bearer(key: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text.reveal()}"}


async def used(house: House, query: str = "", **headers: str) -> httpx.Response:
    return await house.client.get(f"/v1/usage{query}", headers=headers)


async def some_jobs(house: House) -> None:
    """One completed for $0.56, one failed, one open for $0.56, and one that another key made."""
    await house.finish((await house.create())["id"], Video(path=__file__))
    await house.fail((await house.create())["id"], FAULT, code="generation_failed")
    await house.create(model="fal/kling-v3-pro")
    other = await new_key(house, "other")
    form = {"model": "kling-v3-pro", "prompt": "canary"}
    assert (await house.client.post("/v1/videos", json=form, headers=bearer(other))).status_code == 200


async def test_a_keys_own_use_is_summed_by_day(house: House) -> None:
    await some_jobs(house)

    answer = await used(house)

    figures = {"jobs": 3, "completed": 1, "failed": 1, "seconds": 5, "cost_usd": 0.56, "reserved_usd": 0.56}
    body = answer.json()
    assert (body["object"], body["to"], body["group_by"]) == ("usage", DAY, "day")
    assert body["data"] == [{"day": DAY, **figures}]
    assert body["total"] == figures
    assert body["budgets"]["day"]["limit_usd"] is None
    assert body["budgets"]["day"]["used_usd"] == body["budgets"]["month"]["used_usd"] == 1.12


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", ["kling-v3-pro", "fal/kling-v3-pro"]),
        ("backend", ["fal/kling-v3-pro"]),
        ("key", ["local"]),
        ("day", [DAY]),
    ],
)
async def test_groups_add_up_to_the_same_total(house: House, by: str, names: list[str]) -> None:
    await some_jobs(house)

    body = (await used(house, f"?group_by={by}")).json()

    assert [line[by] for line in body["data"]] == names
    for name, total in body["total"].items():
        assert sum(line[name] for line in body["data"]) == pytest.approx(total), name


async def test_csv_says_the_same(house: House) -> None:
    await some_jobs(house)

    answer = await used(house, "?format=csv&group_by=model")

    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith('attachment; filename="usage-')
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["model", "jobs", "completed", "failed", "seconds", "cost_usd", "reserved_usd"],
        ["kling-v3-pro", "2", "1", "1", "5", "0.56", "0"],
        ["fal/kling-v3-pro", "1", "0", "0", "0", "0", "0.56"],
    ]


async def test_budgets_show_what_is_left_and_when_they_start_anew(house: House) -> None:
    key = await new_key(house, "app", budget_day_usd_micros=1_000_000)
    form = {"model": "kling-v3-pro", "prompt": "x", "seconds": 5}
    await house.client.post("/v1/videos", json=form, headers=bearer(key))

    day = (await used(house, **bearer(key))).json()["budgets"]["day"]

    assert (day["limit_usd"], day["used_usd"], day["left_usd"]) == (1.0, 0.56, 0.44)
    assert day["resets_at"] % 86_400 == 0
    assert 0 < day["resets_at"] - START_US // 1_000_000 <= 86_400


async def test_days_outside_the_range_are_left_out(house: House) -> None:
    await some_jobs(house)

    before = (await used(house, "?from=2026-01-01&to=2026-01-31")).json()

    assert before["data"] == []
    assert before["total"]["jobs"] == 0
    assert (await used(house, f"?from={DAY}&to={DAY}")).json()["total"]["jobs"] == 3


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?from=yesterday", "from"),
        ("?to=2026-02-30", "to"),
        ("?from=20260101", "from"),
        ("?from=2026-W01-1", "from"),
        ("?from=2026-03-01&to=2026-02-01", "from"),
        ("?from=1999-01-01", "from"),
        ("?group_by=caller", "group_by"),
        ("?format=xml", "format"),
        ("?since=1", "since"),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name(house: House, query: str, param: str) -> None:
    answer = await used(house, query)

    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


@pytest.mark.parametrize(("day", "is_one"), [("0001-01-01", True), ("9999-12-31", True), ("0000-00-00", False)])
async def test_the_edges_of_the_calendar_are_days(house: House, day: str, is_one: bool) -> None:
    assert (await used(house, f"?from={day}&to={day}")).status_code == (200 if is_one else 422)


def a_row(**changes: Any) -> Used:
    row = Used("k", 20_000, "m", "p/b", 1, 1, 0, 5, 560_000, 0)
    return row._replace(**changes)


def test_a_name_that_a_spreadsheet_would_compute_is_text() -> None:
    found = usage.lines([a_row(model="=1+1"), a_row(model='say "hi", you')], "model")

    rows = list(csv.reader(io.StringIO(usage.as_csv(found, "model"))))

    assert {row[0] for row in rows[1:]} == {"'=1+1", 'say "hi", you'}


def test_a_range_without_a_beginning_is_thirty_days() -> None:
    assert usage.days(None, "2026-11-30", today=0) == (days_since_1970(datetime(2026, 11, 1).date()), 20_787)
    with pytest.raises(BadRange, match="at most"):
        usage.days("2020-01-01", "2026-01-01", today=0)
