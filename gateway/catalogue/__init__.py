"""The catalogue: which backends exist, what each can make and what it costs; who can make *this* clip, and why not.

Law: pure, but for `load`, which reads files. Nothing that was asked is ever dropped, clamped or guessed in silence: a
backend can, or it is refused with a stable code, a sentence, and the nearest change that would do.
"""

from gateway.catalogue.explaining import Explanation, explain
from gateway.catalogue.loading import CatalogueError, CatalogueFault, load
from gateway.catalogue.matching import Candidate, Match, match
from gateway.catalogue.naming import Alias, Catalogue, Target, UnknownModel
from gateway.catalogue.refusing import Code, Flaw, Refusal, refusal
from gateway.catalogue.rows import (
    AudioGrant,
    Backend,
    ExactSize,
    PictureLimits,
    Price,
    Quote,
    Rate,
    Seconds,
    TypicalSeconds,
    dollars,
    quote,
)

__all__ = [
    "Alias",
    "AudioGrant",
    "Backend",
    "Candidate",
    "Catalogue",
    "CatalogueError",
    "CatalogueFault",
    "Code",
    "ExactSize",
    "Explanation",
    "Flaw",
    "Match",
    "PictureLimits",
    "Price",
    "Quote",
    "Rate",
    "Refusal",
    "Seconds",
    "Target",
    "TypicalSeconds",
    "UnknownModel",
    "dollars",
    "explain",
    "load",
    "match",
    "quote",
    "refusal",
]
