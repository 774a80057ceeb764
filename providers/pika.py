"""Pika, by its own API: one POST starts a job under an Idempotency-Key, one GET reads it to its end.

Laws: the key is the attempt's own id, so one attempt is one job at Pika, however often its POST is seen there: the same
key gives the same job again, a failed one too, and a new try wants a new attempt. A submit may answer with a job that
has failed already (an empty purse, say): it has an id and is an operation like any other, bought nothing (Pika charges
successful outputs only), and its first poll says why. `completed` can be said before its file is named, while the
charge is being settled: the file is then asked for at `/content`, and the job runs on until there is one.

Sources, read 2026-11-23: public clients of api.dev.pika.art and their tests (August to November 2026), and
docs.comfy.org/development/comfy-router/models/pika, whose schemas are made from Pika's. No page of dev.pika.art could
be read and no call was made.
Inferred: which error codes are the operator's own; that a 409 means another body under the key, or one still in work;
that a job which failed at its submit can be polled; pika-h3-flex's path, after the pattern of the others.
Unknown, so not used: whether a job can be cancelled (a client deletes jobs; what that does to a running one is not
said), callbacks (webhooks are said to exist for an account as a whole), how long a key is remembered, which 2xx a
submit answers, the names of pika-h3-flex's other fields (last frame, stems, rewriting of the prompt, seed).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec

from providers.spec import (
    Failed,
    Fault,
    Frozen,
    Kind,
    Media,
    MediaForm,
    Operation,
    Outcome,
    ProviderError,
    Queued,
    Running,
    Secret,
    Status,
    Succeeded,
    Verdict,
    Video,
    VideoRequest,
    unsupported,
)
from providers.transport import Judged, Reply, Transport

NAME = "pika"


class Settings(Frozen):
    """One account at Pika. `replay_seconds`: how long after a submit its key is still trusted to name that very job."""

    api_key: Secret
    base_url: str = "https://api.dev.pika.art"
    replay_seconds: float = 600.0


def make(settings: Settings, transport: Transport) -> Adapter:
    return Adapter(settings, transport)


# --- what Pika calls our fields ---------------------------------------------------------------------------------------


_COMMON = {name: name for name in ("prompt", "negative_prompt", "resolution", "seed")}
_WORDS = {
    "pika/pika-2.5/text-to-video": _COMMON | {"seconds": "duration_s"},
    "pika/pika-2.5/image-to-video": _COMMON | {"seconds": "duration_s", "first_frame": "image"},
    # one clip from frame to frame, in the order of `images`: here always two, the first and the last
    "pika/pikaframes/image-to-video": _COMMON | {"seconds": "transition_duration_s", "frames": "images"},
    "pika/pika-h3-flex/image-to-video": {
        "prompt": "prompt",
        "seconds": "duration",
        "resolution": "resolution",
        "aspect_ratio": "aspect_ratio",
        "first_frame": "image",
    },
}
_ALWAYS_WITH_SOUND = "pika/pika-h3-flex/image-to-video"  # the others never have any; none has a field for it


def to_body(request: VideoRequest, model_id: str) -> dict[str, Any]:
    """The input of the catalogue entry `model_id`. Raises ProviderError(UNSUPPORTED) for a field it has no word for.

    The same request gives the same bytes, which a replay under its key depends on. The resolution is always said: left
    out, it is 1080p, the dearer one.
    """
    by = f"{NAME}'s {model_id}"
    words = _WORDS.get(model_id)
    if words is None:
        raise unsupported("model_id", by=by)
    if request.audio is not None and request.audio is not (model_id == _ALWAYS_WITH_SOUND):
        raise unsupported("audio" if request.audio else "audio=false", by=by)
    first, last = request.first_frame, request.last_frame
    frames: list[str] | None = None
    if "frames" in words:
        if first is None or last is None:
            lone = "first_frame without last_frame" if first else "last_frame without first_frame"
            raise unsupported(lone, by=by)
        frames, first, last = [_handed(first), _handed(last)], None, None
    asked = {
        "prompt": request.prompt or None,  # a clip from a picture needs none
        "negative_prompt": request.negative_prompt,
        "seconds": request.seconds,
        "resolution": request.resolution,
        "aspect_ratio": request.aspect_ratio,
        "first_frame": first and _handed(first),
        "last_frame": last and _handed(last),
        "frames": frames,
        "references": request.references or None,
        "shots": request.shots or None,
        "camera": request.camera,
        "seed": request.seed,
        "cfg_scale": request.cfg_scale,
    }
    body: dict[str, Any] = {}
    for field, value in asked.items():
        if value is None:
            continue
        if field not in words:
            raise unsupported(field, by=by)
        body[words[field]] = value
    return request.options.get(NAME, {}) | body  # options add fields; what the quote rests on stays


def _handed(media: Media) -> str:
    if media.handed is None:  # left out, it would be another clip than the one that was asked for, and paid
        raise unsupported("a picture that was not handed over", by=NAME)
    return media.handed


# --- what Pika answers ------------------------------------------------------------------------------------------------


class _Accepted(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1)]


class _Said(msgspec.Struct):
    """One error of a job or of a reply, by its code and a sentence."""

    code: str | None = None
    message: str | None = None


class _File(msgspec.Struct):
    url: str | None = None
    content_type: str | None = None


class _Output(msgspec.Struct):
    """`media_type` names the field that is filled: for us `video`, or `videos` where there are several."""

    video: _File | None = None
    videos: tuple[_File, ...] | None = None


class _Billing(msgspec.Struct):
    state: str | None = None  # pending | settled | unavailable
    charge_micro_usd: int | None = None


class _Job(msgspec.Struct):
    status: str
    output: _Output | None = None
    error: _Said | None = None
    billing: _Billing | None = None

    @property
    def videos(self) -> tuple[Video, ...]:
        output = self.output or _Output()
        files = ([output.video] if output.video else []) + list(output.videos or ())
        return tuple(Video(url=file.url, content_type=file.content_type or "video/mp4") for file in files if file.url)

    @property
    def is_being_billed(self) -> bool:
        return self.billing is not None and self.billing.state == "pending"

    @property
    def cost_usd_micros(self) -> int | None:
        return self.billing.charge_micro_usd if self.billing and self.billing.state == "settled" else None


class _Problem(msgspec.Struct):
    """Both bodies of an HTTP error: `{message}`, and `{error: {message, code}}`."""

    error: _Said | None = None
    message: str | None = None
    code: str | None = None


class _Upload(msgspec.Struct):
    upload_url: str
    url: str
    headers: dict[str, str] | None = None


# Pika's words for a failed job (docs.comfy.org, models pika-2-5); limits of spending and of membership are for the
# operator to lift
_KINDS = {
    "invalid_input": Kind.INVALID_REQUEST,
    "content_moderation": Kind.CONTENT_POLICY,
    "provider_error": Kind.GENERATION_FAILED,
    "provider_timeout": Kind.TIMEOUT,
    "provider_unavailable": Kind.UNAVAILABLE,
    "rate_limited": Kind.RATE_LIMITED,
    "insufficient_balance": Kind.INSUFFICIENT_FUNDS,
    "membership_required": Kind.INSUFFICIENT_FUNDS,
    "cycle_limit_exceeded": Kind.INSUFFICIENT_FUNDS,
    "usage_limit_exceeded": Kind.INSUFFICIENT_FUNDS,
    "admission_suspended": Kind.AUTHENTICATION,
    "timed_out": Kind.TIMEOUT,
    "internal": Kind.GENERATION_FAILED,
}
_REJECTIONS = (400, 401, 402, 403, 404, 413, 415, 422, 429)


def to_fault(said: _Said, *, of: str = "this job") -> Fault:
    """Pika's own word for it; without one that we know, the generation failed."""
    code = said.code or ""
    kind = _KINDS.get(code, Kind.GENERATION_FAILED)
    verdict = Verdict.NEVER if kind is Kind.CONTENT_POLICY else Verdict.ELSEWHERE
    message = f"{NAME} said of {of}: {said.message or code or 'nothing more'}"[:500]
    return Fault(kind=kind, verdict=verdict, message=message, code=code if re.fullmatch(r"\w{1,64}", code) else "")


