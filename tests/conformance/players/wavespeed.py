"""WaveSpeed before `tests/vendors/wavespeed.py`.

A rejection that carries 1200, the number of a moderated prediction, is read as one. That a submit is ever rejected so
is inferred (the CLI reads an `error_code` of rejections; wavespeed-cli src/lib/api.ts, read 2026-11-23).
"""

from __future__ import annotations

from providers import wavespeed
from providers.spec import Provider, Secret
from providers.transport import Transport
from tests.conformance.player import Player
from tests.vendors.script import Act, Verb
from tests.vendors.wavespeed import WaveSpeedServer

KEY = "planted0123456789abcdef0123456789abcdef"
WEBHOOK_SECRET = "whsec_planted9876543210fedcba9876543210"


def _make(url: str, transport: Transport) -> Provider:
    settings = wavespeed.Settings(api_key=Secret(KEY), webhook_secret=Secret(WEBHOOK_SECRET), base_url=url)
    return wavespeed.make(settings, transport)


PLAYER = Player(
    name="wavespeed",
    make=_make,
    vendor=WaveSpeedServer,
    secrets=(KEY, WEBHOOK_SECRET),
    hidden_error={"code": 500, "message": "internal error", "data": None},
    policy_at_submit=Act(
        verb=Verb.STATUS,
        status=400,
        body={"code": 400, "message": "The content contains sensitive information.", "error_code": "1200"},
    ),
)
