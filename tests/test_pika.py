"""Pika's peculiarities: one key, one job; files that are named late; and what its clients' code tells of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from providers import pika
from providers.guard import Guard
from providers.spec import (
    Cancels,
    Disproves,
    Failed,
    Fault,
    Finds,
    Kind,
    Media,
    NamesOperation,
    Operation,
    Outcome,
    ProviderError,
    Running,
    Secret,
    Status,
    Succeeded,
    Verdict,
    VideoRequest,
)
from providers.transport import Transport
from tests.vendors.kit import Pace
from tests.vendors.pika import PikaServer
from tests.vendors.pika_transcripts import Call, Transcript, filled, transcripts
from tests.vendors.script import act
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio

KEY = "pk_test_0123456789"
TEXT = "pika/pika-2.5/text-to-video"
IMAGE = "pika/pika-2.5/image-to-video"
FRAMES = "pika/pikaframes/image-to-video"
FLEX = "pika/pika-h3-flex/image-to-video"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="720p")
NOW = 1_795_000_000.0
SENT_AT = datetime.fromtimestamp(NOW - 20, UTC)


def adapter(carrier: httpx.AsyncBaseTransport, base_url: str = "https://api.dev.pika.art", **more: Any) -> pika.Adapter:
    transport = Transport(guard=Guard(), client=carrier)
    return pika.Adapter(pika.Settings(api_key=Secret(KEY), base_url=base_url, **more), transport, now=lambda: NOW)


def frame(handed: str | None = "https://pictures.example/first.png") -> Media:
    return Media(sha256="0" * 64, content_type="image/png", width=640, height=360, size_bytes=9, handed=handed)


class Told:
    """Answers each call with the next reply, and keeps the calls."""

    def __init__(self, *replies: tuple[int, Any]) -> None:
        self._replies = iter(replies)
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        status, body = next(self._replies)
        return httpx.Response(status, stream=httpx.ByteStream(msgspec.json.encode(body)))

    def adapter(self, **more: Any) -> pika.Adapter:
        return adapter(httpx.MockTransport(self), **more)


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[PikaServer]:
    """Pika, whose jobs are done when they are submitted."""
    with PikaServer(tmp_path, Options(pace=Pace(steps=0), keys=(KEY,))) as server:
        yield server


@contextlib.asynccontextmanager
async def before(vendor: PikaServer) -> AsyncIterator[pika.Adapter]:
    carrier = httpx.AsyncHTTPTransport(trust_env=False)
    yield adapter(carrier, vendor.url)
    await carrier.aclose()


async def submit(pikas: pika.Adapter, request: VideoRequest = SMALL, client_id: str = "att_1") -> Operation:
    return await pikas.submit(request, model_id=TEXT, callback_url="https://us.example/cb/t", client_id=client_id)


async def find(
    pikas: pika.Adapter, request: VideoRequest = SMALL, *, client_id: str = "att_1", sent_at: datetime = SENT_AT
) -> Operation | None:
    return await pikas.find(request, model_id=TEXT, client_id=client_id, callback_url=None, sent_at=sent_at)


# --- one key, one job -------------------------------------------------------------------------------------------------


async def test_lost_reply_is_found_by_the_same_bytes_under_the_same_key(vendor: PikaServer) -> None:
    vendor.say(act("accept_then_cut"))

    async with before(vendor) as pikas:
        with pytest.raises(ProviderError) as lost:
            await submit(pikas)
        found = await find(pikas)
        assert found is not None
        status = await pikas.poll(found)

    (row,) = vendor.ledger()
    first, second = vendor.requests()[:2]
    assert lost.value.outcome is Outcome.UNKNOWN
    assert (found.id, row.client_id) == (row.id, "att_1")
    assert (first.body, first.headers["idempotency-key"]) == (second.body, "att_1")
    assert first.headers == second.headers
    assert isinstance(status, Succeeded)
    assert status.cost_usd_micros == row.usd_micros == 200_000


async def test_submit_that_never_arrived_is_bought_by_the_look_up_once(vendor: PikaServer) -> None:
    vendor.say(act("cut_before_accept"))

    async with before(vendor) as pikas:
        with pytest.raises(ProviderError):
            await submit(pikas)
        assert vendor.ledger() == []
        found = [await find(pikas) for _ in range(3)]

    assert [row.id for row in vendor.ledger()] == [operation.id for operation in found[:1] if operation]
    assert found[0] == found[1] == found[2]


async def test_replay_of_a_failed_job_gives_that_job_and_no_new_one(vendor: PikaServer) -> None:
    vendor.say(act("fail_render", word="provider_error"))

    async with before(vendor) as pikas:
        operation = await submit(pikas)
        before_replay = await pikas.poll(operation)
        found = await find(pikas)
        after_replay = await pikas.poll(operation)

    assert found == operation
    assert isinstance(after_replay, Failed)
    assert before_replay == after_replay
    assert len(vendor.ledger()) == 1


async def test_look_up_with_another_body_is_a_conflict_and_buys_nothing(vendor: PikaServer) -> None:
    async with before(vendor) as pikas:
        await submit(pikas)
        with pytest.raises(ProviderError) as caught:
            await find(pikas, msgspec.structs.replace(SMALL, prompt="another boat"))

    assert (caught.value.status, caught.value.outcome) == (409, Outcome.UNKNOWN)
    assert len(vendor.ledger()) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 429, 500, 503])
async def test_refused_look_up_tells_nothing_of_the_first_post(status: int) -> None:
    told = Told((status, {"error": {"code": "insufficient_balance", "message": "Balance too low"}}))

    with pytest.raises(ProviderError) as caught:
        await find(told.adapter())

    assert (caught.value.outcome, caught.value.fault.verdict) == (Outcome.UNKNOWN, Verdict.UNSURE)


async def test_look_up_without_the_pictures_addresses_sends_nothing() -> None:
    told = Told()
    request = msgspec.structs.replace(SMALL, first_frame=frame(handed=None))

    with pytest.raises(ProviderError) as caught:
        await told.adapter().find(request, model_id=IMAGE, client_id="a", callback_url=None, sent_at=SENT_AT)

    assert (caught.value.outcome, caught.value.fault.verdict) == (Outcome.UNKNOWN, Verdict.UNSURE)
    assert told.calls == []


@pytest.mark.parametrize(("seconds", "is_sent"), [(0, True), (599, True), (601, False), (90_000, False)])
async def test_key_that_pika_may_have_forgotten_is_not_sent_again(seconds: float, is_sent: bool) -> None:
    told = Told((200, {"id": "J", "status": "queued"}))
    sent_at = datetime.fromtimestamp(NOW - seconds, UTC)

    if is_sent:
        assert await find(told.adapter(), sent_at=sent_at) == Operation(provider="pika", id="J")
    else:
        with pytest.raises(ProviderError) as caught:
            await find(told.adapter(), sent_at=sent_at)
        assert (caught.value.outcome, caught.value.fault.verdict) == (Outcome.UNKNOWN, Verdict.UNSURE)
    assert len(told.calls) == int(is_sent)


async def test_submit_that_answers_with_a_failed_job_is_an_operation_that_bought_nothing(vendor: PikaServer) -> None:
    vendor.say(act("fail_render", word="insufficient_balance"))

    async with before(vendor) as pikas:
        operation = await submit(pikas)
        status = await pikas.poll(operation)

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict) == (Kind.INSUFFICIENT_FUNDS, Verdict.ELSEWHERE)
    assert status.cost_usd_micros is None
    assert vendor.ledger() == []


def test_it_has_no_face_for_what_pika_is_not_known_to_do() -> None:
    pikas = Told().adapter()

    assert isinstance(pikas, Finds)
    assert not isinstance(pikas, Cancels | NamesOperation | Disproves)  # its look-up never says "not there"


# --- files ------------------------------------------------------------------------------------------------------------


async def test_completed_job_runs_on_until_its_file_is_named(vendor: PikaServer) -> None:
    vendor.say(act("result_missing", count=2))

    async with before(vendor) as pikas:
        operation = await submit(pikas)
        statuses: list[Status] = [await pikas.poll(operation) for _ in range(3)]

    assert statuses[:2] == [Running(), Running()]
    assert isinstance(statuses[2], Succeeded)


async def test_file_that_is_gone_cannot_be_refreshed() -> None:
    with pytest.raises(ProviderError) as caught:
        await Told((200, {"url": None})).adapter().refresh(Operation(provider="pika", id="J"))

    assert caught.value.fault.kind is Kind.OPERATION_LOST


@pytest.mark.parametrize("host", ["storage.example", "api.dev.pika.art"])
async def test_upload_that_names_no_headers_is_put_without_any_of_ours(host: str) -> None:
    told = Told((201, {"upload_url": f"https://{host}/1", "headers": None, "url": "https://a/1"}), (200, {}))

    address = await told.adapter().upload(msgspec.structs.replace(frame(), data=b"a picture"))

    put = told.calls[1]
    assert address == "https://a/1"
    assert (put.method, str(put.url), put.content) == ("PUT", f"https://{host}/1", b"a picture")
    assert {"x-api-key", "content-type"}.isdisjoint(put.headers)


async def test_id_cannot_lead_to_another_path() -> None:
    told = Told((200, {"status": "running"}))

    await told.adapter().poll(Operation(provider="pika", id="../x?y#z"))

    assert told.calls[0].url.raw_path == b"/v1/media/jobs/..%2Fx%3Fy%23z"


@pytest.mark.parametrize("padding", [0, 466])
async def test_key_in_a_jobs_own_error_is_not_shown_whole_or_cut(padding: int) -> None:
    told = Told((200, {"status": "failed", "error": {"code": "internal", "message": f"{'x' * padding} {KEY}"}}))

    status = await told.adapter().poll(Operation(provider="pika", id="J"))

    assert isinstance(status, Failed)
    assert KEY[:9] not in repr(status)
    assert len(status.fault.message) <= 500


# --- words ------------------------------------------------------------------------------------------------------------


def refused(request: VideoRequest, model_id: str) -> str:
    with pytest.raises(ProviderError) as caught:
        pika.to_body(request, model_id)
    assert (caught.value.fault.kind, caught.value.outcome) == (Kind.UNSUPPORTED, Outcome.NOT_SENT)
    return caught.value.fault.message


def test_frames_are_the_first_and_the_last_in_this_order_and_never_one_alone() -> None:
    first, last = frame("https://a/1"), frame("https://a/2")
    both = msgspec.structs.replace(SMALL, first_frame=first, last_frame=last, seconds=10)

    body = pika.to_body(both, FRAMES)

    assert (body["images"], body["transition_duration_s"]) == (["https://a/1", "https://a/2"], 10)
    assert "first_frame without last_frame" in refused(msgspec.structs.replace(both, last_frame=None), FRAMES)
    assert "last_frame without first_frame" in refused(msgspec.structs.replace(both, first_frame=None), FRAMES)


def test_each_entry_has_its_own_name_for_seconds_and_all_are_numbers() -> None:
    pictured = msgspec.structs.replace(SMALL, first_frame=frame(), audio=None)

    assert pika.to_body(SMALL, TEXT)["duration_s"] == 5
    assert pika.to_body(pictured, IMAGE)["duration_s"] == 5
    assert pika.to_body(pictured, FLEX)["duration"] == 5


def test_sound_is_refused_where_there_is_none_and_silence_where_there_is_no_other() -> None:
    loud = msgspec.structs.replace(SMALL, audio=True, first_frame=frame())

    assert "audio" in refused(loud, IMAGE)
    assert "audio=false" in refused(msgspec.structs.replace(loud, audio=False), FLEX)
    assert pika.to_body(loud, FLEX).keys() == {"prompt", "duration", "resolution", "image"}


def test_picture_that_was_not_handed_over_is_not_left_out() -> None:
    lost = frame(handed=None)

    assert "picture" in refused(msgspec.structs.replace(SMALL, first_frame=lost), IMAGE)
    assert "picture" in refused(msgspec.structs.replace(SMALL, first_frame=frame(), last_frame=lost), FRAMES)


def test_entry_of_unknown_words_is_refused_and_not_guessed() -> None:
    assert "model_id" in refused(SMALL, "pika/pikaswaps/video-to-video")
    assert "model_id" in refused(SMALL, "kling/kling-v3/pro/text-to-video")


# --- what its clients' code tells -------------------------------------------------------------------------------------

TOLD = transcripts()


class Means(msgspec.Struct, forbid_unknown_fields=True):
    """What an adapter makes of a call; messages are not compared."""

    operation: str | None = None
    status: Status | None = None
    address: str | None = None
    error: Fault | None = None
    outcome: Outcome | None = None


def test_there_are_transcripts() -> None:
    names = {"image", "moderation", "replay", "conflict", "no-balance", "billing-pending", "upload", "errors"}
    assert names <= TOLD.keys()


@pytest.mark.parametrize("success", [200, 201, 202])
@pytest.mark.parametrize("name", TOLD)
async def test_adapter_keeps_to_the_transcript(name: str, success: int) -> None:
    transcript = TOLD[name]

    for call in transcript.calls:
        replies = [
            (success if one.reply.status == "2xx" else int(one.reply.status), filled(one.reply.body, transcript.values))
            for one in call.exchanges
        ]
        told = Told(*replies)

        made = await _made(told.adapter(), call, transcript)

        assert made == msgspec.convert(filled(call.means, transcript.values), Means)
        assert len(told.calls) == len(call.exchanges)
        for sent, one in zip(told.calls, call.exchanges, strict=True):
            url = filled(one.request.url, transcript.values)
            assert (sent.method, str(sent.url).removeprefix("https://api.dev.pika.art")) == (one.request.method, url)
            assert one.request.headers.items() <= dict(sent.headers).items()
            assert sent.headers.keys().isdisjoint(one.request.without)
            assert _body(sent) == one.request.body


def _body(sent: httpx.Request) -> Any:
    if not sent.content:
        return None
    return msgspec.json.decode(sent.content) if sent.method == "POST" else sent.content.decode()


async def _made(pikas: pika.Adapter, call: Call, transcript: Transcript) -> Means:
    ask: dict[str, Any] = transcript.ask | call.ask
    words = {"model_id": ask.pop("model_id", ""), "client_id": ask.pop("client_id", ""), "callback_url": None}
    ask |= {name: frame(ask[name]) for name in ("first_frame", "last_frame") if name in ask}
    request = VideoRequest(**ask, audio=False)
    operation = Operation(provider="pika", id=transcript.values.get("$job", ""))
    try:
        match call.call:
            case "submit":
                return Means(operation=(await pikas.submit(request, **words)).id)
            case "find":
                found = await pikas.find(request, **words, sent_at=SENT_AT)
                return Means(operation=found.id if found else None)
            case "refresh":
                (video,) = await pikas.refresh(operation)
                return Means(address=video.url)
            case "upload":
                return Means(address=await pikas.upload(msgspec.structs.replace(frame(), data=b"a picture")))
    except ProviderError as error:
        return Means(error=_silent(error.fault), outcome=error.outcome)
    status = await pikas.poll(operation)
    if isinstance(status, Failed):
        status = msgspec.structs.replace(status, fault=_silent(status.fault))
    return Means(status=status)


def _silent(fault: Fault) -> Fault:
    return msgspec.structs.replace(fault, message="")
