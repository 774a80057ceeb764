"""The admin socket: one owner of the store, whoever types the command."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from gateway import keys
from gateway.admin import (
    AdminError,
    AdminServer,
    CreateKey,
    ListKeys,
    NobodyListens,
    Ping,
    RevokeKey,
    call,
    serve_admin,
    with_store,
)
from gateway.keys import Opens, Terms
from gateway.store import admin_socket, connect
from gateway.store.spec import Store

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]

SERVER = """
import asyncio, sys
from gateway.admin import serve_admin
from gateway.store import admin_socket, connect

async def main():
    store = connect(sys.argv[1])
    await store.open()
    await serve_admin(admin_socket(sys.argv[1]), store)
    print("listening", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'filmgate.db'}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = connect(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def server(url: str, store: Store) -> AsyncIterator[AdminServer]:
    server = await serve_admin(admin_socket(url), store)
    yield server
    await server.close()


async def test_key_is_made_listed_and_revoked_through_the_server(url: str, server: AdminServer, store: Store) -> None:
    created = await asyncio.to_thread(
        call, admin_socket(url), CreateKey(name="app", terms=Terms(purse_usd_micros=5_000_000, scopes=("videos:read",)))
    )
    text = created.text.reveal()

    assert text not in repr(created)
    assert keys.parse(text) == created.key.id
    known = store.live.key(created.key.id)
    assert known == created.key
    assert known is not None
    assert keys.opens(text, known, now_us=1) is Opens.YES  # the running server takes it at once
    assert known.purse_usd_micros == 5_000_000
    assert (await asyncio.to_thread(call, admin_socket(url), ListKeys())).keys == (created.key,)
    assert (await asyncio.to_thread(call, admin_socket(url), RevokeKey(key="app"))).found
    assert not (await asyncio.to_thread(call, admin_socket(url), RevokeKey(key="app"))).found
    known = store.live.key(created.key.id)
    assert known is not None
    assert keys.opens(text, known, now_us=1) is Opens.NO


@pytest.mark.parametrize(
    ("command", "code"),
    [(CreateKey(name="app"), "name_taken"), (CreateKey(name="a\nb"), "invalid_request")],
)
async def test_refusal_comes_back_with_its_reason(url: str, server: AdminServer, command: CreateKey, code: str) -> None:
    await asyncio.to_thread(call, admin_socket(url), CreateKey(name="app"))

    with pytest.raises(AdminError, match="name") as refused:
        await asyncio.to_thread(call, admin_socket(url), command)

    assert refused.value.code == code


async def test_socket_is_for_its_owner_alone_and_goes_with_its_server(url: str, store: Store) -> None:
    before = os.umask(0)
    try:
        server = await serve_admin(admin_socket(url), store)
    finally:
        os.umask(before)

    assert stat.S_IMODE(admin_socket(url).stat().st_mode) == 0o600
    await server.close()
    assert not admin_socket(url).exists()
    await server.close()  # twice is once


async def test_socket_left_by_a_dead_server_is_replaced_but_a_file_is_not(url: str, store: Store) -> None:
    path = admin_socket(url)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NobodyListens):
        call(path, Ping())

    server = await serve_admin(path, store)
    assert (await asyncio.to_thread(call, path, Ping())).pid == os.getpid()
    await server.close()
    path.write_text("mine")
    with pytest.raises(AdminError, match="is no socket"):
        await serve_admin(path, store)
    assert path.read_text() == "mine"


async def test_store_deep_in_the_tree_still_has_its_socket_beside_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / ('d' * 80) / ('e' * 80) / 'filmgate.db'}"
    path = admin_socket(url)
    store = connect(url)
    await store.open()

    server = await serve_admin(path, store)

    assert len(str(path)) > 160
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert (await asyncio.to_thread(call, path, Ping())).pid == os.getpid()
    await server.close()
    assert not path.exists()
    await store.close()


def test_nobody_listens_where_there_is_no_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path / ("d" * 100) / "none"):
        with pytest.raises(NobodyListens):
            call(folder / "filmgate.db.sock", Ping())


@pytest.mark.parametrize(
    "line", [b"", b"null", b"{}", b'{"command":"drop"}', b'{"command":"keys.create"}', b"\xff", b"[" * 5000]
)
async def test_nonsense_is_refused_and_the_talk_goes_on(url: str, server: AdminServer, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(admin_socket(url)))

    writer.write(line + b"\n" + b'{"command":"ping"}\n')

    assert b'"reply":"refused","code":"invalid_request"' in await reader.readline()
    assert await reader.readline() == b'{"reply":"pong","pid":%d}\n' % os.getpid()
    writer.close()


async def test_endless_line_is_hung_up_on(url: str, server: AdminServer) -> None:
    reader, writer = await asyncio.open_unix_connection(str(admin_socket(url)))

    writer.write(b"x" * 200_000)

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_closing_does_not_wait_for_a_silent_talker(url: str, store: Store) -> None:
    server = await serve_admin(admin_socket(url), store)
    reader, writer = await asyncio.open_unix_connection(str(admin_socket(url)))
    writer.write(b'{"command":"ping"}\n')
    await reader.readline()  # the talk is under way

    await asyncio.wait_for(server.close(), 5)

    assert await reader.read() == b""
    writer.close()


def test_command_opens_the_store_itself_when_no_server_does(url: str) -> None:
    created = with_store(url, CreateKey(name="app"))

    assert with_store(url, ListKeys()).keys == (created.key,)
    with pytest.raises(AdminError, match="exists"):
        with_store(url, CreateKey(name="app"))
    assert not admin_socket(url).exists()


def test_command_goes_through_the_server_that_has_the_store(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, url],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listening\n"

            created = with_store(url, CreateKey(name="app"))

            assert with_store(url, Ping()).pid == server.pid
        finally:
            server.kill()
    assert with_store(url, ListKeys()).keys == (created.key,)  # the server is dead, the key durable


def test_server_and_client_speak_on_uvloop_too(url: str) -> None:
    async def scene() -> int:
        store = connect(url)
        await store.open()
        server = await serve_admin(admin_socket(url), store)
        pong = await asyncio.to_thread(call, admin_socket(url), Ping())
        await server.close()
        await store.close()
        return pong.pid

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scene()) == os.getpid()
    assert not admin_socket(url).exists()
