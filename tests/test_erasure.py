"""After a DELETE, nothing that a caller wrote, showed or got is found in any file of the gateway: byte by byte.

The gateway is whole here, worker and sandbox and all; the words are ones that nobody else writes.
"""

from __future__ import annotations

import asyncio
import base64
import io
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest
from PIL import Image

from gateway import app
from gateway.jobs import Attempt, AttemptEvent, Job, JobEvent, JobState, advance_attempt
from gateway.settings import load
from gateway.store import connect
from gateway.store.spec import Event, Store
from providers.spec import Secret
from tests.bench.bench_download import finished_jobs
from tests.bench.film_host import hosting
from tests.records import DECISION, NOW_US, a_job, an_attempt, ended, running, started

pytestmark = pytest.mark.anyio

KEY = {"authorization": "Bearer a-key-of-this-test"}
PROMPT = "quetzalcoatlus over a basalt shore"
SAID = ("quetzalcoatlus", "zeppelin-metadata", "zinnia-user")
PIECE = 64  # of a picture or a clip: so many of its bytes in a row are no chance


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[app.Gateway, httpx.AsyncClient]]:
    """A gateway with the sandbox and an archive, all of it in one folder."""
    overrides = {
        "store.url": f"sqlite:///{folder}/filmgate.db",
        "archive.url": f"file://{folder}/archive",
        "providers.sandbox.enabled": True,
        "providers.sandbox.pace": 0,
        "providers.sandbox.failures": False,
        "egress.allow": ["127.0.0.1"],
    }
    settings = msgspec.structs.replace(load(overrides=overrides, environ={}), local_key=Secret("a-key-of-this-test"))
    async with app.opened(settings) as gateway:
        server = httpx.ASGITransport(cast(Any, gateway.asgi()))
        async with httpx.AsyncClient(transport=server, base_url="http://filmgate.test", headers=KEY) as client:
            yield gateway, client


def picture() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((360, 360), 90).save(file, "PNG")
    return file.getvalue()


async def made(store: Store, client: httpx.AsyncClient, image: bytes) -> str:
    """A finished clip, with everything a caller can say or show."""
    body = {
        "model": "sandbox",
        "prompt": PROMPT,
        "seconds": 1,
        "size": "360x360",
        "metadata": {"film": "zeppelin-metadata"},
        "user": "zinnia-user",
        "input_reference": {"image_url": "data:image/png;base64," + base64.b64encode(image).decode()},
    }
    answer = await client.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    job_id = str(answer.json()["id"])
    job = await store.job(job_id)
    while job is not None and not job.state.is_terminal:
        job = await store.live.changed(job_id, job.version, 30)
    assert job is not None
    assert job.state is JobState.COMPLETED, job
    return job_id


