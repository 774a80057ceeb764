"""AtlasCloud's peculiarities: paths and keys, addresses, signed callbacks, words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from providers import atlascloud
from providers.guard import Guard
from providers.spec import (
    Failed,
    Kind,
    Media,
    Operation,
    Outcome,
    ProviderError,
    Running,
    Secret,
    Shot,
    Verdict,
    VideoRequest,
)
from providers.transport import Transport
from tests.vendors.atlascloud import AtlasServer
from tests.vendors.server import Options
from tests.vendors.transcripts import Call, Means, Transcript, filled, transcripts

pytestmark = pytest.mark.anyio

KEY = "planted-key-0123456789"
PRO_TEXT = "kwaivgi/kling-v3.0-pro/text-to-video"
PRO_IMAGE = "kwaivgi/kling-v3.0-pro/image-to-video"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="1080p", aspect_ratio="16:9")
BASE = "https://api.atlascloud.ai/api/v1"
TAKEN = (200, {"code": 200, "data": {"id": "A", "status": "processing"}})
RUNNING = (200, {"code": 200, "data": {"id": "A", "status": "processing"}})


class Told:
    """Answers each call with the next reply, and keeps the calls."""

    def __init__(self, *replies: tuple[int, Any]) -> None:
        self._replies = iter(replies)
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        status, body = next(self._replies)
        return httpx.Response(status, stream=httpx.ByteStream(msgspec.json.encode(body)))

    @property
    def urls(self) -> list[str]:
        return [str(call.url) for call in self.calls]

    def adapter(self, **settings: Any) -> atlascloud.Adapter:
        transport = Transport(guard=Guard(), client=httpx.MockTransport(self))
        return atlascloud.Adapter(atlascloud.Settings(**{"api_key": Secret(KEY), **settings}), transport)

    async def submit(self, request: VideoRequest = SMALL, model_id: str = PRO_TEXT, **settings: Any) -> Operation:
        url = settings.pop("callback_url", None)
        return await self.adapter(**settings).submit(request, model_id=model_id, callback_url=url, client_id="a")


def before(server: AtlasServer, **settings: Any) -> atlascloud.Adapter:
    """The adapter with the server's addresses, through the connections of production."""
    urls = {"base_url": f"{server.url}/api/v1", "billing_url": f"{server.url}/public/v1"}
    settings = {"api_key": Secret(KEY), **urls, **settings}
    return atlascloud.Adapter(atlascloud.Settings(**settings), Transport(guard=Guard()))


def frame(handed: str | None = "https://pictures.example/first.png") -> Media:
    return Media(sha256="0" * 64, content_type="image/png", width=640, height=360, size_bytes=9, handed=handed)


# --- a key, or a path -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "key", "kind", "code"),
    [
        ("/v1", KEY, Kind.UNAVAILABLE, "wrong_path"),  # the address of Atlas's language models
        ("", KEY, Kind.UNAVAILABLE, "wrong_path"),
        ("/api/v1", "a-key-that-nobody-knows", Kind.AUTHENTICATION, ""),
        ("/v1", "a-key-that-nobody-knows", Kind.AUTHENTICATION, ""),
    ],
)
async def test_401_on_a_wrong_path_is_told_apart_from_a_bad_key(
    tmp_path: Path, path: str, key: str, kind: Kind, code: str
) -> None:
    with AtlasServer(tmp_path, Options(keys=(KEY,))) as server:
        adapter = before(server, api_key=Secret(key), base_url=server.url + path)

        with pytest.raises(ProviderError) as caught:
            await adapter.submit(SMALL, model_id=PRO_TEXT, callback_url=None, client_id="a")

        posts = [seen for seen in server.requests() if seen.method == "POST"]
        assert server.ledger() == []
    error = caught.value
    assert (error.fault.kind, error.fault.code, error.outcome) == (kind, code, Outcome.REJECTED)
    assert error.fault.verdict is Verdict.ELSEWHERE
    assert len(posts) == 1


async def test_401_is_the_keys_when_atlas_cannot_be_asked() -> None:
    told = Told((401, {"code": 401}), (500, {}))

    with pytest.raises(ProviderError) as caught:
        await told.submit()

    assert caught.value.fault.kind is Kind.AUTHENTICATION
    assert told.urls == [f"{BASE}/model/generateVideo", "https://api.atlascloud.ai/public/v1/balance"]


# --- addresses and headers --------------------------------------------------------------------------------------------


async def test_every_call_names_its_agent_and_only_atlas_gets_the_key() -> None:
    told = Told(TAKEN, RUNNING, (200, {"data": {"download_url": "https://files.example/1"}}), (200, {"keys": []}))
    adapter = told.adapter(user_agent="an agent")

    operation = await adapter.submit(SMALL, model_id=PRO_TEXT, callback_url=None, client_id="a")
    await adapter.poll(operation)
    await adapter.upload(msgspec.structs.replace(frame(), data=b"a picture"))
    with pytest.raises(ProviderError):
        await adapter.check_callback({"x-atlascloud-timestamp": str(int(adapter._now()))}, b"{}")

    assert [call.headers["user-agent"] for call in told.calls] == ["an agent"] * 4
    assert [call.headers.get("authorization") for call in told.calls] == [f"Bearer {KEY}"] * 3 + [None]


