"""fal's peculiarities: addresses, headers, and words; what every provider must do is in the conformance suite."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from providers import fal
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
    Status,
    VideoRequest,
)
from providers.transport import Transport

pytestmark = pytest.mark.anyio

KEY = "planted-key-id:planted0123456789secret"
V3_TEXT = "fal-ai/kling-video/v3/pro/text-to-video"
V3_IMAGE = "fal-ai/kling-video/v3/pro/image-to-video"
SMALL = VideoRequest(prompt="a boat", seconds=5, audio=False, resolution="1080p")


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
    def urls(self) -> list[str]:
        return [str(call.url) for call in self.calls]


def adapter(vendor: Vendor, **settings: Any) -> fal.Adapter:
    transport = Transport(guard=Guard(), client=httpx.MockTransport(vendor))
    return fal.Adapter(fal.Settings(**{"api_key": Secret(KEY), **settings}), transport)


async def submitted(vendor: Vendor, request: VideoRequest = SMALL, model_id: str = V3_TEXT, **more: Any) -> Operation:
    words = {"callback_url": None, "client_id": "attempt_1", **more.pop("words", {})}
    return await adapter(vendor, **more).submit(request, model_id=model_id, **words)


def frame(handed: str = "https://pictures.example/first.png") -> Media:
    return Media(sha256="0" * 64, content_type="image/png", width=640, height=360, size_bytes=9, handed=handed)


# --- headers and addresses --------------------------------------------------------------------------------------------


async def test_submit_turns_off_fals_own_retries_and_carries_the_key() -> None:
    vendor = Vendor((200, {"request_id": "R"}))

    await submitted(vendor)

    assert vendor.urls == [f"https://queue.fal.run/{V3_TEXT}"]
    assert vendor.calls[0].headers["x-fal-no-retry"] == "1"
    assert vendor.calls[0].headers["authorization"] == f"Key {KEY}"


@pytest.mark.parametrize(
    ("callbacks", "query"), [(True, b"fal_webhook=https%3A%2F%2Fus.example%2Fcb%2Ft%3Fa%3Db"), (False, b"")]
)
async def test_callback_is_asked_for_unless_the_operator_turned_them_off(callbacks: bool, query: bytes) -> None:
    vendor = Vendor((200, {"request_id": "R"}))

    await submitted(vendor, callbacks=callbacks, words={"callback_url": "https://us.example/cb/t?a=b"})

    assert vendor.calls[0].url.query == query


@pytest.mark.parametrize(
    ("endpoint", "app"),
    [
        (V3_IMAGE, "fal-ai/kling-video"),
        ("fal-ai/pika/v2.2/pikascenes", "fal-ai/pika"),
        ("workflows/somebody/a-flow/extra", "workflows/somebody/a-flow"),
        ("comfy/somebody/a-graph", "comfy/somebody/a-graph"),
    ],
)
async def test_address_that_fal_did_not_give_is_the_short_form(endpoint: str, app: str) -> None:
    vendor = Vendor((202, {"status": "IN_PROGRESS"}), (202, {}))
    fals = adapter(vendor, base_url="https://queue.fal.run/")
    operation = Operation(provider="fal", id="R", ref={"endpoint": endpoint})

    await fals.poll(operation)
    await fals.cancel(operation)

    assert vendor.urls == [f"https://queue.fal.run/{app}/requests/R/{call}" for call in ("status", "cancel")]


async def test_addresses_that_fal_gave_are_used_as_they_stand() -> None:
    long_form = f"https://queue.fal.run/{V3_TEXT}/requests/R"
    urls = {"status_url": f"{long_form}/status?logs=0", "response_url": f"{long_form}/response"}
    done = {"status": "COMPLETED"}
    vendor = Vendor(
        (200, {"request_id": "R", **urls}), (200, done), (200, {"video": {"url": "https://v3.fal.media/a"}})
    )
    fals = adapter(vendor)

    operation = await fals.submit(SMALL, model_id=V3_TEXT, callback_url=None, client_id="a")
    await fals.poll(operation)

    assert vendor.urls[1:] == [urls["status_url"], urls["response_url"]]


@pytest.mark.parametrize(
    "base",
    [
        "https://queue.fal.run.evil.test",
        "https://evil.test/https://queue.fal.run",
        "http://queue.fal.run",
        "https://queue.fal.run:8443",
        "https://user@queue.fal.run",
        "//queue.fal.run",
    ],
)
async def test_address_elsewhere_is_not_called_at_all(base: str) -> None:
    urls = dict.fromkeys(("status_url", "response_url", "cancel_url"), f"{base}/stolen")
    vendor = Vendor((200, {"request_id": "R", **urls}), (202, {"status": "IN_PROGRESS"}), (202, {}))
    fals = adapter(vendor)

    operation = await fals.submit(SMALL, model_id=V3_TEXT, callback_url=None, client_id="a")
    await fals.poll(operation)
    await fals.cancel(operation)

    short = "https://queue.fal.run/fal-ai/kling-video/requests/R"
    assert vendor.urls[1:] == [f"{short}/status", f"{short}/cancel"]


async def test_id_cannot_lead_to_another_path() -> None:
    vendor = Vendor((202, {"status": "IN_PROGRESS"}))

    await adapter(vendor).poll(Operation(provider="fal", id="../x?y#z", ref={"endpoint": V3_TEXT}))

    assert vendor.calls[0].url.raw_path == b"/fal-ai/kling-video/requests/..%2Fx%3Fy%23z/status"


@pytest.mark.parametrize("host", ["v3.fal.media", "rest.fal.ai"])
async def test_upload_asks_for_a_place_and_puts_the_bytes_there_without_the_key(host: str) -> None:
    place = {"upload_url": f"https://{host}/put/1?signature=s", "file_url": "https://v3.fal.media/files/1.png"}
    vendor = Vendor((200, place), (200, {}))

    address = await adapter(vendor).upload(msgspec.structs.replace(frame(), data=b"a picture"))

    initiate, put = vendor.calls
    assert address == place["file_url"]
    assert str(initiate.url) == "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
    assert msgspec.json.decode(initiate.content) == {"content_type": "image/png", "file_name": f"{'0' * 16}.png"}
    assert (put.method, str(put.url), put.content) == ("PUT", place["upload_url"], b"a picture")
    assert "authorization" not in put.headers


# --- words ------------------------------------------------------------------------------------------------------------


def refused(request: VideoRequest, model_id: str) -> str:
    with pytest.raises(ProviderError) as caught:
        fal.to_body(request, model_id)
    assert caught.value.fault.kind is Kind.UNSUPPORTED
    assert caught.value.outcome is Outcome.NOT_SENT
    return caught.value.fault.message


def test_endpoint_of_unknown_words_is_refused_and_not_guessed() -> None:
    assert "model_id" in refused(SMALL, "fal-ai/somebody-elses/model")
    assert "model_id" in refused(SMALL, "fal-ai/kling-video/v3/pro/motion-control")


def test_shots_take_the_prompts_place() -> None:
    shots = (Shot(prompt="one", seconds=2), Shot(prompt="two", seconds=3))

    body = fal.to_body(msgspec.structs.replace(SMALL, prompt="", shots=shots), V3_TEXT)

    assert "prompt" not in body
    assert "prompt beside shots" in refused(msgspec.structs.replace(SMALL, shots=shots), V3_TEXT)


def test_last_frame_needs_a_first_one() -> None:
    assert "last_frame without first_frame" in refused(msgspec.structs.replace(SMALL, last_frame=frame()), V3_IMAGE)


def test_picture_that_was_not_handed_over_is_not_left_out() -> None:
    lost = msgspec.structs.replace(frame(), handed=None)

    for field, value in {"first_frame": lost, "last_frame": lost, "references": (lost,)}.items():
        request = msgspec.structs.replace(SMALL, **{"first_frame": frame(), field: value})
        assert "picture" in refused(request, "fal-ai/kling-video/o3/pro/reference-to-video")


def test_sound_is_always_said_where_it_can_be_and_refused_where_it_cannot() -> None:
    loud = msgspec.structs.replace(SMALL, audio=True)

    assert fal.to_body(SMALL, V3_TEXT)["generate_audio"] is False
    assert fal.to_body(loud, V3_TEXT)["generate_audio"] is True
    assert "generate_audio" not in fal.to_body(SMALL, "fal-ai/pika/v2.2/text-to-video")
    assert "audio" in refused(loud, "fal-ai/pika/v2.2/text-to-video")


def test_pika_takes_numbers_and_several_pictures_where_kling_takes_strings() -> None:
    request = msgspec.structs.replace(SMALL, references=(frame("https://a/1"), frame("https://a/2")), seed=7)

    body = fal.to_body(request, "fal-ai/pika/v2.2/pikascenes")

    assert (body["duration"], body["image_urls"], body["seed"]) == (5, ["https://a/1", "https://a/2"], 7)
    assert fal.to_body(SMALL, V3_TEXT)["duration"] == "5"


def test_callers_own_fields_are_added_and_change_nothing_that_we_said() -> None:
    options = {"fal": {"cfg_scale": 0.9, "elements": [{"frontal_image_url": "https://a/1"}]}, "other": {"x": 1}}

    body = fal.to_body(msgspec.structs.replace(SMALL, cfg_scale=0.1, options=options), V3_TEXT)

    assert body["cfg_scale"] == 0.1
    assert body["elements"] == [{"frontal_image_url": "https://a/1"}]
    assert "x" not in body


# --- what is told -----------------------------------------------------------------------------------------------------


async def polled(*replies: tuple[int, Any]) -> Status:
    return await adapter(Vendor(*replies)).poll(Operation(provider="fal", id="R", ref={"endpoint": V3_TEXT}))


async def test_failure_says_where_and_what_but_not_what_the_caller_wrote() -> None:
    said = {"loc": ["body", "multi_prompt", 1, "duration"], "msg": "Input should be '1' to '15'", "type": "one_of"}
    detail = [said | {"input": "the caller's own words"}, {"msg": "and another", "type": "x" * 500}]

    status = await polled((200, {"status": "COMPLETED"}), (422, {"detail": detail}))

    assert isinstance(status, Failed)
    assert "body.multi_prompt.1.duration: Input should be '1' to '15'; and another" in status.fault.message
    assert "own words" not in status.fault.message
    assert status.fault.code == "one_of"


async def test_key_in_the_queues_own_error_is_not_shown() -> None:
    status = await polled((200, {"status": "COMPLETED", "error": f"bad key {KEY} and {KEY[-23:]}"}), (200, {}))

    assert isinstance(status, Failed)
    assert status.fault.message.count("•••") == 2


async def test_running_job_costs_one_call() -> None:
    vendor = Vendor((202, {"status": "IN_PROGRESS", "logs": None}))

    status = await adapter(vendor).poll(Operation(provider="fal", id="R", ref={"endpoint": V3_TEXT}))

    assert status == Running()
    assert len(vendor.calls) == 1
