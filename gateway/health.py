"""Live figures of each backend: how long its renders take, how often they succeed, what is in flight, who is out.

Law: pure: `now` and observations in, figures out; no I/O, no clock, no randomness; memory is bounded. Figures are a
blend of the catalogue's prior and what was seen, and what was seen fades. The caller's own faults, a cancel and a 429
say nothing about a backend's worth and never count against it; a submit that bought nothing counts for the circuit,
never for the chance that a render ends well, and so does a provider that answers no poll.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from gateway.buckets import bucket
from gateway.catalogue import Backend
from gateway.circuits import SECOND_US, Rest, Silence
from gateway.jobs import Attempt, AttemptState
from gateway.paces import TRIAL_US, Z95, Known, times_of
from gateway.renders import HALF_LIFE_US, fade
from providers.spec import Fault, Frozen, Kind

PRIOR_SUCCESSES, PRIOR_FAILURES = 9.0, 1.0  # vendors' renders fail one time in eight to one in four in the field
MAX_TRACKS = 4096  # backends; the one unseen for longest goes first

__all__ = ["HALF_LIFE_US", "SECOND_US", "TRIAL_US", "Z95", "Figures", "Health", "bucket"]

_SAYS_NOTHING = frozenset({Kind.RATE_LIMITED, Kind.CANCELLED})
_NO_ANSWER = frozenset({Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.UNKNOWN})  # the last: a page instead of a reply


class Figures(Frozen, gc=False):
    """What is known of one backend for one bucket, now."""

    p50_seconds: float  # submit → done
    p95_seconds: float
    success: float  # chance that a render ends well, 0 to 1
    samples: int  # renders that these times rest on, as far as they have not faded; 0: the catalogue's prior alone
    in_flight: int  # renders that are out at the provider, on any of its backends: they share its accounts' slots
    slots: int  # renders at once over all of the provider's accounts
    available: bool
    why: str = ""  # why not available, for people
    error: float = 0.0  # standard error of the logarithm of p50
    waiting: int = 0  # jobs here that wait for a slot of the provider
    overdue: int = 0  # renders that are out for longer than 95 % of those before them
    trial: bool = False  # the times are its settled ones, for one job that tries whether it has recovered
    sigma: float = 0.0  # spread of the logarithm of render seconds
    mean_seconds: float = 0.0  # of a render that ends well


class Health:
    """The figures of every backend on this process. One instance; called by the worker only, read by the router.

    `accounts` names each provider's accounts; a provider that is not named has the one account `main`. `slots` gives
    the renders at once over all accounts of a provider, where the operator knows better than the catalogue's row.
    """

    def __init__(
        self, accounts: Mapping[str, Collection[str]] | None = None, slots: Mapping[str, int] | None = None
    ) -> None:
        self._accounts = {provider: tuple(names) for provider, names in (accounts or {}).items()}
        self._counts = {provider: len(names) or 1 for provider, names in self._accounts.items()}
        self._slots = dict(slots or {})
        self._limits: dict[str, int] = {}  # providers that take fewer just now
        self._waiting: dict[str, int] = {}
        self._known: dict[str, Known] = {}  # in the order of their last news
        self._in_flight: dict[str, int] = {}  # by provider
        self._rests: dict[tuple[str, str], Rest] = {}
        self._silences: dict[str, Silence] = {}  # by provider

    # --- what is told ---

    def observe(
        self,
        *,
        backend: str,
        bucket: str,
        at_us: int,
        render_seconds: float | None,
        fault: Fault | None,
        account: str = "main",
        bought: bool = True,
    ) -> None:
        """One attempt came to an end: with its render time (submit → done), or with its fault.

        `bought` is False for a submit that was not taken. A fault of the operator's (a refused key, an empty balance)
        takes the account out: for a minute at first, then one job tries it, and each vain try makes the rest longer.
        """
        known = self._of(backend, at_us)
        if fault is None:
            known.circuit.succeed()
            known.count(at_us, None)
            if render_seconds is not None:
                known.rendered(bucket, math.log(max(render_seconds, 0.001)), at_us)
        elif fault.kind.is_operators:
            self._rests.setdefault((_provider(backend), account), Rest()).refuse(at_us)
        elif fault.kind.is_callers or fault.kind in _SAYS_NOTHING:
            return
        elif not bought:
            known.circuit.refuse(at_us)
        else:
            known.circuit.fail(at_us)
            known.count(at_us, fault.kind)

    def started(self, backend: str, *, bucket: str = "", account: str = "main", at_us: int = 0) -> None:
        """An attempt goes out to this backend. With its bucket and start it is evidence before it ends."""
        provider = _provider(backend)
        self._in_flight[provider] = self._in_flight.get(provider, 0) + 1
        known = self._of(backend, at_us)
        known.sent_us = max(known.sent_us, at_us)
        known.times.clear()
        known.open[at_us, bucket] = known.open.get((at_us, bucket), 0) + 1
        rest = self._rests.get((provider, account))
        for tried in (known.circuit if known.circuit.is_open else None, rest):
            if tried is not None and tried.trying is None and tried.until_us <= at_us:
                tried.trying = at_us

    def accepted(self, backend: str, *, account: str = "main") -> None:
        """The vendor took an attempt on: what only submits had closed is open again."""
        self._rests.pop((_provider(backend), account), None)
        known = self._known.get(backend)
        if known is not None:
            was_refused = known.circuit.is_refused
            known.circuit.take()
            if was_refused:
                self._is_back(_provider(backend))

    def polled(self, backend: str, *, at_us: int, fault: Fault | None = None) -> None:
        """A render was asked for: with an answer, or with this fault. Evidence that costs nothing of whether the
        provider is there, whatever the answer says of the render."""
        provider = _provider(backend)
        silence = self._silences.pop(provider, None)
        if fault is not None and fault.kind in _NO_ANSWER:
            self._silences[provider] = Silence(at_us) if silence is None else silence.still(at_us)
        elif silence is not None and silence.is_news(at_us):
            self._is_back(provider)

    def ended(self, backend: str, *, bucket: str = "", account: str = "main", at_us: int = 0) -> None:
        """An attempt on this backend is over, however it ended. Bucket and start are those that `started` was told."""
        provider = _provider(backend)
        count = self._in_flight.pop(provider, 0) - 1
        if count > 0:
            self._in_flight[provider] = count
        rest, known = self._rests.get((provider, account)), self._known.get(backend)
        for tried in (rest, known.circuit if known is not None else None):
            if tried is not None and tried.trying == at_us:
                tried.trying = None
        if known is None:
            return
        known.times.clear()
        if known.open.get((at_us, bucket), 0) > 1:
            known.open[at_us, bucket] -= 1
        else:
            known.open.pop((at_us, bucket), None)

    def block(self, provider: str, account: str, until_us: int) -> None:
        """Take an account out until then."""
        rest = self._rests.setdefault((provider, account), Rest())
        rest.until_us = until_us

    def waits(self, provider: str, count: int) -> None:
        """So many jobs wait here for a slot of this provider."""
        self._waiting[provider] = count

    def limit(self, provider: str, slots: int | None) -> None:
        """The provider takes no more than so many renders at once just now; None: as many as it should."""
        if slots is None:
            self._limits.pop(provider, None)
        else:
            self._limits[provider] = max(slots, 1)

    def rebuild(self, attempts: Iterable[Attempt]) -> None:
        """Learn from stored attempts, in any order. Open ones are passed by (the worker tells of them by `started`),
        and rests are not restored: whoever starts the process again may just have put the account right."""
        ended = (attempt for attempt in attempts if not attempt.state.is_open and attempt.ended_us is not None)
        for attempt in sorted(ended, key=lambda attempt: attempt.ended_us or 0):
            if attempt.state is not AttemptState.SUCCEEDED and attempt.fault is None:
                continue
            took = None
            if attempt.fault is None and attempt.accepted_us is not None and attempt.ended_us is not None:
                took = (attempt.ended_us - attempt.accepted_us) / SECOND_US
            self.observe(
                backend=attempt.backend,
                bucket=attempt.bucket,
                at_us=attempt.ended_us or 0,
                render_seconds=took,
                fault=attempt.fault,
                account=attempt.account,
                bought=attempt.state not in (AttemptState.NOT_SENT, AttemptState.REJECTED),
            )
        self._rests.clear()

    # --- what is asked ---

    def figures(self, backend: Backend, bucket: str, *, now_us: int) -> Figures:
        """What is known of a backend for a bucket."""
        provider = backend.provider
        known = self._known.get(backend.id)
        good, bad, why = PRIOR_SUCCESSES, PRIOR_FAILURES, ""
        if known is not None:
            kept = fade(now_us - known.at_us)
            good, bad = good + known.good * kept, bad + known.bad * kept
            if known.circuit.is_open:
                silence = self._silences.get(provider)
                why = known.circuit.why_not(now_us, silent=silence is not None and silence.lasts(now_us))
        if self._rests:
            why = self._why_no_account(provider, now_us) or why
        times = times_of(backend, bucket, known, now_us - now_us % SECOND_US)
        slots = self._slots.get(provider) or backend.max_in_flight * self._counts.get(provider, 1)
        if provider in self._limits:
            slots = min(slots, self._limits[provider])
        return Figures(
            p50_seconds=times.p50,
            p95_seconds=times.p95,
            success=good / (good + bad),
            samples=times.samples,
            in_flight=self._in_flight.get(provider, 0),
            slots=slots,
            available=not why,
            why=why,
            error=times.error,
            waiting=self._waiting.get(provider, 0),
            overdue=times.overdue,
            trial=times.trial,
            sigma=times.sigma,
            mean_seconds=times.mean,
        )

    def faults(self, backend: str, *, now_us: int) -> dict[Kind, float]:
        """How often renders of this backend failed of late, by kind; faded."""
        known = self._known.get(backend)
        if known is None:
            return {}
        kept = fade(now_us - known.at_us)
        return {kind: count * kept for kind, count in known.faults.items() if count * kept >= 0.01}

    def newest_us(self, backend: str, bucket: str) -> int | None:
        """When the newest render of this kind of clip ended well; None when none is remembered."""
        known = self._known.get(backend)
        cell = known.cells.get(bucket) if known is not None else None
        return None if cell is None else cell.at_us

    def account_available(self, provider: str, account: str, *, now_us: int) -> bool:
        """Whether an account may be used; for choosing one of several."""
        rest = self._rests.get((provider, account))
        return rest is None or not rest.is_out(now_us)

    def _why_no_account(self, provider: str, now_us: int) -> str:
        accounts = self._accounts.get(provider) or ("main",)
        rests = [self._rests.get((provider, account)) for account in accounts]
        out = [rest for rest in rests if rest is not None and rest.is_out(now_us)]
        if len(out) < len(rests):
            return ""
        which = "its account is" if len(accounts) == 1 else "all of its accounts are"
        until = min(rest.until_us for rest in out)
        if until <= now_us:
            return "one job is out to try its account again: the vendor had refused the credential or the balance"
        left = math.ceil((until - now_us) / SECOND_US)
        return f"{which} out for {left} s more: the vendor refused the credential or the balance"

    def _is_back(self, provider: str) -> None:
        """Submits are taken again, or polls answered: what refused submits had closed on it is tried at once."""
        for backend, known in self._known.items():
            if known.circuit.is_refused and _provider(backend) == provider:
                known.circuit.cut_short()

    def _of(self, backend: str, at_us: int) -> Known:
        found = self._known.pop(backend, None) or Known(at_us)
        self._known[backend] = found
        if len(self._known) > MAX_TRACKS:
            del self._known[next(iter(self._known))]
        return found


def _provider(backend: str) -> str:
    return backend.partition("/")[0]
