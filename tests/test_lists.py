"""`GET /v1/videos`: filters, their cursors, and that a page costs what it shows."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.store.statements import STATEMENTS
from providers.spec import Fault, Kind, Verdict, Video
from tests.api_house import START_US, House, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def listed(house: House, query: str) -> list[str]:
    answer = await house.client.get(f"/v1/videos?{query}")
    assert answer.status_code == 200, answer.text
    return [video["id"] for video in answer.json()["data"]]


async def stock(house: House) -> dict[str, str]:
    """One video of each kind, oldest first, by what became of it."""
    made: dict[str, str] = {}
    for name, fields in (
        ("done", {"metadata": {"shot": "1", "film": "a"}}),
        ("failed", {"metadata": {"shot": "2", "film": "a"}}),
        ("running", {"model": "kling-v3-standard", "metadata": {"film": "b"}}),
        ("queued", {"model": "sora-2", "seconds": None}),
    ):
        made[name] = (await house.create(**fields))["id"]
    await house.finish(made["done"], Video(url="https://files.example/a.mp4"))
    fault = Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.NEVER)
    await house.fail(made["failed"], fault, code="generation_failed")
    await house.start(made["running"])
    return made


FILTERS: list[tuple[str, list[str]]] = [
    ("status=completed", ["done"]),
    ("status=failed", ["failed"]),
    ("status=queued", ["queued"]),
    ("status=in_progress", ["running"]),
    ("status=queued,in_progress", ["queued", "running"]),
    ("status=queued&status=completed", ["queued", "done"]),
    ("model=sora-2", ["queued"]),
    ("model=kling-v3-pro", ["failed", "done"]),
    ("model=kling-v3-pro&status=completed", ["done"]),
    ("model=kling-v3-standard&status=in_progress", ["running"]),
    ("model=kling-v3-pro&status=in_progress", []),
    ("metadata[film]=a", ["failed", "done"]),
    ("metadata[film]=a&metadata[shot]=2", ["failed"]),
    ("metadata%5Bfilm%5D=a&status=completed", ["done"]),
    ("metadata[film]=a&model=sora-2", []),
    ("metadata[film]=c", []),
    ("order=asc&metadata[film]=a", ["done", "failed"]),
    ("order=asc&status=completed,failed", ["done", "failed"]),
    ("order=asc&status=queued,in_progress", ["running", "queued"]),
    ("order=asc&model=kling-v3-pro", ["done", "failed"]),
]


async def test_a_list_shows_what_it_is_filtered_by(house: House) -> None:
    made = await stock(house)
    named = {id: name for name, id in made.items()}

    found = {query: [named[id] for id in await listed(house, query)] for query, _ in FILTERS}

    assert found == dict(FILTERS)


async def test_times_are_bounds_the_first_included_and_the_second_not(house: House) -> None:
    videos = [await house.create() for _ in range(5)]
    at = [video["created_at"] for video in videos]
    ids = [video["id"] for video in videos]

    assert await listed(house, f"created_after={at[3]}") == [ids[4], ids[3]]
    assert await listed(house, f"created_before={at[2]}") == [ids[1], ids[0]]
    assert await listed(house, f"order=asc&created_after={at[1]}&created_before={at[4]}") == ids[1:4]
    assert await listed(house, f"created_after={at[4]}.5") == []


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "query", ["status=queued", "model=kling-v3-pro", "metadata[a]=b", f"created_after={START_US // 10**6}"]
)
async def test_a_cursor_goes_on_within_its_filter(house: House, query: str, order: str) -> None:
    ids = [(await house.create(metadata={"a": "b"}))["id"] for _ in range(5)]
    seen: list[str] = []
    after = ""
    for _ in range(3):
        answer = (await house.client.get(f"/v1/videos?{query}&limit=2&order={order}{after}")).json()
        seen += [video["id"] for video in answer["data"]]
        assert (answer["first_id"], answer["last_id"]) == (answer["data"][0]["id"], answer["data"][-1]["id"])
        assert answer["has_more"] == (len(seen) < 5)
        after = f"&after={answer['last_id']}"

    assert seen == (ids if order == "asc" else ids[::-1])


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("status=done", "invalid_value", "status"),
        ("stauts=failed", "unknown_parameter", "stauts"),
        ("created_after=yesterday", "invalid_value", "created_after"),
        ("created_before=-1", "invalid_value", "created_before"),
        ("metadata=12", "unknown_parameter", "metadata"),
        ("metadata[a]=1&metadata[b]=1&metadata[c]=1&metadata[d]=1&metadata[e]=1", "too_long", "metadata"),
    ],
)
async def test_what_is_not_understood_is_refused(house: House, query: str, code: str, param: str) -> None:
    answer = await house.client.get(f"/v1/videos?{query}")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, code, param)


async def test_erased_words_are_found_by_no_longer(house: House) -> None:
    made = await stock(house)
    await house.store.files.erase(made["done"], START_US, clip=False)

    assert await listed(house, "metadata[shot]=1") == []
    assert made["done"] in await listed(house, "status=completed")


async def test_every_list_is_read_by_an_index(house: House) -> None:
    db = sqlite3.connect(f"file:{house.folder}/filmgate.db?mode=ro", uri=True)
    values: dict[str, Any] = dict.fromkeys(
        (
            "caller",
            "low",
            "high",
            "model",
            *(f"{word}_{n}" for word in ("state", "name", "value") for n in range(1, 7)),
        ),
        "x",
    )
    plans = {
        name: " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", {**values, "limit": 9}))
        for name, text in STATEMENTS.items()
        if name.startswith("jobs_") and name.endswith("_first") and ":low" in text
    }
    db.close()

    assert len(plans) == 10
    for name, plan in plans.items():
        assert "SCAN" not in plan, name
        assert ("TEMP B-TREE" in plan) == ("unfinished" in name), (name, plan)  # few rows, which are sorted
        index = {
            "in_state": "jobs_of_caller",
            "of_model": "jobs_of_model",
            "unfinished": "jobs_unfinished_of_caller",
            "failed": "jobs_failed_of_caller",
        }
        wanted = next((found for word, found in index.items() if word in name), "PRIMARY KEY")
        assert wanted in plan, (name, plan)
