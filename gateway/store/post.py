"""The store's counter for push: callers' endpoints, and what is owed to whom.

Law: the store's own (see `spec`): what a write has returned from is on disk.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from gateway import ids
from gateway.store import outbox
from gateway.store.outbox import Delivery, DeliveryState, Line, Try, Webhook
from providers.spec import Secret

if TYPE_CHECKING:
    from gateway.store.live import LiveView
    from gateway.store.sql import Engine

SECRET_BYTES = 32
OVERLAP_US = 24 * 3600 * 1_000_000  # so long two secrets sign, after a rotation


def fresh_secret() -> Secret:
    """A new signing secret, in the form that Standard Webhooks gives it."""
    return Secret("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


class Post:
    """Endpoints, secrets, deliveries and their log."""

    def __init__(self, engine: Engine, live: LiveView) -> None:
        self._engine = engine
        self._live = live

    # --- endpoints and secrets ---

    async def add(self, caller: str, url: str, types: tuple[str, ...], *, now_us: int) -> tuple[Webhook, Secret]:
        """A new endpoint and its secret. Raises TooManyWebhooks."""
        id_ = ids.make("hook", now_us=now_us, random=secrets.token_bytes(16))
        webhook, secret = Webhook(id=id_, caller=caller, url=url, types=types, created_us=now_us), fresh_secret()
        await self._engine.write(outbox.add(webhook, secret))
        return webhook, secret

    async def webhooks(self, caller: str) -> tuple[Webhook, ...]:
        """A caller's, oldest first, disabled ones too."""
        return await self._engine.read(outbox.webhooks(caller))

    async def webhook(self, webhook_id: str) -> Webhook | None:
        return await self._engine.read(outbox.webhook(webhook_id))

    async def remove(self, webhook_id: str, caller: str, *, now_us: int) -> bool:
        """False when the caller has no such endpoint. What it was still owed is not sent any more."""
        return await self._engine.write(outbox.remove(webhook_id, caller, now_us))

    async def secrets(self, owner: str, *, now_us: int) -> tuple[Secret, ...]:
        """What signs for an endpoint, or for a key's callbacks: the current secret, then the former one while it lasts.
        Made on first use."""
        found = await self._engine.read(outbox.live_secrets(owner, now_us))
        return found or await self._engine.write(outbox.keep_secret(owner, fresh_secret(), now_us))

    async def rotate(self, owner: str, *, now_us: int) -> Secret:
        """A new secret; the one before it signs along for a day, and at most two are ever live."""
        fresh = fresh_secret()
        await self._engine.write(outbox.rotate(owner, fresh, now_us=now_us, until_us=now_us + OVERLAP_US))
        return fresh

    # --- what is due ---

    async def lines(self) -> tuple[Line, ...]:
        return await self._engine.read(outbox.lines())

    async def due(self, target: str, *, now_us: int, limit: int) -> tuple[Delivery, ...]:
        return await self._engine.read(outbox.due(target, now_us=now_us, limit=limit))

    async def tried(
        self,
        delivery: Delivery,
        how: Try,
        *,
        state: DeliveryState,
        due_us: int | None = None,
        ends_webhook: str | None = None,
    ) -> bool:
        """Log a try and what follows from it: `due_us` where another one does. False when it was tried in between."""
        transaction = outbox.tried(delivery, how, state=state, due_us=due_us, ends_webhook=ends_webhook)
        return await self._engine.write(transaction)

    async def test(self, webhook: Webhook, *, now_us: int) -> Delivery:
        """Owe an event of no job to one endpoint."""
        event = ids.make("evt", now_us=now_us, random=secrets.token_bytes(16))
        return await self._engine.write(outbox.test(webhook, event, now_us=now_us), lambda _: self._live.post())

    async def again(self, delivery_id: str, *, now_us: int) -> bool:
        """Owe it anew, from the start of the schedule. False when it is unknown."""
        return await self._engine.write(outbox.again(delivery_id, now_us=now_us), lambda _: self._live.post())

    async def forget(self, before_us: int) -> int:
        """Drop what was over before then, with its log; how many."""
        return await self._engine.write(outbox.forget(before_us))

    # --- the log ---

    async def delivery(self, delivery_id: str) -> Delivery | None:
        return await self._engine.read(outbox.read(delivery_id))

    async def of_job(
        self, job_id: str, *, after: str | None = None, limit: int = 100
    ) -> tuple[tuple[Delivery, tuple[Try, ...]], ...]:
        """Newest first, each with its tries."""
        return await self._engine.read(outbox.of_job(job_id, after=after, limit=limit))

    async def of_webhook(
        self, webhook_id: str, *, after: str | None = None, limit: int = 100
    ) -> tuple[tuple[Delivery, tuple[Try, ...]], ...]:
        return await self._engine.read(outbox.of_webhook(webhook_id, after=after, limit=limit))
