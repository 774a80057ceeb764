"""fal before `tests/vendors/fal.py`.

403 is its word for an empty purse ("User is locked", github.com/fal-ai/fal issue 1112). A finished job's result is
fixed: what the model says with 400 or 422 is the job's end, not a trouble of the call (fal.ai/docs queue/result, read
2026-11-23). A render that the platform could not run ends with a type of the platform's, which is its capacity.
"""

from __future__ import annotations

from providers import fal
from providers.spec import Kind, Outcome, Provider, Secret, Verdict
from providers.transport import Transport
from tests.conformance.player import Player
from tests.conformance.table import Ended, Thrown
from tests.vendors.fal import FalServer
from tests.vendors.script import Act, Op, Verb

KEY_ID, KEY_SECRET = "planted-key-id", "planted0123456789secret0123456789"


def _make(url: str, transport: Transport) -> Provider:
    key = Secret(f"{KEY_ID}:{KEY_SECRET}")
    return fal.make(fal.Settings(api_key=key, base_url=url, rest_url=url, api_url=url), transport)


_FORBIDDEN = {
    "loc": ["body", "prompt"],
    "msg": "The content could not be processed because it was flagged by a content checker.",
    "type": "content_policy_violation",
    "url": "https://docs.fal.ai/errors#content_policy_violation",
    "input": {"prompt": "words of the caller"},
}

PLAYER = Player(
    name="fal",
    make=_make,
    vendor=FalServer,
    secrets=(f"{KEY_ID}:{KEY_SECRET}", KEY_SECRET),
    polls=(Op.STATUS, Op.RESULT),
    hidden_error={"detail": "The request could not be queued", "error_type": "internal_error"},
    policy_at_submit=Act(verb=Verb.STATUS, status=422, body={"detail": [_FORBIDDEN]}),
    deviations={
        "submit/403": Thrown(Kind.INSUFFICIENT_FUNDS, Verdict.ELSEWHERE, Outcome.REJECTED),
        "result/400": Ended(Kind.INVALID_REQUEST, Verdict.ELSEWHERE),
        "result/422": Ended(Kind.INVALID_REQUEST, Verdict.ELSEWHERE),
        "end/failure": Ended(Kind.UNAVAILABLE, Verdict.ELSEWHERE),
    },
)
