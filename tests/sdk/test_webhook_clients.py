"""OpenAI's own clients, Python and JavaScript, unmodified, verify and read the webhooks that Filmgate sends.

What they judge has come over a socket, from the delivery that the service runs.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from openai import OpenAI

from gateway.jobs import Job, JobEvent
from tests.callees import Callee, shop
from tests.sdk.conftest import Node
from tests.vendors.wire import Request


class Sent(msgspec.Struct, frozen=True):
    """Two webhooks as they came, and the secrets that sign them: an endpoint's, its new one, a stranger's."""

    completed: Request
    failed: Request
    jobs: tuple[Job, Job]
    secret: str
    rotated: str
    stranger: str


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    return asyncio.run(_sent(tmp_path))


async def _sent(folder: Path) -> Sent:
    async with shop(folder) as opened:
        callee = Callee()
        await callee.start()
        webhook, secret = await opened.endpoint(callee.url)
        rotated = await opened.store.post.rotate(webhook.id, now_us=time.time_ns() // 1000)
        _, stranger = await opened.endpoint("https://hooks.example", "caller2")
        done = await opened.end_a_job(metadata={"scene": "Zürich, 12"})
        await callee.wait(1)
        failed = await opened.end_a_job(event=JobEvent.FAILED)
        await callee.wait(2)
        await callee.stop()
    completed_request, failed_request = callee.got
    return Sent(
        completed=completed_request,
        failed=failed_request,
        jobs=(done, failed),
        secret=secret.reveal(),
        rotated=rotated.reveal(),
        stranger=stranger.reveal(),
    )


def test_python_unwraps_both_ends_with_either_live_secret(sent: Sent) -> None:
    for secret in (sent.secret, sent.rotated):
        client = OpenAI(api_key="none", webhook_secret=secret)
        for request, job, type_ in zip(
            (sent.completed, sent.failed), sent.jobs, ("video.completed", "video.failed"), strict=True
        ):
            event: Any = client.webhooks.unwrap(request.body, request.headers)

            assert (event.type, event.object, event.data.id) == (type_, "event", job.id)
            assert event.id == request.headers["webhook-id"]
            assert event.created_at == (job.ended_us or 0) // 1_000_000


def test_python_refuses_another_secret_and_another_body(sent: Sent) -> None:
    with pytest.raises(openai.InvalidWebhookSignatureError):
        OpenAI(api_key="none", webhook_secret=sent.stranger).webhooks.unwrap(
            sent.completed.body, sent.completed.headers
        )
    with pytest.raises(openai.InvalidWebhookSignatureError):
        OpenAI(api_key="none", webhook_secret=sent.secret).webhooks.unwrap(
            sent.completed.body.replace(b"video.completed", b"video.failed"), sent.completed.headers
        )


def test_javascript_unwraps_both_ends_and_refuses_the_rest(sent: Sent, node: Node, tmp_path: Path) -> None:
    body = sent.completed.body.decode()
    cases = [
        ("completed", sent.secret, sent.completed.headers, body),
        ("rotated", sent.rotated, sent.completed.headers, body),
        ("failed", sent.secret, sent.failed.headers, sent.failed.body.decode()),
        ("stranger", sent.stranger, sent.completed.headers, body),
        ("tampered", sent.secret, sent.completed.headers, body.replace("completed", "failed")),
    ]
    file = tmp_path / "webhooks.json"
    names = ("name", "secret", "headers", "body")
    file.write_bytes(msgspec.json.encode([dict(zip(names, case, strict=True)) for case in cases]))

    seen = node.run("webhook_judge.mjs", str(file))

    for name, request in (("completed", sent.completed), ("rotated", sent.completed), ("failed", sent.failed)):
        assert seen[name]["event"] == request.json()
    assert {seen[name]["refused"] for name in ("stranger", "tampered")} == {"InvalidWebhookSignatureError"}
