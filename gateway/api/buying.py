"""From what is asked to a job on disk, for every dialect: pictures taken, backends ranked, the quote reserved.

Law: nobody is answered before the job is on disk (T1), and no vendor is called here. A request that no backend can
honour is refused with every backend's reason and the nearest request that would do; nothing was sent anywhere.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import msgspec

from gateway import failpoints, ids
from gateway.api import Rooms
from gateway.api.answers import encode
from gateway.api.files import uploaded
from gateway.api.form import Asked
from gateway.api.parts import SentPicture
from gateway.api.problems import NO_RETRY, Problem
from gateway.api.webhooks import must_be_callable
from gateway.catalogue import Candidate, Code, Match, Target, UnknownModel, dollars, explain, match
from gateway.deciding import decide
from gateway.draws import seed_of
from gateway.jobs import Job, JobSpec, Preferences, Routing
from gateway.media import PictureRefused
from gateway.router import Decision, Ranked
from gateway.store.spec import Accepted, BudgetExceeded, Idempotency, Key, TooManyJobs
from providers.spec import Media, VideoRequest

SECOND = 1_000_000
LATE_WAKE_SECONDS = 5.0
BUSY_SECONDS = 30  # what a key with too many jobs is told to wait: a render takes a minute or more
EVERY_MODEL = "*"  # of a dry run: what the whole catalogue would say


async def buy(
    rooms: Rooms, key: Key, asked: Asked, idempotency: Idempotency | None = None, *, id: str | None = None
) -> Accepted:
    """The job of what is asked, on disk and known to the worker; the first one where `idempotency` stands for it
    already. `id` is what it is to be called, where that had to be known before. Raises Problem, having kept and bought
    nothing, and what `Store.accept` raises."""
    rooms = rooms.of(key)
    target = resolved(rooms, asked.model)
    _must_be_callable(rooms, asked)
    video = await _with_pictures(rooms, key, asked)
    kept = False
    try:
        now_us = rooms.now_us()
        id = id or ids.make("video", now_us=now_us, random=secrets.token_bytes(16))
        found, decision = _decided(rooms, target, asked, video, key, now_us=now_us, seed=seed_of(id))
        best, candidate = _best(rooms, found, decision, by_purse=_limited_by_key(asked, key))
        job = _job(rooms, key, asked, video, best, candidate, id=id, now_us=now_us)
        failpoints.reach("before_accept")
        try:
            accepted = await rooms.store.accept(job, decision=encode(decision), idempotency=idempotency)
        except BudgetExceeded as error:
            raise _over_budget(error, decision) from error
        except TooManyJobs as error:
            headers = [(b"retry-after", b"%d" % BUSY_SECONDS), NO_RETRY]
            raise Problem(429, "too_many_jobs", f"{error}. One has to end first.", headers=headers) from error
        except asyncio.CancelledError:  # the store goes on without us, so the worker must hear of it all the same
            kept = True
            asyncio.get_running_loop().call_later(LATE_WAKE_SECONDS, rooms.store.live.wake, job.id)
            raise
        kept = not accepted.replayed
        failpoints.reach("after_accept")
    finally:
        if not kept and asked.has_pictures:
            rooms.pictures.release(video)
    if kept:
        rooms.store.live.wake(job.id)
    return accepted


async def consider(rooms: Rooms, key: Key, asked: Asked) -> Decision:
    """The decision of what is asked, without the purchase. Raises Problem."""
    rooms = rooms.of(key)
    _must_be_callable(rooms, asked)
    target = rooms.catalogue.everything() if asked.model == EVERY_MODEL else resolved(rooms, asked.model)
    video = await _with_pictures(rooms, key, asked)
    try:
        _, decision = _decided(rooms, target, asked, video, key, now_us=rooms.now_us())
    finally:
        rooms.pictures.release(video)
    return decision


# --- what is asked ----------------------------------------------------------------------------------------------------


def resolved(rooms: Rooms, model: str) -> Target:
    """What a model's name stands for. Raises Problem 404."""
    try:
        return rooms.catalogue.resolve(model, rooms.settings.routing.aliases)
    except UnknownModel as error:
        nearest = error.nearest[0] if error.nearest else None
        said = str(error)
        message = f"{said}{'' if said.endswith('?') else '.'} GET /v1/models lists them."
        raise Problem(404, "model_not_found", message, param="model", nearest=nearest) from error


def _must_be_callable(rooms: Rooms, asked: Asked) -> None:
    """Raises Problem 422 for a `callback_url` that would not be called."""
    if asked.callback_url is not None:
        must_be_callable(rooms, asked.callback_url, param="callback_url")


async def _with_pictures(rooms: Rooms, key: Key, asked: Asked) -> VideoRequest:
    """The request with its pictures fetched, judged, kept, and held by us. Raises Problem; then none is held."""
    if not asked.has_pictures:
        return asked.video
    roles = [("input_reference", asked.first_frame), ("frame_images", asked.last_frame)]
    roles += [(f"input_references[{n}]", picture) for n, picture in enumerate(asked.references)]
    wanted = [(param, picture) for param, picture in roles if picture is not None]
    results = await asyncio.gather(
        *(_take(rooms, key, picture, param=param) for param, picture in wanted), return_exceptions=True
    )
    taken = [media for media in results if isinstance(media, Media)]
    for problem in results:
        if isinstance(problem, BaseException):
            rooms.pictures.release(VideoRequest(references=tuple(taken)))
            raise problem
    first = taken.pop(0) if asked.first_frame is not None else None
    last = taken.pop(0) if asked.last_frame is not None else None
    return msgspec.structs.replace(asked.video, first_frame=first, last_frame=last, references=tuple(taken))


