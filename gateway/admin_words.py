"""What can be asked on the admin socket, and how it is done on an open store.

Law: a command is asked by the command line alone, of whoever holds the store (see `admin`). A key's text passes here
once and is never logged.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import Any, Generic, TypeVar

import msgspec

from gateway import keys
from gateway.jobs import Attempt
from gateway.store.money import Differs, Spent, Used
from gateway.store.spec import Key, NameTaken, Store, StoreError
from providers.spec import Frozen, Secret

R = TypeVar("R")

# --- what can be asked, and what is answered --------------------------------------------------------------------------


class Pong(Frozen, tag_field="reply", tag="pong"):
    pid: int


class Created(Frozen, tag_field="reply", tag="created"):
    text: Secret  # the key itself, for the one time that it is shown
    key: Key


class Listed(Frozen, tag_field="reply", tag="listed"):
    keys: tuple[Key, ...]
    spent: dict[str, Spent] = {}  # by key, of those that have made jobs this month


class Revoked(Frozen, tag_field="reply", tag="revoked"):
    found: bool  # False: no live key has this id or name


class Changed(Frozen, tag_field="reply", tag="changed"):
    key: Key | None  # None: no live key has this id or name


class Reported(Frozen, tag_field="reply", tag="reported"):
    used: tuple[Used, ...]
    names: dict[str, str]  # of the callers in it that are keys


class Checked(Frozen, tag_field="reply", tag="checked"):
    differs: tuple[Differs, ...]


class Attempted(Frozen, tag_field="reply", tag="attempted"):
    attempts: tuple[Attempt, ...]


class Refused(Frozen, tag_field="reply", tag="refused"):
    code: str
    message: str


Reply = Pong | Created | Listed | Revoked | Changed | Reported | Checked | Attempted | Refused


class Command(Frozen, Generic[R], tag_field="command"):
    """Something to ask for; R is the reply to it."""


class Ping(Command[Pong], tag="ping"):
    pass


class CreateKey(Command[Created], tag="keys.create"):
    name: str
    test: bool = False
    terms: keys.Terms = keys.NO_LIMITS


class ListKeys(Command[Listed], tag="keys.list"):
    pass


class RevokeKey(Command[Revoked], tag="keys.revoke"):
    key: str  # id or name


class RotateKey(Command[Created], tag="keys.rotate"):
    key: str  # id or name
    overlap_us: int = 0  # so long the text before it opens the key, too


class LimitKey(Command[Changed], tag="keys.limit"):
    key: str  # id or name
    terms: keys.Terms
    fields: tuple[str, ...]  # those of `terms` that are to hold from now on; the others stay as they are


class ReportUsage(Command[Reported], tag="usage"):
    first: int  # day since 1970
    last: int
    key: str | None = None  # id or name


class CheckTotals(Command[Checked], tag="totals.check"):
    pass


class ListAttempts(Command[Attempted], tag="attempts.list"):
    since_us: int


def _reveal(value: Any) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError  # msgspec then says which type it cannot write


def _hide(type_: type, value: Any) -> Any:
    if type_ is Secret:
        return Secret(value)
    raise NotImplementedError  # likewise, which it cannot read


encode = msgspec.json.Encoder(enc_hook=_reveal).encode
command_of = msgspec.json.Decoder(
    Ping | CreateKey | ListKeys | RevokeKey | RotateKey | LimitKey | ReportUsage | CheckTotals | ListAttempts
).decode
reply_of = msgspec.json.Decoder(Reply, dec_hook=_hide).decode


# --- how it is done ---------------------------------------------------------------------------------------------------


async def answer(store: Store, command: Command[Any]) -> Reply:
    """Do what is asked on an open store. What the store refuses is a reply, too."""
    now_us = time.time_ns() // 1000
    try:
        match command:
            case Ping():
                return Pong(pid=os.getpid())
            case CreateKey(name=name, test=test, terms=terms):
                random = secrets.token_bytes(keys.RANDOM_BYTES)
                new = keys.make(name, now_us=now_us, random=random, test=test, terms=terms)
                await store.create_key(new.key)
                return Created(text=new.text, key=new.key)
            case ListKeys():
                return Listed(keys=await store.keys(), spent=await store.ledger.spent(now_us=now_us))
            case RotateKey(key=name, overlap_us=overlap_us):
                if (known := await _key(store, name)) is None:
                    return Refused(code="no_such_key", message=f"no live key is called {name!r}")
                random = secrets.token_bytes(keys.SECRET_BYTES)
                new = keys.rotated(known, now_us=now_us, random=random, overlap_us=overlap_us)
                await store.change_key(known, new.key)
                return Created(text=new.text, key=new.key)
            case LimitKey(key=name, terms=terms, fields=fields):
                if (known := await _key(store, name)) is None:
                    return Changed(key=None)
                changed = keys.limited(known, terms, fields)
                await store.change_key(known, changed)
                return Changed(key=changed)
            case ReportUsage(first=first, last=last, key=name):
                return await _report(store, name, first, last)
            case CheckTotals():
                return Checked(differs=await store.ledger.differs())
            case RevokeKey(key=key):
                return Revoked(found=await store.revoke_key(key, now_us))
            case ListAttempts(since_us=since_us):
                return Attempted(attempts=await store.attempts_since(since_us))
            case _:
                raise TypeError(f"not a command: {type(command).__name__}")
    except ValueError as error:
        return Refused(code="invalid_request", message=str(error))
    except NameTaken as error:
        return Refused(code="name_taken", message=str(error))
    except StoreError as error:
        return Refused(code="store_failed", message=str(error))


async def _key(store: Store, id_or_name: str) -> Key | None:
    """The live key of this id, else of this name."""
    live = [key for key in await store.keys() if key.revoked_us is None]
    return next((k for k in live if k.id == id_or_name), None) or next((k for k in live if k.name == id_or_name), None)


async def _report(store: Store, name: str | None, first: int, last: int) -> Reported | Refused:
    """Of one key, a revoked one too, or of all."""
    known = await store.keys()
    names = {key.id: key.name for key in known}
    if name is None:
        return Reported(used=await store.ledger.used(None, first=first, last=last), names=names)
    mine = [key.id for key in known if name in (key.id, key.name)] or (["local"] if name == "local" else [])
    if not mine:
        return Refused(code="no_such_key", message=f"no key is or was called {name!r}")
    used = [one for key_id in mine for one in await store.ledger.used(key_id, first=first, last=last)]
    return Reported(used=tuple(used), names=names)
