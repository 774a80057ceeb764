"""What the transactions of files and erasure decide: see `transactions`, whose law holds here.

Law: a job's words go from every row that holds some, in one transaction.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.jobs import Attempt, Job
from gateway.store.kept import Age, Archived, Due, Kept, Outlived
from gateway.store.transactions import Transaction, _job_row, _save_job
from gateway.store.words import attempt_without_words, event_without_words, job_without_words

_encode = msgspec.json.encode
_job = msgspec.json.Decoder(Job)
_attempt = msgspec.json.Decoder(Attempt)
_data = msgspec.json.Decoder(dict[str, Any])

NEVER_US = 0  # before every job's end: nothing is that old


# --- erasure ----------------------------------------------------------------------------------------------------------


def erase(job_id: str, at_us: int, *, words: bool, clip: bool, deleted: bool) -> Transaction[Job | None]:
    rows = yield "job_read", {"id": job_id}
    job = _job.decode(rows[0][0]) if rows else None
    if job is None or job.ended_us is None or (deleted and job.deleted_us is not None):
        return None
    # first the row of `kept`: it is what lets an event's words go
    yield "kept_erase", {"job": job_id, "words_us": at_us if words else None, "clip_us": at_us if clip else None}
    changes: dict[str, Any] = {"version": job.version + 1}
    if deleted:
        changes["deleted_us"] = at_us
    if clip:
        changes["clip_erased_us"] = job.clip_erased_us or at_us
    if words:
        yield from _erase_around(job_id)
        job = job_without_words(job, at_us)
    job = msgspec.structs.replace(job, **changes)
    yield from _save_job(_job_row(job))
    return job


def _erase_around(job_id: str) -> Transaction[None]:
    """The words in the rows that belong to a job."""
    for (doc,) in (yield "attempts_of_job", {"job": job_id}):
        attempt = _attempt.decode(doc)
        bare = attempt_without_words(attempt)
        if bare != attempt:
            yield "attempt_reword", {"id": attempt.id, "doc": _encode(bare).decode()}
    for seq, text in (yield "events_words", {"job": job_id}):
        data = _data.decode(text)
        bare_data = event_without_words(data)
        if bare_data != data:
            yield "event_reword", {"seq": seq, "data": _encode(bare_data).decode()}
    yield "feedback_reword", {"job": job_id}
    yield "job_metadata_forget", {"job": job_id}


def unfinished(limit: int) -> Transaction[tuple[str, ...]]:
    rows = yield "kept_unfinished", {"limit": limit}
    return tuple(job for (job,) in rows)


def removed(job_id: str, at_us: int) -> Transaction[Job | None]:
    """The job without the address of an erased clip."""
    rows = yield "job_read", {"id": job_id}
    job = _job.decode(rows[0][0])
    yield "kept_removed", {"job": job_id, "at_us": at_us}
    if job.clip_erased_us is None or not job.videos:
        return None
    job = msgspec.structs.replace(job, videos=(), version=job.version + 1)
    yield from _save_job(_job_row(job))
    return job


def outlived(age: Age, caller: str | None, limit: int) -> Transaction[tuple[Outlived, ...]]:
    words = NEVER_US if age.words_before_us is None else age.words_before_us
    clips = NEVER_US if age.clips_before_us is None else age.clips_before_us
    bounds = {"words_before_us": words, "clips_before_us": clips, "before_us": max(words, clips), "limit": limit}
    if caller is None:
        rows = yield "kept_outlived", bounds
    else:
        rows = yield "kept_outlived_of_caller", {**bounds, "caller": caller}
    return tuple(Outlived(job, bool(has_words), bool(has_clip)) for job, has_words, has_clip in rows)


def unclean() -> Transaction[int]:
    rows = yield "kept_unclean", {}
    return int(rows[0][0])


def clean(at_us: int) -> Transaction[None]:
    yield "kept_clean", {"at_us": at_us}


# --- archive ----------------------------------------------------------------------------------------------------------


def of(job_id: str) -> Transaction[Kept | None]:
    rows = yield "kept_read", {"job": job_id}
    if not rows:
        return None
    object_, size, sha256, kind, at_us, due_us, tries, words_us, clip_us, gone_us = rows[0]
    archived = None
    if at_us is not None:
        archived = Archived(object=object_, size_bytes=size, sha256=sha256, content_type=kind, at_us=at_us)
    return Kept(
        job=job_id,
        archived=archived,
        archive_due_us=due_us,
        archive_tries=tries,
        words_erased_us=words_us,
        clip_erased_us=clip_us,
        files_gone_us=gone_us,
    )


def to_archive(now_us: int, limit: int) -> Transaction[tuple[Due, ...]]:
    rows = yield "kept_to_archive", {"now_us": now_us, "limit": limit}
    return tuple(Due(job, tries) for job, tries in rows)


def archive_later(job_id: str, due_us: int | None) -> Transaction[None]:
    yield "kept_archive_later", {"job": job_id, "due_us": due_us}


def archived(job_id: str, archived: Archived) -> Transaction[bool]:
    rows = yield "kept_archived", {"job": job_id, **msgspec.structs.asdict(archived)}
    return bool(rows)
