"""What is left of a job, an attempt and an event once their words are erased.

Law: pure. What is left is a ledger: ids, states, instants, backends, seconds, money, kinds of faults. What a person
wrote or showed, and what a vendor said about it, is not.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.jobs import Attempt, Job
from providers.spec import Fault, VideoRequest

# what stays in an event
_NUMBERS = frozenset({"backend", "kind", "code", "price_usd_micros", "cost_usd_micros"})


def job_without_words(job: Job, at_us: int) -> Job:
    """The same line of the ledger, with nothing in it that a person wrote or showed."""
    asked = job.spec.video
    video = VideoRequest(
        seconds=asked.seconds,
        resolution=asked.resolution,
        aspect_ratio=asked.aspect_ratio,
        width=asked.width,
        height=asked.height,
        audio=asked.audio,
        seed=asked.seed,
    )
    spec = msgspec.structs.replace(job.spec, video=video, metadata={}, user=None, callback_url=None, ignored=())
    return msgspec.structs.replace(
        job, spec=spec, fault=_without_message(job.fault), warnings=(), words_erased_us=job.words_erased_us or at_us
    )


def attempt_without_words(attempt: Attempt) -> Attempt:
    """An attempt without the addresses of pictures and without a vendor's sentences."""
    return msgspec.structs.replace(attempt, handed={}, fault=_without_message(attempt.fault))


def event_without_words(data: dict[str, Any]) -> dict[str, Any]:
    """What of an event's data is the ledger's."""
    return {name: value for name, value in data.items() if name in _NUMBERS}


def _without_message(fault: Fault | None) -> Fault | None:
    return None if fault is None else msgspec.structs.replace(fault, message="")
