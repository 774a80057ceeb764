"""What the transactions of push decide: callers' endpoints and their secrets, and what is owed to whom.

Law: see `transactions`, whose law holds here. What is owed is written in the transaction of the event that it tells of,
under an id made from both, so that it can stand there only once. A try is logged together with what follows from it.
"""

from __future__ import annotations

import enum
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from gateway import ids
from gateway.jobs import Job, JobState
from gateway.store.spec import InvariantBroken
from providers.spec import Frozen, Secret

if TYPE_CHECKING:
    from gateway.store.transactions import Params, Transaction

MOST_WEBHOOKS = 16  # endpoints of one key
STANDARD = "standard"

_encode = msgspec.json.encode
_types = msgspec.json.Decoder(tuple[str, ...])


class EventType(enum.StrEnum):
    """What is told. OpenAI's names."""

    COMPLETED = "video.completed"
    FAILED = "video.failed"
    TEST = "webhook.test"


TOLD = (EventType.COMPLETED.value, EventType.FAILED.value)  # what an endpoint can ask for


class Webhook(Frozen):
    """An address of a caller's that is told how its jobs ended."""

    id: str
    caller: str
    url: str
    types: tuple[str, ...]
    created_us: int
    disabled_us: int | None = None
    disabled_why: str | None = None


class DeliveryState(enum.StrEnum):
    DUE = "due"
    DELIVERED = "delivered"
    FAILED = "failed"  # the last try of its schedule was in vain
    DISABLED = "disabled"  # the address said 410, or its endpoint was taken away


class Delivery(Frozen):
    """One event, owed to one address. `event` is its webhook-id, the same on every try."""

    id: str
    event: str
    type: str
    caller: str
    job: str | None  # None: a test
    webhook: str | None  # None: the job's own callback_url
    target: str  # deliveries to one target wait in one line; a target is of one caller
    url: str
    style: str
    state: DeliveryState
    tries: int
    step: int  # tries since it was last asked for
    due_us: int | None
    created_us: int
    ended_us: int | None = None


class Try(Frozen):
    """How one try went. `error` is its class, None when it was taken; what was answered is kept nowhere."""

    no: int
    at_us: int
    ms: int
    status: int | None = None
    error: str | None = None


class Line(Frozen):
    """What waits for one target, and since or until when."""

    target: str
    caller: str
    due_us: int


class TooManyWebhooks(InvariantBroken):
    """The key has as many endpoints as it may."""


# --- what is owed -----------------------------------------------------------------------------------------------------


def event_id(job: Job) -> str:
    """The id of a job's one terminal event, as callers know it."""
    return f"evt_{job.id.partition('_')[2]}"


def event_type(job: Job) -> EventType:
    return EventType.COMPLETED if job.state is JobState.COMPLETED else EventType.FAILED


def owe(job: Job, *, at_us: int) -> Transaction[int]:
    """Write down that a job's end is owed to its `callback_url` and to its caller's endpoints; to how many."""
    event, type_ = event_id(job), event_type(job)
    mine: list[Params] = []
    if url := job.spec.callback_url:
        style = job.spec.dialect or STANDARD
        line = f"{job.caller} {urlsplit(url).netloc}"  # one caller's slow address is not another's
        mine.append(_put(event, type_, job.caller, job.id, None, line, url, style=style, at_us=at_us))
    return _owe(job, event, type_, mine, at_us)


def _owe(job: Job, event: str, type_: str, mine: list[Params], at_us: int) -> Transaction[int]:
    rows = yield "webhooks_of_caller", {"caller": job.caller}
    for webhook in map(_webhook, rows):
        if webhook.disabled_us is None and type_ in webhook.types:
            place = (webhook.id, webhook.id, webhook.url)
            mine.append(_put(event, type_, job.caller, job.id, *place, style=STANDARD, at_us=at_us))
    for row in mine:
        yield "outbox_put", row
    return len(mine)


