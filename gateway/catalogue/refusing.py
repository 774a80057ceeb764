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
    """The reasons of a refusal. Stable: programs may compare them; MEANINGS says what each one means."""

    # what the backend can make
    MODE = "mode_unsupported"
    SECONDS = "seconds_unsupported"
    AUDIO = "audio_unsupported"
    SILENCE = "silence_unsupported"
    RESOLUTION = "resolution_unsupported"
    ASPECT_RATIO = "aspect_ratio_unsupported"
    FOLLOWS_PICTURE = "shape_follows_picture"
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
    PICTURE_RATIO = "picture_too_long"
    # the request against itself: no backend could
    SHAPE_CONFLICT = "shape_conflict"
    LAST_FRAME_ALONE = "last_frame_without_first"
    PICTURES_MIXED = "frames_with_references"
    SHOTS_SUM = "shots_sum"
    # what the caller's key allows
    MODEL_NOT_ALLOWED = "model_not_allowed"
    PROVIDER_NOT_ALLOWED = "provider_not_allowed"
    # what the caller allows
    EXCLUDED = "excluded_by_caller"
    NO_FALLBACKS = "no_fallbacks"
    OVER_MAX_PRICE = "over_max_price"
    TOO_SLOW = "too_slow"
    # the operator's side, and the moment
    PRICE_UNKNOWN = "price_unknown"
    NO_CREDENTIAL = "no_credential"
    UNAVAILABLE = "unavailable"


MEANINGS: dict[Code, str] = {
    Code.MODE: "It does not start from what was sent: text, a first frame, or reference pictures.",
    Code.SECONDS: "It makes no clip of this length.",
    Code.AUDIO: "Its clips have no sound.",
    Code.SILENCE: "Its clips always carry sound.",
    Code.RESOLUTION: "It makes no clip in this resolution.",
    Code.ASPECT_RATIO: "It makes no clip of this shape.",
    Code.FOLLOWS_PICTURE: "Its clips take the shape of the first frame, and another one was asked for.",
    Code.LAST_FRAME: "It takes no last frame, or makes no clip without one.",
    Code.REFERENCES: "It takes no reference pictures, or not so many.",
    Code.SHOTS: "It takes no shots, or not so many.",
    Code.PROMPT_WITH_SHOTS: "It takes a prompt or shots, not both.",
    Code.CAMERA: "It does not know this camera move.",
    Code.SEED: "It takes no seed.",
    Code.NEGATIVE_PROMPT: "It takes no negative prompt.",
    Code.CFG_SCALE: "It takes no `cfg_scale`.",
    Code.PROMPT: "A prompt is longer than it takes.",
    Code.PICTURE_FORMAT: "It does not take pictures of this format.",
    Code.PICTURE_BYTES: "A picture's file is larger than it takes.",
    Code.PICTURE_SIDE: "A picture has fewer pixels on a side than it takes.",
    Code.PICTURE_RATIO: "A picture is too wide or too tall for it.",
    Code.SHAPE_CONFLICT: "`size` says another resolution or shape than `resolution` and `aspect_ratio` do.",
    Code.LAST_FRAME_ALONE: "A last frame was sent without a first one.",
    Code.PICTURES_MIXED: "Frames and reference pictures were sent together.",
    Code.SHOTS_SUM: "The shots do not add up to `seconds`.",
    Code.MODEL_NOT_ALLOWED: "The API key may not use this model.",
    Code.PROVIDER_NOT_ALLOWED: "The API key may not use this provider.",
    Code.EXCLUDED: "`provider.only` or `provider.ignore` leaves it out.",
    Code.NO_FALLBACKS: "`provider.allow_fallbacks` is false, and another one comes first.",
    Code.OVER_MAX_PRICE: "It costs more than `provider.max_price`, or than the key's purse.",
    Code.TOO_SLOW: "It is not likely enough to be done within `provider.preferred_max_latency` or by the deadline.",
    Code.PRICE_UNKNOWN: "Its price is not known here, so it is never bought.",
    Code.NO_CREDENTIAL: "The operator has set no credential for its provider.",
    Code.UNAVAILABLE: "It rests after failures in a row, or its account is out; a later try may do.",
}


def table() -> str:
    """The codes as Markdown, in their order; README holds a copy and a test keeps it equal."""
    rows = [f"| `{code}` | {MEANINGS[code]} |" for code in Code]
    return "\n".join(("| code | means |", "|---|---|", *rows)) + "\n"


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
