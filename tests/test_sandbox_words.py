"""What a prompt stages: cues in brackets, meant for all or for one, and never taken out of plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from providers.sandbox.words import CueUnknown, Words, words_of
from providers.spec import Failed, Kind, Outcome, ProviderError, Shot, Succeeded, VideoRequest
from tests.sandbox_house import Sandbox, Take, asked, is_over, order, staged, until


def said(prompt: str, *, part: str = "acme/cat", **fields: Any) -> Words:
    return words_of(VideoRequest(prompt=prompt, **fields), lane="double", part=part)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("rain", Words()),
        ("[fail: generation] rain", Words(fail="generation_failed")),
        ("rain [FAIL:content_policy]", Words(fail="content_policy")),
        ("rain [ fail : invalid_request ]", Words(refuse="invalid_request")),
        ("rain [fail: unavailable at acme]", Words(refuse="unavailable")),
        ("rain [fail: generation at acme/cat]", Words(fail="generation_failed")),
        ("rain [fail: generation at acme/dog]", Words()),
        ("rain [fail: generation at dog] [slow: 2.5]", Words(seconds=2.5)),
        ("[lose reply] [slow: 20]", Words(lose_reply=True, seconds=20)),
        ("[lose reply at acme]", Words(lose_reply=True)),
        ("[slow motion] of a [fail-safe], [loose reply]", Words()),
    ],
)
def test_a_cue_says_what_is_staged(prompt: str, words: Words) -> None:
    assert said(prompt) == words


@pytest.mark.parametrize("cue", ["[fail: magic]", "[slow: down]", "[slow: 3601]", "[fail: ]", "[lose reply 2]"])
def test_a_cue_that_says_nothing_known_is_refused(cue: str) -> None:
    with pytest.raises(CueUnknown, match=r"known are \[fail: generation"):
        said(f"rain {cue}")


def test_cues_stand_in_shots_too_and_beside_the_options_words() -> None:
    options = {"sandbox": {"seconds": 3}}

    found = said("", shots=(Shot(prompt="[fail: generation] rain", seconds=3),), options=options)

    assert found == Words(fail="generation_failed", seconds=3)


def test_a_double_takes_what_it_cannot_show_and_films_a_draft_of_the_same_size_and_length(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        request = asked(negative_prompt="rain", cfg_scale=0.5, seconds=2, audio=True)
        status = (await until(provider, await order(provider, request, "double:acme/cat"), is_over))[-1]

        assert isinstance(status, Succeeded)
        take = Take(Path(status.videos[0].path or ""))
        assert take.seconds == pytest.approx(2, abs=0.01)
        assert take.frames[0].size == (320, 240)
        assert len(take.sounds) == 1
        assert take.gap(0, -1) > 0.5, "the camera moves"

    staged(tmp_path, play)


@pytest.mark.parametrize(
    ("cue", "kind"), [("generation", Kind.GENERATION_FAILED), ("content_policy", Kind.CONTENT_POLICY)]
)
def test_a_double_fails_in_its_part(cue: str, kind: Kind, tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        request = asked(prompt=f"rain [fail: {cue} at acme]")
        broken = await order(provider, request, "double:acme/cat", client_id="a")
        whole = await order(provider, request, "double:other/cat", client_id="b")

        status = (await until(provider, broken, is_over))[-1]

        assert isinstance(status, Failed)
        assert status.fault.kind is kind
        assert isinstance((await until(provider, whole, is_over))[-1], Succeeded)

    staged(tmp_path, play)


def test_a_refused_order_is_no_order_and_a_lost_reply_is_one(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        with pytest.raises(ProviderError) as refused:
            await order(provider, asked(prompt="[fail: unavailable]"), client_id="a")
        with pytest.raises(ProviderError) as lost:
            await order(provider, asked(prompt="[lose reply]"), client_id="b")

        assert refused.value.outcome is Outcome.REJECTED
        assert lost.value.outcome is Outcome.UNKNOWN
        assert len(list(tmp_path.rglob("order.json"))) == 1

    staged(tmp_path, play)
