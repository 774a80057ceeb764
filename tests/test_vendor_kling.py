"""The Kling server of these tests has Kling's own manners: its credentials, its codes, its rings, its two protocols."""

from __future__ import annotations

import base64
import hmac
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from PIL import Image

from tests.vendors import transcripts as told
from tests.vendors.kit import Pace
from tests.vendors.kling import KlingServer
from tests.vendors.kling_models import FORBIDDEN
from tests.vendors.receiver import Receiver
from tests.vendors.script import act
from tests.vendors.server import Options

TEXT, IMAGE, V2_TEXT, V2_IMAGE = (
    "/v1/videos/text2video",
    "/v1/videos/image2video",
    "/text-to-video/kling-3.0",
    "/image-to-video/kling-3.0",
)
SAID: dict[str, Any] = {"model_name": "kling-v3", "mode": "pro", "prompt": "a boat", "duration": "5", "sound": "off"}
V2_SAID: dict[str, Any] = {"prompt": "a boat", "settings": {"resolution": "1080p", "duration": 5, "audio": "off"}}
ACCESS, SECRET = "test-access-key", "test-secret-key-0123456789abcdefgh"


class Caller:
    """A plain client: it sends what it is told."""

    def __init__(self, url: str, key: str = "api-key-kling-test") -> None:
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False)

    def submit(self, path: str = TEXT, body: Any = SAID) -> tuple[int, Any]:
        answer = self.http.post(path, json=body)
        return answer.status_code, answer.json()

    def id(self, path: str = TEXT, body: Any = SAID) -> str:
        data = self.submit(path, body)[1]["data"]
        found: str = data.get("task_id") or data.get("id")
        return found

    def get(self, target: str) -> tuple[int, Any]:
        answer = self.http.get(target)
        return answer.status_code, answer.json()


@pytest.fixture
def kling(tmp_path: Path) -> Iterator[KlingServer]:
    with KlingServer(tmp_path, Options(pace=Pace(steps=0))) as server:
        yield server


@pytest.fixture
def ask(kling: KlingServer) -> Caller:
    return Caller(kling.url)


def png(width: int, height: int) -> str:
    target = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 40)).save(target, "PNG")
    return base64.b64encode(target.getvalue()).decode()


def token(*, access: str = ACCESS, secret: str = SECRET, nbf: int = -5, exp: int = 1800, **more: Any) -> str:
    now = int(time.time())
    claims = {"iss": access, "exp": now + exp, "nbf": now + nbf} | more
    parts = [
        base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    ]
    signed = b".".join(parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()


# --- the credential ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", 1001),
        ("Basic x", 1002),
        ("Bearer another-api-key", 1002),
        ({"secret": "wrong" * 8}, 1000),
        ({"access": "nobody"}, 1002),
        ({"iat": 1}, 1002),
        ({"nbf": 60}, 1003),
        ({"exp": -1}, 1004),
        ("Bearer a.b.c", 1002),
        ({}, 0),
        ("Bearer api-key-kling-known", 0),
    ],
)
def test_credential_is_looked_at_with_a_code_for_each_fault(
    tmp_path: Path, authorization: str | dict[str, Any], code: int
) -> None:
    if isinstance(authorization, dict):  # a token's claims hang on the clock, so it is made now
        authorization = f"Bearer {token(**authorization)}"
    options = Options(keys=("api-key-kling-known", f"{ACCESS}:{SECRET}"))
    with KlingServer(tmp_path, options) as kling:
        headers = {"authorization": authorization} if authorization else {}
        answer = httpx.post(kling.url + TEXT, json=SAID, headers=headers, trust_env=False)

    assert (answer.status_code, answer.json()["code"]) == (401 if code else 200, code)
    assert len(kling.ledger()) == (0 if code else 1)


def test_access_key_does_not_open_api_2(kling: KlingServer) -> None:
    assert Caller(kling.url, token()).submit(V2_TEXT, V2_SAID)[1]["code"] == 1002
    assert Caller(kling.url, token()).submit()[1]["code"] == 0


