"""The shared tables: for each trouble of a call, and each end of a job, what an adapter must make of it.

Law: data only. A submit's troubles are `outcome, kind, verdict`; a poll's have no outcome, and always the verdict
`same`: asking costs nothing. Anything that these tables do not name would be `unknown`.
"""

from __future__ import annotations

from typing import NamedTuple

from providers.spec import Kind, Outcome, Verdict
from tests.vendors.script import Act, Verb

STALL_SECONDS = 0.6  # connect and read limit where silence is the trouble


class Thrown(NamedTuple):
    """A ProviderError."""

    kind: Kind
    verdict: Verdict
    outcome: Outcome | None = None  # of a submit
    retry_after_seconds: float | None = None


class Ended(NamedTuple):
    """A Failed status: the job is over, whatever one asks."""

    kind: Kind
    verdict: Verdict


class Trouble(NamedTuple):
    """One way in which a call goes wrong. `act` None: the network does it (`nobody` listens, or `silence` answers)."""

    name: str
    expected: Thrown
    act: Act | None = None
    network: str = ""
    is_bought: bool = False  # whether the vendor's ledger has a row all the same
    is_slow: bool = False  # needs short limits


def _said(status: int, **more: object) -> Act:
    return Act(verb=Verb.STATUS, status=status, **more)  # type: ignore[arg-type]


_UNKNOWN = Thrown(Kind.UNKNOWN, Verdict.UNSURE, Outcome.UNKNOWN)
_BROKEN = Thrown(Kind.UNAVAILABLE, Verdict.UNSURE, Outcome.UNKNOWN)
_LATE = Thrown(Kind.TIMEOUT, Verdict.UNSURE, Outcome.UNKNOWN)


def _rejected(kind: Kind, retry_after_seconds: float | None = None) -> Thrown:
    return Thrown(kind, Verdict.ELSEWHERE, Outcome.REJECTED, retry_after_seconds)


SUBMITS = (
    Trouble("refused", Thrown(Kind.UNAVAILABLE, Verdict.ELSEWHERE, Outcome.NOT_SENT), network="nobody"),
    Trouble(
        "timeout before the body left",
        Thrown(Kind.TIMEOUT, Verdict.ELSEWHERE, Outcome.NOT_SENT),
        network="silence",
        is_slow=True,
    ),
    Trouble(
        "timeout after the body left, bought", _LATE, Act(verb=Verb.ACCEPT_THEN_STALL), is_bought=True, is_slow=True
    ),
    Trouble("timeout after the body left, not bought", _LATE, Act(verb=Verb.STALL_BEFORE_ACCEPT), is_slow=True),
    Trouble("dripping reply", _LATE, Act(verb=Verb.DRIP, seconds=8), is_bought=True, is_slow=True),
    Trouble("cut after the body left, bought", _BROKEN, Act(verb=Verb.ACCEPT_THEN_CUT), is_bought=True),
    Trouble("closed after the body left", _BROKEN, Act(verb=Verb.CUT_BEFORE_ACCEPT, reset=False)),
    Trouble("reply cut in its middle", _BROKEN, Act(verb=Verb.HALF_REPLY, reset=False), is_bought=True),
    Trouble("400", _rejected(Kind.INVALID_REQUEST), _said(400)),
    Trouble("401", _rejected(Kind.AUTHENTICATION), _said(401)),
    Trouble("402", _rejected(Kind.INSUFFICIENT_FUNDS), _said(402)),
    Trouble("403", _rejected(Kind.AUTHENTICATION), _said(403)),
    Trouble("404", _rejected(Kind.UNAVAILABLE), _said(404)),
    Trouble("408", _UNKNOWN, _said(408)),
    Trouble("409", _UNKNOWN, _said(409)),
    Trouble("413", _rejected(Kind.INVALID_REQUEST), _said(413)),
    Trouble("415", _rejected(Kind.INVALID_REQUEST), _said(415)),
    Trouble("422", _rejected(Kind.INVALID_REQUEST), _said(422)),
    Trouble("429", _rejected(Kind.RATE_LIMITED), _said(429)),
    Trouble("429 with seconds", _rejected(Kind.RATE_LIMITED, 30), _said(429, headers={"retry-after": "30"})),
    Trouble("429 with too many", _rejected(Kind.RATE_LIMITED, 300), _said(429, headers={"retry-after": "1e9"})),
    Trouble("429 with nonsense", _rejected(Kind.RATE_LIMITED), _said(429, headers={"retry-after": "abc"})),
    Trouble("500", _UNKNOWN, _said(500)),
    Trouble("500, bought", _UNKNOWN, _said(500, accepted=True), is_bought=True),
    Trouble("502", _UNKNOWN, _said(502)),
    Trouble("503", _UNKNOWN, _said(503)),
    Trouble("504", _UNKNOWN, _said(504)),
    Trouble("HTML", _UNKNOWN, Act(verb=Verb.HTML), is_bought=True),
    Trouble("HTML with 502", _UNKNOWN, Act(verb=Verb.HTML, status=502), is_bought=True),
    Trouble("empty body", _UNKNOWN, Act(verb=Verb.EMPTY), is_bought=True),
    Trouble("truncated JSON", _UNKNOWN, Act(verb=Verb.TRUNCATED), is_bought=True),
    Trouble("200 without an id", _UNKNOWN, Act(verb=Verb.NO_ID), is_bought=True),
    Trouble("redirect", _UNKNOWN, Act(verb=Verb.REDIRECT, word="/elsewhere")),
)
# the same, where the vendor has words of its own for them (Player.hidden_error, Player.policy_at_submit)
HIDDEN_ERROR = _UNKNOWN
POLICY_AT_SUBMIT = Thrown(Kind.CONTENT_POLICY, Verdict.NEVER, Outcome.REJECTED)


