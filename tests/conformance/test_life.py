"""A job's life as an adapter tells it: bought, queued, running, ended; and the same from another process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from providers.guard import Guard
from providers.spec import (
    Cancels,
    Failed,
    Kind,
    NamesOperation,
    Operation,
    Provider,
    ProviderError,
    Queued,
    Running,
    Status,
    Succeeded,
    Verdict,
)
from providers.transport import Transport
from tests.conformance.conftest import NETWORKED
from tests.conformance.player import Player
from tests.conformance.test_troubles import first_ask, submit
from tests.conformance.wire import on_stage
from tests.vendors.kit import Pace
from tests.vendors.script import Act, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wire import Reply, Request, Server

pytestmark = pytest.mark.anyio

CANCELLING = [player for player in NETWORKED if isinstance(player.adapter(), Cancels)]
NAMING = [player for player in NETWORKED if isinstance(player.adapter(), NamesOperation)]


def again(operation: Operation) -> Operation:
    """The operation as another process reads it a day later."""
    return msgspec.json.decode(msgspec.json.encode(operation), type=Operation)


def open_vendor(player: Player, folder: Path, pace: Pace) -> Vendor:
    assert player.vendor is not None
    return player.vendor(folder, Options(pace=pace))


async def cancel(adapter: Provider, operation: Operation) -> None:
    assert isinstance(adapter, Cancels)
    await adapter.cancel(operation)


# --- the good life ----------------------------------------------------------------------------------------------------


async def test_job_is_queued_then_running_then_succeeded_and_stays_so(networked: Player, tmp_path: Path) -> None:
    with open_vendor(networked, tmp_path, Pace(steps=3)) as vendor:
        async with on_stage(networked, vendor.url) as (adapter, _):
            operation = await submit(adapter, first_ask(networked))
            statuses: list[Status] = [await adapter.poll(operation) for _ in range(5)]

    assert [type(status) for status in statuses] == [Queued, Running, Running, Succeeded, Succeeded]
    assert statuses[3] == statuses[4]
    assert operation.provider == networked.name
    assert operation.id == vendor.ledger()[0].id


async def test_operation_survives_json_and_a_new_adapter(networked: Player, vendor: Vendor) -> None:
    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))

    async with on_stage(networked, vendor.url) as (other, _):
        status = await other.poll(again(operation))

    assert again(operation) == operation
    assert isinstance(status, Succeeded)


async def test_result_names_a_clip_that_can_be_fetched(networked: Player, vendor: Vendor) -> None:
    async with on_stage(networked, vendor.url) as (adapter, _):
        status = await adapter.poll(await submit(adapter, first_ask(networked)))

    assert isinstance(status, Succeeded)
    (video,) = status.videos
    assert video.content_type == "video/mp4"
    assert ((await vendor.picture(video.url or "")) or b"")[4:8] == b"ftyp"


async def test_it_is_so_through_the_connections_of_production_too(networked: Player, vendor: Vendor) -> None:
    """The suite's own wire carries one connection at a time; this is the transport with its pools and its guard."""
    transport = Transport(guard=Guard())
    adapter = networked.make(vendor.url, transport)

    operations = await asyncio.gather(*(submit(adapter, first_ask(networked)) for _ in range(8)))
    statuses = await asyncio.gather(*(adapter.poll(operation) for operation in operations))
    await transport.close()

    assert len({operation.id for operation in operations}) == len(vendor.ledger()) == 8
    assert all(isinstance(status, Succeeded) for status in statuses)


async def test_two_jobs_are_two_operations(networked: Player, vendor: Vendor) -> None:
    async with on_stage(networked, vendor.url) as (adapter, _):
        first, second = [await submit(adapter, first_ask(networked)) for _ in range(2)]

    assert first.id != second.id


# --- the odd one ------------------------------------------------------------------------------------------------------


async def test_word_that_nobody_knows_is_running(networked: Player, vendor: Vendor) -> None:
    vendor.say(Act(verb=Verb.INVENTED_STATUS, count=2, word="RECONSIDERING"))

    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        statuses = [await adapter.poll(operation) for _ in range(3)]

    assert [type(status) for status in statuses] == [Running, Running, Succeeded]


async def test_job_that_is_not_there_at_first_is_found_later(networked: Player, vendor: Vendor) -> None:
    vendor.say(Act(verb=Verb.STATUS, on=networked.polls[0], status=404, times=2))

    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        for _ in range(2):
            with pytest.raises(ProviderError) as caught:
                await adapter.poll(operation)
            assert (caught.value.fault.kind, caught.value.fault.verdict) == (Kind.OPERATION_LOST, Verdict.SAME)
        status = await adapter.poll(operation)

    assert isinstance(status, Succeeded)


