"""Kling's own platform, in both its protocols: legacy (`/v1/videos/…`) and API 2.0 (`/{operation}/{model}`, `/tasks`).

Laws: the code in a body counts before the HTTP status (429 alone has six meanings); 200 with another code than 0 is a
failure. Every job carries our own id (`external_task_id`), which nothing may overwrite: by it a lost submission is
found. The two protocols spell everything differently; a row's model_id says which is spoken:

    legacy:{text2video|image2video}/{model_name}/{mode: std|pro|4k}
    v2:{text-to-video|image-to-video}/{model}/{resolution: 720p|1080p|4k}

API 2.0 takes an API key only; legacy also an access and a secret key, which sign each request: a refused token (1003,
1004) was made in that very moment, and is not tried again. Costs are told in units, whose price depends on the pack, or
in money without a currency (`billing[]`), so none is read. Nothing can be cancelled.

Inferred: the body of a 2.0 callback (an item of `/tasks`, or a query's whole answer); that a job ended by moderation
(only the text of its reason tells); that "not found" stands in each 1201 about an id. Not known, and so refused here:
what `camera_control` does in v2.6 and v3; shots in API 2.0 (sentences of the prompt); the shape of a clip from a last
frame alone. Callbacks carry no signature in what was read.

Sources, read 2026-11-23: kling.ai/document-api (authentication, errors, callbacks, concurrency), @ai-sdk/klingai 4.0.31
for legacy; for API 2.0 other people's clients of July to October 2026, which state live use.
"""

from __future__ import annotations

import base64
import functools
import re
import time
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import httpx
import jwt
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

NAME, LEGACY = "kling", "legacy"


class Settings(Frozen):
    """One account at Kling: `api_key`, or `access_key` and `secret_key`. With all three, the API key is used."""

    api_key: Secret | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    base_url: str = "https://api-singapore.klingai.com"  # in China https://api-beijing.klingai.com, with its own keys
    callbacks: bool = True

    def usable(self) -> bool:
        """Whether there is a whole credential."""
        return bool(self.api_key or (self.access_key and self.secret_key))


def make(settings: Settings, transport: Transport) -> Adapter:
    return Adapter(settings, transport)


class Signature(httpx.Auth):
    """Signs each request anew; sends none twice."""

    def __init__(self, access_key: Secret, secret_key: Secret, now: Callable[[], float]) -> None:
        self._access_key, self._secret_key, self._now = access_key, secret_key, now

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        now = int(self._now())  # a token holds 1800 s, and from 5 s ago, for a Kling whose clock is behind ours
        claims = {"iss": self._access_key.reveal(), "exp": now + 1800, "nbf": now - 5}
        request.headers["authorization"] = f"Bearer {jwt.encode(claims, self._secret_key.reveal(), algorithm='HS256')}"
        yield request


# --- what Kling calls our fields --------------------------------------------------------------------------------------


class Route(NamedTuple):
    """A model_id, taken apart."""

    protocol: str
    operation: str
    model: str
    quality: str

    @classmethod
    def of(cls, model_id: str) -> Route:
        if (found := re.fullmatch(r"(legacy|v2):([\w-]+)/([\w.-]+)/(\w+)", model_id)) is None:
            raise unsupported("model_id", by=f"{NAME}'s {model_id}")
        return cls(*found.groups())

    @property
    def path(self) -> str:
        return f"/v1/videos/{self.operation}" if self.protocol == LEGACY else f"/{self.operation}/{self.model}"


_BATCH = Route("v2", "", "", "")  # `/tasks` is the same for all of API 2.0
_FRAMES = {"first_frame", "last_frame"}
_V3 = {"negative_prompt", "cfg_scale", "audio", "shots"}
# protocol, operation and model → which of our fields it has a word for, beside the prompt and the seconds
_WORDS: dict[tuple[str, str, str], set[str]] = {
    (LEGACY, "text2video", "kling-v3"): _V3 | {"aspect_ratio"},
    (LEGACY, "image2video", "kling-v3"): _V3 | _FRAMES,
    (LEGACY, "text2video", "kling-v2-6"): {"negative_prompt", "audio", "aspect_ratio"},
    (LEGACY, "image2video", "kling-v2-6"): {"negative_prompt", "audio"} | _FRAMES,
    ("v2", "text-to-video", "kling-3.0"): {"audio", "aspect_ratio"},
    ("v2", "image-to-video", "kling-3.0"): {"audio"} | _FRAMES,
    ("v2", "text-to-video", "kling-3.0-turbo"): {"aspect_ratio"},
    ("v2", "image-to-video", "kling-3.0-turbo"): {"first_frame"},
}
_FIELDS = {"negative_prompt", "cfg_scale", "seed", "aspect_ratio", "references", "shots", "camera"} | _FRAMES