def where(folder: Path, *needles: bytes) -> set[str]:
    """The files that hold any of these."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if any(needle in data for needle in needles):
                found.add(str(path.relative_to(folder)))
    return found


async def test_after_a_delete_no_file_holds_a_word_a_picture_or_a_clip(tmp_path: Path) -> None:
    image = picture()
    async with opened(tmp_path) as (gateway, client):
        job_id = await made(gateway.store, client, image)
        clip = (await client.get(f"/v1/videos/{job_id}/content")).content
        needles = [*(word.encode() for word in SAID), image[1000 : 1000 + PIECE], clip[-PIECE * 4 : -PIECE * 3]]
        for needle in needles:  # the test would see them
            assert where(tmp_path, needle), needle

        answer = await client.delete(f"/v1/videos/{job_id}")

        assert (answer.status_code, answer.json()["deleted"]) == (200, True)
        assert where(tmp_path, *needles) == set()
        for path in (f"/v1/videos/{job_id}", f"/v1/videos/{job_id}/content", f"/v1/videos/{job_id}/decision"):
            assert (await client.get(path)).status_code == 404
        assert job_id not in (await client.get("/v1/videos")).text
        await gateway.store.files.compact(1)
    assert where(tmp_path, *needles) == set()


async def test_a_vendors_clip_in_the_archive_goes_with_its_job(tmp_path: Path) -> None:
    async with hosting() as (_, url):
        (link,) = await finished_jobs(tmp_path, f"{url}/300000.mp4", caller="local")
        job_id = link.rpartition("/")[2].removesuffix(".mp4")
        async with opened(tmp_path) as (_, client):
            await archived(client, link)
            clip = (await client.get(link)).content
            assert where(tmp_path / "archive", clip[1000 : 1000 + PIECE])

            assert (await client.delete(f"/v1/videos/{job_id}")).status_code == 200

            assert where(tmp_path, clip[1000 : 1000 + PIECE], b"a cat in the rain") == set()
            assert (await client.get(link)).status_code == 410


async def archived(client: httpx.AsyncClient, link: str) -> None:
    """Returns once the clip is in the archive: its hash is told from then on."""
    async with asyncio.timeout(10):
        while True:
            if "repr-digest" in (await client.head(link)).headers:
                return
            await asyncio.sleep(0.02)


async def test_of_many_jobs_among_others_a_compacted_store_holds_no_word(tmp_path: Path) -> None:
    """Rows that grow move their neighbours from page to page, and a moved one can leave a copy behind."""
    draw = random.Random(3)
    store = connect(f"sqlite:///{tmp_path}/filmgate.db")
    await store.open()
    try:
        open_jobs: list[tuple[Job, Attempt]] = []
        erased = []
        for number in range(280):
            word = f"{'erased' if number % 4 else 'kept'}-word-{number:04}-" * draw.randint(1, 40)
            job = started((await store.accept(a_job(prompt=word), decision=DECISION)).job)
            attempt = an_attempt(job)
            await store.save(job, attempt=attempt)
            open_jobs.append((job, attempt))
            if len(open_jobs) < 20:
                continue
            job, attempt = open_jobs.pop(draw.randrange(len(open_jobs)))
            attempt = running(attempt)
            job = msgspec.structs.replace(job, version=job.version + 1, warnings=("grown " * draw.randint(1, 200),))
            await store.save(job, attempt=attempt)
            attempt = advance_attempt(attempt, AttemptEvent.SUCCEEDED, ended_us=NOW_US + 9, cost_usd_micros=5)
            job = ended(job)
            await store.save(job, attempt=attempt, events=(Event(job=job.id, type=JobEvent.COMPLETED, at_us=NOW_US),))
            if job.spec.video.prompt.startswith("erased"):
                erased.append(job)
        for job in erased:
            await store.files.erase(job.id, NOW_US + 10)
            await store.files.removed(job.id, NOW_US + 10)
        await store.files.fold_log()
        words = [job.spec.video.prompt[:16].encode() for job in erased]

        before = traces(tmp_path, words)
        await store.files.compact(NOW_US + 11)
        after = traces(tmp_path, words)

        assert len(erased) > 150
        assert before < len(erased) * 0.05  # written over at once, but for what a moved page may have left
        assert after == 0
        assert b"kept-word-0000" in (tmp_path / "filmgate.db").read_bytes()
        assert await store.files.unclean() == 0
    finally:
        await store.close()


def traces(folder: Path, words: list[bytes]) -> int:
    """How many of these stand anywhere in the store's files."""
    data = b"".join(path.read_bytes() for path in folder.glob("filmgate.db*") if path.is_file())
    return sum(word in data for word in words)


async def test_a_compacted_store_is_the_same_store(tmp_path: Path) -> None:
    (link,) = await finished_jobs(tmp_path, "https://files.vendor.example/clip.mp4")
    job_id = link.rpartition("/")[2].removesuffix(".mp4")
    store = connect(f"sqlite:///{tmp_path}/filmgate.db")
    await store.open()
    before = await store.job(job_id), await store.attempts(job_id), await store.events(job_id), await store.keys()

    await asyncio.gather(store.files.compact(1), *[store.accept(a_job(), decision=DECISION) for _ in range(20)])

    assert before == (
        await store.job(job_id),
        await store.attempts(job_id),
        await store.events(job_id),
        await store.keys(),
    )
    await store.close()
    db = sqlite3.connect(tmp_path / "filmgate.db")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("SELECT COUNT(*) FROM jobs").fetchone() == (21,)
