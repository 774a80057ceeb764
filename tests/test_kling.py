"""Kling's peculiarities: two protocols, two credentials, codes over statuses, and a lost job found by our own id."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from providers import kling
from providers.guard import Guard
from providers.spec import (
    Camera,
    Disproves,
    Failed,
    Kind,
    Media,
    Operation,
    Outcome,
    ProviderError,
    Queued,
    Running,
    Secret,
    Shot,
    Succeeded,
    Verdict,
    VideoRequest,
)
from providers.transport import Transport
from tests.vendors.kling import KlingServer
from tests.vendors.script import act

pytestmark = pytest.mark.anyio

KEY = "api-key-kling-planted0123456789"
ACCESS, SECRET = "planted-access-key-0123456789", "planted-secret-key-0123456789abcdef"
PAIR: dict[str, Any] = {"access_key": Secret(ACCESS), "secret_key": Secret(SECRET)}
TEXT, IMAGE = "legacy:text2video/kling-v3/pro", "legacy:image2video/kling-v3/pro"
V2_TEXT, V2_IMAGE = "v2:text-to-video/kling-3.0/1080p", "v2:image-to-video/kling-3.0/1080p"
TURBO = "v2:text-to-video/kling-3.0-turbo/720p"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="1080p")
NOW = 1_790_000_000.9
SENT_AT = datetime(2026, 11, 23, tzinfo=UTC)
BOUGHT: dict[str, Any] = {"code": 0, "data": {"task_id": "T", "id": "T"}}
BIG = 829836802793406551  # an element's id, beyond what a float can hold


class Vendor:
    """Answers each call with the next reply, and keeps the calls."""

    def __init__(self, *replies: tuple[int, Any]) -> None:
        self._replies = iter(replies)
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        status, body = next(self._replies)
        return httpx.Response(status, stream=httpx.ByteStream(msgspec.json.encode(body)))

    @property
    def targets(self) -> list[str]:
        return [str(call.url).removeprefix("https://api-singapore.klingai.com") for call in self.calls]


def adapter(vendor: Any, **settings: Any) -> kling.Adapter:
    transport = Transport(guard=Guard(), client=httpx.MockTransport(vendor))
    whole = kling.Settings(**(settings if "access_key" in settings else {"api_key": Secret(KEY), **settings}))
    return kling.Adapter(whole, transport, now=lambda: NOW)


async def submitted(vendor: Any, request: VideoRequest = SMALL, model_id: str = TEXT, **settings: Any) -> Operation:
    made = adapter(vendor, **settings)
    return await made.submit(request, model_id=model_id, callback_url="https://us.example/cb/t", client_id="att_1")


async def refusal(awaitable: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await awaitable
    return caught.value


def frame(handed: str | None = "https://pictures.example/first.png", data: bytes | None = None) -> Media:
    return Media(
        sha256="0" * 64, content_type="image/png", width=640, height=360, size_bytes=9, handed=handed, data=data
    )


def body(request: VideoRequest, model_id: str = TEXT) -> dict[str, Any]:
    return kling.to_body(request, model_id, client_id="att_1", callback_url=None)


def with_(**fields: Any) -> VideoRequest:
    return msgspec.structs.replace(SMALL, **fields)


# --- the credential ---------------------------------------------------------------------------------------------------


async def test_api_key_is_the_token_and_comes_before_the_pair() -> None:
    vendor = Vendor((200, BOUGHT))

    await submitted(vendor, api_key=Secret(KEY), **PAIR)

    assert vendor.calls[0].headers["authorization"] == f"Bearer {KEY}"


async def test_pair_signs_exactly_iss_exp_and_nbf() -> None:
    vendor = Vendor((200, BOUGHT))

    await submitted(vendor, **PAIR)

    token = vendor.calls[0].headers["authorization"].removeprefix("Bearer ")
    parts = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
    assert msgspec.json.decode(parts[0]) == {"alg": "HS256", "typ": "JWT"}
    assert msgspec.json.decode(parts[1]) == {"iss": ACCESS, "exp": 1_790_001_800, "nbf": 1_789_999_995}
    assert parts[2] == hmac.digest(SECRET.encode(), token.rpartition(".")[0].encode(), "sha256")
    assert "=" not in token


async def test_each_request_is_signed_for_its_own_moment() -> None:
    moments = iter([NOW, NOW + 60])
    vendor = Vendor((200, BOUGHT), (200, BOUGHT))
    transport = Transport(guard=Guard(), client=httpx.MockTransport(vendor))
    kling_ = kling.Adapter(kling.Settings(**PAIR), transport, now=lambda: next(moments))

    operation = await kling_.submit(SMALL, model_id=TEXT, callback_url=None, client_id="att_1")
    await kling_.poll(operation)

    assert len({call.headers["authorization"] for call in vendor.calls}) == 2


@pytest.mark.parametrize("code", [1003, 1004])
async def test_refused_token_is_not_sent_a_second_time(code: int) -> None:
    vendor = Vendor((401, {"code": code, "message": "token", "request_id": "r"}))

    error = await refusal(submitted(vendor, **PAIR))

    assert len(vendor.calls) == 1
    assert (error.fault.kind, error.outcome) == (Kind.AUTHENTICATION, Outcome.REJECTED)


@pytest.mark.parametrize("model_id", [V2_TEXT, TURBO])
async def test_pair_does_not_open_api_2_and_nothing_is_sent(model_id: str) -> None:
    vendor = Vendor()

    error = await refusal(submitted(vendor, with_(audio=True), model_id, **PAIR))

    assert vendor.calls == []
    assert (error.fault.kind, error.outcome) == (Kind.UNSUPPORTED, Outcome.NOT_SENT)


@pytest.mark.parametrize(
    ("given", "usable"),
    [
        ({}, False),
        ({"access_key": Secret(ACCESS)}, False),
        ({"secret_key": Secret(SECRET)}, False),
        ({"api_key": Secret("")}, False),
        ({"api_key": Secret(KEY)}, True),
        (PAIR, True),
    ],
)
def test_account_is_usable_with_a_whole_credential_only(given: dict[str, Any], usable: bool) -> None:
    settings = kling.Settings(**given)

    assert settings.usable() is usable
    if not usable:
        with pytest.raises(ValueError, match="api_key"):
            kling.make(settings, Transport(guard=Guard()))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_id", [IMAGE, V2_IMAGE])
async def test_bytes_go_as_bare_base64(model_id: str) -> None:
    request = with_(first_frame=frame(None, b"a picture"), last_frame=frame(None, b"another"))

    said = msgspec.json.encode(body(request, model_id)).decode()

    assert f'"{base64.b64encode(b"a picture").decode()}"' in said
    assert f'"{base64.b64encode(b"another").decode()}"' in said
    assert "data:" not in said


@pytest.mark.parametrize(
    ("fields", "model_id", "named"),
    [
        ({"first_frame": frame(None)}, IMAGE, "not handed over"),
        ({"first_frame": frame(), "last_frame": frame(None)}, V2_IMAGE, "not handed over"),
        ({"last_frame": frame()}, IMAGE, "last_frame without first_frame"),
        ({"prompt": "both", "shots": (Shot(prompt="one", seconds=5),)}, TEXT, "prompt beside shots"),
        (
            {"prompt": "", "shots": (Shot(prompt="one", seconds=5),), "first_frame": frame(), "last_frame": frame()},
            IMAGE,
            "last_frame beside shots",
        ),
        ({"prompt": "", "shots": (Shot(prompt="one", seconds=5),)}, V2_TEXT, "shots"),
        ({"camera": Camera.ZOOM_IN}, TEXT, "camera"),
        ({"cfg_scale": 0.0}, "legacy:text2video/kling-v2-6/pro", "cfg_scale"),
        ({"seed": 0}, TEXT, "seed"),
        ({}, TURBO, "audio off"),
        ({}, "legacy:text2video/kling-v9/pro", "model_id"),
        ({}, "legacy:text-to-video/kling-3.0/1080p", "model_id"),
        ({}, "v2:text2video/kling-v3/pro", "model_id"),
        ({}, "text2video/kling-v3/pro", "model_id"),
        ({}, "v2:../text-to-video/kling-3.0/1080p", "model_id"),
    ],
)
def test_what_it_has_no_word_for_is_refused(fields: dict[str, Any], model_id: str, named: str) -> None:
    with pytest.raises(ProviderError, match=named) as caught:
        body(with_(**fields), model_id)

    assert (caught.value.fault.kind, caught.value.outcome) == (Kind.UNSUPPORTED, Outcome.NOT_SENT)


async def test_ids_beyond_a_float_pass_whole() -> None:
    asked = msgspec.json.decode(f'{{"kling": {{"element_list": [{{"element_id": {BIG}}}]}}}}'.encode())
    vendor = Vendor((200, BOUGHT))

    await submitted(vendor, with_(options=asked))

    assert f'"element_list":[{{"element_id":{BIG}}}]'.encode() in vendor.calls[0].content


@pytest.mark.parametrize("model_id", [TEXT, V2_TEXT])
async def test_callers_own_fields_cannot_take_our_id_or_address(model_id: str) -> None:
    theirs = {"external_task_id": "stolen", "callback_url": "https://evil.test"}
    vendor = Vendor((200, BOUGHT))

    await submitted(vendor, with_(options={"kling": theirs | {"options": theirs}}), model_id)

    said = msgspec.json.decode(vendor.calls[0].content)
    place = said if model_id is TEXT else said["options"]
    assert (place["external_task_id"], place["callback_url"]) == ("att_1", "https://us.example/cb/t")


def test_callers_own_settings_are_added_to_ours() -> None:
    theirs = {"kling": {"settings": {"seed": 7}, "options": {"watermark_info": {"enabled": True}}}}

    said = body(with_(options=theirs), V2_TEXT)

    assert said["settings"] == {
        "resolution": "1080p",
        "duration": 5,
        "audio": "off",
        "multi_shot": False,
        "seed": 7,
    }
    assert said["options"] == {"watermark_info": {"enabled": True}, "external_task_id": "att_1"}


async def test_no_callback_is_asked_for_when_the_operator_turned_them_off() -> None:
    vendor = Vendor((200, BOUGHT))

    await submitted(vendor, callbacks=False)

    assert b"callback_url" not in vendor.calls[0].content


# --- jobs -------------------------------------------------------------------------------------------------------------


async def test_id_cannot_lead_to_another_path() -> None:
    vendor = Vendor((200, BOUGHT), (200, {"code": 0, "data": []}))
    kling_ = adapter(vendor)

    await kling_.poll(Operation(provider="kling", id="../x?y#z", ref={"endpoint": TEXT}))
    await refusal(kling_.poll(Operation(provider="kling", id="a,b&c", ref={"endpoint": V2_TEXT})))

    assert vendor.targets == ["/v1/videos/text2video/..%2Fx%3Fy%23z", "/tasks?task_ids=a%2Cb%26c"]


async def test_many_jobs_of_api_2_are_one_call_in_the_order_of_the_question() -> None:
    items = [{"id": "B", "status": "processing"}, {"id": "A", "status": "submitted"}]
    legacy = {"task_id": "L", "task_status": "succeed", "task_result": {"videos": [{"url": "https://a/1.mp4"}]}}
    vendor = Vendor((200, {"code": 0, "data": items}), (200, {"code": 0, "data": legacy}))
    ids = [("A", V2_TEXT), ("L", TEXT), ("B", TURBO)]

    statuses = await adapter(vendor).poll_many(
        [Operation(provider="kling", id=id, ref={"endpoint": endpoint}) for id, endpoint in ids]
    )

    assert [type(status) for status in statuses] == [Queued, Succeeded, Running]
    assert vendor.targets == ["/tasks?task_ids=A%2CB", "/v1/videos/text2video/L"]


async def test_one_lost_job_among_many_is_said_to_be_lost() -> None:
    vendor = Vendor((200, {"code": 0, "data": []}), (200, {"code": 0, "data": []}))

    error = await refusal(adapter(vendor).poll_many([Operation(provider="kling", id="A", ref={"endpoint": V2_TEXT})]))

    assert (error.fault.kind, error.fault.verdict) == (Kind.OPERATION_LOST, Verdict.SAME)


@pytest.mark.parametrize(
    ("text", "kind", "verdict"),
    [
        ("Failure to pass the risk control system", Kind.CONTENT_POLICY, Verdict.NEVER),
        ("The image contains sensitive information", Kind.CONTENT_POLICY, Verdict.NEVER),
        ("internal error, try again", Kind.GENERATION_FAILED, Verdict.ELSEWHERE),
    ],
)
@pytest.mark.parametrize("model_id", [TEXT, V2_TEXT])
async def test_late_failure_is_read_by_its_sentence(text: str, kind: Kind, verdict: Verdict, model_id: str) -> None:
    job = {"task_id": "T", "task_status": "failed", "task_status_msg": f"{text} {KEY}"}
    data: Any = job if model_id is TEXT else [{"id": "T", "status": "failed", "message": f"{text} {KEY}"}]

    status = await adapter(Vendor((200, {"code": 0, "data": data}))).poll(
        Operation(provider="kling", id="T", ref={"endpoint": model_id})
    )

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict) == (kind, verdict)
    assert text in status.fault.message
    assert KEY not in status.fault.message


# --- what was lost ----------------------------------------------------------------------------------------------------


async def found(vendor: Any, model_id: str) -> Operation | None:
    return await adapter(vendor).find(SMALL, model_id=model_id, client_id="att_1", callback_url=None, sent_at=SENT_AT)


@pytest.mark.parametrize(
    ("model_id", "status", "said"),
    [
        (TEXT, 400, {"code": 1201, "message": "external_task_id is invalid"}),
        (TEXT, 404, {"code": 1203, "message": "the resource does not exist"}),
        (TEXT, 404, {"message": "no such page"}),
        (TEXT, 200, {"code": 0, "data": None}),
        (TEXT, 401, {"code": 1002, "message": "not found"}),
        (V2_TEXT, 404, {"message": "no such page"}),
        (V2_TEXT, 400, {"code": 1201, "message": "bad"}),
        (V2_TEXT, 500, {"code": 5000, "message": "internal error"}),
    ],
)
async def test_only_a_clear_word_disproves_a_lost_submission(model_id: str, status: int, said: Any) -> None:
    assert isinstance(await refusal(found(Vendor((status, said)), model_id)), ProviderError)


def test_a_job_that_is_not_there_by_our_id_was_not_bought() -> None:
    assert isinstance(adapter(Vendor()), Disproves)


async def test_task_of_another_id_is_not_ours() -> None:
    other = {"code": 0, "data": [{"id": "T", "external_id": "att_2", "status": "submitted"}]}

    assert await found(Vendor((200, other)), V2_TEXT) is None


@pytest.mark.parametrize("model_id", [TEXT, V2_TEXT])
async def test_submission_whose_reply_was_lost_is_found_by_our_id_and_bought_once(
    model_id: str, tmp_path: Path
) -> None:
    with KlingServer(tmp_path) as vendor:
        transport = Transport(guard=Guard())
        kling_ = kling.make(kling.Settings(api_key=Secret(KEY), base_url=vendor.url), transport)
        vendor.say(act("cut_before_accept"), act("accept_then_cut"))
        asked: dict[str, Any] = {"model_id": model_id, "callback_url": None}
        gone = await refusal(kling_.submit(SMALL, client_id="att_1", **asked))
        cut = await refusal(kling_.submit(SMALL, client_id="att_2", **asked))

        places = [
            await kling_.find(SMALL, client_id=client_id, sent_at=SENT_AT, **asked) for client_id in ("att_1", "att_2")
        ]
        await transport.close()

    (row,) = vendor.ledger()
    assert [gone.outcome, cut.outcome] == [Outcome.UNKNOWN, Outcome.UNKNOWN]
    assert row.client_id == "att_2"
    assert places == [None, Operation(provider="kling", id=row.id, ref={"endpoint": model_id})]


@pytest.mark.parametrize(
    "ring",
    [
        {"task_id": "T", "task_status": "processing", "task_info": {"external_task_id": "att_1"}, "created_at": 1},
        {"code": 0, "message": "SUCCEED", "request_id": "r", "data": {"task_id": "T", "task_status": "succeed"}},
        {"id": "T", "external_id": "att_1", "status": "succeeded", "message": "", "outputs": [], "billing": []},
        {"code": 0, "data": [{"id": "T", "status": "succeeded"}]},
        {"code": "0", "data": {"id": "T", "status": "succeeded"}},
    ],
)
def test_callback_names_its_job_in_every_form(ring: dict[str, Any]) -> None:
    claim = adapter(Vendor()).operation_in(msgspec.json.encode(ring), model_id=V2_TEXT)

    assert claim == Operation(provider="kling", id="T", ref={"endpoint": V2_TEXT})
