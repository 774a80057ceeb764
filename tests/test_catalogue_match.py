"""Who can make this clip, and what it is closed to: nothing that was asked changes, what was left open is said."""

from __future__ import annotations

import pytest

from gateway.catalogue import Alias, AudioGrant, Catalogue, Code, Seconds, match
from gateway.jobs import Preferences
from providers.spec import Camera, Shot, VideoRequest
from tests.catalogue_rows import asked, backend, find, only, picture

WIDE, TALL = picture(1920, 1080), picture(1080, 1920)
EASY = VideoRequest(prompt="a fox")


# --- what is closed ---------------------------------------------------------------------------------------------------


def test_what_is_left_open_is_closed_and_said() -> None:
    found = asked(backend(), EASY)

    (candidate,) = found.candidates
    assert candidate.request == VideoRequest(
        prompt="a fox", seconds=5, resolution="720p", aspect_ratio="16:9", audio=False
    )
    assert candidate.size == "1280x720"
    assert candidate.quote.usd_micros == 500_000
    assert candidate.warnings == (
        "seconds was not given: the clip is 5 s long",
        "generate_audio was not given: the clip is silent",
    )


def test_what_is_asked_stays_as_it_is_without_a_warning() -> None:
    video = VideoRequest(prompt="a fox", seconds=8, resolution="720p", aspect_ratio="9:16", audio=True)

    (candidate,) = asked(backend(), video).candidates

    assert candidate.request == video
    assert (candidate.size, candidate.warnings) == ("720x1280", ())


def test_the_nearest_duration_is_taken_only_when_none_was_asked() -> None:
    row = backend(seconds=Seconds(values=(6, 12)))

    (candidate,) = asked(row, EASY).candidates

    assert candidate.request.seconds == 6
    assert "seconds was not given: the clip is 6 s long" in candidate.warnings
    assert only(asked(row, VideoRequest(prompt="a fox", seconds=5))).code is Code.SECONDS


def test_a_backend_that_always_has_sound_is_allowed_when_sound_was_left_open() -> None:
    row = backend(audio=AudioGrant.ALWAYS)

    (candidate,) = asked(row, EASY).candidates

    assert candidate.request.audio is True
    assert "generate_audio was not given: the clip is made with sound" in candidate.warnings
    assert only(asked(row, VideoRequest(prompt="a fox", audio=False))).code is Code.SILENCE


@pytest.mark.parametrize(
    ("size", "resolution", "aspect"),
    [
        ((1280, 720), "720p", "16:9"),
        ((720, 1280), "720p", "9:16"),
        ((1080, 1080), "1080p", "1:1"),
        ((3840, 2160), "4k", "16:9"),
    ],
)
def test_a_size_is_a_resolution_and_a_ratio(size: tuple[int, int], resolution: str, aspect: str) -> None:
    row = backend(resolutions=("720p", "1080p", "4k"))

    (candidate,) = asked(row, VideoRequest(prompt="a fox", width=size[0], height=size[1])).candidates

    assert (candidate.request.resolution, candidate.request.aspect_ratio) == (resolution, aspect)
    assert candidate.size == f"{size[0]}x{size[1]}"


@pytest.mark.parametrize("word", ["4k", "4K", "2160p"])
def test_4k_has_several_names_and_the_row_its_own(word: str) -> None:
    (candidate,) = asked(backend(resolutions=("4k",)), VideoRequest(prompt="a fox", resolution=word)).candidates

    assert candidate.request.resolution == "4k"


def test_a_picture_gives_the_shape_on_a_backend_that_follows_it() -> None:
    row = backend()

    (open_shape,) = asked(row, VideoRequest(first_frame=picture(1000, 800))).candidates
    (agreeing,) = asked(row, VideoRequest(first_frame=WIDE, aspect_ratio="16:9")).candidates
    (near,) = asked(row, VideoRequest(first_frame=picture(1290, 720), width=1280, height=720)).candidates

    assert (open_shape.size, open_shape.request.aspect_ratio) == ("900x720", None)
    assert (agreeing.size, agreeing.request.aspect_ratio) == ("1280x720", None)
    assert (near.size, near.request.aspect_ratio) == ("1280x720", None)


