"""A quiet bed of sound for a clip: a slow chord, and wind or surf under it.

Law: repeatable, and made by FFmpeg's own filters, so that no sample passes through Python. The bed is exactly as long
as asked and comes in pieces of one video frame each.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator

import av
import av.error
import av.filter
from av.audio.frame import AudioFrame

RATE = 48_000
_SURF = re.compile(r"\b(?:sea|ocean|waves?|beach|coast|bay|surf|shore|lake|boats?|ships?|sail\w*|rain\w*|storm\w*)\b")
_MINOR = re.compile(r"\b(?:night|dark|storm\w*|fog\w*|rain\w*|sad|lonely|winter)\b")
_ROOTS = (98.0, 110.0, 123.47, 130.81)  # G2, A2, B2, C3


def ambience(text: str, seed: int, seconds: int, *, samples: int) -> Iterator[AudioFrame]:
    """Stereo frames at 48 kHz, `samples` each, `seconds` in all. The words choose between wind and surf, major and
    minor; a hash of the words and the seed chooses the rest."""
    text = text.lower()
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    rng = random.Random(digest)  # noqa: S311 (music, not a secret)
    surf, third = bool(_SURF.search(text)), 1.2 if _MINOR.search(text) else 1.25
    root = rng.choice(_ROOTS)
    chord = [
        (root * step, weight) for step, weight in ((1, 0.09), (1.5, 0.06), (2, 0.05), (2 * third, 0.04), (3, 0.025))
    ]
    swells = [(rng.uniform(0.07, 0.19), rng.uniform(0, 6.28)) for _ in chord]

    def voices(detune: float) -> str:
        return "+".join(
            f"{weight}*sin(6.28318531*{tone + detune:.3f}*t)*(0.6+0.4*sin(6.28318531*{swell:.3f}*t+{phase:.2f}))"
            for (tone, weight), (swell, phase) in zip(chord, swells, strict=True)
        )

    graph = av.filter.Graph()
    pad = graph.add("aevalsrc", exprs=f"{voices(-0.15)}|{voices(0.15)}", s=str(RATE), d=str(seconds), c="stereo")
    noise = graph.add(
        "anoisesrc",
        color="brown",
        seed=str(rng.getrandbits(31)),
        r=str(RATE),
        d=str(seconds),
        a="0.5" if surf else "0.2",
    )
    low = graph.add("lowpass", f=str(900 if surf else 420))
    swell = graph.add("tremolo", f="0.17" if surf else "0.11", d="0.75" if surf else "0.5")
    wide = graph.add("aformat", sample_fmts="fltp", sample_rates=str(RATE), channel_layouts="stereo")
    both = graph.add("amix", inputs="2", normalize="0")
    edge = min(0.6, seconds / 4)
    rise = graph.add("afade", t="in", d=str(edge))
    fall = graph.add("afade", t="out", st=str(seconds - edge), d=str(edge))
    form = graph.add("aformat", sample_fmts="fltp", sample_rates=str(RATE), channel_layouts="stereo")
    pieces = graph.add("asetnsamples", n=str(samples), p="0")
    sink = graph.add("abuffersink")
    pad.link_to(both, 0, 0)
    for source, target in ((noise, low), (low, swell), (swell, wide)):
        source.link_to(target)
    wide.link_to(both, 0, 1)
    for source, target in ((both, rise), (rise, fall), (fall, form), (form, pieces), (pieces, sink)):
        source.link_to(target)
    graph.configure()
    while True:
        try:
            frame = graph.pull()
        except av.error.EOFError:
            return
        if isinstance(frame, AudioFrame):
            yield frame
