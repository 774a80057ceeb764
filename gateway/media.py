"""Pictures in: fetched through the guard, judged by their header, kept by hash, handed over as a vendor wants them.

Law: nothing of a picture is believed but its bytes: not its name, not its declared type. Only its header is read
(Pillow opens lazily; the pixels stay packed), and what is kept is exactly what came. The one exception is a WebP for a
backend that takes PNG: it is unpacked, under the same bound of pixels, and handed over as PNG. Each backend's own
limits are the catalogue's; the caps here are those of the room.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import io
import os
import re
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
from PIL import Image, UnidentifiedImageError

from providers.spec import Media, MediaForm, Provider, Uploads, VideoRequest, unsupported
from providers.transport import Fetched, FetchRefused

MAX_PICTURE_BYTES = 20 << 20  # as much as OpenAI's `image_url` may hold in characters
MAX_PIXELS = 89_478_485  # Pillow's own line between a picture and a bomb
FETCH_SECONDS = 30.0
UPLOAD_KEPT_SECONDS = 3600.0  # vendors keep what was uploaded to them for a day at least
UPLOADS_REMEMBERED = 1024
_SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations under which a viewer turns the picture by a quarter
_ORIENTATION = 0x0112

TAKEN = "JPEG, PNG or WebP"
PNG = "image/png"

_PILLOW = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
_DATA_URI_HEAD_CHARS = 200
_SHA256 = re.compile(r"[0-9a-f]{64}")
# what people send by mistake, named so that they need not guess (offset, magic, name)
_STRANGERS = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"II*\x00", "a TIFF"),
    (0, b"MM\x00*", "a TIFF"),
    (4, b"ftypavif", "an AVIF"),
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"<svg", "an SVG"),
    (0, b"<?xml", "an XML file"),
    (0, b"%PDF", "a PDF"),
    (0, b"<", "a web page"),
)


class PictureRefused(Exception):
    """This picture is not taken. `code` is public, `status` what an HTTP answer says, `message` is for people.

    Codes: invalid_image · unsupported_image_format · image_too_large (pixels) · input_too_large (bytes) ·
    url_not_allowed · input_fetch_failed · input_lost (a kept picture is gone).
    """

    def __init__(self, code: str, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Fetch(Protocol):
    """How a stranger's file is had: `Transport.fetch`."""

    async def __call__(self, url: str, *, max_bytes: int, total_seconds: float = ...) -> Fetched: ...