def test_a_backend_that_does_not_follow_takes_the_nearest_shape_and_says_so() -> None:
    row = backend(follows_picture=False)

    (near,) = asked(row, VideoRequest(first_frame=picture(1200, 1000))).candidates
    (same,) = asked(row, VideoRequest(first_frame=TALL)).candidates
    (told,) = asked(row, VideoRequest(first_frame=WIDE, aspect_ratio="1:1")).candidates

    assert near.request.aspect_ratio == "1:1"
    assert "the picture is 1.20:1; the clip is made 1:1, the nearest" in near.warnings
    assert (same.request.aspect_ratio, len(same.warnings)) == ("9:16", 2)
    assert (told.request.aspect_ratio, told.size) == ("1:1", "720x720")


def test_shots_give_the_seconds() -> None:
    shots = (Shot(prompt="a", seconds=3), Shot(prompt="b", seconds=4))

    (candidate,) = asked(backend(shots=6), VideoRequest(shots=shots)).candidates

    assert candidate.request.seconds == 7
    assert candidate.quote.usd_micros == 700_000


def test_soft_fields_are_dropped_only_when_the_caller_allows_it() -> None:
    video = VideoRequest(prompt="a", seed=0, negative_prompt="blur", cfg_scale=0.5, camera=Camera.PUSH_IN)

    refused = only(asked(backend(), video))
    (dropped,) = asked(backend(), video, Preferences(require_parameters=False)).candidates
    (kept,) = asked(backend(seed=True, negative_prompt=True, cfg_scale=True, camera=tuple(Camera)), video).candidates

    assert (refused.code, *refused.also) == (Code.SEED, Code.NEGATIVE_PROMPT, Code.CFG_SCALE, Code.CAMERA)
    assert dropped.warnings[-1].endswith("no word for it: seed, negative_prompt, cfg_scale, camera")
    assert (dropped.request.seed, dropped.request.negative_prompt, dropped.request.camera) == (None, None, None)
    assert (kept.request.seed, kept.request.camera) == (0, Camera.PUSH_IN)


def test_what_one_backend_drops_the_other_keeps() -> None:
    catalogue = Catalogue([backend("acme/one"), backend("beta/one", seed=True)])
    video = VideoRequest(prompt="a", seconds=5, seed=7, audio=False)

    found = find(catalogue, "one", video, Preferences(require_parameters=False))

    assert [(candidate.request.seed, len(candidate.warnings)) for candidate in found.candidates] == [(None, 1), (7, 0)]


# --- aliases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "seconds", "audio", "size"),
    [
        (VideoRequest(prompt="a"), 4, True, "720x1280"),
        (VideoRequest(prompt="a", seconds=9, audio=False), 9, False, "720x1280"),
        (VideoRequest(prompt="a", aspect_ratio="1:1"), 4, True, "720x720"),
        (VideoRequest(prompt="a", resolution="1080p"), 4, True, "1920x1080"),
        (VideoRequest(prompt="a", width=1280, height=720), 4, True, "1280x720"),
        (VideoRequest(first_frame=WIDE), 4, True, "1280x720"),
        (VideoRequest(shots=(Shot(prompt="a", seconds=3),)), 3, True, "720x1280"),
    ],
)
def test_an_alias_fills_only_what_the_caller_left_open(
    video: VideoRequest, seconds: int, audio: bool, size: str
) -> None:
    catalogue = Catalogue([backend(resolutions=("1080p", "720p"), shots=6)])
    alias = Alias(models=("one",), seconds=4, generate_audio=True, size="720x1280", warning="gone since 2026-09-24")
    target = catalogue.resolve("old", {"old": alias})

    found = match(catalogue, target, video, Preferences(), configured={"acme": True})

    (candidate,) = found.candidates
    assert (candidate.request.seconds, candidate.request.audio, candidate.size) == (seconds, audio, size)
    assert candidate.warnings == ("gone since 2026-09-24",)


