"""The store's part in pictures that callers upload once and use by id: whose they are, and until when.

Law: the store's own (see `spec`). A row says that its caller may use the picture; the bytes are kept by whoever holds
them for as long as the row stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.store.spec import StoreError
from gateway.store.transactions import Params, Rows, Transaction
from providers.spec import Frozen, Media

if TYPE_CHECKING:
    from gateway.store.sql import Engine

_encode = msgspec.json.encode
_media = msgspec.json.Decoder(Media)


class UserFile(Frozen):
    """One picture of a caller's own."""

    id: str
    caller: str
    purpose: str
    name: str
    created_us: int
    expires_us: int
    media: Media


class NoRoom(StoreError):
    """The caller has as many files, or bytes of them, as it may have. Nothing was written."""


class Shelf:
    """Its writes raise StoreUnavailable when they could not be made durable, like the store's own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add(self, file: UserFile, *, most_files: int, most_bytes: int) -> None:
        """Durable on return. Raises NoRoom."""
        await self._engine.write(_add(file, most_files, most_bytes))

    async def of(self, caller: str, file_id: str, *, now_us: int) -> UserFile | None:
        """The caller's file of this id, while its time is not over."""
        return await self._engine.read(_of(caller, file_id, now_us))

    async def page(
        self, caller: str, *, after: str | None, limit: int, descending: bool, purpose: str | None, now_us: int
    ) -> tuple[tuple[UserFile, ...], bool]:
        """At most `limit` of the caller's files beyond the id `after`, by age; and whether there are more."""
        return await self._engine.read(_page(caller, after, limit, descending, purpose, now_us))

    async def remove(self, caller: str, file_id: str) -> UserFile | None:
        """What was removed; None when there was none."""
        return await self._engine.write(_remove(caller, file_id))

    async def every(self) -> tuple[UserFile, ...]:
        """All files of all callers, those whose time is over too; for a start, which holds their pictures again."""
        return await self._engine.read(_every())

    async def remove_expired(self, now_us: int) -> tuple[UserFile, ...]:
        """What was removed because its time is over."""
        return await self._engine.write(_remove_expired(now_us))


def _add(file: UserFile, most_files: int, most_bytes: int) -> Transaction[None]:
    row = _row(file)
    return _insert(row, most_files, most_bytes)


def _insert(row: Params, most_files: int, most_bytes: int) -> Transaction[None]:
    ((count, size),) = yield "user_files_count", {"caller": row["caller"], "now_us": row["created_us"]}
    if count >= most_files:
        raise NoRoom(f"there are {count} files already, and {most_files} are kept at most; delete some first")
    if size + row["size_bytes"] > most_bytes:
        raise NoRoom(f"the files would be more than {most_bytes >> 20} MB together; delete some first")
    yield "user_file_insert", row


def _of(caller: str, file_id: str, now_us: int) -> Transaction[UserFile | None]:
    rows = yield "user_file_read", {"caller": caller, "id": file_id, "now_us": now_us}
    return next(iter(_files(rows)), None)


def _page(
    caller: str, after: str | None, limit: int, descending: bool, purpose: str | None, now_us: int
) -> Transaction[tuple[tuple[UserFile, ...], bool]]:
    name, edge = ("user_files_newest_first", "~") if descending else ("user_files_oldest_first", "")
    asked = {"caller": caller, "after": edge if after is None else after, "purpose": purpose, "now_us": now_us}
    rows = yield name, {**asked, "limit": limit + 1}
    return _files(rows[:limit]), len(rows) > limit


def _remove(caller: str, file_id: str) -> Transaction[UserFile | None]:
    rows = yield "user_file_delete", {"caller": caller, "id": file_id}
    return next(iter(_files(rows)), None)


def _every() -> Transaction[tuple[UserFile, ...]]:
    rows = yield "user_files_all", {}
    return _files(rows)


def _remove_expired(now_us: int) -> Transaction[tuple[UserFile, ...]]:
    rows = yield "user_files_forget", {"now_us": now_us}
    return _files(rows)


def _row(file: UserFile) -> Params:
    return {
        "id": file.id,
        "caller": file.caller,
        "purpose": file.purpose,
        "name": file.name,
        "size_bytes": file.media.size_bytes,
        "created_us": file.created_us,
        "expires_us": file.expires_us,
        "media": _encode(file.media).decode(),
    }


def _files(rows: Rows) -> tuple[UserFile, ...]:
    return tuple(
        UserFile(
            id=id,
            caller=caller,
            purpose=purpose,
            name=name,
            created_us=created_us,
            expires_us=expires_us,
            media=_media.decode(media),
        )
        for id, caller, purpose, name, created_us, expires_us, media in rows
    )
