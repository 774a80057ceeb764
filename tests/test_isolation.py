"""Two callers of one gateway: each walks every route there is, with the other one's ids, and sees nothing of it."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway import admin
from gateway.api import openapi
from gateway.keys import Terms
from tests.house import House, house
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio
CANARY = "canary-7781"
BODIES: dict[str, Any] = {
    "giveFeedback": {"accepted": True},
    "remixVideo": {"prompt": "x"},
    "createVideo": {"model": "kling-v3-pro", "prompt": "x", "input_reference": {"file_id": "{file_id}"}},
    "routeVideo": {"model": "kling-v3-pro", "prompt": "x", "input_reference": {"file_id": "{file_id}"}},
    "extendVideo": {"prompt": "x", "seconds": "5", "video": {"id": "{video_id}"}},
    "editVideo": {"prompt": "x", "video": {"id": "{video_id}"}},
    "addWebhook": {"url": "https://receiver.example/other"},
}
OPEN = {"createCharacter", "retrieveCharacter", "editVideo", "addWebhook", "ringForAttempt", "readPicture"}


async def caller(gateway: House, name: str) -> httpx.AsyncClient:
    url = f"sqlite:///{gateway.folder}/filmgate.db"
    made = await asyncio.to_thread(admin.with_store, url, admin.CreateKey(name=name, terms=Terms()))
    headers = {"authorization": f"Bearer {made.text.reveal()}"}
    return httpx.AsyncClient(base_url=gateway.http.base_url, headers=headers, timeout=30, trust_env=False)


async def belongings(mine: httpx.AsyncClient) -> dict[str, str]:
    """One of everything that a caller can own, by the name that it has in a path."""
    out = io.BytesIO()
    Image.new("RGB", (640, 360), (1, 2, 3)).save(out, "PNG")
    picture = {"file": (f"{CANARY}.png", out.getvalue(), "image/png")}
    file = (await mine.post("/v1/files", files=picture, data={"purpose": "vision"})).json()
    hook = (await mine.post("/v1/webhooks", json={"url": f"https://receiver.example/{CANARY}"})).json()
    form = {"model": "kling-v3-pro", "prompt": CANARY, "seconds": 5, "metadata": {"a": CANARY}}
    video = (await mine.post("/v1/videos", json=form)).json()
    async with mine.stream("GET", f"/v1/videos/{video['id']}/events") as events:
        await events.aread()  # it ends with the job
    told = (await mine.get(f"/v1/webhooks/{hook['id']}/deliveries")).json()["data"]
    return {"video_id": video["id"], "file_id": file["id"], "webhook_id": hook["id"], "delivery_id": told[0]["id"]}


async def test_two_keys_that_walk_every_route_see_nothing_of_each_other(tmp_path: Path) -> None:
    walked = set()
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.05))) as fal:
        async with house(tmp_path / "house", fal.url) as gateway:
            mine, theirs = await caller(gateway, "mine"), await caller(gateway, "theirs")
            async with mine, theirs:
                owned = await belongings(mine)
                before = await state_of(mine, owned)
                for one in openapi.operations():
                    if one.name in ("streamEvents", "getLink", "headLink"):
                        continue  # the first tells what comes; a link is for whoever has it
                    path = re.sub(r"\{(\w+)\}", lambda found: owned.get(found[1], "kling-v3-pro"), one.path)
                    body = filled(BODIES.get(one.name, {}), owned) if one.body is not None else None
                    reply = await theirs.request(one.method.upper(), path, json=body)
                    walked.add(one.name)
                    assert reply.status_code < 500, (one.name, reply.text)
                    assert CANARY not in reply.text, one.name
                    for name, value in owned.items():
                        assert reply.status_code == 404 or value not in reply.text, (one.name, name)
                    if "{" in one.path + str(BODIES.get(one.name, "")) and one.name not in OPEN | {"retrieveModel"}:
                        assert reply.status_code == 404, (one.name, reply.status_code, reply.text)
                fals = [
                    f"/fal/fal-ai/kling-video/requests/{owned['video_id']}{end}" for end in ("", "/status", "/response")
                ]
                for path in fals:
                    assert (await theirs.get(path)).status_code == 404
                assert (await theirs.put(f"{fals[0]}/cancel")).json() == {"status": "NOT_FOUND"}
                events = await theirs.get("/v1/videos/" + owned["video_id"] + "/events")
                assert events.status_code == 404
                assert await state_of(mine, owned) == before, "somebody else has changed it"
    assert len(walked) > 35


def filled(body: Any, owned: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: filled(value, owned) for name, value in body.items()}
    return body.format(**owned) if isinstance(body, str) else body


async def state_of(client: httpx.AsyncClient, owned: dict[str, str]) -> list[Any]:
    """All that a caller sees of what it owns."""
    paths = ("/v1/videos", "/v1/files", "/v1/webhooks", "/v1/usage")
    deliveries = (await client.get(f"/v1/webhooks/{owned['webhook_id']}/deliveries")).json()["data"]
    return [(await client.get(path)).json() for path in paths] + [one["id"] for one in deliveries]
