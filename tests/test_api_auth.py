"""Keys: who gets in, who does not, and that nothing of one caller is seen by another."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from gateway import keys
from gateway.keys import NewKey
from gateway.store.spec import Key
from providers.spec import Video
from tests.api_house import KEY, House, opened

pytestmark = pytest.mark.anyio

PROTECTED = [
    ("POST", "/v1/videos"),
    ("POST", "/v1/videos/route"),
    ("GET", "/v1/videos"),
    ("GET", "/v1/videos/{id}"),
    ("DELETE", "/v1/videos/{id}"),
    ("POST", "/v1/videos/{id}/cancel"),
    ("GET", "/v1/videos/{id}/decision"),
    ("GET", "/v1/videos/{id}/content"),
    ("HEAD", "/v1/videos/{id}/content"),
    ("POST", "/v1/videos/{id}/feedback"),
    ("GET", "/v1/models"),
    ("GET", "/v1/backends"),
    ("GET", "/v1/usage"),
]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def new_key(house: House, name: str, **terms: Any) -> NewKey:
    made = keys.make(name, now_us=0, random=random.Random(name).randbytes(keys.RANDOM_BYTES), terms=keys.Terms(**terms))
    await house.store.create_key(made.key)
    return made


def bearer(key: NewKey, scheme: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{scheme} {key.text.reveal()}"}


async def status(house: House, headers: dict[str, str], path: str = "/v1/models") -> int:
    return (await house.client.get(path, headers=headers)).status_code


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_every_route_wants_a_key_before_anything_else(house: House, method: str, path: str) -> None:
    video = await house.create()
    at = path.replace("{id}", video["id"])

    answer = await house.client.request(method, at, headers={"authorization": ""})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    if method != "HEAD":
        assert answer.json()["error"]["code"] == "missing_api_key"
        assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Key", "KEY"])
async def test_both_dialects_of_the_header_are_taken(house: House, scheme: str) -> None:
    key = await new_key(house, "team")

    assert await status(house, bearer(key, scheme)) == 200


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer",
        "Bearer ",
        "Basic ZGV2OmRldg==",
        "dev",
        "Bearer dev dev",
        "Bearer devel",
        "Bearer fg_live_00000000_short_00000000",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 4000,
    ],
)
async def test_what_is_no_key_is_a_401(house: House, sent: str) -> None:
    answer = await house.client.get("/v1/models", headers=[(b"authorization", sent.encode("latin-1"))])

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_a_mistyped_key_is_refused_by_its_checksum_without_a_look_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await new_key(house, "team")
    text = key.text.reveal()
    looked_up: list[str] = []
    find = house.store.live.key

    def spied(key_id: str) -> Key | None:
        looked_up.append(key_id)
        return find(key_id)

    monkeypatch.setattr(house.store.live, "key", spied)
    typo = text[:20] + ("A" if text[20] != "A" else "B") + text[21:]

    assert await status(house, {"authorization": f"Bearer {typo}"}) == 401
    assert looked_up == []
    assert await status(house, bearer(key)) == 200
    assert looked_up == [key.key.id]


async def test_a_key_of_another_house_is_refused(house: House) -> None:
    stranger = keys.make("team", now_us=0, random=bytes(keys.RANDOM_BYTES))

    assert await status(house, bearer(stranger)) == 401


async def test_the_right_id_with_another_secret_is_refused(house: House) -> None:
    key = await new_key(house, "team")
    impostor = keys.make("team", now_us=0, random=random.Random("team").randbytes(keys.RANDOM_BYTES)[:5] + bytes(32))
    assert impostor.key.id == key.key.id

    assert await status(house, bearer(impostor)) == 401


async def test_a_revoked_key_is_refused_from_the_next_request_on(house: House) -> None:
    key = await new_key(house, "team")
    before = await status(house, bearer(key))

    await house.store.revoke_key("team", 1)

    assert (before, await status(house, bearer(key))) == (200, 401)


async def test_the_development_key_is_accepted_in_development_only(tmp_path: Path) -> None:
    async with opened(tmp_path, dev=False) as house:
        assert await status(house, KEY) == 401


async def test_a_key_in_the_address_is_no_key(house: House) -> None:
    assert await status(house, {"authorization": ""}, "/v1/models?api_key=dev&key=dev") == 401


async def test_a_refused_key_stands_in_no_log_and_no_answer(house: House) -> None:
    key = await new_key(house, "team")
    await house.store.revoke_key("team", 1)

    with structlog.testing.capture_logs() as logs:
        answer = await house.client.get("/v1/models", headers=bearer(key))

    assert key.text.reveal() not in answer.text + str(answer.headers) + str(logs)


async def test_another_callers_job_answers_as_one_that_does_not_exist(house: House) -> None:
    mine = await house.create(prompt="canary-7781")
    await house.finish(mine["id"], Video(path=__file__))
    other = bearer(await new_key(house, "other"))
    unknown = mine["id"][:-6] + "vvvvvv"

    for method, path in PROTECTED:
        if "{id}" not in path:
            continue
        theirs = await house.client.request(method, path.replace("{id}", mine["id"]), headers=other)
        nobodys = await house.client.request(method, path.replace("{id}", unknown), headers=other)
        assert theirs.status_code == nobodys.status_code == 404, path
        assert _without_number(theirs.text) == _without_number(nobodys.text)
    listed = await house.client.get("/v1/videos", headers=other)
    after = await house.client.get(f"/v1/videos?order=asc&after={unknown[:20]}{'0' * 22}", headers=other)
    assert "canary-7781" not in listed.text + after.text
    assert (await house.client.get(f"/v1/videos/{mine['id']}")).status_code == 200


def _without_number(text: str) -> str:
    if not text:
        return text
    error: dict[str, Any] = msgspec.json.decode(text)["error"]
    return str({name: value for name, value in error.items() if name != "request_id"})


async def test_two_callers_may_use_the_same_idempotency_key(house: House) -> None:
    other = bearer(await new_key(house, "other"))
    body = {"model": "kling-v3-pro", "prompt": "x"}
    once = {"idempotency-key": "order-1"}

    mine = await house.client.post("/v1/videos", json=body, headers=once)
    theirs = await house.client.post("/v1/videos", json=body | {"prompt": "y"}, headers=once | other)

    assert (mine.status_code, theirs.status_code) == (200, 200)
    assert mine.json()["id"] != theirs.json()["id"]


# --- what a key may spend ---------------------------------------------------------------------------------------------


async def test_a_keys_purse_is_the_jobs_unless_the_job_asks_for_less(house: House) -> None:
    headers = bearer(await new_key(house, "team", purse_usd_micros=900_000))
    body = {"model": "kling-v3-pro", "prompt": "x", "seconds": 5}
    less = body | {"provider": {"max_price": {"request": "0.7"}}}

    whole = await house.client.post("/v1/videos", json=body, headers=headers)
    part = await house.client.post("/v1/videos", json=less, headers=headers)

    assert (await house.job(whole.json()["id"])).purse_usd_micros == 900_000
    assert (await house.job(part.json()["id"])).purse_usd_micros == 700_000


async def test_a_clip_above_the_keys_purse_is_a_402_and_nothing_is_kept(house: House) -> None:
    key = await new_key(house, "team", purse_usd_micros=100_000)
    body = {"model": "kling-v3-pro", "prompt": "x", "seconds": 5}

    answer = await house.client.post("/v1/videos", json=body, headers=bearer(key))

    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "over_max_price")
    assert (await house.store.list_jobs(key.key.id, after=None, limit=1))[0] == ()


async def test_a_job_cannot_ask_for_more_than_its_keys_purse(house: House) -> None:
    headers = bearer(await new_key(house, "team", purse_usd_micros=900_000))
    body = {"model": "kling-v3-pro", "prompt": "x", "provider": {"max_price": {"request": 5}}}

    answer = await house.client.post("/v1/videos", json=body, headers=headers)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["nearest"]) == (402, "purse_exceeded", "0.9")
