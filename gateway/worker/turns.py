"""Whose turn it is when a slot comes free: one caller's thousand jobs do not starve another's one.

Law: pure bookkeeping, no clock. Each start of a caller's job is one turn, whether it had to wait or not, and whoever
has had fewer goes first, its oldest job before its others; who comes anew, or comes back, begins level with the last
one served, so that nobody saves turns up. A job that comes later never passes one of its own caller that waits, and
none passes anybody unless it is called. A turn that is not taken goes on to the next.
"""

from __future__ import annotations

from collections import OrderedDict

MANY_CALLERS = 1000  # whose turns are remembered; beyond it, those that are level with a newcomer are forgotten


class _Line:
    """Of one provider."""

    __slots__ = ("called", "jobs", "level", "next")

    def __init__(self) -> None:
        self.jobs: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()  # of each caller that waits, oldest first
        self.next: dict[str, int] = {}  # caller → the turn that it would have next
        self.level = 0  # the turn that was had last
        self.called: str | None = None  # the job that may go

    def turn(self, caller: str) -> int:
        return max(self.next.get(caller, 0), self.level)

    def served(self, caller: str) -> None:
        """This caller has had a turn."""
        self.level = self.turn(caller)
        self.next[caller] = self.level + 1
        if len(self.next) > MANY_CALLERS:
            self.next = {caller: turn for caller, turn in self.next.items() if turn > self.level}


class Turns:
    """The jobs that wait for a slot, by provider and caller, in the order in which they will be served."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._waits: dict[str, tuple[str, str]] = {}  # job → provider, caller

    def wait(self, job: str, caller: str, provider: str) -> None:
        """Stand in line for a provider. A job keeps its place, unless it now wants another one."""
        known = self._waits.get(job)
        if known is not None and known[0] == provider:
            return
        self.leave(job)
        self._waits[job] = provider, caller
        self._lines.setdefault(provider, _Line()).jobs.setdefault(caller, OrderedDict())[job] = None

    def went(self, job: str, caller: str, provider: str) -> None:
        """This job has taken a slot of the provider: its caller has had a turn, unless it was called to it."""
        line = self._lines.setdefault(provider, _Line())
        if line.called != job:
            line.served(caller)
        self.leave(job)

    def leave(self, job: str) -> None:
        """Out of the line: it got its slot, or wants none any more."""
        known = self._waits.pop(job, None)
        if known is None:
            return
        provider, caller = known
        line = self._lines[provider]
        if line.called == job:
            line.called = None
        jobs = line.jobs[caller]
        del jobs[job]
        if not jobs:
            del line.jobs[caller]

    def may_go(self, job: str, provider: str) -> bool:
        """Whether this job may take a free slot now: it was called, or nobody waits."""
        line = self._lines.get(provider)
        return line is None or not line.jobs or line.called == job

    def call(self, provider: str) -> str | None:
        """The next job in turn, which may go from now on; None when nobody waits."""
        line = self._lines.get(provider)
        if line is None or not line.jobs:
            return None
        if line.called is None:
            caller = min(line.jobs, key=line.turn)  # of equals, the one that has waited for longest
            line.called = next(iter(line.jobs[caller]))
            line.served(caller)
        return line.called

    def place(self, job: str) -> tuple[str, int] | None:
        """The provider that this job stands in line for, and how many will be served before it; None when for none."""
        position = self.position(job)
        return None if position is None else (self._waits[job][0], position)

    def position(self, job: str) -> int | None:
        """How many jobs will be served before this one; None when it does not wait."""
        known = self._waits.get(job)
        if known is None:
            return None
        provider, caller = known
        line = self._lines[provider]
        if line.called == job:
            return 0
        mine = [one for one in line.jobs[caller] if one != line.called].index(job)
        turn = line.turn(caller) + mine
        ahead, passed = mine + (line.called is not None), False
        for other, jobs in line.jobs.items():
            if other == caller:
                passed = True
                continue
            sooner = turn - line.turn(other) + (0 if passed else 1)  # of equal turns, the earlier caller's goes first
            ahead += min(len(jobs) - (line.called in jobs), max(sooner, 0))
        return ahead

    def providers(self) -> tuple[str, ...]:
        """Those that somebody waits for."""
        return tuple(provider for provider, line in self._lines.items() if line.jobs)

    def waiting(self, provider: str) -> int:
        """How many jobs wait for a provider."""
        line = self._lines.get(provider)
        return sum(len(jobs) for jobs in line.jobs.values()) if line is not None else 0