def to_body(request: VideoRequest, model_id: str, *, client_id: str, callback_url: str | None) -> dict[str, Any]:
    """The body for `model_id`. Raises ProviderError(UNSUPPORTED) for a field it has no word for. The caller's own
    fields (`options`) overrule everything but our id and address."""
    route, by = Route.of(model_id), f"{NAME}'s {model_id}"
    words = _WORDS.get(route[:3])
    if words is None:
        raise unsupported("model_id", by=by)
    refused = {
        "audio off": "audio" not in words and not request.audio,  # turbo's clips carry sound, whatever is asked
        "prompt beside shots": request.shots and request.prompt,
        "last_frame beside shots": request.shots and request.last_frame,
        "last_frame without first_frame": request.last_frame and not request.first_frame,
    } | {field: getattr(request, field) not in (None, "", ()) for field in _FIELDS - words}
    if asked := [field for field, is_asked in refused.items() if is_asked]:
        raise unsupported(asked[0], by=by)
    ours = {"external_task_id": client_id} | ({"callback_url": callback_url} if callback_url else {})
    theirs: dict[str, Any] = request.options.get(NAME, {})
    if route.protocol == LEGACY:
        return theirs | _legacy(request, route, words) | ours  # options add fields; what the quote rests on stays
    body = _v2(request, route, words)
    inner = {name: table for name, table in theirs.items() if isinstance(table, dict)}
    tables = {"settings": inner.get("settings", {}) | body["settings"], "options": inner.get("options", {}) | ours}
    return theirs | body | tables


