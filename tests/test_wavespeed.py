"""WaveSpeed's peculiarities: its ends, and what a look-up may say of a lost submission."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from providers import wavespeed
from providers.guard import Guard
from providers.spec import (
    Failed,
    Kind,
    Media,
    Operation,
    Outcome,
    ProviderError,
    Queued,
    Secret,
    Shot,
    Succeeded,
    Verdict,
    VideoRequest,
)
from providers.transport import Transport
from tests.vendors.fal_caller import picture
from tests.vendors.kit import Pace
from tests.vendors.script import act
from tests.vendors.server import Options
from tests.vendors.wavespeed import WaveSpeedServer

pytestmark = pytest.mark.anyio

KEY = Secret("planted0123456789")
TEXT = "kwaivgi/kling-v3.0-pro/text-to-video"
PICTURE = "kwaivgi/kling-v3.0-pro/image-to-video"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="1080p", aspect_ratio="16:9")
INPUT = {"prompt": "a boat", "duration": 5, "sound": False, "aspect_ratio": "16:9"}
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def adapter(url: str, vendor: Any = None) -> wavespeed.Adapter:
    client = httpx.MockTransport(vendor) if vendor else httpx.AsyncHTTPTransport()
    settings = wavespeed.Settings(api_key=KEY, base_url=url)
    return wavespeed.Adapter(settings, Transport(guard=Guard(), client=client))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WaveSpeedServer]:
    with WaveSpeedServer(tmp_path, Options(pace=Pace(steps=0))) as server:
        yield server


async def submitted(at: wavespeed.Adapter, request: VideoRequest = SMALL, model_id: str = TEXT) -> Operation:
    return await at.submit(request, model_id=model_id, callback_url=None, client_id="attempt_1")


async def found(
    at: wavespeed.Adapter, request: VideoRequest = SMALL, model_id: str = TEXT, sent_at: datetime | None = None
) -> Operation | None:
    sent_at = sent_at or datetime.now(UTC)
    return await at.find(request, model_id=model_id, client_id="attempt_1", callback_url=None, sent_at=sent_at)


def frame(name: str, *, is_public: bool) -> Media:
    data = picture(640, 360) + name.encode()
    return Media(
        sha256=hashlib.sha256(data).hexdigest(),
        content_type="image/png",
        width=640,
        height=360,
        size_bytes=len(data),
        source_url=f"https://pictures.example/{name}.png" if is_public else None,
        data=data,
    )


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "kind", "verdict"),
    [
        ("timeout", Kind.TIMEOUT, Verdict.ELSEWHERE),
        ("cancelled", Kind.CANCELLED, Verdict.NEVER),
        ("deleted", Kind.OPERATION_LOST, Verdict.ELSEWHERE),
    ],
)
async def test_timeout_and_its_like_are_ends(server: WaveSpeedServer, word: str, kind: Kind, verdict: Verdict) -> None:
    server.say(act("fail_render", word=word))
    at = adapter(server.url)
    operation = await submitted(at)

    status, later = await at.poll(operation), await at.poll(operation)

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict, status.fault.code) == (kind, verdict, word)
    assert later == status


async def test_key_in_a_predictions_own_error_is_not_shown(server: WaveSpeedServer) -> None:
    server.say(act("fail_render", message=f"bad key {KEY.reveal()}"))
    at = adapter(server.url)

    status = await at.poll(await submitted(at))

    assert isinstance(status, Failed)
    assert "bad key •••" in status.fault.message


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": (Shot(prompt="a", seconds=5),)}, "prompt beside shots"),
        ({"prompt": "", "shots": (Shot(prompt="a", seconds=4),)}, "shots that do not fill the clip"),
        ({"prompt": "", "shots": (Shot(prompt="a", seconds=5),), "last_frame": True}, "last_frame beside shots"),
        ({"first_frame": None, "last_frame": True}, "last_frame without first_frame"),
    ],
)
def test_what_wavespeed_does_not_take_together_is_refused_here(changes: dict[str, Any], said: str) -> None:
    pictures = {"first_frame": frame("first", is_public=True), "last_frame": frame("last", is_public=True)}
    changes = {"first_frame": pictures["first_frame"], **changes}
    if changes.get("last_frame"):
        changes["last_frame"] = pictures["last_frame"]
    request = msgspec.structs.replace(SMALL, aspect_ratio=None, **changes)

    with pytest.raises(ProviderError) as caught:
        wavespeed.to_body(request, PICTURE)

    assert said in caught.value.fault.message
    assert caught.value.outcome is Outcome.NOT_SENT


def test_unknown_model_and_picture_that_was_not_handed_over_are_refused() -> None:
    pictured = msgspec.structs.replace(SMALL, aspect_ratio=None, first_frame=frame("first", is_public=True))

    for request, model_id, said in ((SMALL, "kwaivgi/kling-v9/text-to-video", "model_id"), (pictured, PICTURE, "hand")):
        with pytest.raises(ProviderError, match=said):
            wavespeed.to_body(request, model_id)


# --- the look-up ------------------------------------------------------------------------------------------------------


async def test_lost_submission_is_found_and_nothing_is_bought_again(server: WaveSpeedServer) -> None:
    server.say(act("accept_then_cut"))
    at = adapter(server.url)
    with pytest.raises(ProviderError) as caught:
        await submitted(at)

    operation = await found(at)

    assert caught.value.outcome is Outcome.UNKNOWN
    assert operation is not None
    assert [row.id for row in server.ledger()] == [operation.id]
    assert isinstance(await at.poll(operation), Succeeded)


async def test_submission_that_never_arrived_is_told_from_others_of_its_time(server: WaveSpeedServer) -> None:
    at = adapter(server.url)
    await submitted(at, msgspec.structs.replace(SMALL, prompt="another boat"))
    await submitted(at, msgspec.structs.replace(SMALL, seconds=6))
    await submitted(at, msgspec.structs.replace(SMALL, audio=True))
    await submitted(at, SMALL, TEXT.replace("pro", "std"))

    assert await found(at) is None


async def test_old_twin_is_not_taken_for_it(server: WaveSpeedServer) -> None:
    at = adapter(server.url)
    await submitted(at)

    assert await found(at, sent_at=datetime.now(UTC) + timedelta(minutes=2)) is None
    assert await found(at, sent_at=datetime.now(UTC) - timedelta(minutes=20)) is None


async def test_of_twins_nobody_can_tell_which(server: WaveSpeedServer) -> None:
    at = adapter(server.url)
    await submitted(at)
    await submitted(at)

    with pytest.raises(ProviderError) as caught:
        await found(at)

    assert (caught.value.fault.kind, caught.value.fault.verdict) == (Kind.UNKNOWN, Verdict.UNSURE)


@pytest.mark.parametrize("is_public", [True, False])
async def test_picture_is_known_by_its_address_or_by_the_name_of_our_upload(
    server: WaveSpeedServer, is_public: bool
) -> None:
    at = adapter(server.url)
    ours, other = frame("ours", is_public=is_public), frame("other", is_public=is_public)
    asked = msgspec.structs.replace(SMALL, aspect_ratio=None)
    operations = []
    for media in (ours, other):
        address = media.source_url or await at.upload(media)
        handed = msgspec.structs.replace(media, handed=address, data=None)
        request = msgspec.structs.replace(asked, first_frame=handed)
        operations.append(await submitted(at, request, PICTURE))

    operation = await found(at, msgspec.structs.replace(asked, first_frame=ours), PICTURE)

    assert operation is not None
    assert operation.id == operations[0].id


class History:
    """A vendor whose list shows these items, and whose results are like them."""

    def __init__(self, *items: dict[str, Any], results: dict[str, dict[str, Any]] | None = None) -> None:
        self._items = [{"model": TEXT, "status": "processing", **item} for item in items]
        self._results = results or {}
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            id = request.url.path.split("/")[-2]
            return _said({"id": id, "status": "processing", **self._results.get(id, {})})
        asked = msgspec.json.decode(request.content, type=dict[str, Any])
        self.asked.append(asked)
        start = (asked["page"] - 1) * asked["page_size"]
        return _said({"page": asked["page"], "items": self._items[start : start + asked["page_size"]]})


def _said(data: Any) -> httpx.Response:
    body = msgspec.json.encode({"code": 200, "message": "success", "data": data})
    return httpx.Response(200, stream=httpx.ByteStream(body))


async def test_input_is_read_from_the_list_where_it_stands_there(server: WaveSpeedServer) -> None:
    history = History({"id": "other", "input": INPUT | {"prompt": "x"}}, {"id": "ours", "input": INPUT})

    operation = await found(adapter(server.url, history), sent_at=NOW)

    assert operation == Operation(provider="wavespeed", id="ours")
    (asked,) = history.asked
    assert (asked["created_after"], asked["created_before"]) == ("2026-11-23T11:59:00Z", "2026-11-23T12:15:00Z")


async def test_prediction_that_shows_no_input_may_be_ours_and_is_neither_taken_nor_passed_over(
    server: WaveSpeedServer,
) -> None:
    with pytest.raises(ProviderError) as caught:
        await found(adapter(server.url, History({"id": "somebody's"})))

    assert caught.value.fault.verdict is Verdict.UNSURE


async def test_list_is_read_to_its_end(server: WaveSpeedServer) -> None:
    others = [{"id": f"other-{n}", "input": INPUT | {"prompt": str(n)}} for n in range(250)]
    history = History(*others, {"id": "ours", "input": INPUT})

    operation = await found(adapter(server.url, history))

    assert operation is not None
    assert operation.id == "ours"
    assert [asked["page"] for asked in history.asked] == [1, 2, 3]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, json={"code": 500}),
        httpx.Response(200, json={"code": 500, "message": "internal error", "data": None}),
        httpx.Response(200, json={"code": 200, "data": {"page": 1}}),
        httpx.Response(200, json={}),
    ],
    ids=["500", "hidden 500", "no items", "nothing"],
)
async def test_list_that_was_not_read_proves_nothing(server: WaveSpeedServer, answer: httpx.Response) -> None:
    def vendor(request: httpx.Request) -> httpx.Response:
        return httpx.Response(answer.status_code, stream=httpx.ByteStream(answer.content))

    with pytest.raises(ProviderError):
        await found(adapter(server.url, vendor))


@pytest.mark.parametrize(
    ("changes", "is_ours"),
    [
        ({}, True),
        ({"cfg_scale": 0.5, "negative_prompt": "", "shot_type": "intelligent", "element_list": []}, True),
        ({"prompt": " a  boat"}, True),
        ({"duration": "5"}, True),
        ({"enable_sync_mode": False, "image": None}, True),
        ({"prompt": "a ship"}, False),
        ({"duration": 6}, False),
        ({"sound": True}, False),
        ({"aspect_ratio": "9:16"}, False),
        ({"negative_prompt": "rain"}, None),
        ({"cfg_scale": 0.9}, None),
        ({"image": "https://pictures.example/a.png"}, None),
        ({"prompt": None}, None),
    ],
)
def test_input_is_ours_is_not_or_may_be(changes: dict[str, Any], is_ours: bool | None) -> None:
    assert wavespeed.is_ours(INPUT, INPUT | changes) is is_ours


def test_shots_written_otherwise_and_pictures_at_other_addresses_prove_nothing() -> None:
    cuts = {"multi_prompt": [{"prompt": "a", "duration": 5}], "image": "https://pictures.example/a.png"}

    assert wavespeed.is_ours(cuts, cuts) is True
    assert wavespeed.is_ours(cuts, cuts | {"multi_prompt": [{"prompt": "a", "duration": "5"}]}) is None
    assert wavespeed.is_ours(cuts, cuts | {"image": "https://cdn.example/1.png"}) is None
    assert wavespeed.is_ours({"images": ["1", "2"]}, {"images": ["1"]}) is None


async def test_jobs_are_listed_for_the_auditor(server: WaveSpeedServer) -> None:
    at = adapter(server.url)
    begun = datetime.now(UTC) - timedelta(seconds=5)
    done, waiting = await submitted(at), None
    await at.poll(done)
    server.say(act("stuck"))
    waiting = await submitted(at)

    jobs = await at.list_jobs(since=begun)

    assert [job.id for job in jobs] == [waiting.id, done.id]
    assert [type(job.status) for job in jobs] == [Queued, Succeeded]
    assert all(begun <= job.created_at <= datetime.now(UTC) for job in jobs)


# --- uploads ----------------------------------------------------------------------------------------------------------


async def test_upload_by_another_method_than_put_is_not_made(server: WaveSpeedServer) -> None:
    def vendor(request: httpx.Request) -> httpx.Response:
        return _said(
            {"upload": {"method": "POST", "url": "https://cdn.example/x"}, "download_url": "https://cdn.example/x"}
        )

    with pytest.raises(ProviderError):
        await adapter(server.url, vendor).upload(frame("first", is_public=False))