async def _take(rooms: Rooms, key: Key, picture: SentPicture, *, param: str) -> Media:
    pictures = rooms.pictures
    try:
        if picture.file_id is not None:
            return await pictures.take_again(await uploaded(rooms, key, picture.file_id, param=param))
        if picture.kept is not None:
            return await pictures.take_again(picture.kept)
        if picture.data is not None:
            return await pictures.take_bytes(picture.data)
        text = (picture.text or "").strip()
        if text[:5].lower() == "data:":
            return await pictures.take_data_uri(text)
        return await pictures.take_url(text)
    except PictureRefused as error:
        raise Problem(error.status, error.code, error.message, param=param) from error


# --- who can, and at what price ---------------------------------------------------------------------------------------


def _decided(
    rooms: Rooms, target: Target, asked: Asked, video: VideoRequest, key: Key, *, now_us: int, seed: int = 0
) -> tuple[Match, Decision]:
    began = time.perf_counter()
    preferences = _allowed(asked.preferences, key)
    if _limited_by_key(asked, key):
        preferences = msgspec.structs.replace(preferences, max_price_usd_micros=key.purse_usd_micros)
    found = match(rooms.catalogue, target, video, preferences, configured=rooms.settings.configured)
    decision = decide(
        found,
        rooms.health,
        rooms.acceptance,
        rooms.policy,
        preferences,
        now_us=now_us,
        seed=seed,
        left_seconds=asked.deadline_seconds,
    )
    rooms.store.live.meter.decided(time.perf_counter() - began)
    return found, decision


def _allowed(preferences: Preferences, key: Key) -> Preferences:
    """The caller's wishes, with what its key may use."""
    return msgspec.structs.replace(preferences, allowed_models=key.models, allowed_providers=key.providers)


def _limited_by_key(asked: Asked, key: Key) -> bool:
    """Whether the key's purse is what bounds the price: it does when the request names none."""
    return asked.preferences.max_price_usd_micros is None and key.purse_usd_micros is not None


def _best(rooms: Rooms, found: Match, decision: Decision, *, by_purse: bool) -> tuple[Ranked, Candidate]:
    """The first of the decision. Raises Problem with everybody's reason when there is none."""
    if decision.ranked:
        best = decision.ranked[0]
        candidate = found.candidate(best.backend)
        if candidate is not None:
            return best, candidate
    said = explain(found, rooms.catalogue, refusals=decision.refusals)
    status, headers = 422, []
    if said.code is Code.UNAVAILABLE:
        status, headers = 503, [(b"retry-after", b"5")]
    elif said.code is Code.OVER_MAX_PRICE and by_purse:
        status = 402
    elif said.code in (Code.MODEL_NOT_ALLOWED, Code.PROVIDER_NOT_ALLOWED):
        status = 403
    raise Problem(
        status,
        said.code.value,
        said.message,
        param=said.param,
        nearest=said.nearest,
        refusals=decision.refusals,
        headers=headers,
    )


def _over_budget(error: BudgetExceeded, decision: Decision) -> Problem:
    """402, with the cheapest that would still have room."""
    within = [one for one in decision.ranked if one.quote.charge_usd_micros <= error.left_usd_micros]
    nearest = f"provider.max_price.request={error.left_usd_micros / 1e6:g}" if within else None
    return Problem(402, "budget_exceeded", str(error), nearest=nearest)


def _job(
    rooms: Rooms,
    key: Key,
    asked: Asked,
    video: VideoRequest,
    best: Ranked,
    candidate: Candidate,
    *,
    id: str,
    now_us: int,
) -> Job:
    """The job as it is written down: its purse, its deadline, and the quote reserved."""
    quote = candidate.quote
    routing = rooms.settings.routing
    return Job(
        id=id,
        caller=key.id,
        test=key.test,
        spec=JobSpec(
            model=asked.model,
            video=video,
            preferences=_allowed(asked.preferences, key),
            metadata=asked.metadata,
            user=asked.user,
            deadline_seconds=asked.deadline_seconds,
            remixed_from=asked.remixed_from,
            extends=asked.extends,
            extends_seconds=asked.extends_seconds,
            callback_url=asked.callback_url,
            dialect=asked.dialect,
            endpoint=asked.endpoint,
            ignored=asked.ignored,
        ),
        routing=Routing(
            backend=best.backend,
            provider=best.provider,
            reason=best.reason,
            estimated_cost_usd_micros=quote.usd_micros,
            pretend=quote.pretend,
            eta_seconds=round(best.expected_finish_seconds, 1),
        ),
        seconds=best.seconds,
        size=candidate.size,
        purse_usd_micros=_purse(asked.preferences, key, candidate, factor=routing.purse_factor),
        created_us=now_us,
        deadline_us=now_us + int((asked.deadline_seconds or routing.deadline_seconds) * SECOND),
        warnings=candidate.warnings,
        reserved_usd_micros=quote.charge_usd_micros,
    )


def _purse(preferences: Preferences, key: Key, candidate: Candidate, *, factor: float) -> int:
    """The most that the job may spend over all its attempts: what the caller says, else its key's, else two quotes.
    A caller can ask for less than its key's purse, never for more."""
    own, limit = preferences.max_price_usd_micros, key.purse_usd_micros
    if own is not None and limit is not None and own > limit:
        message = f"The API key's jobs may spend {dollars(limit)} each, and max_price asks for {dollars(own)}."
        raise Problem(402, "purse_exceeded", message, param="provider.max_price.request", nearest=f"{limit / 1e6:g}")
    if own is not None:
        return own
    return limit if limit is not None else int(candidate.quote.charge_usd_micros * factor)
