"""Runway's peculiarities: pairs of pixels, what a DELETE destroys, and what a task says it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway import catalogue, settings
from gateway.catalogue import AudioGrant, Backend
from providers import runway
from providers.guard import Guard
from providers.spec import (
    Failed,
    Kind,
    Media,
    Mode,
    Operation,
    Outcome,
    ProviderError,
    Queued,
    Running,
    Secret,
    Shot,
    Succeeded,
    Verdict,
    Video,
    VideoRequest,
)
from providers.transport import Transport
from tests.vendors import runway_models
from tests.vendors.kit import Pace
from tests.vendors.runway import RunwayServer
from tests.vendors.script import act
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio

KEY = "key_planted0123456789secret"
TEXT = "text_to_video/gen4.5"
IMAGE = "image_to_video/veo3.1"
SMALL = VideoRequest(prompt="a boat", seconds=4, audio=False, resolution="720p", aspect_ratio="16:9")
TASK = {"id": "T", "createdAt": "2026-10-04T10:00:00Z"}
RUNNING = TASK | {"status": "RUNNING", "progress": 0.5}
DONE = TASK | {"status": "SUCCEEDED", "output": ["https://files.example/a.mp4"], "cost": {"credits": 48}}
GONE = {"error": "Not found"}
OPERATION = Operation(provider="runway", id="T")
ROWS = catalogue.load([settings.shipped() / "catalogue" / "runway.toml"]).backends


class Vendor:
    """Answers each call with the next reply (an exception is raised instead), and keeps the calls."""

    def __init__(self, *replies: tuple[int, Any] | Exception) -> None:
        self._replies = iter(replies)
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        reply = next(self._replies)
        if isinstance(reply, Exception):
            raise reply
        status, body = reply
        return httpx.Response(status, stream=httpx.ByteStream(msgspec.json.encode(body) if body is not None else b""))

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.calls]


def adapter(vendor: Vendor | None = None, base_url: str = "https://api.dev.runwayml.com") -> runway.Adapter:
    client = httpx.MockTransport(vendor) if vendor else None
    transport = Transport(guard=Guard(), client=client)
    return runway.Adapter(runway.Settings(api_key=Secret(KEY), base_url=base_url), transport)


def frame(width: int = 640, height: int = 360) -> Media:
    handed = "https://pictures.example/first.png"
    return Media(
        sha256="0" * 64,
        content_type="image/png",
        width=width,
        height=height,
        size_bytes=9,
        handed=handed,
        data=b"x" * 600,
    )


def changed(request: VideoRequest = SMALL, **changes: Any) -> VideoRequest:
    return msgspec.structs.replace(request, **changes)


def refused(request: VideoRequest, model_id: str) -> str:
    with pytest.raises(ProviderError) as caught:
        runway.to_body(request, model_id)
    assert (caught.value.fault.kind, caught.value.outcome) == (Kind.UNSUPPORTED, Outcome.NOT_SENT)
    return caught.value.fault.message


# --- the body ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id.replace("/", "."))
def test_every_size_that_a_row_grants_is_one_that_its_model_takes(row: Backend) -> None:
    """The suite asks for each resolution and each shape, not for each pair of them."""
    starts: dict[Mode, dict[str, Any]] = {
        Mode.TEXT: {},
        Mode.FIRST_FRAME: {"first_frame": frame()},
        Mode.REFERENCES: {"references": (frame(),)},
    }
    for mode, model_id in row.model_id.items():
        for resolution in row.resolutions:
            for aspect in row.aspect_ratios:
                asked = changed(
                    resolution=resolution, aspect_ratio=aspect, seconds=row.seconds.all()[0], **starts[mode]
                )
                body = runway.to_body(asked, model_id)
                assert runway_models.issues(model_id.partition("/")[0], body) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id.replace("/", "."))
def test_quote_is_what_the_vendor_estimates(row: Backend) -> None:
    sounds = {AudioGrant.NEVER: [False], AudioGrant.ALWAYS: [True], AudioGrant.OPTIONAL: [False, True]}[row.audio]
    mode, model_id = next(iter(row.model_id.items()))
    start: dict[str, Any] = {"first_frame": frame()} if mode is Mode.FIRST_FRAME else {}
    endpoint, _, name = model_id.partition("/")
    for resolution in row.resolutions:
        for audio in sounds:
            asked = changed(resolution=resolution, audio=audio, **start)
            quote = catalogue.quote(row, asked)
            credits = runway_models.credits_of(runway_models.MODELS[endpoint, name], runway.to_body(asked, model_id))
            assert quote is not None
            assert quote.usd_micros == credits * runway.USD_MICROS_PER_CREDIT


@pytest.mark.parametrize(
    ("model_id", "resolution", "aspect"),
    [
        (TEXT, "720p", "1:1"),  # from a picture only
        (TEXT, "1080p", "16:9"),
        (TEXT, "720p", None),
        ("image_to_video/kling3.0_pro", "720p", "16:9"),
        ("text_to_video/seedance2", "1080p", "3:2"),
    ],
)
def test_size_that_a_model_has_no_pair_for_is_refused(model_id: str, resolution: str, aspect: str | None) -> None:
    assert "aspect_ratio" in refused(changed(resolution=resolution, aspect_ratio=aspect), model_id)


def test_size_by_name_is_exact_or_refused() -> None:
    """ "720p, 1:1" is 960:960 here; who asked for 720x720 is not given something else."""
    square = changed(aspect_ratio="1:1")
    model_id = "text_to_video/kling3.0_standard"

    assert runway.to_body(square, model_id)["ratio"] == "960:960"
    assert runway.to_body(changed(square, width=960, height=960), model_id)["ratio"] == "960:960"
    assert "size 720x720" in refused(changed(square, width=720, height=720), model_id)


def test_kling_between_two_frames_follows_the_first_so_another_shape_is_refused() -> None:
    tall = changed(first_frame=frame(480, 640), last_frame=frame(), resolution="1080p")

    assert "another shape" in refused(tall, "image_to_video/kling3.0_pro")
    assert runway.to_body(changed(tall, last_frame=None), "image_to_video/kling3.0_pro")["ratio"] == "1920:1080"
    assert runway.to_body(changed(tall, resolution="720p"), IMAGE)["ratio"] == "1280:720"


def test_frames_are_named_by_their_position_and_references_are_not() -> None:
    both = runway.to_body(changed(first_frame=frame(), last_frame=frame()), IMAGE)
    references = runway.to_body(changed(references=(frame(), frame())), "text_to_video/seedance2")

    assert [item["position"] for item in both["promptImage"]] == ["first", "last"]
    assert references["references"] == [{"uri": "https://pictures.example/first.png"}] * 2
    assert "promptImage" not in references


@pytest.mark.parametrize(
    ("changes", "model_id", "why"),
    [
        ({}, "text_to_video/gen4_turbo", "model_id"),
        ({"last_frame": frame()}, IMAGE, "last_frame without first_frame"),
        ({"last_frame": frame(), "first_frame": frame()}, "image_to_video/gen4.5", "last_frame"),
        ({"references": (frame(),), "first_frame": frame()}, "image_to_video/seedance2", "references beside"),
        ({"prompt": ""}, TEXT, "without a prompt"),
        ({"audio": True}, TEXT, "audio"),
        ({"seed": 7, "resolution": "4k"}, "text_to_video/kling3.0_4k", "seed"),
        ({"negative_prompt": "rain"}, TEXT, "negative_prompt"),
        ({"first_frame": msgspec.structs.replace(frame(), handed=None)}, IMAGE, "handed over"),
        ({"shots": (Shot(prompt="one", seconds=4),)}, "text_to_video/kling3.0_standard", "prompt beside shots"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_model_has_no_word_for_is_refused_unsent(changes: dict[str, Any], model_id: str, why: str) -> None:
    assert why in refused(changed(**changes), model_id)


def test_sound_is_always_said_where_it_can_be() -> None:
    """Left out, Veo and Seedance make it, at up to twice the price."""
    assert runway.to_body(SMALL, "text_to_video/veo3.1")["audio"] is False
    assert runway.to_body(changed(audio=True), "text_to_video/veo3.1")["audio"] is True
    assert "audio" not in runway.to_body(SMALL, TEXT)


# --- the wire ---------------------------------------------------------------------------------------------------------


async def test_submit_names_its_version_and_no_callback() -> None:
    vendor = Vendor((200, {"id": "T", "estimatedCost": {"credits": 48}}))

    made = await adapter(vendor).submit(SMALL, model_id=TEXT, callback_url="https://us.example/cb", client_id="att_1")

    (call,) = vendor.calls
    assert made == OPERATION
    assert str(call.url) == "https://api.dev.runwayml.com/v1/text_to_video"
    assert (call.headers["authorization"], call.headers["x-runway-version"]) == (f"Bearer {KEY}", "2024-11-06")
    assert b"us.example" not in call.content
    assert b"att_1" not in call.content


async def test_id_cannot_lead_to_another_path() -> None:
    vendor = Vendor((200, RUNNING))

    await adapter(vendor).poll(Operation(provider="runway", id="../organization?x#y"))

    assert vendor.calls[0].url.raw_path == b"/v1/tasks/..%2Forganization%3Fx%23y"


async def test_upload_posts_the_form_that_it_was_given_then_the_file_without_the_key() -> None:
    place = {
        "uploadUrl": "https://bucket.example/",
        "fields": {"key": "a/b.png", "policy": "cG9s"},
        "runwayUri": "runway://abc",
    }
    vendor = Vendor((200, place), (204, None))

    address = await adapter(vendor).upload(frame())

    asked, put = vendor.calls
    assert address == "runway://abc"
    assert msgspec.json.decode(asked.content) == {"filename": f"{'0' * 16}.png", "type": "ephemeral"}
    assert (put.method, str(put.url)) == ("POST", "https://bucket.example/")
    assert "authorization" not in put.headers
    places = [put.content.index(part) for part in (b'"key"', b'"policy"', b'"file"', b"x" * 600)]
    assert places == sorted(places)


async def test_refresh_gives_the_links_of_another_fetch() -> None:
    fresh = DONE | {"output": ["https://files.example/a.mp4?again"]}
    vendor = Vendor((200, DONE), (200, fresh), (200, RUNNING))
    runways = adapter(vendor)

    assert await runways.refresh(OPERATION) == (Video(url="https://files.example/a.mp4"),)
    assert await runways.refresh(OPERATION) == (Video(url="https://files.example/a.mp4?again"),)
    assert await runways.refresh(OPERATION) == ()


async def test_key_in_a_failure_is_not_shown() -> None:
    status = await adapter(Vendor((200, TASK | {"status": "FAILED", "failure": f"bad {KEY}"}))).poll(OPERATION)

    assert isinstance(status, Failed)
    assert "bad •••" in status.fault.message


async def test_refusal_says_where_and_what_but_not_what_the_caller_wrote() -> None:
    issue = {"code": "too_big", "path": ["promptImage", 0, "uri"], "message": "Too long", "received": "own words"}
    vendor = Vendor((400, {"error": "Validation of body failed", "issues": [issue]}))

    with pytest.raises(ProviderError) as caught:
        await adapter(vendor).submit(SMALL, model_id=TEXT, callback_url=None, client_id="a")

    assert caught.value.fault.message == "Runway said 400: Validation of body failed; promptImage.0.uri: Too long"


# --- money ------------------------------------------------------------------------------------------------------------


async def test_moderated_job_is_billed_by_its_own_cost_and_where_it_tells_none_by_its_row() -> None:
    moderated = TASK | {"status": "FAILED", "failure": "", "failureCode": "SAFETY.OUTPUT.VIDEO"}

    told = await adapter(Vendor((200, moderated | {"cost": {"credits": 48}}))).poll(OPERATION)
    untold = await adapter(Vendor((200, moderated))).poll(OPERATION)

    assert isinstance(told, Failed)
    assert isinstance(untold, Failed)
    assert (told.fault.kind, told.fault.verdict) == (Kind.CONTENT_POLICY, Verdict.NEVER)
    assert (told.cost_usd_micros, untold.cost_usd_micros) == (480_000, None)
    assert all({Kind.CONTENT_POLICY, Kind.CANCELLED} == set(row.billed_endings) for row in ROWS)


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_cancel_never_deletes_a_task_that_has_ended() -> None:
    vendor = Vendor((200, DONE))

    with pytest.raises(ProviderError, match="destroy its clip"):
        await adapter(vendor).cancel(OPERATION)

    assert vendor.methods == ["GET"]


async def test_task_that_is_gone_after_a_delete_whose_reply_was_lost_is_cancelled() -> None:
    vendor = Vendor((200, RUNNING), httpx.ReadTimeout("late"), (404, GONE))
    runways = adapter(vendor)
    with pytest.raises(ProviderError):
        await runways.cancel(OPERATION)

    status = await runways.poll(OPERATION)

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.cost_usd_micros) == (Kind.CANCELLED, None)  # its price counts


async def test_task_that_an_earlier_process_deleted_is_cancelled_once_that_is_asked_again() -> None:
    vendor = Vendor((404, GONE), (404, GONE), (404, GONE))
    runways = adapter(vendor)
    with pytest.raises(ProviderError) as before:
        await runways.poll(OPERATION)

    await runways.cancel(OPERATION)
    after = await runways.poll(OPERATION)

    assert before.value.fault.kind is Kind.OPERATION_LOST
    assert isinstance(after, Failed)
    assert after.fault.kind is Kind.CANCELLED
    assert vendor.methods == ["GET", "GET", "GET"]


async def test_task_that_goes_on_after_a_delete_is_told_as_it_is() -> None:
    """Runway promises of no DELETE that the render stops."""
    vendor = Vendor((200, RUNNING), (204, None), (200, RUNNING), (200, DONE))
    runways = adapter(vendor)

    await runways.cancel(OPERATION)

    assert isinstance(await runways.poll(OPERATION), Running)
    assert isinstance(await runways.poll(OPERATION), Succeeded)


@pytest.mark.parametrize(("looks", "usd_micros"), [(0, 480_000), (1, 480_000)])
async def test_cost_of_a_cancelled_task_is_what_it_says(tmp_path: Path, looks: int, usd_micros: int) -> None:
    with RunwayServer(tmp_path, Options(pace=Pace(steps=9))) as server:
        server.tells_cancelled = True
        runways = adapter(base_url=server.url)
        operation = await runways.submit(SMALL, model_id=TEXT, callback_url=None, client_id="a")
        for _ in range(looks):
            await runways.poll(operation)

        await runways.cancel(operation)
        status = await runways.poll(operation)

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.cost_usd_micros) == (Kind.CANCELLED, usd_micros)


async def test_throttled_task_waits_and_is_refunded_when_it_is_stopped(tmp_path: Path) -> None:
    with RunwayServer(tmp_path, Options(pace=Pace(steps=9))) as server:
        server.tells_cancelled = True
        server.max_concurrent = 1
        runways = adapter(base_url=server.url)
        await runways.submit(SMALL, model_id=TEXT, callback_url=None, client_id="a")
        operation = await runways.submit(SMALL, model_id=TEXT, callback_url=None, client_id="b")

        waiting = await runways.poll(operation)
        await runways.cancel(operation)
        status = await runways.poll(operation)

    assert isinstance(waiting, Queued)
    assert isinstance(status, Failed)
    assert status.cost_usd_micros == 0


async def test_lost_reply_leaves_one_row_that_nothing_can_find(tmp_path: Path) -> None:
    with RunwayServer(tmp_path) as server:
        server.say(act("accept_then_cut"))

        with pytest.raises(ProviderError) as caught:
            await adapter(base_url=server.url).submit(SMALL, model_id=TEXT, callback_url=None, client_id="a")

        assert caught.value.outcome is Outcome.UNKNOWN
        assert len(server.ledger()) == 1
        assert server.ledger()[0].usd_micros == 480_000
