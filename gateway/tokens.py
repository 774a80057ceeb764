"""Signed names: the token that stands in a callback's address and says which attempt it rings for, and nothing else.

Law: pure. A token that does not verify names nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

SIGNATURE_BYTES = 20


def sign(name: str, key: bytes) -> str:
    """`name.signature`, safe in a URL's path."""
    return f"{name}.{_signature(name, key)}"


def verify(token: str, key: bytes) -> str | None:
    """The name that `token` was made for, or None when it was not made with `key`."""
    name, _, given = token.rpartition(".")
    good = hmac.compare_digest(given.encode("utf-8", "surrogatepass"), _signature(name, key).encode())
    return name if name and good else None


def _signature(name: str, key: bytes) -> str:
    digest = hmac.digest(key, b"callback:" + name.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.b32hexencode(digest[:SIGNATURE_BYTES]).decode().rstrip("=").lower()