class Pictures:
    """The pictures of all jobs: `folder/<sha256>`, one file each however often it is sent."""

    def __init__(self, folder: Path, fetch: Fetch, *, link: Callable[[str], str] | None = None) -> None:
        """`link` makes the public address of a kept picture from its SHA-256, where vendors can reach us."""
        self._folder = folder
        self._fetch = fetch
        self._link = link
        self._uploads: OrderedDict[tuple[int, str], _Upload] = OrderedDict()
        self._holders: Counter[str] = Counter()

    # --- in -----------------------------------------------------------------------------------------------------------

    async def take_bytes(self, data: bytes) -> Media:
        """Judge and keep a picture. Raises PictureRefused. Durable on return, and held once: whoever took it lets go of
        it by `release`, or leaves that to the end of the job that it was taken for."""
        media = await asyncio.to_thread(_judged, data)
        self._holders[media.sha256] += 1
        with contextlib.ExitStack() as undo:
            undo.callback(self._let_go, media)
            await asyncio.to_thread(self._keep, media.sha256, data)
            undo.pop_all()
        return media

    async def take_data_uri(self, text: str) -> Media:
        """Likewise for `data:image/png;base64,…`."""
        return await self.take_bytes(await asyncio.to_thread(_from_data_uri, text))

    async def take_url(self, url: str) -> Media:
        """Likewise for a public address, which is remembered: a vendor that takes addresses is given this one."""
        try:
            fetched = await self._fetch(url, max_bytes=MAX_PICTURE_BYTES, total_seconds=FETCH_SECONDS)
        except FetchRefused as error:
            status = 413 if error.code == "input_too_large" else 422
            raise PictureRefused(error.code, f"The picture was not fetched: {error.message}.", status=status) from error
        media = await self.take_bytes(fetched.body)
        return msgspec.structs.replace(media, source_url=url)

    async def take_again(self, media: Media) -> Media:
        """Likewise for a picture that was taken before: the kept one, else the same one from its public address. Raises
        PictureRefused `input_lost` where neither is there."""
        self._holders[media.sha256] += 1
        if await asyncio.to_thread(self._path(media.sha256).is_file):
            return media
        self._let_go(media)
        if media.source_url is not None:
            with contextlib.suppress(PictureRefused):
                again = await self.take_url(media.source_url)
                if again.sha256 == media.sha256:
                    return again
                self._let_go(again)
        raise PictureRefused("input_lost", "The picture is no longer kept here; send it again.", status=409)

    def _keep(self, sha256: str, data: bytes) -> None:
        """Write whole or not at all, readable by us alone, and on disk on return."""
        path = self._path(sha256)
        if path.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        half = path.with_name(f".{sha256}.{secrets.token_hex(8)}")
        try:
            with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    # --- kept ---------------------------------------------------------------------------------------------------------

    async def load(self, media: Media) -> Media:
        """The same picture with its bytes in `data`. Raises PictureRefused when they are no longer kept."""
        if media.data is not None:
            return media
        return msgspec.structs.replace(media, data=await self.read(media.sha256))

    def hold(self, request: VideoRequest) -> None:
        """Keep the pictures of a job that was taken up from the store."""
        for media in _pictures_of(request):
            self._holders[media.sha256] += 1

    def release(self, request: VideoRequest) -> None:
        """Let go of a job's pictures: those that no other job holds are deleted."""
        for media in _pictures_of(request):
            self._let_go(media)

    def sweep(self) -> int:
        """Delete what nobody holds (a crash between a picture and its job leaves such files); how many. For a start,
        when every unfinished job of the store has been held."""
        kept = self._folder.glob("*") if self._folder.is_dir() else ()
        strays = [path for path in kept if self._holders[path.name] <= 0]
        for path in strays:
            path.unlink(missing_ok=True)
        return len(strays)

    def _let_go(self, media: Media) -> None:
        self._holders[media.sha256] -= 1
        if self._holders[media.sha256] <= 0:
            del self._holders[media.sha256]
            self.forget(media.sha256)

    def forget(self, sha256: str) -> None:
        """Delete a kept picture, and what was remembered of its uploads, whoever holds it."""
        self._path(sha256).unlink(missing_ok=True)
        for key in [key for key in self._uploads if key[1] == sha256]:
            del self._uploads[key]

    async def read(self, sha256: str) -> bytes:
        """A kept picture's bytes. Raises PictureRefused when it is not kept."""
        if not _SHA256.fullmatch(sha256):
            raise PictureRefused("input_lost", "There is no such picture.", status=404)
        try:
            return await asyncio.to_thread(self._path(sha256).read_bytes)
        except FileNotFoundError as error:
            raise PictureRefused("input_lost", "The picture of this job is no longer kept.", status=410) from error

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError("a kept picture is named by a SHA-256")
        return self._folder / sha256

    # --- out ----------------------------------------------------------------------------------------------------------

    async def hand_over(
        self,
        request: VideoRequest,
        provider: Provider,
        *,
        formats: Collection[str] = (),
        known: Mapping[str, str] | None = None,
    ) -> VideoRequest:
        """The request with every picture in the first of the provider's forms that is possible, and of one of `formats`
        (none given: as it is). A picture in `known` (SHA-256 → address) is handed over under that address again.

        Raises ProviderError when none is, or when the vendor's upload failed; PictureRefused when a picture is gone.
        """

        async def handed(media: Media) -> Media:
            if known and media.sha256 in known:
                return msgspec.structs.replace(media, handed=known[media.sha256])
            if formats and media.content_type not in formats and PNG in formats:
                media = await asyncio.to_thread(_as_png, await self.load(media))
            return await self._handed(media, provider)

        first, last = request.first_frame, request.last_frame
        return msgspec.structs.replace(
            request,
            first_frame=await handed(first) if first else None,
            last_frame=await handed(last) if last else None,
            references=tuple([await handed(media) for media in request.references]),
        )

    async def _handed(self, media: Media, provider: Provider) -> Media:
        for form in provider.takes:
            match form:
                case MediaForm.URL if media.source_url:
                    return msgspec.structs.replace(media, handed=media.source_url)
                case MediaForm.URL if self._link and media.data is None and provider.takes == (MediaForm.URL,):
                    return msgspec.structs.replace(media, handed=self._link(media.sha256))
                case MediaForm.UPLOAD if isinstance(provider, Uploads):
                    return msgspec.structs.replace(media, handed=await self._uploaded(media, provider))
                case MediaForm.DATA_URI:
                    text = base64.b64encode((await self.load(media)).data or b"").decode()
                    return msgspec.structs.replace(media, handed=f"data:{media.content_type};base64,{text}")
                case MediaForm.BYTES:
                    return await self.load(media)
                case _:
                    continue
        raise unsupported("input_reference", by=provider.name)

    async def _uploaded(self, media: Media, provider: Uploads) -> str:
        """The picture's address at the vendor's. Two jobs that need it at once share one upload."""
        key = (id(provider), media.sha256)
        upload = self._uploads.setdefault(key, _Upload(provider))
        self._uploads.move_to_end(key)
        if len(self._uploads) > UPLOADS_REMEMBERED:
            self._uploads.popitem(last=False)
        async with upload.turn:
            now = asyncio.get_running_loop().time()
            if upload.url is None or now - upload.since > UPLOAD_KEPT_SECONDS:
                upload.url = await provider.upload(await self.load(media))
                upload.since = now
            return upload.url


