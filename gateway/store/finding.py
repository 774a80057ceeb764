"""Lists of a caller's jobs, by what they are filtered by: see `transactions`, whose law holds here.

Law: a page costs what it shows, not what it leaves out: each filter that leaves out nearly everything (one model, one
metadata entry, what is unfinished or has failed) has an index that it is read by, and times are bounds of ids, which
sort by time.
"""

from __future__ import annotations

import msgspec

from gateway import ids
from gateway.jobs import Job, JobState
from gateway.store.transactions import Params, Transaction
from providers.spec import Frozen

MOST_METADATA = 4
_ALL = tuple(JobState)
_FAILED = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})
_FIRST, _LAST = "", "~"  # "~" sorts after every id

_job = msgspec.json.Decoder(Job)


class Sought(Frozen):
    """What a list shows; what is left out bounds nothing."""

    states: tuple[JobState, ...] = ()
    model: str | None = None  # as the caller named it
    metadata: tuple[tuple[str, str], ...] = ()  # at most MOST_METADATA; all of them
    from_us: int | None = None  # made then, or later
    before_us: int | None = None  # made earlier


def find(
    caller: str, sought: Sought, *, after: str | None, limit: int, descending: bool
) -> Transaction[tuple[list[Job], bool]]:
    """A page, and whether there are more. The statement's name says by which index it reads."""
    low, high = _bounds(sought, after, descending=descending)
    states = sought.states or _ALL
    asked: Params = {
        "caller": caller,
        "low": low,
        "high": high,
        "limit": limit + 1,
        "model": sought.model,
        **{f"state_{n + 1}": (states[n] if n < len(states) else states[-1]).value for n in range(len(_ALL))},
    }
    if sought.metadata:
        kind = "with_metadata"
        pairs = [sought.metadata[n] if n < len(sought.metadata) else sought.metadata[0] for n in range(MOST_METADATA)]
        asked = {**asked, **{f"name_{n}": name for n, (name, _) in enumerate(pairs, 1)}}
        asked = {**asked, **{f"value_{n}": value for n, (_, value) in enumerate(pairs, 1)}}
    elif not any(state.is_terminal for state in states):
        kind = "unfinished"
    elif sought.model is not None:
        kind = "of_model"
    elif _FAILED.issuperset(states):
        kind = "failed"
    else:
        kind = "in_state"
    rows = yield f"jobs_{kind}_{'newest' if descending else 'oldest'}_first", asked
    return [_job.decode(doc) for (doc,) in rows[:limit]], len(rows) > limit


def _bounds(sought: Sought, after: str | None, *, descending: bool) -> tuple[str, str]:
    """The ids between which the page lies, both left out."""
    low = _FIRST if sought.from_us is None else _before(sought.from_us)
    high = _LAST if sought.before_us is None else _before(sought.before_us)
    if after is not None:
        low, high = (low, min(high, after)) if descending else (max(low, after), high)
    return low, high


def _before(at_us: int) -> str:
    """What sorts before every job made at this instant or later, and after those made earlier: to the millisecond."""
    return ids.make("video", now_us=max(at_us, 0), random=bytes(16))[: -len("0")]
