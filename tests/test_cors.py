"""Pages of other origins: told what they need when they are configured, and nothing when they are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from gateway.api import application
from gateway.api.cors import Cors
from gateway.api.edge import Edge
from tests.api_house import KEY, opened

pytestmark = pytest.mark.anyio
PAGE = "https://app.example.com"
ASKED = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-retry-count",
}


@asynccontextmanager
async def client(folder: Path, *origins: str) -> AsyncIterator[httpx.AsyncClient]:
    async with opened(folder) as house:
        server = httpx.ASGITransport(cast(Any, Cors(Edge(application(house.rooms)), origins)))
        async with httpx.AsyncClient(transport=server, base_url="http://filmgate.test") as client:
            yield client


def told(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def test_a_preflight_needs_no_key_and_allows_what_it_asks_for(tmp_path: Path) -> None:
    async with client(tmp_path, PAGE) as page:
        answer = await page.options("/v1/videos", headers=ASKED)

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == ASKED["access-control-request-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/videos/nobody", "/nowhere", "/v1//videos"])
async def test_every_answer_is_readable_by_the_page_errors_too(tmp_path: Path, path: str) -> None:
    async with client(tmp_path, PAGE) as page:
        answer = await page.get(path, headers={**KEY, "origin": PAGE})
        without_key = await page.get("/v1/models", headers={"origin": PAGE})

    assert told(answer) == {"access-control-allow-origin": PAGE, "access-control-expose-headers": "*"}
    assert (without_key.status_code, told(without_key)) == (401, told(answer))


async def test_another_page_is_told_nothing(tmp_path: Path) -> None:
    async with client(tmp_path, PAGE) as page:
        answers = [
            await page.options("/v1/videos", headers={**ASKED, "origin": origin})
            for origin in ("https://evil.example", f"{PAGE}.evil.example", "null", PAGE.upper())
        ]
        read = await page.get("/v1/models", headers={**KEY, "origin": "https://evil.example"})

    assert [told(answer) for answer in (*answers, read)] == [{}] * 5
    assert read.headers["vary"] == "origin"


async def test_a_star_is_every_page(tmp_path: Path) -> None:
    async with client(tmp_path, "*") as page:
        answer = await page.options("/v1/videos", headers=ASKED)
        read = await page.get("/v1/models", headers={**KEY, "origin": "https://any.example"})

    assert {one.headers["access-control-allow-origin"] for one in (answer, read)} == {"*"}


async def test_headers_that_are_no_names_are_not_repeated(tmp_path: Path) -> None:
    async with client(tmp_path, PAGE) as page:
        answer = await page.options("/v1/videos", headers={**ASKED, "access-control-request-headers": "a b; <script>"})

    assert "access-control-allow-headers" not in answer.headers


async def test_options_without_a_question_are_the_applications_own(tmp_path: Path) -> None:
    async with client(tmp_path, PAGE) as page:
        answer = await page.options("/v1/videos", headers={"origin": PAGE})

    assert "POST" in answer.headers["allow"]
