"""What is still kept of an ended job: its words, its clip, and where the archive has that. Law: data alone."""

from __future__ import annotations

from typing import NamedTuple

from providers.spec import Frozen


class Archived(Frozen):
    """A clip as the archive has it."""

    object: str  # its name there
    size_bytes: int
    sha256: str  # hex
    content_type: str
    at_us: int


class Kept(Frozen):
    """What is still kept of one ended job."""

    job: str
    archived: Archived | None = None
    archive_due_us: int | None = None  # when the archive tries (again); None: nothing is left to do
    archive_tries: int = 0
    words_erased_us: int | None = None
    clip_erased_us: int | None = None
    files_gone_us: int | None = None


class Age(Frozen):
    """How old an ended job may be. Instants; None: for ever."""

    words_before_us: int | None = None
    clips_before_us: int | None = None


class Due(NamedTuple):
    """A clip that the archive is to fetch now."""

    job: str
    tries: int


class Outlived(NamedTuple):
    """A job that has outlived its time, and what of it."""

    job: str
    words: bool
    clip: bool
