"""Looks for a planted credential in everything that a person or a log could come to see."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from tests.conformance.player import Player
from tests.conformance.wire import Sent


def shown(error: BaseException) -> str:
    """All that an error shows: its text, its parts, its causes, as a traceback prints them."""
    return f"{error!r} {vars(error)!r} {''.join(traceback.format_exception(error))}"


def leaks(player: Player, texts: Iterable[str], sent: Iterable[Sent] = ()) -> list[str]:
    """The texts, and the addresses called, that hold a secret of the player."""
    seen = [*texts, *(one.url for one in sent)]
    return [text for text in seen if any(secret in text for secret in player.secrets)]
