"""Providers that render on this machine live by the same contract, as far as it is not about a network."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import httpx
import msgspec
import pytest

from gateway import settings
from providers.guard import Guard
from providers.spec import (
    Cancels,
    Closes,
    Failed,
    Finds,
    Kind,
    Mode,
    Operation,
    Outcome,
    Provider,
    ProviderError,
    Queued,
    Running,
    Status,
    Succeeded,
)
from providers.transport import Transport
from tests.conformance import table
from tests.conformance.asks import EVERY_FIELD, FIRST, Ask, asks, granted, handed
from tests.conformance.conftest import PLAYERS, RENDERERS
from tests.conformance.player import Player

pytestmark = pytest.mark.anyio

_numbers = itertools.count()


def _tiny(ask: Ask) -> Ask | None:
    """The same request at the smallest size that the row has."""
    found = granted(ask.row, msgspec.structs.replace(ask.request, resolution="240p"))
    return ask._replace(request=found.request) if found else None


ASKS = [tiny for player in RENDERERS for ask in asks(player) if (tiny := _tiny(ask))]
SMALLEST = [ask for ask in ASKS if ask.is_smallest]
# one of each kind; every row renders in the same way, so the first row of each player stands for all
KINDS = ("sound", "shots", "last frame", "tuned", "camera dolly_left", "9:16")
OTHERS = [
    ask for ask in ASKS if ask.row == ask.player.rows[0] and ask.name.partition("-")[2] in KINDS and "text" in ask.name
] + [ask for ask in ASKS if ask.row == ask.player.rows[0] and ask.name == "first_frame-last frame"]


@contextlib.asynccontextmanager
async def at_work(player: Player, folder: Path) -> AsyncIterator[Provider]:
    transport = Transport(guard=Guard(), client=httpx.MockTransport(_no_network))
    adapter = player.make(str(folder), transport)
    try:
        yield adapter
    finally:
        if isinstance(adapter, Closes):
            await adapter.close()
        await transport.close()


def _no_network(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"a renderer on this machine called {request.url}")


async def submit(adapter: Provider, ask: Ask, *, client_id: str | None = None, **changes: Any) -> Operation:
    request = handed(msgspec.structs.replace(ask.request, **changes), adapter.takes)
    name = client_id or f"attempt_{next(_numbers)}"
    return await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id=name)


async def ended(adapter: Provider, operation: Operation) -> Status:
    """The status once it is a last one. A render has no event to wait for: the contract is polling."""
    async with asyncio.timeout(60):
        status = await adapter.poll(operation)
        while isinstance(status, Queued | Running):
            await asyncio.sleep(0.02)
            status = await adapter.poll(operation)
    return status


def again(operation: Operation) -> Operation:
    return msgspec.json.decode(msgspec.json.encode(operation), type=Operation)


# --- the good life ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", SMALLEST + OTHERS, ids=str)
async def test_clip_is_what_was_asked(asked: Ask, tmp_path: Path) -> None:
    async with at_work(asked.player, tmp_path) as adapter:
        operation = await submit(adapter, asked)
        status = await ended(adapter, operation)
        later = await adapter.poll(operation)

    assert isinstance(status, Succeeded), status
    assert later == status
    (video,) = status.videos
    with av.open(str(video.path)) as clip:
        seconds = float(clip.duration or 0) / av.time_base
        assert abs(seconds - (asked.request.seconds or 0)) <= 1 / 24 + 0.05  # sound ends with a whole frame of its own
        assert bool(clip.streams.audio) is asked.request.audio


async def test_operation_survives_json_and_a_new_adapter(renderer: Player, tmp_path: Path) -> None:
    ask = next(ask for ask in SMALLEST if ask.player is renderer)
    async with at_work(renderer, tmp_path) as adapter:
        operation = await submit(adapter, ask)

    async with at_work(renderer, tmp_path) as other:
        status = await ended(other, again(operation))

    assert again(operation) == operation
    assert isinstance(status, Succeeded)


async def test_lost_reply_is_found_by_the_id_that_the_client_gave(renderer: Player, tmp_path: Path) -> None:
    ask = next(ask for ask in SMALLEST if ask.player is renderer)
    words: dict[str, Any] = {"model_id": ask.model_id, "callback_url": None, "sent_at": datetime.now(UTC)}

    async with at_work(renderer, tmp_path) as adapter:
        assert isinstance(adapter, Finds)
        nothing = await adapter.find(ask.request, client_id="attempt_lost", **words)
        operation = await submit(adapter, ask, client_id="attempt_lost")
        found = await adapter.find(ask.request, client_id="attempt_lost", **words)

    assert nothing is None
    assert found == operation


# --- the bad ends -----------------------------------------------------------------------------------------------------

STAGED = [(player, end) for player in RENDERERS for end in table.ENDS if end.name in player.staged]


@pytest.mark.parametrize(("renderer", "end"), STAGED, ids=[f"{player}-{end.name}" for player, end in STAGED])
async def test_job_that_ends_badly(renderer: Player, end: table.End, tmp_path: Path) -> None:
    ask = next(ask for ask in SMALLEST if ask.player is renderer)

    async with at_work(renderer, tmp_path) as adapter:
        operation = await submit(adapter, ask, options={renderer.name: renderer.staged[end.name]})
        status = await ended(adapter, operation)
        later = await adapter.poll(operation)

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict) == end.expected
    assert status.cost_usd_micros == 0
    assert later == status


async def test_cancelled_job_ends_cancelled(renderer: Player, tmp_path: Path) -> None:
    ask = next(ask for ask in SMALLEST if ask.player is renderer)

    async with at_work(renderer, tmp_path) as adapter:
        assert isinstance(adapter, Cancels)
        operation = await submit(adapter, ask, options={renderer.name: renderer.staged["held"]})
        before = await adapter.poll(operation)
        await adapter.cancel(again(operation))
        after = await ended(adapter, operation)

    assert isinstance(before, Queued | Running)
    assert isinstance(after, Failed)
    assert after.fault.kind is Kind.CANCELLED


async def test_cancel_after_the_end_is_refused(renderer: Player, tmp_path: Path) -> None:
    ask = next(ask for ask in SMALLEST if ask.player is renderer)

    async with at_work(renderer, tmp_path) as adapter:
        assert isinstance(adapter, Cancels)
        operation = await submit(adapter, ask)
        await ended(adapter, operation)
        with pytest.raises(ProviderError) as caught:
            await adapter.cancel(operation)
        status = await adapter.poll(operation)

    assert caught.value.fault.kind is Kind.UNSUPPORTED
    assert isinstance(status, Succeeded)


async def test_operation_that_never_was_is_lost_and_not_failed(renderer: Player, tmp_path: Path) -> None:
    async with at_work(renderer, tmp_path) as adapter:
        for id in ("sandbox_" + "0" * 32, "../../etc/passwd", ""):
            with pytest.raises(ProviderError) as caught:
                await adapter.poll(Operation(provider=renderer.name, id=id))
            assert caught.value.fault.kind is Kind.OPERATION_LOST


# --- nothing is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", EVERY_FIELD)
@pytest.mark.parametrize("asked", [ask for ask in SMALLEST if ask.request.mode is Mode.TEXT], ids=str)
async def test_what_a_row_does_not_grant_is_refused_by_the_catalogue_and_by_the_adapter(
    asked: Ask, field: str, tmp_path: Path
) -> None:
    """Refused before anything is made; what it grants, it takes (that it does it is seen in the clips)."""
    changes = {field: EVERY_FIELD[field]} | ({"first_frame": FIRST} if field == "last_frame" else {})
    changes |= {"seconds": 5} if field == "shots" else {}
    request = msgspec.structs.replace(asked.request, **changes)
    offer = granted(asked.row, request)

    async with at_work(asked.player, tmp_path) as adapter:
        words: dict[str, Any] = {"model_id": asked.model_id, "callback_url": None, "client_id": "attempt_1"}
        if offer is None:
            with pytest.raises(ProviderError) as caught:
                await adapter.submit(request, **words)
            assert caught.value.fault.kind is Kind.UNSUPPORTED
            assert caught.value.outcome is Outcome.NOT_SENT
            return
        operation = await adapter.submit(offer.request, **words)

    assert getattr(offer.request, field) == EVERY_FIELD[field]
    assert operation.provider == asked.player.name


# --- the cast ---------------------------------------------------------------------------------------------------------


def test_every_provider_is_played() -> None:
    assert {player.name for player in PLAYERS} == set(settings.provider_modules())


@pytest.mark.parametrize("player", PLAYERS, ids=str)
def test_every_player_has_rows_in_the_shipped_catalogue(player: Player) -> None:
    assert player.rows
    assert {row.provider for row in player.rows} == {player.name}
