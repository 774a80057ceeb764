"""Whose turn it is when a slot comes free: one caller's thousand jobs do not starve another's one.

Law: pure bookkeeping, no clock. Callers take turns, each with its oldest job first; a job that comes later never
passes one that waits, unless nobody waits for that provider. A turn that is not taken goes on to the next.
"""

from __future__ import annotations

from collections import OrderedDict


class Turns:
    """The jobs that wait for a slot, by provider and caller, in the order in which they will be served."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[str, OrderedDict[str, None]]] = {}  # provider → caller → jobs
        self._waits: dict[str, tuple[str, str]] = {}  # job → provider, caller
        self._called: dict[str, str] = {}  # provider → the job whose turn it is

    def wait(self, job: str, caller: str, provider: str) -> None:
        """Stand in line for a provider. A job keeps its place, unless it now wants another one."""
        known = self._waits.get(job)
        if known is not None and known[0] == provider:
            return
        self.leave(job)
        self._waits[job] = provider, caller
        self._lines.setdefault(provider, OrderedDict()).setdefault(caller, OrderedDict())[job] = None

    def leave(self, job: str) -> None:
        """Out of the line: it got its slot, or wants none any more."""
        known = self._waits.pop(job, None)
        if known is None:
            return
        provider, caller = known
        if self._called.get(provider) == job:
            del self._called[provider]
        callers = self._lines[provider]
        jobs = callers[caller]
        del jobs[job]
        if not jobs:
            del callers[caller]
        if not callers:
            del self._lines[provider]

    def may_go(self, job: str, provider: str) -> bool:
        """Whether this job may take a free slot now: it was called, or nobody waits."""
        return provider not in self._lines or self._called.get(provider) == job

    def call(self, provider: str) -> str | None:
        """The next job in turn, which may go from now on; None when nobody waits. Its caller goes to the line's end."""
        callers = self._lines.get(provider)
        if not callers:
            return None
        known = self._called.get(provider)
        if known is not None:
            return known
        caller, jobs = next(iter(callers.items()))
        callers.move_to_end(caller)
        job = next(iter(jobs))
        self._called[provider] = job
        return job

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
        called = self._called.get(provider)
        if called == job:
            return 0
        mine = [one for one in self._lines[provider][caller] if one != called].index(job)
        ahead, passed = (1 if called else 0) + mine, False
        for other, jobs in self._lines[provider].items():
            if other == caller:
                passed = True
                continue
            others = len(jobs) - (called in jobs)
            ahead += min(others, mine if passed else mine + 1)
        return ahead

    def providers(self) -> tuple[str, ...]:
        """Those that somebody waits for."""
        return tuple(self._lines)

    def waiting(self, provider: str) -> int:
        """How many jobs wait for a provider."""
        return sum(len(jobs) for jobs in self._lines.get(provider, {}).values())
