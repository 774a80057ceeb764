"""What has outlived its time is erased, by the server's rules and by each key's; the ledger stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.archive import ArchiveError
from gateway.archiving import object_name
from gateway.jobs import AttemptState, Job, JobEvent, JobState
from gateway.retention import Retention
from gateway.settings import Retention as Rules
from gateway.store.kept import Age
from gateway.store.spec import Event, Feedback, Key, Store, StoreUnavailable
from gateway.store.statements import STATEMENTS
from providers.spec import Fault, Kind, Media, Shot, Verdict, Video, VideoRequest
from tests.api_house import served
from tests.archive_house import FILE, Kept, kept_house
from tests.records import DECISION, NOW_US, a_job, an_attempt, ended, running, started

pytestmark = pytest.mark.anyio

CLIP = b"a clip's bytes " * 10_000
WORDS = "a-lighthouse-in-a-storm"


def opened(tmp_path: Path, **rules: Any) -> AbstractAsyncContextManager[Kept]:
    return kept_house(tmp_path, Rules(**rules), url=f"file://{tmp_path / 'archive'}")


async def archived(kept: Kept, **fields: Any) -> str:
    kept.house.strangers[FILE] = served(CLIP)
    job_id = await kept.finished(prompt=WORDS, **fields)
    await kept.archiver.settle()
    return job_id


async def passed(kept: Kept) -> int:
    """One pass of housekeeping."""
    return await kept.house.rooms.retention.keep_house(kept.clock())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.mp4*") if path.is_file()]


# --- by age -----------------------------------------------------------------------------------------------------------


async def test_without_a_rule_everything_is_kept_for_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        job_id = await archived(kept)
        kept.clock.move(days=10_000)

        assert await passed(kept) == 0

        assert (await kept.content(job_id)).content == CLIP
        assert (await kept.house.job(job_id)).spec.video.prompt == WORDS


async def test_a_clip_that_outlived_its_days_is_gone_and_its_words_stay(tmp_path: Path) -> None:
    async with opened(tmp_path, clips_days=7) as kept:
        job_id = await archived(kept)

        kept.clock.move(days=6.9)
        assert await passed(kept) == 0
        kept.clock.move(days=0.2)
        assert await passed(kept) == 1

        answer = await kept.content(job_id)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
        assert not files(tmp_path)
        job = await kept.house.job(job_id)
        assert (job.spec.video.prompt, job.videos) == (WORDS, ())
        assert await passed(kept) == 0


async def test_words_that_outlived_their_days_are_gone_and_the_clip_stays(tmp_path: Path) -> None:
    async with opened(tmp_path, prompts_days=1) as kept:
        job_id = await archived(kept, metadata={"film": WORDS}, user=WORDS)
        kept.clock.move(days=1.1)

        assert await passed(kept) == 1

        shown = (await kept.house.client.get(f"/v1/videos/{job_id}")).text
        assert WORDS not in shown
        assert (await kept.content(job_id)).content == CLIP


async def test_a_key_may_keep_its_jobs_for_less_than_the_server_does(tmp_path: Path) -> None:
    async with opened(tmp_path, clips_days=30) as kept:
        store = kept.house.store
        await store.create_key(Key(id="key_brief", name="brief", hash="a" * 64, hint="", created_us=1, keep_days=2))
        await store.create_key(Key(id="key_long", name="long", hash="b" * 64, hint="", created_us=1))
        brief, long = await finished(store, caller="key_brief"), await finished(store, caller="key_long")
        kept.clock.now = NOW_US + 3 * 86_400_000_000

        assert await passed(kept) == 1

        assert await words(store, brief.id) == ""
        assert await words(store, long.id) == "a cat in the rain"


async def test_what_a_test_key_made_goes_after_a_week_unless_the_key_says_otherwise(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        store = kept.house.store
        plain = Key(id="key_ci", name="ci", hash="a" * 64, hint="", created_us=1, test=True)
        await store.create_key(plain)
        await store.create_key(msgspec.structs.replace(plain, id="key_long", name="long", hash="b" * 64, keep_days=90))
        week, long = await finished(store, caller="key_ci"), await finished(store, caller="key_long")
        kept.clock.now = NOW_US + 8 * 86_400_000_000

        assert await passed(kept) == 1

        assert await words(store, week.id) == ""
        assert await words(store, long.id) == "a cat in the rain"


async def test_an_unfinished_job_keeps_its_words_however_old_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path, prompts_days=0, clips_days=0) as kept:
        video = await kept.house.create(prompt=WORDS)
        kept.clock.move(days=100)

        assert await passed(kept) == 0

        assert (await kept.house.job(video["id"])).spec.video.prompt == WORDS


async def test_many_jobs_are_erased_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.retention.BATCH", 3)
    async with opened(tmp_path, prompts_days=1, clips_days=1) as kept:
        jobs = [await finished(kept.house.store) for _ in range(10)]
        kept.clock.now = NOW_US + 2 * 86_400_000_000

        assert await passed(kept) == 10

        for job in jobs:
            assert await words(kept.house.store, job.id) == ""


# --- what cannot be done now ------------------------------------------------------------------------------------------


async def test_what_an_archive_out_of_reach_still_has_goes_with_a_later_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as kept:
        job_id = await archived(kept)
        with monkeypatch.context() as broken:
            broken.setattr(kept.archive, "remove", out_of_reach)
            assert (await kept.house.client.delete(f"/v1/videos/{job_id}")).status_code == 200
        assert files(tmp_path)
        assert await kept.house.store.files.unfinished(10) == (job_id,)

        await passed(kept)

        assert not files(tmp_path)
        assert await kept.house.store.files.unfinished(10) == ()


async def out_of_reach(name: str) -> None:
    raise ArchiveError("no route to the store")


async def test_a_clip_in_an_archive_that_is_no_longer_configured_stays_owed(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        job_id = await archived(kept)
        without = Retention(store=kept.house.store, rules=Rules())

        assert await without.delete(job_id, kept.clock())

        assert await kept.house.store.files.unfinished(10) == (job_id,)
        assert (await kept.house.client.get(f"/v1/videos/{job_id}")).status_code == 404


async def test_an_object_that_a_crash_left_unrecorded_goes_with_its_job(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        kept.house.strangers[FILE] = served(CLIP)
        job_id = await kept.finished()
        job = await kept.house.job(job_id)
        await kept.archive.put(object_name(job), one(CLIP))  # and the process died before it wrote that down

        await kept.house.client.delete(f"/v1/videos/{job_id}")

        assert not files(tmp_path)


async def one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_render_on_this_machine_that_goes_on_is_let_go_of_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        still_at_it = True

        async def forget(job: Job) -> bool:
            return not still_at_it

        kept.house.rooms.retention.on_forget(forget)
        job_id = await archived(kept)
        await kept.house.client.delete(f"/v1/videos/{job_id}")
        assert await kept.house.store.files.unfinished(10) == (job_id,)

        still_at_it = False
        await passed(kept)

        assert await kept.house.store.files.unfinished(10) == ()


async def test_the_store_is_written_anew_once_a_day_at_most_and_only_after_an_erasure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, clips_days=1) as kept:
        times: list[int] = []
        compact = kept.house.store.files.compact

        async def counted(at_us: int) -> None:
            times.append(at_us)
            await compact(at_us)

        monkeypatch.setattr(kept.house.store.files, "compact", counted)
        await passed(kept)
        assert times == []

        await archived(kept)
        kept.clock.move(days=1.1)
        await passed(kept)
        assert times == [kept.clock()]
        assert await kept.house.store.files.unclean() == 0
        await archived(kept)
        await passed(kept)
        kept.clock.move(seconds=3600)
        await passed(kept)
        assert len(times) == 1
        kept.clock.move(days=1)
        await passed(kept)
        assert len(times) == 2


# --- the ledger -------------------------------------------------------------------------------------------------------


def full_job() -> Job:
    """A job with words wherever there can be some."""
    picture = Media(
        sha256="c" * 64, content_type="image/png", width=640, height=360, size_bytes=9, source_url=f"https://x/{WORDS}"
    )
    video = VideoRequest(
        prompt=WORDS,
        negative_prompt=WORDS,
        seconds=5,
        audio=False,
        first_frame=picture,
        last_frame=picture,
        references=(picture,),
        shots=(Shot(prompt=WORDS, seconds=5),),
        options={"acme": {"style": WORDS}},
        seed=7,
    )
    job = a_job()
    spec = msgspec.structs.replace(
        job.spec, video=video, metadata={"a": WORDS}, user=WORDS, callback_url=f"https://x/{WORDS}"
    )
    return msgspec.structs.replace(job, spec=spec, warnings=(f"about {WORDS}",))


async def finished(store: Store, job: Job | None = None, **changes: Any) -> Job:
    """A job at its end, with a vendor's words in its attempt and events."""
    fault = Fault(kind=Kind.UNAVAILABLE, verdict=Verdict.ELSEWHERE, message=f"vendor says {WORDS}", code="busy")
    job = started((await store.accept(job or a_job(**changes), decision=DECISION)).job)
    attempt = msgspec.structs.replace(an_attempt(job), handed={"c" * 64: f"https://x/{WORDS}"})
    await store.save(job, attempt=attempt)
    attempt = running(attempt)
    job = msgspec.structs.replace(job, version=job.version + 1)
    await store.save(job, attempt=attempt)
    attempt = msgspec.structs.replace(
        attempt, state=AttemptState.SUCCEEDED, ended_us=NOW_US + 9, cost_usd_micros=560_000, fault=fault
    )
    job = ended(job, videos=(Video(url=f"https://x/{WORDS}.mp4"),), cost_usd_micros=560_000)
    data = {"backend": attempt.backend, "kind": "unavailable", "message": f"vendor says {WORDS}", "cost_usd_micros": 5}
    events = (Event(job=job.id, type=JobEvent.COMPLETED, at_us=NOW_US, attempt=attempt.id, data=data),)
    await store.save(job, attempt=attempt, events=events)
    return job


