"""What is staged: failures and delays that a vendor has only by chance, ordered by a test or a demo.

Law: pure. `options.sandbox` says it in fields; a prompt says it in cues, as the test cards of a payment service say it
by their numbers, so that a client needs nothing but the text that it sends anyway:

    [fail: generation]        the render breaks part way
    [fail: content_policy]    the content is refused part way
    [fail: invalid_request]   the order is refused as the caller's fault
    [fail: unavailable]       the order is refused for want of capacity
    [slow: 20]                the render takes so many seconds longer
    [lose reply]              the order is taken, but the answer to it is lost

Each may name whom it is meant for, a provider or a backend, so that a failover can be seen to help:
`[fail: generation at acme]`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from providers.spec import Frozen, VideoRequest

_CUE = re.compile(r"\[\s*(fail\s*:|slow\s*:|lose reply)\s*([^\s\]]*?)(?:\s*\bat\s+([^\s\]]+))?\s*\]", re.IGNORECASE)
_LONGEST_SECONDS = 3600
_KNOWN = "[fail: generation | content_policy | invalid_request | unavailable], [slow: SECONDS], [lose reply]"


class CueUnknown(ValueError):
    """A cue that says nothing we know; the text says what would do."""


class Words(Frozen, forbid_unknown_fields=True):
    """`options.sandbox`, and what the prompt's cues add to it.

    fail        true or "generation_failed": the render breaks part way; "content_policy": it is refused part way
    refuse      the order is not taken: "invalid_request" or "unavailable"
    lose_reply  the order is taken, and nobody is told
    seconds     the render takes this much longer, evenly
    hold        the render stops half way: true until it is cancelled, a number for so many seconds
    lane        the words above are meant for this lane only, so that a failover can be seen to help
    """

    fail: bool | Literal["generation_failed", "content_policy"] = False
    refuse: Literal["invalid_request", "unavailable"] | None = None
    lose_reply: bool = False
    seconds: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_SECONDS)] = 0
    hold: bool | Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_SECONDS)] = False
    lane: Literal["swift", "steady", "thrifty"] | None = None


def words_of(request: VideoRequest, *, lane: str, part: str) -> Words:
    """What is staged for this lane, playing this part ("acme/cat"). Raises msgspec.ValidationError and CueUnknown."""
    words = msgspec.convert(request.options.get("sandbox", {}), Words)
    if words.lane not in (None, lane):
        words = Words()
    changes: dict[str, Any] = {}
    for text in (request.prompt, *(shot.prompt for shot in request.shots)):
        for cue in _CUE.finditer(text):
            if cue[3] is None or cue[3].lower() in (part.lower(), part.partition("/")[0].lower()):
                changes |= _meant(cue)
    return msgspec.structs.replace(words, **changes)


def _meant(cue: re.Match[str]) -> dict[str, Any]:
    match cue[1].rstrip(": ").lower(), cue[2].lower():
        case "fail", "generation" | "generation_failed":
            return {"fail": "generation_failed"}
        case "fail", "content_policy":
            return {"fail": "content_policy"}
        case "fail", "invalid_request" | "unavailable" as why:
            return {"refuse": why}
        case "lose reply", "":
            return {"lose_reply": True}
        case "slow", seconds if re.fullmatch(r"\d{1,4}(\.\d{1,3})?", seconds) and float(seconds) <= _LONGEST_SECONDS:
            return {"seconds": float(seconds)}
    raise CueUnknown(f"{cue[0][:80]} is not a cue that is known here; known are {_KNOWN}")
