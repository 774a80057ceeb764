"""`/v1/webhooks`: where a caller is told that its jobs have ended, with what secret, and how each delivery went.

Law: an endpoint, its secret and its log belong to the key that made it; another's answers exactly as one that does not
exist. An address is judged by its form here, and again whenever it is connected to. A secret is shown when it is made.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Meta, UnsetType

from gateway import ids
from gateway.api import Rooms, wire
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation, Query
from gateway.api.problems import Problem, not_found
from gateway.api.videos import own_job
from gateway.keys import Need
from gateway.store.outbox import TOLD, Delivery, DeliveryState, TooManyWebhooks, Try, Webhook
from gateway.store.spec import Key
from providers.guard import UrlRefused
from providers.spec import Frozen, Secret

SECOND = 1_000_000
LIST_DEFAULT, LIST_MOST = 20, 100

Told = Literal["video.completed", "video.failed"]


class WebhookForm(Frozen, forbid_unknown_fields=True):
    """The body of `POST /v1/webhooks`."""

    url: str
    events: Annotated[tuple[Told, ...], Meta(min_length=1, max_length=8)] = ("video.completed", "video.failed")


class WebhookView(msgspec.Struct, kw_only=True):
    """An endpoint. `secret` stands in the answers that make one, and nowhere else."""

    id: str
    object: str = "webhook"
    url: str
    events: tuple[str, ...]
    created_at: int
    disabled_at: int | None
    disabled_reason: str | None
    secret: str | UnsetType = UNSET


class WebhookPage(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[WebhookView]
    has_more: bool = False


class DeletedWebhook(msgspec.Struct, kw_only=True):
    id: str
    object: str = "webhook.deleted"
    deleted: bool = True


class SecretView(msgspec.Struct, kw_only=True):
    """What signs the webhooks that go to a request's `callback_url`."""

    object: str = "webhook.secret"
    secret: str


class TryView(msgspec.Struct, kw_only=True):
    """One try. `error`: unreachable, timeout, refused (a status that is no success), redirected, gone, broken_reply,
    address_refused, not_written; null when it was taken."""

    at: float  # unix seconds
    ms: int
    status: int | None
    error: str | None


class DeliveryView(msgspec.Struct, kw_only=True):
    """One event, owed to one address."""

    id: str
    object: str = "webhook.delivery"
    event_id: str  # the webhook-id of every try
    type: str
    video_id: str | None  # null: a test
    webhook_id: str | None  # null: the request's own callback_url
    url: str
    state: str  # due | delivered | failed | disabled
    created_at: int
    next_try_at: float | None
    tries: list[TryView]


