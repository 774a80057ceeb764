"""Multipart forms: what the SDKs write means what the same JSON would, and nothing is guessed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import parts, wire
from gateway.api.form import CreateForm, understood
from gateway.api.parts import SentPicture
from gateway.api.problems import Problem
from tests.api_house import House, opened, picture, served

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


PLAIN = {"model": "kling-v3-pro", "prompt": "a kite"}


def form(*entries: tuple[str, str], boundary: str = "b", end: bool = True) -> dict[str, Any]:
    text = "".join(
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in entries
    )
    return {
        "content": (text + (f"--{boundary}--\r\n" if end else "")).encode(),
        "headers": {"content-type": f"multipart/form-data; boundary={boundary}"},
    }


def plain(*entries: tuple[str, str]) -> dict[str, Any]:
    return form(*PLAIN.items(), *entries)


BAD_FORMS: list[tuple[str, dict[str, Any], int, str, str | None]] = [
    ("no parts", form(), 422, "missing_field", "prompt"),
    ("cut off", form(*PLAIN.items(), end=False), 400, "invalid_form", None),
    ("257 parts", form(*((f"metadata[{n}]", "x") for n in range(257))), 413, "form_too_large", None),
    ("a scalar twice", plain(("prompt", "another")), 400, "duplicate_field", "prompt"),
    ("a text and its keys", plain(("metadata", "{}"), ("metadata[a]", "x")), 400, "duplicate_field", "metadata"),
    ("a list and a scalar", plain(("shots[]", "{}"), ("shots", "[]")), 400, "duplicate_field", "shots"),
    ("broken brackets", plain(("metadata[a", "x")), 400, "invalid_form", None),
    ("too many brackets", plain(("metadata" + "[a]" * 9, "x")), 400, "invalid_form", None),
    ("a NUL", plain(("user", "a\0")), 422, "invalid_character", "user"),
    ("a number that is none", plain(("seed", "x")), 422, "wrong_type", "seed"),
    ("a truth that is none", plain(("generate_audio", "yes")), 422, "wrong_type", "generate_audio"),
    ("cfg nan", plain(("cfg_scale", "nan")), 422, "out_of_range", "cfg_scale"),
    ("unknown field", plain(("promt", "x")), 422, "unknown_field", "promt"),
    ("index too large", plain(("shots[999][prompt]", "x")), 422, "too_long", "shots"),
    ("one index twice", plain(("shots[0][prompt]", "x"), ("shots[00][prompt]", "y")), 422, "too_long", "shots"),
    (
        "a list whose elements blur",
        plain(("shots[][prompt]", "a"), ("shots[][seconds]", "3"), ("shots[][prompt]", "b")),
        422,
        "ambiguous_list",
        "shots",
    ),
    ("numbered and not", plain(("shots[][prompt]", "a"), ("shots[1][prompt]", "b")), 422, "ambiguous_list", "shots"),
    ("broken inner JSON", plain(("metadata", "{")), 400, "invalid_json", "metadata"),
    ("a form's file for a text", plain(("input_reference", "   ")), 422, "invalid_value", "input_reference"),
]


@pytest.mark.parametrize(("name", "sent", "status", "code", "param"), BAD_FORMS, ids=[row[0] for row in BAD_FORMS])
async def test_a_bad_form_is_refused_with_its_code(
    house: House, name: str, sent: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    answer = await house.client.post("/v1/videos", **sent)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text


async def test_a_text_part_in_another_encoding_is_refused(house: House) -> None:
    sent = plain(("user", "caf?"))
    sent["content"] = sent["content"].replace(b"caf?", b"caf\xe9")

    answer = await house.client.post("/v1/videos", **sent)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_encoding")


async def test_a_file_for_the_prompt_is_a_wrong_type(house: House) -> None:
    answer = await house.client.post("/v1/videos", data={"model": "kling-v3-pro"}, files={"prompt": ("p.txt", b"x")})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "wrong_type", "prompt")
    assert "a file" in error["message"]


async def _nested(*entries: tuple[str, str]) -> Any:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in form(*entries)["content"]:  # a boundary may fall anywhere
            yield bytes((byte,))

    return await parts.read_form(pieces(), boundary="b")


async def test_bracket_keys_nest_as_json_would() -> None:
    found = await _nested(
        ("metadata[a]", "1"),
        ("metadata[0]", "2"),
        ("shots[1][prompt]", "second"),
        ("shots[0][prompt]", "first"),
        ("shots[1][seconds]", "3"),
        ("shots[0][seconds]", "2"),
        ("provider[order][]", "fal"),
        ("provider[order][]", "kling"),
        ("provider[max_price][request]", "0.5"),
        ("provider[options]", '{"fal": {"x": [1]}}'),
        ("input_reference[image_url]", "https://x.example/a.png"),
    )

    assert found == {
        "metadata": {"a": "1", "0": "2"},
        "shots": [{"prompt": "first", "seconds": "2"}, {"prompt": "second", "seconds": "3"}],
        "provider": {
            "order": ["fal", "kling"],
            "max_price": {"request": "0.5"},
            "options": {"fal": {"x": [1]}},
        },
        "input_reference": {"image_url": "https://x.example/a.png"},
    }


@pytest.mark.parametrize(
    "order",
    [
        ("prompt=a", "seconds=2", "prompt=b", "seconds=3"),  # object by object, as JavaScript writes
        ("prompt=a", "prompt=b", "seconds=2", "seconds=3"),  # key by key, as Python's form encoder does
    ],
)
async def test_unnumbered_objects_are_told_apart_in_either_order(order: tuple[str, ...]) -> None:
    pairs = [entry.split("=") for entry in order]

    found = await _nested(*((f"shots[][{name}]", value) for name, value in pairs))

    assert found == {"shots": [{"prompt": "a", "seconds": "2"}, {"prompt": "b", "seconds": "3"}]}


async def test_a_prompt_that_looks_like_json_stays_a_text() -> None:
    found = await _nested(("prompt", '{"a": 1}'), ("shots[0][prompt]", "[wide] a cat"), ("metadata[x]", "{}"))

    assert found == {"prompt": '{"a": 1}', "shots": [{"prompt": "[wide] a cat"}], "metadata": {"x": "{}"}}


async def test_json_and_form_mean_the_same_and_share_a_fingerprint() -> None:
    sent = {
        "model": "kling-v3-pro",
        "prompt": "a kite",
        "seconds": "6",
        "seed": 7,
        "generate_audio": True,
        "cfg_scale": 0.5,
        "metadata": {"a": "b"},
        "shots": [{"prompt": "x", "seconds": 6}],
        "provider": {"sort": "price", "only": ["fal"], "max_price": {"request": 0.1}, "allow_fallbacks": False},
        "frame_images": [{"image_url": "https://x.example/a.png", "frame_type": "last_frame"}],
        "input_reference": {"image_url": "https://x.example/b.png"},
    }
    flat = await _nested(
        ("provider[allow_fallbacks]", "false"),
        ("provider[max_price][request]", "0.1"),
        ("provider[only][]", "fal"),
        ("provider[sort]", "price"),
        ("shots", '[{"prompt": "x", "seconds": 6}]'),
        ("metadata[a]", "b"),
        ("cfg_scale", "0.5"),
        ("generate_audio", "true"),
        ("seed", "7"),
        ("seconds", "6"),
        ("prompt", "a kite"),
        ("model", "kling-v3-pro"),
        ("frame_images[][image_url]", "https://x.example/a.png"),
        ("frame_images[][frame_type]", "last_frame"),
        ("input_reference", "https://x.example/b.png"),
    )

    by_json = understood(wire.decode(json.dumps(sent).encode(), CreateForm, dec_hook=parts.picture))
    by_form = understood(wire.convert(flat, CreateForm, dec_hook=parts.picture))

    assert by_json.preferences == by_form.preferences
    assert by_json.preferences.max_price_usd_micros == 100_000
    assert by_json.video == by_form.video
    assert by_json.fingerprint() == by_form.fingerprint()


def test_another_file_is_another_fingerprint() -> None:
    def asked(data: bytes) -> str:
        form = {"model": "m", "prompt": "p", "input_reference": SentPicture(data=data)}
        return understood(wire.convert(form, CreateForm, dec_hook=parts.picture)).fingerprint()

    assert asked(b"one") != asked(b"two")
    assert asked(b"one") == asked(b"one")


@pytest.mark.parametrize("shape", ["plain", "openrouter", "text", "part"])
async def test_a_picture_may_be_written_in_every_dialect(house: House, shape: str) -> None:
    address = "https://pictures.example/kite.png"
    house.strangers[address] = served(picture())
    written: dict[str, Any] = {
        "plain": {"image_url": address},
        "openrouter": {"type": "image_url", "image_url": {"url": address}},
        "text": address,
        "part": {"url": address},
    }

    video = await house.create(input_reference=written[shape])

    job = await house.job(video["id"])
    assert job.spec.video.first_frame is not None
    assert job.spec.video.first_frame.source_url == address
    assert (job.spec.video.first_frame.width, job.spec.video.first_frame.height) == (640, 360)


form_bytes = st.lists(
    st.sampled_from(
        [
            b"--b",
            b"--b--",
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b'content-disposition: form-data; name="shots[0][prompt]"',
            b'content-disposition: form-data; name="shots[]"',
            b'Content-Disposition: form-data; name="metadata[]"; filename="x"',
            b"content-type: text/plain; charset=utf-16",
            b"content-length: 3",
            b" folded",
            b"x",
            b"{}",
            b"\xff\x00",
            b":",
        ]
    ),
    max_size=24,
).map(b"".join)


@pytest.mark.parametrize("step", [1, 7, 4096])
@settings(max_examples=300, deadline=None)
@given(sent=form_bytes | st.binary(max_size=64))
async def test_no_bytes_break_the_form_reader(step: int, sent: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), step):
            yield sent[start : start + step]

    with contextlib.suppress(Problem):  # whatever else is raised would be a 500
        found = await parts.read_form(pieces(), boundary="b")
        understood(wire.convert(found, CreateForm, dec_hook=parts.picture))


async def test_a_chunk_that_only_says_the_end_is_no_error(house: House) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        sent = plain()["content"]
        yield sent[:-2]
        yield sent[-2:]  # the last line break, after the last boundary
        yield b""

    headers = plain()["headers"]

    assert (await house.client.post("/v1/videos", content=pieces(), headers=headers)).status_code == 200
