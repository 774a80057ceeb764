"""What is asked of each row: closed requests, as the catalogue hands them over, one for every thing that a row grants.

Law: a request here goes through `catalogue.match`, so what reaches an adapter in the suite is what reaches it in life.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from PIL import Image

from gateway import catalogue
from gateway.catalogue import AudioGrant, Backend, Candidate, Catalogue, Match
from gateway.jobs import Preferences
from providers.spec import Camera, Media, MediaForm, Mode, Shot, VideoRequest
from tests.conformance.player import Player

PROMPT = "A paper boat crosses a puddle in the rain"
NEGATIVE = "blurred edges"
SEED = 20261123
CFG_SCALE = 0.75


def picture(name: str) -> Media:
    """A real PNG of 640 × 360, of its own colour, that the caller keeps at an address of its own."""
    shade = sum(name.encode()) % 200
    target = io.BytesIO()
    Image.new("RGB", (640, 360), (shade, 255 - shade, 120)).save(target, "PNG")
    data = target.getvalue()
    return Media(
        sha256=hashlib.sha256(data).hexdigest(),
        content_type="image/png",
        width=640,
        height=360,
        size_bytes=len(data),
        source_url=f"https://pictures.example/{name}.png",
        data=data,
    )


FIRST, LAST = picture("first"), picture("last")


class Ask(NamedTuple):
    """One closed request of one row. `name` begins with its mode and says what it is about."""

    player: Player
    row: Backend
    name: str
    request: VideoRequest

    @property
    def model_id(self) -> str:
        return self.row.model_id[self.request.mode]

    @property
    def is_smallest(self) -> bool:
        return self.name.endswith("-smallest")

    def __str__(self) -> str:
        return f"{self.row.id}-{self.name}".replace("/", ".")


def asks(player: Player) -> Iterator[Ask]:
    """Every ask of every row of a player."""
    for row in player.rows:
        last = {"last_frame": LAST} if row.last_frame_required else {}
        for mode, name, wanted in _wanted(row):
            fields = wanted | last
            found = offered(row, VideoRequest(**fields))
            assert found.refusals == (), f"{row.id} refuses {mode}-{name}: {found.refusals[0].message}"
            yield Ask(player, row, f"{mode}-{name}", found.candidates[0].request)


def _wanted(row: Backend) -> Iterator[tuple[Mode, str, dict[str, Any]]]:
    """The smallest and the longest request of each mode, and one for each thing that the row grants beyond them."""
    shortest, longest = row.seconds.all()[0], row.seconds.all()[-1]
    sounds = {AudioGrant.NEVER: [False], AudioGrant.ALWAYS: [True], AudioGrant.OPTIONAL: [False, True]}[row.audio]
    for mode in row.model_id:
        small: dict[str, Any] = {"prompt": PROMPT, "seconds": shortest, "audio": sounds[0], **_start(mode, 1)}
        yield (mode, "smallest", small)
        prompt = (PROMPT + ". ").ljust(row.prompt_max, ".")
        yield (mode, "longest", small | {"prompt": prompt, "seconds": longest} | _start(mode, row.references))
        if len(sounds) > 1:
            yield (mode, "sound", small | {"audio": True})
        for resolution in row.resolutions[1:]:
            yield (mode, resolution, small | {"resolution": resolution})
        for ratio in row.aspect_ratios[1:] if mode is not Mode.FIRST_FRAME or not row.follows_picture else ():
            yield (mode, ratio, small | {"aspect_ratio": ratio})
        if row.shots:
            yield (mode, "shots", small | _cuts(row, shortest))
        if row.last_frame and mode is Mode.FIRST_FRAME:
            yield (mode, "last frame", small | {"last_frame": LAST})
        tuned: dict[str, Any] = {"negative_prompt": NEGATIVE} if row.negative_prompt else {}
        tuned |= ({"seed": SEED} if row.seed else {}) | ({"cfg_scale": CFG_SCALE} if row.cfg_scale else {})
        if tuned:
            yield (mode, "tuned", small | tuned)
        for move in row.camera:
            yield (mode, f"camera {move}", small | {"camera": move})


def _start(mode: Mode, references: int) -> dict[str, Any]:
    match mode:
        case Mode.TEXT:
            return {}
        case Mode.FIRST_FRAME:
            return {"first_frame": FIRST}
        case Mode.REFERENCES:
            return {"references": tuple(picture(f"reference-{number}") for number in range(1, references + 1))}


def _cuts(row: Backend, shortest: int) -> dict[str, Any]:
    """Two shots that fill the shortest clip in which both have a second."""
    total = next(seconds for seconds in row.seconds.all() if seconds >= max(2, shortest))
    shots = (Shot(prompt="The boat sets out", seconds=1), Shot(prompt="It arrives", seconds=total - 1))
    return {"prompt": "", "shots": shots, "seconds": total}


def offered(row: Backend, video: VideoRequest) -> Match:
    """What the catalogue says to this request, had it this row alone. A row whose price is unknown is asked as well."""
    if row.price is None:
        rates = tuple(
            catalogue.Rate(resolution=resolution, audio=audio, usd_micros=1)
            for resolution in row.resolutions
            for audio in (False, True)
        )
        row = msgspec.structs.replace(row, price=catalogue.Price(per="clip", rates=rates))
    shelf = Catalogue([row])
    return catalogue.match(shelf, shelf.resolve(row.id, {}), video, Preferences(), configured=[row.provider])


def granted(row: Backend, video: VideoRequest) -> Candidate | None:
    found = offered(row, video)
    return found.candidates[0] if found.candidates else None


def handed(request: VideoRequest, takes: tuple[MediaForm, ...], form: MediaForm | None = None) -> VideoRequest:
    """The request with its pictures as an adapter gets them: in `form`, else in the first that needs no call."""
    form = form or next(one for one in takes if one is not MediaForm.UPLOAD)

    def hand(media: Media | None) -> Media | None:
        if media is None:
            return None
        match form:
            case MediaForm.URL:
                return msgspec.structs.replace(media, handed=media.source_url, data=None)
            case MediaForm.DATA_URI:
                text = f"data:{media.content_type};base64,{base64.b64encode(media.data or b'').decode()}"
                return msgspec.structs.replace(media, handed=text, data=None)
            case _:
                return media

    return msgspec.structs.replace(
        request,
        first_frame=hand(request.first_frame),
        last_frame=hand(request.last_frame),
        references=tuple(one for one in map(hand, request.references) if one),
    )


# everything that a caller can ask for beside a prompt: one value each, as it would stand in a closed request
EVERY_FIELD: dict[str, Any] = {
    "negative_prompt": NEGATIVE,
    "aspect_ratio": "16:9",
    "audio": True,
    "last_frame": LAST,
    "references": (picture("reference-1"),),
    "shots": (Shot(prompt="The boat sets out", seconds=2), Shot(prompt="It arrives", seconds=3)),
    "camera": Camera.DOLLY_LEFT,
    "seed": SEED,
    "cfg_scale": CFG_SCALE,
}