class DeliveryPage(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[DeliveryView]
    first_id: str | None
    last_id: str | None
    has_more: bool


_PAGE = (
    Query("after", {"type": "string"}, "The id of the last delivery of the page before."),
    Query("limit", {"type": "integer", "minimum": 1, "maximum": LIST_MOST, "default": LIST_DEFAULT}, "Of one page."),
)
_ONE = "/v1/webhooks/{webhook_id}"
OPERATIONS = (
    Operation("post", "/v1/webhooks", "addWebhook", "A new endpoint, with its secret.", WebhookView, body=WebhookForm),
    Operation("get", "/v1/webhooks", "listWebhooks", "Your endpoints, oldest first.", WebhookPage),
    Operation("get", _ONE, "retrieveWebhook", "One endpoint.", WebhookView),
    Operation("delete", _ONE, "removeWebhook", "Take an endpoint away, and what it is still owed.", DeletedWebhook),
    Operation(
        "post", f"{_ONE}/rotate", "rotateWebhook", "A new secret; the former one signs along for 24 h.", WebhookView
    ),
    Operation("post", f"{_ONE}/test", "testWebhook", "Send it a `webhook.test` event.", DeliveryView, fails=(409,)),
    Operation(
        "get",
        f"{_ONE}/deliveries",
        "listWebhookDeliveries",
        "What it was sent, newest first, with every try.",
        DeliveryPage,
        query=_PAGE,
        fails=(422,),
    ),
    Operation(
        "get",
        "/v1/videos/{video_id}/deliveries",
        "listVideoDeliveries",
        "Who was told of this video's end, with every try.",
        DeliveryPage,
        query=_PAGE,
        fails=(422,),
    ),
    Operation(
        "post",
        "/v1/webhooks/deliveries/{delivery_id}/redeliver",
        "redeliver",
        "Send it again, from the start of the schedule, under the same webhook-id.",
        DeliveryView,
        fails=(409,),
    ),
    Operation(
        "get", "/v1/webhooks/callback_secret", "readCallbackSecret", "What signs your `callback_url`s.", SecretView
    ),
    Operation(
        "post",
        "/v1/webhooks/callback_secret/rotate",
        "rotateCallbackSecret",
        "A new one; the former one signs along for 24 h.",
        SecretView,
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    return [*_endpoint_routes(rooms), *_delivery_routes(rooms), *_secret_routes(rooms)]


def _endpoint_routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring, shelf = KeyRing(rooms.store.live, rooms.settings), rooms.store.post

    @post("/v1/webhooks", status_code=200)
    async def add(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        wire.must_be_json(request)
        form = wire.decode(await wire.read(request, limit=wire.SMALL), WebhookForm)
        must_be_callable(rooms, form.url, param="url")
        types = tuple(type_ for type_ in TOLD if type_ in form.events)
        try:
            webhook, secret = await shelf.add(key.id, form.url, types, now_us=rooms.now_us())
        except TooManyWebhooks as error:
            raise Problem(409, "too_many_webhooks", f"{str(error).capitalize()}.") from error
        return Answer(encode(_shown(webhook, secret)))

    @get("/v1/webhooks")
    async def list_webhooks(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        return Answer(encode(WebhookPage(data=[_shown(one) for one in await shelf.webhooks(key.id)])))

    @get("/v1/webhooks/{webhook_id:str}")
    async def read(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        return Answer(encode(_shown(await _own(rooms, key, request))))

    @delete("/v1/webhooks/{webhook_id:str}", status_code=200)
    async def remove(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        webhook = await _own(rooms, key, request)
        if not await shelf.remove(webhook.id, key.id, now_us=rooms.now_us()):
            raise not_found("webhook")
        return Answer(encode(DeletedWebhook(id=webhook.id)))

    @post("/v1/webhooks/{webhook_id:str}/rotate", status_code=200)
    async def rotate(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        webhook = await _own(rooms, key, request)
        return Answer(encode(_shown(webhook, await shelf.rotate(webhook.id, now_us=rooms.now_us()))))

    @post("/v1/webhooks/{webhook_id:str}/test", status_code=200)
    async def test(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        webhook = await _own(rooms, key, request)
        if webhook.disabled_us is not None:
            raise _disabled(webhook.disabled_why)
        return Answer(encode(_delivery(await shelf.test(webhook, now_us=rooms.now_us()), ())))

    return [add, list_webhooks, read, remove, rotate, test]


def _delivery_routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring, shelf = KeyRing(rooms.store.live, rooms.settings), rooms.store.post

    @get("/v1/webhooks/{webhook_id:str}/deliveries")
    async def of_webhook(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        webhook = await _own(rooms, key, request)
        after, limit = _page(request)
        return _listed(await shelf.of_webhook(webhook.id, after=after, limit=limit + 1), limit)

    @get("/v1/videos/{video_id:str}/deliveries")
    async def of_video(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        job = await own_job(rooms.store, key, request.path_params["video_id"])
        after, limit = _page(request)
        return _listed(await shelf.of_job(job.id, after=after, limit=limit + 1), limit)

    @post("/v1/webhooks/deliveries/{delivery_id:str}/redeliver", status_code=200)
    async def redeliver(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        delivery_id = request.path_params["delivery_id"]
        known = await shelf.delivery(delivery_id) if ids.is_id(delivery_id, "dlv") else None
        if known is None or known.caller != key.id:
            raise not_found("delivery")
        if known.webhook is not None:
            webhook = await shelf.webhook(known.webhook)
            if webhook is None or webhook.disabled_us is not None:
                raise _disabled("it was removed" if webhook is None else webhook.disabled_why)
        await shelf.again(known.id, now_us=rooms.now_us())
        return Answer(encode(_delivery(await shelf.delivery(known.id) or known, ())))

    return [of_webhook, of_video, redeliver]


def _secret_routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring, shelf = KeyRing(rooms.store.live, rooms.settings), rooms.store.post

    @get("/v1/webhooks/callback_secret")
    async def callback_secret(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope, Need.WRITE)  # whoever knows it can forge what the caller's app believes
        secret, *_ = await shelf.secrets(key.id, now_us=rooms.now_us())
        return Answer(encode(SecretView(secret=secret.reveal())))

    @post("/v1/webhooks/callback_secret/rotate", status_code=200)
    async def rotate_callback_secret(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope)
        return Answer(encode(SecretView(secret=(await shelf.rotate(key.id, now_us=rooms.now_us())).reveal())))

    return [callback_secret, rotate_callback_secret]


def must_be_callable(rooms: Rooms, url: str, *, param: str) -> None:
    """Raises Problem 422 for an address that would not be called: the guard's rules, and not ourselves. Nothing is
    looked up; the guard looks again, at every address that the name has, whenever it is connected to."""
    guard, ours = rooms.transport.guard, rooms.settings.server.public_url
    try:
        host = guard.parse(url).host
    except UrlRefused as error:
        raise Problem(422, f"invalid_{param}", f"{param!r} cannot be called: {error}.", param=param) from error
    if ours is not None and urlsplit(ours).hostname == host.lower() and not guard.allows(host):
        raise Problem(422, f"invalid_{param}", f"{param!r} is an address of this server.", param=param)


async def _own(rooms: Rooms, key: Key, request: Request[Any, Any, Any]) -> Webhook:
    """The caller's endpoint that the path names. Raises Problem 404."""
    webhook_id = request.path_params["webhook_id"]
    webhook = await rooms.store.post.webhook(webhook_id) if ids.is_id(webhook_id, "hook") else None
    if webhook is None or webhook.caller != key.id:
        raise not_found("webhook")
    return webhook


def _disabled(why: str | None) -> Problem:
    return Problem(409, "webhook_disabled", f"Nothing is sent to this webhook any more: {why}. Add it anew.")


def _page(request: Request[Any, Any, Any]) -> tuple[str | None, int]:
    """Raises Problem 422."""
    query = request.query_params
    after, text = query.get("after"), query.get("limit", str(LIST_DEFAULT))
    if after is not None and not ids.is_id(after, "dlv"):
        message = "'after' is the id of a delivery, the last of the page before."
        raise Problem(422, "invalid_cursor", message, param="after")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= LIST_MOST):
        raise Problem(422, "out_of_range", f"'limit' is a number from 1 to {LIST_MOST}.", param="limit")
    return after, int(text)


def _listed(found: tuple[tuple[Delivery, tuple[Try, ...]], ...], limit: int) -> Answer:
    shown = [_delivery(delivery, tries) for delivery, tries in found[:limit]]
    page = DeliveryPage(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(found) > limit,
    )
    return Answer(encode(page))


def _shown(webhook: Webhook, secret: Secret | None = None) -> WebhookView:
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=webhook.types,
        created_at=webhook.created_us // SECOND,
        disabled_at=webhook.disabled_us // SECOND if webhook.disabled_us is not None else None,
        disabled_reason=webhook.disabled_why,
        secret=secret.reveal() if secret is not None else UNSET,
    )


def _delivery(delivery: Delivery, tries: tuple[Try, ...]) -> DeliveryView:
    waits = delivery.state is DeliveryState.DUE and delivery.due_us is not None
    return DeliveryView(
        id=delivery.id,
        event_id=delivery.event,
        type=delivery.type,
        video_id=delivery.job,
        webhook_id=delivery.webhook,
        url=delivery.url,
        state=delivery.state.value,
        created_at=delivery.created_us // SECOND,
        next_try_at=(delivery.due_us or 0) / SECOND if waits else None,
        tries=[TryView(at=one.at_us / SECOND, ms=one.ms, status=one.status, error=one.error) for one in tries],
    )