def _legacy(request: VideoRequest, route: Route, words: set[str]) -> dict[str, Any]:
    shots = [{"prompt": shot.prompt, "duration": str(shot.seconds)} for shot in request.shots]
    said = {
        "model_name": route.model,
        "mode": route.quality,
        "duration": str(request.seconds),
        "sound": ("on" if request.audio else "off") if "audio" in words else None,
        "prompt": request.prompt or None,
        "negative_prompt": request.negative_prompt,
        "cfg_scale": request.cfg_scale,
        "aspect_ratio": request.aspect_ratio,
        "image": request.first_frame and _picture(request.first_frame),
        "image_tail": request.last_frame and _picture(request.last_frame),
        "multi_shot": True if shots else None,
        "shot_type": "customize" if shots else None,
        "multi_prompt": [{"index": number} | shot for number, shot in enumerate(shots, start=1)] or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _v2(request: VideoRequest, route: Route, words: set[str]) -> dict[str, Any]:
    """Nested; durations are numbers. Unsaid, 3.0 may cut one prompt into several shots; turbo has no word for that."""
    settings: dict[str, Any] = {"resolution": route.quality, "duration": request.seconds}
    settings |= {"audio": "native" if request.audio else "off", "multi_shot": False} if "audio" in words else {}
    settings |= {"aspect_ratio": request.aspect_ratio} if request.aspect_ratio else {}
    if route.operation == "text-to-video":
        return {"prompt": request.prompt, "settings": settings}
    contents = [{"type": "prompt", "text": request.prompt}] if request.prompt else []
    frames = {"first_frame": request.first_frame, "last_frame": request.last_frame}
    contents += [{"type": name, "url": _picture(frame)} for name, frame in frames.items() if frame]
    return {"contents": contents, "settings": settings}


def _picture(media: Media) -> str:
    """Its address, or its bytes in base64 without the `data:` before it."""
    handed = media.handed or base64.b64encode(media.data or b"").decode()
    if not handed:  # left out, it would be a clip from the text alone, and paid
        raise unsupported("a picture that was not handed over", by=NAME)
    return handed


# --- what Kling answers -----------------------------------------------------------------------------------------------


class _File(msgspec.Struct):
    url: str | None = None
    type: str = "video"


class _Result(msgspec.Struct):
    videos: tuple[_File, ...] | None = None


class _Task(msgspec.Struct):
    """One job, in the words of legacy or of API 2.0."""

    task_id: str | int | None = None
    id: str | int | None = None
    external_id: str | None = None
    task_status: str | None = None
    status: str | None = None
    task_status_msg: str | None = None
    message: str | None = None
    task_result: _Result | None = None
    outputs: tuple[_File, ...] | None = None

    @property
    def name(self) -> str:
        return str(self.task_id or self.id or "")

    @property
    def urls(self) -> list[str]:
        files = (self.task_result and self.task_result.videos) or self.outputs or ()
        return [file.url for file in files if file.url and file.type == "video"]


class _Answer(_Task):
    """The envelope, with one job or several in it; in a callback, also the bare job."""

    data: _Task | tuple[_Task, ...] | None = None

    @property
    def tasks(self) -> list[_Task]:
        inside = (self.data,) if isinstance(self.data, _Task) else self.data or ()
        return [task for task in inside if task.name]


class _Said(msgspec.Struct):
    """What stands around every answer. Relays have been seen to make "0" or 0.0 of its code."""

    code: int | float | str | None = None
    message: str | None = None
    request_id: str | None = None

    @property
    def number(self) -> int:
        """0 when all is well; -1 for a code that is no whole number."""
        found = re.fullmatch(r"(\d+)(\.0*)?", str(self.code or 0))
        return int(found[1]) if found else -1


# kling.ai/document-api error codes: what was refused, so that nothing was made. 5000 to 5002 leave it open.
_REFUSALS = (
    dict.fromkeys((1000, 1001, 1002, 1003, 1004, 1100, 1304), Kind.AUTHENTICATION)
    | dict.fromkeys((1101, 1102), Kind.INSUFFICIENT_FUNDS)  # in arrears; the pack is used up or over
    | {1103: Kind.UNSUPPORTED}  # this account has no right to this model; to others it may have
    | dict.fromkeys((1200, 1201), Kind.INVALID_REQUEST)
    | dict.fromkeys((1202, 1203), Kind.UNAVAILABLE)  # no such address; no such model
    | dict.fromkeys((1300, 1301), Kind.CONTENT_POLICY)
    | dict.fromkeys((1302, 1303), Kind.RATE_LIMITED)  # too often; every slot of the pack is taken
)
_NOT_THERE = dict.fromkeys((1201, 1202, 1203), Kind.OPERATION_LOST)  # of a job that was asked for by its id
_WITHHELD = re.compile(r"risk control|sensitive|moderation|content (security|safety|policy)|violat", re.IGNORECASE)


def judge(reply: Reply, *, buys: bool) -> Judged | None:
    """Kling's own code, whatever the status; where it says nothing, the shared table's word stands."""
    said = reply.json(_Said)
    if said is None or not said.number or (said.number not in _REFUSALS and not reply.is_ok):
        return None
    message = f"Kling said {said.code}: {said.message or 'nothing more'} (request {said.request_id or 'unnamed'})"
    refused = _REFUSALS.get(said.number)
    if not buys:
        kind, verdict = _NOT_THERE.get(said.number, refused or Kind.UNAVAILABLE), Verdict.SAME
    elif refused is None:
        kind, verdict = Kind.UNKNOWN, Verdict.UNSURE
    else:
        kind, verdict = refused, Verdict.NEVER if refused is Kind.CONTENT_POLICY else Verdict.ELSEWHERE
    outcome = Outcome.REJECTED if refused else Outcome.UNKNOWN
    return Judged(fault=Fault(kind=kind, verdict=verdict, message=message, code=str(said.number)), outcome=outcome)


def to_status(task: _Task) -> Status:
    match task.task_status or task.status:
        case "submitted":
            return Queued()
        case "succeed" | "succeeded":
            return Succeeded(videos=(Video(url=task.urls[0]),)) if task.urls else _failed("it ended without a file")
        case "failed":
            return _failed(task.task_status_msg or task.message or "nothing more")
        case _:
            return Running()  # "processing"; another word of theirs may be new: "not ended" is all we know


def _failed(text: str) -> Failed:
    kind, verdict = Kind.GENERATION_FAILED, Verdict.ELSEWHERE
    if _WITHHELD.search(text):
        kind, verdict = Kind.CONTENT_POLICY, Verdict.NEVER
    return Failed(fault=Fault(kind=kind, verdict=verdict, message=f"Kling said of this job: {text[:400]}"))


def _lost(id: str) -> ProviderError:
    return ProviderError(Fault(kind=Kind.OPERATION_LOST, verdict=Verdict.SAME, message=f"Kling knows no {id[:128]}"))


# --- the adapter ------------------------------------------------------------------------------------------------------


class Adapter:
    name: str = NAME
    takes: tuple[MediaForm, ...] = (MediaForm.URL, MediaForm.BYTES)
    absence_disproves: Literal[True] = True  # it looks up by our own id; that it does so without delay is inferred

    def __init__(self, settings: Settings, transport: Transport, *, now: Callable[[], float] = time.time) -> None:
        key, access, secret = settings.api_key, settings.access_key, settings.secret_key
        if not settings.usable():
            raise ValueError("kling wants an api_key, or an access_key and a secret_key")
        headers = {"authorization": f"Bearer {key.reveal()}"} if key else {}
        auth = Signature(access, secret, now) if access and secret and not key else None
        secrets = filter(None, (key, access, secret))
        door = functools.partial(transport.door, settings.base_url, auth=auth, headers=headers, secrets=[*secrets])
        self._callbacks = settings.callbacks
        self._has_api_key = bool(settings.api_key)
        self._submits = door(judge=functools.partial(judge, buys=True))
        self._reads = door(judge=functools.partial(judge, buys=False))

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        route = Route.of(model_id)
        if route.protocol != LEGACY and not self._has_api_key:
            raise unsupported("an access_key: API 2.0 wants an api_key", by=NAME)
        url = callback_url if self._callbacks else None
        body = to_body(request, model_id, client_id=client_id, callback_url=url)
        answer = await self._submits.post(route.path, json=body, reply=_Answer)
        if not answer.tasks:
            raise ProviderError(Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE, message="Kling gave no job's id"))
        return _operation(answer.tasks[0], model_id)

    async def poll(self, operation: Operation) -> Status:
        route = Route.of(operation.ref["endpoint"])
        tasks = await self._read(route, operation.id)
        known = [task for task in tasks if route.protocol == LEGACY or task.name == operation.id]
        if not known:
            raise _lost(operation.id)
        return to_status(known[0])

    async def poll_many(self, operations: list[Operation]) -> list[Status]:
        """One call for all of API 2.0, one for each of legacy. Raises OPERATION_LOST when any is not known."""
        ids = [one.id for one in operations if Route.of(one.ref["endpoint"]).protocol != LEGACY]
        tasks = await self._read(_BATCH, ",".join(ids)) if ids else []
        known = {task.name: to_status(task) for task in tasks}
        return [known[one.id] if one.id in known else await self.poll(one) for one in operations]

    async def find(
        self, request: VideoRequest, *, model_id: str, client_id: str, callback_url: str | None, sent_at: datetime
    ) -> Operation | None:
        """By our own id. None only when Kling says in so many words that there is no such job."""
        route = Route.of(model_id)
        try:
            tasks = await self._read(route, client_id, by="external_task_ids")
        except ProviderError as error:
            if error.fault.code == "1201" and "not found" in error.fault.message.lower():
                return None
            raise
        if route.protocol == LEGACY and not tasks:
            raise _lost(client_id)  # an answer of no documented form is no proof
        ours = [task for task in tasks if task.external_id in (None, "", client_id)]
        return _operation(ours[0], model_id) if ours else None

    def operation_in(self, body: bytes, *, model_id: str) -> Operation | None:
        try:
            ring = msgspec.json.decode(body, type=_Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        task = next(iter(ring.tasks), ring)
        is_id = isinstance(task.task_id or task.id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", task.name)
        return _operation(task, model_id) if is_id else None

    async def _read(self, route: Route, id: str, *, by: str = "task_ids") -> list[_Task]:
        """Legacy takes our id in the place of its own."""
        if route.protocol == LEGACY:
            answer = await self._reads.get(f"{route.path}/{quote(id, safe='')}", reply=_Answer)
        else:
            answer = await self._reads.get("/tasks", params={by: id}, reply=_Answer)
        for task in answer.tasks:
            said = task.task_status_msg or task.message
            task.task_status_msg = self._reads.scrub(said) if said else None
        return answer.tasks


def _operation(task: _Task, model_id: str) -> Operation:
    return Operation(provider=NAME, id=task.name, ref={"endpoint": model_id})
