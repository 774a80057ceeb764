"""How a call goes wrong, and what the adapter says of it: the shared table, or the vendor's own row over it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest

from providers.spec import Failed, Operation, Provider, ProviderError, Succeeded
from tests.conformance import table
from tests.conformance.asks import Ask, handed
from tests.conformance.conftest import ASKS, NETWORKED
from tests.conformance.player import Player
from tests.conformance.secrecy import leaks, shown
from tests.conformance.table import STALL_SECONDS, End, Ended, Thrown, Trouble
from tests.conformance.wire import Wire, nobody, on_stage, silence
from tests.vendors.script import Act, Op, Verb
from tests.vendors.server import Vendor

pytestmark = pytest.mark.anyio

NETWORKS = {"nobody": nobody, "silence": silence}

_numbers = itertools.count(1)  # each submit is another attempt's: a vendor may take the same id for the same job


def first_ask(player: Player) -> Ask:
    return next(ask for ask in ASKS if ask.player is player)


async def submit(adapter: Provider, ask: Ask) -> Operation:
    request = handed(ask.request, adapter.takes)
    name = f"attempt_{next(_numbers)}"
    return await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id=name)


@contextlib.asynccontextmanager
async def before(player: Player, vendor: Vendor, trouble: Trouble) -> AsyncIterator[tuple[Provider, Wire]]:
    """The adapter before its vendor, or before the network that the trouble is about."""
    limit = STALL_SECONDS if trouble.is_slow else 20.0
    with NETWORKS[trouble.network]() if trouble.network else contextlib.nullcontext(vendor.url) as url:
        async with on_stage(player, url, limit_seconds=limit) as (adapter, wire):
            yield adapter, wire


def told(error: ProviderError) -> Thrown:
    return Thrown(error.fault.kind, error.fault.verdict, error.outcome, error.retry_after_seconds)


def assert_well_said(error: ProviderError) -> None:
    """A message says something, on one line of at most 500 characters."""
    assert 0 < len(error.fault.message) <= 500
    assert error.fault.message.isprintable()


# --- submit -----------------------------------------------------------------------------------------------------------


def submit_troubles(player: Player) -> list[Trouble]:
    troubles = list(table.SUBMITS)
    if player.hidden_error is not None:
        act = Act(verb=Verb.STATUS, status=200, body=player.hidden_error)
        troubles.append(Trouble("200 that hides an error", table.HIDDEN_ERROR, act))
    if player.policy_at_submit is not None:
        troubles.append(Trouble("policy", table.POLICY_AT_SUBMIT, player.policy_at_submit))
    return troubles


SUBMITS = [(player, trouble) for player in NETWORKED for trouble in submit_troubles(player)]


@pytest.mark.parametrize(("networked", "trouble"), SUBMITS, ids=[f"{player}-{one.name}" for player, one in SUBMITS])
async def test_submit(networked: Player, trouble: Trouble, vendor: Vendor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    if trouble.act:
        vendor.say(trouble.act)

    async with before(networked, vendor, trouble) as (adapter, wire):
        with pytest.raises(ProviderError) as caught:
            await submit(adapter, first_ask(networked))

    assert told(caught.value) == networked.deviations.get(f"submit/{trouble.name}", trouble.expected)
    assert_well_said(caught.value)
    assert len(vendor.ledger()) == int(trouble.is_bought)
    assert len([seen for seen in vendor.requests() if seen.method == "POST"]) == (0 if trouble.network else 1)
    assert vendor.script.left() == ()
    assert leaks(networked, [shown(caught.value), caplog.text], wire.sent) == []


# --- poll -------------------------------------------------------------------------------------------------------------

POLLS = [(player, op, trouble) for player in NETWORKED for op in player.polls for trouble in table.POLLS]


@pytest.mark.parametrize(
    ("networked", "op", "trouble"), POLLS, ids=[f"{player}-{op}-{one.name}" for player, op, one in POLLS]
)
async def test_poll(
    networked: Player, op: Op, trouble: Trouble, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    expected = networked.deviations.get(f"{op}/{trouble.name}", trouble.expected)
    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        assert isinstance(await adapter.poll(operation), Succeeded)
    if trouble.act:
        vendor.say(_on(op, trouble.act))

    async with before(networked, vendor, trouble) as (adapter, wire):
        if isinstance(expected, Ended):
            status = await adapter.poll(operation)
            assert isinstance(status, Failed)
            assert (status.fault.kind, status.fault.verdict) == expected
            said = [repr(status)]
        else:
            with pytest.raises(ProviderError) as caught:
                await adapter.poll(operation)
            assert told(caught.value)._replace(outcome=None) == expected
            assert_well_said(caught.value)
            said = [shown(caught.value)]

    assert leaks(networked, [*said, caplog.text], wire.sent) == []
    assert vendor.script.left() == ()
    async with on_stage(networked, vendor.url) as (adapter, _):
        assert isinstance(await adapter.poll(operation), Succeeded)


def _on(op: Op, act: Act) -> Act:
    return Act(
        verb=act.verb,
        on=op,
        status=act.status,
        headers=act.headers,
        seconds=act.seconds,
        reset=act.reset,
        word=act.word,
    )


# --- a job's end ------------------------------------------------------------------------------------------------------

ENDS = [(player, end) for player in NETWORKED for end in table.ENDS]


@pytest.mark.parametrize(("networked", "end"), ENDS, ids=[f"{player}-{end.name}" for player, end in ENDS])
async def test_job_that_ends_badly(networked: Player, end: End, vendor: Vendor) -> None:
    vendor.say(end.act)

    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        status = await adapter.poll(operation)
        later = await adapter.poll(operation)

    assert isinstance(status, Failed)
    assert (status.fault.kind, status.fault.verdict) == networked.deviations.get(f"end/{end.name}", end.expected)
    assert 0 < len(status.fault.message) <= 500
    assert later == status


@pytest.mark.parametrize("player_name", [player.name for player in NETWORKED])
def test_deviation_names_a_row_of_the_shared_tables(player_name: str) -> None:
    player = next(player for player in NETWORKED if player.name == player_name)
    known = {f"submit/{one.name}" for one in submit_troubles(player)} | {f"end/{end.name}" for end in table.ENDS}
    known |= {f"{op}/{one.name}" for op in player.polls for one in table.POLLS}

    assert set(player.deviations) <= known
