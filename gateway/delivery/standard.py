"""The webhooks that we send of our own accord: OpenAI's event, signed as Standard Webhooks has it.

Law: pure but for the live view. What is signed is what is sent, and neither prompt nor picture nor a vendor's word is
in it. The signature is one HMAC, which the standard library makes: the package `standardwebhooks` (1.1.0) signs with
one secret where a rotation needs two, and a time beyond UTC wrongly. OpenAI's two clients judge ours in the tests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec

from gateway.api import view
from gateway.delivery.style import Outgoing
from gateway.jobs import Job
from gateway.store.live import LiveView
from gateway.store.outbox import EventType, event_id, event_type
from providers.spec import Secret

SECOND = 1_000_000
MOST_BYTES = 20_000  # of a body: Standard Webhooks' advice


class VideoData(msgspec.Struct, kw_only=True):
    """What is told of a video. OpenAI's events carry the `id` alone; the rest spares most receivers a look-up."""

    id: str
    status: str
    model: str
    created_at: int
    completed_at: int | None
    seconds: str
    size: str
    error: view.ErrorView | None
    usage: view.UsageView
    metadata: dict[str, str] | None  # null where it would make the event too large: GET the video then


class TestData(msgspec.Struct):
    id: str  # the endpoint's


class VideoWebhook(msgspec.Struct, kw_only=True):
    """An event as OpenAI shapes it."""

    id: str
    object: str = "event"
    type: str
    created_at: int
    data: VideoData | TestData


class Standard:
    """A style: see `style`."""

    def __init__(self, live: LiveView) -> None:
        self._live = live

    def body(self, job: Job, *, now_us: int) -> bytes:
        """The event of a job's end, the same whenever it is asked for."""
        shown = view.view(job, self._live)
        data = VideoData(
            id=shown.id,
            status=shown.status,
            model=shown.model,
            created_at=shown.created_at,
            completed_at=shown.completed_at,
            seconds=shown.seconds,
            size=shown.size,
            error=shown.error,
            usage=shown.usage,
            metadata=shown.metadata,
        )
        at = (job.ended_us or now_us) // SECOND
        event = VideoWebhook(id=event_id(job), type=event_type(job).value, created_at=at, data=data)
        body = msgspec.json.encode(event)
        if len(body) > MOST_BYTES:
            data.metadata = None
            body = msgspec.json.encode(event)
        return body

    def headers(self, delivery: Outgoing, body: bytes, *, now_us: int) -> dict[str, str]:
        """The three headers, signed with every live secret."""
        at = str(now_us // SECOND)
        signed = f"{delivery.event}.{at}.".encode() + body
        return {
            "webhook-id": delivery.event,
            "webhook-timestamp": at,
            "webhook-signature": " ".join(f"v1,{sign(signed, secret)}" for secret in delivery.secrets),
        }


def trial_body(delivery: Outgoing) -> bytes:
    """The event that a test sends."""
    data = TestData(id=delivery.webhook or "")
    at = delivery.created_us // SECOND
    return msgspec.json.encode(VideoWebhook(id=delivery.event, type=EventType.TEST.value, created_at=at, data=data))


def sign(content: bytes, secret: Secret) -> str:
    """Base64 of the HMAC-SHA256, under the bytes that the secret's text (`whsec_` + base64) stands for."""
    key = base64.b64decode(secret.reveal().removeprefix("whsec_"))
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
