"""A plain client of the fal server, for tests that look at single answers.

Law: it sends what it is told and judges nothing.
"""

from __future__ import annotations

import io
import types
from typing import Any, Self

import httpx
from PIL import Image

V3_TEXT = "fal-ai/kling-video/v3/pro/text-to-video"
V3_PICTURE = "fal-ai/kling-video/v3/pro/image-to-video"
PIKA = "fal-ai/pika/v2.2/text-to-video"
KEY = "Key test-id:test-secret"
INPUT: dict[str, Any] = {"prompt": "a cat", "duration": "5", "generate_audio": False}


def picture(width: int, height: int) -> bytes:
    """A PNG of that size."""
    target = io.BytesIO()
    Image.new("RGB", (width, height), (200, 120, 40)).save(target, "PNG")
    return target.getvalue()


class FalCaller:
    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers={"authorization": KEY}, timeout=10, trust_env=False)

    def submit(
        self,
        body: Any = None,
        endpoint: str = V3_TEXT,
        *,
        callback: str | None = None,
        params: dict[str, str] | None = None,
        key: str = KEY,
        seconds: float = 10,
    ) -> httpx.Response:
        """One submit; the usual input when none is given."""
        query = (params or {}) | ({"fal_webhook": callback} if callback else {})
        return self.http.post(
            f"/{endpoint}",
            json=INPUT if body is None else body,
            params=query,
            headers={"authorization": key},
            timeout=seconds,
        )

    def job(self, body: Any = None, endpoint: str = V3_TEXT, *, callback: str | None = None) -> dict[str, str]:
        """The reply to a submit that succeeds."""
        reply: dict[str, str] = self.submit(body, endpoint, callback=callback).raise_for_status().json()
        return reply

    def get(self, url: str, *, params: dict[str, str] | None = None) -> httpx.Response:
        return self.http.get(url, params=params)

    def status(self, job: dict[str, str]) -> dict[str, Any]:
        said: dict[str, Any] = self.get(job["status_url"]).json()
        return said

    def result(self, job: dict[str, str]) -> httpx.Response:
        return self.get(job["response_url"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.http.close()