def _again(kind: Kind, retry_after_seconds: float | None = None) -> Thrown:
    return Thrown(kind, Verdict.SAME, None, retry_after_seconds)


POLLS = (
    Trouble("refused", _again(Kind.UNAVAILABLE), network="nobody"),
    Trouble("timeout", _again(Kind.TIMEOUT), Act(verb=Verb.STALL_BEFORE_ACCEPT), is_slow=True),
    Trouble("dripping reply", _again(Kind.TIMEOUT), Act(verb=Verb.DRIP, seconds=8), is_slow=True),
    Trouble("cut", _again(Kind.UNAVAILABLE), Act(verb=Verb.CUT_BEFORE_ACCEPT)),
    Trouble("reply cut in its middle", _again(Kind.UNAVAILABLE), Act(verb=Verb.HALF_REPLY, reset=False)),
    Trouble("400", _again(Kind.INVALID_REQUEST), _said(400)),
    Trouble("401", _again(Kind.AUTHENTICATION), _said(401)),
    Trouble("402", _again(Kind.INSUFFICIENT_FUNDS), _said(402)),
    Trouble("403", _again(Kind.AUTHENTICATION), _said(403)),
    Trouble("404", _again(Kind.OPERATION_LOST), _said(404)),
    Trouble("409", _again(Kind.UNAVAILABLE), _said(409)),
    Trouble("422", _again(Kind.INVALID_REQUEST), _said(422)),
    Trouble("429", _again(Kind.RATE_LIMITED), _said(429)),
    Trouble("429 with seconds", _again(Kind.RATE_LIMITED, 30), _said(429, headers={"retry-after": "30"})),
    Trouble("500", _again(Kind.UNAVAILABLE), _said(500)),
    Trouble("502", _again(Kind.UNAVAILABLE), _said(502)),
    Trouble("503", _again(Kind.UNAVAILABLE), _said(503)),
    Trouble("HTML", _again(Kind.UNKNOWN), Act(verb=Verb.HTML)),
    Trouble("HTML with 502", _again(Kind.UNAVAILABLE), Act(verb=Verb.HTML, status=502)),
    Trouble("empty body", _again(Kind.UNKNOWN), Act(verb=Verb.EMPTY)),
    Trouble("truncated JSON", _again(Kind.UNKNOWN), Act(verb=Verb.TRUNCATED)),
    Trouble("redirect", _again(Kind.UNAVAILABLE), Act(verb=Verb.REDIRECT, word="/elsewhere")),
)


class End(NamedTuple):
    """How a job ends badly."""

    name: str
    act: Act
    expected: Ended


ENDS = (
    End("failure", Act(verb=Verb.FAIL_RENDER), Ended(Kind.GENERATION_FAILED, Verdict.ELSEWHERE)),
    End(
        "moderation",
        Act(verb=Verb.FAIL_RESULT, word="content_policy_violation"),
        Ended(Kind.CONTENT_POLICY, Verdict.NEVER),
    ),
    End("no file", Act(verb=Verb.RESULT_WITHOUT_FILE), Ended(Kind.GENERATION_FAILED, Verdict.ELSEWHERE)),
)
