"""Kling's API 2.0 before the same server: another wire, the same words for what goes wrong."""

from __future__ import annotations

from tests.conformance.player import Player
from tests.conformance.players.kling import DEVIATIONS, HIDDEN_ERROR, KEY, POLICY, make
from tests.vendors.kling import KlingServer

PLAYER = Player(
    name="kling",
    protocol="v2:",
    make=make,
    vendor=KlingServer,
    secrets=(KEY,),
    hidden_error=HIDDEN_ERROR,
    policy_at_submit=POLICY,
    spelling={"audio": "native"},
    deviations=DEVIATIONS,
)
