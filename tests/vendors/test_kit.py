"""What every vendor server here promises, shown on fal's: money, scripts, broken sockets, callbacks."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.vendors import ed25519, kit, wire
from tests.vendors.fal import FalServer
from tests.vendors.fal_caller import INPUT, KEY, PIKA, V3_TEXT, FalCaller
from tests.vendors.kit import Pace
from tests.vendors.receiver import Receiver
from tests.vendors.script import Act, act
from tests.vendors.server import Options


@pytest.fixture
def fal(tmp_path: Path) -> Iterator[FalServer]:
    with FalServer(tmp_path, Options(pace=Pace(steps=2))) as server:
        yield server


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[FalServer]:
    """One whose time is virtual; a render takes 90 seconds."""
    with FalServer(tmp_path, Options(pace=Pace(seconds=90), virtual=True, callback_retry_seconds=10)) as server:
        yield server


@pytest.fixture
def ask(fal: FalServer) -> Iterator[FalCaller]:
    with FalCaller(fal.url) as caller:
        yield caller


@pytest.fixture
def ask_timed(timed: FalServer) -> Iterator[FalCaller]:
    with FalCaller(timed.url) as caller:
        yield caller


def name_of(value: object) -> str:
    return str(value.verb) if isinstance(value, Act) else str(value)[:12]


# --- money ------------------------------------------------------------------------------------------------------------


def test_a_row_is_in_the_ledger_when_the_reply_is_cut(fal: FalServer, ask: FalCaller, tmp_path: Path) -> None:
    fal.say(act("accept_then_cut"))

    with pytest.raises(httpx.TransportError):
        ask.submit(callback="http://127.0.0.1:9/callbacks/attempt-token")

    (row,) = kit.read(tmp_path / kit.LEDGER, kit.Row)
    sent = ask.http.build_request("POST", "/", json=INPUT).content
    assert (row.endpoint, row.account, row.token) == (V3_TEXT, "test-id", "attempt-token")
    assert row.usd_micros == 560_000
    assert row.body_sha256 == hashlib.sha256(sent).hexdigest()


def test_a_row_is_synced_before_the_first_byte_of_the_reply(
    fal: FalServer, ask: FalCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, send = os.fsync, wire.Reply

    def synced(file: int) -> None:
        sync(file)
        order.append(f"synced {len(fal.ledger())}")

    def replied(**words: Any) -> wire.Reply:
        order.append("replied")
        return send(**words)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(wire, "Reply", replied)
    ask.job()

    assert order == ["synced 1", "replied"]


@pytest.mark.parametrize(
    ("script", "rows"),
    [
        (act("cut_before_accept"), 0),
        (act("cut_before_accept", reset=False), 0),
        (act("stall_before_accept", seconds=0.05), 0),
        (act("accept_then_stall", seconds=0.05), 1),
        (act("accept_then_cut", reset=False), 1),
        (act("half_reply"), 1),
    ],
    ids=name_of,
)
def test_a_broken_connection_bills_exactly_what_the_verb_says(
    fal: FalServer, ask: FalCaller, script: Act, rows: int
) -> None:
    fal.say(script)

    with pytest.raises(httpx.TransportError):
        ask.submit()

    assert len(fal.ledger()) == rows
    assert ask.submit().status_code == 200  # and the next call is as ever


def test_cuts_are_resets_unless_they_are_to_be_orderly(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("accept_then_cut"), act("accept_then_cut", reset=False))

    with pytest.raises(httpx.ReadError, match="reset"):
        ask.submit()
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        ask.submit()


def test_a_stall_without_an_end_lasts_until_the_client_gives_up(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("accept_then_stall"))

    with pytest.raises(httpx.ReadTimeout):
        ask.submit(seconds=0.1)

    assert len(fal.ledger()) == 1


@pytest.mark.parametrize("accepted", [True, False])
def test_an_error_status_bills_when_it_is_told_to(fal: FalServer, ask: FalCaller, accepted: bool) -> None:
    fal.say(act("status", status=500, accepted=accepted))

    assert ask.submit().status_code == 500
    assert len(fal.ledger()) == int(accepted)


# --- scripts ----------------------------------------------------------------------------------------------------------


def test_acts_apply_in_order_each_for_its_number_of_calls(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("status", status=503, times=2), act("status", status=429, headers={"retry-after": "30"}))

    answers = [ask.submit() for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 503, 429, 200]
    assert answers[2].headers["retry-after"] == "30"
    assert fal.script.left() == ()


def test_an_act_touches_only_its_operation_and_endpoint(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("status", status=404, on="status"), act("status", status=500, endpoint="pika"))

    job = ask.job()

    assert [ask.get(job["status_url"]).status_code for _ in range(2)] == [404, 202]
    assert ask.submit(endpoint=PIKA).status_code == 500


def test_an_act_can_let_calls_pass_first_and_last_for_ever(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("status", status=503, after=1, times=0))

    assert [ask.submit().status_code for _ in range(4)] == [200, 503, 503, 503]


def test_one_submit_takes_one_act_of_each_family(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("slow", seconds=0.01), act("fail_render"), act("callback_drop"))

    job = ask.job(callback="http://127.0.0.1:9/")
    fal.finish()

    assert fal.script.left() == ()
    assert ask.status(job)["error_type"] == "runner_server_error"
    assert fal.callbacks() == []


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        (act("html", status=502, body="<html>nginx</html>"), 502, "<html>nginx</html>"),
        (act("empty"), 200, ""),
        (act("redirect", word="http://127.0.0.1:9/away"), 307, ""),
        (act("status", status=403), 403, "User is locked. Reason: Exhausted balance."),
        (act("status", status=401), 401, "No user found for Key ID and Secret"),
        (act("status", status=422), 422, "value_error"),
        (act("status", status=409, body={"detail": "twice"}), 409, '{"detail":"twice"}'),
    ],
    ids=name_of,
)
def test_a_spoilt_answer_says_what_the_verb_says(
    fal: FalServer, ask: FalCaller, script: Act, status: int, text: str
) -> None:
    fal.say(script)

    answer = ask.submit()

    assert answer.status_code == status
    assert text in answer.text
    assert text or not answer.content
    assert answer.headers.get("location") == (script.word or None)


def test_a_truncated_answer_is_whole_http_and_broken_json(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("truncated"), act("no_id"))

    broken, bare = ask.submit(), ask.submit()

    with pytest.raises(json.JSONDecodeError):
        broken.json()
    assert bare.json() == {"status": "IN_QUEUE", "queue_position": 1}
    assert len(fal.ledger()) == 2


@pytest.mark.parametrize("verb", ["slow", "drip"])
def test_a_late_answer_is_whole(fal: FalServer, ask: FalCaller, verb: str) -> None:
    fal.say(act(verb, seconds=0.05))

    assert ask.submit().json()["status"] == "IN_QUEUE"


def test_the_control_plane_takes_the_same_words_and_refuses_others(fal: FalServer, ask: FalCaller) -> None:
    said = ask.http.post("/_script", json=[{"verb": "status", "status": 418}, {"verb": "stuck"}])
    wrong = ask.http.post("/_script", json={"verb": "explode"})
    lost = ask.http.post("/_script", json={"verb": "stuck", "on": "status"})

    assert [entry["verb"] for entry in said.json()] == ["status", "stuck"]
    assert (wrong.status_code, lost.status_code) == (400, 400)
    assert ask.submit().status_code == 418
    assert ask.http.delete("/_script").json() == []


def test_the_journal_shows_requests_without_their_credentials(fal: FalServer, ask: FalCaller, tmp_path: Path) -> None:
    ask.job()

    (seen,) = fal.requests()
    assert (seen.method, seen.path, seen.body) == ("POST", f"/{V3_TEXT}", INPUT)
    assert seen.headers["authorization"] == f"Key {kit.REDACTED}"
    assert KEY.partition(":")[2] not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_a_defect_of_the_server_itself_is_told_to_whoever_holds_it(tmp_path: Path) -> None:
    class Broken(FalServer):
        async def answer(self, request: object) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    with pytest.raises(AssertionError, match="fal server itself failed"), Broken(tmp_path) as broken:
        assert httpx.get(broken.url).status_code == 500


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_a_callback_that_is_not_taken_is_tried_again_and_a_redirect_ends_it(
    timed: FalServer, ask_timed: FalCaller
) -> None:
    with Receiver(500, 404, 200, 302) as gateway:
        ask_timed.job(callback=gateway.url)
        for tries, seconds in enumerate((90, 10, 20), start=1):
            timed.advance(seconds)
            timed.callbacks(tries)
        ask_timed.job(callback=gateway.url)
        timed.advance(90)
        timed.callbacks(4)
        timed.advance(3600)

        assert [delivery.status for delivery in timed.callbacks()] == [500, 404, 200, 302]
        assert len(gateway.got) == 4


def test_callbacks_can_be_dropped_doubled_and_late(timed: FalServer, ask_timed: FalCaller) -> None:
    timed.say(act("callback_drop"), act("callback_duplicate", count=3), act("callback_delay", seconds=7200))
    with Receiver() as gateway:
        jobs = [ask_timed.job(callback=f"{gateway.url}/{path}") for path in ("dropped", "doubled", "late")]
        timed.advance(100)
        for job in jobs:
            assert ask_timed.result(job).status_code == 200  # the work is over; what is left is the callback
        timed.callbacks(3)
        timed.advance(7100)
        early = [call.path for call in gateway.got]
        timed.advance(100)
        late = [call.path for call in gateway.wait(4)[3:]]

    assert (early, late) == (["/doubled"] * 3, ["/late"])


def test_callbacks_can_swap_their_order(fal: FalServer, ask: FalCaller) -> None:
    fal.say(act("callback_reorder"))
    with Receiver() as gateway:
        for name in "ab":
            fal.finish(ask.job(callback=f"{gateway.url}/{name}")["request_id"])

        assert [call.path for call in gateway.wait(2)] == ["/b", "/a"]


def test_a_callback_can_come_before_the_submits_reply(timed: FalServer, ask_timed: FalCaller) -> None:
    timed.say(act("callback_before_reply"))
    with Receiver() as gateway:
        job = ask_timed.job(callback=gateway.url)

        assert [call.json()["request_id"] for call in gateway.got] == [job["request_id"]]


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [  # RFC 8032, §7.1, tests 1 and 2
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_signatures_are_those_of_the_standard(seed: str, public: str, message: str, signature: str) -> None:
    key, said = bytes.fromhex(seed), bytes.fromhex(message)

    assert ed25519.public_key(key).hex() == public
    assert ed25519.sign(key, said).hex() == signature
    assert ed25519.verify(bytes.fromhex(public), said, bytes.fromhex(signature))
    assert not ed25519.verify(bytes.fromhex(public), said + b"!", bytes.fromhex(signature))


def test_a_signature_has_one_form_only() -> None:
    key = hashlib.sha256(b"a seed").digest()
    signature = ed25519.sign(key, b"said")
    order = 2**252 + 27742317777372353535851937790883648493

    again = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")

    assert not ed25519.verify(ed25519.public_key(key), b"said", again)


def test_it_runs_as_a_process_of_its_own_and_leaves_its_ledger(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vendors.fal", "--folder", str(tmp_path), "--steps", "1"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        with FalCaller(url) as ask:
            job = ask.job()
        process.send_signal(signal.SIGTERM)

        assert process.wait(20) == 0
    assert [row.id for row in kit.read(tmp_path / kit.LEDGER, kit.Row)] == [job["request_id"]]
