"""`/v1/webhooks` and `callback_url`: made, shown, tested, rotated, read and redelivered, by their own key alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway import admin
from gateway.api.problems import Problem
from gateway.api.webhooks import must_be_callable
from gateway.settings import Server
from gateway.store.outbox import MOST_WEBHOOKS
from providers.spec import Secret, Video
from tests import api_house
from tests.callees import Callee, verified
from tests.house import House, house
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options
from tests.vendors.wire import Reply

pytestmark = pytest.mark.anyio

URL = "https://hooks.example/filmgate"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[api_house.House]:
    async with api_house.opened(tmp_path) as opened:
        yield opened


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.1))) as server:
        yield server


async def made(client: httpx.AsyncClient, **form: Any) -> dict[str, Any]:
    reply = await client.post("/v1/webhooks", json={"url": URL, **form})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def code(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


# --- endpoints --------------------------------------------------------------------------------------------------------


async def test_endpoint_is_made_and_its_secret_shown_once(front: api_house.House) -> None:
    webhook = await made(front.client)

    assert webhook["id"].startswith("hook_")
    assert webhook["secret"].startswith("whsec_")
    assert webhook["events"] == ["video.completed", "video.failed"]
    read = (await front.client.get(f"/v1/webhooks/{webhook['id']}")).json()
    assert read == {name: value for name, value in webhook.items() if name != "secret"}
    assert (await front.client.get("/v1/webhooks")).json()["data"] == [read]


async def test_endpoint_is_told_what_it_asked_for(front: api_house.House) -> None:
    await made(front.client, events=["video.failed"])
    video = await front.create()

    await front.finish(video["id"], Video(url="https://files.example/a.mp4"))

    assert (await front.client.get(f"/v1/videos/{video['id']}/deliveries")).json()["data"] == []


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ({"url": "http://hooks.example/a"}, 422, "invalid_url"),
        ({"url": "https://127.0.0.1/a"}, 422, "invalid_url"),
        ({"url": "https://10.1.2.3/a"}, 422, "invalid_url"),
        ({"url": "https://me:pw@hooks.example/a"}, 422, "invalid_url"),
        ({"url": "https://hooks.example:22/a"}, 422, "invalid_url"),
        ({"url": "nonsense"}, 422, "invalid_url"),
        ({"url": "https://" + "a" * 5000}, 422, "invalid_url"),
        ({"url": 5}, 422, "wrong_type"),
        ({}, 422, "missing_field"),
        ({"url": URL, "events": []}, 422, "too_short"),
        ({"url": URL, "events": ["video.made"]}, 422, "invalid_value"),
        ({"url": URL, "secret": "whsec_mine"}, 422, "unknown_field"),
    ],
)
async def test_endpoint_that_would_not_be_called_is_refused(
    front: api_house.House, form: dict[str, Any], status: int, said: str
) -> None:
    assert code(await front.client.post("/v1/webhooks", json=form)) == (status, said)
    assert (await front.client.get("/v1/webhooks")).json()["data"] == []


async def test_a_key_has_so_many_endpoints(front: api_house.House) -> None:
    webhooks = [await made(front.client) for _ in range(MOST_WEBHOOKS)]

    assert code(await front.client.post("/v1/webhooks", json={"url": URL})) == (409, "too_many_webhooks")

    removed = await front.client.delete(f"/v1/webhooks/{webhooks[0]['id']}")
    assert removed.json() == {"id": webhooks[0]["id"], "object": "webhook.deleted", "deleted": True}
    await made(front.client)
    assert code(await front.client.delete(f"/v1/webhooks/{webhooks[0]['id']}")) == (404, "webhook_not_found")


async def test_rotation_gives_another_secret(front: api_house.House) -> None:
    webhook = await made(front.client)

    rotated = (await front.client.post(f"/v1/webhooks/{webhook['id']}/rotate")).json()

    assert rotated["id"] == webhook["id"]
    assert rotated["secret"] != webhook["secret"]
    live = await front.store.post.secrets(webhook["id"], now_us=api_house.START_US)
    assert live == (Secret(rotated["secret"]), Secret(webhook["secret"]))


async def test_callback_secret_is_made_on_first_use_and_rotates(front: api_house.House) -> None:
    first = (await front.client.get("/v1/webhooks/callback_secret")).json()
    again = (await front.client.get("/v1/webhooks/callback_secret")).json()
    rotated = (await front.client.post("/v1/webhooks/callback_secret/rotate")).json()

    assert first == again
    assert rotated["secret"] != first["secret"]
    assert (await front.client.get("/v1/webhooks/callback_secret")).json() == rotated


@pytest.mark.parametrize("path", ["hook_none", "hook_" + "0" * 36, "x" * 300])
async def test_unknown_endpoint_answers_404(front: api_house.House, path: str) -> None:
    for reply in (
        await front.client.get(f"/v1/webhooks/{path}"),
        await front.client.delete(f"/v1/webhooks/{path}"),
        await front.client.post(f"/v1/webhooks/{path}/rotate"),
        await front.client.post(f"/v1/webhooks/{path}/test"),
        await front.client.get(f"/v1/webhooks/{path}/deliveries"),
    ):
        assert code(reply) == (404, "webhook_not_found")
    assert code(await front.client.post(f"/v1/webhooks/deliveries/{path}/redeliver")) == (404, "delivery_not_found")


# --- callback_url -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://hooks.example/a", "https://192.168.0.1/a", "ftp://hooks.example", ""])
@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/route"])
async def test_callback_that_would_not_be_called_is_refused_before_anything_is_bought(
    front: api_house.House, url: str, path: str
) -> None:
    form = {"model": "kling-v3-pro", "prompt": "a red kite", "callback_url": url}

    reply = await front.client.post(path, json=form)

    assert code(reply) == (422, "invalid_callback_url")
    assert reply.json()["error"]["param"] == "callback_url"
    assert (await front.client.get("/v1/videos")).json()["data"] == []


async def test_our_own_address_is_not_called(front: api_house.House) -> None:
    server = Server(public_url="https://video.example")
    settings = msgspec.structs.replace(front.rooms.settings, server=server)
    rooms = msgspec.structs.replace(front.rooms, settings=settings)

    with pytest.raises(Problem, match="an address of this server"):
        must_be_callable(rooms, "https://video.example/v1/videos", param="callback_url")


async def test_log_is_read_by_pages_newest_first(front: api_house.House) -> None:
    webhook = await made(front.client)
    sent = [(await front.client.post(f"/v1/webhooks/{webhook['id']}/test")).json() for _ in range(3)]
    path = f"/v1/webhooks/{webhook['id']}/deliveries"

    first = (await front.client.get(path, params={"limit": 2})).json()
    rest = (await front.client.get(path, params={"limit": 2, "after": first["last_id"]})).json()

    assert [one["id"] for one in first["data"]] == [sent[2]["id"], sent[1]["id"]]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [one["id"] for one in rest["data"]] == [sent[0]["id"]]
    assert {(one["type"], one["state"], one["video_id"]) for one in first["data"]} == {("webhook.test", "due", None)}
    assert code(await front.client.get(path, params={"limit": 0})) == (422, "out_of_range")
    assert code(await front.client.get(path, params={"after": "x"})) == (422, "invalid_cursor")


# --- the whole way ----------------------------------------------------------------------------------------------------


async def another_key(rooms: House) -> dict[str, str]:
    url = f"sqlite:///{rooms.folder}/filmgate.db"
    text = (await asyncio.to_thread(admin.with_store, url, admin.CreateKey(name="other"))).text
    return {"authorization": f"Bearer {text.reveal()}"}


async def test_a_render_is_told_to_endpoint_and_callback_and_the_log_says_how(tmp_path: Path, fal: FalServer) -> None:
    endpoint, callback = Callee(), Callee()
    await endpoint.start()
    await callback.start()
    answers = iter([Reply(status=500)])
    callback.answer = lambda _: next(answers, Reply(status=204))
    async with house(tmp_path / "house", fal.url, tables="[webhooks]\nretry_seconds = [0.05]") as rooms:
        webhook = await made(rooms.http, url=endpoint.url)
        video = await rooms.create(callback_url=callback.url, metadata={"scene": "12"})
        await endpoint.wait(1)
        await callback.wait(2)
        log = await _settled(rooms, video["id"])
        secret = (await rooms.http.get("/v1/webhooks/callback_secret")).json()["secret"]
    await endpoint.stop()
    await callback.stop()

    assert verified(endpoint.got[0], Secret(webhook["secret"]))
    assert all(verified(request, Secret(secret)) for request in callback.got)
    event = endpoint.got[0].json()
    assert (event["type"], event["data"]["id"], event["data"]["metadata"]) == (
        "video.completed",
        video["id"],
        {"scene": "12"},
    )
    by_url = {one["url"]: one for one in log}
    assert [(one["status"], one["error"]) for one in by_url[callback.url]["tries"]] == [(500, "refused"), (204, None)]
    assert [(one["status"], one["error"]) for one in by_url[endpoint.url]["tries"]] == [(200, None)]
    assert {one["state"] for one in log} == {"delivered"}
    assert {one["event_id"] for one in log} == {event["id"]}


async def test_test_event_and_redelivery_reach_the_address(tmp_path: Path, fal: FalServer) -> None:
    endpoint = Callee()
    await endpoint.start()
    async with house(tmp_path / "house", fal.url) as rooms:
        webhook = await made(rooms.http, url=endpoint.url)
        delivery = (await rooms.http.post(f"/v1/webhooks/{webhook['id']}/test")).json()
        await endpoint.wait(1)
        again = await rooms.http.post(f"/v1/webhooks/deliveries/{delivery['id']}/redeliver")
        await endpoint.wait(2)
        await rooms.http.delete(f"/v1/webhooks/{webhook['id']}")
        refused = await rooms.http.post(f"/v1/webhooks/deliveries/{delivery['id']}/redeliver")
    await endpoint.stop()

    assert endpoint.got[0].json()["type"] == "webhook.test"
    assert verified(endpoint.got[0], Secret(webhook["secret"]))
    assert again.status_code == 200
    assert len(set(endpoint.ids())) == 1
    assert code(refused) == (409, "webhook_disabled")


async def test_other_keys_see_nothing_of_it(tmp_path: Path, fal: FalServer) -> None:
    async with house(tmp_path / "house", fal.url) as rooms:
        other = await another_key(rooms)
        webhook = await made(rooms.http)
        delivery = (await rooms.http.post(f"/v1/webhooks/{webhook['id']}/test")).json()
        video = await rooms.create()
        paths = [
            ("GET", f"/v1/webhooks/{webhook['id']}"),
            ("DELETE", f"/v1/webhooks/{webhook['id']}"),
            ("POST", f"/v1/webhooks/{webhook['id']}/rotate"),
            ("POST", f"/v1/webhooks/{webhook['id']}/test"),
            ("GET", f"/v1/webhooks/{webhook['id']}/deliveries"),
            ("POST", f"/v1/webhooks/deliveries/{delivery['id']}/redeliver"),
            ("GET", f"/v1/videos/{video['id']}/deliveries"),
        ]
        theirs = [(await rooms.http.request(method, path, headers=other)).status_code for method, path in paths]
        unknown = [(await rooms.http.request(method, path, headers={"authorization": ""})) for method, path in paths]
        listed = (await rooms.http.get("/v1/webhooks", headers=other)).json()["data"]
        own = (await rooms.http.get("/v1/webhooks/callback_secret")).json()
        their_own = (await rooms.http.get("/v1/webhooks/callback_secret", headers=other)).json()

    assert theirs == [404] * len(paths)
    assert [reply.status_code for reply in unknown] == [401] * len(paths)
    assert listed == []
    assert own != their_own


async def _settled(rooms: House, video_id: str) -> list[dict[str, Any]]:
    """The video's deliveries once none is due."""
    async with asyncio.timeout(10):
        while True:
            log: list[dict[str, Any]] = (await rooms.http.get(f"/v1/videos/{video_id}/deliveries")).json()["data"]
            if log and all(one["state"] != "due" for one in log):
                return log
            await asyncio.sleep(0.02)
