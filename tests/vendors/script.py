"""What a vendor server shall do next, told call by call: the words every vendor server of these tests understands.

Law: no vendor's name here. An act spends itself on the calls that it names, in the order in which acts were given; a
call that no act names is answered as the vendor would.

An act is JSON over the wire (`POST /_script`, one object or a list) and a struct in Python:
    Act(verb="status", status=503, headers={"retry-after": "30"}, times=2)      the next two submits are refused
    Act(verb="accept_then_cut", endpoint="kling")                               bought, recorded, and no reply
    Act(verb="status", on="status", status=404, times=3)                        a job that is not there at first
    Act(verb="fail_render", word="runner_disconnected")                         the next job ends badly
A refused connection needs no verb: name a port on which nobody listens.
"""

from __future__ import annotations

import enum
import threading
from typing import Any

import msgspec


class Op(enum.StrEnum):
    """What a call is about."""

    SUBMIT = "submit"
    STATUS = "status"
    RESULT = "result"
    CANCEL = "cancel"
    RUN = "run"  # submit and wait in one call
    LIST = "list"
    UPLOAD = "upload"
    FILE = "file"


class Verb(enum.StrEnum):
    """Three families: how one call is answered, what becomes of one job, and how its callback is delivered."""

    # The call. In brackets: whether the vendor does the work all the same, unless `accepted` says otherwise.
    STATUS = "status"  # [no] an error: `status` (500), the vendor's own words or `body`, plus `headers`
    HTML = "html"  # [yes] a web page, with `status` (200)
    EMPTY = "empty"  # [yes] 200 and nothing
    TRUNCATED = "truncated"  # [yes] the first half of the true body, its length honestly announced
    NO_ID = "no_id"  # [yes] the true answer without the job's id and addresses
    REDIRECT = "redirect"  # [no] `status` (307) to the address in `word`
    SLOW = "slow"  # [yes] the true answer after `seconds`
    DRIP = "drip"  # [yes] the true answer in small pieces over `seconds`
    HALF_REPLY = "half_reply"  # [yes] cut in the middle of the body
    ACCEPT_THEN_CUT = "accept_then_cut"  # [yes] cut before the first byte
    CUT_BEFORE_ACCEPT = "cut_before_accept"  # [no] cut before the first byte
    ACCEPT_THEN_STALL = "accept_then_stall"  # [yes] no byte for `seconds` (0: for ever), then cut
    STALL_BEFORE_ACCEPT = "stall_before_accept"  # [no] likewise
    IGNORE = "ignore"  # on cancel: says yes and lets the job run
    # The job that the next submit makes.
    RENDER = "render"  # takes `seconds` instead of the usual time
    STUCK = "stuck"  # runs for ever
    FAIL_RENDER = "fail_render"  # ends with an error (`word`: its type, `message`)
    FAIL_RESULT = "fail_result"  # ends well, but its result is an error (`status` 422, `word`: its type, `message`)
    INVENTED_STATUS = "invented_status"  # its first `count` status answers say `word`
    RESULT_WITHOUT_FILE = "result_without_file"
    RESULT_MISSING = "result_missing"  # its first `count` result answers are 404
    # The callback of the job that the next submit makes.
    CALLBACK_DROP = "callback_drop"
    CALLBACK_DUPLICATE = "callback_duplicate"  # `count` deliveries in all
    CALLBACK_DELAY = "callback_delay"  # `seconds` late
    CALLBACK_REORDER = "callback_reorder"  # after the callback of a job that was bought later
    CALLBACK_BEFORE_REPLY = "callback_before_reply"  # the job ends at once and is told before the submit's reply


class Family(enum.Enum):
    CALL = enum.auto()
    JOB = enum.auto()
    CALLBACK = enum.auto()

    def has(self, verb: Verb) -> bool:
        if verb.startswith("callback_"):
            return self is Family.CALLBACK
        return self is (Family.JOB if verb in _OF_JOBS else Family.CALL)


_OF_JOBS = frozenset(
    {
        Verb.RENDER,
        Verb.STUCK,
        Verb.FAIL_RENDER,
        Verb.FAIL_RESULT,
        Verb.INVENTED_STATUS,
        Verb.RESULT_WITHOUT_FILE,
        Verb.RESULT_MISSING,
    }
)
_NOT_ACCEPTED = frozenset({Verb.STATUS, Verb.REDIRECT, Verb.CUT_BEFORE_ACCEPT, Verb.STALL_BEFORE_ACCEPT, Verb.IGNORE})


class Act(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of a script: which calls it is for, what happens to them, and how."""

    verb: Verb
    on: Op = Op.SUBMIT
    endpoint: str = ""  # only calls for an endpoint whose id contains this
    times: int = 1  # for so many calls; 0: for all from now on
    after: int = 0  # having let so many pass
    accepted: bool | None = None  # whether the work is done (and billed) all the same; None: as the verb says
    status: int | None = None
    headers: dict[str, str] = {}
    body: Any = None  # instead of the vendor's own words: text, or whatever makes JSON
    seconds: float = 0.0
    count: int = 1
    reset: bool = True  # cuts are resets; False: orderly closes
    word: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        if not Family.CALL.has(self.verb) and self.on not in (Op.SUBMIT, Op.RUN):
            raise ValueError(f"{self.verb} is about a job: it is given on submit, not on {self.on}")
        if self.verb is Verb.IGNORE and self.on is not Op.CANCEL:
            raise ValueError(f"ignore is for cancel, not for {self.on}")

    @property
    def does_the_work(self) -> bool:
        return self.verb not in _NOT_ACCEPTED if self.accepted is None else self.accepted


def act(verb: str, **words: Any) -> Act:
    """An Act from plain words, checked as the control plane checks them; raises msgspec.ValidationError."""
    return msgspec.convert({"verb": verb, **words}, Act)


class _Line(msgspec.Struct):
    act: Act
    passing: int
    left: float


class Script:
    """The acts that are still to come. May be used from any thread."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._lock = threading.Lock()

    def add(self, *acts: Act) -> None:
        with self._lock:
            self._lines += [_Line(act, act.after, act.times or float("inf")) for act in acts]

    def clear(self) -> None:
        with self._lock:
            self._lines.clear()

    def left(self) -> tuple[Act, ...]:
        """Acts that have not spent themselves; a test that ends with some has not tested what it meant to."""
        with self._lock:
            return tuple(line.act for line in self._lines)

    def take(self, op: Op, endpoint: str, family: Family = Family.CALL) -> Act | None:
        """The act for this call, if any; of each family one call takes at most one."""
        with self._lock:
            for line in self._lines:
                if line.act.on is not op or not family.has(line.act.verb) or line.act.endpoint not in endpoint:
                    continue
                if line.passing:
                    line.passing -= 1
                    continue
                line.left -= 1
                if not line.left:
                    self._lines.remove(line)
                return line.act
            return None