async def test_operation_that_never_was_is_lost_and_not_failed(networked: Player, vendor: Vendor) -> None:
    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        stranger = Operation(provider=operation.provider, id="0" * len(operation.id), ref=_without_urls(operation))
        with pytest.raises(ProviderError) as caught:
            await adapter.poll(stranger)

    assert (caught.value.fault.kind, caught.value.fault.verdict) == (Kind.OPERATION_LOST, Verdict.SAME)


def _without_urls(operation: Operation) -> dict[str, str]:
    return {name: text for name, text in operation.ref.items() if operation.id not in text}


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("networked", CANCELLING, ids=str)
async def test_cancelled_job_ends_cancelled(networked: Player, vendor: Vendor) -> None:
    vendor.say(Act(verb=Verb.STUCK))

    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        before = await adapter.poll(operation)
        await cancel(adapter, again(operation))
        after = await adapter.poll(operation)

    assert isinstance(before, Queued | Running)
    assert isinstance(after, Failed)
    assert after.fault.kind is Kind.CANCELLED


@pytest.mark.parametrize("networked", CANCELLING, ids=str)
async def test_cancel_that_the_vendor_ignores_leaves_the_job_to_its_end(networked: Player, tmp_path: Path) -> None:
    with open_vendor(networked, tmp_path, Pace(steps=2)) as vendor:
        vendor.say(Act(verb=Verb.IGNORE, on=Op.CANCEL))

        async with on_stage(networked, vendor.url) as (adapter, _):
            operation = await submit(adapter, first_ask(networked))
            await cancel(adapter, operation)
            statuses = [await adapter.poll(operation) for _ in range(3)]

        assert vendor.script.left() == ()
    assert isinstance(statuses[-1], Succeeded)


@pytest.mark.parametrize("networked", CANCELLING, ids=str)
async def test_cancel_after_the_end_is_refused(networked: Player, vendor: Vendor) -> None:
    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        await adapter.poll(operation)
        with pytest.raises(ProviderError) as caught:
            await cancel(adapter, operation)
        status = await adapter.poll(operation)

    assert caught.value.fault.kind is Kind.UNSUPPORTED
    assert isinstance(status, Succeeded)


@pytest.mark.parametrize("networked", CANCELLING, ids=str)
@pytest.mark.parametrize("status", [404, 429, 500])
async def test_cancel_that_fails_can_be_asked_again(networked: Player, status: int, vendor: Vendor) -> None:
    vendor.say(Act(verb=Verb.STUCK), Act(verb=Verb.STATUS, on=Op.CANCEL, status=status))

    async with on_stage(networked, vendor.url) as (adapter, _):
        operation = await submit(adapter, first_ask(networked))
        with pytest.raises(ProviderError) as caught:
            await cancel(adapter, operation)
        await cancel(adapter, operation)
        after = await adapter.poll(operation)

    assert caught.value.fault.verdict is Verdict.SAME
    assert isinstance(after, Failed)


# --- the doorbell -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("networked", NAMING, ids=str)
async def test_callback_names_an_operation_that_can_be_polled_when_the_reply_was_lost(
    networked: Player, vendor: Vendor
) -> None:
    rung: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(request: Request) -> Reply:
        if not rung.done():  # some ring at every change
            rung.set_result(request.body)
        return Reply(status=204)

    doorbell = Server(answer)
    url = await doorbell.start()
    ask = first_ask(networked)
    vendor.say(Act(verb=Verb.ACCEPT_THEN_CUT))

    async with on_stage(networked, vendor.url) as (adapter, _):
        with pytest.raises(ProviderError):
            await adapter.submit(ask.request, model_id=ask.model_id, callback_url=f"{url}/cb/token", client_id="a")
        body = await asyncio.wait_for(rung, 20)
        assert isinstance(adapter, NamesOperation)
        claim = adapter.operation_in(body, model_id=ask.model_id)
        assert claim is not None
        status = await adapter.poll(again(claim))
    await doorbell.stop()

    assert claim.id == vendor.ledger()[0].id
    assert isinstance(status, Succeeded)


NONSENSE = [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 2000, b"<html></html>"]
NONSENSE += [
    msgspec.json.encode({name: value})
    for name in ("request_id", "task_id", "id")
    for value in ("", 5, None, "../../elsewhere", "a" * 4000)
]


@pytest.mark.parametrize("networked", NAMING, ids=str)
@pytest.mark.parametrize("body", NONSENSE, ids=lambda body: body[:24].decode("latin-1"))
def test_callback_that_makes_no_sense_names_nothing(networked: Player, body: bytes) -> None:
    adapter = networked.adapter()

    assert isinstance(adapter, NamesOperation)
    assert adapter.operation_in(body, model_id=first_ask(networked).model_id) is None