# --- what is refused at submit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "changes", "code"),
    [
        (TEXT, {"duration": 5}, 1201),
        (TEXT, {"duration": "16"}, 1201),
        (TEXT, {"sound": True}, 1201),
        (TEXT, {"mode": "ultra"}, 1201),
        (TEXT, {"cfg_scale": 1.5}, 1201),
        (TEXT, {"prompt": ""}, 1201),
        (TEXT, {"prompt": "x" * 2501}, 1201),
        (TEXT, {"model_name": "kling-v9"}, 1203),
        (TEXT, {"model_name": "kling-v2-6", "cfg_scale": 0.5}, 1201),
        (TEXT, {"model_name": "kling-v2-6", "mode": "std", "sound": "on"}, 1201),
        (TEXT, {"prompt": f"a {FORBIDDEN} boat"}, 1301),
        (TEXT, {"multi_shot": True}, 1201),
        (TEXT, {"multi_prompt": []}, 1201),
        (TEXT, {"element_list": [{"element_id": 8.298e17}]}, 1201),
        (IMAGE, {}, 1201),
        (IMAGE, {"image": "data:image/png;base64,eA=="}, 1201),
        (IMAGE, {"image": png(299, 400)}, 1201),
        (IMAGE, {"image": png(1000, 300)}, 1201),
        (IMAGE, {"image": png(640, 360)}, 0),
        (TEXT, {"element_list": [{"element_id": 829836802793406551}], "a_field": 1}, 0),
    ],
)
def test_legacy_input_is_looked_over_before_it_is_billed(
    kling: KlingServer, ask: Caller, path: str, changes: dict[str, Any], code: int
) -> None:
    _, said = ask.submit(path, SAID | changes)

    assert said["code"] == code, said["message"]
    assert len(kling.ledger()) == (0 if code else 1)


@pytest.mark.parametrize(
    ("durations", "indices", "code"),
    [(("2", "3"), (1, 2), 0), (("2", "2"), (1, 2), 1201), (("2", "3"), (0, 1), 1201), ((2, 3), (1, 2), 1201)],
)
def test_shots_are_numbered_from_one_and_fill_the_clip(
    ask: Caller, durations: tuple[Any, ...], indices: tuple[int, ...], code: int
) -> None:
    shots = [
        {"index": index, "prompt": "a shot", "duration": duration}
        for index, duration in zip(indices, durations, strict=True)
    ]
    cuts = {"multi_shot": True, "shot_type": "customize", "multi_prompt": shots}

    assert ask.submit(TEXT, SAID | {"prompt": ""} | cuts)[1]["code"] == code
    assert ask.submit(IMAGE, SAID | cuts | {"image": "https://a/1.png", "image_tail": "https://a/2.png"})[1]["code"]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (V2_TEXT, V2_SAID | {"settings": {"duration": "5"}}, 1201),
        (V2_TEXT, V2_SAID | {"settings": {"audio": "on"}}, 1201),
        (V2_TEXT, V2_SAID | {"settings": {"resolution": "pro"}}, 1201),
        (V2_TEXT, V2_SAID | {"negative_prompt": "blur"}, 1201),
        (V2_TEXT, {"settings": {}}, 1201),
        ("/text-to-video/kling-9", V2_SAID, 1203),
        ("/text-to-video/kling-3.0-turbo", V2_SAID, 1201),
        (V2_IMAGE, V2_SAID, 1201),
        (V2_IMAGE, {"contents": [{"type": "prompt", "text": "a boat"}]}, 1201),
        (V2_IMAGE, {"contents": [{"type": "first_frame", "url": png(640, 360)}]}, 0),
        (V2_TEXT, SAID, 1201),
        (TEXT, V2_SAID, 1201),
        (V2_TEXT, V2_SAID, 0),
    ],
)
def test_api_2_input_is_looked_over_and_the_other_protocol_is_not_taken(
    ask: Caller, path: str, body: Any, code: int
) -> None:
    _, said = ask.submit(path, body)

    assert said["code"] == code, said["message"]


def test_api_2_cuts_by_itself_unless_it_is_told_not_to(kling: KlingServer, ask: Caller) -> None:
    told_not_to = V2_SAID | {"settings": V2_SAID["settings"] | {"multi_shot": False}}

    left_open, told_so = ask.id(V2_TEXT, V2_SAID), ask.id(V2_TEXT, told_not_to)

    assert kling.jobs[left_open].order.cuts_by_itself
    assert not kling.jobs[told_so].order.cuts_by_itself


def test_own_id_is_unique_within_an_account_across_both_protocols(kling: KlingServer, ask: Caller) -> None:
    own = {"external_task_id": "att_1"}
    first = ask.submit(TEXT, SAID | own)
    again = ask.submit(TEXT, SAID | own)
    other_protocol = ask.submit(V2_TEXT, V2_SAID | {"options": own})
    other_account = Caller(kling.url, "api-key-kling-other").submit(TEXT, SAID | own)

    assert [said["code"] for _, said in (first, again, other_protocol, other_account)] == [0, 1201, 1201, 0]
    assert [row.client_id for row in kling.ledger()] == ["att_1", "att_1"]
    assert [row.usd_micros for row in kling.ledger()] == [560_000, 560_000]


