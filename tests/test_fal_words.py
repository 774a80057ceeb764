"""fal's arguments, and what becomes of each: honoured, said to be ignored, or refused in the client's own names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import fal_answers, fal_words
from gateway.api.fal_paths import Act, Endpoints, app_of, call_of, call_through_proxy
from gateway.api.problems import Problem
from gateway.catalogue import Alias, load
from gateway.settings import shipped
from providers.spec import Mode, Shot
from tests.api_house import House, opened, picture, served

V3_TEXT, V3_PICTURE = "fal-ai/kling-video/v3/pro/text-to-video", "fal-ai/kling-video/v3/pro/image-to-video"
O3_REFERENCES = "fal-ai/kling-video/o3/pro/reference-to-video"
PIKA = "fal-ai/pika/v2.2/text-to-video"
ENDPOINTS = Endpoints(
    load([shipped() / "catalogue" / f"{name}.toml" for name in ("fal", "wavespeed", "sandbox", "runway")]),
    {"sora-2": Alias(models=("kling-v3-pro",), seconds=4)},
)
FIRST, LAST = "https://pictures.example/first.png", "https://pictures.example/last.png"


def wishes(path: str, **arguments: Any) -> fal_words.Wishes:
    return fal_words.understood(json.dumps(arguments).encode(), ENDPOINTS.find(path))


def asked(path: str, **arguments: Any) -> Any:
    return wishes(path, **arguments).asked


# --- endpoints and addresses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "model", "mode"),
    [
        (V3_TEXT, "kling-v3-pro", Mode.TEXT),
        (V3_PICTURE, "kling-v3-pro", Mode.FIRST_FRAME),
        (O3_REFERENCES, "kling-o3-pro", Mode.REFERENCES),
        (PIKA, "pika-2.2", Mode.TEXT),
        ("filmgate/runway-gen4.5", "runway-gen4.5", None),
        ("filmgate/runway-gen4.5/image-to-video", "runway-gen4.5", Mode.FIRST_FRAME),
        ("fal-ai/sora-2/text-to-video", "sora-2", Mode.TEXT),
        ("wavespeed/kling-v3-pro/text-to-video", "wavespeed/kling-v3-pro", Mode.TEXT),
        ("kling-v3-pro", "kling-v3-pro", None),
    ],
)
def test_an_endpoint_names_a_model_and_how_its_clips_begin(path: str, model: str, mode: Mode | None) -> None:
    found = ENDPOINTS.find(path)

    assert (found.model, found.mode) == (model, mode)
    assert app_of(found.path).count("/") == 1


def test_an_unknown_endpoint_is_answered_with_the_nearest() -> None:
    with pytest.raises(Problem) as caught:
        ENDPOINTS.find("fal-ai/kling-video/v3/por/text-to-video")

    assert (caught.value.status, caught.value.nearest) == (404, V3_TEXT)


@pytest.mark.parametrize(
    ("method", "path", "act", "name"),
    [
        ("POST", f"/{V3_TEXT}", Act.SUBMIT, V3_TEXT),
        ("POST", f"/run/{V3_TEXT}", Act.RUN, V3_TEXT),
        ("GET", "/fal-ai/kling-video/requests/r", Act.RESULT, "r"),
        ("GET", f"/{V3_TEXT}/requests/r/response", Act.RESULT, "r"),
        ("GET", f"/{V3_TEXT}/requests/r/status", Act.STATUS, "r"),
        ("GET", "/fal-ai/kling-video/requests/r/status/stream", Act.STREAM, "r"),
        ("PUT", "/fal-ai/kling-video/requests/r/cancel", Act.CANCEL, "r"),
        ("GET", "/.well-known/jwks.json", Act.KEYS, ""),
        ("POST", "/storage/upload/initiate", Act.INITIATE, ""),
        ("PUT", "/storage/upload/abc", Act.PUT, "abc"),
        ("POST", "/files/upload", Act.UPLOAD, ""),
        ("GET", "/files/abc/a.png", Act.FILE, "abc"),
        ("GET", "/run/fal-ai/any/realtime", Act.LIVE, "fal-ai/any/realtime"),
        ("POST", "/tokens/", Act.LIVE, ""),
    ],
)
def test_a_path_is_read_from_its_right_end(method: str, path: str, act: Act, name: str) -> None:
    call = call_of(method, path)

    assert (call.act, call.name) == (act, name)


@pytest.mark.parametrize(
    ("target", "act"),
    [
        (f"https://queue.fal.run/{V3_TEXT}?fal_webhook=x", Act.SUBMIT),
        (f"https://fal.run/{V3_TEXT}", Act.RUN),
        ("https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3", Act.INITIATE),
    ],
)
def test_a_target_of_fals_is_a_path_of_ours(target: str, act: Act) -> None:
    assert call_through_proxy("POST", target).act is act


@pytest.mark.parametrize(
    "target",
    [
        "",
        "http://queue.fal.run/x/y",
        "https://queue.fal.run.evil.example/x/y",
        "https://evil.example/x/y",
        "https://[",
        "file:///etc/passwd",
        "https://queue.fal.run@evil.example/x/y",
    ],
)
def test_any_other_target_is_refused(target: str) -> None:
    with pytest.raises(Problem) as caught:
        call_through_proxy("POST", target)

    assert caught.value.status == 400


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image_url", "start_image_url"])
def test_both_names_of_the_first_picture_are_taken(name: str) -> None:
    found = asked(V3_PICTURE, prompt="a", **{name: FIRST}, tail_image_url=LAST)

    assert (found.first_frame.text, found.last_frame.text) == (FIRST, LAST)
    assert found.endpoint == V3_PICTURE


@pytest.mark.parametrize(("duration", "seconds"), [("8", 8), (8, 8), (8.0, 8), ("8s", 8), (None, None)])
def test_a_length_is_text_or_a_number(duration: Any, seconds: int | None) -> None:
    assert asked(V3_TEXT, prompt="a", duration=duration).video.seconds == seconds


def test_sound_is_on_where_fal_makes_it_and_off_where_it_is_told_or_cannot() -> None:
    assert asked(V3_TEXT, prompt="a").video.audio is True
    assert asked(V3_TEXT, prompt="a", generate_audio=False).video.audio is False
    assert asked(PIKA, prompt="a").video.audio is None
    assert asked("filmgate/kling-v3-pro", prompt="a").video.audio is None
    silent = asked(PIKA, prompt="a", generate_audio=True)
    assert (silent.video.audio, silent.ignored) == (
        None,
        ("ignored, because nothing here has a use for it: generate_audio",),
    )


def test_unknown_fields_are_ignored_and_named() -> None:
    found = asked(
        V3_TEXT, prompt="a", enable_safety_checker=True, voice_ids=["x"], image_url=FIRST, generate_audio=True
    )

    assert found.ignored == (
        "ignored, because nothing here has a use for it: enable_safety_checker, voice_ids, image_url",
    )
    assert found.first_frame is None


def test_a_shape_beside_a_picture_is_ignored_where_the_clip_follows_it() -> None:
    beside = asked(V3_PICTURE, prompt="a", image_url=FIRST, aspect_ratio="16:9", generate_audio=True)
    alone = asked(V3_TEXT, prompt="a", aspect_ratio="16:9")

    assert beside.video.aspect_ratio is None
    assert "aspect_ratio=16:9 was ignored" in beside.ignored[0]
    assert alone.video.aspect_ratio == "16:9"


def test_several_prompts_are_shots() -> None:
    found = asked(V3_TEXT, multi_prompt=[{"prompt": "a", "duration": "3"}, {"prompt": "b"}], shot_type="intelligent")

    assert found.video.shots == (Shot(prompt="a", seconds=3), Shot(prompt="b", seconds=5))
    assert "shot_type=intelligent was ignored" in " ".join(found.ignored)


def test_elements_become_reference_pictures_where_the_endpoint_takes_some() -> None:
    element = {"frontal_image_url": FIRST, "reference_image_urls": [LAST]}
    found = asked(
        O3_REFERENCES, prompt="@Element1 beside @Image1", elements=[element], image_urls=["https://x.example/"]
    )
    elsewhere = asked(V3_PICTURE, prompt="a", image_url=FIRST, elements=[element], generate_audio=True)

    assert [sent.text for sent in found.references] == ["https://x.example/", FIRST, LAST]
    assert found.video.prompt == "@Image2 beside @Image1"
    assert elsewhere.ignored == ("ignored, because nothing here has a use for it: elements",)


def test_a_resolution_that_the_endpoint_cannot_choose_is_ignored() -> None:
    assert asked(V3_TEXT, prompt="a", resolution="720p").video.resolution is None
    assert asked(V3_TEXT, prompt="a", resolution="1080p").video.resolution == "1080p"
    assert asked(PIKA, prompt="a", resolution="1080p").video.resolution == "1080p"


def test_what_an_endpoint_of_fals_has_no_field_for_is_ignored_as_fal_ignores_it() -> None:
    turbo = asked("fal-ai/kling-video/v3/turbo/pro/image-to-video", prompt="a", image_url=FIRST, end_image_url=LAST)
    pika = asked(PIKA, prompt="a", multi_prompt=[{"prompt": "b"}])

    assert (turbo.last_frame, turbo.ignored) == (
        None,
        ("ignored, because nothing here has a use for it: end_image_url",),
    )
    assert (pika.video.shots, pika.ignored) == ((), ("ignored, because nothing here has a use for it: multi_prompt",))


def test_what_fal_counts_on_is_asked_for_first_and_what_fal_ignores_never_in_its_way() -> None:
    both = wishes(V3_TEXT, prompt="a", negative_prompt="blur", seed=4)
    spare = wishes(V3_TEXT, prompt="a", seed=4)

    assert (both.asked.video.negative_prompt, both.asked.video.seed) == ("blur", None)
    assert both.asked.preferences.require_parameters
    assert "seed" in both.asked.ignored[-1]
    assert both.else_asked is not None
    assert (both.else_asked.video.seed, both.else_asked.preferences.require_parameters) == (4, False)
    assert (spare.asked.video.seed, spare.asked.preferences.require_parameters, spare.else_asked) == (4, False, None)


def test_how_it_is_bought_can_be_said_in_the_arguments_and_by_fals_own_header() -> None:
    body = json.dumps({"prompt": "a", "provider": {"only": ["wavespeed"], "max_price": {"request": 1}}}).encode()
    said = fal_words.understood(body, ENDPOINTS.find(V3_TEXT)).asked.preferences
    pinned = fal_words.understood(b'{"prompt":"a"}', ENDPOINTS.find(V3_TEXT), pinned=True).asked.preferences

    assert (said.only, said.max_price_usd_micros) == (("wavespeed",), 1_000_000)
    assert pinned.only == ("fal",)


@pytest.mark.parametrize(
    ("path", "arguments", "param", "code"),
    [
        (V3_TEXT, {}, "prompt", "missing_field"),
        (V3_TEXT, {"prompt": 5}, "prompt", "wrong_type"),
        (V3_TEXT, {"prompt": "a", "duration": "long"}, "duration", "wrong_type"),
        (V3_TEXT, {"prompt": "a", "cfg_scale": 9}, "cfg_scale", "out_of_range"),
        (V3_PICTURE, {"prompt": "a"}, "image_url", "missing_field"),
        (O3_REFERENCES, {"prompt": "a"}, "image_urls", "missing_field"),
        (V3_TEXT, {"multi_prompt": [{"prompt": "a", "duration": "x"}]}, "multi_prompt[0].duration", "wrong_type"),
        (V3_TEXT, {"prompt": "a", "provider": {"onyl": []}}, "provider.onyl", "unknown_field"),
    ],
)
def test_what_is_wrong_is_named_as_the_client_names_it(
    path: str, arguments: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(Problem) as caught:
        wishes(path, **arguments)

    assert (caught.value.status, caught.value.param, caught.value.code) == (422, param, code)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = [field.name for field in msgspec.structs.fields(fal_words.Arguments)]


@given(
    path=st.sampled_from(
        [V3_TEXT, V3_PICTURE, O3_REFERENCES, PIKA, "filmgate/sandbox", "fal-ai/sora-2/image-to-video"]
    ),
    arguments=st.dictionaries(st.sampled_from(_FIELDS) | st.text(max_size=8), _JSON, max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_no_arguments_end_in_anything_but_an_answer(path: str, arguments: dict[str, Any]) -> None:
    body = json.dumps({"prompt": "a", "image_url": FIRST, **arguments}).encode()
    status = 200
    try:
        assert fal_words.understood(body, ENDPOINTS.find(path)).asked.fingerprint()
    except Problem as problem:
        status = fal_answers.refused(problem).status

    assert status in (200, 400, 422)


# --- bought -----------------------------------------------------------------------------------------------------------


async def bought(house: House, path: str, **arguments: Any) -> dict[str, Any]:
    answer = await house.client.post(f"/fal/{path}", json=arguments)
    assert answer.status_code == 200, answer.text
    return dict((await house.client.get(f"/v1/videos/{answer.json()['request_id']}")).json())


@pytest.mark.anyio
async def test_what_was_ignored_stands_among_the_warnings_and_in_the_logs(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        house.strangers[FIRST] = served(picture(width=640, height=640))
        arguments = {"prompt": "a", "image_url": FIRST, "aspect_ratio": "16:9", "duration": "8", "tail": 1, "seed": 3}
        video = await bought(house, V3_PICTURE, **arguments)
        place = (
            await house.client.get(f"/fal/fal-ai/kling-video/requests/{video['id']}/status?logs=1", headers={})
        ).json()
        await house.start(video["id"])
        running = await house.client.get(place["status_url"], params={"logs": "1"})

    said = " | ".join(video["warnings"])
    assert "aspect_ratio=16:9 was ignored" in said
    assert "nothing here has a use for it: tail" in said
    assert "this backend has no word for it: seed" in said
    told = [line["message"] for line in running.json()["logs"] if line["level"] == "WARN"]
    assert told == video["warnings"]


@pytest.mark.anyio
async def test_a_refusal_says_who_could_do_what_in_fals_shape(tmp_path: Path) -> None:
    async with opened(tmp_path) as house:
        answer = await house.client.post(f"/fal/{V3_TEXT}", json={"prompt": "a", "duration": "22"})

    (detail,) = answer.json()["detail"]
    assert answer.status_code == 422
    assert (detail["loc"], detail["type"]) == (["body", "duration"], "one_of")
    assert detail["ctx"]["nearest"] == "duration=15"
    assert detail["ctx"]["refusals"][0]["backend"] == "fal/kling-v3-pro"
