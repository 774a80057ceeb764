"""Every Prometheus series, each declared once: what has happened is counted here, what is so now is read in `scrape`.

Law: prometheus_client is known to this package alone, with a registry of its own. A label's values come from the
catalogue, the configuration, a closed enumeration or a route's template, never from a caller: no id, prompt or key.
Whatever concerns money or a vendor counts live jobs only; what counts the jobs of test keys too says so by `test`. An
event counts when its commit has returned, once in a process, and a counter begins at nothing with each process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from gateway.jobs import Attempt, AttemptEvent, AttemptState, Job, JobEvent
from gateway.meter import Meter
from gateway.metrics.scrape import Scrape, Sources

MICROS = 1_000_000
LOOK_SECONDS = 0.5  # how often the event loop's lag is measured
MOST_CODES = 128  # error codes that are told apart; there are fewer in the house
OTHER = "other"

RENDER_BUCKETS = (5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 3600)
QUEUE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
DELIVERY_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 28_800, 86_400, 259_200)
DECISION_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
WRITE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_JOB_ENDS: dict[str, str] = {
    JobEvent.COMPLETED: "completed",
    JobEvent.FAILED: "failed",
    JobEvent.CANCELLED: "cancelled",
    JobEvent.EXPIRED: "expired",
}
_SUBMITS: dict[str, str] = {  # the four outcomes of a submit
    AttemptEvent.ACCEPTED: "accepted",
    AttemptEvent.NOT_SENT: "not_sent",
    AttemptEvent.REJECTED: "rejected",
    AttemptEvent.LOST: "unknown",
}
_RESOLVED: dict[str, str] = {
    AttemptEvent.FOUND: "found",
    AttemptEvent.DISPROVED: "disproved",
    AttemptEvent.WRITTEN_OFF: "written_off",
}
_ATTEMPT_ENDS: dict[str, str] = {
    AttemptEvent.SUCCEEDED: "succeeded",
    AttemptEvent.FAILED: "failed",
    AttemptEvent.CANCELLED: "cancelled",
    AttemptEvent.NOT_SENT: "not_sent",
    AttemptEvent.REJECTED: "rejected",
    AttemptEvent.DISPROVED: "disproved",
    AttemptEvent.WRITTEN_OFF: "written_off",
}


class Metrics(Meter):
    """Counts what it is told. With `sources`, a scrape also tells how things stand at that moment."""

    def __init__(self, sources: Sources | None = None) -> None:
        self.registry = CollectorRegistry()
        self._codes: set[str] = set()
        self._requests: dict[tuple[str, str, int], Histogram] = {}
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self.registry)
        if sources is not None:
            self.registry.register(Scrape(sources))

        def counter(name: str, says: str, *labels: str) -> Counter:
            return Counter(f"filmgate_{name}", says, labels, registry=self.registry)

        def seconds(name: str, says: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(f"filmgate_{name}_seconds", says, labels, registry=self.registry, buckets=tuple(buckets))

        self._accepted = counter("jobs_accepted", "Jobs taken on.", "test")
        self._ended = counter(
            "jobs_ended", "Jobs that ended, with the code of what went wrong.", "outcome", "code", "test"
        )
        backend = ("provider", "backend")
        self._submits = counter("submits", "Submits by what is known of them once they are over.", *backend, "outcome")
        self._resolved = counter(
            "unknowns_resolved", "Unknown submits whose fate was settled, and how.", *backend, "how"
        )
        self._ends = counter(
            "attempts_ended", "Attempts that ended, with the kind of what went wrong.", *backend, "end", "kind"
        )
        self._spend = counter(
            "spend_usd",
            'US dollars that attempts have cost; known="false": written off, perhaps spent.',
            *backend,
            "known",
        )
        self._render = seconds(
            "render", "Submit taken to clip done, of renders that ended well.", RENDER_BUCKETS, *backend
        )
        self._queue = seconds("queue", "Job accepted to its first submit.", QUEUE_BUCKETS)
        self._step = seconds("step_lag", "Step of a job (a submit, a poll) due to begun.", LAG_BUCKETS)
        self._delivery = seconds("delivery_lag", "A job's event to its webhook taken.", DELIVERY_BUCKETS)
        self._tries = counter("webhook_tries", "Tries of webhooks, by what became of the delivery.", "state")
        self._decision = seconds("decision", "Matching and ranking one request.", DECISION_BUCKETS)
        self._refusals = counter("requests_refused", "Requests answered with an error, by its code.", "code")
        self._request = seconds(
            "request", "Request to the beginning of its answer.", REQUEST_BUCKETS, "method", "route", "status"
        )
        self._write = seconds("store_write", "A job's change handed to the store to durable on disk.", WRITE_BUCKETS)
        self._loop = seconds("event_loop_lag", "How late the event loop comes to a timer.", LAG_BUCKETS)
        for test in ("false", "true"):
            self._accepted.labels(test)

    def page(self, accept: str) -> tuple[bytes, str]:
        """All series in the format that an Accept header asks for, and the content type of that."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    async def watch_loop(self) -> None:
        """Measures the event loop's lag until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._loop.observe(max(loop.time() - due, 0.0))

    # --- what it is told ----------------------------------------------------------------------------------------------

    def accepted(self, job: Job) -> None:
        self._accepted.labels(_truth(job.test)).inc()

    def saved(self, job: Job, attempt: Attempt | None, events: tuple[str, ...]) -> None:
        for event in events:
            outcome = _JOB_ENDS.get(event)
            if outcome is not None:
                self._ended.labels(outcome, self._code(job.error_code or ""), _truth(job.test)).inc()
            elif attempt is not None and not attempt.test:
                self._attempted(job, attempt, event)

    def _attempted(self, job: Job, attempt: Attempt, event: str) -> None:
        provider, backend = attempt.provider, attempt.backend
        if event == JobEvent.ATTEMPT_STARTED:
            if attempt.no == 1:
                self._queue.observe(_since(job.created_us, attempt.started_us))
            return
        if event in _SUBMITS:
            self._submits.labels(provider, backend, _SUBMITS[event]).inc()
        elif event in _RESOLVED:
            self._resolved.labels(provider, backend, _RESOLVED[event]).inc()
        end = _ATTEMPT_ENDS.get(event)
        if end is None:
            return
        self._ends.labels(provider, backend, end, attempt.fault.kind.value if attempt.fault is not None else "").inc()
        if attempt.cost_usd_micros is not None and attempt.cost_usd_micros > 0:
            known = attempt.state is not AttemptState.WRITTEN_OFF
            self._spend.labels(provider, backend, _truth(known)).inc(attempt.cost_usd_micros / MICROS)
        if event == AttemptEvent.SUCCEEDED and attempt.ended_us is not None:
            took = _since(attempt.accepted_us or attempt.started_us, attempt.ended_us)
            self._render.labels(provider, backend).observe(took)

    def written(self, seconds: float) -> None:
        self._write.observe(seconds)

    def decided(self, seconds: float) -> None:
        self._decision.observe(seconds)

    def stepped(self, late_seconds: float) -> None:
        self._step.observe(max(late_seconds, 0.0))

    def delivered(self, state: str, seconds: float) -> None:
        self._tries.labels(state).inc()
        if state == "delivered":
            self._delivery.observe(max(seconds, 0.0))

    def answered(self, method: str, route: str, status: int, seconds: float, code: str) -> None:
        asked = (method if method in _METHODS else OTHER, route, status // 100)
        kept = self._requests.get(asked)
        if kept is None:  # finding it by its labels takes longer than all the rest
            kept = self._requests[asked] = self._request.labels(asked[0], route or "none", f"{asked[2]}xx")
        kept.observe(seconds)
        if code:
            self._refusals.labels(self._code(code)).inc()

    def _code(self, code: str) -> str:
        """The code, as long as there are no more of them than the house can have."""
        if code not in self._codes:
            if len(self._codes) >= MOST_CODES:
                return OTHER
            self._codes.add(code)
        return code


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _since(start_us: int, end_us: int) -> float:
    return max(end_us - start_us, 0) / MICROS
