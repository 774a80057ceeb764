"""The rows: what is shipped, what they cost, what a name means, and that a wrong file tells all of its faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.catalogue import (
    Alias,
    Catalogue,
    CatalogueError,
    Quote,
    Seconds,
    UnknownModel,
    dollars,
    load,
    quote,
)
from gateway.catalogue.rows import listed
from gateway.catalogue.shapes import crop, parse_ratio, parse_size, pixels, shape_name, short_side
from providers.spec import Mode, VideoRequest
from tests.catalogue_rows import SHIPPED, backend, shipped

ROW = """
[[backend]]
model = "one"
model_id = { text = "t", first_frame = "i" }
seconds = { min = 3, max = 15 }
resolutions = ["720p"]
audio = "optional"
price_usd_per_second = { silent = 0.1, audio = 0.2 }
typical_seconds = { p50 = 100, p95 = 240 }
checked = 2026-10-04
source = "https://acme.test"
"""


def write(folder: Path, text: str, name: str = "acme.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(*paths: Path) -> list[str]:
    with pytest.raises(CatalogueError) as raised:
        load(paths)
    return [f"{fault.line} {fault.key}: {fault.message}" for fault in raised.value.faults]


# --- what is shipped --------------------------------------------------------------------------------------------------


def test_every_shipped_file_loads_together_and_says_where_its_prices_come_from() -> None:
    catalogue = load(sorted(SHIPPED.glob("*.toml")))

    assert {"kling-v3-pro", "pika-2.2"} <= set(catalogue.model_names())
    assert [row.id for row in shipped().backends if row.price is None] == []
    assert [row.id for row in catalogue.backends if not row.pretend and row.checked is None] == []


@pytest.mark.parametrize(
    ("model", "seconds", "resolution", "audio", "usd_micros"),
    [
        ("kling-v3-pro", 5, "1080p", False, 560_000),
        ("kling-v3-pro", 5, "1080p", True, 840_000),
        ("kling-v3-standard", 5, "720p", False, 420_000),
        ("kling-v3-standard", 15, "720p", True, 1_890_000),
        ("kling-v3-4k", 5, "4k", False, 2_100_000),
        ("kling-v3-4k", 5, "4k", True, 2_100_000),
        ("kling-v3-turbo-standard", 3, "720p", False, 336_000),
        ("kling-v3-turbo-pro", 5, "1080p", False, 700_000),
        ("kling-o3-standard", 5, "720p", True, 560_000),
        ("kling-o3-pro", 5, "1080p", True, 700_000),
        ("kling-o3-4k", 10, "4k", True, 4_200_000),
        ("kling-v2.6-pro", 10, "1080p", False, 700_000),
        ("kling-v2.6-pro", 10, "1080p", True, 1_400_000),
        ("pika-2.2", 5, "720p", False, 200_000),
        ("pika-2.2", 10, "1080p", False, 900_000),
    ],
)
def test_price_of_a_clip_on_fal(model: str, seconds: int, resolution: str, audio: bool, usd_micros: int) -> None:
    row = shipped().backend(f"fal/{model}")
    assert row is not None

    found = quote(row, VideoRequest(seconds=seconds, resolution=resolution, audio=audio))

    assert found == Quote(usd_micros=usd_micros)


@pytest.mark.parametrize(
    ("model", "granted"),
    [
        ("kling-v3-pro", "last_frame shots negative_prompt cfg_scale"),
        ("kling-v3-turbo-pro", "shots"),
        ("kling-o3-pro", "last_frame references shots"),
        ("kling-v2.6-pro", "last_frame negative_prompt"),
        ("pika-2.2", "seed negative_prompt"),
    ],
)
def test_a_row_grants_what_the_vendors_schema_has_and_no_more(model: str, granted: str) -> None:
    row = shipped().backend(f"fal/{model}")
    options = ("last_frame", "references", "shots", "camera", "seed", "negative_prompt", "cfg_scale")

    found = [option for option in options if getattr(row, option)]

    assert found == granted.split()


def test_a_price_that_the_row_does_not_have_is_none() -> None:
    row = shipped().backend("fal/pika-2.2")
    assert row is not None

    assert quote(row, VideoRequest(seconds=5, resolution="720p", audio=True)) is None
    assert quote(row, VideoRequest(seconds=7, resolution="720p", audio=False)) is None
    assert quote(backend(usd_per_second=None), VideoRequest(seconds=5, resolution="720p", audio=False)) is None


def test_a_pretend_price_is_ranked_by_and_never_charged() -> None:
    found = quote(backend(pretend=True), VideoRequest(seconds=5, resolution="720p", audio=False))

    assert found == Quote(usd_micros=500_000, pretend=True)
    assert found is not None
    assert found.charge_usd_micros == 0
    assert Quote(usd_micros=500_000).charge_usd_micros == 500_000


# --- words ------------------------------------------------------------------------------------------------------------


def test_seconds_read_well_and_know_their_nearest() -> None:
    span, three = Seconds(min=3, max=15), Seconds(values=(4, 6, 8))

    assert (str(span), str(three), str(Seconds(values=(5, 10))), str(Seconds(values=(5,)))) == (
        "3–15",
        "4, 6 or 8",
        "5 or 10",
        "5",
    )
    assert [span.grants(n) for n in (2, 3, 15, 16)] == [False, True, True, False]
    assert [three.grants(n) for n in (4, 5, 8)] == [True, False, True]
    assert [span.nearest(n) for n in (1, 7, 20)] == [3, 7, 15]
    assert [three.nearest(n) for n in (1, 5, 7, 20)] == [4, 4, 6, 8]


def test_shapes_and_sizes() -> None:
    assert [short_side(word) for word in ("720p", "1080P", "2k", "4K", "2160p", "big", "p")] == [
        720,
        1080,
        1440,
        2160,
        2160,
        None,
        None,
    ]
    assert [parse_ratio(text) for text in ("16:9", "32:18", "16/9", "0:1")] == [(16, 9), (16, 9), None, None]
    assert [parse_size(text) for text in ("1280x720", "1280", "0x720")] == [(1280, 720), None, None]
    assert [pixels(*of) for of in ((720, 16 / 9), (1080, 9 / 16), (480, 16 / 9), (2160, 1.0))] == [
        (1280, 720),
        (1080, 1920),
        (854, 480),
        (2160, 2160),
    ]
    assert [shape_name(*sides) for sides in ((1920, 1080), (1366, 768), (1000, 730), (500, 1000))] == [
        "16:9",
        "16:9",
        "1.37:1",
        "1:2.00",
    ]


def test_the_crop_is_the_largest_box_in_the_middle() -> None:
    assert crop(1920, 1080, 9 / 16) == (656, 0, 608, 1080)
    assert crop(1080, 1920, 16 / 9) == (0, 656, 1080, 608)
    assert str(crop(1920, 1080, 1.0)) == "1080x1080 at x=420, y=0"


def test_money_and_lists_read_well() -> None:
    assert [dollars(n) for n in (0, 560_000, 504_000, 2_100_000, 1_000_001)] == [
        "$0.00",
        "$0.56",
        "$0.504",
        "$2.10",
        "$1.000001",
    ]
    assert [listed(words) for words in ((), ("a",), ("a", "b"), ("a", "b", "c"))] == ["", "a", "a or b", "a, b or c"]


# --- names ------------------------------------------------------------------------------------------------------------


CATALOGUE = Catalogue(
    [backend("beta/one"), backend("acme/one"), backend("acme/two"), backend("acme/fast", model="two")]
)


@pytest.mark.parametrize(
    ("name", "models", "provider", "backends"),
    [
        ("one", ("one",), None, ("acme/one", "beta/one")),
        ("two", ("two",), None, ("acme/fast", "acme/two")),
        ("beta/one", ("one",), "beta", ("beta/one",)),
        ("acme/two", ("two",), "acme", ("acme/fast", "acme/two")),
        ("acme/fast", ("two",), "acme", ("acme/fast",)),
    ],
)
def test_a_model_a_pin_or_a_backend_names_its_backends(
    name: str, models: tuple[str, ...], provider: str | None, backends: tuple[str, ...]
) -> None:
    target = CATALOGUE.resolve(name, {})

    assert (target.models, target.provider, target.backends, target.name) == (models, provider, backends, name)


def test_an_alias_lists_models_and_pins_in_its_order_and_wins_over_a_model() -> None:
    aliases = {"auto": Alias(models=("two", "gone", "beta/one")), "one": Alias(models=("two",))}

    assert CATALOGUE.resolve("auto", aliases).backends == ("acme/fast", "acme/two", "beta/one")
    assert CATALOGUE.resolve("auto", aliases).alias is aliases["auto"]
    assert CATALOGUE.resolve("one", aliases).models == ("two",)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("onee", ("one",)),
        ("gamma/one", ("acme/one", "beta/one")),
        ("acme/fats", ("acme/fast",)),
        ("aut", ("auto",)),
        ("nothing-like-it", ()),
    ],
)
def test_an_unknown_model_names_what_is_near(name: str, nearest: tuple[str, ...]) -> None:
    with pytest.raises(UnknownModel) as raised:
        CATALOGUE.resolve(name, {"auto": Alias(models=("one",))})

    assert raised.value.nearest[: len(nearest)] == nearest
    assert bool(raised.value.nearest) is bool(nearest)


def test_an_alias_of_unknown_models_only_is_an_unknown_model() -> None:
    aliases = {"dream": Alias(models=("onee",)), "nil": Alias(models=())}

    with pytest.raises(UnknownModel) as raised:
        CATALOGUE.resolve("dream", aliases)
    with pytest.raises(UnknownModel):
        CATALOGUE.resolve("nil", aliases)

    assert raised.value.nearest[0] == "one"


def test_faults_in_aliases_are_told_for_the_check() -> None:
    aliases = {
        "good": Alias(models=("one", "acme/fast"), size="1280x720", aspect_ratio="16:9", resolution="4k"),
        "bad": Alias(models=("one", "tow"), size="720", aspect_ratio="wide", resolution="big"),
        "nil": Alias(models=()),
    }

    told = CATALOGUE.faults_in(aliases)

    assert [sentence.partition(": ")[0] for sentence in told] == ["alias 'bad'"] * 4 + ["alias 'nil'"]
    assert "did you mean two" in told[0]


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_row_takes_its_provider_from_the_file_or_its_own_key(tmp_path: Path) -> None:
    named = ROW + 'provider = "beta"\nname = "quick"\n'

    catalogue = load([write(tmp_path, ROW + named)])

    assert [row.id for row in catalogue.backends] == ["acme/one", "beta/quick"]
    assert catalogue.backends[1].model == "one"
    assert catalogue.backends[0].model_id == {Mode.TEXT: "t", Mode.FIRST_FRAME: "i"}


def test_every_fault_of_every_row_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    bad = ROW.replace('audio = "optional"', 'audio = "sometimes"').replace("max = 15", 'max = "15", mim = 3')
    bad = bad.replace("resolutions", "resolution").replace('model = "one"', 'model = "T W O"')
    path = write(tmp_path, "# head\n" + ROW + bad + "\n[other]\nkey = 1\n")

    told = faults(path)

    assert told[0].startswith("1 other: is not known")
    assert [line.split(": ")[0] for line in told[1:]] == [
        "14 backend[1].resolution",
        "14 backend[1].seconds.mim",
        "14 backend[1].seconds.max",
        "14 backend[1].resolutions",
        "14 backend[1].audio",
        "14 backend[1].model",
    ]
    assert told[1].endswith("did you mean resolutions?")
    assert told[2].endswith("did you mean min?")
    assert "is missing" in told[4]


@pytest.mark.parametrize(
    ("written", "instead", "fault"),
    [
        ("{ silent = 0.1, audio = 0.2 }", "{ silent = 0.1 }", "has no price for 720p with sound"),
        ("{ silent = 0.1, audio = 0.2 }", "{ silent = 0.1, loud = 0.2 }", "is none of silent, audio, 720p"),
        ("{ silent = 0.1, audio = 0.2 }", "{ silent = 0.1, audio = -1 }", "expected dollars of 0 or more"),
        ("{ silent = 0.1, audio = 0.2 }", "{ silent = 0.1, audio = true }", "expected dollars, got True"),
        ("{ silent = 0.1, audio = 0.2 }", "{ silent = 0.1, audio = 0.0000001 }", "finer than a micro-dollar"),
        ("{ silent = 0.1, audio = 0.2 }", '{ "1080p" = 1 }', "is none of silent, audio, 720p"),
        ("{ silent = 0.1, audio = 0.2 }", "{}", "is empty"),
        ("{ silent = 0.1, audio = 0.2 }", "nan", "expected dollars of 0 or more"),
        ('audio = "optional"', 'audio = "never"', "prices a clip that the row never makes"),
        ("{ min = 3, max = 15 }", "{ min = 15, max = 3 }", "grants no duration"),
        ("{ min = 3, max = 15 }", "{ min = 3, max = 15_000_000_000 }", "grants no duration"),
        ("{ min = 3, max = 15 }", "[5, 5]", "grants no duration"),
        ("{ min = 3, max = 15 }", "[]", "grants no duration"),
        ('["720p"]', '["720p", "tall"]', "'tall' is not known"),
        ('["720p"]', '["1440p", "2k"]', "'2k' says again"),
        ('["720p"]', "[]", "is empty"),
        ("p95 = 240", "p95 = 24", "wants 0 < p50 ≤ p95"),
        ('first_frame = "i"', 'references = "r"', "counts reference pictures exactly when"),
        ('first_frame = "i"', 'third_frame = "i"', "Invalid enum value"),
        ("checked = 2026-10-04", "last_frame = true", "says when it was checked"),
        ('source = "https://acme.test"', "max_in_flight = 0", "0 is less than 1"),
        ('source = "https://acme.test"', 'camera = ["spin"]', "Invalid enum value 'spin'"),
        ('source = "https://acme.test"', "price_usd_per_clip = 1", "give one"),
        ('source = "https://acme.test"', "replaces = true", "there is no earlier row acme/one"),
        ('model = "one"', 'model = "One/Two"', "is no name"),
    ],
)
def test_a_row_that_contradicts_itself_is_a_fault(tmp_path: Path, written: str, instead: str, fault: str) -> None:
    if written.startswith("source"):
        instead = f"{written}\n{instead}"
    assert written in ROW

    told = faults(write(tmp_path, ROW.replace(written, instead)))

    assert any(fault in line for line in told), told
    assert all(line.startswith("2 backend[0]") for line in told)


def test_prices_are_exact_and_may_be_written_as_text(tmp_path: Path) -> None:
    price = '{ silent = 0.0714, audio = "0.1071" }'

    catalogue = load([write(tmp_path, ROW.replace("{ silent = 0.1, audio = 0.2 }", price))])

    row = catalogue.backends[0]
    assert quote(row, VideoRequest(seconds=7, resolution="720p", audio=False)) == Quote(usd_micros=499_800)
    assert quote(row, VideoRequest(seconds=7, resolution="720p", audio=True)) == Quote(usd_micros=749_700)


def test_a_clip_price_by_duration_must_cover_every_duration(tmp_path: Path) -> None:
    row = ROW.replace("{ min = 3, max = 15 }", "[5, 10]").replace("price_usd_per_second", "price_usd_per_clip")
    whole = row.replace("{ silent = 0.1, audio = 0.2 }", '{ "5" = 0.2, "10" = { silent = 0.4, audio = 0.6 } }')
    holed = row.replace("{ silent = 0.1, audio = 0.2 }", '{ "5" = 0.2, "10" = { silent = 0.4 }, "8" = 1 }')

    ten = quote(load([write(tmp_path, whole)]).backends[0], VideoRequest(seconds=10, resolution="720p", audio=True))

    assert ten == Quote(usd_micros=600_000)
    assert faults(write(tmp_path, holed)) == ["2 backend[0].price_usd_per_clip.8: the row makes no 8 s"]
    assert faults(write(tmp_path, holed.replace(', "8" = 1', ""))) == [
        "2 backend[0].price_usd_per_clip: has no price for 10 s of 720p with sound, which the row grants"
    ]


def test_a_second_row_of_the_same_name_is_a_fault_unless_it_says_that_it_replaces(tmp_path: Path) -> None:
    first = write(tmp_path, ROW)
    own = write(tmp_path, ROW.replace("0.2", "0.3") + 'provider = "acme"\n', "own.toml")
    says = write(tmp_path, own.read_text() + "replaces = true\n", "says.toml")

    told = faults(first, own)
    replaced = load([first, says])

    assert told == [f"2 backend[0]: acme/one stands already at {first}:2; `replaces = true` replaces it"]
    assert quote(replaced.backends[0], VideoRequest(seconds=5, resolution="720p", audio=True)) == Quote(
        usd_micros=1_500_000
    )


def test_a_file_that_cannot_be_read_hides_no_fault_of_another(tmp_path: Path) -> None:
    broken = write(tmp_path, "[[backend]]\nmodel = \n", "broken.toml")
    inline = write(tmp_path, 'backend = [{ model = "x" }]\n', "inline.toml")

    told = faults(broken, tmp_path / "absent.toml", inline, write(tmp_path, "backend = 3\n", "three.toml"))

    assert told[0].startswith("2 : is not TOML")
    assert "cannot be read" in told[1]
    assert "1 backend[0].model_id: is missing" in told
    assert told[-1].startswith("1 backend: is not a list of tables")
