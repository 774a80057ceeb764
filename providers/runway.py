"""Runway: one POST starts a task, one GET reads it, one DELETE stops it; its own models and other vendors' alike.

Laws: `model_id` reads `endpoint/model` (`image_to_video/gen4.5`). A size is a pair of pixels, one for each resolution
and shape of each model; what has no pair is refused, never rounded. `cost.credits` of an ended task, a cent each, is
what it cost, however it ended. THROTTLED is a place in Runway's own queue, not a fault.

A DELETE stops a task that goes on, but destroys the clip of one that has ended: a cancel therefore reads the task
first, and one that ends between the two calls is lost with its price. A stopped task can't be fetched again: a 404
after a DELETE is Runway's word for "stopped", told from a lost task only by remembering what was deleted. It may have
been billed, so where it does not tell its cost its price counts.

There is no idempotency key, no callback and no list, and no 5xx is documented as "nothing was created": a lost reply
stays unknown. Pictures are uploaded, because a URL must pass checks (HEAD, no redirect, exact type) that many don't.

Inferred, not read: that a 404 has no other cause than a DELETE; that Kling's `duration` may stand beside its shots, as
their sum; that CANCELED, in one of Runway's documents, is CANCELLED. Of an empty purse the sentence is known, not its
status (github.com/runwayml/sdk-node issue 28). Whether a stopped task answers 404 or CANCELLED, its documents tell in
both ways; both are understood.

Sources, read 2026-11-23: docs.dev.runwayml.com errors/errors, errors/task-failures, api-details/moderation,
assets/inputs; types and docstrings of runwayml 5.24.0.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple
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

NAME = "runway"
VERSION = "2024-11-06"  # of the API; the only one that its clients of November 2026 know
USD_MICROS_PER_CREDIT = 10_000


class Settings(Frozen):
    """One project at Runway; `api_key` is what its clients call the API secret."""

    api_key: Secret
    base_url: str = "https://api.dev.runwayml.com"


def make(settings: Settings, transport: Transport) -> Adapter:
    return Adapter(settings, transport)


# --- what Runway calls our fields -------------------------------------------------------------------------------------


class _Words(NamedTuple):
    """What one model takes at one endpoint, beside prompt and duration."""

    pairs: dict[str, dict[str, str]]  # resolution → shape → pixels
    fields: frozenset[str]
    needs_prompt: bool = False
    follows_first: bool = False  # between two frames, the clip has the first one's shape, whatever is asked


def _row(pairs: str, shapes: str = "16:9 9:16 1:1") -> dict[str, str]:
    return dict(zip(shapes.split(), pairs.split(), strict=True))


_WIDE = "21:9 16:9 4:3 1:1 3:4 9:16"
_HD = _row("1280:720 720:1280", "16:9 9:16")
_GEN4 = {"720p": _row("1584:672 1280:720 1104:832 960:960 832:1104 720:1280", _WIDE)}
_VEO = {"720p": _HD, "1080p": _row("1920:1080 1080:1920", "16:9 9:16")}
_KLING = {
    "standard": {"720p": _row("1280:720 720:1280 960:960")},
    "pro": {"1080p": _row("1920:1080 1080:1920 1440:1440")},
    "4k": {"4k": _row("3840:2160 2160:3840 2880:2880")},
}
_SEEDANCE = {
    "480p": _row("992:432 864:496 752:560 640:640 560:752 496:864", _WIDE),
    "720p": _row("1470:630 1280:720 1112:834 960:960 834:1112 720:1280", _WIDE),
    "1080p": _row("2206:946 1920:1080 1664:1248 1440:1440 1248:1664 1080:1920", _WIDE),
    "4k": _row("3840:1646 3840:2160 3840:2880 3840:3840 2880:3840 2160:3840", _WIDE),
}
_SEEDED = frozenset({"seed"})
_START = frozenset({"first_frame"})
_FRAMES = frozenset({"first_frame", "last_frame"})
_VEO_FIELDS = frozenset({"audio", "seed", "negative_prompt"})
_KLING_FIELDS = frozenset({"audio", "cfg_scale", "shots"})
_SEEDANCE_FIELDS = frozenset({"audio", "seed"})

_MODELS: dict[str, _Words] = {
    "text_to_video/gen4.5": _Words({"720p": _HD}, _SEEDED, needs_prompt=True),
    "image_to_video/gen4.5": _Words(_GEN4, _SEEDED | _START, needs_prompt=True),
    "image_to_video/gen4_turbo": _Words(_GEN4, _SEEDED | _START),
    "text_to_video/seedance2": _Words(_SEEDANCE, _SEEDANCE_FIELDS | {"references"}, needs_prompt=True),
    "image_to_video/seedance2": _Words(_SEEDANCE, _SEEDANCE_FIELDS | _FRAMES),
}
for _model in ("veo3.1", "veo3.1_fast"):
    _MODELS[f"text_to_video/{_model}"] = _Words(_VEO, _VEO_FIELDS, needs_prompt=True)
    _MODELS[f"image_to_video/{_model}"] = _Words(_VEO, _VEO_FIELDS | _FRAMES)
for _tier, _pairs in _KLING.items():
    _MODELS[f"text_to_video/kling3.0_{_tier}"] = _Words(_pairs, _KLING_FIELDS)
    _MODELS[f"image_to_video/kling3.0_{_tier}"] = _Words(_pairs, _KLING_FIELDS | _FRAMES, follows_first=True)


def to_body(request: VideoRequest, model_id: str) -> dict[str, Any]:
    """The input of `model_id`. Raises ProviderError(UNSUPPORTED) for what it has no word for.

    Sound is always said where it can be: left out, it is on with some models, and dearer.
    """
    by = f"{NAME}'s {model_id}"
    words = _MODELS.get(model_id)
    if words is None:
        raise unsupported("model_id", by=by)
    if request.references and (request.first_frame or request.last_frame):
        raise unsupported("references beside first_frame or last_frame", by=by)
    asked: dict[str, Any] = {
        "audio": bool(request.audio) if request.audio or "audio" in words.fields else None,
        "references": [{"uri": _handed(media)} for media in request.references] or None,
        "shots": [{"prompt": shot.prompt, "duration": shot.seconds} for shot in request.shots] or None,
        "last_frame": request.last_frame and {"uri": _handed(request.last_frame), "position": "last"},
        "first_frame": request.first_frame and {"uri": _handed(request.first_frame), "position": "first"},
        "negative_prompt": request.negative_prompt or None,
        "camera": request.camera,
        "seed": request.seed,
        "cfg_scale": request.cfg_scale,
    }
    asked = {field: value for field, value in asked.items() if value is not None}
    for field in asked:
        if field not in words.fields:
            raise unsupported(field, by=by)
    if "last_frame" in asked and "first_frame" not in asked:
        raise unsupported("last_frame without first_frame", by=by)
    if request.shots and request.prompt:
        raise unsupported("prompt beside shots", by=by)
    if words.needs_prompt and not request.prompt:
        raise unsupported("a clip without a prompt", by=by)
    body = {
        "model": model_id.partition("/")[2],
        "ratio": _pair(request, words, by=by),
        "promptText": request.prompt or None,
        "duration": request.seconds,
        "promptImage": [asked[field] for field in ("first_frame", "last_frame") if field in asked] or None,
        "audio": asked.get("audio"),
        "references": asked.get("references"),
        "providerSettings": {"multiPrompt": asked["shots"], "shotType": "customize"} if request.shots else None,
        "negativePrompt": asked.get("negative_prompt"),
        "seed": asked.get("seed"),
        "cfgScale": asked.get("cfg_scale"),
    }
    return request.options.get(NAME, {}) | {name: value for name, value in body.items() if value is not None}


def _pair(request: VideoRequest, words: _Words, *, by: str) -> str:
    """The pixels for what was asked, when they are exactly that."""
    pair = words.pairs.get(request.resolution or "", {}).get(request.aspect_ratio or "")
    if pair is None:
        raise unsupported(f"aspect_ratio {request.aspect_ratio} at {request.resolution}", by=by)
    width, height = map(int, pair.split(":"))
    if request.width is not None and (request.width, request.height) != (width, height):
        raise unsupported(f"size {request.width}x{request.height} (its {request.aspect_ratio} is {pair})", by=by)
    first = request.first_frame
    if (
        words.follows_first
        and first
        and request.last_frame
        and abs(first.width / first.height * height / width - 1) > 0.02
    ):
        raise unsupported(f"last_frame in a {request.aspect_ratio} clip from a picture of another shape", by=by)
    return pair


def _handed(media: Media) -> str:
    if media.handed is None:  # left out, it would be a clip from the text alone, and paid
        raise unsupported("a picture that was not handed over", by=NAME)
    return media.handed


# --- what Runway answers ----------------------------------------------------------------------------------------------


class _Created(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1)]


class _Cost(msgspec.Struct):
    credits: float


class _Task(msgspec.Struct, rename="camel"):
    status: str
    progress: float | None = None
    output: tuple[str, ...] = ()
    failure: str | None = None
    failure_code: str | None = None
    cost: _Cost | None = None


class _Place(msgspec.Struct, rename="camel"):
    """Where an upload goes, and what it is called afterwards."""

    upload_url: str
    fields: dict[str, str]
    runway_uri: str


class _Issue(msgspec.Struct):
    path: tuple[str | int, ...] = ()
    message: str = ""


class _Problem(msgspec.Struct):
    """A refusal. An issue may hold more, the caller's own words among it: never read, so never shown."""

    error: str
    issues: tuple[_Issue, ...] = ()

    @property
    def text(self) -> str:
        return "; ".join([self.error, *(f"{'.'.join(map(str, one.path))}: {one.message}" for one in self.issues)])


