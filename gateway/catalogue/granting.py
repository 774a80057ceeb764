"""Holds one request against one row: the shape, length and sound it would be made with, or every reason why not.

Law: pure, and hard: what the row does not grant is a flaw. Only seed, negative prompt, cfg_scale and camera may be
dropped, and only when the caller said `require_parameters: false`; each drop is a warning.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from gateway.catalogue.naming import Tables
from gateway.catalogue.refusing import Code, Flaw
from gateway.catalogue.rows import AudioGrant, Backend, listed
from gateway.catalogue.shapes import Shape, agrees, crop, pixels, shape_name, unlike
from gateway.catalogue.wishing import Picture, Wish
from providers.spec import Media, Mode

DEFAULT_SECONDS = 5

_FROM = {Mode.TEXT: "text", Mode.FIRST_FRAME: "a first frame", Mode.REFERENCES: "reference pictures"}
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WebP", "image/gif": "GIF"}


class Granted(msgspec.Struct, frozen=True, gc=False):
    """What the row would make of the wish; worth reading only when no flaw was found."""

    seconds: int
    audio: bool
    shape: Shape | None
    dropped: tuple[str, ...]
    converted: bool = False  # a WebP is handed over as PNG


def grant(row: Backend, tables: Tables, wish: Wish, *, lenient: bool, flaws: list[Flaw]) -> Granted:
    """What `row` would make of `wish`. Every reason against it is appended to `flaws`."""
    video = wish.video
    seconds = wish.seconds
    if seconds is None:
        seconds = row.seconds.nearest(DEFAULT_SECONDS)
    elif not row.seconds.grants(seconds):
        flaws.append(_seconds(row, seconds, by_shots=bool(video.shots)))
    audio = row.audio == AudioGrant.ALWAYS if wish.audio is None else wish.audio
    if audio and row.audio == AudioGrant.NEVER:
        flaws.append(Flaw(Code.AUDIO, "generate_audio", "makes", "silent clips only", "sound", "generate_audio=false"))
    elif not audio and row.audio == AudioGrant.ALWAYS:
        grants, wished = "clips with sound only", "a silent clip"
        flaws.append(Flaw(Code.SILENCE, "generate_audio", "makes", grants, wished, "generate_audio=true"))
    shape, converted = None, False
    if wish.mode in row.model_id:
        shape = _shape(row, tables, wish, flaws)
        if wish.pictures:
            _judge_pictures(row, wish, flaws)
            converted = any(picture.media.content_type not in row.picture.formats for picture in wish.pictures)
    else:
        flaws.append(_mode(row, wish.mode))
    if video.shots:
        _judge_shots(row, wish, flaws)
    if wish.longest_prompt > row.prompt_max:
        grants, wished = f"prompts of at most {row.prompt_max} characters", f"one of {wish.longest_prompt}"
        nearest = f"a prompt of at most {row.prompt_max} characters"
        flaws.append(Flaw(Code.PROMPT, "prompt", "takes", grants, wished, nearest))
    dropped = _soft(row, wish, lenient=lenient, flaws=flaws) if wish.has_soft else ()
    return Granted(seconds, audio, shape, dropped, converted)


# --- shape ------------------------------------------------------------------------------------------------------------


def _shape(row: Backend, tables: Tables, wish: Wish, flaws: list[Flaw]) -> Shape | None:
    picture = wish.video.first_frame if wish.mode is Mode.FIRST_FRAME else None
    follows = picture is not None and row.follows_picture
    if wish.size is not None and not follows:
        named = tables.sizes.get(wish.size)
        if named is None:
            flaws.append(_size_flaw(row, tables, wish.size))
        return named
    resolution = row.resolutions[0]
    if wish.resolution is not None:
        granted = tables.resolutions.get(wish.short) if wish.short is not None else None
        if granted is None:
            flaws.append(_resolution(row, tables, wish))
        resolution = granted or resolution
    if picture is not None and follows:
        return _followed(row, tables, resolution, picture=picture, wish=wish, flaws=flaws)
    if wish.aspect is None:
        if picture is not None:
            return _nearest_shape(tables, resolution, picture)
        if not row.aspect_ratios:
            return Shape(resolution, None, _size(tables, resolution, 16 / 9))
        return tables.named[resolution, row.aspect_ratios[0]]
    found = tables.ratios.get(wish.ratio) if wish.ratio is not None else None
    if found is None:
        flaws.append(_aspect(row, tables, wish))
        return None
    return tables.named[resolution, found]


def _followed(row: Backend, tables: Tables, resolution: str, *, picture: Media, wish: Wish, flaws: list[Flaw]) -> Shape:
    own = picture.width / picture.height
    if wish.aspect is not None:
        asked = wish.ratio[0] / wish.ratio[1] if wish.ratio else None
        if asked is None or not agrees(own, asked):
            param, word = ("size", _text(wish.size)) if wish.size else ("aspect_ratio", wish.aspect)
            nearest = f"{param} left out"
            if asked is not None:
                box = crop(picture.width, picture.height, asked)
                if min(box.width, box.height) >= row.picture.min_side and agrees(box.width / box.height, asked):
                    nearest = f"the picture cropped to {box}"
            name = shape_name(picture.width, picture.height)
            grants = f"clips in the picture's own shape, {name} ({picture.width}x{picture.height})"
            flaws.append(Flaw(Code.FOLLOWS_PICTURE, param, "makes", grants, f"{word} from this picture", nearest))
    if wish.size is not None:
        return Shape(resolution, None, _text(wish.size))
    return Shape(resolution, None, _size(tables, resolution, own))


def _nearest_shape(tables: Tables, resolution: str, picture: Media) -> Shape:
    own = picture.width / picture.height
    if not tables.shapes:
        return Shape(resolution, None, _size(tables, resolution, own))
    for ratio, aspect in tables.shapes:
        if agrees(ratio, own):
            return tables.named[resolution, aspect]
    aspect = min(tables.shapes, key=lambda shape: unlike(shape[0], own))[1]
    warning = f"the picture is {shape_name(picture.width, picture.height)}; the clip is made {aspect}, the nearest"
    return msgspec.structs.replace(tables.named[resolution, aspect], warning=warning)


def _size(tables: Tables, resolution: str, ratio: float) -> str:
    return _size_text(tables.shorts[resolution], ratio)


@lru_cache(maxsize=1024)
def _size_text(short: int, ratio: float) -> str:
    return _text(pixels(short, ratio))


def _resolution(row: Backend, tables: Tables, wish: Wish) -> Flaw:
    grants = listed(row.resolutions, "and") + (" only" if len(row.resolutions) == 1 else "")
    short = min(tables.resolutions, key=lambda known: (abs(known - (wish.short or 0)), known))
    if wish.size is None:
        nearest = f"resolution={tables.resolutions[short]}"
        return Flaw(Code.RESOLUTION, "resolution", "makes", grants, str(wish.resolution), nearest)
    width, height = pixels(short, wish.size[0] / wish.size[1])
    return Flaw(Code.RESOLUTION, "size", "makes", grants, _text(wish.size), f"size={width}x{height}")


def _aspect(row: Backend, tables: Tables, wish: Wish) -> Flaw:
    param, asked = "aspect_ratio", str(wish.aspect)
    if not tables.shapes:
        return Flaw(Code.ASPECT_RATIO, param, "makes", "one shape only", asked, f"{param} left out")
    nearest = row.aspect_ratios[0]
    if wish.ratio is not None:
        own = wish.ratio[0] / wish.ratio[1]
        nearest = min(tables.shapes, key=lambda shape: unlike(shape[0], own))[1]
    grants = f"{listed(row.aspect_ratios, 'and')} clips"
    return Flaw(Code.ASPECT_RATIO, param, "makes", grants, asked, f"{param}={nearest}")


def _size_flaw(row: Backend, tables: Tables, size: tuple[int, int]) -> Flaw:
    """No such size: the nearest is the most alike in shape, then in pixels."""
    code = Code.ASPECT_RATIO if min(size) in tables.resolutions else Code.RESOLUTION
    if not tables.sizes:
        return Flaw(code, "size", "makes", "one shape only", _text(size), "size left out")
    own = size[0] / size[1]
    nearest = min(tables.sizes, key=lambda known: (unlike(known[0] / known[1], own), abs(min(known) - min(size))))
    grants = f"{listed(row.resolutions, 'and')} in {listed(row.aspect_ratios, 'and')}"
    return Flaw(code, "size", "makes", grants, _text(size), f"size={_text(nearest)}")


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


# --- length, start, shots ---------------------------------------------------------------------------------------------


def _seconds(row: Backend, seconds: int, *, by_shots: bool) -> Flaw:
    nearest = row.seconds.nearest(seconds)
    if by_shots:
        change = f"shots of {nearest} s in all"
        return Flaw(Code.SECONDS, "shots", "makes", f"{row.seconds} s", f"shots of {seconds} s in all", change)
    return Flaw(Code.SECONDS, "seconds", "makes", f"{row.seconds} s", f"{seconds} s", f"seconds={nearest}")


def _mode(row: Backend, mode: Mode) -> Flaw:
    grants = f"clips from {listed(tuple(_FROM[granted] for granted in row.model_id))}"
    wish = f"a clip from {_FROM[mode]}"
    match mode:
        case Mode.TEXT:
            return Flaw(Code.MODE, "input_reference", "makes", grants, wish, "a picture as input_reference")
        case Mode.FIRST_FRAME:
            return Flaw(Code.MODE, "input_reference", "makes", grants, wish, "input_reference left out")
        case Mode.REFERENCES:
            return Flaw(Code.MODE, "input_references", "makes", grants, wish, "input_references left out")


def _judge_shots(row: Backend, wish: Wish, flaws: list[Flaw]) -> None:
    count = len(wish.video.shots)
    asked = f"{count} shot{'' if count == 1 else 's'}"
    if row.shots == 0:
        flaws.append(Flaw(Code.SHOTS, "shots", "takes", "one prompt only", asked, "shots left out"))
        return
    if count > row.shots:
        flaws.append(Flaw(Code.SHOTS, "shots", "takes", f"{row.shots} shots at most", asked, f"{row.shots} shots"))
    if wish.video.prompt and not row.prompt_with_shots:
        grants, nearest = "a prompt or shots, not both", "prompt left out, since each shot has its own"
        flaws.append(Flaw(Code.PROMPT_WITH_SHOTS, "prompt", "takes", grants, "a prompt beside shots", nearest))


# --- what may be dropped ----------------------------------------------------------------------------------------------


def _soft(row: Backend, wish: Wish, *, lenient: bool, flaws: list[Flaw]) -> tuple[str, ...]:
    video = wish.video
    found: list[Flaw] = []
    if video.seed is not None and not row.seed:
        found.append(Flaw(Code.SEED, "seed", "takes", "no seed", f"seed={video.seed}", "seed left out"))
    if video.negative_prompt and not row.negative_prompt:
        grants, asked = "no negative prompt", "a negative prompt"
        found.append(Flaw(Code.NEGATIVE_PROMPT, "negative_prompt", "takes", grants, asked, "negative_prompt left out"))
    if video.cfg_scale is not None and not row.cfg_scale:
        asked = f"cfg_scale={video.cfg_scale:g}"
        found.append(Flaw(Code.CFG_SCALE, "cfg_scale", "takes", "no cfg_scale", asked, "cfg_scale left out"))
    if video.camera is not None and video.camera not in row.camera:
        grants = f"the camera moves {listed(row.camera, 'and')}" if row.camera else "no camera move by name"
        found.append(Flaw(Code.CAMERA, "camera", "takes", grants, f"camera={video.camera}", "camera left out"))
    if not found:
        return ()
    if not lenient:
        flaws.extend(found)
        return ()
    return tuple(flaw.param for flaw in found if flaw.param)


# --- pictures ---------------------------------------------------------------------------------------------------------


def _judge_pictures(row: Backend, wish: Wish, flaws: list[Flaw]) -> None:
    limits = row.picture
    video = wish.video
    if video.references and len(video.references) > row.references:
        grants, wished = f"{row.references} reference pictures at most", f"{len(video.references)}"
        nearest = f"{row.references} input_references"
        flaws.append(Flaw(Code.REFERENCES, "input_references", "takes", grants, wished, nearest))
    if video.last_frame and video.first_frame and not row.last_frame:
        grants, nearest = "a first frame only", "the last frame left out"
        flaws.append(Flaw(Code.LAST_FRAME, "frame_images", "takes", grants, "a last frame as well", nearest))
    if row.last_frame_required and not video.last_frame:
        grants, nearest = "a first and a last frame", "a last frame in frame_images"
        flaws.append(Flaw(Code.LAST_FRAME, "frame_images", "takes", grants, "no last frame", nearest))
    for picture in wish.pictures:
        media = picture.media
        ratio = media.width / media.height
        if not (
            _is_taken(media.content_type, limits.formats)
            and media.size_bytes <= limits.max_bytes
            and media.width >= limits.min_side <= media.height
            and limits.min_ratio <= ratio <= limits.max_ratio
        ):
            _judge_picture(row, picture, flaws)


def _is_taken(content_type: str, formats: tuple[str, ...]) -> bool:
    """As it is, or as the PNG that a WebP can be made into without loss."""
    return content_type in formats or (content_type == "image/webp" and "image/png" in formats)


def _judge_picture(row: Backend, picture: Picture, flaws: list[Flaw]) -> None:
    limits, media = row.picture, picture.media
    if not _is_taken(media.content_type, limits.formats):
        formats = listed(tuple(_FORMATS.get(known, known) for known in limits.formats))
        wish = f"a {_FORMATS.get(media.content_type, media.content_type)} {picture.role}"
        nearest = f"the {picture.role} as {formats}"
        flaws.append(Flaw(Code.PICTURE_FORMAT, picture.param, "takes", f"{formats} pictures", wish, nearest))
    if media.size_bytes > limits.max_bytes:
        most = f"at most {_megabytes(limits.max_bytes)}"
        wish, nearest = f"a {picture.role} of {_megabytes(media.size_bytes)}", f"a {picture.role} of {most}"
        flaws.append(Flaw(Code.PICTURE_BYTES, picture.param, "takes", f"pictures of {most}", wish, nearest))
    size = f"a {picture.role} of {media.width}x{media.height}"
    if min(media.width, media.height) < limits.min_side:
        grants = f"pictures of at least {limits.min_side} pixels a side"
        nearest = f"a {picture.role} of at least {limits.min_side}x{limits.min_side}"
        flaws.append(Flaw(Code.PICTURE_SIDE, picture.param, "takes", grants, size, nearest))
    ratio = media.width / media.height
    if not limits.min_ratio <= ratio <= limits.max_ratio:
        grants = f"pictures from 1:{1 / limits.min_ratio:.3g} to {limits.max_ratio:.3g}:1"
        box = crop(media.width, media.height, min(max(ratio, limits.min_ratio), limits.max_ratio))
        nearest = f"the {picture.role} cropped to {box}"
        flaws.append(Flaw(Code.PICTURE_RATIO, picture.param, "takes", grants, size, nearest))


def _megabytes(count: int) -> str:
    """ "10 MB", "12.3 MB", never rounded down to the limit that it breaks."""
    tenths = -(-count // 100_000)
    return f"{tenths // 10}.{tenths % 10} MB" if tenths % 10 else f"{tenths // 10} MB"
