"""Which models there are: OpenAI's list and OpenRouter's, read off the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_house import House, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(tmp_path) as house:
        yield house


async def video_models(house: House) -> dict[str, dict[str, Any]]:
    answer = (await house.client.get("/v1/videos/models")).json()
    return {model["id"]: model for model in answer["data"]}


async def test_one_model_is_found_by_its_name_and_an_unknown_one_is_a_404(house: House) -> None:
    listed = (await house.client.get("/v1/models")).json()["data"]

    found = [(await house.client.get(f"/v1/models/{model['id']}")).json() for model in listed]
    unknown = await house.client.get("/v1/models/fal%2Fnobody")

    assert found == listed
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


async def test_capabilities_stand_under_openrouters_keys(house: House) -> None:
    model = (await video_models(house))["kling-v3-pro"]

    assert model["supported_durations"] == list(range(3, 16))
    assert model["supported_resolutions"] == ["1080p"]
    assert model["supported_aspect_ratios"] == ["16:9", "9:16", "1:1"]
    assert model["supported_sizes"] == ["1920x1080", "1080x1920", "1080x1080"]
    assert model["supported_frame_images"] == ["first_frame", "last_frame"]
    assert (model["generate_audio"], model["available"]) == (True, True)
    assert model["allowed_passthrough_parameters"] == ["provider.options.fal"]
    assert model["backends"] == ["fal/kling-v3-pro"]


async def test_prices_are_dollars_by_what_they_depend_on(house: House) -> None:
    models = await video_models(house)

    assert models["kling-v3-pro"]["pricing_skus"] == {
        "duration_seconds_1080p": "0.112",
        "duration_seconds_1080p_with_audio": "0.168",
    }
    assert all(float(price) >= 0 for model in models.values() for price in model["pricing_skus"].values())


async def test_an_alias_can_what_any_of_its_models_can_at_the_least_price(house: House) -> None:
    models = await video_models(house)
    alias, parts = models["sora-2"], [models["kling-v3-standard"], models["kling-v3-pro"]]

    assert set(alias["supported_durations"]) == {n for part in parts for n in part["supported_durations"]}
    for sku, price in alias["pricing_skus"].items():
        assert price == min((part["pricing_skus"][sku] for part in parts if sku in part["pricing_skus"]), key=float)


async def test_what_has_no_credential_is_listed_and_not_available(house: House) -> None:
    assert (await video_models(house))["sandbox"]["available"] is False


async def test_every_length_that_a_list_promises_is_made_by_somebody(house: House) -> None:
    for model in (await video_models(house)).values():
        for seconds in model["supported_durations"] if model["available"] else ():
            body = {"model": model["id"], "prompt": "x", "seconds": seconds}
            decision = (await house.client.post("/v1/videos/route", json=body)).json()
            refused = [refusal["code"] for refusal in decision.get("refusals", ())]
            assert decision.get("ranked") or set(refused) != {"seconds_unsupported"}, (model["id"], seconds)


async def test_a_model_that_is_left_out_is_openais_default(house: House) -> None:
    answer = await house.client.post("/v1/videos", json={"prompt": "a kite"})

    assert (answer.json()["model"], answer.json()["seconds"]) == ("sora-2", "4")


async def test_openrouters_own_bookkeeping_is_taken_and_said_to_be_kept_nowhere(house: House) -> None:
    video = await house.create(session_id="s-1", trace={"trace_id": "t-1"})

    assert video["warnings"][:2] == ["session_id is kept nowhere", "trace is kept nowhere"]