def test_an_alias_may_give_resolution_and_ratio_apart() -> None:
    catalogue = Catalogue([backend(resolutions=("1080p", "720p"))])
    target = catalogue.resolve("old", {"old": Alias(models=("one",), resolution="720p", aspect_ratio="9:16")})

    text = match(catalogue, target, EASY, Preferences(), configured=["acme"])
    framed = match(catalogue, target, VideoRequest(first_frame=WIDE), Preferences(), configured=["acme"])

    assert [candidate.size for candidate in (*text.candidates, *framed.candidates)] == ["720x1280", "1280x720"]


# --- what the caller and the operator allow ---------------------------------------------------------------------------


PAIR = Catalogue([backend("acme/one"), backend("beta/one", usd_per_second=0.2)])


@pytest.mark.parametrize(
    ("preferences", "candidates", "code"),
    [
        (Preferences(only=("beta",)), ["beta/one"], Code.EXCLUDED),
        (Preferences(only=("beta/one", "gamma")), ["beta/one"], Code.EXCLUDED),
        (Preferences(ignore=("acme/one",)), ["beta/one"], Code.EXCLUDED),
        (Preferences(order=("beta", "acme"), allow_fallbacks=False), ["beta/one"], Code.NO_FALLBACKS),
        (Preferences(order=("beta",)), ["acme/one", "beta/one"], None),
        (Preferences(max_price_usd_micros=500_000), ["acme/one"], Code.OVER_MAX_PRICE),
        (Preferences(max_price_usd_micros=499_999), [], Code.OVER_MAX_PRICE),
    ],
)
def test_the_callers_provider_object_is_a_hard_limit(
    preferences: Preferences, candidates: list[str], code: Code | None
) -> None:
    found = find(PAIR, "one", EASY, preferences)

    assert [candidate.backend.id for candidate in found.candidates] == candidates
    assert {refused.code for refused in found.refusals} == ({code} if code else set())


def test_over_the_price_cap_the_longest_clip_inside_it_is_named() -> None:
    refused = only(asked(backend(), VideoRequest(seconds=10), Preferences(max_price_usd_micros=750_000)))
    hopeless = only(asked(backend(), VideoRequest(seconds=10), Preferences(max_price_usd_micros=100_000)))

    assert (refused.code, refused.nearest) == (Code.OVER_MAX_PRICE, "seconds=7")
    assert refused.message == "acme/one costs $1.00 for 10 s (asked: at most $0.75)"
    assert refused.quote is not None
    assert refused.quote.usd_micros == 1_000_000
    assert hopeless.nearest == "max_price=1"


def test_over_the_price_cap_shots_are_not_shortened_for_the_caller() -> None:
    shots = (Shot(prompt="a", seconds=5), Shot(prompt="b", seconds=5))

    refused = only(asked(backend(shots=6), VideoRequest(shots=shots), Preferences(max_price_usd_micros=750_000)))

    assert refused.nearest == "max_price=1"


def test_without_a_price_or_a_credential_nothing_is_bought() -> None:
    rows = Catalogue([backend("acme/one"), backend("beta/one", usd_per_second=None)])

    found = find(rows, "one", EASY, configured=frozenset())

    assert found.candidates == ()
    assert [(refused.code, refused.also) for refused in found.refusals] == [
        (Code.NO_CREDENTIAL, ()),
        (Code.PRICE_UNKNOWN, (Code.NO_CREDENTIAL,)),
    ]
    assert str(found.refusals[0].quote) == "$0.50"
    assert found.refusals[0].nearest == "a credential under [providers.acme]"


def test_a_pin_is_never_answered_by_another_provider() -> None:
    found = find(PAIR, "beta/one", EASY)

    assert [candidate.backend.id for candidate in found.candidates] == ["beta/one"]
    assert found.refusals == ()
    assert found.candidate("beta/one") is found.candidates[0]
    assert found.candidate("acme/one") is None


def test_a_webp_is_taken_where_png_is_and_the_caller_is_told() -> None:
    webp = picture(content_type="image/webp")

    found = asked(backend(), VideoRequest(prompt="a cat", first_frame=webp))

    (candidate,) = found.candidates
    assert any("PNG" in warning for warning in candidate.warnings)
