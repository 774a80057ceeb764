"""One request, filmed: shots under their moves, cut together, into an MP4 (H.264 at 24 fps, AAC when there is sound).

A draft is the same film at a tenth of the work: 4 frames a second, drawn small and enlarged. A sharp 4k clip would take
a machine a minute that a test does not have.

Law: runs in a thread of its own and never touches the event loop. The same request draws the same frames. `tick` is
called before every frame with the share done, and ends the work by raising; what was written until then is worth
nothing, and the caller's to remove.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame
from PIL import Image, ImageOps

from providers.sandbox import scenery, sound
from providers.sandbox.camera import Pose, between, named, path
from providers.sandbox.size import frame_size
from providers.sandbox.stage import Picture, Planes, Scene, enlarge, picture, shoot
from providers.spec import Camera, Frozen, Shot, VideoRequest

FPS, DRAFT_FPS = 24, 4
_DRAFT_SIDE = 180  # pixels on the short side that a draft is drawn with
_SETTLE = 1.04  # the last picture comes to rest from this much nearer
_BT709 = 1  # the number of BT.709 in H.264's tables of primaries, transfer and matrix; ITU-T H.264, table E-3 to E-5
_STUDIO = 1  # AVCOL_RANGE_MPEG: 16 to 235

# Where later shots look when they share one picture: left, top, width and height, in shares of it.
_DETAILS = ((0.0, 0.0, 1.0, 1.0), (0.28, 0.16, 0.62, 0.62), (0.06, 0.3, 0.6, 0.6), (0.2, 0.2, 0.45, 0.45))

_UNDECODABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow's decoders raise


class PictureUnreadable(Exception):
    """A picture's file cannot be decoded; the text says which."""


class Take(Frozen):
    """One shot: its words, its move, its length."""

    text: str
    camera: Camera
    seconds: int


def takes(request: VideoRequest) -> tuple[Take, ...]:
    """The shots of a request; `camera` wins over a shot's own words, and those over the prompt's."""
    shots = request.shots or (Shot(prompt="", seconds=request.seconds or 0),)
    return tuple(
        Take(
            text=f"{shot.prompt} {request.prompt}".strip(),
            camera=request.camera or named(shot.prompt) or named(request.prompt) or Camera.PUSH_IN,
            seconds=shot.seconds,
        )
        for shot in shots
    )


def clip_seconds(request: VideoRequest) -> int:
    """The length of the clip: its shots' together where there are any."""
    return sum(shot.seconds for shot in takes(request))


def film(
    request: VideoRequest,
    target: Path,
    *,
    first: Path | None,
    last: Path | None,
    tick: Callable[[float], None],
    draft: bool = False,
) -> None:
    """Render `request` into `target`. `first` and `last` are the pictures' files. Raises PictureUnreadable,
    SizeRefused, and whatever `tick` raises."""
    size, fps = frame_size(request), DRAFT_FPS if draft else FPS
    shots = takes(request)
    total = fps * clip_seconds(request)
    drawn = _small(size) if draft else size
    options = {"preset": "ultrafast", "crf": "30"} if draft else {"preset": "veryfast", "crf": "20"}
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as box:
        video = box.add_stream("libx264", rate=fps, options=options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.time_base = Fraction(1, fps)
        video.codec_context.thread_count = 2
        video.codec_context.color_primaries = video.codec_context.color_trc = _BT709
        video.codec_context.colorspace, video.codec_context.color_range = _BT709, _STUDIO
        audio = (
            box.add_stream("aac", rate=sound.RATE, layout="stereo", options={"b": "128k"}) if request.audio else None
        )
        bed = sound.ambience(shots[0].text, request.seed or 0, total // fps, samples=sound.RATE // fps)
        for count, planes in enumerate(_frames(request, shots, drawn, first, last, fps=fps)):
            tick(count / total)
            frame = _to_frame(planes if drawn == size else enlarge(planes, size))
            frame.pts, frame.time_base = count, Fraction(1, fps)
            box.mux(video.encode(frame))
            if audio is not None:
                box.mux(audio.encode(next(bed)))
        box.mux(video.encode())
        if audio is not None:
            box.mux(audio.encode())


def _small(size: tuple[int, int]) -> tuple[int, int]:
    """The size that a draft is drawn in: of the same shape, both sides even."""
    share = min(1.0, _DRAFT_SIDE / min(size))
    width, height = (max(2, 2 * round(side * share / 2)) for side in size)
    return width, height


def _frames(
    request: VideoRequest,
    shots: tuple[Take, ...],
    size: tuple[int, int],
    first: Path | None,
    last: Path | None,
    *,
    fps: int,
) -> Iterator[Planes]:
    """Every frame of the clip in turn; over its end, the last picture fades in and stands alone in the last frame."""
    total, count = fps * clip_seconds(request), 0
    ending = picture(_read(last), size) if last else None
    fade = min(total // 2, round(1.25 * fps))
    for place, shot in enumerate(shots):
        scene, frames = _scene(request, shot, place, size, first), fps * shot.seconds
        start, end = path(shot.camera, shot.seconds)
        for k in range(frames):
            planes = shoot(scene, between(start, end, k / (frames - 1)), k / fps, size)
            count += 1
            if ending and count > total - fade:
                planes = _blend(planes, ending, 1 - (total - count) / fade, size)
            yield planes


def _scene(request: VideoRequest, shot: Take, place: int, size: tuple[int, int], first: Path | None) -> Scene:
    if first is None:
        return scenery.scene(shot.text, (request.seed or 0) + place, size)
    image = _read(first)
    left, top, wide, high = _DETAILS[place % len(_DETAILS)]
    part = (left * image.width, top * image.height, (left + wide) * image.width, (top + high) * image.height)
    return picture(image.crop(tuple(round(edge) for edge in part)) if place else image, size)  # type: ignore[arg-type]


def _read(file: Path) -> Image.Image:
    """A picture upright and opaque, on black where it lets through. Raises PictureUnreadable."""
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            ground = Image.new("RGBA", upright.size, (0, 0, 0, 255))
            return Image.alpha_composite(ground, upright.convert("RGBA")).convert("RGB")
    except _UNDECODABLE as error:  # Pillow's own text may name the file, which is nobody's business
        raise PictureUnreadable(f"the {file.stem} frame cannot be decoded as a picture") from error


def _blend(planes: Planes, ending: Picture, share: float, size: tuple[int, int]) -> Planes:
    """The fade to the last picture; at a share of 1 it stands alone and at rest."""
    soft = share * share * (3 - 2 * share)
    rest = shoot(ending, Pose(zoom=_SETTLE ** (1 - soft)), 0, size)
    y, cb, cr = (Image.blend(old, new, soft) for old, new in zip(planes, rest, strict=True))
    return y, cb, cr


def _to_frame(planes: Planes) -> VideoFrame:
    """The planes as FFmpeg wants them: each row padded to the frame's own line length."""
    frame = VideoFrame(*planes[0].size, "yuv420p")
    for plane, image in zip(frame.planes, planes, strict=True):
        plane.update(image.crop((0, 0, plane.line_size, plane.height)).tobytes())
    frame.colorspace, frame.color_range = _BT709, _STUDIO
    return frame
