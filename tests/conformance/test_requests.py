"""What reaches the vendor: for each row and each thing that it grants, the recorded body; and nothing asked is lost."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from gateway.catalogue import Backend
from gateway.catalogue.shapes import agrees, parse_ratio
from providers.spec import Kind, Media, MediaForm, Mode, Outcome, ProviderError, Succeeded, Uploads, Verdict
from tests.conformance.asks import EVERY_FIELD, PROMPT, Ask, granted, handed, offered, picture
from tests.conformance.conftest import ASKS, NETWORKED, SMALLEST
from tests.conformance.player import Player
from tests.conformance.wire import Sent, on_stage
from tests.vendors.server import Vendor

pytestmark = pytest.mark.anyio

CLIENT_ID = "attempt_01jdconformance"  # in a recorded body: the id of the attempt that is being made
CALLBACK = "http://127.0.0.1:9/callbacks/a-token"


_numbers = itertools.count(1)


def another_attempt() -> str:
    """An id that no other submit of the session has: a vendor may take the same id for the same job."""
    return f"{CLIENT_ID}{next(_numbers)}"


class Recorded(msgspec.Struct):
    path: str
    body: Any

    def of(self, client_id: str, longest: str) -> Any:
        """The body of that attempt; `longest` stands wherever a prompt as long as possible is recorded."""
        body = msgspec.json.encode(self.body).replace(CLIENT_ID.encode(), client_id.encode())
        return msgspec.json.decode(body.replace(b'"@longest"', msgspec.json.encode(longest)))


class Recording(msgspec.Struct, forbid_unknown_fields=True):
    """Requests of one row, by the name of what they ask for; "@longest" is a prompt as long as the row allows."""

    source: str
    read: str
    made: str
    requests: dict[str, Recorded]


def recording(player: Player, row: Backend) -> Recording:
    found: Recording = player.recording(row.id.partition("/")[2], Recording)
    return found


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_body_is_the_recorded_one_and_the_vendor_makes_a_clip_of_it(ask: Ask, vendors: dict[str, Vendor]) -> None:
    server = vendors[ask.player.name]
    expected = recording(ask.player, ask.row).requests[ask.name]
    longest = (PROMPT + ". ").ljust(ask.row.prompt_max, ".")
    client_id = another_attempt()
    before = len(server.ledger())

    async with on_stage(ask.player, server.url) as (adapter, _):
        request = handed(ask.request, adapter.takes)
        operation = await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id=client_id)
        status = await adapter.poll(operation)

    seen = [seen for seen in server.requests() if seen.method == "POST"][-1]
    assert (seen.path, seen.query, seen.body) == (expected.path, {}, expected.of(client_id, longest))
    assert [row.id for row in server.ledger()[before:]] == [operation.id]
    assert isinstance(status, Succeeded), status
    assert status.videos[0].url


ROWS = [(player, row) for player in NETWORKED for row in player.rows]


@pytest.mark.parametrize(("whose", "row"), ROWS, ids=[row.id.replace("/", ".") for _, row in ROWS])
def test_every_request_of_a_row_is_recorded_and_every_recording_is_asked(whose: Player, row: Backend) -> None:
    found = recording(whose, row)

    assert set(found.requests) == {ask.name for ask in ASKS if ask.row == row}
    assert found.source
    assert found.read


CALLING = [player for player in NETWORKED if player.callbacks]


@pytest.mark.parametrize("networked", CALLING, ids=str)
async def test_callback_address_reaches_the_vendor_whole(networked: Player, vendor: Vendor) -> None:
    ask = next(ask for ask in ASKS if ask.player is networked)

    async with on_stage(networked, vendor.url) as (adapter, _):
        request = handed(ask.request, adapter.takes)
        await adapter.submit(request, model_id=ask.model_id, callback_url=CALLBACK, client_id=CLIENT_ID)

    assert [row.callback_url for row in vendor.ledger()] == [CALLBACK]


async def test_options_for_this_provider_are_added_to_the_body_and_those_for_others_are_not(
    networked: Player, vendor: Vendor
) -> None:
    ask = next(ask for ask in ASKS if ask.player is networked)
    options = {networked.name: {"a_field_of_theirs": {"deep": [1, None]}}, "somebody-else": {"not_for_us": True}}

    async with on_stage(networked, vendor.url) as (adapter, wire):
        request = msgspec.structs.replace(handed(ask.request, adapter.takes), options=options)
        await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id=CLIENT_ID)

    body = wire.sent[0].body
    assert b'"a_field_of_theirs":{"deep":[1,null]}' in body
    assert b"not_for_us" not in body


# --- pictures ---------------------------------------------------------------------------------------------------------

FORMS = [(player, form) for player in NETWORKED for form in player.adapter().takes]
UPLOADING = [player for player in NETWORKED if isinstance(player.adapter(), Uploads)]


@pytest.mark.parametrize(("networked", "form"), FORMS, ids=[f"{player}-{form}" for player, form in FORMS])
async def test_vendor_makes_a_clip_from_a_picture_in_every_form_that_the_adapter_takes(
    networked: Player, form: MediaForm, vendor: Vendor
) -> None:
    ask = next(ask for ask in SMALLEST if ask.player is networked and ask.request.mode is Mode.FIRST_FRAME)
    frame = ask.request.first_frame
    assert frame is not None

    async with on_stage(networked, vendor.url) as (adapter, _):
        request = handed(ask.request, adapter.takes, form)
        if form is MediaForm.UPLOAD:
            assert isinstance(adapter, Uploads)
            frame = msgspec.structs.replace(frame, handed=await adapter.upload(frame), data=None)
            request = msgspec.structs.replace(request, first_frame=frame)
        operation = await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id=CLIENT_ID)
        status = await adapter.poll(operation)

    assert isinstance(status, Succeeded), status


@pytest.mark.parametrize("networked", UPLOADING, ids=str)
async def test_upload_puts_those_very_bytes_at_the_address_it_gives(networked: Player, vendor: Vendor) -> None:
    media = picture("first")

    async with on_stage(networked, vendor.url) as (adapter, wire):
        assert isinstance(adapter, Uploads)
        address = await adapter.upload(media)

    assert await vendor.picture(address) == media.data
    assert [kind for sent in wire.sent for kind in _types_of(media.data or b"", sent)] == [media.content_type]


def _types_of(data: bytes, sent: Sent) -> list[str]:
    """The content types under which a call carried `data`: as its whole body, or as a part of a form."""
    if sent.body == data:
        return [sent.headers["content-type"]]
    head, found, _ = sent.body.partition(b"\r\n\r\n" + data + b"\r\n--")
    if not found or not sent.headers["content-type"].startswith("multipart/form-data"):
        return []
    lines = head.decode().rpartition("--")[2].split("\r\n")
    return [line.partition(":")[2].strip() for line in lines if line.lower().startswith("content-type:")]


def test_an_adapter_that_takes_uploads_has_the_face_for_it(networked: Player) -> None:
    adapter = networked.adapter()

    assert (MediaForm.UPLOAD in adapter.takes) is isinstance(adapter, Uploads)


# --- nothing is lost, nothing is slipped in ---------------------------------------------------------------------------


@pytest.mark.parametrize("field", EVERY_FIELD)
async def test_what_is_asked_is_refused_or_stands_in_the_body(
    smallest: Ask, field: str, vendors: dict[str, Vendor]
) -> None:
    """Even what the catalogue would have refused: an adapter drops no field in silence."""
    server = vendors[smallest.player.name]
    changes = {field: EVERY_FIELD[field]} | ({"prompt": "", "seconds": 5} if field == "shots" else {})
    asked = msgspec.structs.replace(smallest.request, **changes)
    model_id = smallest.row.model_id.get(asked.mode, smallest.model_id)
    before = len(server.requests())

    async with on_stage(smallest.player, server.url) as (adapter, wire):
        request = handed(asked, adapter.takes)
        submit = adapter.submit(request, model_id=model_id, callback_url=None, client_id=another_attempt())
        refusal = await _refusal(submit)

    if refusal is None:
        if field == "audio" and smallest.row.audio == "always":
            return  # what is always so needs no word in the body
        leaves = _leaves(msgspec.json.decode(wire.sent[-1].body))
        spelt = smallest.player.spelling.get(field, getattr(request, field))
        assert all(_stands(word, leaves) for word in _words(spelt))
        return
    assert (refusal.fault.kind, refusal.fault.verdict) == (Kind.UNSUPPORTED, Verdict.ELSEWHERE)
    assert refusal.outcome is Outcome.NOT_SENT
    assert field in refusal.fault.message
    assert len(server.requests()) == before
    offer = granted(smallest.row, asked)
    assert offer is None or getattr(offer.request, field) is None, "the catalogue grants what the adapter cannot say"


async def _refusal(submit: Any) -> ProviderError | None:
    try:
        await submit
    except ProviderError as error:
        return error
    return None


def _words(given: Any) -> list[Any]:
    """What must stand in the body for a field: a plain value, a picture as it was handed, the prompts of shots."""
    match given:
        case Media():
            return [given.handed]
        case (Media(), *_):
            return [one.handed for one in given]
        case tuple():
            return [shot.prompt for shot in given]
    return [given]


def _stands(word: Any, leaves: list[Any]) -> bool:
    """Whether a word is among the leaves; a shape may stand there as the pixels of a clip of that shape."""
    if word in leaves:
        return True
    asked = parse_ratio(word) if isinstance(word, str) else None
    found = [parse_ratio(leaf) for leaf in leaves if isinstance(leaf, str)]
    return asked is not None and any(one and agrees(one[0] / one[1], asked[0] / asked[1]) for one in found)


def _leaves(value: Any) -> list[Any]:
    match value:
        case dict():
            return [leaf for inner in value.values() for leaf in _leaves(inner)]
        case list():
            return [leaf for inner in value for leaf in _leaves(inner)]
    return [value]


def _grants(ask: Ask, field: str) -> bool:
    row, mode = ask.row, ask.request.mode
    match field:
        case "audio":
            return row.audio != "never"
        case "last_frame":
            return row.last_frame and mode is Mode.FIRST_FRAME
        case "references":
            return row.references > 0 and mode is not Mode.FIRST_FRAME
        case "aspect_ratio":
            return True  # a word for the shape that it has anyway
        case _:
            return bool(getattr(row, field))


UNGRANTED = [(ask, field) for ask in SMALLEST for field in EVERY_FIELD if not _grants(ask, field)]


@pytest.mark.parametrize(("asked", "field"), UNGRANTED, ids=[f"{ask}-{field}" for ask, field in UNGRANTED])
def test_field_that_a_row_does_not_grant_never_reaches_the_adapter(asked: Ask, field: str) -> None:
    changes = {field: EVERY_FIELD[field]} | ({"seconds": None} if field == "shots" else {})

    found = offered(asked.row, msgspec.structs.replace(asked.request, **changes))

    assert found.candidates == ()
    assert found.refusals[0].message
