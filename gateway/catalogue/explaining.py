"""Turns a match that found nobody into one paragraph for a person: why, what would do, and who could.

Law: pure. Only refusals speak here; a decision's own refusals (a backend that rests) are handed in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.catalogue.matching import Match, match
from gateway.catalogue.naming import Catalogue
from gateway.catalogue.refusing import Code, Refusal
from gateway.catalogue.rows import Quote, listed
from providers.spec import Frozen

_SHOWN = 4  # backends and models named before "and 3 more"

_TURN = {  # a backend that could, but for the moment, speaks first; what no smaller wish puts right speaks last
    Code.UNAVAILABLE: -1,
    Code.MODEL_NOT_ALLOWED: 2,
    Code.PROVIDER_NOT_ALLOWED: 2,
    Code.EXCLUDED: 1,
    Code.NO_FALLBACKS: 1,
    Code.NO_CREDENTIAL: 3,
    Code.PRICE_UNKNOWN: 3,
}
_OF_ITSELF = {Code.SHAPE_CONFLICT, Code.LAST_FRAME_ALONE, Code.PICTURES_MIXED, Code.SHOTS_SUM}


class Explanation(Frozen):
    """Why nobody can. `nearest` is the smallest change that would do, where one is known."""

    code: Code
    param: str | None
    message: str
    nearest: str | None = None


def explain(
    found: Match, catalogue: Catalogue | None = None, *, refusals: Sequence[Refusal] | None = None
) -> Explanation:
    """The best answer to a match (or a decision, by its `refusals`) that left no candidate.

    With the catalogue, it names the models that could make the request as it stands. Raises ValueError when there is
    nothing to explain.
    """
    said = tuple(found.refusals if refusals is None else refusals)
    if not said:
        raise ValueError("a match without refusals needs no explanation")
    main = min(said, key=lambda refusal: (_TURN.get(refusal.code, 0), len(refusal.also)))
    alike = [refusal for refusal in said if refusal.asked == main.asked and refusal.code == main.code]
    unlike = [refusal for refusal in said if refusal not in alike]
    grants = [f"{refusal.backend} {refusal.grants}" for refusal in alike]
    grants += [refusal.message for refusal in unlike]
    name = found.target.name or listed(found.target.models)
    subject = f"No backend of {name} {main.asked or 'can make this clip'}"
    if main.code is Code.UNAVAILABLE:
        subject += " now"
    parts = [f"{subject}: {_few(grants, '; ')}"]
    if main.nearest:
        parts.append(f"{'It takes' if main.code in _TURN else 'Nearest'}: {main.nearest}")
    if catalogue is not None:
        parts += _others(found, catalogue, main)
    return Explanation(code=main.code, param=main.param, message=". ".join(parts) + ".", nearest=main.nearest)


def _others(found: Match, catalogue: Catalogue, main: Refusal) -> list[str]:
    """Who else could, all of it or at least the part that failed."""
    if main.code in _OF_ITSELF:
        return []
    everyone = catalogue.everything()
    mine = set(found.target.backends)
    target = msgspec.structs.replace(everyone, backends=tuple(row for row in everyone.backends if row not in mine))
    preferences = msgspec.structs.replace(found.preferences, order=(), allow_fallbacks=True)
    others = match(catalogue, target, found.video, preferences, configured=found.configured)
    able = _models(catalogue, [(candidate.backend.id, candidate.quote) for candidate in others.candidates])
    if able:
        return [f"As asked, it can be made by {_few(able, ', ')}"]
    if _TURN.get(main.code):
        return []
    locked = [(no.backend, no.quote) for no in others.refusals if no.code is Code.NO_CREDENTIAL]
    if locked:
        names = _few(_models(catalogue, locked), ", ")
        return [f"As asked, it could be made by {names}, for which no credential is set here"]
    # a backend without the mode was never asked about shape or pictures, so it proves nothing
    silent = {main.code, Code.MODE, Code.EXCLUDED}
    part = [(no.backend, no.quote) for no in others.refusals if not silent & {no.code, *no.also}]
    if part and main.asked:
        names = _few(_models(catalogue, part), ", ")
        return [f"Each of these {main.asked.split(' and ')[0]}, though not all of this request: {names}"]
    return ["No other model of the catalogue can either"]


def _models(catalogue: Catalogue, priced: Sequence[tuple[str, Quote | None]]) -> list[str]:
    """Models, each once: by price where it is known, real before pretended, else in the catalogue's own order."""
    places = {backend: place for place, backend in enumerate(catalogue.rows)}

    def standing(entry: tuple[str, Quote | None]) -> tuple[bool, int, int]:
        backend, quote = entry
        return (quote.pretend, quote.usd_micros, places[backend]) if quote else (False, 0, places[backend])

    return list(dict.fromkeys(catalogue.rows[backend][0].model for backend, _ in sorted(priced, key=standing)))


def _few(words: Sequence[str], separator: str) -> str:
    rest = len(words) - _SHOWN
    return separator.join(words[:_SHOWN]) + (f"{separator}and {rest} more" if rest > 0 else "")
