"""The document tells of every route, of nothing else, and nothing that is not so."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from litestar.handlers import HTTPRouteHandler

from gateway.api import handlers, openapi
from gateway.api.fal_paths import ROOT
from tests.api_house import House, opened
from tests.house import KEY
from tests.house import house as serving
from tests.vendors.fal import FalServer
from tests.vendors.kit import Pace
from tests.vendors.server import Options

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


def served(handler: HTTPRouteHandler) -> set[tuple[str, str]]:
    paths = (re.sub(r"\{(\w+):\w+\}", r"{\1}", path) for path in handler.paths)
    return {(str(method).lower(), path) for path in paths for method in handler.http_methods}


async def test_every_route_is_described_and_nothing_that_is_no_route(house: House) -> None:
    routes = {one for handler in handlers(house.rooms) for one in served(handler)}
    ours = {(method, path) for method, path in routes if not path.startswith(ROOT)}  # that one has documents of its own
    described = {(one.method, one.path) for one in openapi.operations()}

    assert {one for one in ours if one[0] != "options"} == described


async def test_the_document_is_served_without_a_key(house: House) -> None:
    document = (await house.client.get("/openapi.json", headers={"authorization": ""})).json()

    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {one.path for one in openapi.operations()}
    create = document["paths"]["/v1/videos"]["post"]
    assert set(create["requestBody"]["content"]) == {"application/json", "multipart/form-data"}


def test_names_are_unique() -> None:
    names = [one.name for one in openapi.operations()]

    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)


# python -m pytest tests/test_openapi.py --fuzz-cases 10000: so many cases in all
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"
ENDLESS = "events$"  # streams


@pytest.mark.timeout(1800)
async def test_no_request_that_a_machine_thinks_of_breaks_the_document_or_the_server(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = int(request.config.getoption("--fuzz-cases"))
    with FalServer(tmp_path / "vendor", Options(pace=Pace(seconds=0.05))) as fal:
        async with serving(tmp_path / "house", fal.url) as gateway:
            video = await gateway.ended((await gateway.create())["id"])
            hook = (await gateway.http.post("/v1/webhooks", json={"url": "https://receiver.example/hook"})).json()
            config = tmp_path / "schemathesis.toml"
            known = f'[parameters]\nvideo_id = "{video["id"]}"\nwebhook_id = "{hook["id"]}"\n'
            for ids in ("", known):  # ids that a machine thinks of, then such as there are
                config.write_text(ids)
                out = await fuzzed(
                    f"{str(gateway.http.base_url).rstrip(chr(47))}/openapi.json", config, examples=max(cases // 80, 1)
                )
                with capsys.disabled():
                    print("\n" + "".join(re.findall(r"\d+ generated, .*", out)))


async def fuzzed(url: str, config: Path, *, examples: int) -> str:
    """What Schemathesis says of the server at `url`; raises AssertionError with it when it is not content."""
    cli = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color", "run", url]
    how = ["--header", f"Authorization: Bearer {KEY}", "--checks", CHECKS, "--exclude-path-regex", ENDLESS]
    how += ["--phases", "coverage,fuzzing", "--max-examples", str(examples), "--seed", "7"]
    process = await asyncio.create_subprocess_exec(
        *cli, *how, cwd=config.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-6000:]
    return out.decode()
