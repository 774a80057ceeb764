"""A large clip through a real gateway, over real sockets: little memory, every byte right. See `bench_download`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench.bench_download import measure, served
from tests.bench.film_host import hosting, sha256_of

pytestmark = pytest.mark.anyio

SIZE = 64 << 20


async def test_a_large_clip_costs_little_memory_from_its_vendor_and_from_the_archive(tmp_path: Path) -> None:
    found = await measure(tmp_path, SIZE, stall_seconds=0.3)

    assert len(found) == 10
    for step in found:
        assert step.right, step
        assert step.rss_rise < step.goal, step


async def test_a_reader_that_hangs_up_frees_the_vendors_connection(tmp_path: Path) -> None:
    async with hosting() as (host, url), served(tmp_path, f"{url}/{SIZE * 16}.mp4") as (_, (reader,)):
        async with reader.opened() as (status, body):
            assert status == 200
            await body.readexactly(1 << 20)
            assert host.open == 1

        async with asyncio.timeout(5):
            await host.idle.wait()


async def test_a_vendor_that_breaks_off_leaves_a_body_that_can_be_resumed(tmp_path: Path) -> None:
    async with hosting() as (host, url), served(tmp_path, f"{url}/{SIZE}.mp4") as (_, (reader,)):
        host.ends = SIZE // 3
        came, sha256 = await reader.sha256()
        assert 0 < came < SIZE
        assert sha256 == sha256_of(0, came)

        host.ends = None
        rest = await reader.sha256(came)

        assert rest == (SIZE - came, sha256_of(came, SIZE))


async def test_a_reader_is_told_the_whole_length(tmp_path: Path) -> None:
    async with hosting() as (_, url), served(tmp_path, f"{url}/{SIZE}.mp4") as (_, (reader,)):
        head = await reader.head()

    assert f"content-length: {SIZE}".encode() in head
    assert b"accept-ranges: bytes" in head