async def test_address_that_atlas_gave_is_asked_as_it_stands() -> None:
    told = Told((200, {"data": {"id": "A", "urls": {"get": f"{BASE}/model/result/A"}}}), RUNNING)
    adapter = told.adapter()

    operation = await adapter.submit(SMALL, model_id=PRO_TEXT, callback_url=None, client_id="a")
    await adapter.poll(operation)

    assert told.urls[1] == f"{BASE}/model/result/A"


async def test_given_address_that_turns_out_to_be_a_wrong_path_gives_way_to_the_usual_one() -> None:
    told = Told((401, {"code": 401, "msg": "unauthorized"}), RUNNING)
    operation = Operation(provider="atlascloud", id="A", ref={"get": f"{BASE}/model/result/A"})

    status = await told.adapter().poll(operation)

    assert status == Running()
    assert told.urls == [f"{BASE}/model/result/A", f"{BASE}/model/prediction/A"]


@pytest.mark.parametrize(
    "given",
    [
        "https://api.atlascloud.ai.evil.test/api/v1/model/prediction/A",
        "https://evil.test/https://api.atlascloud.ai/",
        "http://api.atlascloud.ai/api/v1/model/prediction/A",
        "https://api.atlascloud.ai:8443/api/v1/model/prediction/A",
        "https://user@api.atlascloud.ai/api/v1/model/prediction/A",
        "//api.atlascloud.ai/api/v1/model/prediction/A",
    ],
)
async def test_address_elsewhere_is_not_called_at_all(given: str) -> None:
    told = Told((200, {"data": {"id": "A", "urls": {"get": given}}}), RUNNING)
    adapter = told.adapter()

    await adapter.poll(await adapter.submit(SMALL, model_id=PRO_TEXT, callback_url=None, client_id="a"))

    assert told.urls[1] == f"{BASE}/model/prediction/A"


async def test_id_cannot_lead_to_another_path() -> None:
    told = Told(RUNNING)

    await told.adapter().poll(Operation(provider="atlascloud", id="../x?y#z"))

    assert told.calls[0].url.raw_path == b"/api/v1/model/prediction/..%2Fx%3Fy%23z"


@pytest.mark.parametrize("status", [400, 404])
async def test_job_that_atlas_does_not_know_yet_is_asked_about_again(status: int) -> None:
    told = Told((status, {"code": status, "msg": "prediction not found"}), RUNNING)
    adapter, operation = told.adapter(), Operation(provider="atlascloud", id="A")

    with pytest.raises(ProviderError) as caught:
        await adapter.poll(operation)
    later = await adapter.poll(operation)

    assert (caught.value.fault.kind, caught.value.fault.verdict) == (Kind.OPERATION_LOST, Verdict.SAME)
    assert later == Running()


@pytest.mark.parametrize(
    "reply",
    [
        {"code": 200, "message": "success", "data": {"type": "image", "download_url": "https://files.example/1.png"}},
        {"url": "https://files.example/1.png"},
    ],
)
async def test_both_forms_of_an_uploads_reply_are_read(reply: Any) -> None:
    told = Told((200, reply))

    address = await told.adapter().upload(msgspec.structs.replace(frame(), data=b"a picture"))

    assert address == "https://files.example/1.png"


async def test_upload_without_an_address_is_no_upload() -> None:
    with pytest.raises(ProviderError):
        await Told((200, {"data": {}})).adapter().upload(msgspec.structs.replace(frame(), data=b"a picture"))


async def test_key_in_a_jobs_own_error_is_not_shown() -> None:
    told = Told((200, {"data": {"status": "failed", "error": f"bad key {KEY} " + "x" * 900, "error_code": 1}}))

    status = await told.adapter().poll(Operation(provider="atlascloud", id="A"))

    assert isinstance(status, Failed)
    assert KEY not in status.fault.message
    assert len(status.fault.message) <= 500


# --- callbacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("callbacks", "asked"), [(True, "https://us.example/cb/t?a=b"), (False, None)])
async def test_callback_is_asked_for_unless_the_operator_turned_them_off(callbacks: bool, asked: str | None) -> None:
    told = Told(TAKEN)

    await told.submit(callbacks=callbacks, callback_url="https://us.example/cb/t?a=b")

    assert msgspec.json.decode(told.calls[0].content).get("webhook_url") == asked


async def test_options_change_neither_the_model_nor_who_is_called_back() -> None:
    told = Told(TAKEN)
    mine = {"model": "kwaivgi/kling-v3.0-4k/text-to-video", "webhook_url": "https://evil.test/", "cfg_scale": 0.9}
    request = msgspec.structs.replace(SMALL, cfg_scale=0.1, options={"atlascloud": mine})

    await told.submit(request, callback_url="https://us.example/cb/t")

    body = msgspec.json.decode(told.calls[0].content)
    assert (body["model"], body["webhook_url"], body["cfg_scale"]) == (PRO_TEXT, "https://us.example/cb/t", 0.1)


