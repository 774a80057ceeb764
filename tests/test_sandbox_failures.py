"""How the sandbox fails: by order, by its lane's luck, by a bad picture, by its own defect; and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers.sandbox import film, studio
from providers.sandbox.orders import Order
from providers.sandbox.words import Words
from providers.spec import (
    Failed,
    Kind,
    Outcome,
    ProviderError,
    Shot,
    Succeeded,
    Verdict,
    VideoRequest,
)
from tests.sandbox_house import (
    Sandbox,
    asked,
    drawn,
    ended,
    is_over,
    order,
    square,
    staged,
    until,
)


@pytest.mark.parametrize(
    ("word", "kind", "verdict"),
    [
        (True, Kind.GENERATION_FAILED, Verdict.ELSEWHERE),
        ("generation_failed", Kind.GENERATION_FAILED, Verdict.ELSEWHERE),
        ("content_policy", Kind.CONTENT_POLICY, Verdict.NEVER),
    ],
)
def test_a_failure_can_be_ordered(tmp_path: Path, word: bool | str, kind: Kind, verdict: Verdict) -> None:
    status = ended(tmp_path, asked(options={"sandbox": {"fail": word}}))

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict, status.cost_usd_micros) == (kind, verdict, 0)
    assert not list(tmp_path.rglob("*.mp4"))


def test_an_ordered_failure_can_be_meant_for_one_lane(tmp_path: Path) -> None:
    request = asked(options={"sandbox": {"fail": True, "lane": "thrifty"}})

    assert isinstance(ended(tmp_path, request), Succeeded)


@pytest.mark.parametrize("lane", list(studio.LANES))
def test_a_lane_breaks_as_often_as_it_says_and_always_the_same_orders(lane: str) -> None:
    orders = [Order(client_id=f"attempt_{k}", lane=lane, request=asked()) for k in range(4000)]

    def breaks(order: Order) -> bool:
        return studio.fate(order, Words(), failures=True)[0] is not None

    broken = [breaks(order) for order in orders]

    assert sum(broken) / len(broken) == pytest.approx(studio.LANES[lane].failure_rate, abs=0.02)
    assert broken == [breaks(order) for order in orders]
    assert not any(studio.fate(order, Words(), failures=False)[0] for order in orders)


def test_a_picture_that_cannot_be_decoded_is_the_callers_fault(tmp_path: Path) -> None:
    whole = drawn(square)
    torn = msgspec.structs.replace(whole, data=(whole.data or b"")[:300])

    status = ended(tmp_path, asked(first_frame=torn))

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict) == (Kind.INVALID_REQUEST, Verdict.NEVER)
    assert "first frame" in status.fault.message
    assert str(tmp_path) not in status.fault.message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_broken_renderer_fails_its_order_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(request: VideoRequest, *args: Any, **kwargs: Any) -> None:
        if request.prompt == "bad":
            raise RuntimeError("a defect")
        film.film(request, *args, **kwargs)

    monkeypatch.setattr(studio, "film", breaks)

    async def play(provider: Sandbox) -> None:
        bad = await order(provider, asked(prompt="bad"), client_id="bad")
        good = await order(provider, asked(), client_id="good")

        failed = (await until(provider, bad, is_over))[-1]

        assert isinstance(failed, Failed)
        assert failed.fault.kind is Kind.GENERATION_FAILED
        assert isinstance((await until(provider, good, is_over))[-1], Succeeded)

    staged(tmp_path, play, renders=1)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"negative_prompt": "rain"}, Kind.UNSUPPORTED),
        ({"cfg_scale": 0.0}, Kind.UNSUPPORTED),
        ({"references": (drawn(square),)}, Kind.UNSUPPORTED),
        ({"seconds": None}, Kind.INVALID_REQUEST),
        ({"seconds": 31}, Kind.INVALID_REQUEST),
        ({"seconds": 3, "shots": (Shot(prompt="a", seconds=1), Shot(prompt="b", seconds=1))}, Kind.INVALID_REQUEST),
        ({"resolution": "huge"}, Kind.INVALID_REQUEST),
        ({"aspect_ratio": "wide"}, Kind.INVALID_REQUEST),
        ({"width": 20_000, "height": 100}, Kind.INVALID_REQUEST),
        ({"options": {"sandbox": {"fale": True}}}, Kind.INVALID_REQUEST),
        ({"options": {"sandbox": {"fail": "loudly"}}}, Kind.INVALID_REQUEST),
        ({"options": {"sandbox": {"hold": 1e9}}}, Kind.INVALID_REQUEST),
        ({"options": {"sandbox": {"lane": "hasty"}}}, Kind.INVALID_REQUEST),
        ({"first_frame": msgspec.structs.replace(drawn(square), data=None)}, Kind.INVALID_REQUEST),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_it_cannot_render_is_refused_before_anything_is_kept(
    tmp_path: Path, fields: dict[str, Any], kind: Kind
) -> None:
    async def play(provider: Sandbox) -> None:
        with pytest.raises(ProviderError) as caught:
            await order(provider, asked(**fields))

        assert (caught.value.fault.kind, caught.value.outcome) == (kind, Outcome.NOT_SENT)
        assert not list(tmp_path.iterdir())

    staged(tmp_path, play)


def test_an_unknown_lane_is_refused(tmp_path: Path) -> None:
    async def play(provider: Sandbox) -> None:
        with pytest.raises(ProviderError, match="swift, steady, thrifty"):
            await order(provider, asked(), lane="hasty")

    staged(tmp_path, play)


def test_a_folder_that_cannot_be_used_is_told_in_the_contracts_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    async def play(provider: Sandbox) -> None:
        with pytest.raises(ProviderError) as caught:
            await order(provider, asked())

        assert (caught.value.fault.kind, caught.value.outcome) == (Kind.UNAVAILABLE, Outcome.REJECTED)

    staged(tmp_path / "file", play)
