"""A clip that is not what was bought: told, refused or made anew elsewhere, by the operator's word; paid for in each
case, and counted against its backend. A real gateway and a real vendor server, over sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import catalogue, settings
from gateway.health import Health
from tests.house import house, records
from tests.test_money import CHEAP, MAIN, SPARE
from tests.vendors import film
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options

SMALL = "the clip is 320x180; about 1920x1080 was asked for"
NO_VIDEO = "the file is no MP4 or QuickTime video, or is cut off"
SECONDS = 3
CHEAP_3, SPARE_3 = CHEAP * 3 // 5, SPARE * 3 // 5

pytestmark = pytest.mark.anyio


@pytest.fixture
def small(tmp_path: Path) -> Iterator[FalServer]:
    """A vendor whose clips are a sixth as large as those that are bought."""
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.05))) as server:
        yield server


@pytest.fixture
def true(tmp_path: Path) -> Iterator[FalServer]:
    """A vendor that keeps its word."""
    film.clip(SECONDS, 1920, 1080, audio=False)  # drawn once for all tests, and not while a reply is waited for
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.05), true_size=True)) as server:
        yield server


async def test_a_clip_as_it_was_bought_completes_without_a_word(true: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", true.url, check_clips=True) as gateway:
        video = await gateway.ended((await gateway.create(seconds=SECONDS, generate_audio=False))["id"])

    assert (video["status"], video["warnings"]) == ("completed", [])
    assert any(seen.path.startswith("/files/") for seen in true.requests())
    (record,) = await records(tmp_path / "house")
    assert record.attempts[0].fault is None
    assert all("not_checked" not in event.data for event in record.events)


async def test_warn_completes_and_says_what_differs(small: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", small.url, check_clips=True) as gateway:
        video = await gateway.ended((await gateway.create(seconds=SECONDS, generate_audio=False))["id"])
        content = await gateway.http.get(f"/v1/videos/{video['id']}/content")

    assert (video["status"], video["error"]) == ("completed", None)
    assert video["warnings"] == [SMALL]
    assert video["usage"]["cost_usd"] == CHEAP_3 / 1e6
    assert content.content[4:8] == b"ftyp"
    assert len(small.ledger()) == 1


async def test_fail_ends_the_job_and_its_cost_counts(small: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", small.url, check_clips=True, on_mismatch="fail") as gateway:
        video = await gateway.ended((await gateway.create(seconds=SECONDS, generate_audio=False))["id"])

    assert (video["status"], video["error"]["code"]) == ("failed", "wrong_output")
    assert "warnings" in video["error"]["message"]
    assert video["warnings"] == [SMALL]
    assert video["usage"]["cost_usd"] == CHEAP_3 / 1e6
    assert len(small.ledger()) == 1
    (record,) = await records(tmp_path / "house")
    assert [event.type for event in record.events][-2:] == ["attempt.failed", "job.failed"]


async def test_failover_has_the_clip_made_elsewhere_under_the_same_id(true: FalServer, tmp_path: Path) -> None:
    true.say(act("html", on="file"))

    async with house(
        tmp_path / "house", true.url, check_clips=True, on_mismatch="failover", purse_factor=3.0
    ) as gateway:
        first = await gateway.create(seconds=SECONDS, generate_audio=False)
        video = await gateway.ended(first["id"])

    assert (video["id"], video["status"]) == (first["id"], "completed")
    assert video["routing"]["backend"] == "fal/spare"
    assert video["warnings"] == []  # the clip that is there is as it should be
    assert video["usage"]["cost_usd"] == pytest.approx((CHEAP_3 + SPARE_3) / 1e6)
    (record,) = await records(tmp_path / "house")
    wrong, right = record.attempts
    assert (wrong.state, wrong.cost_usd_micros) == ("failed", CHEAP_3)
    assert wrong.fault is not None
    assert (wrong.fault.kind, wrong.fault.code, wrong.fault.message) == ("generation_failed", "wrong_output", NO_VIDEO)
    assert (right.state, right.cost_usd_micros) == ("succeeded", SPARE_3)


async def test_failover_stops_at_the_purse(small: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", small.url, check_clips=True, on_mismatch="failover") as gateway:
        form = {"seconds": SECONDS, "generate_audio": False, "provider": {"max_price": {"request": 0.4}}}
        video = await gateway.ended((await gateway.create(**form))["id"])

    assert (video["status"], video["error"]["code"]) == ("failed", "wrong_output")
    assert video["warnings"] == [SMALL]
    assert video["usage"]["cost_usd"] == CHEAP_3 / 1e6
    assert [row.endpoint.split("kling-video/")[1].rpartition("/")[0] for row in small.ledger()] == [MAIN]


async def test_a_caller_without_fallbacks_is_not_taken_elsewhere(small: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", small.url, check_clips=True, on_mismatch="failover") as gateway:
        form = {"seconds": SECONDS, "generate_audio": False, "provider": {"allow_fallbacks": False}}
        video = await gateway.ended((await gateway.create(**form))["id"])

    assert (video["status"], video["error"]["code"]) == ("failed", "wrong_output")
    assert len(small.ledger()) == 1


@pytest.mark.parametrize("mode", ["warn", "fail", "failover"])
async def test_a_clip_that_cannot_be_fetched_now_completes_and_the_event_says_so(
    mode: str, true: FalServer, tmp_path: Path
) -> None:
    true.say(act("status", on="file", status=503))

    async with house(tmp_path / "house", true.url, check_clips=True, on_mismatch=mode) as gateway:
        video = await gateway.ended((await gateway.create(seconds=SECONDS, generate_audio=False))["id"])

    assert (video["status"], video["warnings"]) == ("completed", [])
    (record,) = await records(tmp_path / "house")
    (done,) = [event for event in record.events if event.type == "attempt.succeeded"]
    assert done.data["not_checked"] == "its address answered 503"
    assert record.attempts[0].fault is None


async def test_a_backend_that_goes_on_delivering_wrong_clips_rests(small: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", small.url, check_clips=True) as gateway:
        made: list[str] = []
        while len(made) < 12 and "fal/spare" not in made:
            video = await gateway.ended((await gateway.create(seconds=SECONDS, generate_audio=False))["id"])
            assert video["status"] == "completed"
            made.append(video["routing"]["backend"])

    assert made[:2] == ["fal/kling-v3-pro"] * 2  # the cheaper one, and one wrong clip is no reason to leave it
    assert made[-1] == "fal/spare"
    found = [attempt for record in await records(tmp_path / "house") for attempt in record.attempts]
    again = Health()  # as after a restart
    again.rebuild(found)
    last = max(attempt.ended_us or 0 for attempt in found)
    row = catalogue.load([settings.shipped() / "catalogue" / "fal.toml"]).backend("fal/kling-v3-pro")
    assert row is not None
    figures = again.figures(row, found[0].bucket, now_us=last)
    assert not figures.available
    assert figures.samples == 0  # the time that a wrong clip took says nothing


async def test_with_the_check_switched_off_nothing_is_fetched(small: FalServer, tmp_path: Path) -> None:
    async with house(tmp_path / "house", small.url, check_clips=False, on_mismatch="fail") as gateway:
        video = await gateway.ended((await gateway.create(seconds=SECONDS, generate_audio=False))["id"])

    assert (video["status"], video["warnings"]) == ("completed", [])
    assert not any(seen.path.startswith("/files/") for seen in small.requests())
