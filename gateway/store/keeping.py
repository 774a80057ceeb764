"""What the transactions of keys, secrets and feedback decide: see `transactions`, whose law holds here."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.store.spec import Feedback, InvariantBroken, Key, NameTaken, Verdicts
from gateway.store.transactions import Transaction

_encode = msgspec.json.encode
_strings = msgspec.json.Decoder(tuple[str, ...])


# --- feedback ---------------------------------------------------------------------------------------------------------


def give_feedback(feedback: Feedback) -> Transaction[bool | None]:
    before = yield "feedback_read", {"job": feedback.job}
    yield "feedback_give", {**msgspec.structs.asdict(feedback), "accepted": int(feedback.accepted)}
    return bool(before[0][0]) if before else None


def feedback_counts() -> Transaction[tuple[Verdicts, ...]]:
    rows = yield "feedback_counts", {}
    return tuple(Verdicts(backend, int(accepted), int(rejected)) for backend, accepted, rejected in rows)


# --- keys and secrets -------------------------------------------------------------------------------------------------


def create_key(key: Key) -> Transaction[None]:
    try:
        yield "key_insert", {**msgspec.structs.asdict(key), "scopes": _encode(key.scopes).decode()}
    except InvariantBroken as broken:
        if "keys.name" in str(broken) or "keys_name" in str(broken):  # the column on one engine, the index on another
            raise NameTaken(f"a key named {key.name!r} exists; revoke it first, or choose another name") from None
        raise


def read_keys() -> Transaction[tuple[Key, ...]]:
    rows = yield "keys_read", {}
    return tuple(_key(row) for row in rows)


def revoke_key(id_or_name: str, at_us: int) -> Transaction[Key | None]:
    """The key as revoked; None when no live one has this id or name."""
    rows = yield "key_revoke_by_id", {"id": id_or_name, "at_us": at_us}
    if not rows:
        rows = yield "key_revoke_by_name", {"name": id_or_name, "at_us": at_us}
    return _key(rows[0]) if rows else None


def read_secret(purpose: str) -> Transaction[bytes | None]:
    rows = yield "secret_read", {"purpose": purpose}
    return bytes(rows[0][0]) if rows else None


def keep_secret(purpose: str, fresh: bytes) -> Transaction[bytes]:
    """`fresh`, unless there is one already."""
    yield "secret_keep", {"purpose": purpose, "value": fresh}
    rows = yield "secret_read", {"purpose": purpose}
    return bytes(rows[0][0])


def probe(filler: bytes) -> Transaction[None]:
    """Needs room for `filler` and leaves nothing."""
    yield "probe_write", {"filler": filler}
    yield "probe_take_back", {}


def _key(row: tuple[Any, ...]) -> Key:
    id_, name, hash_, hint, created_us, revoked_us, purse, scopes = row
    return Key(
        id=id_,
        name=name,
        hash=hash_,
        hint=hint,
        created_us=created_us,
        revoked_us=revoked_us,
        purse_usd_micros=purse,
        scopes=_strings.decode(scopes),
    )
