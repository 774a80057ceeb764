"""The doorbell of vendors, the health of the house, its models, and the errors that no route made."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import ids, tokens
from tests.api_house import House, opened

pytestmark = pytest.mark.anyio
NO_KEY = {"authorization": ""}
ATTEMPT = ids.make("att", now_us=0, random=bytes(16))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


# --- callbacks --------------------------------------------------------------------------------------------------------


async def rung(house: House) -> list[tuple[str, bytes]]:
    heard: list[tuple[str, bytes]] = []
    house.store.live.on_ring(lambda attempt, body, headers: heard.append((attempt, body)))
    return heard


async def test_a_callback_rings_for_the_attempt_of_its_token_whatever_its_body(house: House) -> None:
    heard = await rung(house)
    token = tokens.sign(ATTEMPT, await house.store.secret("callback"))
    bodies = (b'{"status": "OK"}', b"", b"\xff\xfe not json", b"[" * 5000)

    for body in bodies:
        answer = await house.client.post(f"/callbacks/{token}", content=body, headers=NO_KEY)
        assert (answer.status_code, answer.json()) == (200, {"received": True})

    assert heard == [(ATTEMPT, body) for body in bodies]


async def test_a_forged_token_is_a_404_and_rings_for_nothing(house: House) -> None:
    heard = await rung(house)
    secret = await house.store.secret("callback")
    good = tokens.sign(ATTEMPT, secret)
    forged = (
        ATTEMPT,
        f"{ATTEMPT}.",
        good[:-1],
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        tokens.sign(ATTEMPT, bytes(32)),
        tokens.sign("video_x", secret),
        tokens.sign("a" * 300, secret),
        "é.é",
        "%00",
    )

    for token in forged:
        answer = await house.client.post(f"/callbacks/{token}", content=b"{}", headers=NO_KEY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "callback_not_found"), token

    assert heard == []


async def test_a_callback_above_its_cap_is_a_413_and_rings_for_nothing(house: House) -> None:
    heard = await rung(house)
    token = tokens.sign(ATTEMPT, await house.store.secret("callback"))

    answer = await house.client.post(f"/callbacks/{token}", content=bytes((1 << 20) + 1), headers=NO_KEY)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert heard == []


# --- health and models ------------------------------------------------------------------------------------------------


async def test_health_needs_no_key(house: House) -> None:
    alive = await house.client.get("/healthz", headers=NO_KEY)
    ready = await house.client.get("/readyz", headers=NO_KEY)

    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_a_store_that_cannot_write_is_alive_but_not_ready(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.store, "writable", lambda: False)

    assert (await house.client.get("/healthz")).status_code == 200
    answer = await house.client.get("/readyz")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert "retry-after" in answer.headers


async def test_models_are_listed_as_openai_lists_them_with_aliases(house: House) -> None:
    answer = (await house.client.get("/v1/models")).json()

    models = {model["id"]: model for model in answer["data"]}
    assert answer["object"] == "list"
    assert {(model["object"], type(model["created"])) for model in answer["data"]} == {("model", int)}
    assert models["kling-v3-pro"]["owned_by"] == "fal"
    assert models["kling-v3-pro"]["available"] is True
    assert models["sora-2"]["owned_by"] == "filmgate"
    assert models["sora-2"]["backends"] == ["fal/kling-v3-standard", "fal/kling-v3-pro"]
    assert len(models) == len(answer["data"])


# --- errors of the house ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/nowhere", 404, "route_not_found", None),
        ("GET", "/v1/videos/a/b/c", 404, "route_not_found", None),
        ("GET", "/v1/videos/..%2f..%2fetc", 404, "route_not_found", None),
        ("PUT", "/v1/videos", 405, "method_not_allowed", {"GET", "POST", "OPTIONS"}),
        ("TRACE", "/v1/videos", 405, "method_not_allowed", {"GET", "POST", "OPTIONS"}),
        ("CONNECT", "/v1/models", 405, "method_not_allowed", {"GET", "OPTIONS"}),
        ("PATCH", "/healthz", 405, "method_not_allowed", {"GET", "OPTIONS"}),
        ("GET", "/callbacks/x", 405, "method_not_allowed", {"POST", "OPTIONS"}),
    ],
)
async def test_what_no_route_answers_wears_the_envelope_too(
    house: House, method: str, path: str, status: int, code: str, allow: set[str] | None
) -> None:
    answer = await house.client.request(method, path)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert {"message", "type", "param", "code", "request_id", "retryable"} <= set(error)
    assert answer.headers["x-request-id"] == error["request_id"]
    assert (set(answer.headers["allow"].split(", ")) if "allow" in answer.headers else None) == allow


async def test_every_answer_has_a_request_id_of_its_own(house: House) -> None:
    asked = [
        ("GET", "/healthz"),
        ("GET", "/v1/models"),
        ("OPTIONS", "/v1/videos"),
        ("HEAD", "/v1/videos"),
        ("GET", "/"),
    ]

    numbers = [(await house.client.request(method, path)).headers["x-request-id"] for method, path in asked]

    assert len(set(numbers)) == len(asked)
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", number) for number in numbers)


async def test_the_framework_offers_no_documents_of_its_own(house: House) -> None:
    for path in ("/schema", "/schema/openapi.json", "/docs"):
        assert (await house.client.get(path)).status_code == 404
