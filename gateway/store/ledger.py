"""The store's counter for money: what keys have spent, what was used, and whether the totals are true.

Law: the store's own (see `spec`). It only reads: totals change with the jobs that they are of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.store import money
from gateway.store.money import Differs, Spent, Used

if TYPE_CHECKING:
    from gateway.store.sql import Engine


class Ledger:
    """Totals, as of the last write."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def spent(self, *, now_us: int) -> dict[str, Spent]:
        """Today and this month, by caller; of those that have made jobs this month."""
        return await self._engine.read(money.spent(money.day_of(now_us)))

    async def spent_by(self, caller: str, *, now_us: int) -> Spent:
        return await self._engine.read(money.spent_by(caller, money.day_of(now_us)))

    async def used(self, caller: str | None, *, first: int, last: int) -> tuple[Used, ...]:
        """By caller, day, model and backend, between two days since 1970, both included; None: of all callers."""
        return await self._engine.read(money.used(caller, first, last))

    async def differs(self) -> tuple[Differs, ...]:
        """Every total that is not the sum of its jobs: none, or something is broken. Reads every job."""
        return await self._engine.read(money.differs())
