"""API keys: recognised by shape and checksum alone, opened by their text alone, shown once."""

from __future__ import annotations

import msgspec
import pytest

from gateway import keys
from tests.records import NOW_US

NEW = keys.make("app", now_us=NOW_US, random=bytes(range(keys.RANDOM_BYTES)))
TEXT = NEW.text.reveal()


def test_key_text_has_the_published_shape() -> None:
    assert TEXT == "fg_live_000g40o4_BQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQ_d48e928b"
    assert keys.parse(TEXT) == NEW.key.id == "000g40o4"


def test_text_stands_in_no_record() -> None:
    assert TEXT not in repr(NEW)
    assert TEXT not in msgspec.json.encode(NEW.key).decode()
    assert NEW.key.hint == "fg_live_000g40o4_…928b"


def test_any_one_wrong_character_is_noticed_without_a_look_up() -> None:
    for at, right in enumerate(TEXT):
        for wrong in {"a", "B", "_", "-", " ", "é"} - {right}:
            assert keys.parse(TEXT[:at] + wrong + TEXT[at + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "fg_live_", TEXT[:-1], TEXT + "0", TEXT + "\n", " " + TEXT, TEXT.upper(), "x" * 9999]
)
def test_text_of_another_shape_is_no_key(text: str) -> None:
    assert keys.parse(text) is None


def test_key_opens_with_its_own_text_until_revoked() -> None:
    other = keys.make("app", now_us=NOW_US, random=bytes(keys.RANDOM_BYTES))

    assert keys.opens(TEXT, NEW.key)
    assert not keys.opens(other.text.reveal(), NEW.key)
    assert not keys.opens(TEXT, msgspec.structs.replace(NEW.key, revoked_us=NOW_US))


@pytest.mark.parametrize("name", ["", " app", "app ", "a\nb", "a\x00b", "a\x1b[31m", "x" * 65])
def test_name_that_cannot_be_shown_on_a_line_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        keys.make(name, now_us=NOW_US, random=bytes(keys.RANDOM_BYTES))


@pytest.mark.parametrize("purse", [-1, 2**63])
def test_purse_must_be_an_amount(purse: int) -> None:
    with pytest.raises(ValueError, match="purse"):
        keys.make("app", now_us=NOW_US, random=bytes(keys.RANDOM_BYTES), purse_usd_micros=purse)
