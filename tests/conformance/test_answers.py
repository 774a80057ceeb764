"""What an adapter makes of each answer that was recorded of its vendor."""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from providers.spec import Cancels, Failed, Fault, Operation, Outcome, ProviderError, Status, Succeeded
from tests.conformance.asks import Ask, handed
from tests.conformance.conftest import NETWORKED
from tests.conformance.player import Player
from tests.conformance.test_troubles import first_ask

pytestmark = pytest.mark.anyio

BASE = "http://127.0.0.1:9"


class RecordedReply(msgspec.Struct, forbid_unknown_fields=True):
    """`body` is JSON, or text as it stood. "@base" in it is the address that the adapter was given."""

    status: int
    body: Any
    headers: dict[str, str] = {}

    def play(self) -> httpx.Response:
        body = self.body.encode() if isinstance(self.body, str) else msgspec.json.encode(self.body)
        stream = httpx.ByteStream(body.replace(b"@base", BASE.encode()))
        return httpx.Response(self.status, headers=self.headers, stream=stream)


class Means(msgspec.Struct, forbid_unknown_fields=True):
    """What is made of it: an operation by its id, a status, an error, or nothing. Messages are not compared."""

    operation: str | None = None
    status: Status | None = None
    error: Fault | None = None
    outcome: Outcome | None = None


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    call: str  # submit | poll | cancel
    replies: list[RecordedReply]
    means: Means


class Answers(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    read: str
    made: str
    answers: list[Answer]


class Played(NamedTuple):
    player: Player
    answer: Answer

    def __str__(self) -> str:
        return f"{self.player}-{self.answer.name}"


def answers_of(player: Player) -> str:
    """The file of what was recorded: one for each protocol, where it speaks several."""
    return f"answers-{player.protocol.rstrip(':')}" if player.protocol else "answers"


PLAYED = [Played(player, one) for player in NETWORKED for one in player.recording(answers_of(player), Answers).answers]


@pytest.mark.parametrize("played", PLAYED, ids=str)
async def test_recorded_answer_means_what_it_says(played: Played) -> None:
    replies = iter(played.answer.replies)
    adapter = played.player.adapter(BASE, httpx.MockTransport(lambda request: next(replies).play()))
    ask = first_ask(played.player)

    got = await _made_of(adapter, played.answer.call, ask)

    assert got == played.answer.means
    assert next(replies, None) is None, "not every recorded reply was asked for"


async def _made_of(adapter: Any, call: str, ask: Ask) -> Means:
    try:
        return await _call(adapter, call, ask)
    except ProviderError as error:
        return Means(error=_silent(error.fault), outcome=error.outcome if call == "submit" else None)


async def _call(adapter: Any, call: str, ask: Ask) -> Means:
    operation = _operation(ask)
    match call:
        case "submit":
            request = handed(ask.request, adapter.takes)
            made = await adapter.submit(request, model_id=ask.model_id, callback_url=None, client_id="a")
            return Means(operation=made.id)
        case "poll":
            status = await adapter.poll(operation)
            if isinstance(status, Failed):
                status = msgspec.structs.replace(status, fault=_silent(status.fault))
            return Means(status=status)
        case _:
            assert isinstance(adapter, Cancels)
            await adapter.cancel(operation)
            return Means()


def _operation(ask: Ask) -> Operation:
    return Operation(provider=ask.player.name, id="a-job", ref={"endpoint": ask.model_id})


def _silent(fault: Fault) -> Fault:
    assert 0 < len(fault.message) <= 500
    return msgspec.structs.replace(fault, message="")


def test_there_are_answers_for_a_success_a_failure_and_a_word_that_is_not_known(networked: Player) -> None:
    recorded = networked.recording(answers_of(networked), Answers)

    kinds = {type(answer.means.status) for answer in recorded.answers}
    assert {Succeeded, Failed} <= kinds
    assert recorded.source
    assert recorded.read