def _put(
    event: str,
    type_: str,
    caller: str,
    job: str | None,
    webhook: str | None,
    target: str,
    url: str,
    *,
    style: str,
    at_us: int,
) -> Params:
    digest = hashlib.sha256(f"{event} {target} {url}".encode()).digest()
    return {
        "id": ids.make("dlv", now_us=at_us, random=digest[:16]),
        "event": event,
        "type": type_,
        "caller": caller,
        "job": job,
        "webhook": webhook,
        "target": target,
        "url": url,
        "style": style,
        "due_us": at_us,
        "created_us": at_us,
    }


def test(webhook: Webhook, event: str, *, now_us: int) -> Transaction[Delivery]:
    """Owe an event of no job to one endpoint."""
    place = (webhook.id, webhook.id, webhook.url)
    row = _put(event, EventType.TEST, webhook.caller, None, *place, style=STANDARD, at_us=now_us)
    return _test(row)


def _test(row: Params) -> Transaction[Delivery]:
    yield "outbox_put", row
    rows = yield "outbox_read", {"id": row["id"]}
    return _delivery(rows[0])


# --- what is due ------------------------------------------------------------------------------------------------------


def lines() -> Transaction[tuple[Line, ...]]:
    """Every target that something waits for."""
    rows = yield "outbox_lines", {}
    return tuple(Line(target=target, caller=caller, due_us=due_us) for target, caller, due_us in rows)


def due(target: str, *, now_us: int, limit: int) -> Transaction[tuple[Delivery, ...]]:
    """What one target is owed by now, longest due first."""
    rows = yield "outbox_due", {"target": target, "now_us": now_us, "limit": limit}
    return tuple(map(_delivery, rows))


def tried(
    delivery: Delivery, how: Try, *, state: DeliveryState, due_us: int | None, ends_webhook: str | None = None
) -> Transaction[bool]:
    """A try and what follows from it; False when somebody else has tried in between, and then nothing is written.
    `ends_webhook` says why its endpoint is told nothing any more."""
    outcome = {
        "id": delivery.id,
        "was": delivery.tries,
        "state": state.value,
        "tries": how.no,
        "step": delivery.step + 1,
        "due_us": due_us,
        "ended_us": None if due_us is not None else how.at_us,
    }
    return _tried(outcome, {"delivery": delivery.id, **msgspec.structs.asdict(how)}, delivery.webhook, ends_webhook)


def _tried(outcome: Params, row: Params, webhook: str | None, why: str | None) -> Transaction[bool]:
    if not (yield "outbox_tried", outcome):
        return False
    yield "try_insert", row
    if why is not None and webhook is not None:
        yield "webhook_disable", {"id": webhook, "at_us": row["at_us"], "why": why}
        yield "outbox_disable", {"webhook": webhook, "at_us": row["at_us"]}
    return True


def again(delivery_id: str, *, now_us: int) -> Transaction[bool]:
    """Owe it anew, from the start of the schedule; its log goes on."""
    rows = yield "outbox_again", {"id": delivery_id, "now_us": now_us}
    return bool(rows)


def forget(before_us: int) -> Transaction[int]:
    """Drop what was over before then, with its log; how many."""
    rows = yield "outbox_forget", {"before_us": before_us}
    return len(rows)


# --- the log ----------------------------------------------------------------------------------------------------------


def read(delivery_id: str) -> Transaction[Delivery | None]:
    rows = yield "outbox_read", {"id": delivery_id}
    return _delivery(rows[0]) if rows else None


def of_job(job_id: str, *, after: str | None, limit: int) -> Transaction[tuple[tuple[Delivery, tuple[Try, ...]], ...]]:
    """Newest first, each with its tries."""
    return _logged("outbox_of_job", {"job": job_id, "after": after or "~", "limit": limit})