# docs errors/task-failures; the set is open, so the longest dotted beginning that is known counts
_FAILURES = {
    "SAFETY": (Kind.CONTENT_POLICY, Verdict.NEVER),
    "INPUT_PREPROCESSING.SAFETY": (Kind.CONTENT_POLICY, Verdict.NEVER),
    "ASSET.INVALID": (Kind.INVALID_REQUEST, Verdict.ELSEWHERE),
    "THIRD_PARTY.UNAVAILABLE": (Kind.UNAVAILABLE, Verdict.ELSEWHERE),
}


def to_fault(code: str, text: str) -> Fault:
    """A failed task's fault. Whatever has no better name is a failed generation."""
    parts = code.split(".")
    starts = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    kind, verdict = next(
        (_FAILURES[start] for start in starts if start in _FAILURES), (Kind.GENERATION_FAILED, Verdict.ELSEWHERE)
    )
    said = f"Runway said of this task: {text or code or 'nothing more'}"
    return Fault(
        kind=kind, verdict=verdict, message=said[:500], code=code if re.fullmatch(r"[\w.]{1,64}", code) else ""
    )


def judge_submit(reply: Reply) -> Judged | None:
    """An empty purse, and a 400 in Runway's words. What the shared table leaves unknown stays so."""
    problem = reply.json(_Problem)
    if problem is None or reply.status not in (400, 402, 403, 429):
        return None
    kind = Kind.INSUFFICIENT_FUNDS if "enough credits" in problem.error.lower() else Kind.INVALID_REQUEST
    if kind is Kind.INVALID_REQUEST and reply.status != 400:
        return None
    said = f"Runway said {reply.status}: {problem.text}"
    return Judged(fault=Fault(kind=kind, verdict=Verdict.ELSEWHERE, message=said), outcome=Outcome.REJECTED)


