"""One row of the catalogue: what a backend can make, under which limits, and what it costs.

Law: plain frozen data, no vendor's name. Money is integer micro-dollars. What a row does not grant is refused, never
dropped, clamped or guessed.
"""

from __future__ import annotations

import enum
import fnmatch
from datetime import date
from functools import lru_cache
from typing import Literal

from providers.spec import Camera, Frozen, Kind, Mode, VideoRequest

MICROS = 1_000_000


class AudioGrant(enum.StrEnum):
    """Whether a backend's clips carry sound."""

    NEVER = "never"
    OPTIONAL = "optional"
    ALWAYS = "always"


class Seconds(Frozen):
    """The durations that a backend makes: a list of them, or every whole second from `min` to `max`."""

    values: tuple[int, ...] = ()  # ascending
    min: int | None = None
    max: int | None = None

    def all(self) -> tuple[int, ...]:
        """Every granted duration, ascending."""
        if self.values:
            return self.values
        return tuple(range(self.min, self.max + 1)) if self.min is not None and self.max is not None else ()

    def grants(self, seconds: int) -> bool:
        if self.values:
            return seconds in self.values
        return self.min is not None and self.max is not None and self.min <= seconds <= self.max

    def nearest(self, seconds: int) -> int:
        """The granted duration nearest to this one; of two that are equally near, the shorter (and cheaper)."""
        if not self.values and self.min is not None and self.max is not None:
            return min(max(seconds, self.min), self.max)
        return min(self.values, key=lambda value: (abs(value - seconds), value))

    def __str__(self) -> str:
        if not self.values:
            return f"{self.min}–{self.max}"
        return listed(tuple(str(value) for value in self.values))


class PictureLimits(Frozen):
    """What a backend takes as a frame or a reference."""

    formats: tuple[str, ...] = ("image/jpeg", "image/png")
    max_bytes: int = 10_000_000
    min_side: int = 300  # pixels, each side
    min_ratio: float = 0.4  # width ÷ height
    max_ratio: float = 2.5


class Rate(Frozen):
    """The price of one kind of clip. `seconds` is set where a vendor prices whole clips by their duration."""

    resolution: str
    audio: bool
    usd_micros: int
    seconds: int | None = None


class Price(Frozen):
    """Every rate of one backend: micro-dollars per second of clip, or per clip."""

    per: Literal["second", "clip"]
    rates: tuple[Rate, ...]


class ExactSize(Frozen):
    """The pixels of one resolution and shape, where they are not what the two words come to."""

    resolution: str
    aspect: str
    width: int
    height: int


class TypicalSeconds(Frozen):
    """Seconds from submit to done of a 5 s clip, as far as known before anything was measured."""

    p50: float
    p95: float


class Backend(Frozen):
    """One model through one provider. `id` is provider/name; `name` is the model's unless a row gives its own."""

    id: str
    model: str
    provider: str
    model_id: dict[Mode, str]  # its keys are the modes that the backend grants
    seconds: Seconds
    resolutions: tuple[str, ...]  # the first is the default
    audio: AudioGrant
    typical_seconds: TypicalSeconds
    aspect_ratios: tuple[str, ...] = ()  # the first is the default; none: the vendor has no word for it
    sizes: tuple[ExactSize, ...] = ()  # for the rest, a resolution is the short side and the ratio gives the long one
    follows_picture: bool = False  # a clip from a first frame takes the picture's shape, whatever is asked
    last_frame: bool = False
    last_frame_required: bool = False  # it makes a clip between two frames, and no other
    references: int = 0  # the most reference pictures
    shots: int = 0  # the most shots; 0: one prompt only
    prompt_with_shots: bool = False  # takes a prompt beside its shots, not one or the other
    camera: tuple[Camera, ...] = ()
    seed: bool = False
    negative_prompt: bool = False
    cfg_scale: bool = False
    prompt_max: int = 2500  # characters of each prompt
    picture: PictureLimits = PictureLimits()
    price: Price | None = None  # None: not known, and so never bought
    pretend: bool = False  # the price is only ranked by, never charged
    failed_jobs_are_billed: bool = False
    moderated_jobs_are_billed: bool = False  # a render that the vendor's own filter withheld
    cancelled_jobs_are_billed: bool = False
    output_days: float | None = None  # how long the vendor keeps the file, where it says so
    max_in_flight: int = 2  # renders at once, per account
    poll_floor_seconds: float = 1.0  # the vendor is never asked about one job more often than this
    checked: date | None = None  # when a person last compared the row with its source
    source: str = ""

    def exact_size(self, resolution: str | None, aspect: str | None) -> tuple[int, int] | None:
        """The pixels that the row states for these two of its words; None where it states none."""
        for size in self.sizes:
            if (size.resolution, size.aspect) == (resolution, aspect):
                return size.width, size.height
        return None

    @property
    def billed_endings(self) -> tuple[Kind, ...]:
        """The endings without a clip that cost the whole price."""
        billed: tuple[Kind, ...] = ()
        if self.failed_jobs_are_billed:
            billed += tuple(kind for kind in Kind if not kind.is_callers and kind is not Kind.CANCELLED)
        if self.moderated_jobs_are_billed:
            billed += (Kind.CONTENT_POLICY,)
        return (*billed, Kind.CANCELLED) if self.cancelled_jobs_are_billed else billed


class Quote(Frozen, gc=False):
    """What one clip costs on one backend."""

    usd_micros: int
    pretend: bool = False

    @property
    def charge_usd_micros(self) -> int:
        """What is reserved and charged for it: nothing where the price is pretend."""
        return 0 if self.pretend else self.usd_micros

    def __str__(self) -> str:
        return f"{dollars(self.usd_micros)} (pretend)" if self.pretend else dollars(self.usd_micros)


def quote(backend: Backend, request: VideoRequest) -> Quote | None:
    """The price of a request that `match` has closed for this backend. None where the row has no price for it."""
    return price_of(backend, resolution=request.resolution, audio=bool(request.audio), seconds=request.seconds)


def price_of(backend: Backend, *, resolution: str | None, audio: bool, seconds: int | None) -> Quote | None:
    """The price by what it depends on."""
    if backend.price is None or seconds is None:
        return None
    per_second = backend.price.per == "second"
    for rate in backend.price.rates:
        if rate.audio is audio and rate.resolution == resolution and (rate.seconds is None or rate.seconds == seconds):
            return Quote(
                usd_micros=rate.usd_micros * seconds if per_second else rate.usd_micros, pretend=backend.pretend
            )
    return None


@lru_cache(maxsize=1024)
def dollars(usd_micros: int) -> str:
    """ "$0.56"; with up to six decimals where the cents do not tell it all."""
    if usd_micros % 10_000 == 0:
        return f"${usd_micros / MICROS:.2f}"
    return f"${usd_micros // MICROS}.{usd_micros % MICROS:06d}".rstrip("0")


def is_among(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns fits the name: `*` and `?` stand for what they do in file names."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def listed(words: tuple[str, ...], last: str = "or") -> str:
    """ "4, 6 or 8"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
