"""A credential goes to the vendor's own origin in a header, and comes out nowhere."""

from __future__ import annotations

import contextlib
import logging

import msgspec
import pytest

from providers.spec import Mode, ProviderError, Succeeded, Uploads
from tests.conformance.asks import handed, picture
from tests.conformance.conftest import NETWORKED, SMALLEST
from tests.conformance.player import Player
from tests.conformance.secrecy import leaks, shown
from tests.conformance.test_troubles import first_ask, submit
from tests.conformance.wire import Sent, on_stage
from tests.vendors.script import Act, Op, Verb
from tests.vendors.server import Vendor

pytestmark = pytest.mark.anyio


def carries_secret(player: Player, sent: Sent) -> bool:
    texts = [*sent.headers.values(), sent.body.decode("latin-1")]
    return any(secret in text for secret in player.secrets for text in texts)


async def test_key_goes_in_a_header_of_the_vendors_own_calls_only(
    networked: Player, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async with on_stage(networked, vendor.url) as (adapter, wire):
        operation = await submit(adapter, first_ask(networked))
        status = await adapter.poll(operation)

    assert isinstance(status, Succeeded)
    assert all(carries_secret(networked, sent) for sent in wire.sent)
    assert "HTTP Request" in caplog.text  # the library's own log was heard
    texts = [repr(adapter), repr(operation), repr(status), caplog.text, repr(vars(adapter))]
    assert leaks(networked, texts, wire.sent) == []


async def test_address_of_another_origin_in_a_reply_is_called_without_the_key(
    networked: Player, vendor: Vendor
) -> None:
    """The vendor's own addresses are renamed in all its replies: to it they still lead, but as a stranger's."""
    alias = vendor.url.replace("127.0.0.1", "127.0.0.2")
    ask = next(ask for ask in SMALLEST if ask.player is networked and ask.request.mode is Mode.FIRST_FRAME)
    frame = picture("first")

    async with on_stage(networked, vendor.url, alias=alias, allow=("127.0.0.2",)) as (adapter, wire):
        if isinstance(adapter, Uploads):
            await adapter.upload(frame)
        request = handed(ask.request, adapter.takes)
        operation = await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id="a")
        status = await adapter.poll(operation)

    assert isinstance(status, Succeeded)
    assert (status.videos[0].url or "").startswith(alias)  # the renaming was at work
    assert [sent for sent in wire.to(alias) if carries_secret(networked, sent)] == []
    assert all(carries_secret(networked, sent) for sent in wire.to(vendor.url))


async def test_stranger_in_a_reply_is_not_called_when_the_guard_does_not_let_it(
    networked: Player, vendor: Vendor
) -> None:
    alias = vendor.url.replace("127.0.0.1", "127.0.0.2")

    async with on_stage(networked, vendor.url, alias=alias) as (adapter, wire):
        operation = await submit(adapter, first_ask(networked))
        await adapter.poll(operation)
        if isinstance(adapter, Uploads):
            with contextlib.suppress(ProviderError):  # where the bytes would have gone to the stranger, it fails
                await adapter.upload(picture("first"))

    assert wire.to(alias) == []


ECHOES = [
    (player, op, status) for player in NETWORKED for op in (Op.SUBMIT, *player.polls) for status in (401, 422, 500)
]


@pytest.mark.parametrize(
    ("networked", "op", "status"), ECHOES, ids=[f"{player}-{op}-{status}" for player, op, status in ECHOES]
)
@pytest.mark.parametrize("padding", [0, 60, 180, 190, 480], ids=lambda size: f"after-{size}")
async def test_key_that_the_vendor_says_back_is_not_shown(
    networked: Player, op: Op, status: int, padding: int, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, and in part where a message is cut."""
    caplog.set_level(logging.DEBUG)
    echo = "".join(f"{'x' * padding} {secret} " for secret in networked.secrets)
    async with on_stage(networked, vendor.url) as (adapter, wire):
        operation = None if op is Op.SUBMIT else await submit(adapter, first_ask(networked))
        vendor.say(Act(verb=Verb.STATUS, on=op, status=status, body={"detail": echo, "message": echo, "error": echo}))
        if operation is None:
            with pytest.raises(ProviderError) as caught:
                await submit(adapter, first_ask(networked))
            said = shown(caught.value)
        else:
            try:
                said = repr(await adapter.poll(operation))
            except ProviderError as error:
                said = shown(error)

    assert leaks(networked, [said], wire.sent) == []
    longest = max(networked.secrets, key=len)
    pieces = [longest[at : at + 12] for at in range(len(longest) - 11)]
    assert [piece for piece in pieces if piece in said] == []


async def test_picture_and_prompt_stay_out_of_errors(networked: Player, vendor: Vendor) -> None:
    ask = first_ask(networked)
    request = msgspec.structs.replace(ask.request, prompt="words that are nobody's business " * 40)
    vendor.say(Act(verb=Verb.STATUS, status=400), Act(verb=Verb.HTML, status=502))

    async with on_stage(networked, vendor.url) as (adapter, _):
        for _ in range(2):
            with pytest.raises(ProviderError) as caught:
                await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id="a")
            assert "nobody's business" not in shown(caught.value)
