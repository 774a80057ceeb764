"""Rows that state exact pixels: what they grant, what a file may say, and that the shipped ones say what is bought."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.catalogue import Backend, CatalogueError, ExactSize, load
from providers import runway
from providers.spec import Mode, VideoRequest
from tests.catalogue_rows import asked, backend, only, picture, shipped

SQUARE = ExactSize(resolution="720p", aspect="1:1", width=960, height=960)
ROW = backend(sizes=(SQUARE,), follows_picture=False)
TEXT = """
[[backend]]
model = "one"
model_id = { text = "t" }
seconds = [5]
aspect_ratios = ["16:9", "1:1", "4:3"]
resolutions = ["720p", "1080p"]
audio = "never"
typical_seconds = { p50 = 1, p95 = 2 }
checked = 2026-10-04
source = "https://acme.test"
"""


def clip(**fields: int | str) -> VideoRequest:
    return VideoRequest(**{"prompt": "a cat", "seconds": 5, **fields})  # type: ignore[arg-type]


def test_a_stated_size_is_what_its_words_come_to() -> None:
    (square,) = asked(ROW, clip(resolution="720p", aspect_ratio="1:1")).candidates
    (wide,) = asked(ROW, clip(resolution="720p", aspect_ratio="16:9")).candidates

    assert (square.size, wide.size) == ("960x960", "1280x720")


def test_a_stated_size_can_be_asked_for_by_its_pixels() -> None:
    (found,) = asked(ROW, clip(width=960, height=960)).candidates

    assert (found.request.resolution, found.request.aspect_ratio, found.size) == ("720p", "1:1", "960x960")


def test_the_pixels_that_the_words_alone_would_come_to_are_refused_with_the_stated_ones() -> None:
    refusal = only(asked(ROW, clip(width=720, height=720)))

    assert refusal.param == "size"
    assert refusal.nearest == "size=960x960"


def test_a_file_states_sizes_in_its_rows_own_words(tmp_path: Path) -> None:
    path = tmp_path / "acme.toml"
    path.write_text(TEXT + 'sizes."720p 1:1" = "960x960"\nsizes."1080p 4:3" = "1664x1248"\n')

    (row,) = load([path]).backends

    assert row.sizes == (SQUARE, ExactSize(resolution="1080p", aspect="4:3", width=1664, height=1248))
    assert row.exact_size("720p", "1:1") == (960, 960)
    assert row.exact_size("720p", "16:9") is None


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('{ "720p 1:1" = "960" }', "'960' is no size"),
        ('{ "720p 1:1" = 960 }', "Expected `str`"),
        ('{ "480p 1:1" = "640x640" }', "a resolution and an aspect ratio of this row"),
        ('{ "720p 3:4" = "834x1112" }', "a resolution and an aspect ratio of this row"),
        ('{ "720p" = "960x960" }', "a resolution and an aspect ratio of this row"),
        ('{ "720p 1:1" = "960x960", "720p 4:3" = "960x960" }', "960x960 is 720p 1:1 already"),
        ('"960x960"', "Expected `object"),
    ],
)
def test_a_size_that_says_nothing_is_a_fault_with_its_place(written: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "acme.toml"
    path.write_text(f"{TEXT}sizes = {written}\n")

    with pytest.raises(CatalogueError) as caught:
        load([path])

    (fault,) = caught.value.faults
    assert (fault.line, message in fault.message) == (2, True), fault
    assert fault.key.startswith("backend[0].sizes")


RUNWAY = shipped("runway").backends


@pytest.mark.parametrize("row", RUNWAY, ids=lambda row: row.id.replace("/", "."))
def test_what_the_catalogue_says_of_a_size_is_what_the_vendor_is_asked_for(row: Backend) -> None:
    """Its rows and its adapter's table of pairs are written apart: this keeps them together."""
    for mode in row.model_id:
        for resolution in row.resolutions:
            for aspect in row.aspect_ratios:
                request = starting(row, mode, resolution=resolution, aspect_ratio=aspect)
                (found,) = asked(row, request).candidates
                width, _, height = found.size.partition("x")
                named = starting(row, mode, width=int(width), height=int(height))
                (by_pixels,) = asked(row, named).candidates

                for closed in (found.request, by_pixels.request):
                    body = runway.to_body(closed, row.model_id[mode])
                    assert body["ratio"] == f"{width}:{height}", (resolution, aspect)


def starting(row: Backend, mode: Mode, **fields: int | str) -> VideoRequest:
    """The shortest clip of a row in this mode, its picture handed over."""
    frame = msgspec.structs.replace(picture(640, 360), handed="https://pictures.example/first.jpg")
    request = clip(**fields, seconds=row.seconds.all()[0])
    match mode:
        case Mode.TEXT:
            return request
        case Mode.FIRST_FRAME:
            return msgspec.structs.replace(request, first_frame=frame)
        case Mode.REFERENCES:
            return msgspec.structs.replace(request, references=(frame,))
