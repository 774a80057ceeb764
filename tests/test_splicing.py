"""What is made of clips, over real files: joined ones, last frames, thumbnails and sheets."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from PIL import Image, ImageStat

from gateway import splicing
from gateway.splicing import Unreadable
from tests.vendors import film


def clip(folder: Path, name: str, seconds: float, width: int = 320, height: int = 180, *, audio: bool = False) -> Path:
    path = folder / f"{name}.mp4"
    path.write_bytes(film.clip(seconds, width, height, audio=audio))
    return path


def times(path: Path) -> list[float]:
    with av.open(str(path)) as box:
        return [float(frame.time or 0.0) for frame in box.decode(video=0)]


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as box:
        return [bytes(packet) for packet in box.demux(video=0) if packet.size]


def sound_seconds(path: Path) -> float:
    with av.open(str(path)) as box:
        return sum(frame.samples / frame.sample_rate for frame in box.decode(audio=0))


@pytest.mark.parametrize("audio", [False, True])
def test_clips_coded_alike_are_joined_packet_by_packet(tmp_path: Path, audio: bool) -> None:
    one, other = clip(tmp_path, "one", 1, audio=audio), clip(tmp_path, "other", 2, audio=audio)

    splicing.join(one, other, tmp_path / "both.mp4")

    found = splicing.look(tmp_path / "both.mp4")
    assert (found.width, found.height, found.audio) == (320, 180, audio)
    assert found.seconds == pytest.approx(3, abs=0.03)
    assert packets(tmp_path / "both.mp4") == packets(one) + packets(other)
    shown = times(tmp_path / "both.mp4")
    assert (len(shown), shown) == (72, sorted(set(shown)))


@pytest.mark.parametrize(
    ("first", "second"), [((320, 180, True), (320, 240, False)), ((320, 240, False), (322, 180, True))]
)
def test_clips_of_two_kinds_are_coded_anew_in_the_firsts_size_and_both_are_heard(
    tmp_path: Path, first: tuple[int, int, bool], second: tuple[int, int, bool]
) -> None:
    one = clip(tmp_path, "one", 1, *first[:2], audio=first[2])
    other = clip(tmp_path, "other", 2, *second[:2], audio=second[2])

    splicing.join(one, other, tmp_path / "both.mp4")

    found = splicing.look(tmp_path / "both.mp4")
    assert (found.width, found.height, found.audio) == (*first[:2], True)
    assert found.seconds == pytest.approx(3, abs=0.05)
    assert sound_seconds(tmp_path / "both.mp4") == pytest.approx(3, abs=0.05)
    shown = times(tmp_path / "both.mp4")
    assert (len(shown), shown) == (72, sorted(set(shown)))


def test_a_silent_pair_stays_silent(tmp_path: Path) -> None:
    one, other = clip(tmp_path, "one", 1), clip(tmp_path, "other", 1, 240, 180)

    splicing.join(one, other, tmp_path / "both.mp4")

    assert splicing.look(tmp_path / "both.mp4").audio is False


def test_the_last_frame_is_the_last(tmp_path: Path) -> None:
    path = clip(tmp_path, "one", 4)
    with av.open(str(path)) as box:
        wanted = [frame.to_image() for frame in box.decode(video=0)][-1]  # type: ignore[no-untyped-call]

    found, data = splicing.last_frame(path)

    assert found.seconds == pytest.approx(4, abs=0.05)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("PNG", (320, 180))
        assert image.tobytes() == wanted.tobytes()


def test_a_thumbnail_is_small_and_of_the_clips_shape(tmp_path: Path) -> None:
    splicing.thumbnail(clip(tmp_path, "one", 1, 1280, 720), tmp_path / "t")

    with Image.open(tmp_path / "t") as image:
        assert (image.format, image.size) == ("WEBP", (640, 360))
        assert ImageStat.Stat(image.convert("L")).mean[0] > 40


@pytest.mark.parametrize(("seconds", "size"), [(2, (6 * 240, 4 * 136)), (0.25, (6 * 240, 136))])
def test_a_sheet_shows_frames_from_all_over_the_clip(tmp_path: Path, seconds: float, size: tuple[int, int]) -> None:
    splicing.spritesheet(clip(tmp_path, "one", seconds, 640, 362), tmp_path / "s")

    with Image.open(tmp_path / "s") as image:
        assert (image.format, image.size) == ("JPEG", size)
        corner = image.crop((size[0] - 240, size[1] - 136, *size)).convert("L")
        assert ImageStat.Stat(corner).mean[0] > 40


@pytest.mark.parametrize(
    "data", [b"", b"no video" * 100, film.clip(1, 320, 180, audio=False)[:900], b"#EXTM3U\n/etc/passwd\n"]
)
def test_what_is_no_clip_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(data)

    for make in (splicing.look, splicing.last_frame):
        with pytest.raises(Unreadable):
            make(path)
    with pytest.raises(Unreadable):
        splicing.join(path, path, tmp_path / "both.mp4")
