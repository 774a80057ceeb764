"""UlazAI's peculiarities: slashes, a `success` that means little, credits; the rest is in the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from providers import ulazai
from providers.guard import Guard
from providers.spec import (
    Cancels,
    Failed,
    Finds,
    Kind,
    Lists,
    Media,
    MediaForm,
    NamesOperation,
    Operation,
    Outcome,
    ProviderError,
    Secret,
    Status,
    Succeeded,
    Uploads,
    Verdict,
    VideoRequest,
)
from providers.transport import Transport
from tests.vendors.kit import Pace
from tests.vendors.server import Options
from tests.vendors.transcripts import Call, Means, Transcript, filled, transcripts
from tests.vendors.ulazai import POSTS_PER_HOUR, UlazServer

pytestmark = pytest.mark.anyio

KEY = "planted-key-0123456789"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="720p", aspect_ratio="16:9")
STD, PRO = "kling_3_0/std", "kling_3_0/pro"


class Told:
    """Answers each call with the next reply, and keeps the calls."""

    def __init__(self, *replies: tuple[int, Any]) -> None:
        self._replies = iter(replies)
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        status, body = next(self._replies)
        return httpx.Response(status, stream=httpx.ByteStream(msgspec.json.encode(body)))

    def adapter(self, **settings: Any) -> ulazai.Adapter:
        return adapter(httpx.MockTransport(self), **settings)


def adapter(client: httpx.AsyncBaseTransport | None = None, **settings: Any) -> ulazai.Adapter:
    made = ulazai.Settings(**{"api_key": Secret(KEY), **settings})
    return ulazai.Adapter(made, Transport(guard=Guard(), client=client))


def frame(handed: str | None = "https://pictures.example/first.png") -> Media:
    return Media(sha256="0" * 64, content_type="image/png", width=640, height=360, size_bytes=9, handed=handed)


# --- slashes, lists, and what is never sent ---------------------------------------------------------------------------


async def test_every_path_ends_in_a_slash() -> None:
    told = Told((200, {"success": True, "job_ids": ["J"]}), (200, {"success": True, "job": {"status": "pending"}}))
    ulaz = told.adapter(base_url="https://ulazai.com/")

    operation = await ulaz.submit(SMALL, model_id=STD, callback_url="https://us.example/cb/t", client_id="a")
    await ulaz.poll(operation)

    assert [str(call.url) for call in told.calls] == [
        "https://ulazai.com/api/v1/video-studio/generate/",
        "https://ulazai.com/api/v1/video-studio/status/J/",
    ]
    assert b"us.example" not in told.calls[0].content


async def test_redirect_of_a_submit_is_not_followed_and_its_outcome_is_unknown() -> None:
    told = Told((301, {}))

    with pytest.raises(ProviderError) as caught:
        await told.adapter().submit(SMALL, model_id=STD, callback_url=None, client_id="a")

    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(told.calls) == 1


async def test_id_cannot_lead_to_another_path() -> None:
    told = Told((200, {"job": {"status": "pending"}}))

    await told.adapter().poll(Operation(provider="ulazai", id="../x?y#z"))

    assert told.calls[0].url.raw_path == b"/api/v1/video-studio/status/..%2Fx%3Fy%23z/"


def test_nothing_is_ever_published_and_options_change_no_model() -> None:
    mine = {"prompt_directory_optin": True, "model_slug": "veo31_fast", "elements": []}
    request = msgspec.structs.replace(SMALL, options={"ulazai": mine})

    body = ulazai.to_body(request, STD)

    assert ulazai.to_body(SMALL, STD)["prompt_directory_optin"] is False
    assert (body["prompt_directory_optin"], body["model_slug"], body["elements"]) == (False, "kling_3_0", [])


def test_it_has_no_face_but_submit_and_poll() -> None:
    ulaz = adapter()

    assert ulaz.takes == (MediaForm.URL,)
    assert not isinstance(ulaz, Cancels | Finds | Lists | NamesOperation | Uploads)


def refused(request: VideoRequest, model_id: str = STD) -> str:
    with pytest.raises(ProviderError) as caught:
        ulazai.to_body(request, model_id)
    assert caught.value.fault.kind is Kind.UNSUPPORTED
    assert caught.value.outcome is Outcome.NOT_SENT
    return caught.value.fault.message


def test_only_addresses_of_pictures_are_sent() -> None:
    framed = msgspec.structs.replace(SMALL, aspect_ratio=None, first_frame=frame())

    assert ulazai.to_body(framed, STD)["input_image_urls"] == ["https://pictures.example/first.png"]
    for handed in (None, "", "data:image/png;base64,AAAA", "ftp://pictures.example/1.png"):
        assert "picture" in refused(msgspec.structs.replace(framed, first_frame=frame(handed)))
        assert "picture" in refused(msgspec.structs.replace(framed, last_frame=frame(handed)))
    assert "last_frame without" in refused(msgspec.structs.replace(framed, first_frame=None, last_frame=frame()))


def test_model_of_unknown_slug_or_quality_is_refused_and_not_guessed() -> None:
    for model_id in ("kling_3_0", "kling_3_0/4k", "kling_2_6/pro", "kling_3_0_motion_control/std"):
        assert "model_id" in refused(SMALL, model_id)


# --- what a job says --------------------------------------------------------------------------------------------------


async def polled(job: dict[str, Any], **settings: Any) -> Status:
    told = Told((200, {"success": True, "job": job}))
    return await told.adapter(**settings).poll(Operation(provider="ulazai", id="J"))


async def test_success_of_the_call_is_no_success_of_the_job() -> None:
    status = await polled({"status": "failed", "error_message": "Invalid duration", "credits_refunded": True})

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict) == (Kind.GENERATION_FAILED, Verdict.ELSEWHERE)
    assert "Invalid duration" in status.fault.message
    assert status.cost_usd_micros == 0


@pytest.mark.parametrize(
    ("rate", "said", "cost"),
    [
        (None, {"credits_charged": 200}, None),
        (0.0105, {"credits_charged": 200}, 2_100_000),
        (0.0105, {"credits_charged": "310"}, 3_255_000),
        (0.1, {"credits_charged": 3}, 300_000),
        (0.0105, {}, None),
        (0.0105, {"credits_charged": 200, "credits_refunded": True}, 0),
    ],
)
async def test_credits_are_money_by_the_operators_rate(
    rate: float | None, said: dict[str, Any], cost: int | None
) -> None:
    done = await polled(
        {"status": "completed", "result_urls": ["https://v.example/1.mp4"], **said}, usd_per_credit=rate
    )
    failed = await polled({"status": "failed", **said}, usd_per_credit=rate)

    assert isinstance(done, Succeeded)
    assert isinstance(failed, Failed)
    assert (done.cost_usd_micros, failed.cost_usd_micros) == (cost, cost)


async def test_key_in_a_jobs_own_error_is_not_shown() -> None:
    status = await polled({"status": "failed", "error_message": f"bad key {KEY} " + "x" * 900})

    assert isinstance(status, Failed)
    assert KEY not in status.fault.message
    assert len(status.fault.message) <= 500


async def test_2xx_that_is_no_success_keeps_its_words_and_stays_unknown() -> None:
    told = Told((200, {"success": False, "error": "Insufficient credits"}))

    with pytest.raises(ProviderError) as caught:
        await told.adapter().submit(SMALL, model_id=STD, callback_url=None, client_id="a")

    assert caught.value.outcome is Outcome.UNKNOWN
    assert "Insufficient credits" in caught.value.fault.message


async def test_twenty_fifth_post_of_an_hour_is_turned_away_and_costs_nothing(tmp_path: Path) -> None:
    options = Options(pace=Pace(steps=0), virtual=True)
    with UlazServer(tmp_path, options, posts_per_hour=POSTS_PER_HOUR) as server:
        ulaz = adapter(base_url=server.url)
        words: dict[str, Any] = {"model_id": PRO, "callback_url": None, "client_id": "a"}
        for _ in range(24):
            await ulaz.submit(SMALL, **words)

        with pytest.raises(ProviderError) as caught:
            await ulaz.submit(SMALL, **words)
        refused_after = len(server.ledger())
        server.advance(3600)
        await ulaz.submit(SMALL, **words)

    assert (caught.value.fault.kind, caught.value.outcome) == (Kind.RATE_LIMITED, Outcome.REJECTED)
    assert caught.value.fault.verdict is Verdict.ELSEWHERE
    assert refused_after == 24


# --- what the documents tell ------------------------------------------------------------------------------------------

TOLD = transcripts("ulazai")


@pytest.mark.parametrize("name", TOLD)
async def test_adapter_keeps_to_the_transcript(name: str) -> None:
    transcript = TOLD[name]
    values = transcript.values | {"$base": "https://ulazai.com"}
    told = Told(*((one.reply.status, filled(one.reply.body, values)) for one in transcript.exchanges))
    ulaz = told.adapter(api_key=Secret(values["$key"]))
    operation = Operation(provider="ulazai", id=values.get("$id", "none"))

    for call in transcript.calls:
        made = await _made(ulaz, call, transcript, operation)
        assert made == msgspec.convert(filled(call.means, values), Means)

    assert len(told.calls) == len(transcript.exchanges)
    for sent, one in zip(told.calls, transcript.exchanges, strict=True):
        path = filled(one.request.path, values)
        assert (sent.method, str(sent.url)) == (one.request.method, f"https://ulazai.com{path}")
        assert filled(one.request.headers, values).items() <= dict(sent.headers).items()
        assert (msgspec.json.decode(sent.content) if sent.content else None) == one.request.body


async def _made(ulaz: ulazai.Adapter, call: Call, transcript: Transcript, operation: Operation) -> Means:
    ask = dict(transcript.ask)
    model_id = ask.pop("model_id", "")
    ask |= {name: frame(ask[name]) for name in ("first_frame", "last_frame") if name in ask}
    try:
        if call.call == "submit":
            made = await ulaz.submit(VideoRequest(**ask), model_id=model_id, callback_url=None, client_id="a")
            return Means(operation=made.id)
        status = await ulaz.poll(operation)
    except ProviderError as error:
        said = msgspec.structs.replace(error.fault, message="")
        return Means(error=said, outcome=error.outcome if call.call == "submit" else None)
    if isinstance(status, Failed):
        status = msgspec.structs.replace(status, fault=msgspec.structs.replace(status.fault, message=""))
    return Means(status=status)
