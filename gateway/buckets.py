"""Which renders are alike: one name for each duration, sound and mode of a clip.

Law: pure. The names are stored with attempts, so they keep their meaning.
"""

from __future__ import annotations

import math

from providers.spec import Mode, VideoRequest

_SECONDS = (5, 10, 15, 30)
_SPANS = (*(f"≤{seconds}s" for seconds in _SECONDS), f">{_SECONDS[-1]}s")
_MODES = {Mode.TEXT: "", Mode.FIRST_FRAME: "/picture", Mode.REFERENCES: "/references"}
_NAMES = {
    mode: tuple((f"{span}/silent{word}", f"{span}/audio{word}") for span in _SPANS) for mode, word in _MODES.items()
}
_SCALES = {  # a clip twice as long is taken to render twice as long, until it has been measured
    name: math.log(seconds / 5)
    for names in _NAMES.values()
    for seconds, pair in zip((*_SECONDS, 2 * _SECONDS[-1]), names, strict=True)
    for name in pair
}


def bucket(request: VideoRequest) -> str:
    """Under which a request's render time counts, like "≤5s/silent" (from text) or "≤10s/audio/picture". An open
    duration counts as 5 s."""
    seconds = request.seconds or 5
    names = _NAMES[request.mode]
    for limit, pair in zip(_SECONDS, names, strict=False):
        if seconds <= limit:
            return pair[bool(request.audio)]
    return names[-1][bool(request.audio)]


def scale_of(bucket: str) -> float:
    """By how much the logarithm of its render seconds is taken to be above that of a 5 s clip."""
    return _SCALES.get(bucket, 0.0)
