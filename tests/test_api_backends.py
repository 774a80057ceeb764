"""`GET /v1/backends` and `?include=routing.decision`: every number that a decision rests on, shown to whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.api.backends import AcceptanceView, BackendsView, BackendView, PriceView, RateView, RenderView
from gateway.health import SECOND_US
from gateway.router import Decision
from providers.spec import Fault, Kind, Verdict
from tests.api_house import START_US, House, opened

pytestmark = pytest.mark.anyio
PRO = "fal/kling-v3-pro"
LONG = START_US + 100_000 * SECOND_US


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def listed(house: House, **query: str) -> dict[str, dict[str, Any]]:
    answer = await house.client.get("/v1/backends", params=query)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["object"] == "list"
    msgspec.json.decode(answer.content, type=BackendsView)  # the published shape
    return {one["id"]: one for one in page["data"]}


def render(house: House, seconds: float | None, fault: Fault | None = None, *, bucket: str = "≤5s/silent") -> None:
    house.rooms.health.observe(backend=PRO, bucket=bucket, at_us=START_US, render_seconds=seconds, fault=fault)


# --- what stands in it ------------------------------------------------------------------------------------------------


async def test_before_anything_was_seen_it_shows_the_catalogues_word_and_says_so(house: House) -> None:
    one = (await listed(house))[PRO]

    row = house.rooms.catalogue.backend(PRO)
    assert row is not None
    assert one["renders"] == [
        {
            "bucket": "≤5s/silent",
            "p50_seconds": row.typical_seconds.p50,
            "p95_seconds": row.typical_seconds.p95,
            "samples": 0,
            "newest_seconds_ago": None,
        }
    ]
    assert (one["model"], one["provider"], one["object"]) == ("kling-v3-pro", "fal", "backend")
    assert (one["success"], one["faults"], one["in_flight"], one["slots"]) == (0.9, {}, 0, row.max_in_flight)
    assert one["acceptance"] == {"rate": 0.25, "tries": 4.0, "accepted": 0, "rejected": 0}
    assert (one["credential"], one["available"], one["why"]) == (True, True, None)


async def test_every_backend_of_the_catalogue_is_there_once(house: House) -> None:
    found = await listed(house)

    assert list(found) == [row.id for row in house.rooms.catalogue.backends]
    assert {one["pretend"] for one in (row["price"] for row in found.values() if row["provider"] == "sandbox")} == {
        True
    }


async def test_what_was_seen_is_shown_for_each_kind_of_clip_with_what_it_rests_on(house: House) -> None:
    for _ in range(30):
        render(house, 12.0)
    render(house, 24.0, bucket="≤10s/audio")
    render(house, None, Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE))
    house.rooms.health.started(PRO)
    house.rooms.acceptance.observe(PRO, True)
    house.rooms.acceptance.observe(PRO, False)

    one = (await listed(house))[PRO]

    seen = {entry["bucket"]: entry for entry in one["renders"]}
    assert {name: entry["samples"] > 1 for name, entry in seen.items()} == {"≤5s/silent": True, "≤10s/audio": False}
    assert seen["≤5s/silent"]["p50_seconds"] < 20
    assert 0 <= seen["≤10s/audio"]["newest_seconds_ago"] < 3600
    assert seen["≤5s/silent"]["p50_seconds"] < seen["≤5s/silent"]["p95_seconds"]
    assert (one["in_flight"], one["waiting"], one["overdue"]) == (1, 0, 0)
    assert 0.9 < one["success"] < 1
    assert one["faults"] == {"generation_failed": 1.0}
    assert one["acceptance"] == {"rate": 0.3333, "tries": 3.0, "accepted": 1, "rejected": 1}


async def test_the_figures_are_those_that_the_ranking_uses(house: House) -> None:
    for seconds in (12.0, 14.0, 90.0):
        render(house, seconds)
    body = {"model": "kling-v3-pro", "prompt": "x", "seconds": 5}

    (ranked,) = (await house.client.post("/v1/videos/route", json=body)).json()["ranked"]
    one = (await listed(house))[PRO]

    (entry,) = one["renders"]
    assert entry["p50_seconds"] == pytest.approx(ranked["p50_seconds"], abs=0.06)
    assert entry["p95_seconds"] == pytest.approx(ranked["p95_seconds"], abs=0.06)
    assert entry["samples"] == ranked["samples"] == 3
    assert one["success"] == pytest.approx(ranked["success"], abs=0.001)
    assert one["slots"] == ranked["slots"]


async def test_a_price_is_shown_by_what_it_depends_on(house: House) -> None:
    one = (await listed(house))[PRO]

    assert one["price"] == {
        "per": "second",
        "rates": [
            {"resolution": "1080p", "audio": False, "seconds": None, "usd": 0.112},
            {"resolution": "1080p", "audio": True, "seconds": None, "usd": 0.168},
        ],
        "pretend": False,
        "failed_jobs_are_billed": False,
    }
    today = datetime.fromtimestamp(START_US / SECOND_US, UTC).date()
    assert one["checked_days"] == (today - date.fromisoformat(one["checked"])).days


def test_readme_explains_every_field() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    shapes = (BackendView, RenderView, PriceView, RateView, AcceptanceView)

    named = {field.name for shape in shapes for field in msgspec.structs.fields(shape)} - {"object"}

    section = readme.partition("## Which backend, and why")[2].partition("### Refusals")[0]
    assert {name for name in named if f"`{name}`" not in section} == set()


# --- who is out, and why ----------------------------------------------------------------------------------------------


async def test_a_backend_that_would_not_be_bought_from_says_why(house: House) -> None:
    before = (await listed(house))[PRO]
    for _ in range(20):
        house.rooms.health.observe(
            backend=PRO,
            bucket="≤5s/silent",
            at_us=LONG,
            render_seconds=None,
            fault=Fault(kind=Kind.UNAVAILABLE, verdict=Verdict.ELSEWHERE),
        )
    rests = (await listed(house))[PRO]
    house.rooms.health.block("fal", "main", LONG)
    out = (await listed(house))[PRO]

    assert before["available"]
    assert (rests["available"], out["available"]) == (False, False)
    assert "failures in a row" in rests["why"]
    assert "refused the credential or the balance" in out["why"]


async def test_without_a_credential_it_is_shown_and_marked_so(tmp_path: Path) -> None:
    async with opened(tmp_path, configured=()) as house:
        one = (await listed(house))[PRO]

    assert (one["credential"], one["available"]) == (False, False)
    assert one["why"] == "no credential for fal is set here"


# --- filters ----------------------------------------------------------------------------------------------------------


async def test_filters_by_model_alias_pin_and_provider(house: House) -> None:
    assert set(await listed(house, model="kling-v3-pro")) == {PRO}
    assert set(await listed(house, model="sora-2")) == {PRO, "fal/kling-v3-standard"}
    assert set(await listed(house, model=PRO)) == {PRO}
    assert {one["provider"] for one in (await listed(house, provider="sandbox")).values()} == {"sandbox"}
    assert await listed(house, provider="sandbox", model="kling-v3-pro") == {}


@pytest.mark.parametrize(
    ("query", "code", "nearest"),
    [("model=kling-v3-por", "model_not_found", "kling-v3-pro"), ("provider=sandbx", "provider_not_found", "sandbox")],
)
async def test_a_filter_that_names_nothing_is_a_404_with_the_nearest(
    house: House, query: str, code: str, nearest: str
) -> None:
    answer = await house.client.get(f"/v1/backends?{query}")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["nearest"]) == (404, code, nearest)


# --- the decision on the job ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["include=routing.decision", "include[]=routing.decision", "include=,routing.decision,"]
)
async def test_a_video_shows_its_whole_decision_when_asked(house: House, query: str) -> None:
    video = await house.create()

    plain = (await house.client.get(f"/v1/videos/{video['id']}")).json()
    full = (await house.client.get(f"/v1/videos/{video['id']}?{query}")).json()

    shown = full["routing"].pop("decision")
    assert full == plain
    assert "decision" not in plain["routing"]
    decision = msgspec.convert(shown, Decision)
    assert decision == msgspec.json.decode(await house.store.decision(video["id"]) or b"", type=Decision)
    assert decision.ranked[0].backend == video["routing"]["backend"]
    assert decision.ranked[0].reason == video["routing"]["reason"]


@pytest.mark.parametrize("query", ["", "?x=1", "?include=", "?include[]="])
async def test_a_video_shows_no_decision_unasked(house: House, query: str) -> None:
    video = await house.create()

    shown = (await house.client.get(f"/v1/videos/{video['id']}{query}")).json()

    assert "decision" not in shown["routing"]


async def test_an_include_that_is_not_known_is_refused_with_the_one_that_is(house: House) -> None:
    video = await house.create()

    answer = await house.client.get(f"/v1/videos/{video['id']}?include=decision")

    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["nearest"]) == (422, "include", "routing.decision")
