"""fal: one POST puts a request in fal's queue, a GET reads its place, a second GET its result.

Laws: a job has succeeded only when its result has answered 2xx with a file; the queue says COMPLETED of failures too,
and a moderation may show in the result alone. fal ignores fields that it does not know, so what an endpoint has no word
for is refused here, before anything is paid. fal's own retries are off (`x-fal-no-retry`): failing over is the
gateway's, and a second render nobody asked for is a second wait.

What fal bills is not told in money: `X-Fal-Billable-Units` counts in a unit that differs per model and is nowhere
written down, so no cost is read from it. A submit has no idempotency key, and no 5xx of fal's is documented as "nothing
was queued": each leaves the outcome unknown.

Sources, read 2026-11-23: fal.ai/docs inference-api/queue, reliability/retries, errors/request-errors, webhooks; fields
per endpoint from the types of @fal-ai/client at github.com/fal-ai/fal-js, commit 381105e (2026-08-02).
"""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import Annotated, Any
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

NAME = "fal"


class Settings(Frozen):
    """One account at fal. `api_key` is the joined form, `key_id:key_secret`."""

    api_key: Secret
    base_url: str = "https://queue.fal.run"
    rest_url: str = "https://rest.fal.ai"  # uploads and fal's public keys
    api_url: str = "https://api.fal.ai"  # lists of past requests
    callbacks: bool = True


def make(settings: Settings, transport: Transport) -> Adapter:
    return Adapter(settings, transport)


# --- what fal calls our fields ----------------------------------------------------------------------------------------


_BASIC = {"prompt": "prompt", "seconds": "duration"}
_SHAPE = {"aspect_ratio": "aspect_ratio"}
_AUDIO = {"audio": "generate_audio"}
_SHOTS = {"shots": "multi_prompt"}
_CUTS = _SHOTS | {"shot_type": "shot_type"}
_NEGATIVE = {"negative_prompt": "negative_prompt"}
_TUNING = _NEGATIVE | {"cfg_scale": "cfg_scale"}
_START = {"first_frame": "start_image_url"}
_IMAGE = {"first_frame": "image_url"}
_END = {"last_frame": "end_image_url"}
_SEVERAL = {"references": "image_urls"}
_PIKA = _BASIC | _NEGATIVE | {"resolution": "resolution", "seed": "seed"}
_KLING = "fal-ai/kling-video/"

# endpoint → its fields, ours to fal's; the first pattern that fits counts. Kling's resolution is the tier in its path.
_WORDS = (
    (_KLING + "v3/turbo/*/text-to-video", _BASIC | _SHOTS | _SHAPE),
    (_KLING + "v3/turbo/*/image-to-video", _BASIC | _SHOTS | _IMAGE),
    (_KLING + "v3/*/text-to-video", _BASIC | _AUDIO | _CUTS | _TUNING | _SHAPE),
    (_KLING + "v3/*/image-to-video", _BASIC | _AUDIO | _CUTS | _TUNING | _START | _END),
    (_KLING + "o3/*/text-to-video", _BASIC | _AUDIO | _CUTS | _SHAPE),
    (_KLING + "o3/*/image-to-video", _BASIC | _AUDIO | _CUTS | _IMAGE | _END),
    (_KLING + "o3/*/reference-to-video", _BASIC | _AUDIO | _CUTS | _SHAPE | _START | _END | _SEVERAL),
    (_KLING + "v2.6/*/text-to-video", _BASIC | _AUDIO | _TUNING | _SHAPE),
    (_KLING + "v2.6/*/image-to-video", _BASIC | _AUDIO | _NEGATIVE | _START | _END),
    ("fal-ai/pika/v2*/text-to-video", _PIKA | _SHAPE),
    ("fal-ai/pika/v2*/image-to-video", _PIKA | _IMAGE),
    ("fal-ai/pika/v2*/pikascenes", _PIKA | _SHAPE | _SEVERAL),
)


