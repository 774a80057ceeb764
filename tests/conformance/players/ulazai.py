"""UlazAI before `tests/vendors/ulazai.py`.

It documents no way in which a moderation is told, so one is a failure like any other.
"""

from __future__ import annotations

from providers import ulazai
from providers.spec import Kind, Provider, Secret, Verdict
from providers.transport import Transport
from tests.conformance.player import Player
from tests.conformance.table import Ended
from tests.vendors.ulazai import UlazServer

KEY = "planted-ulazai-0123456789abcdef0123456789"


def _make(url: str, transport: Transport) -> Provider:
    return ulazai.make(ulazai.Settings(api_key=Secret(KEY), base_url=url), transport)


PLAYER = Player(
    name="ulazai",
    make=_make,
    vendor=UlazServer,
    secrets=(KEY,),
    hidden_error={"success": False, "error": "Upstream provider error"},
    callbacks=False,
    deviations={"end/moderation": Ended(Kind.GENERATION_FAILED, Verdict.ELSEWHERE)},
)
