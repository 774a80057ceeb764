"""How many more requests a key may make now: a bucket of one minute's worth for each key, filled again as time passes.

Law: pure bookkeeping; the clock comes in as data. In memory only: a new process begins with full buckets.
"""

from __future__ import annotations

from typing import NamedTuple


class Allowance(NamedTuple):
    """What a key has left after a request. `wait_seconds` is 0 when the request is granted."""

    per_minute: int
    left: int
    full_in_seconds: float
    wait_seconds: float

    @property
    def is_granted(self) -> bool:
        return self.wait_seconds == 0


class Allowances:
    """The buckets, by key."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}  # requests left, and when that was so

    def take(self, key_id: str, per_minute: int, *, now: float) -> Allowance:
        """Count one request of a key that may make so many a minute; `now` in seconds. One that is not granted is not
        counted; while the clock runs back, nothing is filled."""
        left, at = self._buckets.get(key_id, (per_minute, now))
        left = min(left + max(now - at, 0) * per_minute / 60, per_minute)
        granted = left >= 1
        if granted:
            left -= 1
        self._buckets[key_id] = left, now
        wait = 0.0 if granted else (1 - left) * 60 / per_minute
        return Allowance(per_minute, int(left), (per_minute - left) * 60 / per_minute, wait)
