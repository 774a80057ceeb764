"""Pictures: judged by their own bytes, kept by their hash, held while a job needs them, handed over once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway import media
from gateway.media import PictureRefused, Pictures
from providers.spec import Media, MediaForm, Operation, ProviderError, Status, VideoRequest
from providers.transport import Fetched, FetchRefused
from tests.api_house import picture

pytestmark = pytest.mark.anyio
URL = "https://pictures.example/kite.png"


async def fetch(url: str, *, max_bytes: int, total_seconds: float = 60.0) -> Fetched:
    if url == URL:
        return Fetched(content_type="text/html", body=picture())
    raise FetchRefused(url.partition("://")[2], "no")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path / "pictures", fetch)


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is of this size, with nothing behind the header."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in (0, 120, 240)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


# --- in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
async def test_a_picture_is_what_its_header_says(pictures: Pictures, kind: str, content_type: str) -> None:
    data = picture(kind, width=320, height=180)

    taken = await pictures.take_bytes(data)

    assert (taken.content_type, taken.width, taken.height, taken.size_bytes) == (content_type, 320, 180, len(data))
    assert (await pictures.load(taken)).data == data


async def test_the_declared_type_of_a_data_uri_is_not_believed(pictures: Pictures) -> None:
    taken = await pictures.take_data_uri(uri(picture("JPEG"), kind="image/png"))

    assert taken.content_type == "image/jpeg"


async def test_a_fetched_picture_remembers_its_address(pictures: Pictures) -> None:
    taken = await pictures.take_url(URL)

    assert (taken.source_url, taken.content_type) == (URL, "image/png")


async def test_a_kept_picture_is_whole_and_ours_alone(pictures: Pictures, tmp_path: Path) -> None:
    taken = await pictures.take_bytes(picture())

    (file,) = (tmp_path / "pictures").iterdir()
    assert file.name == taken.sha256
    assert file.stat().st_mode & 0o777 == 0o600


BAD: list[tuple[str, Callable[[], bytes], int, str, str]] = [
    ("nothing", lambda: b"", 422, "invalid_image", "empty"),
    ("noise", lambda: b"\x00\x01\x02" * 50, 422, "invalid_image", "JPEG, PNG or WebP"),
    ("a GIF", lambda: picture("GIF"), 422, "unsupported_image_format", "a GIF; send JPEG, PNG or WebP"),
    ("a BMP", lambda: picture("BMP"), 422, "unsupported_image_format", "a BMP"),
    ("a TIFF", lambda: picture("TIFF"), 422, "unsupported_image_format", "a TIFF"),
    ("a HEIC", lambda: b"\x00\x00\x00\x18ftypheic" + b"\x00" * 60, 422, "unsupported_image_format", "a HEIC"),
    ("an MP4", lambda: b"\x00\x00\x00\x18ftypisom" + b"\x00" * 60, 422, "unsupported_image_format", "a video"),
    ("an SVG", lambda: b"\n <svg xmlns=''/>", 422, "unsupported_image_format", "an SVG"),
    ("a web page", lambda: b"<!doctype html><p>404", 422, "unsupported_image_format", "a web page"),
    ("a PNG that stops", lambda: picture()[:20], 422, "invalid_image", "header"),
    ("a JPEG that stops", lambda: picture("JPEG")[:12], 422, "invalid_image", "header"),
    ("a WebP that stops", lambda: picture("WEBP")[:14], 422, "invalid_image", "header"),
    ("a bomb", lambda: png_header(60_000, 60_000), 422, "image_too_large", "pixels"),
    ("a large one", lambda: png_header(10_000, 9_000), 422, "image_too_large", "pixels"),
    ("an animated PNG", lambda: animation("PNG"), 422, "unsupported_image_format", "animation of 3"),
    ("an animated WebP", lambda: animation("WEBP"), 422, "unsupported_image_format", "animation of 3"),
    ("21 MB", lambda: b"\x89PNG\r\n\x1a\n" + bytes(21 << 20), 413, "input_too_large", "21.0 MB"),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("name", "data", "status", "code", "said"), BAD, ids=[row[0] for row in BAD])
async def test_what_is_no_picture_is_refused_and_not_kept(
    pictures: Pictures, tmp_path: Path, name: str, data: Callable[[], bytes], status: int, code: str, said: str
) -> None:
    with pytest.raises(PictureRefused) as caught:
        await pictures.take_bytes(data())

    assert (caught.value.status, caught.value.code) == (status, code)
    assert said in caught.value.message
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("data:image/png;base64,@@@", 422, "invalid_image"),
        ("data:image/png;base64,iVBORw0KGgo", 422, "invalid_image"),  # its padding is cut off
        ("data:image/png;base64,aGVsbG8é", 422, "invalid_image"),
        ("data:image/png,%89PNG", 422, "invalid_image"),
        ("data:", 422, "invalid_image"),
        ("data:" + "x" * 1_000_000, 422, "invalid_image"),
        ("data:image/png;base64," + "A" * (30 << 20), 413, "input_too_large"),
    ],
    ids=["alphabet", "padding", "other script", "no base64", "bare", "no comma", "30 MB"],
)
async def test_a_broken_data_uri_is_refused(pictures: Pictures, text: str, status: int, code: str) -> None:
    with pytest.raises(PictureRefused) as caught:
        await pictures.take_data_uri(text)

    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    ("code", "status"), [("url_not_allowed", 422), ("input_fetch_failed", 422), ("input_too_large", 413)]
)
async def test_an_address_that_is_not_fetched_keeps_its_code(pictures: Pictures, code: str, status: int) -> None:
    with pytest.raises(PictureRefused) as caught:
        await pictures.take_url(f"https://{code}")

    assert (caught.value.status, caught.value.code) == (status, code)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    magic=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x24\x00\x00\x00WEBPVP8 ", picture()[:40]]),
    rest=st.binary(max_size=200),
)
def test_no_bytes_behind_a_good_magic_break_the_judge(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(PictureRefused):
        media._judged(magic + rest)


# --- kept -------------------------------------------------------------------------------------------------------------


async def test_a_picture_of_two_jobs_is_deleted_when_the_second_lets_go(pictures: Pictures, tmp_path: Path) -> None:
    first = VideoRequest(first_frame=await pictures.take_bytes(picture()))
    second = VideoRequest(references=(await pictures.take_bytes(picture()),))

    pictures.release(first)
    kept = list((tmp_path / "pictures").iterdir())
    pictures.release(second)

    assert len(kept) == 1
    assert list((tmp_path / "pictures").iterdir()) == []
    with pytest.raises(PictureRefused, match="no longer kept"):
        await pictures.load(second.references[0])


async def test_a_sweep_deletes_what_no_job_holds(pictures: Pictures, tmp_path: Path) -> None:
    needed = await pictures.take_bytes(picture(width=400))
    await pictures.take_bytes(picture(width=500))
    (tmp_path / "pictures" / f".{'0' * 64}.half").write_bytes(b"cut off by a crash")
    restarted = Pictures(tmp_path / "pictures", fetch)
    restarted.hold(VideoRequest(last_frame=needed))

    swept = restarted.sweep()

    assert swept == 2
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == [needed.sha256]


async def test_a_hash_that_is_no_hash_names_no_file(pictures: Pictures) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        pictures.forget("../../etc/passwd")


# --- out --------------------------------------------------------------------------------------------------------------


class Vendor:
    """A provider that takes pictures, and nothing else of interest."""

    name = "acme"

    def __init__(self, *takes: MediaForm) -> None:
        self.takes = takes

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        raise NotImplementedError

    async def poll(self, operation: Operation) -> Status:
        raise NotImplementedError


class UploadingVendor(Vendor):
    """Counts its uploads; each takes until the loop comes round."""

    def __init__(self, *takes: MediaForm) -> None:
        super().__init__(*takes)
        self.uploaded: list[bytes | None] = []
        self.failing = False

    async def upload(self, picture: Media) -> str:
        self.uploaded.append(picture.data)
        await asyncio.sleep(0)
        if self.failing:
            raise RuntimeError("the vendor's storage is away")
        return f"https://files.acme.example/{len(self.uploaded)}"


@pytest.mark.parametrize(
    ("takes", "from_url", "handed"),
    [
        ((MediaForm.URL, MediaForm.DATA_URI), True, URL),
        ((MediaForm.URL, MediaForm.DATA_URI), False, uri(picture())),
        ((MediaForm.UPLOAD, MediaForm.DATA_URI), True, uri(picture())),  # no upload without the face
        ((MediaForm.DATA_URI, MediaForm.URL), True, uri(picture())),
        ((MediaForm.BYTES,), True, None),
    ],
)
async def test_a_picture_is_handed_over_in_the_first_form_that_is_possible(
    pictures: Pictures, takes: tuple[MediaForm, ...], from_url: bool, handed: str | None
) -> None:
    taken = await (pictures.take_url(URL) if from_url else pictures.take_bytes(picture()))

    request = await pictures.hand_over(VideoRequest(first_frame=taken, references=(taken,)), Vendor(*takes))

    assert request.first_frame is not None
    assert request.first_frame.handed == handed
    assert request.references == (request.first_frame,)
    assert (request.first_frame.data is not None) is (handed is None)


async def test_a_form_that_nobody_can_make_is_unsupported(pictures: Pictures) -> None:
    taken = await pictures.take_bytes(picture())

    with pytest.raises(ProviderError, match="input_reference"):
        await pictures.hand_over(VideoRequest(last_frame=taken), Vendor(MediaForm.URL))


async def test_a_picture_is_uploaded_once_for_each_adapter_however_many_jobs_use_it(pictures: Pictures) -> None:
    taken = await pictures.take_bytes(picture())
    request = VideoRequest(first_frame=taken)
    one, other = UploadingVendor(MediaForm.UPLOAD), UploadingVendor(MediaForm.UPLOAD)

    at_once = await asyncio.gather(*(pictures.hand_over(request, one) for _ in range(5)))
    await pictures.hand_over(request, other)

    assert one.uploaded == other.uploaded == [picture()]
    assert {done.first_frame.handed for done in at_once if done.first_frame} == {"https://files.acme.example/1"}


async def test_a_failed_upload_is_tried_anew_by_the_next_job(pictures: Pictures) -> None:
    request = VideoRequest(first_frame=await pictures.take_bytes(picture()))
    vendor = UploadingVendor(MediaForm.UPLOAD)
    vendor.failing = True
    with pytest.raises(RuntimeError):
        await pictures.hand_over(request, vendor)

    vendor.failing = False
    done = await pictures.hand_over(request, vendor)

    assert done.first_frame is not None
    assert done.first_frame.handed == "https://files.acme.example/2"


async def test_a_request_without_pictures_is_handed_over_as_it_is(pictures: Pictures) -> None:
    request = VideoRequest(prompt="a kite")

    assert await pictures.hand_over(request, Vendor()) == request


async def test_a_webp_is_handed_over_as_png_where_only_png_is_taken(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, fetch)
    webp = io.BytesIO()
    Image.new("RGB", (640, 360), (200, 40, 40)).save(webp, "WEBP")
    media = await pictures.take_bytes(webp.getvalue())

    handed = await pictures.hand_over(
        VideoRequest(first_frame=media), Vendor(MediaForm.BYTES), formats=("image/jpeg", "image/png")
    )
    as_it_is = await pictures.hand_over(
        VideoRequest(first_frame=media), Vendor(MediaForm.BYTES), formats=("image/webp",)
    )

    assert handed.first_frame is not None
    assert handed.first_frame.content_type == "image/png"
    assert (handed.first_frame.data or b"").startswith(b"\x89PNG")
    assert as_it_is.first_frame is not None
    assert as_it_is.first_frame.content_type == "image/webp"


async def test_a_vendor_that_takes_addresses_only_is_given_a_link_to_the_kept_picture(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, fetch, link=lambda sha256: f"https://gate.test/media/{sha256}")
    png = io.BytesIO()
    Image.new("RGB", (640, 360)).save(png, "PNG")
    media = await pictures.take_bytes(png.getvalue())

    handed = await pictures.hand_over(VideoRequest(first_frame=media), Vendor(MediaForm.URL))

    assert handed.first_frame is not None
    assert handed.first_frame.handed == f"https://gate.test/media/{media.sha256}"


async def test_a_phones_picture_is_measured_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = io.BytesIO()
    Image.new("RGB", (1600, 900)).save(jpeg, "JPEG", exif=exif)

    media = await Pictures(tmp_path, fetch).take_bytes(jpeg.getvalue())

    assert (media.width, media.height) == (900, 1600)
