"""What a key may do: its scopes, its time, its texts, its models and providers, its requests and its jobs at once."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import keys
from gateway.allowances import Allowances
from gateway.keys import NewKey, Terms
from providers.spec import Secret, Video
from tests.api_house import House, opened

pytestmark = pytest.mark.anyio

HOUR = 3_600_000_000
ASKED = {"model": "kling-v3-pro", "prompt": "a red kite over the dunes", "seconds": 5}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def new_key(house: House, name: str = "team", **terms: Any) -> NewKey:
    made = keys.make(name, now_us=0, random=secrets.token_bytes(keys.RANDOM_BYTES), terms=Terms(**terms))
    await house.store.create_key(made.key)
    return made


def bearer(text: Secret) -> dict[str, str]:
    return {"authorization": f"Bearer {text.reveal()}"}


def now_us() -> int:
    return time.time_ns() // 1000


# --- scopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "needs"),
    [
        ("POST", "/v1/videos", "videos:write"),
        ("POST", "/v1/videos/route", "videos:read"),
        ("GET", "/v1/videos", "videos:read"),
        ("GET", "/v1/videos/{id}", "videos:read"),
        ("GET", "/v1/videos/{id}/decision", "videos:read"),
        ("GET", "/v1/videos/{id}/content", "videos:read"),
        ("HEAD", "/v1/videos/{id}/content", "videos:read"),
        ("GET", "/v1/videos/{id}/events", "videos:read"),
        ("POST", "/v1/videos/{id}/cancel", "videos:write"),
        ("POST", "/v1/videos/{id}/feedback", "videos:write"),
        ("DELETE", "/v1/videos/{id}", "videos:write"),
        ("GET", "/v1/usage", "usage"),
    ],
)
async def test_each_route_wants_its_scope_and_names_it(house: House, method: str, path: str, needs: str) -> None:
    others = tuple(scope for scope in ("videos:write", "videos:read", "usage", "metrics") if scope != needs)
    lacking = await new_key(house, "lacking", scopes=others)
    having = await new_key(house, "having", scopes=(needs,))
    path = path.replace("{id}", "video_of_nobody")

    refused = await house.client.request(method, path, headers=bearer(lacking.text))
    taken = await house.client.request(method, path, headers=bearer(having.text))

    assert refused.status_code == 403
    if method != "HEAD":
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("missing_scope", "permission_error")
        assert f"lacks the scope {needs}, which this request needs; it has {', '.join(others)}." in error["message"]
    assert taken.status_code not in (401, 403)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/backends"])
@pytest.mark.parametrize("scope", ["videos:write", "usage"])
async def test_the_catalogue_is_open_to_every_key(house: House, path: str, scope: str) -> None:
    key = await new_key(house, scopes=(scope,))

    assert (await house.client.get(path, headers=bearer(key.text))).status_code == 200


# --- time and texts ---------------------------------------------------------------------------------------------------


async def test_an_expired_key_is_told_so_and_one_with_time_left_is_not(house: House) -> None:
    past = await new_key(house, "past", expires_us=now_us() - 1)
    future = await new_key(house, "future", expires_us=now_us() + HOUR)

    refused = await house.client.get("/v1/models", headers=bearer(past.text))

    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "expired_api_key")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert (await house.client.get("/v1/models", headers=bearer(future.text))).status_code == 200


async def test_both_texts_of_a_rotated_key_are_the_same_caller_until_the_overlap_is_over(house: House) -> None:
    was = await new_key(house)
    new = keys.rotated(was.key, now_us=now_us(), random=secrets.token_bytes(32), overlap_us=HOUR)
    mine = await house.client.post("/v1/videos", json=ASKED, headers=bearer(was.text))

    await house.store.change_key(was.key, new.key)
    seen = [
        (await house.client.get(f"/v1/videos/{mine.json()['id']}", headers=bearer(text))).status_code
        for text in (was.text, new.text)
    ]
    over = keys.rotated(was.key, now_us=now_us() - 2 * HOUR, random=secrets.token_bytes(32), overlap_us=HOUR)
    await house.store.change_key(new.key, over.key)
    later = [
        (await house.client.get(f"/v1/videos/{mine.json()['id']}", headers=bearer(text))).status_code
        for text in (was.text, new.text, over.text)
    ]

    assert seen == [200, 200]
    assert later == [401, 401, 200]


async def test_a_rotation_that_crosses_another_changes_nothing(house: House) -> None:
    from gateway.store.spec import Conflict

    was = await new_key(house)
    first, second = (
        keys.rotated(was.key, now_us=1, random=secrets.token_bytes(32), overlap_us=HOUR).key for _ in range(2)
    )
    await house.store.change_key(was.key, first)

    with pytest.raises(Conflict):
        await house.store.change_key(was.key, second)

    assert house.store.live.key(was.key.id) == first


# --- models and providers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [("kling-v3-standard",), ("*-standard", "pika-*"), ("KLING-V3-PRO",)])
async def test_a_model_that_the_key_may_not_use_is_a_403_that_says_so(house: House, patterns: tuple[str, ...]) -> None:
    key = await new_key(house, models=patterns)

    answer = await house.client.post("/v1/videos", json=ASKED, headers=bearer(key.text))

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (403, "model_not_allowed", "model")
    assert "this API key may not use kling-v3-pro" in error["message"]
    assert [no["code"] for no in error["refusals"]] == ["model_not_allowed"] * len(error["refusals"])
    assert (await house.store.list_jobs(key.key.id, after=None, limit=1))[0] == ()


@pytest.mark.parametrize("patterns", [("kling-v3-pro",), ("kling-*",), ("nothing", "*-pr?")])
async def test_a_model_that_the_key_may_use_is_made(house: House, patterns: tuple[str, ...]) -> None:
    key = await new_key(house, models=patterns)

    answer = await house.client.post("/v1/videos", json=ASKED, headers=bearer(key.text))

    assert answer.status_code == 200
    assert (await house.job(answer.json()["id"])).spec.preferences.allowed_models == patterns


async def test_an_alias_goes_to_those_of_its_models_that_the_key_may_use(house: House) -> None:
    some = await new_key(house, "some", models=("kling-v3-pro",))
    named = await new_key(house, "named", models=("sora-2",))
    form = {"model": "sora-2", "prompt": "x"}

    part = await house.client.post("/v1/videos/route", json=form, headers=bearer(some.text))
    whole = await house.client.post("/v1/videos/route", json=form, headers=bearer(named.text))

    assert {one["model"] for one in part.json()["ranked"]} == {"kling-v3-pro"}
    assert {one["model"] for one in whole.json()["ranked"]} == {"kling-v3-pro", "kling-v3-standard"}
    assert "model_not_allowed" in {no["code"] for no in part.json()["refusals"]}


async def test_a_provider_that_the_key_may_not_use_is_a_403_that_says_so(house: House) -> None:
    key = await new_key(house, providers=("sandbox",))

    answer = await house.client.post("/v1/videos", json=ASKED, headers=bearer(key.text))

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (403, "provider_not_allowed")
    assert "this API key may not use fal" in error["message"]


async def test_a_caller_cannot_widen_what_its_key_may_use(house: House) -> None:
    key = await new_key(house, models=("kling-v3-standard",))
    form = ASKED | {"provider": {"only": ["fal"], "order": ["fal/kling-v3-pro"]}}

    assert (await house.client.post("/v1/videos", json=form, headers=bearer(key.text))).status_code == 403


# --- jobs at once -----------------------------------------------------------------------------------------------------


async def test_a_job_too_many_is_a_429_that_is_not_to_be_repeated_at_once(house: House) -> None:
    key = await new_key(house, max_in_flight=3)
    headers = bearer(key.text)

    answers = await asyncio.gather(*(house.client.post("/v1/videos", json=ASKED, headers=headers) for _ in range(12)))

    taken = [answer for answer in answers if answer.status_code == 200]
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert len(taken) == 3
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_jobs")
    assert refused.json()["error"]["retryable"] is False
    assert refused.headers["x-should-retry"] == "false"
    assert int(refused.headers["retry-after"]) > 0

    await house.finish(taken[0].json()["id"], Video(path=__file__))
    assert (await house.client.post("/v1/videos", json=ASKED, headers=headers)).status_code == 200


# --- requests a minute ------------------------------------------------------------------------------------------------


async def test_a_key_that_asks_too_often_is_told_how_long_to_wait(house: House) -> None:
    key = await new_key(house, requests_per_minute=5)
    free = await new_key(house, "free")
    headers = bearer(key.text)

    answers = [await house.client.get("/v1/models", headers=headers) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert left == ["4", "3", "2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["retryable"] is True
    assert "x-should-retry" not in refused.headers
    assert 1 <= int(refused.headers["retry-after"]) <= 12
    assert 0 < int(refused.headers["retry-after-ms"]) <= 12_000
    assert refused.headers["x-ratelimit-limit-requests"] == "5"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")
    other = await house.client.get("/v1/models", headers=bearer(free.text))
    assert other.status_code == 200
    assert "x-ratelimit-limit-requests" not in other.headers


async def test_a_wrong_text_uses_up_nobodys_minute(house: House) -> None:
    key = await new_key(house, requests_per_minute=1)
    wrong = keys.rotated(key.key, now_us=0, random=secrets.token_bytes(32), overlap_us=0)

    for _ in range(5):
        assert (await house.client.get("/v1/models", headers=bearer(wrong.text))).status_code == 401

    assert (await house.client.get("/v1/models", headers=bearer(key.text))).status_code == 200


def test_a_bucket_fills_again_as_time_passes_and_never_beyond_a_minutes_worth() -> None:
    allowances = Allowances()
    for _ in range(60):
        assert allowances.take("k", 60, now=100.0).is_granted

    refused = allowances.take("k", 60, now=100.25)
    assert (refused.left, round(refused.wait_seconds, 6)) == (0, 0.75)
    assert allowances.take("k", 60, now=101.0).is_granted
    assert not allowances.take("k", 60, now=50.0).is_granted  # a clock that runs back fills nothing
    assert allowances.take("other", 60, now=50.0).left == 59
    assert allowances.take("k", 60, now=9_999.0).left == 59
