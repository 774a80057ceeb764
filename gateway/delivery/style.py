"""How an end is told: whose words the body has, and whose headers sign it. One style for each family of clients.

Law: pure: what is told comes in as a job, the time as a number, the secrets with the delivery.
"""

from __future__ import annotations

from typing import Protocol

from gateway.jobs import Job
from gateway.store.outbox import Delivery
from providers.spec import Secret


class Outgoing(Delivery):
    """A delivery about to be tried, with what signs it: the current secret, then a former one while that lasts."""

    secrets: tuple[Secret, ...] = ()


class Style(Protocol):
    """Registered in `app` under the name that stands in the outbox (`JobSpec.dialect`; empty: standard)."""

    def body(self, job: Job, *, now_us: int) -> bytes:
        """The JSON that tells how an ended job ended; under 20 KB where that can be."""
        ...

    def headers(self, delivery: Outgoing, body: bytes, *, now_us: int) -> dict[str, str]:
        """Lower-case headers beside the content type: its id, which is the same on every try, and the signature."""
        ...
