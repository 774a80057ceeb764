"""`filmgate webhooks` as a person uses it, against a running server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.commands import main
from providers.spec import Secret
from tests.callees import Callee, verified
from tests.house import KEY, House, house
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options
from tests.vendors.wire import Reply

pytestmark = pytest.mark.anyio


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.1))) as server:
        yield server


@asynccontextmanager
async def opened(tmp_path: Path, fal: FalServer) -> AsyncIterator[tuple[House, Callee]]:
    callee = Callee()
    await callee.start()
    async with house(tmp_path / "house", fal.url, tables="[webhooks]\nretry_seconds = []") as rooms:
        yield rooms, callee
    await callee.stop()


async def run(rooms: House, *words: str) -> Result:
    """The command, beside the server's loop."""
    server = ("--url", str(rooms.http.base_url), "--api-key", KEY)
    env = {"COLUMNS": "400"}
    return await asyncio.to_thread(CliRunner().invoke, main, ["webhooks", *words, *server], env=env)


def printed(result: Result) -> Secret:
    """The secret on stdout, where the server of this process may log meanwhile."""
    (text,) = [line for line in result.stdout.splitlines() if line.startswith("whsec_")]
    return Secret(text)


async def test_endpoint_is_added_tested_listed_and_removed(tmp_path: Path, fal: FalServer) -> None:
    async with opened(tmp_path, fal) as (rooms, callee):
        added = await run(rooms, "add", callee.url, "--event", "video.failed")
        id_ = (await rooms.http.get("/v1/webhooks")).json()["data"][0]["id"]
        tested = await run(rooms, "test", id_)
        rotated = await run(rooms, "rotate", id_)
        listed = await run(rooms, "list")
        removed = await run(rooms, "remove", id_)
        empty = await run(rooms, "list")

    assert added.exit_code == 0
    assert verified(callee.got[0], printed(added))
    assert f"{callee.url} answered 200 in" in tested.stderr
    assert printed(rotated) != printed(added)
    assert id_ in listed.stdout
    assert callee.url in listed.stdout
    assert "video.completed" not in listed.stdout
    assert f"{id_} is removed\n" in removed.stderr
    assert "no webhook yet" in empty.stderr


async def test_deliveries_are_shown_and_sent_again(tmp_path: Path, fal: FalServer) -> None:
    async with opened(tmp_path, fal) as (rooms, callee):
        answers = iter([Reply(status=500)])
        callee.answer = lambda _: next(answers, Reply())
        video = await rooms.create(callback_url=callee.url)
        await callee.wait(1)
        await rooms.ended(video["id"])
        path = f"/v1/videos/{video['id']}/deliveries"
        while not (log := (await rooms.http.get(path)).json()["data"])[0]["tries"]:
            pass
        shown = await run(rooms, "deliveries", video["id"])
        again = await run(rooms, "redeliver", log[0]["id"])
        await callee.wait(2)
        secret = await run(rooms, "secret")

    assert "500 refused" in shown.stdout
    assert log[0]["event_id"] in shown.stdout
    assert again.exit_code == 0
    assert len(set(callee.ids())) == 1
    assert verified(callee.got[1], printed(secret))


async def test_what_is_refused_is_said_plainly(tmp_path: Path, fal: FalServer) -> None:
    async with opened(tmp_path, fal) as (rooms, callee):
        callee.answer = lambda _: Reply(status=302, headers={"location": "https://elsewhere.example"})
        refused = await run(rooms, "add", "http://hooks.example")
        unknown = await run(rooms, "test", "hook_none")
        await run(rooms, "add", callee.url)
        id_ = (await rooms.http.get("/v1/webhooks")).json()["data"][0]["id"]
        tested = await run(rooms, "test", id_)

    assert (refused.exit_code, "[invalid_url]" in refused.stderr) == (1, True)
    assert (unknown.exit_code, "[webhook_not_found]" in unknown.stderr) == (1, True)
    assert tested.exit_code == 1
    assert "redirected, status 302" in tested.stderr
