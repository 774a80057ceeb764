"""The sandbox renders here: it has no vendor server, no credential and no troubles of a network.

Its waiting and its failures by chance are off, so that a clip takes as long as its frames do.
"""

from __future__ import annotations

from providers import sandbox
from providers.spec import Provider
from providers.transport import Transport
from tests.conformance.player import Player


def _make(folder: str, transport: Transport) -> Provider:
    return sandbox.make(sandbox.Settings(folder=folder, pace=0, failures=False), transport)


PLAYER = Player(
    name="sandbox",
    make=_make,
    staged={"failure": {"fail": True}, "moderation": {"fail": "content_policy"}, "held": {"hold": True}},
)
