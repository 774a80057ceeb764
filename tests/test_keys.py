"""API keys: recognised by shape and checksum alone, opened by their text alone, shown once."""

from __future__ import annotations

import msgspec
import pytest

from gateway import keys
from gateway.keys import NO_LIMITS, Need, Opens, Terms
from tests.records import NOW_US

HOUR = 3_600_000_000

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

    assert keys.opens(TEXT, NEW.key, now_us=NOW_US) is Opens.YES
    assert keys.opens(other.text.reveal(), NEW.key, now_us=NOW_US) is Opens.NO
    assert keys.opens(TEXT, msgspec.structs.replace(NEW.key, revoked_us=NOW_US), now_us=NOW_US) is Opens.NO


def test_test_key_says_so_in_its_text() -> None:
    made = keys.make("ci", now_us=NOW_US, random=bytes(range(keys.RANDOM_BYTES)), test=True)

    assert made.key.test
    assert made.key.hint.startswith("fg_test_")
    assert keys.parse(made.text.reveal()) == made.key.id
    assert keys.parse(made.text.reveal().replace("fg_test_", "fg_live_")) is None  # the checksum covers it


def test_key_expires_at_its_moment_and_only_its_own_text_learns_so() -> None:
    made = keys.make("app", now_us=NOW_US, random=bytes(37), terms=Terms(expires_us=NOW_US + HOUR))
    text = made.text.reveal()

    assert keys.opens(text, made.key, now_us=NOW_US + HOUR - 1) is Opens.YES
    assert keys.opens(text, made.key, now_us=NOW_US + HOUR) is Opens.EXPIRED
    assert keys.opens(TEXT, made.key, now_us=NOW_US + HOUR) is Opens.NO


def test_rotated_key_keeps_its_id_and_terms_and_opens_with_both_texts_for_a_while() -> None:
    was = keys.make("app", now_us=1, random=bytes(37), terms=Terms(purse_usd_micros=5, models=("*-pro",)))
    new = keys.rotated(was.key, now_us=NOW_US, random=b"n" * keys.SECRET_BYTES, overlap_us=HOUR)
    old, fresh = was.text.reveal(), new.text.reveal()

    assert keys.parse(fresh) == was.key.id == new.key.id
    assert (new.key.purse_usd_micros, new.key.models, new.key.created_us) == (5, ("*-pro",), 1)
    assert [keys.opens(old, new.key, now_us=NOW_US + at) for at in (0, HOUR - 1, HOUR)] == [
        Opens.YES,
        Opens.YES,
        Opens.NO,
    ]
    assert keys.opens(fresh, new.key, now_us=NOW_US + HOUR) is Opens.YES
    assert new.key.hint.endswith(fresh[-4:])


def test_rotation_without_overlap_and_a_second_rotation_end_the_text_before() -> None:
    first = keys.make("app", now_us=1, random=bytes(37))
    at_once = keys.rotated(first.key, now_us=NOW_US, random=b"a" * 32, overlap_us=0)
    second = keys.rotated(first.key, now_us=NOW_US, random=b"b" * 32, overlap_us=HOUR)
    third = keys.rotated(second.key, now_us=NOW_US, random=b"c" * 32, overlap_us=HOUR)

    assert keys.opens(first.text.reveal(), at_once.key, now_us=NOW_US) is Opens.NO
    opened = [keys.opens(made.text.reveal(), third.key, now_us=NOW_US) for made in (first, second, third)]
    assert opened == [Opens.NO, Opens.YES, Opens.YES]


def test_revoked_key_opens_with_neither_text() -> None:
    was = keys.make("app", now_us=1, random=bytes(37))
    new = keys.rotated(was.key, now_us=NOW_US, random=b"n" * 32, overlap_us=HOUR)
    revoked = msgspec.structs.replace(new.key, revoked_us=NOW_US)

    assert keys.opens(was.text.reveal(), revoked, now_us=NOW_US) is Opens.NO
    assert keys.opens(new.text.reveal(), revoked, now_us=NOW_US) is Opens.NO


def test_key_without_scopes_may_all_but_read_everybodys_figures() -> None:
    board = keys.changed(NEW.key, Terms(scopes=(Need.METRICS,)))

    assert [keys.may(NEW.key, need) for need in Need] == [True, True, True, False]
    assert [keys.may(board, need) for need in Need] == [False, False, False, True]


def test_limits_change_one_by_one() -> None:
    key = keys.changed(NEW.key, Terms(budget_day_usd_micros=5, requests_per_minute=9))

    less = keys.limited(key, Terms(budget_day_usd_micros=3), ("budget_day_usd_micros", "requests_per_minute"))

    assert (less.budget_day_usd_micros, less.requests_per_minute) == (3, None)
    assert keys.changed(less, NO_LIMITS) == NEW.key
    with pytest.raises(ValueError, match="'hash'"):
        keys.limited(key, NO_LIMITS, ("hash",))


@pytest.mark.parametrize("name", ["", " app", "app ", "a\nb", "a\x00b", "a\x1b[31m", "x" * 65])
def test_name_that_cannot_be_shown_on_a_line_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        keys.make(name, now_us=NOW_US, random=bytes(keys.RANDOM_BYTES))


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (Terms(purse_usd_micros=-1), "purse"),
        (Terms(purse_usd_micros=2**63), "purse"),
        (Terms(budget_day_usd_micros=-1), "budget of a day"),
        (Terms(budget_month_usd_micros=-1), "budget of a month"),
        (Terms(max_in_flight=0), "jobs at once"),
        (Terms(requests_per_minute=0), "requests a minute"),
        (Terms(keep_days=-1), "days of keeping"),
        (Terms(scopes=("jobs",)), "no scope 'jobs'; there are videos:write"),
        (Terms(models=("",)), "printable"),
        (Terms(providers=("a\nb",)), "printable"),
    ],
)
def test_terms_must_make_sense(terms: Terms, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        keys.make("app", now_us=NOW_US, random=bytes(keys.RANDOM_BYTES), terms=terms)