async def words(store: Store, job_id: str) -> str:
    job = await store.job(job_id)
    assert job is not None
    return job.spec.video.prompt


async def test_what_is_left_of_an_erased_job_is_its_line_in_the_ledger(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        store = kept.house.store
        before = await finished(store, full_job())
        await store.give_feedback(
            Feedback(
                job=before.id, caller=before.caller, backend="acme/kling-v3-pro", accepted=True, at_us=1, note=WORDS
            )
        )
        (attempt_before,) = await store.attempts(before.id)

        assert await kept.house.rooms.retention.delete(before.id, kept.clock())

        job, (attempt,), events = (
            await store.job(before.id),
            await store.attempts(before.id),
            await store.events(before.id),
        )
        assert job is not None
        text = b"".join(msgspec.json.encode(part) for part in (job, attempt, events, await store.decision(job.id)))
        assert WORDS.encode() not in text
        assert b"c" * 64 not in text  # nor the name of a picture
        assert (job.id, job.caller, job.state, job.seconds, job.size) == (
            before.id,
            before.caller,
            JobState.COMPLETED,
            before.seconds,
            before.size,
        )
        assert (job.cost_usd_micros, job.created_us, job.ended_us) == (560_000, before.created_us, before.ended_us)
        assert (job.routing, job.spec.model) == (before.routing, before.spec.model)
        assert (attempt.backend, attempt.cost_usd_micros, attempt.operation, attempt.state) == (
            attempt_before.backend,
            560_000,
            attempt_before.operation,
            "succeeded",
        )
        assert attempt.fault is not None
        assert (attempt.fault.kind, attempt.fault.message) == (Kind.UNAVAILABLE, "")
        assert [event.type for event in events] == ["job.accepted", "job.completed"]
        assert events[1].data == {"backend": attempt.backend, "kind": "unavailable", "cost_usd_micros": 5}
        (counted,) = await store.feedback_counts()
        assert (counted.accepted, counted.rejected) == (1, 0)


async def test_what_is_found_out_later_brings_no_words_back(tmp_path: Path) -> None:
    """An expired job's render is followed for its cost; its owner may have deleted it by then."""
    async with opened(tmp_path) as kept:
        store = kept.house.store
        job = started((await store.accept(full_job(), decision=DECISION)).job)
        attempt = msgspec.structs.replace(an_attempt(job), handed={"c" * 64: f"https://x/{WORDS}"})
        await store.save(job, attempt=attempt)
        job = ended(job, JobEvent.EXPIRED, error_code="expired")
        await store.save(job, events=(Event(job=job.id, type=JobEvent.EXPIRED, at_us=NOW_US),))
        assert await kept.house.rooms.retention.delete(job.id, kept.clock())

        erased = await store.job(job.id)
        assert erased is not None
        data = {"backend": attempt.backend, "message": WORDS}
        event = Event(job=job.id, type="attempt.accepted", at_us=NOW_US, attempt=attempt.id, data=data)
        settled = msgspec.structs.replace(erased, version=erased.version + 1)
        await store.save(settled, attempt=running(attempt), events=(event,))

        (found,) = await store.attempts(job.id)
        text = msgspec.json.encode((found, await store.events(job.id), await store.job(job.id)))
        assert WORDS.encode() not in text
        assert found.operation is not None


async def test_an_event_of_a_job_that_is_not_erased_can_not_be_changed(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        store = kept.house.store
        erased, other = await finished(store), await finished(store)
        await store.files.erase(erased.id, kept.clock())
        engine = store.files._engine

        def change(job_id: str) -> Any:
            rows = yield "events_words", {"job": job_id}
            yield "event_reword", {"seq": rows[0][0], "data": "{}"}

        await engine.write(change(erased.id))
        with pytest.raises(Exception, match="only ever appended"):
            await engine.write(change(other.id))


# --- deletion ---------------------------------------------------------------------------------------------------------


async def test_a_job_is_deleted_once_and_only_after_its_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        retention, store = kept.house.rooms.retention, kept.house.store
        busy, done = (await store.accept(a_job(), decision=DECISION)).job, await finished(store)

        assert not await retention.delete(busy.id, 1)
        assert not await retention.delete(a_job().id, 1)
        assert await retention.delete(done.id, 2)
        assert not await retention.delete(done.id, 3)

        assert await words(store, busy.id) == "a cat in the rain"
        found = await store.job(done.id)
        assert found is not None
        assert (found.deleted_us, found.words_erased_us, found.clip_erased_us) == (2, 2, 2)
        assert found.version > done.version


async def test_a_deletion_that_the_disk_refuses_is_not_said_to_be_done(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        job = await finished(kept.house.store)
        await kept.house.store.close()

        with pytest.raises(StoreUnavailable):
            await kept.house.rooms.retention.delete(job.id, 1)


async def test_outlived_jobs_are_found_by_an_index(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        engine = kept.house.store.files._engine
        bounds = {"words_before_us": 1, "clips_before_us": 1, "before_us": 1, "limit": 1, "caller": "x", "now_us": 1}
        db = engine._opened.writer._db  # type: ignore[attr-defined]
        for name, index in (
            ("kept_outlived", "kept_by_age"),
            ("kept_outlived_of_caller", "kept_by_caller"),
            ("kept_to_archive", "kept_to_archive"),
            ("kept_unfinished", "kept_unfinished"),
            ("kept_unclean", "kept_unclean"),
        ):
            plan = str(db.execute(f"EXPLAIN QUERY PLAN {STATEMENTS[name]}", bounds).fetchall())
            assert f"INDEX {index}" in plan, plan
        assert await kept.house.store.files.outlived(Age(), limit=5) == ()
