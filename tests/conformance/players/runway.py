"""Runway before `tests/vendors/runway.py`. It takes no callback address, and keeps a stopped task no longer."""

from __future__ import annotations

from providers import runway
from providers.spec import Provider, Secret
from providers.transport import Transport
from tests.conformance.player import Player
from tests.vendors.runway import RunwayServer

API_SECRET = "key_planted0123456789abcdef0123456789abcdef"


def _make(url: str, transport: Transport) -> Provider:
    return runway.make(runway.Settings(api_key=Secret(API_SECRET), base_url=url), transport)


PLAYER = Player(
    name="runway",
    make=_make,
    vendor=RunwayServer,
    secrets=(API_SECRET,),
    hidden_error={"error": "The task could not be created"},
    callbacks=False,
)
