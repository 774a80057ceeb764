"""Hostile and mistaken bodies: each gets its 4xx with a code that teaches, and none gets a 5xx."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api import application, parts, wire
from gateway.api.form import CreateForm, understood
from gateway.api.problems import Problem
from tests.api_house import House, opened

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "kling-v3-pro", "prompt": "a kite", **fields}).encode()


def raw(text: str) -> bytes:
    """A plain request with `text` as one more field."""
    return b'{"model":"kling-v3-pro","prompt":"a kite",' + text.encode("utf-8", "surrogatepass") + b"}"


DEEP = "[" * 40 + "]" * 40
KITE, DUNE = "https://pictures.example/kite.png", "https://pictures.example/dune.png"
FIRST = {"image_url": DUNE, "frame_type": "first_frame"}
PRICE, LATENCY = "provider.max_price.request", "provider.preferred_max_latency"
BAD_JSON: list[tuple[str, bytes, int, str, str | None]] = [
    ("truncated", b'{"model":"kling-v3-pro"', 400, "invalid_json", None),
    ("empty", b"", 400, "invalid_json", None),
    ("white space", b" \n ", 400, "invalid_json", None),
    ("null", b"null", 422, "invalid_body", None),
    ("a list", b"[]", 422, "invalid_body", None),
    ("a text", b'"hello"', 422, "invalid_body", None),
    ("trailing bytes", body() + b" x", 400, "invalid_json", None),
    ("broken UTF-8", b'{"model":"kling\xff","prompt":"x"}', 400, "invalid_encoding", None),
    ("BOM", b"\xef\xbb\xbf" + body(), 400, "invalid_json", None),
    ("UTF-16", body().decode().encode("utf-16"), 400, "invalid_json", None),
    ("lone surrogate", raw('"user":"\\ud800"'), 400, "invalid_json", None),
    ("NaN", raw('"cfg_scale":NaN'), 400, "invalid_json", None),
    ("Infinity", raw('"cfg_scale":Infinity'), 400, "invalid_json", None),
    ("1e400", raw('"cfg_scale":1e400'), 422, "out_of_range", "cfg_scale"),
    ("5,000 digits", raw(f'"seed":{"9" * 5000}'), 422, "out_of_range", "seed"),
    ("seed 2^63", body(seed=2**63), 422, "out_of_range", "seed"),
    ("seed 2^64", body(seed=2**64), 422, "out_of_range", "seed"),
    ("seed -1", body(seed=-1), 422, "out_of_range", "seed"),
    ("U+0000 in the prompt", body(prompt="a\0b"), 422, "invalid_character", None),
    ("U+0000 in metadata", body(metadata={"a": "\0"}), 422, "invalid_character", None),
    ("U+0000 in a name", body(metadata={"\0": "a"}), 422, "invalid_character", None),
    ("a raw NUL byte", b'{"model":"a\x00"}', 400, "invalid_json", None),
    ("text for a number", body(seed="5"), 422, "wrong_type", "seed"),
    ("true for a number", body(seed=True), 422, "wrong_type", "seed"),
    ("true for seconds", body(seconds=True), 422, "wrong_type", "seconds"),
    ("5.5 seconds", body(seconds=5.5), 422, "wrong_type", "seconds"),
    ("seconds abc", body(seconds="abc"), 422, "wrong_type", "seconds"),
    ("seconds of other digits", body(seconds="٥"), 422, "wrong_type", "seconds"),
    ("0 seconds", body(seconds=0), 422, "out_of_range", "seconds"),
    ("seconds 2^70", body(seconds=2**70), 422, "out_of_range", "seconds"),
    ("seconds and duration differ", body(seconds=5, duration=6), 422, "conflicting_parameters", "duration"),
    ("text for a truth", body(generate_audio="true"), 422, "wrong_type", "generate_audio"),
    ("no prompt", b'{"model":"kling-v3-pro"}', 422, "missing_field", "prompt"),
    ("null prompt", body(prompt=None), 422, "missing_field", "prompt"),
    ("unknown field", body(promt="x"), 422, "unknown_field", "promt"),
    ("another dialect's field", body(image_url="https://x.example/a.png"), 422, "unknown_field", "image_url"),
    ("unknown inner field", body(shots=[{"prompt": "x", "secs": 2}]), 422, "unknown_field", "shots[0].secs"),
    ("unknown provider field", body(provider={"onlyy": []}), 422, "unknown_field", "provider.onlyy"),
    ("blank prompt", body(prompt=" \n\t"), 422, "invalid_value", "prompt"),
    ("long prompt", body(prompt="x" * 32_001), 422, "too_long", "prompt"),
    ("unknown model", body(model="kling-v3-por"), 404, "model_not_found", "model"),
    ("empty model", body(model=""), 422, "too_short", "model"),
    ("unknown camera", body(camera="somersault"), 422, "invalid_value", "camera"),
    ("size", body(size="big"), 422, "invalid_value", "size"),
    ("resolution", body(resolution="720"), 422, "invalid_value", "resolution"),
    ("aspect ratio", body(aspect_ratio="wide"), 422, "invalid_value", "aspect_ratio"),
    ("aspect ratio of nothing", body(aspect_ratio="16:0"), 422, "invalid_value", "aspect_ratio"),
    ("cfg_scale", body(cfg_scale=7), 422, "out_of_range", "cfg_scale"),
    ("metadata of numbers", body(metadata={"a": 1}), 422, "wrong_type", "metadata"),
    ("much metadata", body(metadata={str(n): "x" for n in range(17)}), 422, "invalid_value", "metadata"),
    ("callback_url", body(callback_url="http://x.example"), 422, "invalid_callback_url", "callback_url"),
    ("deadline of no time", body(deadline_seconds=0), 422, "out_of_range", "deadline_seconds"),
    ("max_price", body(provider={"max_price": {"request": "cheap"}}), 422, "wrong_type", PRICE),
    ("max_price nan", body(provider={"max_price": {"request": "nan"}}), 422, "out_of_range", PRICE),
    ("sort", body(provider={"sort": "beauty"}), 422, "invalid_value", "provider.sort"),
    ("percentile", body(provider={"preferred_max_latency": {"p95": 3}}), 422, "unknown_field", f"{LATENCY}.p95"),
    ("latency", body(provider={"preferred_max_latency": {"p90": -3}}), 422, "out_of_range", f"{LATENCY}.p90"),
    ("two firsts", body(input_reference=KITE, frame_images=[FIRST]), 422, "conflicting_parameters", "frame_images"),
    ("no frame type", body(frame_images=[{"image_url": KITE}]), 422, "missing_field", "frame_images[0].frame_type"),
    ("a number for a picture", body(input_reference=7), 422, "invalid_value", "input_reference"),
    ("going on by OpenRouter's name", body(previous_job_id="x"), 422, "unsupported_operation", "previous_job_id"),
    ("a file_id of nobody's", body(input_reference={"file_id": "file-1"}), 404, "file_not_found", "input_reference"),
    ("a shot of no seconds", body(shots=[{"prompt": "x"}]), 422, "missing_field", "shots[0].seconds"),
    ("too deep", raw(f'"provider":{{"options":{{"fal":{{"x":{DEEP}}}}}}}'), 400, "body_too_deep", None),
    ("100,000 deep", raw('"provider":' + "[" * 100_000), 400, "body_too_complex", None),
    ("a key twice", raw('"seed":1,"seed":2'), 400, "duplicate_field", "seed"),
    ("a key twice, once in disguise", raw('"seed":1,"s\\u0065ed":2'), 400, "duplicate_field", "seed"),
    ("an inner key twice", raw('"metadata":{"a":"1","a":"2"}'), 400, "duplicate_field", "a"),
    ("a form that says JSON", b"--x\r\ncontent-disposition: form-data", 400, "form_labelled_json", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sent", "status", "code", "param"), BAD_JSON, ids=[row[0] for row in BAD_JSON])
async def test_a_bad_json_body_is_refused_with_its_code(
    house: House, name: str, sent: bytes, status: int, code: str, param: str | None
) -> None:
    answer = await house.client.post("/v1/videos", content=sent, headers=JSON)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-should-retry"] == "false"
    assert (await house.store.list_jobs("local", after=None, limit=1))[0] == ()


GOOD_JSON = [
    ("seconds as text", body(seconds="5")),
    ("duration as text", body(duration="5")),
    ("5.0 seconds", body(seconds=5.0)),
    ("nulls", body(seconds=None, size=None, seed=None, user=None)),
    ("text of every script", body(prompt="שלום 👩‍👩‍👧 \U0001f3f4 ‮ “kite”")),
    ("an escaped backslash before u0000", raw('"user":"\\\\u0000"')),
    ("a key inside a text", raw('"user":"\\"seed\\": 1, \\"seed\\": 2"')),
    (
        "the same key in two objects",
        b'{"model":"kling-v3-pro","shots":[{"prompt":"a","seconds":3},{"prompt":"b","seconds":3}]}',
    ),
    ("brackets in the prompt", body(prompt="[" * 400)),
    ("the same size by three names", body(size="1920x1080", resolution="1080p", aspect_ratio="16:9")),
]


@pytest.mark.parametrize(("name", "sent"), GOOD_JSON, ids=[row[0] for row in GOOD_JSON])
async def test_an_unusual_but_sound_body_is_taken(house: House, name: str, sent: bytes) -> None:
    answer = await house.client.post("/v1/videos", content=sent, headers=JSON)

    assert answer.status_code == 200, answer.text
    assert answer.json()["prompt"] == json.loads(sent).get("prompt")


TYPES = [
    ("text/plain", 415, "unsupported_content_type"),
    ("", 415, "unsupported_content_type"),
    ("application/json; charset=utf-7", 415, "unsupported_charset"),
    ("application/x-www-form-urlencoded", 415, "unsupported_content_type"),
    ("application/msgpack", 415, "unsupported_content_type"),
    ("application/xml", 415, "unsupported_content_type"),
    ("multipart/mixed; boundary=x", 415, "unsupported_content_type"),
    ("multipart/form-data", 400, "invalid_form"),
    ('multipart/form-data; boundary=""', 400, "invalid_form"),
    ("multipart/form-data; boundary=" + "x" * 71, 400, "invalid_form"),
]


@pytest.mark.parametrize(("kind", "status", "code"), TYPES)
async def test_another_content_type_is_refused(house: House, kind: str, status: int, code: str) -> None:
    answer = await house.client.post("/v1/videos", content=body(), headers={"content-type": kind} if kind else {})

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, identity"])
async def test_a_compressed_body_is_never_unpacked(house: House, encoding: str) -> None:
    answer = await house.client.post("/v1/videos", content=body(), headers=JSON | {"content-encoding": encoding})

    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_content_encoding")


async def test_json_in_explicit_utf8_is_taken(house: House) -> None:
    kind = {"content-type": 'application/json; charset="UTF-8"'}

    assert (await house.client.post("/v1/videos", content=body(), headers=kind)).status_code == 200


async def test_a_body_above_the_cap_is_413_announced_or_not(house: House) -> None:
    huge = b'{"prompt":"' + b"x" * wire.LARGE + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(huge), 1 << 20):
            yield huge[start : start + (1 << 20)]

    announced = await house.client.post("/v1/videos", content=huge, headers=JSON)
    chunked = await house.client.post("/v1/videos", content=chunks(), headers=JSON)

    for answer in (announced, chunked):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"


async def test_a_body_that_comes_in_single_bytes_is_read_whole(house: House) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for byte in body(seconds=5):
            yield bytes((byte,))

    answer = await house.client.post("/v1/videos", content=drip(), headers=JSON)

    assert answer.status_code == 200


async def test_a_body_that_stops_coming_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.05)
    never = asyncio.Event()

    async def stall() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    answer = await house.client.post("/v1/videos", content=stall(), headers=JSON)

    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_timeout")


async def test_a_body_that_drips_is_given_up_however_long_it_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "BODY_SECONDS", 0.1)

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield b" "
            await asyncio.sleep(0.005)  # the pace of the attack, far below what an honest line does

    answer = await house.client.post("/v1/videos", content=drip(), headers=JSON)

    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_timeout")


async def test_a_caller_that_hangs_up_leaves_no_job_and_no_error_in_the_log(house: House) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body()[:20], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(_: Any) -> None: ...

    headers = [(b"authorization", b"Bearer dev"), (b"content-type", b"application/json"), (b"host", b"filmgate.test")]
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "query_string": b"", "headers": headers}

    with structlog.testing.capture_logs() as logs:
        await cast(Any, application(house.rooms))(scope, receive, send)

    assert (await house.store.list_jobs("local", after=None, limit=1))[0] == ()
    assert logs == []


async def test_an_unknown_field_names_the_nearest_known(house: House) -> None:
    for wrong, right in (("promt", "prompt"), ("image", "input_reference"), ("ratio", "aspect_ratio")):
        error = (await house.client.post("/v1/videos", content=body(**{wrong: "x"}), headers=JSON)).json()["error"]

        assert error["nearest"] == right
        assert right in error["message"]


# --- anything at all --------------------------------------------------------------------------------------------------


def _decoded(sent: bytes) -> None:
    """Whatever else than a Problem is raised here would be a 500."""
    with contextlib.suppress(Problem):
        understood(wire.decode(sent, CreateForm, dec_hook=parts.picture)).fingerprint()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted(CreateForm.__struct_fields__)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=5))
def test_no_json_value_in_any_field_breaks_the_decoder(fields: dict[str, Any]) -> None:
    sent = json.dumps({"model": "m", "prompt": "p"} | fields).encode()

    _decoded(sent)


@settings(max_examples=300, deadline=None)
@given(sent=st.binary(max_size=200) | st.text(alphabet='{}[]":,\\0123e-.aX \n', max_size=80).map(str.encode))
def test_no_bytes_break_the_json_decoder(sent: bytes) -> None:
    _decoded(sent)
