"""What the rooms tell of themselves to whoever counts: one narrow object, which by default hears nothing.

Law: pure; no room waits for an answer, and none knows what becomes of what it says. Whoever listens raises nothing. A
change of a job is told once, after its commit; a replay tells nothing.
"""

from __future__ import annotations

from gateway.jobs import Attempt, Job


class Meter:
    """Hears everything and keeps nothing. The figures of `gateway.metrics` are kept by a subclass."""

    def accepted(self, job: Job) -> None:
        """A new job is on disk."""

    def saved(self, job: Job, attempt: Attempt | None, events: tuple[str, ...]) -> None:
        """A change is on disk: the job and the attempt as they are now, and what happened, by the events' names."""

    def written(self, seconds: float) -> None:
        """A job's change was given to the store so long ago, and is durable now."""

    def decided(self, seconds: float) -> None:
        """A caller's request was matched and ranked in this time."""

    def stepped(self, late_seconds: float) -> None:
        """A step of a job (a submit, a poll) begins, so long after it was due."""

    def delivered(self, state: str, seconds: float) -> None:
        """A try of a webhook was logged: what became of the delivery, and how old it is."""

    def answered(self, method: str, route: str, status: int, seconds: float, code: str) -> None:
        """A request's answer begins. `route` is the template of its path, "" where there is none; `code` the error's,
        "" where there is none."""


SILENT = Meter()