def addresses(asked: VideoRequest, handed: VideoRequest) -> dict[str, str]:
    """Each picture of `asked`, by SHA-256, and the address under which `handed` names it, where it is an address."""
    pairs = zip(_pictures_of(asked), _pictures_of(handed), strict=True)
    return {kept.sha256: given.handed for kept, given in pairs if given.handed and not given.handed.startswith("data:")}


def _pictures_of(request: VideoRequest) -> list[Media]:
    return [media for media in (request.first_frame, request.last_frame, *request.references) if media is not None]


class _Upload:
    """One picture at one adapter. Holding the adapter keeps its `id` from being given to another."""

    __slots__ = ("provider", "since", "turn", "url")

    def __init__(self, provider: Uploads) -> None:
        self.provider = provider
        self.turn = asyncio.Lock()
        self.url: str | None = None
        self.since = 0.0


# --- what the bytes say -----------------------------------------------------------------------------------------------


def _judged(data: bytes) -> Media:
    """What the header says. Raises PictureRefused."""
    if len(data) > MAX_PICTURE_BYTES:
        raise _too_large(len(data))
    kind = content_type(data)
    try:
        with Image.open(io.BytesIO(data), formats=(_PILLOW[kind],)) as image:
            width, height = image.size
            # a phone's picture is seen upright; of other kinds Pillow would unpack all to look for it
            if kind == "image/jpeg" and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
            frames = getattr(image, "n_frames", 1) if kind != "image/jpeg" else 1
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureRefused("image_too_large", f"The picture has more than {MAX_PIXELS:,} pixels.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise PictureRefused("invalid_image", f"The picture's header cannot be read as {kind}.") from error
    if width * height > MAX_PIXELS:
        raise PictureRefused("image_too_large", f"The picture has {width * height:,} pixels; {MAX_PIXELS:,} are taken.")
    if frames > 1:
        message = f"The picture is an animation of {frames} frames; send one still picture as {TAKEN}."
        raise PictureRefused("unsupported_image_format", message)
    return Media(
        sha256=hashlib.sha256(data).hexdigest(),
        content_type=kind,
        width=width,
        height=height,
        size_bytes=len(data),
    )


def _as_png(media: Media) -> Media:
    """The same picture as PNG, with its bytes; for a thread. Its header was judged when it came."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(media.data or b""), formats=(_PILLOW[media.content_type],)) as image:
        image.save(out, "PNG")
    data = out.getvalue()
    return Media(
        sha256=hashlib.sha256(data).hexdigest(),
        content_type=PNG,
        width=media.width,
        height=media.height,
        size_bytes=len(data),
        data=data,
    )


def content_type(data: bytes) -> str:
    """By magic bytes. Raises PictureRefused for everything that is not taken."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    start = data[:64].lstrip() if data[:64].lstrip().startswith(b"<") else data[:64]
    for offset, magic, name in _STRANGERS:
        if start[offset : offset + len(magic)].lower() == magic.lower():
            raise PictureRefused("unsupported_image_format", f"The picture is {name}; send {TAKEN}.")
    said = "is empty" if not data else "is no picture that we know"
    raise PictureRefused("invalid_image", f"The file {said}; send {TAKEN}.")


def _from_data_uri(text: str) -> bytes:
    """The bytes of a base64 data URI. Raises PictureRefused."""
    comma = text.find(",", 0, _DATA_URI_HEAD_CHARS)
    if comma < 0 or text[:5].lower() != "data:":
        raise PictureRefused("invalid_image", "The data URI must read data:image/png;base64,… (or jpeg, webp).")
    if text[5:comma].rpartition(";")[2].lower() != "base64":
        raise PictureRefused("invalid_image", "The data URI is not marked ;base64, which is the form that is taken.")
    length = (len(text) - comma - 1) * 3 // 4
    if length > MAX_PICTURE_BYTES + 2:
        raise _too_large(length)
    try:
        return base64.b64decode(text[comma + 1 :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureRefused("invalid_image", "The base64 of the data URI is broken.") from error


def _too_large(size: int) -> PictureRefused:
    message = f"The picture is {size / (1 << 20):.1f} MB; at most {MAX_PICTURE_BYTES >> 20} MB are taken."
    return PictureRefused("input_too_large", message, status=413)
