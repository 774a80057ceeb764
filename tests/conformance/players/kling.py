"""Kling's legacy protocol before `tests/vendors/kling.py`.

403 is its word for a model to which this account has no right (code 1103): a reason to go elsewhere, not to rest the
account. In a status it is of no more weight than any other trouble.
"""

from __future__ import annotations

from collections.abc import Mapping

from providers import kling
from providers.spec import Kind, Outcome, Provider, Secret, Verdict
from providers.transport import Transport
from tests.conformance.player import Player
from tests.conformance.table import Ended, Thrown
from tests.vendors.kling import KlingServer
from tests.vendors.script import Act, Verb

KEY = "api-key-kling-planted0123456789secret0123456789"


def make(url: str, transport: Transport) -> Provider:
    return kling.make(kling.Settings(api_key=Secret(KEY), base_url=url), transport)


HIDDEN_ERROR = {"code": 5000, "message": "internal error", "request_id": "r"}
WITHHELD = {"code": 1301, "message": "The content does not pass the security check", "request_id": "r"}
POLICY = Act(verb=Verb.STATUS, status=400, body=WITHHELD)
DEVIATIONS: Mapping[str, Thrown | Ended] = {
    "submit/403": Thrown(Kind.UNSUPPORTED, Verdict.ELSEWHERE, Outcome.REJECTED),
    "status/403": Thrown(Kind.UNSUPPORTED, Verdict.SAME),
}

PLAYER = Player(
    name="kling",
    protocol="legacy:",
    make=make,
    vendor=KlingServer,
    secrets=(KEY,),
    hidden_error=HIDDEN_ERROR,
    policy_at_submit=POLICY,
    spelling={"audio": "on"},
    deviations=DEVIATIONS,
)
