"""Draws from a seed and a name.

Law: pure, and the same for ever: a stored seed tells what was drawn.
"""

from __future__ import annotations

from statistics import NormalDist
from zlib import crc32

_MASK = (1 << 64) - 1
_NORMAL = NormalDist()


def seed_of(job_id: str) -> int:
    """The seed of a job's decisions: never 0, so that something is drawn; the same at its acceptance and ever after."""
    return crc32(job_id.encode()) + 1


def normal(seed: int, name: str) -> float:
    """A standard normal number, by the finisher of splitmix64 over the seed and the name; never beyond ±4.5."""
    x = (seed * 0x9E3779B97F4A7C15 + crc32(name.encode()) * 0xD1B54A32D192ED03) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return _NORMAL.inv_cdf(min(max((x ^ (x >> 31)) / 2**64, 3.4e-6), 1 - 3.4e-6))