# --- words ------------------------------------------------------------------------------------------------------------


def refused(request: VideoRequest, model_id: str) -> str:
    with pytest.raises(ProviderError) as caught:
        atlascloud.to_body(request, model_id)
    assert caught.value.fault.kind is Kind.UNSUPPORTED
    assert caught.value.outcome is Outcome.NOT_SENT
    return caught.value.fault.message


def test_sound_has_another_name_for_o3s_pictures_and_none_for_turbo() -> None:
    silent = msgspec.structs.replace(SMALL, aspect_ratio=None)
    framed = msgspec.structs.replace(silent, first_frame=frame())

    assert atlascloud.to_body(SMALL, "kwaivgi/kling-video-o3-pro/text-to-video")["sound"] is False
    assert atlascloud.to_body(framed, "kwaivgi/kling-video-o3-pro/image-to-video")["generate_audio"] is False
    assert "sound" not in atlascloud.to_body(framed, "kwaivgi/kling-v3.0-turbo/image-to-video")
    loud = msgspec.structs.replace(framed, audio=True)
    assert "audio" in refused(loud, "kwaivgi/kling-v3.0-turbo/image-to-video")


def test_resolution_is_said_to_turbo_alone() -> None:
    assert atlascloud.to_body(SMALL, "kwaivgi/kling-v3.0-turbo/text-to-video")["resolution"] == "1080p"
    assert "resolution" not in atlascloud.to_body(SMALL, PRO_TEXT)


def test_picture_is_called_image_and_never_left_out() -> None:
    request = msgspec.structs.replace(
        SMALL, aspect_ratio=None, first_frame=frame(), last_frame=frame("data:image/png,")
    )

    body = atlascloud.to_body(request, PRO_IMAGE)

    assert (body["image"], body["end_image"]) == ("https://pictures.example/first.png", "data:image/png,")
    assert "image_url" not in body
    assert "picture" in refused(msgspec.structs.replace(request, last_frame=frame(None)), PRO_IMAGE)
    assert "last_frame without" in refused(msgspec.structs.replace(request, first_frame=None), PRO_IMAGE)


def test_what_is_not_known_is_refused_and_not_guessed() -> None:
    assert "model_id" in refused(SMALL, "kwaivgi/kling-v3.0-pro/motion-control")
    assert "shots" in refused(msgspec.structs.replace(SMALL, shots=(Shot(prompt="one", seconds=5),)), PRO_TEXT)


# --- what documents and clients tell ----------------------------------------------------------------------------------

TOLD = transcripts("atlascloud")


@pytest.mark.parametrize("name", TOLD)
async def test_adapter_keeps_to_the_transcript(name: str) -> None:
    transcript = TOLD[name]
    values = transcript.values | {"$base": "https://api.atlascloud.ai"}
    told = Told(*((one.reply.status, filled(one.reply.body, values)) for one in transcript.exchanges))
    adapter = told.adapter(api_key=Secret(values["$key"]))
    operation = Operation(provider="atlascloud", id=values.get("$id", "none"))

    for call in transcript.calls:
        made = await _made(adapter, call, transcript, operation)
        assert made == msgspec.convert(filled(call.means, values), Means)

    assert len(told.calls) == len(transcript.exchanges)
    for sent, one in zip(told.calls, transcript.exchanges, strict=True):
        path = filled(one.request.path, values)
        assert (sent.method, str(sent.url)) == (one.request.method, f"https://api.atlascloud.ai{path}")
        assert filled(one.request.headers, values).items() <= dict(sent.headers).items()
        if one.request.form:
            form = one.request.form
            head = f'form-data; name="{form.field}"; filename="'
            assert head in sent.content.decode()
            assert f"content-type: {form.content_type}\r\n\r\n{form.text}\r\n--" in sent.content.decode()
        else:
            assert (msgspec.json.decode(sent.content) if sent.content else None) == one.request.body


async def _made(adapter: atlascloud.Adapter, call: Call, transcript: Transcript, operation: Operation) -> Means:
    ask = dict(transcript.ask)
    words = {"model_id": ask.pop("model_id", ""), "callback_url": ask.pop("callback_url", None), "client_id": "a"}
    ask |= {name: frame(ask[name]) for name in ("first_frame", "last_frame") if name in ask}
    try:
        match call.call:
            case "submit":
                return Means(operation=(await adapter.submit(VideoRequest(**ask), **words)).id)
            case "upload":
                form = call.exchanges[0].request.form
                assert form is not None
                return Means(address=await adapter.upload(msgspec.structs.replace(frame(), data=form.text.encode())))
            case _:
                status = await adapter.poll(operation)
    except ProviderError as error:
        said = msgspec.structs.replace(error.fault, message="")
        return Means(error=said, outcome=error.outcome if call.call == "submit" else None)
    if isinstance(status, Failed):
        status = msgspec.structs.replace(status, fault=msgspec.structs.replace(status.fault, message=""))
    return Means(status=status)