def judge_submit(reply: Reply) -> Judged | None:
    """The rejections of the shared table, where Pika gives a code for them. What that table leaves unknown stays so: of
    no 409 or 5xx is it written that nothing was started."""
    problem = reply.json(_Problem) if reply.status in _REJECTIONS else None
    if problem is None:
        return None
    said = problem.error or _Said(code=problem.code, message=problem.message)
    return Judged(fault=to_fault(said, of=f"the request ({reply.status})")) if said.code in _KINDS else None


def to_status(job: _Job) -> Status:
    match job.status:
        case "queued":
            return Queued()
        case "completed" if job.videos:
            return Succeeded(videos=job.videos, cost_usd_micros=job.cost_usd_micros)
        case "completed" if not job.is_being_billed:
            fault = to_fault(_Said(message="it ended without a file"))
            return Failed(fault=fault, cost_usd_micros=job.cost_usd_micros)
        case "failed":
            return Failed(fault=to_fault(job.error or _Said()), cost_usd_micros=job.cost_usd_micros)
        case _:
            return Running()  # a word of theirs may be new; "not ended" is all we know


# --- the adapter ------------------------------------------------------------------------------------------------------


class Adapter:
    name: str = NAME
    takes: tuple[MediaForm, ...] = (MediaForm.URL, MediaForm.UPLOAD)  # https addresses only; data URIs are refused
    finding_may_buy: Literal[True] = True  # `find` is the same POST under the same Idempotency-Key

    def __init__(self, settings: Settings, transport: Transport, *, now: Callable[[], float] = time.time) -> None:
        headers = {"x-api-key": settings.api_key.reveal()}
        secrets = (settings.api_key,)
        self._submits = transport.door(settings.base_url, headers=headers, secrets=secrets, judge=judge_submit)
        self._jobs = transport.door(settings.base_url, headers=headers, secrets=secrets)
        self._files = transport.door(settings.base_url, secrets=secrets)  # uploads go elsewhere, without the key
        self._replay_seconds = settings.replay_seconds
        self._now = now

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """One POST, whose key is `client_id`. Pika takes no callback with it."""
        body = to_body(request, model_id)
        key = {"idempotency-key": client_id}
        accepted = await self._submits.post(f"/v1/media/{model_id}", json=body, headers=key, reply=_Accepted)
        return Operation(provider=NAME, id=accepted.id)

    async def find(
        self, request: VideoRequest, *, model_id: str, client_id: str, callback_url: str | None, sent_at: datetime
    ) -> Operation | None:
        """The job of a submit whose reply was lost, by the same POST under the same key: byte for byte, so `request` is
        the one that was sent, its pictures at the same addresses.

        It finds the job or creates it, and so may buy what had not been bought, once: call it only for an attempt whose
        outcome is unknown and whose clip is still wanted. It never answers None. What it raises tells nothing about
        the first POST (a refusal may come before Pika looks at the key), so the outcome stays unknown.
        """
        # an adapter looks at no clock, but here one guards money: a key that is forgotten would buy a second clip
        age = self._now() - sent_at.timestamp()
        if age > self._replay_seconds:
            message = f"{NAME} may have forgotten a key that is {age:.0f} s old: its POST is not repeated"
            raise _unsure(Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE, message=message))
        try:
            return await self.submit(request, model_id=model_id, callback_url=None, client_id=client_id)
        except ProviderError as error:
            raise _unsure(error.fault, error) from error

    async def poll(self, operation: Operation) -> Status:
        job = await self._jobs.get(self._path(operation), reply=_Job)
        if job.status == "completed" and not job.videos:
            try:
                job.output = _Output(video=await self._content(operation))
            except ProviderError as error:
                if error.status == 409:  # Pika's "not yet", whatever the job says
                    return Running()
                if error.status != 404:
                    raise
        if job.error and job.error.message:
            job.error.message = self._jobs.scrub(job.error.message)
        return to_status(job)

    async def refresh(self, operation: Operation) -> tuple[Video, ...]:
        file = await self._content(operation)
        if not file.url:
            message = f"{NAME} has no file for this job any more"
            raise ProviderError(Fault(kind=Kind.OPERATION_LOST, verdict=Verdict.SAME, message=message))
        return (Video(url=file.url, content_type=file.content_type or "video/mp4"),)

    async def upload(self, media: Media) -> str:
        """Ask for a place, put the bytes there with the very headers that it names."""
        if media.data is None:
            raise unsupported("a picture without its bytes", by=NAME)
        asked = {"content_type": media.content_type, "size_bytes": len(media.data)}
        place = await self._jobs.ask("/v1/media/uploads", json=asked, reply=_Upload)
        await self._files.exchange("PUT", place.upload_url, content=media.data, headers=place.headers)
        return place.url

    async def _content(self, operation: Operation) -> _File:
        return await self._jobs.get(f"{self._path(operation)}/content", reply=_File)

    def _path(self, operation: Operation) -> str:
        return f"/v1/media/jobs/{quote(operation.id, safe='')}"


def _unsure(fault: Fault, error: ProviderError | None = None) -> ProviderError:
    return ProviderError(
        msgspec.structs.replace(fault, verdict=Verdict.UNSURE),
        outcome=Outcome.UNKNOWN,
        status=error.status if error else None,
        retry_after_seconds=error.retry_after_seconds if error else None,
    )
