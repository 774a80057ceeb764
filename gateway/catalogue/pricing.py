"""Reads the price table of a catalogue row: dollars as a person writes them, into exact integer rates.

Law: pure and exact: a price goes through its decimal text, never through binary fractions, and one finer than a
micro-dollar is a fault. A table that is given prices everything that its row grants, and nothing else.

    price_usd_per_second = 0.42                                          # one rate for everything
    price_usd_per_second = { silent = 0.112, audio = 0.168 }
    price_usd_per_second = { "720p" = { silent = 0.08 }, "1080p" = { silent = 0.16 } }
    price_usd_per_clip   = { "5" = { "720p" = 0.20, "1080p" = 0.45 }, "10" = { "720p" = 0.40, "1080p" = 0.90 } }
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from itertools import product
from typing import Any, Literal, NamedTuple

from gateway.catalogue.rows import MICROS, AudioGrant, Price, Rate, Seconds

_SOUND = {"silent": False, "audio": True}
_STATES = {
    AudioGrant.NEVER: (False,),
    AudioGrant.OPTIONAL: (False, True),
    AudioGrant.ALWAYS: (True,),
}

AddFault = Callable[[str, str], None]  # key path within the row, message


class _Spot(NamedTuple):
    """Where in the table we are: None is "any"."""

    seconds: int | None = None
    resolution: str | None = None
    audio: bool | None = None


def read_price(
    table: Any,
    *,
    per: Literal["second", "clip"],
    resolutions: tuple[str, ...],
    audio: AudioGrant,
    seconds: Seconds,
    add_fault: AddFault,
) -> Price | None:
    """The rates of one row's table. None, after `add_fault`, when it cannot be used."""
    key = f"price_usd_per_{per}"
    prices: dict[_Spot, int] = {}
    grants = _Grants(per, resolutions, audio, seconds)
    if not _walk(table, key, _Spot(), known=grants, prices=prices, add_fault=add_fault):
        return None
    by_seconds = any(spot.seconds is not None for spot in prices)
    rates, holes = [], []
    lengths: tuple[int | None, ...] = seconds.all() if by_seconds else (None,)
    for length, resolution, with_audio in product(lengths, resolutions, _STATES[audio]):
        usd_micros = _find(prices, length, resolution, with_audio)
        if usd_micros is None:
            clip = f"{length} s of {resolution}" if length is not None else resolution
            holes.append(f"{clip} {'with sound' if with_audio else 'silent'}")
        else:
            rates.append(Rate(resolution=resolution, audio=with_audio, usd_micros=usd_micros, seconds=length))
    if holes:
        add_fault(key, f"has no price for {'; '.join(holes)}, which the row grants")
        return None
    return Price(per=per, rates=tuple(rates))


class _Grants(NamedTuple):
    """What the row grants, for telling a key of the table from a slip."""

    per: str
    resolutions: tuple[str, ...]
    audio: AudioGrant
    seconds: Seconds

    def step(self, spot: _Spot, key: str) -> _Spot | str:
        """The spot that `key` leads to, or why it leads nowhere."""
        if key in _SOUND:
            if spot.audio is not None:
                return "silent or audio stands already above"
            if _SOUND[key] not in _STATES[self.audio]:
                return f"prices a clip that the row never makes: audio = {self.audio.value!r}"
            return spot._replace(audio=_SOUND[key])
        if key in self.resolutions:
            return "a resolution stands already above" if spot.resolution else spot._replace(resolution=key)
        if self.per == "clip" and key.isdecimal():
            if spot.seconds is not None:
                return "a duration stands already above"
            return spot._replace(seconds=int(key)) if self.seconds.grants(int(key)) else f"the row makes no {key} s"
        words = ["silent", "audio", *self.resolutions, *(["a number of seconds"] if self.per == "clip" else [])]
        return f"is none of {', '.join(words)}"


def _walk(node: Any, key: str, spot: _Spot, *, known: _Grants, prices: dict[_Spot, int], add_fault: AddFault) -> bool:
    if not isinstance(node, dict):
        usd_micros = _micros(node)
        if isinstance(usd_micros, str):
            add_fault(key, usd_micros)
            return False
        prices[spot] = usd_micros
        return True
    if not node:
        add_fault(key, "is empty")
        return False
    sound = True
    for word, inner in node.items():
        step = known.step(spot, word)
        if isinstance(step, str):
            add_fault(f"{key}.{word}", step)
            sound = False
        else:
            sound &= _walk(inner, f"{key}.{word}", step, known=known, prices=prices, add_fault=add_fault)
    return sound


def _find(prices: dict[_Spot, int], seconds: int | None, resolution: str, audio: bool) -> int | None:
    for spot in product((seconds, None), (resolution, None), (audio, None)):
        if (found := prices.get(_Spot(*spot))) is not None:
            return found
    return None


def _micros(amount: Any) -> int | str:
    """Micro-dollars of a price as written, or what is wrong with it."""
    if isinstance(amount, bool) or not isinstance(amount, int | float | str):
        return f"expected dollars, got {amount!r}"
    try:
        micros = Decimal(str(amount)) * MICROS
    except InvalidOperation:
        return f"expected dollars, got {amount!r}"
    if not micros.is_finite() or micros < 0:
        return f"expected dollars of 0 or more, got {amount!r}"
    if micros != micros.to_integral_value():
        return f"{amount!r} is finer than a micro-dollar"
    return int(micros)
