"""Signed links: an address of one job's clip that needs no API key and stops being one after a while.

Law: pure. The address names the job and the second of its end, both under the signature; nothing else is in it, and one
that does not verify names nothing.
"""

from __future__ import annotations

import enum

from gateway import tokens

SECOND = 1_000_000
MAX_TOKEN_CHARS = 200


class Unusable(enum.Enum):
    """Why a token opens nothing."""

    UNKNOWN = "unknown"  # no token of ours
    EXPIRED = "expired"  # one of ours, past its end


class Links:
    """Makes and reads the links of one gateway. `key` is the store's secret for them, the same on every replica."""

    def __init__(self, key: bytes, *, life_seconds: int) -> None:
        self._key = key
        self._life_seconds = life_seconds

    def content(self, job_id: str, *, now_us: int, base: str) -> str:
        """The absolute address of a job's clip, good for the configured life from `now_us` on. `base` is the address
        of this gateway as its reader knows it (`https://video.example.com`), with or without a slash at its end."""
        token = tokens.sign(f"{job_id}.{now_us // SECOND + self._life_seconds}", self._key)
        return f"{base.rstrip('/')}/v1/links/{token}/{job_id}.mp4"

    def job_of(self, token: str, *, now_us: int) -> str | Unusable:
        """The id of the job whose clip the token opens."""
        name = tokens.verify(token, self._key) if len(token) <= MAX_TOKEN_CHARS else None
        if name is None:
            return Unusable.UNKNOWN
        job_id, _, until = name.partition(".")
        return job_id if now_us < int(until) * SECOND else Unusable.EXPIRED
