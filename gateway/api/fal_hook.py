"""How fal tells of an end: its body, signed with an Ed25519 key of this gateway's own, whose public half it publishes.

Law: the body is signed as it is sent. A receiver that checks fal's webhooks checks ours by changing one address: the
keys are at /fal/.well-known/jwks.json here, for nobody but fal can sign with fal's.

fal.ai/docs webhooks, read 2026-11-23: the signature covers request id, user id, timestamp and the SHA-256 of the body,
joined by line feeds; the headers are X-Fal-Webhook-Request-Id, -User-Id, -Timestamp (seconds) and -Signature (hex).
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.api import Rooms, fal_answers
from gateway.api.answers import encode
from gateway.api.fal_words import DIALECT
from gateway.jobs import Job, JobState
from gateway.links import Links
from gateway.settings import Server
from gateway.store.live import LiveView

if TYPE_CHECKING:
    from gateway.delivery.style import Outgoing, Style

SECOND = 1_000_000
SECRET = "fal-webhook"  # noqa: S105 (the name of the store's secret, which is the private key)


async def webhook_style(rooms: Rooms) -> tuple[str, Style]:
    """The dialect, and how its ends are told."""
    key = await rooms.store.secret(SECRET)
    return DIALECT, Hook(key, rooms.store.live, rooms.links, base=home(rooms.settings.server))


def home(server: Server) -> str:
    """Where callers find this gateway when no request of theirs says it."""
    if server.public_url is not None:
        return server.public_url.rstrip("/")
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http{'s' if server.tls_cert else ''}://{host}:{server.port}"


def jwks(key: bytes) -> dict[str, Any]:
    """The public half of the private key `key`, as a JSON Web Key Set (RFC 8037)."""
    text = base64.urlsafe_b64encode(_private(key).public_key().public_bytes_raw()).decode().rstrip("=")
    thumb = hashlib.sha256(b'{"crv":"Ed25519","kty":"OKP","x":"%s"}' % text.encode()).digest()  # RFC 7638
    kid = base64.urlsafe_b64encode(thumb).decode().rstrip("=")
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": text, "use": "sig", "alg": "EdDSA", "kid": kid}]}


def _private(key: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key)


class Hook:
    """A style of `gateway.delivery`."""

    def __init__(self, key: bytes, live: LiveView, links: Links, *, base: str) -> None:
        self._key = _private(key)
        self._live = live
        self._links = links
        self._base = base

    def body(self, job: Job, *, now_us: int) -> bytes:
        """OK and the model's output, or ERROR and the body that the result would have."""
        told: dict[str, Any] = {"request_id": job.id, "gateway_request_id": job.id}
        if job.state is JobState.COMPLETED:
            url = self._links.content(job.id, now_us=now_us, base=self._base)
            return encode({**told, "status": "OK", "payload": fal_answers.made(job, self._live, url=url)})
        error = f"Invalid status code: {fal_answers.failed_status(job)}"
        return encode({**told, "status": "ERROR", "error": error, "payload": fal_answers.failure(job, self._live)})

    def headers(self, delivery: Outgoing, body: bytes, *, now_us: int) -> dict[str, str]:
        """Whose, when, and the signature of all three with the body's digest."""
        request_id, user_id, moment = delivery.job or delivery.event, delivery.caller, str(now_us // SECOND)
        message = "\n".join((request_id, user_id, moment, hashlib.sha256(body).hexdigest()))
        return {
            "x-fal-webhook-request-id": request_id,
            "x-fal-webhook-user-id": user_id,
            "x-fal-webhook-timestamp": moment,
            "x-fal-webhook-signature": self._key.sign(message.encode()).hex(),
        }
