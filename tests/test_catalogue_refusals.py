"""Why a backend cannot: a code, a sentence, the field, the change that would do, and who else could."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.catalogue import AudioGrant, Catalogue, Code, PictureLimits, explain
from gateway.catalogue import refusal as refuse
from gateway.catalogue.refusing import MEANINGS, Flaw, table
from gateway.jobs import Preferences
from providers.spec import Camera, Mode, Shot, VideoRequest
from tests.catalogue_rows import asked, backend, find, only, picture, shipped

WIDE, TALL = picture(1920, 1080), picture(1080, 1920)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "video", "code", "param", "nearest"),
    [
        ({}, VideoRequest(seconds=20), Code.SECONDS, "seconds", "seconds=15"),
        ({}, VideoRequest(seconds=2), Code.SECONDS, "seconds", "seconds=3"),
        ({"audio": "never"}, VideoRequest(audio=True), Code.AUDIO, "generate_audio", "generate_audio=false"),
        ({}, VideoRequest(resolution="4k"), Code.RESOLUTION, "resolution", "resolution=720p"),
        ({}, VideoRequest(resolution="huge"), Code.RESOLUTION, "resolution", "resolution=720p"),
        (
            {"resolutions": ("720p", "1080p")},
            VideoRequest(resolution="1440p"),
            Code.RESOLUTION,
            "resolution",
            "resolution=1080p",
        ),
        ({}, VideoRequest(aspect_ratio="5:4"), Code.ASPECT_RATIO, "aspect_ratio", "aspect_ratio=1:1"),
        ({}, VideoRequest(aspect_ratio="wide"), Code.ASPECT_RATIO, "aspect_ratio", "aspect_ratio=16:9"),
        ({"aspect_ratios": ()}, VideoRequest(aspect_ratio="1:1"), Code.ASPECT_RATIO, "aspect_ratio", None),
        ({}, VideoRequest(width=1920, height=1080), Code.RESOLUTION, "size", "size=1280x720"),
        ({}, VideoRequest(width=720, height=800), Code.ASPECT_RATIO, "size", "size=720x720"),
        (
            {},
            VideoRequest(first_frame=WIDE, aspect_ratio="9:16"),
            Code.FOLLOWS_PICTURE,
            "aspect_ratio",
            "the picture cropped to 608x1080 at x=656, y=0",
        ),
        (
            {},
            VideoRequest(first_frame=TALL, width=1280, height=720),
            Code.FOLLOWS_PICTURE,
            "size",
            "the picture cropped to 1080x608 at x=0, y=656",
        ),
        (
            {},
            VideoRequest(first_frame=picture(400, 400), aspect_ratio="16:9"),
            Code.FOLLOWS_PICTURE,
            "aspect_ratio",
            "aspect_ratio left out",  # the crop would be too small a picture
        ),
        (
            {},
            VideoRequest(first_frame=WIDE, width=1920, height=1080),
            Code.RESOLUTION,
            "size",
            "size=1280x720",
        ),
        ({"model_id": {Mode.TEXT: "t"}}, VideoRequest(first_frame=WIDE), Code.MODE, "input_reference", None),
        ({"model_id": {Mode.FIRST_FRAME: "i"}}, VideoRequest(prompt="a"), Code.MODE, "input_reference", None),
        ({}, VideoRequest(references=(WIDE,)), Code.MODE, "input_references", None),
        ({}, VideoRequest(first_frame=WIDE, last_frame=WIDE), Code.LAST_FRAME, "frame_images", None),
        ({"last_frame": True}, VideoRequest(last_frame=WIDE), Code.LAST_FRAME_ALONE, "frame_images", None),
        (
            {"model_id": {Mode.REFERENCES: "r"}, "references": 2},
            VideoRequest(references=(WIDE, WIDE, WIDE)),
            Code.REFERENCES,
            "input_references",
            "2 input_references",
        ),
        (
            {"model_id": {Mode.REFERENCES: "r"}, "references": 2},
            VideoRequest(references=(WIDE,), first_frame=WIDE),
            Code.PICTURES_MIXED,
            "input_references",
            "input_references left out",
        ),
        ({}, VideoRequest(shots=(Shot(prompt="a", seconds=5),)), Code.SHOTS, "shots", "shots left out"),
        (
            {"shots": 1},
            VideoRequest(shots=(Shot(prompt="a", seconds=2), Shot(prompt="b", seconds=2))),
            Code.SHOTS,
            "shots",
            "1 shots",
        ),
        (
            {"shots": 6},
            VideoRequest(shots=(Shot(prompt="a", seconds=9), Shot(prompt="b", seconds=9))),
            Code.SECONDS,
            "shots",
            "shots of 15 s in all",
        ),
        (
            {"shots": 6},
            VideoRequest(seconds=9, shots=(Shot(prompt="a", seconds=5),)),
            Code.SHOTS_SUM,
            "shots",
            "seconds=5",
        ),
        (
            {"shots": 6},
            VideoRequest(prompt="all", shots=(Shot(prompt="a", seconds=5),)),
            Code.PROMPT_WITH_SHOTS,
            "prompt",
            "prompt left out, since each shot has its own",
        ),
        (
            {"camera": (Camera.STATIC,)},
            VideoRequest(camera=Camera.PAN_LEFT),
            Code.CAMERA,
            "camera",
            "camera left out",
        ),
        ({"prompt_max": 3}, VideoRequest(prompt="long"), Code.PROMPT, "prompt", "a prompt of at most 3 characters"),
        (
            {"prompt_max": 3, "shots": 2},
            VideoRequest(shots=(Shot(prompt="long", seconds=5),)),
            Code.PROMPT,
            "prompt",
            None,
        ),
        ({}, VideoRequest(width=1280, height=720, resolution="1080p"), Code.SHAPE_CONFLICT, "resolution", None),
        ({}, VideoRequest(width=1280, height=720, aspect_ratio="1:1"), Code.SHAPE_CONFLICT, "aspect_ratio", None),
    ],
)
def test_what_a_backend_does_not_grant_is_refused_with_the_change_that_would_do(
    changes: dict[str, Any], video: VideoRequest, code: Code, param: str, nearest: str | None
) -> None:
    refused = only(asked(backend(**changes), video))

    assert (refused.code, refused.param, refused.also) == (code, param, ())
    assert nearest is None or refused.nearest == nearest
    assert refused.nearest
    assert refused.message.startswith("acme/one ")
    assert "(asked: " in refused.message


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        (
            {"size_bytes": 12_000_000, "content_type": "image/png"},
            Code.PICTURE_BYTES,
            "takes pictures of at most 10 MB (asked: a first frame of 12 MB)",
        ),
        (
            {"size_bytes": 10_000_001},
            Code.PICTURE_BYTES,
            "takes pictures of at most 10 MB (asked: a first frame of 10.1 MB)",
        ),
        (
            {"width": 200, "height": 200},
            Code.PICTURE_SIDE,
            "takes pictures of at least 300 pixels a side (asked: a first frame of 200x200)",
        ),
        (
            {"width": 3000, "height": 600},
            Code.PICTURE_RATIO,
            "takes pictures from 1:2.5 to 2.5:1 (asked: a first frame of 3000x600)",
        ),
        (
            {"content_type": "image/gif"},
            Code.PICTURE_FORMAT,
            "takes JPEG or PNG pictures (asked: a GIF first frame)",
        ),
    ],
)
def test_a_picture_beyond_the_vendors_limits_is_refused(changes: dict[str, Any], code: Code, sentence: str) -> None:
    media = msgspec.structs.replace(WIDE, **changes)

    refused = only(find(shipped(), "kling-v3-pro", VideoRequest(first_frame=media)))

    assert (refused.code, refused.param) == (code, "input_reference")
    assert refused.message == f"fal/kling-v3-pro {sentence}"


def test_every_picture_is_judged_by_its_own_part() -> None:
    small = picture(100, 100)
    row = backend(last_frame=True, picture=PictureLimits(min_side=200, formats=("image/jpeg",)))

    refused = only(asked(row, VideoRequest(first_frame=WIDE, last_frame=small)))

    assert (refused.code, refused.param) == (Code.PICTURE_SIDE, "frame_images")
    assert "last frame of 100x100" in refused.message


def test_all_reasons_of_one_backend_are_told_together() -> None:
    refused = only(asked(backend(audio="never"), VideoRequest(seconds=20, audio=True, resolution="4k")))

    assert (refused.code, refused.also) == (Code.SECONDS, (Code.AUDIO, Code.RESOLUTION))
    assert refused.nearest == "seconds=15, generate_audio=false, resolution=720p"
    assert refused.message == (
        "acme/one makes 3–15 s (asked: 20 s); makes silent clips only (asked: sound); makes 720p only (asked: 4k)"
    )


# --- in one paragraph -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "video", "message"),
    [
        (
            "kling-v3-pro",
            VideoRequest(prompt="a", seconds=20),
            "No backend of kling-v3-pro makes 20 s: fal/kling-v3-pro makes 3–15 s. Nearest: seconds=15. "
            "No other model of the catalogue can either.",
        ),
        (
            "pika-2.2",
            VideoRequest(prompt="a", audio=True),
            "No backend of pika-2.2 makes sound: fal/pika-2.2 makes silent clips only. Nearest: generate_audio=false. "
            "As asked, it can be made by kling-o3-standard, kling-v3-standard, kling-o3-pro, kling-v2.6-pro, "
            "and 3 more.",
        ),
        (
            "fal/pika-2.2",
            VideoRequest(prompt="a", audio=True, seed=7),
            "No backend of fal/pika-2.2 makes sound: fal/pika-2.2 makes silent clips only. "
            "Nearest: generate_audio=false. Each of these makes sound, though not all of this request: "
            "kling-v3-pro, kling-v3-standard, kling-v3-4k, kling-o3-standard, and 3 more.",
        ),
        (
            "kling-v3-pro",
            VideoRequest(first_frame=WIDE, aspect_ratio="9:16"),
            "No backend of kling-v3-pro makes 9:16 from this picture: fal/kling-v3-pro makes clips in the picture's "
            "own shape, 16:9 (1920x1080). Nearest: the picture cropped to 608x1080 at x=656, y=0. "
            "No other model of the catalogue can either.",
        ),
        (
            "kling-v3-pro",
            VideoRequest(first_frame=picture(size_bytes=12_000_000, content_type="image/png")),
            "No backend of kling-v3-pro takes a first frame of 12 MB: fal/kling-v3-pro takes pictures of at most "
            "10 MB. Nearest: a first frame of at most 10 MB. "
            "As asked, it can be made by kling-v3-turbo-standard, kling-v3-turbo-pro.",
        ),
        (
            "kling-v3-pro",
            VideoRequest(last_frame=WIDE),
            "No backend of kling-v3-pro takes a last frame alone: fal/kling-v3-pro takes a last frame only beside a "
            "first frame. Nearest: a first frame as well (input_reference).",
        ),
    ],
)
def test_a_person_reads_why_what_would_do_and_who_could(model: str, video: VideoRequest, message: str) -> None:
    found = find(shipped(), model, video)

    said = explain(found, shipped())

    assert said.message == message
    assert (said.code, said.param, said.nearest) == (
        found.refusals[0].code,
        found.refusals[0].param,
        found.refusals[0].nearest,
    )


def test_models_without_a_credential_are_named_as_such() -> None:
    catalogue = Catalogue([backend("acme/mute", audio=AudioGrant.NEVER), backend("beta/loud")])
    video = VideoRequest(prompt="a", audio=True)

    said = explain(find(catalogue, "mute", video, configured=frozenset({"acme"})), catalogue)

    assert said.message.endswith("As asked, it could be made by loud, for which no credential is set here.")


def test_a_backend_that_was_never_asked_about_a_picture_is_not_said_to_take_it() -> None:
    text_only = backend("acme/words", model_id={Mode.TEXT: "t"})
    catalogue = Catalogue([text_only, backend("acme/one")])

    said = explain(find(catalogue, "one", VideoRequest(first_frame=picture(100, 100))), catalogue)

    assert said.message.endswith("No other model of the catalogue can either.")


def test_the_refusal_that_is_nearest_to_a_yes_speaks_for_all() -> None:
    catalogue = Catalogue(
        [
            backend("acme/one", audio=AudioGrant.NEVER),
            backend("beta/one", usd_per_second=None),
            backend("gamma/one"),
        ]
    )
    video = VideoRequest(prompt="a", seconds=20, audio=True)

    said = explain(find(catalogue, "one", video, Preferences(ignore=("beta",))))

    assert (said.code, said.nearest) == (Code.SECONDS, "seconds=15")
    assert said.message == (
        "No backend of one makes 20 s: gamma/one makes 3–15 s; "
        "acme/one makes 3–15 s (asked: 20 s); makes silent clips only (asked: sound); "
        "beta/one is among provider.ignore. Nearest: seconds=15."
    )


def test_a_backend_that_only_rests_speaks_before_those_that_cannot() -> None:
    found = find(Catalogue([backend("acme/one"), backend("beta/one")]), "one", VideoRequest(seconds=20))
    rests = refuse("gamma/one", [Flaw(Code.UNAVAILABLE, None, "is", "out of service: it rests", "", "a later try")])

    said = explain(found, refusals=(*found.refusals, rests))

    assert said.code is Code.UNAVAILABLE
    assert said.message.startswith("No backend of one can make this clip now: gamma/one is out of service: it rests; ")


def test_long_lists_are_cut_and_counted() -> None:
    catalogue = Catalogue([backend(f"p{number}/one") for number in range(7)])

    said = explain(find(catalogue, "one", VideoRequest(seconds=99)))

    assert said.message.count("makes 3–15 s") == 4
    assert "; and 3 more. Nearest" in said.message


def test_there_is_nothing_to_explain_without_a_refusal() -> None:
    found = find(Catalogue([backend()]), "one", VideoRequest(prompt="a"))

    with pytest.raises(ValueError, match="without refusals"):
        explain(found)


def test_readme_lists_every_code_with_its_meaning() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")

    assert set(MEANINGS) == set(Code)
    assert f"\n\n{table()}\n" in readme
