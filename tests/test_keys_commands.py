"""`filmgate keys` and `filmgate usage`, as an operator types them."""

from __future__ import annotations

import asyncio
import csv
import io
import secrets
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from gateway import keys
from gateway.commands import main
from gateway.store import connect
from tests.records import DECISION, a_job


@pytest.fixture
def filled(tmp_path: Path) -> str:
    """The url of a store in which two keys and the process's own have used something today."""
    url = f"sqlite:///{tmp_path}/filmgate.db"
    asyncio.run(_fill(url))
    return url


async def _fill(url: str) -> None:
    store = connect(url)
    await store.open()
    for name in ("web", "ci"):
        made = keys.make(name, now_us=1, random=secrets.token_bytes(keys.RANDOM_BYTES), test=name == "ci")
        await store.create_key(made.key)
        now_us = int(datetime.now(UTC).timestamp() * 1e6)
        free: dict[str, Any] = {"test": True, "reserved_usd_micros": 0} if name == "ci" else {}
        await store.accept(a_job(made.key.id, created_us=now_us, **free), decision=DECISION)
    await store.accept(a_job("local", created_us=now_us, reserved_usd_micros=1_000_000), decision=DECISION)
    await store.close()


def run(url: str, *words: str) -> Any:
    return CliRunner().invoke(main, words, env={"FILMGATE_STORE__URL": url, "COLUMNS": "160"})


def test_operator_sees_every_key_by_name(filled: str) -> None:
    shown = run(filled, "usage", "--by", "key")
    as_json = msgspec.json.decode(run(filled, "usage", "--by", "key", "--json").stdout)
    one = msgspec.json.decode(run(filled, "usage", "--key", "web", "--json").stdout)

    assert shown.exit_code == 0, shown.output
    assert all(name in shown.stdout for name in ("web", "ci", "local", "together", "$1.56"))
    assert {line["name"]: line["reserved_usd"] for line in as_json} == {"web": 0.56, "ci": 0.0, "local": 1.0}
    assert [line["reserved_usd"] for line in one] == [0.56]


def test_operators_csv_is_alone_on_stdout(filled: str) -> None:
    rows = list(csv.reader(io.StringIO(run(filled, "usage", "--by", "model", "--csv").stdout)))

    assert [row[:2] for row in rows] == [["model", "jobs"], ["kling-v3-pro", "3"]]


def test_an_unknown_key_and_a_wrong_day_are_said_plainly(filled: str) -> None:
    unknown, wrong = run(filled, "usage", "--key", "nobody"), run(filled, "usage", "--from", "soon")

    assert (unknown.exit_code, wrong.exit_code) == (1, 2)
    assert "no key is or was called 'nobody'" in unknown.output
    assert "from is a day such as" in wrong.output


def test_keys_are_made_limited_rotated_and_listed_with_what_they_used(filled: str) -> None:
    made = run(
        filled, "keys", "create", "app", "--budget-day", "50", "--model", "*-pro", "--expires", "90d", "--rpm", "60"
    )
    limited = run(filled, "keys", "limit", "web", "--budget-day", "2.5", "--max-in-flight", "3")
    lifted = run(filled, "keys", "limit", "app", "--model", "none", "--expires", "none")
    rotated = run(filled, "keys", "rotate", "app", "--overlap", "2h")
    listed = run(filled, "keys", "list")

    text = made.stdout.strip().splitlines()[-1]
    assert keys.parse(text) == keys.parse(rotated.stdout.strip().splitlines()[-1])
    assert "works until" in rotated.stderr
    assert "$2.50 a day, 3 jobs at once" in limited.stderr
    assert lifted.stderr.strip().endswith("$50.00 a day, 60 requests a minute")
    assert "$0.56 of $2.50" in listed.stdout
    assert "test: sandbox only" in listed.stdout
    assert text not in listed.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("limit", "web"), "say what to change"),
        (("limit", "nobody", "--rpm", "5"), "no live key is called 'nobody'"),
        (("rotate", "nobody"), "no live key is called 'nobody'"),
        (("rotate", "web", "--overlap", "soon"), "no span of time"),
        (("create", "x", "--budget-day", "-1"), "no figure from 0 on"),
        (("create", "x", "--budget-day", "nan"), "no figure from 0 on"),
        (("create", "x", "--rpm", "0"), "no figure from 1 on"),
        (("create", "x", "--scope", "admin"), "is not one of"),
        (("create", "x", "--expires", "2020-01-01"), "is over already"),
    ],
)
def test_wrong_words_are_said_plainly_and_change_nothing(filled: str, words: tuple[str, ...], said: str) -> None:
    before = run(filled, "keys", "list", "--json").stdout

    answer = run(filled, "keys", *words)

    assert answer.exit_code in (1, 2)
    assert said in answer.output
    assert run(filled, "keys", "list", "--json").stdout == before


def test_an_audit_finds_a_total_that_is_not_the_sum_of_its_jobs(filled: str) -> None:
    sound = run(filled, "audit")
    db = sqlite3.connect(filled.removeprefix("sqlite:///"))
    with db:
        db.execute("UPDATE spend SET usd_micros = usd_micros - 1 WHERE caller = 'local'")
    db.close()

    wrong = run(filled, "audit")

    assert (sound.exit_code, wrong.exit_code) == (0, 1), sound.output + wrong.output
    assert "Every key's totals are the sum of their jobs." in sound.output
    assert "spend of local on " in wrong.output
    assert ": 999999, but its jobs: 1000000" in wrong.output