def test_slot_is_held_from_submit_to_the_end(tmp_path: Path) -> None:
    with KlingServer(tmp_path, Options(pace=Pace(steps=3)), slots=1) as kling:
        ask = Caller(kling.url)
        first = ask.id()
        busy = ask.submit(V2_TEXT, V2_SAID)
        elsewhere = Caller(kling.url, "api-key-kling-other").submit()
        kling.finish(first)
        later = ask.submit(V2_TEXT, V2_SAID)

    assert (busy[0], busy[1]["code"], busy[1]["message"]) == (429, 1303, "parallel task over resource pack limit")
    assert [elsewhere[1]["code"], later[1]["code"]] == [0, 0]


# --- asking -----------------------------------------------------------------------------------------------------------


def test_each_protocol_has_its_own_word_for_an_id_that_nobody_knows(kling: KlingServer, ask: Caller) -> None:
    made, made_by_2 = ask.id(), ask.id(V2_TEXT, V2_SAID)

    status, said = ask.get(f"{TEXT}/none")
    assert (status, said["code"], said["message"]) == (400, 1201, "Task not found")
    assert ask.get("/tasks?task_ids=none")[1]["data"] == []
    assert ask.get(f"{IMAGE}/{made}")[1]["code"] == 1201  # only under the operation that made it
    assert ask.get(f"{TEXT}/{made_by_2}")[1]["code"] == 1201
    assert Caller(kling.url, "api-key-kling-other").get(f"{TEXT}/{made}")[1]["code"] == 1201
    assert ask.get("/tasks")[1]["code"] == ask.get("/tasks?task_ids=a&external_task_ids=b")[1]["code"] == 1201


def test_own_id_stands_for_klings_and_several_are_asked_for_at_once(ask: Caller) -> None:
    legacy = ask.id(TEXT, SAID | {"external_task_id": "att_1"})
    two = [ask.id(V2_TEXT, V2_SAID | {"options": {"external_task_id": f"att_{n}"}}) for n in (2, 3)]

    assert ask.get(f"{TEXT}/att_1")[1]["data"]["task_id"] == legacy
    assert [item["id"] for item in ask.get("/tasks?external_task_ids=att_2,att_3,att_1")[1]["data"]] == two
    assert [item["external_id"] for item in ask.get(f"/tasks?task_ids={','.join(two)}")[1]["data"]] == [
        "att_2",
        "att_3",
    ]
    assert [item["task_id"] for item in ask.get(f"{TEXT}?pageNum=1&pageSize=30")[1]["data"]] == [legacy]


def test_a_code_can_be_told_by_its_number(kling: KlingServer, ask: Caller) -> None:
    kling.say(act("status", word="1102"))

    status, said = ask.submit()

    assert (status, said["code"]) == (429, 1102)


# --- rings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "word"), [(TEXT, "task_status"), (V2_TEXT, "status")])
def test_every_change_is_told_without_a_signature(kling: KlingServer, ask: Caller, path: str, word: str) -> None:
    with Receiver() as receiver:
        ours = {"callback_url": f"{receiver.url}/cb/token", "external_task_id": "att_1"}
        id = ask.id(path, SAID | ours if path == TEXT else V2_SAID | {"options": ours})
        rings = [ring.json() for ring in receiver.wait(2)]

    assert [ring[word] for ring in rings] == ["processing", "succeed" if path == TEXT else "succeeded"]
    assert {ring.get("task_id") or ring.get("id") for ring in rings} == {id}
    own = [ring["task_info"]["external_task_id"] if path == TEXT else ring["external_id"] for ring in rings]
    assert own == ["att_1", "att_1"]
    assert not [name for ring in receiver.got for name in ring.headers if "sign" in name]
    assert kling.ledger()[0].token == "token"


# --- the transcripts --------------------------------------------------------------------------------------------------

TOLD = told.transcripts("kling")


@pytest.mark.parametrize("name", TOLD)
def test_server_keeps_to_the_transcript(name: str, tmp_path: Path) -> None:
    transcript = TOLD[name]
    values: dict[str, str] = {key: transcript.values[key] for key in ("$key", "$client") if key in transcript.values}
    found = []
    with KlingServer(tmp_path, Options(pace=Pace(steps=transcript.steps))) as kling:
        kling.say(*transcript.acts)
        for exchange in transcript.exchanges:
            asked = told.filled(msgspec.to_builtins(exchange.request), values)
            path, query = urlsplit(asked["path"])[2:4]
            answer = httpx.request(
                asked["method"],
                f"{kling.url}{path}" + (f"?{query}" if query else ""),
                headers=asked["headers"],
                json=asked["body"],
                trust_env=False,
            )
            found += [] if answer.status_code == exchange.reply.status else [f"{path} answered {answer.status_code}"]
            found += told.unlike(exchange.reply.body, answer.json(), values, path)

    assert found == []
    assert kling.script.left() == ()
