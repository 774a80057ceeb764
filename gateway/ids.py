"""Ids of ours: sortable by time, prefixed by what they name, 128 random bits, never a vendor's.

Law: pure; the clock and the randomness come in as data, unless `fresh` is called at the edge.
"""

from __future__ import annotations

import base64
import re
import secrets
import time

_SHAPE = re.compile(r"([a-z]+)_[0-9a-v]{36}")


def make(prefix: str, *, now_us: int, random: bytes) -> str:
    """`prefix_` + 48 bits of milliseconds + 128 random bits in base32hex, lower case (its letters sort as bytes do)."""
    raw = (now_us // 1000).to_bytes(6, "big") + random[:16]
    return f"{prefix}_{base64.b32hexencode(raw).decode().rstrip('=').lower()}"


def fresh(prefix: str) -> str:
    """A new id for now."""
    return make(prefix, now_us=time.time_ns() // 1000, random=secrets.token_bytes(16))


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of such an id; checked before any look-up."""
    match = _SHAPE.fullmatch(text)
    return match is not None and match.group(1) == prefix
