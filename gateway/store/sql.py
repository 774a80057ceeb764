"""A Store over any SQL engine: it names the transactions, keeps the live view in step, and makes what needs randomness.

Law: no SQL and no engine's name here. The live view shows a job only once its commit has returned, and before whoever
awaits that commit goes on.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from gateway.jobs import Attempt, Job, JobEvent
from gateway.store import finding, history, keeping, transactions
from gateway.store.feed import SHOWN, Happened
from gateway.store.files import Files
from gateway.store.finding import Sought
from gateway.store.ledger import Ledger
from gateway.store.live import LiveView
from gateway.store.post import Post
from gateway.store.shelf import Shelf
from gateway.store.spec import Accepted, Event, Feedback, Idempotency, Key, Trouble, Verdicts
from gateway.store.transactions import Saved, Transaction

T = TypeVar("T")

SECRET_BYTES = 32


class Engine(Protocol):
    """What a database must be able to do for us."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def write(self, transaction: Transaction[T], landed: Callable[[T], None] | None = None) -> T:
        """Run it, durable on return. `landed` gets its result on the loop first, even when nobody awaits any more."""
        ...

    async def read(self, transaction: Transaction[T]) -> T: ...

    async def fold_log(self) -> None:
        """Let go of the log of changes, where the engine keeps one beside its file."""
        ...

    async def compact(self) -> None:
        """Write everything anew, without the bytes that nothing uses."""
        ...

    def writable(self) -> bool: ...

    def trouble(self) -> Trouble | None: ...


class SqlStore:
    """The Store of `gateway.store.spec`, whatever the engine."""

    def __init__(self, engine: Engine) -> None:
        self.live = LiveView()
        self.post = Post(engine, self.live)
        self.files = Files(engine, self.live)
        self.ledger = Ledger(engine)
        self.shelf = Shelf(engine)
        self._engine = engine
        self._secrets: dict[str, bytes] = {}

    async def open(self) -> None:
        await self._engine.open()
        try:
            for job, _ in await self.open_work():
                self.live.put(job)
            self.live.put_keys(await self.keys())
        except BaseException:
            await self._engine.close()
            raise

    async def close(self) -> None:
        await self._engine.close()

    async def accept(self, job: Job, *, decision: bytes, idempotency: Idempotency | None = None) -> Accepted:
        def landed(accepted: Accepted) -> None:
            self.live.put(accepted.job)
            if not accepted.replayed:
                new = accepted.job
                happened = Happened(accepted.seq, JobEvent.ACCEPTED.value, new.created_us, None, new)
                self.live.meter.accepted(new)
                self.live.feed.announce(happened)

        return await self._timed(transactions.accept(job, decision, idempotency), landed)

    async def replayed(self, caller: str, idempotency: Idempotency, now_us: int) -> Job | None:
        job = await self._engine.read(transactions.replayed(caller, idempotency, now_us))
        return None if job is None else self.live.newest(job)

    async def retried(self, caller: str, prefix: str, now_us: int, *, limit: int) -> tuple[Job, ...]:
        jobs = await self._engine.read(transactions.retried(caller, prefix, now_us, limit))
        return tuple(self.live.newest(job) for job in jobs)

    async def save(self, job: Job, *, attempt: Attempt | None = None, events: tuple[Event, ...] = ()) -> None:
        def landed(saved: Saved) -> None:
            self.live.put(job)
            self.live.meter.saved(job, attempt, tuple(event.type for event in events))
            for seq, event in zip(saved.seqs, events, strict=True):
                if event.type in SHOWN:
                    self.live.feed.announce(Happened(seq, event.type, event.at_us, event.attempt, job))
            if saved.owed:
                self.live.post()

        await self._timed(transactions.save(job, attempt, events), landed)

    async def _timed(self, transaction: Transaction[T], landed: Callable[[T], None]) -> T:
        began = time.perf_counter()
        result = await self._engine.write(transaction, landed)
        self.live.meter.written(time.perf_counter() - began)
        return result

    async def job(self, job_id: str) -> Job | None:
        if (job := self.live.job(job_id)) is not None:
            return job
        job = await self._engine.read(transactions.read_job(job_id))
        return self.live.newest(job) if job is not None else None

    async def attempts(self, job_id: str) -> tuple[Attempt, ...]:
        return await self._engine.read(transactions.read_attempts(job_id))

    async def attempt(self, attempt_id: str) -> Attempt | None:
        return await self._engine.read(transactions.read_attempt(attempt_id))

    async def decision(self, job_id: str) -> bytes | None:
        return await self._engine.read(transactions.read_decision(job_id))

    async def events(self, job_id: str) -> tuple[Event, ...]:
        return await self._engine.read(transactions.read_events(job_id))

    async def happened(self, caller: str, *, after: int, limit: int, job_id: str | None = None) -> tuple[Happened, ...]:
        if job_id is not None:
            return await self._engine.read(history.of_job(job_id, after=after, limit=limit))
        return await self._engine.read(history.of_caller(caller, after=after, limit=limit))

    async def last_happened(self, caller: str) -> int:
        return await self._engine.read(history.last(caller))

    async def list_jobs(
        self, caller: str, *, after: str | None, limit: int, descending: bool = True, sought: Sought | None = None
    ) -> tuple[tuple[Job, ...], bool]:
        if sought is None or sought == Sought():
            asked = transactions.list_jobs(caller, after, limit, descending=descending)
        else:
            asked = finding.find(caller, sought, after=after, limit=limit, descending=descending)
        jobs, more = await self._engine.read(asked)
        return tuple(self.live.newest(job) for job in jobs), more

    async def open_work(self) -> list[tuple[Job, Attempt | None]]:
        return await self._engine.read(transactions.open_work())

    async def recent_attempts(self, limit: int) -> tuple[Attempt, ...]:
        return await self._engine.read(transactions.recent_attempts(limit))

    async def attempts_since(self, since_us: int) -> tuple[Attempt, ...]:
        return await self._engine.read(transactions.attempts_since(since_us))

    async def give_feedback(self, feedback: Feedback) -> bool | None:
        return await self._engine.write(keeping.give_feedback(feedback))

    async def feedback_counts(self) -> tuple[Verdicts, ...]:
        return await self._engine.read(keeping.feedback_counts())

    async def create_key(self, key: Key) -> None:
        def landed(_: None) -> None:
            self.live.put_keys([key])

        await self._engine.write(keeping.create_key(key), landed)

    async def keys(self) -> tuple[Key, ...]:
        return await self._engine.read(keeping.read_keys())

    async def change_key(self, was: Key, key: Key) -> None:
        def landed(_: None) -> None:
            self.live.put_keys([key])

        await self._engine.write(keeping.change_key(was, key), landed)

    async def revoke_key(self, id_or_name: str, at_us: int) -> bool:
        def landed(key: Key | None) -> None:
            if key is not None:
                self.live.put_keys([key])

        return await self._engine.write(keeping.revoke_key(id_or_name, at_us), landed) is not None

    async def secret(self, purpose: str) -> bytes:
        known = self._secrets.get(purpose) or await self._engine.read(keeping.read_secret(purpose))
        if known is None:
            fresh = secrets.token_bytes(SECRET_BYTES)
            known = await self._engine.write(keeping.keep_secret(purpose, fresh))
        self._secrets[purpose] = known
        return known

    async def forget_expired(self, now_us: int) -> int:
        return await self._engine.write(transactions.forget_expired(now_us))

    def writable(self) -> bool:
        return self._engine.writable()

    def trouble(self) -> Trouble | None:
        return self._engine.trouble()
