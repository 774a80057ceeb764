"""What an API key looks like, and how one is known again without being kept.

Law: pure. The clock and the randomness come in as data; the key's text is shown once and stored as its SHA-256 only:
256 random bits need no slow hash.

    fg_live_<key id>_<43 characters: 32 random bytes in base64url>_<CRC-32 of all before it, 8 hex digits>

The checksum lets a mistyped key be refused, and a leaked one be recognised by scanners, without a look-up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib

from gateway.store.spec import Key
from providers.spec import Frozen, Secret

RANDOM_BYTES = 37  # 5 for the id, 32 for the secret part

_SHAPE = re.compile(r"(fg_live_([0-9a-v]{8})_[A-Za-z0-9_-]{43})_([0-9a-f]{8})", re.ASCII)
_LONGEST_NAME = 64


class NewKey(Frozen):
    """A key at the one moment when its text is known."""

    text: Secret
    key: Key


def make(
    name: str,
    *,
    now_us: int,
    random: bytes,
    purse_usd_micros: int | None = None,
    scopes: tuple[str, ...] = (),
) -> NewKey:
    """A key for `name`, from RANDOM_BYTES of randomness. Raises ValueError for a name that cannot be shown on one line,
    a negative purse, or too few bytes."""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise ValueError(f"a key's name is 1 to {_LONGEST_NAME} printable characters, without spaces around it")
    if purse_usd_micros is not None and not 0 <= purse_usd_micros < 2**63:
        raise ValueError("a key's purse is an amount of money that is not negative")
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key is made from {RANDOM_BYTES} random bytes")
    key_id = base64.b32hexencode(random[:5]).decode().lower()
    body = f"fg_live_{key_id}_{base64.urlsafe_b64encode(random[5:]).decode().rstrip('=')}"
    text = f"{body}_{_checksum(body)}"
    key = Key(
        id=key_id,
        name=name,
        hash=_hash(text),
        hint=f"fg_live_{key_id}_…{text[-4:]}",
        created_us=now_us,
        purse_usd_micros=purse_usd_micros,
        scopes=scopes,
    )
    return NewKey(text=Secret(text), key=key)


def parse(text: str) -> str | None:
    """The key id in a key's text; None when its shape or checksum is wrong, so that no look-up is worth it."""
    match = _SHAPE.fullmatch(text)
    if match is None or _checksum(match[1]) != match[3]:
        return None
    return match[2]


def opens(text: str, key: Key) -> bool:
    """Whether `text` is this key's and the key still counts. Takes the same time for every wrong text."""
    return hmac.compare_digest(_hash(text), key.hash) and key.revoked_us is None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
