"""Which backends can make this clip, exactly as asked, and why the others cannot.

Law: pure. Every backend of the target ends as one candidate or one refusal. A candidate's request is closed: seconds,
resolution and audio are set, the shape too unless the picture gives it; nothing that was asked has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from gateway.catalogue.granting import Granted, grant
from gateway.catalogue.naming import Catalogue, Tables, Target, quoted
from gateway.catalogue.refusing import Code, Flaw, Refusal, refusal
from gateway.catalogue.rows import Backend, Quote, dollars, is_among, listed, price_of
from gateway.catalogue.shapes import Shape
from gateway.catalogue.wishing import Wish, wish_of
from gateway.jobs import Preferences
from providers.spec import Frozen, VideoRequest


class Candidate(Frozen, gc=False):
    """A backend that can honour the request, and what it would be asked for."""

    backend: Backend
    request: VideoRequest  # closed for this backend
    size: str  # "1920x1080", as well as it is known
    quote: Quote
    warnings: tuple[str, ...] = ()


class Match(Frozen):
    """What `match` found, with what it was asked: `explain` and `rank` read both."""

    candidates: tuple[Candidate, ...]
    refusals: tuple[Refusal, ...] = ()
    target: Target = Target(models=())
    video: VideoRequest = VideoRequest()  # with an alias's defaults filled in
    preferences: Preferences = Preferences()
    configured: frozenset[str] = frozenset()

    def candidate(self, backend_id: str) -> Candidate | None:
        """The candidate on this backend."""
        return next((found for found in self.candidates if found.backend.id == backend_id), None)


def match(
    catalogue: Catalogue,
    target: Target,
    video: VideoRequest,
    preferences: Preferences,
    *,
    configured: Mapping[str, bool] | Collection[str],
) -> Match:
    """Hold `video` against every backend of `target`.

    `configured` names the providers that have a credential. Warnings say what was assumed for what was left open.
    """
    if isinstance(configured, Mapping):
        configured = [provider for provider, has_credential in configured.items() if has_credential]
    choosy = bool(preferences.only or preferences.ignore or preferences.order)
    choosy = choosy or bool(preferences.allowed_models or preferences.allowed_providers)
    cap = preferences.max_price_usd_micros
    wish = wish_of(video, target.alias)
    closing = _Closing(wish)
    candidates: list[Candidate] = []
    refusals: list[Refusal] = []
    for backend_id in target.backends:
        row, tables = catalogue.rows[backend_id]
        unwanted = _unwanted(row, tables, target, preferences) if choosy else None
        if unwanted is not None:
            refusals.append(refusal(backend_id, [unwanted]))
            continue
        flaws = list(wish.flaws)
        granted = grant(row, tables, wish, lenient=not preferences.require_parameters, flaws=flaws)
        shape = granted.shape
        if flaws or shape is None:
            refusals.append(refusal(backend_id, flaws))
            continue
        quote = quoted(row, tables, resolution=shape.resolution, audio=granted.audio, seconds=granted.seconds)
        if quote is None or (cap is not None and quote.usd_micros > cap) or row.provider not in configured:
            flaws = _unaffordable(row, granted, shape, wish=wish, quote=quote, cap=cap, configured=configured)
            refusals.append(refusal(backend_id, flaws, quote))
            continue
        request, warnings = closing.close(granted, shape)
        candidates.append(Candidate(backend=row, request=request, size=shape.size, quote=quote, warnings=warnings))
    return Match(
        candidates=tuple(candidates),
        refusals=tuple(refusals),
        target=target,
        video=wish.video,
        preferences=preferences,
        configured=frozenset(configured),
    )


def _unwanted(row: Backend, tables: Tables, target: Target, preferences: Preferences) -> Flaw | None:
    names = tables.names
    if (models := preferences.allowed_models) and not (is_among(row.model, models) or is_among(target.name, models)):
        grants = f"out of bounds: this API key may not use {row.model}"
        return Flaw(Code.MODEL_NOT_ALLOWED, "model", "is", grants, "", f"one of {listed(models)}")
    if (providers := preferences.allowed_providers) and not is_among(row.provider, providers):
        grants = f"out of bounds: this API key may not use {row.provider}"
        return Flaw(Code.PROVIDER_NOT_ALLOWED, None, "is", grants, "", f"one of the providers {listed(providers)}")
    if preferences.only and names.isdisjoint(preferences.only):
        grants = "not among provider.only"
        return Flaw(Code.EXCLUDED, "provider.only", "is", grants, "", f"{row.provider} added to provider.only")
    if preferences.ignore and not names.isdisjoint(preferences.ignore):
        grants = "among provider.ignore"
        return Flaw(Code.EXCLUDED, "provider.ignore", "is", grants, "", f"{row.provider} left out of provider.ignore")
    if preferences.order and not preferences.allow_fallbacks and preferences.order[0] not in names:
        grants = f"a fallback: {preferences.order[0]} comes first in provider.order"
        return Flaw(Code.NO_FALLBACKS, "provider.allow_fallbacks", "is", grants, "", "provider.allow_fallbacks=true")
    return None


def _unaffordable(
    row: Backend,
    granted: Granted,
    shape: Shape,
    *,
    wish: Wish,
    quote: Quote | None,
    cap: int | None,
    configured: Collection[str],
) -> list[Flaw]:
    flaws: list[Flaw] = []
    if quote is None:
        nearest = f"a price for {row.id} in the operator's catalogue"
        flaws.append(Flaw(Code.PRICE_UNKNOWN, None, "has", "no known price", "", nearest))
    elif cap is not None and quote.usd_micros > cap:
        nearest = f"max_price={quote.usd_micros / 1e6:g}"
        for seconds in reversed(row.seconds.all()):
            other = price_of(row, resolution=shape.resolution, audio=granted.audio, seconds=seconds)
            if other and other.usd_micros <= cap and not wish.video.shots:
                nearest = f"seconds={seconds}"
                break
        grants = f"{dollars(quote.usd_micros)} for {granted.seconds} s"
        wished = f"at most {dollars(cap)}"
        flaws.append(Flaw(Code.OVER_MAX_PRICE, "provider.max_price", "costs", grants, wished, nearest))
    if row.provider not in configured:
        nearest = f"a credential under [providers.{row.provider}]"
        flaws.append(Flaw(Code.NO_CREDENTIAL, None, "has", "no credential here", "", nearest))
    return flaws


class _Closing:
    """Closed requests of one match, and their warnings, each made once for all candidates that share them."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._made: dict[tuple[Any, ...], tuple[VideoRequest, tuple[str, ...]]] = {}

    def close(self, granted: Granted, shape: Shape) -> tuple[VideoRequest, tuple[str, ...]]:
        key = (granted, shape)
        found = self._made.get(key)
        if found is None:
            request = msgspec.structs.replace(
                self._wish.video,
                seconds=granted.seconds,
                audio=granted.audio,
                resolution=shape.resolution,
                aspect_ratio=shape.aspect,
                **dict.fromkeys(granted.dropped),
            )
            found = self._made[key] = request, tuple(self._say(granted, shape))
        return found

    def _say(self, granted: Granted, shape: Shape) -> list[str]:
        said = list(self._wish.warnings)
        if self._wish.seconds is None:
            said.append(f"seconds was not given: the clip is {granted.seconds} s long")
        if self._wish.audio is None:
            said.append(f"generate_audio was not given: the clip is {'made with sound' if granted.audio else 'silent'}")
        if shape.warning is not None:
            said.append(shape.warning)
        if granted.converted:
            said.append("the picture is handed over as PNG: this backend takes no WebP")
        if granted.dropped:
            said.append(f"left out, because this backend has no word for it: {', '.join(granted.dropped)}")
        return said
