"""Why a backend cannot make a clip, in a code for programs and a sentence for people.

Law: the codes are a closed set and keep their meaning for ever. A sentence says what the backend grants and what was
asked; `nearest` says the change that would lift the refusal, wherever one would.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from gateway.catalogue.rows import Quote
from providers.spec import Frozen


class Code(enum.StrEnum):
    """The reasons of a refusal. Stable: programs may compare them."""

    # what the backend can make
    MODE = "mode_unsupported"  # it does not start from text, from a first frame or from references
    SECONDS = "seconds_unsupported"
    AUDIO = "audio_unsupported"
    SILENCE = "silence_unsupported"  # its clips always carry sound
    RESOLUTION = "resolution_unsupported"
    ASPECT_RATIO = "aspect_ratio_unsupported"
    FOLLOWS_PICTURE = "shape_follows_picture"  # another shape than the picture's was asked
    LAST_FRAME = "last_frame_unsupported"
    REFERENCES = "references_unsupported"
    SHOTS = "shots_unsupported"
    PROMPT_WITH_SHOTS = "prompt_beside_shots"
    CAMERA = "camera_unsupported"
    SEED = "seed_unsupported"
    NEGATIVE_PROMPT = "negative_prompt_unsupported"
    CFG_SCALE = "cfg_scale_unsupported"
    PROMPT = "prompt_too_long"
    # the pictures
    PICTURE_FORMAT = "picture_format"
    PICTURE_BYTES = "picture_too_large"
    PICTURE_SIDE = "picture_too_small"
    PICTURE_RATIO = "picture_too_long"  # too wide or too tall
    # the request against itself: no backend could
    SHAPE_CONFLICT = "shape_conflict"  # size says another resolution or ratio than resolution and aspect_ratio
    LAST_FRAME_ALONE = "last_frame_without_first"
    PICTURES_MIXED = "frames_with_references"
    SHOTS_SUM = "shots_sum"  # the shots do not add up to the seconds
    # what the caller allows
    EXCLUDED = "excluded_by_caller"  # provider.only or provider.ignore
    NO_FALLBACKS = "no_fallbacks"  # provider.allow_fallbacks is false and another one comes first
    OVER_MAX_PRICE = "over_max_price"
    TOO_SLOW = "too_slow"  # not likely enough to be done within preferred_max_latency
    # the operator's side, and the moment
    PRICE_UNKNOWN = "price_unknown"
    NO_CREDENTIAL = "no_credential"
    UNAVAILABLE = "unavailable"  # an account is out, or the backend rests after failures in a row


class Refusal(Frozen, gc=False):
    """One backend's no. `message` holds all of its reasons, `code` and `param` the first; `also` the other codes."""

    backend: str
    code: Code
    message: str
    param: str | None = None  # the request's field, as it is called on the wire
    nearest: str | None = None
    quote: Quote | None = None
    also: tuple[Code, ...] = ()
    asked: str = ""  # "makes 20 s": completes "No backend of … "
    grants: str = ""  # "makes 3–15 s": completes "<backend> "


class Flaw(NamedTuple):
    """One reason: `verb` + `grants` is what the backend does, `verb` + `wish` what was asked of it."""

    code: Code
    param: str | None
    verb: str
    grants: str
    wish: str
    nearest: str | None = None


def refusal(backend: str, flaws: list[Flaw], quote: Quote | None = None) -> Refusal:
    """All flaws of one backend as one answer. `flaws` holds at least one."""
    first = flaws[0]
    if len(flaws) == 1:
        does = f"{first.verb} {first.grants}"
        return Refusal(
            backend=backend,
            code=first.code,
            param=first.param,
            message=f"{backend} {does} (asked: {first.wish})" if first.wish else f"{backend} {does}",
            nearest=first.nearest,
            quote=quote,
            asked=f"{first.verb} {first.wish}" if first.wish else "",
            grants=does,
        )
    alone = [refusal(backend, [flaw]) for flaw in flaws]
    changes = dict.fromkeys(flaw.nearest for flaw in flaws)
    return Refusal(
        backend=backend,
        code=first.code,
        param=first.param,
        message="; ".join([alone[0].message, *(one.message.removeprefix(f"{backend} ") for one in alone[1:])]),
        nearest=None if None in changes else ", ".join(change for change in changes if change),
        quote=quote,
        also=tuple(flaw.code for flaw in flaws[1:]),
        asked=" and ".join(one.asked for one in alone if one.asked),
        grants=" and ".join(one.grants for one in alone),
    )