def of_webhook(
    webhook_id: str, *, after: str | None, limit: int
) -> Transaction[tuple[tuple[Delivery, tuple[Try, ...]], ...]]:
    return _logged("outbox_of_webhook", {"webhook": webhook_id, "after": after or "~", "limit": limit})


def _logged(name: str, params: Params) -> Transaction[tuple[tuple[Delivery, tuple[Try, ...]], ...]]:
    found: list[tuple[Delivery, tuple[Try, ...]]] = []
    rows = yield name, params
    for row in rows:
        tries = yield "tries_of", {"delivery": row[0]}
        found.append((_delivery(row), tuple(_try(one) for one in tries)))
    return tuple(found)


# --- endpoints and secrets --------------------------------------------------------------------------------------------


def add(webhook: Webhook, secret: Secret) -> Transaction[None]:
    """An endpoint with its first secret. Raises TooManyWebhooks."""
    rows = yield "webhooks_of_caller", {"caller": webhook.caller}
    if len(rows) >= MOST_WEBHOOKS:
        raise TooManyWebhooks(f"a key has at most {MOST_WEBHOOKS} webhooks; remove one first")
    row = msgspec.structs.asdict(webhook)
    yield "webhook_insert", {**row, "types": _encode(webhook.types).decode()}
    yield "webhook_secret_insert", {"owner": webhook.id, "secret": secret.reveal(), "made_us": webhook.created_us}


def webhooks(caller: str) -> Transaction[tuple[Webhook, ...]]:
    """A caller's, oldest first."""
    rows = yield "webhooks_of_caller", {"caller": caller}
    return tuple(map(_webhook, rows))


def webhook(webhook_id: str) -> Transaction[Webhook | None]:
    rows = yield "webhook_read", {"id": webhook_id}
    return _webhook(rows[0]) if rows else None


def remove(webhook_id: str, caller: str, at_us: int) -> Transaction[bool]:
    """Take an endpoint away, and what it is still owed."""
    if not (yield "webhook_delete", {"id": webhook_id, "caller": caller, "at_us": at_us}):
        return False
    yield "outbox_disable", {"webhook": webhook_id, "at_us": at_us}
    return True


def live_secrets(owner: str, now_us: int) -> Transaction[tuple[Secret, ...]]:
    """The current one, and before the overlap has passed the former one after it."""
    rows = yield "webhook_secrets_live", {"owner": owner, "now_us": now_us}
    return tuple(Secret(text) for (text,) in rows)


def keep_secret(owner: str, fresh: Secret, now_us: int) -> Transaction[tuple[Secret, ...]]:
    """The live ones; `fresh` where there is none yet."""
    yield "webhook_secret_insert", {"owner": owner, "secret": fresh.reveal(), "made_us": now_us}
    return (yield from live_secrets(owner, now_us))


def rotate(owner: str, fresh: Secret, *, now_us: int, until_us: int) -> Transaction[None]:
    """`fresh` is the current one; the one before it signs along until then, and one before that no more."""
    yield "webhook_secret_drop_former", {"owner": owner}
    yield "webhook_secret_replace", {"owner": owner, "until_us": until_us}
    yield "webhook_secret_insert", {"owner": owner, "secret": fresh.reveal(), "made_us": now_us}


# --- records ← rows ---------------------------------------------------------------------------------------------------


def _webhook(row: tuple[Any, ...]) -> Webhook:
    id_, caller, url, types, created_us, disabled_us, why = row
    return Webhook(
        id=id_,
        caller=caller,
        url=url,
        types=_types.decode(types),
        created_us=created_us,
        disabled_us=disabled_us,
        disabled_why=why,
    )


def _delivery(row: tuple[Any, ...]) -> Delivery:
    names = msgspec.structs.fields(Delivery)
    return msgspec.convert({field.name: value for field, value in zip(names, row, strict=True)}, Delivery)


def _try(row: tuple[Any, ...]) -> Try:
    no, at_us, ms, status, error = row
    return Try(no=no, at_us=at_us, ms=ms, status=status, error=error)
