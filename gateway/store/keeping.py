"""What the transactions of keys, secrets and feedback decide: see `transactions`, whose law holds here."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.store.spec import Conflict, Feedback, InvariantBroken, Key, NameTaken, Verdicts
from gateway.store.transactions import Params, Transaction

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
        yield "key_insert", _key_row(key)
    except InvariantBroken as broken:
        if "keys.name" in str(broken) or "keys_name" in str(broken):  # the column on one engine, the index on another
            raise NameTaken(f"a key named {key.name!r} exists; revoke it first, or choose another name") from None
        raise


def read_keys() -> Transaction[tuple[Key, ...]]:
    rows = yield "keys_read", {}
    return tuple(_key(row) for row in rows)


def change_key(was: Key, key: Key) -> Transaction[None]:
    """`key` in the place of `was`, which must be what is stored, and live."""
    rows = yield "key_read", {"id": was.id}
    if not rows or _key(rows[0]) != was or was.revoked_us is not None or key.id != was.id:
        raise Conflict(f"key {was.id} is not stored as it was read: somebody else has changed it")
    yield "key_change", _key_row(key)


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


def nothing() -> Transaction[None]:
    """No statement at all: for what is waited for and is no transaction."""
    return
    yield


def probe(filler: bytes) -> Transaction[None]:
    """Needs room for `filler` and leaves nothing."""
    yield "probe_write", {"filler": filler}
    yield "probe_take_back", {}


_LISTS = ("scopes", "models", "providers")


def _key_row(key: Key) -> Params:
    row = msgspec.structs.asdict(key)
    return {**row, "test": int(key.test), **{name: _encode(row[name]).decode() for name in _LISTS}}


def _key(row: tuple[Any, ...]) -> Key:
    """The statements name the columns in this order."""
    *before, scopes, test, expires_us, old_hash, old_until, day, month, models, providers, jobs, requests, keep = row
    id_, name, hash_, hint, created_us, revoked_us, purse = before
    return Key(
        id=id_,
        name=name,
        hash=hash_,
        hint=hint,
        created_us=created_us,
        revoked_us=revoked_us,
        purse_usd_micros=purse,
        scopes=_strings.decode(scopes),
        test=bool(test),
        expires_us=expires_us,
        old_hash=old_hash,
        old_hash_until_us=old_until,
        budget_day_usd_micros=day,
        budget_month_usd_micros=month,
        models=_strings.decode(models),
        providers=_strings.decode(providers),
        max_in_flight=jobs,
        requests_per_minute=requests,
        keep_days=keep,
    )
