"""What an API key looks like, how one is known again without being kept, and what an operator may set about it.

Law: pure. The clock and the randomness come in as data; the key's text is shown once and stored as its SHA-256 only:
256 random bits need no slow hash.

    fg_live_<key id>_<43 characters: 32 random bytes in base64url>_<CRC-32 of all before it, 8 hex digits>
    fg_test_…  likewise: reaches the sandbox only

The checksum lets a mistyped key be refused, and a leaked one be recognised by scanners, without a look-up. A rotated
key keeps its id, and so its jobs; for a while its old text opens it too.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import re
import zlib

import msgspec

from gateway.store.spec import Key
from providers.spec import Frozen, Secret

ID_BYTES = 5
SECRET_BYTES = 32
RANDOM_BYTES = ID_BYTES + SECRET_BYTES

_SHAPE = re.compile(r"(fg_(?:live|test)_([0-9a-v]{8})_[A-Za-z0-9_-]{43})_([0-9a-f]{8})", re.ASCII)
_LONGEST_NAME = 64
_MOST = 2**63


class Need(enum.StrEnum):
    """What a request may need its key to be allowed. The values are the scopes."""

    WRITE = "videos:write"  # make, cancel, delete, judge; and what tells of it: webhooks, uploads
    READ = "videos:read"  # look at jobs, clips and events; ask what a clip would cost
    USAGE = "usage"
    METRICS = "metrics"  # figures of all keys together: never without being named


_WITHOUT_SCOPES = frozenset({Need.WRITE, Need.READ, Need.USAGE})


class Terms(Frozen):
    """What an operator sets about a key; None or empty: no limit. See `Key`."""

    scopes: tuple[str, ...] = ()
    expires_us: int | None = None
    purse_usd_micros: int | None = None
    budget_day_usd_micros: int | None = None
    budget_month_usd_micros: int | None = None
    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    max_in_flight: int | None = None
    requests_per_minute: int | None = None
    keep_days: int | None = None


NO_LIMITS = Terms()


class NewKey(Frozen):
    """A key at the one moment when its text is known."""

    text: Secret
    key: Key


class Opens(enum.Enum):
    """What a key's text is worth."""

    YES = enum.auto()
    NO = enum.auto()  # another text, or the key was revoked
    EXPIRED = enum.auto()


def make(name: str, *, now_us: int, random: bytes, test: bool = False, terms: Terms = NO_LIMITS) -> NewKey:
    """A key for `name`, from RANDOM_BYTES of randomness. Raises ValueError for a name that cannot be shown on one line,
    terms that make no sense, or too few bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key is made from {RANDOM_BYTES} random bytes")
    key_id = base64.b32hexencode(random[:ID_BYTES]).decode().lower()
    text, hint = _text(key_id, random[ID_BYTES:], test=test)
    key = Key(id=key_id, name=name, hash=_hash(text), hint=hint, created_us=now_us, test=test)
    return NewKey(text=Secret(text), key=changed(key, terms))


def changed(key: Key, terms: Terms) -> Key:
    """The key under these terms, all of them. Raises ValueError."""
    _must_be_sound(key.name, terms)
    return msgspec.structs.replace(key, **msgspec.structs.asdict(terms))


def limited(key: Key, terms: Terms, fields: tuple[str, ...]) -> Key:
    """The key under those of these terms that `fields` names; the others stay. Raises ValueError."""
    unknown = set(fields).difference(Terms.__struct_fields__)
    if unknown:
        raise ValueError(f"a key has no {min(unknown)!r}")
    now = {name: getattr(terms if name in fields else key, name) for name in Terms.__struct_fields__}
    return changed(key, Terms(**now))


def rotated(key: Key, *, now_us: int, random: bytes, overlap_us: int) -> NewKey:
    """The same key under a new text, from SECRET_BYTES of randomness. The text that it has now opens it for
    `overlap_us` more; one that is older than that no longer does. Raises ValueError."""
    if len(random) != SECRET_BYTES:
        raise ValueError(f"a key's secret is made from {SECRET_BYTES} random bytes")
    if overlap_us < 0:
        raise ValueError("an overlap is a time that is not negative")
    text, hint = _text(key.id, random, test=key.test)
    new = msgspec.structs.replace(
        key,
        hash=_hash(text),
        hint=hint,
        old_hash=key.hash if overlap_us else None,
        old_hash_until_us=now_us + overlap_us if overlap_us else None,
    )
    return NewKey(text=Secret(text), key=new)


def parse(text: str) -> str | None:
    """The key id in a key's text; None when its shape or checksum is wrong, so that no look-up is worth it."""
    match = _SHAPE.fullmatch(text)
    if match is None or _checksum(match[1]) != match[3]:
        return None
    return match[2]


def opens(text: str, key: Key, *, now_us: int) -> Opens:
    """Whether `text` is this key's and the key still counts. Takes the same time for every wrong text; whose text is
    wrong does not learn that the key has expired."""
    given = _hash(text)
    is_current = hmac.compare_digest(given, key.hash)
    is_former = hmac.compare_digest(given, key.old_hash or key.hash) and now_us < (key.old_hash_until_us or 0)
    if not (is_current or is_former) or key.revoked_us is not None:
        return Opens.NO
    return Opens.EXPIRED if key.expires_us is not None and now_us >= key.expires_us else Opens.YES


def may(key: Key, need: str) -> bool:
    """Whether the key has this scope."""
    return need in (key.scopes or _WITHOUT_SCOPES)


def _must_be_sound(name: str, terms: Terms) -> None:
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise ValueError(f"a key's name is 1 to {_LONGEST_NAME} printable characters, without spaces around it")
    for what, amount in (
        ("purse", terms.purse_usd_micros),
        ("budget of a day", terms.budget_day_usd_micros),
        ("budget of a month", terms.budget_month_usd_micros),
    ):
        if amount is not None and not 0 <= amount < _MOST:
            raise ValueError(f"a key's {what} is an amount of money that is not negative")
    for what, number, least in (
        ("jobs at once", terms.max_in_flight, 1),
        ("requests a minute", terms.requests_per_minute, 1),
        ("days of keeping", terms.keep_days, 0),
    ):
        if number is not None and not least <= number < 2**31:
            raise ValueError(f"a key's {what} are a whole number from {least} on")
    unknown = [scope for scope in terms.scopes if scope not in set(Need)]
    if unknown:
        raise ValueError(f"there is no scope {unknown[0]!r}; there are {', '.join(Need)}")
    for pattern in (*terms.models, *terms.providers):
        if not pattern or not pattern.isprintable() or len(pattern) > 200:
            raise ValueError("a model or provider is named by 1 to 200 printable characters")


def _text(key_id: str, secret: bytes, *, test: bool) -> tuple[str, str]:
    """A key's text, and what may be shown of it."""
    prefix = f"fg_{'test' if test else 'live'}_{key_id}_"
    body = prefix + base64.urlsafe_b64encode(secret).decode().rstrip("=")
    text = f"{body}_{_checksum(body)}"
    return text, f"{prefix}…{text[-4:]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