def to_status(task: _Task) -> Status:
    """Runway's word for a task, with what it cost once it has ended."""
    cost = None if task.cost is None else round(task.cost.credits * USD_MICROS_PER_CREDIT)
    match task.status:
        case "PENDING" | "THROTTLED":
            return Queued()
        case "SUCCEEDED" if task.output:
            return Succeeded(videos=tuple(Video(url=url) for url in task.output), cost_usd_micros=cost)
        case "SUCCEEDED":
            return Failed(fault=to_fault("", "it ended without a file"), cost_usd_micros=cost)
        case "FAILED":
            return Failed(fault=to_fault(task.failure_code or "", task.failure or ""), cost_usd_micros=cost)
        case "CANCELLED" | "CANCELED":
            return Failed(fault=_STOPPED, cost_usd_micros=cost)
        case _:  # RUNNING, or a word that is new
            return Running(progress=None if task.progress is None else min(max(task.progress, 0.0), 1.0))


_STOPPED = Fault(kind=Kind.CANCELLED, verdict=Verdict.NEVER, message="Runway has stopped this task", code="CANCELLED")


# --- the adapter ------------------------------------------------------------------------------------------------------


class Adapter:
    name: str = NAME
    takes: tuple[MediaForm, ...] = (MediaForm.UPLOAD, MediaForm.URL, MediaForm.DATA_URI)

    def __init__(self, settings: Settings, transport: Transport) -> None:
        headers = {"authorization": f"Bearer {settings.api_key.reveal()}", "x-runway-version": VERSION}
        secrets = [settings.api_key]
        self._submits = transport.door(settings.base_url, headers=headers, secrets=secrets, judge=judge_submit)
        self._tasks = transport.door(settings.base_url, headers=headers, secrets=secrets)
        self._files = transport.door(settings.base_url, secrets=secrets)  # uploads go elsewhere, without the key
        self._deleted: dict[str, None] = {}  # ids in the order in which they were deleted

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """One POST. Runway takes neither an id of ours nor a callback, so a lost reply can't be traced."""
        body = to_body(request, model_id)
        created = await self._submits.post(f"/v1/{model_id.partition('/')[0]}", json=body, reply=_Created)
        return Operation(provider=NAME, id=created.id)

    async def poll(self, operation: Operation) -> Status:
        try:
            task = await self._tasks.get(_path(operation), reply=_Task)
        except ProviderError as error:
            if error.fault.kind is Kind.OPERATION_LOST and operation.id in self._deleted:
                return Failed(fault=_STOPPED)
            raise
        task.failure = task.failure and self._tasks.scrub(task.failure)
        return to_status(task)

    async def cancel(self, operation: Operation) -> None:
        """A task that Runway does not know has been deleted before, by this process or by one before it."""
        try:
            status = to_status(await self._tasks.get(_path(operation), reply=_Task))
        except ProviderError as error:
            if error.fault.kind is not Kind.OPERATION_LOST:
                raise
            self._remember(operation.id)
            return
        if isinstance(status, Succeeded | Failed):
            message = "Runway had already ended this task; a DELETE would destroy its clip"
            raise ProviderError(Fault(kind=Kind.UNSUPPORTED, verdict=Verdict.NEVER, message=message))
        self._remember(operation.id)  # before it is sent: its reply may be lost
        await self._tasks.exchange("DELETE", _path(operation))

    async def refresh(self, operation: Operation) -> tuple[Video, ...]:
        """A link lasts 24 to 48 hours; each GET of the task gives a fresh one."""
        status = await self.poll(operation)
        return status.videos if isinstance(status, Succeeded) else ()

    async def upload(self, media: Media) -> str:
        """As Runway's own clients do: ask for a place, then POST a form there. Kept for a day."""
        if media.data is None:
            raise unsupported("a picture without its bytes", by=NAME)
        name = f"{media.sha256[:16]}.{media.content_type.rpartition('/')[2]}"
        asked = {"filename": name, "type": "ephemeral"}
        place = await self._tasks.ask("/v1/uploads", json=asked, reply=_Place)
        boundary = f"filmgate-{media.sha256[:32]}"  # of the picture's own hash, so it does not stand in the picture
        await self._files.exchange(
            "POST",
            place.upload_url,
            content=_form(place.fields, media.data, name=name, content_type=media.content_type, boundary=boundary),
            headers={"content-type": f"multipart/form-data; boundary={boundary}"},
        )
        return place.runway_uri

    def _remember(self, id: str) -> None:
        self._deleted[id] = None
        if len(self._deleted) > 10_000:
            del self._deleted[next(iter(self._deleted))]


def _path(operation: Operation) -> str:
    return f"/v1/tasks/{quote(operation.id, safe='')}"


def _form(fields: dict[str, str], data: bytes, *, name: str, content_type: str, boundary: str) -> bytes:
    """The given fields, then the file: a form's target reads nothing that comes after its file."""
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="'
    parts = [f'{head}{field}"\r\n\r\n{value}\r\n' for field, value in fields.items()]
    file = f'{head}file"; filename="{name}"\r\ncontent-type: {content_type}\r\n\r\n'
    return "".join((*parts, file)).encode() + data + f"\r\n--{boundary}--\r\n".encode()