def to_body(request: VideoRequest, model_id: str) -> dict[str, Any]:
    """The input of `model_id`, bare as fal wants it. Raises ProviderError(UNSUPPORTED) for a field it has no word for.

    Sound is always said where it can be: left out, it is on, and dearer.
    """
    by = f"{NAME}'s {model_id}"
    words = next((words for pattern, words in _WORDS if fnmatch.fnmatchcase(model_id, pattern)), None)
    if words is None:
        raise unsupported("model_id", by=by)
    if request.shots and request.prompt:
        raise unsupported("prompt beside shots", by=by)
    if request.last_frame and not request.first_frame and "references" not in words:
        raise unsupported("last_frame without first_frame", by=by)
    number = str if model_id.startswith(_KLING) else int  # Kling's durations are strings on the wire, Pika's are not
    asked = {
        "prompt": None if request.shots else request.prompt,
        "negative_prompt": request.negative_prompt,
        "seconds": None if request.seconds is None else number(request.seconds),
        "resolution": request.resolution if "resolution" in words else None,
        "aspect_ratio": request.aspect_ratio,
        "audio": bool(request.audio) if request.audio or "audio" in words else None,
        "first_frame": request.first_frame and _handed(request.first_frame),
        "last_frame": request.last_frame and _handed(request.last_frame),
        "references": [_handed(media) for media in request.references] or None,
        "shots": [{"prompt": shot.prompt, "duration": number(shot.seconds)} for shot in request.shots] or None,
        "shot_type": "customize" if request.shots and "shot_type" in words else None,
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
    if media.handed is None:  # left out, it would be a clip from the text alone, and paid
        raise unsupported("a picture that was not handed over", by=NAME)
    return media.handed


# --- what fal answers -------------------------------------------------------------------------------------------------


class _Accepted(msgspec.Struct):
    request_id: Annotated[str, msgspec.Meta(min_length=1)]
    status_url: str | None = None
    response_url: str | None = None
    cancel_url: str | None = None


class _Place(msgspec.Struct):
    """One answer of the queue."""

    status: str
    queue_position: int | None = None
    error: str | None = None
    error_type: str | None = None


class _File(msgspec.Struct):
    url: str | None = None
    content_type: str | None = None


class _Result(msgspec.Struct):
    video: _File | None = None


class _Upload(msgspec.Struct):
    upload_url: str
    file_url: str


class _Ring(msgspec.Struct):
    """A webhook's body, as far as it is believed: anybody may have sent it."""

    request_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class _Detail(msgspec.Struct):
    """One fault that a model found. Beside it stands `input`, the caller's own words: never read, so never shown."""

    type: str = ""
    msg: str = ""
    loc: tuple[str | int, ...] = ()


class _Problem(msgspec.Struct):
    """Both shapes of fal's errors: a model's (`detail` is a list) and the platform's (flat, with `error_type`)."""

    detail: str | tuple[_Detail, ...] | None = None
    error_type: str | None = None

    @property
    def is_models(self) -> bool:
        return isinstance(self.detail, tuple) or self.error_type in _OF_MODELS

    @property
    def word(self) -> str:
        words = [one.type for one in self.detail] if isinstance(self.detail, tuple) else [self.error_type or ""]
        return next((word for word in words if word in _OF_MODELS), next(iter(words), ""))

    @property
    def text(self) -> str:
        if isinstance(self.detail, tuple):
            return "; ".join(": ".join(filter(None, (".".join(map(str, d.loc)), d.msg))) for d in self.detail)
        return self.detail or ""


# fal.ai/docs errors, errors/request-errors; `no_media_generated` is most often a moderation that keeps silent
_OF_MODELS = dict.fromkeys(("content_policy_violation", "no_media_generated"), Kind.CONTENT_POLICY) | dict.fromkeys(
    ("internal_server_error", "generation_timeout", "downstream_service_error", "downstream_service_unavailable"),
    Kind.GENERATION_FAILED,
)
_OF_PLATFORM = {
    "client_cancelled": Kind.CANCELLED,
    "request_timeout": Kind.TIMEOUT,
    "startup_timeout": Kind.TIMEOUT,
    "bad_request": Kind.INVALID_REQUEST,
}
_REJECTIONS = dict.fromkeys((400, 413, 415, 422), Kind.INVALID_REQUEST) | {
    401: Kind.AUTHENTICATION,
    402: Kind.INSUFFICIENT_FUNDS,
    403: Kind.AUTHENTICATION,
    404: Kind.UNAVAILABLE,
    429: Kind.RATE_LIMITED,
}
_STILL_RUNNING = "Request is still in progress"  # a result asked for too early, with a 4xx


def to_fault(problem: _Problem, status: int | None) -> Fault:
    """fal's own word before the HTTP status; without either, the generation failed."""
    word, text = problem.word, problem.text
    kind = _OF_MODELS.get(word) or _OF_PLATFORM.get(word) or _REJECTIONS.get(status or 0)
    if kind is None:
        kind = Kind.UNAVAILABLE if word and not problem.is_models else Kind.GENERATION_FAILED
    if status == 403 and "locked" in text.lower():
        # "User is locked. Reason: Exhausted balance.": the money is gone (github.com/fal-ai/fal issue 1112)
        kind = Kind.INSUFFICIENT_FUNDS
    verdict = Verdict.NEVER if kind in (Kind.CONTENT_POLICY, Kind.CANCELLED) else Verdict.ELSEWHERE
    message = f"fal said {status or 'of this job'}: {text or word or 'nothing more'}"
    return Fault(kind=kind, verdict=verdict, message=message, code=word if re.fullmatch(r"\w{1,64}", word) else "")


def _problem(reply: Reply) -> _Problem | None:
    """What went wrong in fal's words, which stand in the body or in a header; None when they stand in neither."""
    problem = reply.json(_Problem) or _Problem()
    if not problem.word and not isinstance(problem.detail, tuple):
        problem = _Problem(detail=problem.detail, error_type=reply.headers.get("x-fal-error-type"))
    return problem if problem.word or problem.text else None


def judge_submit(reply: Reply) -> Judged | None:
    """The rejections of the shared table, in fal's words. What that table leaves unknown stays so."""
    problem = _problem(reply)
    return Judged(fault=to_fault(problem, reply.status)) if problem and reply.status in _REJECTIONS else None


def judge_result(reply: Reply) -> Judged | None:
    """A result's failure when it is the job's own, which never has the verdict `same`.

    A finished job's result is fixed: what a model said will be said again. What is about the key or the moment, what
    the platform says with a 5xx, and what does not come in fal's words may change, and is asked again.
    """
    problem = _problem(reply)
    if reply.is_ok or (problem and problem.text == _STILL_RUNNING):
        return None
    is_final = reply.status == 422 or (problem and (problem.is_models or reply.status in (400, 499)))
    return Judged(fault=to_fault(problem or _Problem(), reply.status)) if is_final else None


def judge_cancel(reply: Reply) -> Judged | None:
    if reply.status == 400 and (place := reply.json(_Place)) and place.status == "ALREADY_COMPLETED":
        message = "fal had already finished this job"
        return Judged(fault=Fault(kind=Kind.UNSUPPORTED, verdict=Verdict.NEVER, message=message, code=place.status))
    return None


def to_status(place: _Place, result: _Result | None = None) -> Status:
    """The queue's word; COMPLETED means what its result says."""
    match place.status, result:
        case "IN_QUEUE", _:
            return Queued(position=place.queue_position)
        case "COMPLETED", _Result(video=_File(url=str() as url, content_type=kind)) if url:
            return Succeeded(videos=(Video(url=url, content_type=kind or "video/mp4"),))
        case "COMPLETED", _:
            said = _Problem(detail=place.error or "it ended without a file", error_type=place.error_type)
            return Failed(fault=to_fault(said, None))
        case _:
            return Running()  # a word of theirs may be new; "not ended" is all we know


# --- the adapter ------------------------------------------------------------------------------------------------------


class Adapter:
    name: str = NAME
    takes: tuple[MediaForm, ...] = (MediaForm.URL, MediaForm.UPLOAD, MediaForm.DATA_URI)  # what it can fetch, it shall

    def __init__(self, settings: Settings, transport: Transport) -> None:
        key = settings.api_key.reveal()
        half = key.partition(":")[2]
        secrets = [settings.api_key, *([Secret(half)] if len(half) >= 8 else [])]
        headers = {"authorization": f"Key {key}"}
        queue = functools.partial(transport.door, settings.base_url, headers=headers, secrets=secrets)
        self._base = settings.base_url.rstrip("/")
        self._callbacks = settings.callbacks
        self._submits = queue(judge=judge_submit)
        self._places = queue()
        self._results = queue(judge=judge_result)
        self._cancels = queue(judge=judge_cancel)
        self._rest = transport.door(settings.rest_url, headers=headers, secrets=secrets)
        self._files = transport.door(settings.rest_url, secrets=secrets)  # its uploads go elsewhere, without the key

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """One POST. fal takes no id of ours: what names a submission whose reply was lost is its callback."""
        accepted = await self._submits.post(
            f"/{model_id}",
            json=to_body(request, model_id),
            params={"fal_webhook": callback_url} if callback_url and self._callbacks else None,
            headers={"x-fal-no-retry": "1"},
            reply=_Accepted,
        )
        urls = {"status": accepted.status_url, "response": accepted.response_url, "cancel": accepted.cancel_url}
        ref = {"endpoint": model_id, **{name: url for name, url in urls.items() if url}}
        return Operation(provider=NAME, id=accepted.request_id, ref=ref)

    async def poll(self, operation: Operation) -> Status:
        place = await self._places.get(self._address(operation, "status", "/status"), reply=_Place)
        if place.status != "COMPLETED":
            return to_status(place)
        try:
            result = await self._results.get(self._address(operation, "response", ""), reply=_Result)
        except ProviderError as error:
            if error.fault.verdict is not Verdict.SAME:
                return Failed(fault=error.fault)
            if error.status is None or not (place.error_type or (place.error and error.status == 404)):
                raise
            result = None  # the queue has said enough: a type, or why there is no result any more
        place.error = place.error and self._places.scrub(place.error)
        return to_status(place, result)

    async def cancel(self, operation: Operation) -> None:
        await self._cancels.exchange("PUT", self._address(operation, "cancel", "/cancel"))

    def operation_in(self, body: bytes, *, model_id: str) -> Operation | None:
        try:
            ring = msgspec.json.decode(body, type=_Ring)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return Operation(provider=NAME, id=ring.request_id, ref={"endpoint": model_id})

    async def upload(self, media: Media) -> str:
        """As fal's own client does: ask for a place (`storage/upload/initiate`), put the bytes there."""
        if media.data is None:
            raise unsupported("a picture without its bytes", by=NAME)
        kind = media.content_type
        place = await self._rest.ask(
            "/storage/upload/initiate?storage_type=fal-cdn-v3",
            json={"content_type": kind, "file_name": f"{media.sha256[:16]}.{kind.rpartition('/')[2]}"},
            reply=_Upload,
        )
        await self._files.exchange("PUT", place.upload_url, content=media.data, headers={"content-type": kind})
        return place.file_url

    def _address(self, operation: Operation, name: str, suffix: str) -> str:
        """The address that fal gave, when it is still at our base; else the short form, owner and app only."""
        given = operation.ref.get(name, "")
        if given.startswith(self._base + "/"):
            return given
        path = operation.ref["endpoint"].split("/")
        app = path[: 3 if path[0] in ("workflows", "comfy") else 2]
        return f"{self._base}/{'/'.join(app)}/requests/{quote(operation.id, safe='')}{suffix}"
