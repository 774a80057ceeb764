"""What the sandbox has been asked for and how each order ended, kept as files so that it outlives the process.

Law: an order is on disk before its operation is told, and an end is written once: whoever comes second sees the first
one's. Synchronous: called from threads, never from the event loop.

    <folder>/<id>/order.json   the request, without its pictures' bytes
                  first.picture, last.picture
                  clip.mp4     whole as soon as it has this name
                  end.json     a clip, or a fault
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from providers.sandbox.words import Words, words_of
from providers.spec import Fault, Frozen, Media, VideoRequest

_ID = re.compile(r"sandbox_[0-9a-f]{32}")


class Order(Frozen):
    """One request as it was accepted."""

    client_id: str
    lane: str
    request: VideoRequest
    part: str = ""  # the backend whose part a double plays: "acme/cat"

    def words(self) -> Words:
        """What is staged for it. Raises msgspec.ValidationError and CueUnknown."""
        return words_of(self.request, lane=self.lane, part=self.part or f"sandbox/{self.lane}")


class Clip(Frozen, tag="clip"):
    """It was rendered."""


class Fell(Frozen, tag="fell"):
    """It was not, and why."""

    fault: Fault


End = Clip | Fell


class Orders:
    """The orders of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def name(client_id: str) -> str:
        """The id under which a client's order stands: the same for the same client id."""
        return "sandbox_" + hashlib.sha256(client_id.encode()).hexdigest()[:32]

    def take(self, order: Order) -> str:
        """Keep an order and tell its id; durable on return. An order of the same client id is left as it was."""
        name = self.name(order.client_id)
        room = self._folder / name
        if (room / "order.json").exists():
            return name
        room.mkdir(parents=True, exist_ok=True)
        request = order.request
        for frame, media in (("first", request.first_frame), ("last", request.last_frame)):
            if media is not None:
                _write(room / f"{frame}.picture", media.data or b"")
        bare = msgspec.structs.replace(
            request,
            first_frame=_without_bytes(request.first_frame),
            last_frame=_without_bytes(request.last_frame),
            references=tuple(msgspec.structs.replace(media, data=None, handed=None) for media in request.references),
        )
        _write(room / "order.json", msgspec.json.encode(msgspec.structs.replace(order, request=bare)))
        _sync(self._folder)
        return name

    def read(self, name: str) -> Order | None:
        """The order, or None where there is none under this id."""
        data = self._load(name, "order.json")
        return None if data is None else msgspec.json.decode(data, type=Order)

    def end(self, name: str) -> End | None:
        """How it ended; None while it has not."""
        data = self._load(name, "end.json")
        return None if data is None else msgspec.json.decode(data, type=Clip | Fell)

    def settle(self, name: str, end: End) -> bool:
        """Write how it ended. False when it had ended before: then nothing changes."""
        room = self._folder / name
        draft = _draft(room, msgspec.json.encode(end))
        try:
            os.link(draft, room / "end.json")  # unlike a rename, it fails where the name is taken
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        _sync(room)
        return True

    def picture(self, name: str, frame: Literal["first", "last"]) -> Path | None:
        """The file of the order's first or last frame."""
        file = self._folder / name / f"{frame}.picture"
        return file if file.exists() else None

    def clip(self, name: str) -> Path:
        """Where the finished clip stands."""
        return self._folder / name / "clip.mp4"

    def draft(self, name: str) -> Path:
        """A name of this render's own, to write the clip under until it is whole."""
        return _draft(self._folder / name, b"")

    def clear(self, name: str) -> None:
        """Remove what ended renders have left behind, the clip too where the order did not end with one."""
        for draft in (self._folder / name).glob(".*.part"):
            draft.unlink(missing_ok=True)
        if isinstance(self.end(name), Fell):
            self.clip(name).unlink(missing_ok=True)

    def forget(self, name: str, *, words: bool, clip: bool) -> None:
        """Remove what was asked for, and what was made of it, of an order that has ended."""
        room = self._folder / name
        if not _ID.fullmatch(name) or not room.is_dir():
            return
        if words and clip:
            shutil.rmtree(room)
        elif clip:
            self.clip(name).unlink(missing_ok=True)
        elif words:
            for file in ("order.json", "first.picture", "last.picture"):
                (room / file).unlink(missing_ok=True)

    def _load(self, name: str, file: str) -> bytes | None:
        if not _ID.fullmatch(name):  # an id becomes a path: only our own shape may
            return None
        try:
            return (self._folder / name / file).read_bytes()
        except FileNotFoundError:
            return None


def _without_bytes(media: Media | None) -> Media | None:
    return None if media is None else msgspec.structs.replace(media, data=None, handed=None)


def _draft(room: Path, data: bytes) -> Path:
    with tempfile.NamedTemporaryFile(dir=room, prefix=".", suffix=".part", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return Path(file.name)


def _write(path: Path, data: bytes) -> None:
    _draft(path.parent, data).replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
