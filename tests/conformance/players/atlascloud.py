"""AtlasCloud before `tests/vendors/atlascloud.py`.

The suite's key is a good one, so a 401 that this vendor is made to say is one about the path, which Atlas answers in
the same words. A poll's 400 is a job that is not there yet (Atlas's own client waits half a minute for it).
"""

from __future__ import annotations

from providers import atlascloud
from providers.spec import Kind, Outcome, Provider, Secret, Verdict
from providers.transport import Transport
from tests.conformance.player import Player
from tests.conformance.table import Thrown
from tests.vendors.atlascloud import AtlasServer
from tests.vendors.script import Act, Verb

KEY = "planted-atlas-0123456789abcdef0123456789"


def _make(url: str, transport: Transport) -> Provider:
    settings = atlascloud.Settings(
        api_key=Secret(KEY),
        base_url=f"{url}/api/v1",
        billing_url=f"{url}/public/v1",
        jwks_url=f"{url}/api/v1/webhooks/jwks.json",
    )
    return atlascloud.make(settings, transport)


PLAYER = Player(
    name="atlascloud",
    make=_make,
    vendor=AtlasServer,
    secrets=(KEY,),
    hidden_error={"code": 500, "msg": "internal error", "request_id": "req_1", "data": None},
    policy_at_submit=Act(verb=Verb.STATUS, status=400, word="1039", message="content moderation"),
    deviations={
        "submit/401": Thrown(Kind.UNAVAILABLE, Verdict.ELSEWHERE, Outcome.REJECTED),
        "status/400": Thrown(Kind.OPERATION_LOST, Verdict.SAME),
    },
)
