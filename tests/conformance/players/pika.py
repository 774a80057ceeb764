"""Pika before `tests/vendors/pika.py`.

It takes no callback, and has nothing of its own to say of any trouble.
"""

from __future__ import annotations

from providers import pika
from providers.spec import Provider, Secret
from providers.transport import Transport
from tests.conformance.player import Player
from tests.vendors.pika import PikaServer
from tests.vendors.script import Act, Verb

KEY = "pk_planted0123456789secret0123456789"


def _make(url: str, transport: Transport) -> Provider:
    return pika.make(pika.Settings(api_key=Secret(KEY), base_url=url), transport)


PLAYER = Player(
    name="pika",
    make=_make,
    vendor=PikaServer,
    secrets=(KEY,),
    callbacks=False,
    hidden_error={"error": {"code": "internal", "message": "The request could not be queued"}},
    policy_at_submit=Act(
        verb=Verb.STATUS,
        status=422,
        body={"error": {"code": "content_moderation", "message": "The prompt was flagged by moderation"}},
    ),
)
