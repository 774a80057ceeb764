"""One job at fal: what its status says, and what its result turns out to be.

Law: a verdict is an HTTP answer (status, headers, body), reached once and never changed; the callback and the list
only repeat it.
"""

from __future__ import annotations

import asyncio
import datetime
from typing import Any, Protocol

import msgspec

from tests.vendors import fal_models, pictures
from tests.vendors.fal_models import Complaint, Endpoint, Loc, complaint
from tests.vendors.kit import Phase, Render
from tests.vendors.script import Act, Verb
from tests.vendors.wire import Reply, json_reply

# fal.ai/docs/documentation/model-apis/request-errors (read 2026-11-23)
REQUEST_ERRORS = {
    "request_timeout": 504,
    "startup_timeout": 504,
    "runner_scheduling_failure": 503,
    "runner_connection_timeout": 503,
    "runner_disconnected": 503,
    "runner_connection_refused": 503,
    "runner_connection_error": 503,
    "runner_incomplete_response": 502,
    "runner_server_error": 500,
    "client_disconnected": 499,
    "client_cancelled": 499,
    "bad_request": 400,
    "internal_error": 500,
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the result call answers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = {}
    error: str = ""  # shown in the status too, when the request failed rather than the model
    error_type: str = ""

    def reply(self, id: str = "") -> Reply:
        return json_reply(self.body, self.status, self.headers | ({"x-fal-request-id": id} if id else {}))

    def callback(self, id: str) -> dict[str, Any]:
        """The body of the callback that tells of it."""
        told = {"request_id": id, "gateway_request_id": id, "payload": self.body}
        if self.status < 400:
            return told | {"status": "OK"}
        return told | {"status": "ERROR", "error": f"Invalid status code: {self.status}"}


def flat_error(status: int, text: str, type: str = "") -> Verdict:
    """A request-level error: one sentence and its type, the type in a header too."""
    if not type:
        return Verdict(status=status, body={"detail": text}, error=text)
    headers = {"x-fal-error-type": type, "x-fal-needs-retry": str(int(status in (503, 504)))}
    return Verdict(
        status=status, body={"detail": text, "error_type": type}, headers=headers, error=text, error_type=type
    )


CANCELLED = flat_error(499, "Request was cancelled by the client", "client_cancelled")  # its form is inferred


class Job:
    """One paid request."""

    def __init__(
        self,
        *,
        id: str,
        number: int,
        endpoint: str,
        body: Any,
        base: str,
        callback_url: str,
        created_us: int,
        render: Render,
        fate: Act | None,
        ringing: Act | None,
    ) -> None:
        self.id = id
        self.number = number  # in the order of acceptance
        self.endpoint = endpoint
        self.body = body
        self.base = base  # the address under which the client knows us
        self.callback_url = callback_url
        self.created_us = created_us
        self.render = render
        self.fate = fate
        self.ringing = ringing
        self.verdict: Verdict | None = None
        self.lock = asyncio.Lock()
        self._oddities = fate.count if fate and fate.verb in (Verb.INVENTED_STATUS, Verb.RESULT_MISSING) else 0

    @property
    def app(self) -> str:
        """Owner and app, without the path: what fal's own addresses name."""
        return "/".join(self.endpoint.split("/")[:2])

    @property
    def model(self) -> Endpoint | None:
        return fal_models.ENDPOINTS.get(self.endpoint)

    @property
    def usd_micros(self) -> int | None:
        known = self.model is not None and isinstance(self.body, dict)
        return fal_models.usd_micros_of(self.model, self.body) if known and self.model else None

    @property
    def ended_us(self) -> int | None:
        after = self.render.ended_after
        return None if after is None else self.created_us + int(after * 1_000_000)

    def spends_oddity(self, verb: Verb) -> bool:
        """Whether this answer is one of those that the script made odd in this way; asking spends one."""
        if self.fate is None or self.fate.verb is not verb or not self._oddities:
            return False
        self._oddities -= 1
        return True

    def status(self, phase: Phase, *, queue_position: int, with_logs: bool) -> dict[str, Any]:
        """The status as JSON: three words exist, and an error shows only where the request itself failed."""
        address = f"{self.base}/{self.app}/requests/{self.id}"
        told: dict[str, Any] = {
            "request_id": self.id,
            "response_url": address,
            "status_url": f"{address}/status",
            "cancel_url": f"{address}/cancel",
        }
        logs = [self._log("render started")] if with_logs else None
        match phase:
            case Phase.QUEUED:
                return {"status": "IN_QUEUE", "queue_position": queue_position} | told
            case Phase.RUNNING:
                return {"status": "IN_PROGRESS", "logs": logs} | told
        took = round((self.render.ended_after or 0.0) - self.render.started_after, 3)
        told |= {"status": "COMPLETED", "logs": logs, "metrics": {"inference_time": max(0.0, took)}}
        failed = self.verdict or (self.failed_render() if self.fails else None)
        if failed is not None and failed.error_type:
            told |= {"error": failed.error, "error_type": failed.error_type}
        return told

    def answer(self, status: dict[str, Any], *, done: bool | None = None) -> Reply:
        """A status as a reply: 200 on submit (`done` None) and at the end, 202 on the way."""
        if done is not None and self.fate is not None and self.spends_oddity(Verb.INVENTED_STATUS):
            status = status | {"status": self.fate.word or "PAUSED"}
        return json_reply(status, 202 if done is False else 200, {"x-fal-request-id": self.id})

    def listed(self, verdict: Verdict, *, with_payloads: bool) -> dict[str, Any]:
        """Its row in the list of requests; `_kind` is for the list's filter."""
        ended_us = self.ended_us or 0
        item = {
            "request_id": self.id,
            "endpoint_id": self.endpoint,
            "sent_at": _iso(self.created_us),
            "started_at": _iso(self.created_us + int(self.render.started_after * 1_000_000)),
            "ended_at": _iso(ended_us),
            "status_code": verdict.status,
            "duration": (ended_us - self.created_us) / 1_000_000,
            "_kind": "success" if verdict.status < 400 else "user_error" if verdict.status < 500 else "error",
        }
        return item | ({"json_input": self.body, "json_output": verdict.body} if with_payloads else {})

    @property
    def fails(self) -> bool:
        return self.fate is not None and self.fate.verb is Verb.FAIL_RENDER

    def failed_render(self) -> Verdict:
        assert self.fate is not None
        type = self.fate.word or "runner_server_error"
        status = self.fate.status or REQUEST_ERRORS.get(type, 500)
        return flat_error(status, self.fate.message or "The runner could not finish the request", type)

    def _log(self, message: str) -> dict[str, str]:
        return {"message": message, "timestamp": _iso(self.created_us), "level": "INFO", "source": "USER"}


class Studio(Protocol):
    """What a verdict needs of the server."""

    async def film(self, *, seconds: float, ratio: float, short_side: int, audio: bool) -> bytes: ...
    def keep(self, content_type: str, body: bytes, name: str) -> str: ...
    async def picture(self, url: str) -> bytes | None: ...


async def judge(job: Job, studio: Studio) -> Verdict:
    """What the result of a job is that has ended."""
    fate = job.fate
    if job.fails:
        return job.failed_render()
    if fate is not None and fate.verb is Verb.FAIL_RESULT:
        type = fate.word or "content_policy_violation"
        status = fate.status or 422
        if status < 500 or not fate.word:
            return _model_error(complaint(["body"], fate.message or "The model could not do this", type), status=status)
        return flat_error(status, fate.message or "The model could not do this", type)
    if job.model is None:
        return flat_error(404, f"Path /{'/'.join(job.endpoint.split('/')[2:])} not found")  # inferred
    if not isinstance(job.body, dict):
        return _model_error(complaint(["body"], "Input should be a valid dict", "dict_type", job.body))
    found = fal_models.complaints(job.model, job.body)
    if found:
        return _model_error(*found)
    prompts = [job.body.get("prompt") or "", *(shot["prompt"] for shot in job.body.get("multi_prompt") or ())]
    if any(fal_models.FORBIDDEN in prompt for prompt in prompts):
        text = "The content could not be processed because it was flagged by a content checker."
        return _model_error(complaint(["body", "prompt"], text, "content_policy_violation", job.body))
    seen, wrong = await _look_at_pictures(job.model, job.body, studio)
    return _model_error(*wrong) if wrong else await _film(job, job.model, seen, studio)


def _model_error(*found: Complaint, status: int = 422) -> Verdict:
    return Verdict(
        status=status, body={"detail": [msgspec.to_builtins(one) for one in found]}, headers={"x-fal-needs-retry": "0"}
    )


async def _look_at_pictures(
    model: Endpoint, body: dict[str, Any], studio: Studio
) -> tuple[pictures.Picture | None, list[Complaint]]:
    """The first picture that could be looked at, and what is wrong with any of them."""
    first: pictures.Picture | None = None
    wrong: list[Complaint] = []
    named: list[tuple[Loc, Any]] = [
        (["body", name], body.get(name)) for name, field in model.fields.items() if field.kind == "url"
    ]
    named += [(["body", "image_urls", at], url) for at, url in enumerate(body.get("image_urls") or ())]
    for loc, url in named:
        if not url:
            continue
        try:
            data = await studio.picture(url)
        except OSError:
            wrong.append(complaint(loc, "Failed to download the file", "file_download_error", url[:200]))
            continue
        if data is not None:
            picture, complaints = _check(loc, data)
            wrong += complaints
            first = first or picture
    return first, wrong


def _check(loc: Loc, data: bytes) -> tuple[pictures.Picture | None, list[Complaint]]:
    """Kling's limits for a frame (OpenAPI of kling-video/v3, September 2026): 10 MB, 300 pixels, 0.4 to 2.5."""
    picture = pictures.look(data)
    if picture is None:
        return None, [complaint(loc, "Failed to load the image", "image_load_error")]
    if picture.size_bytes > 10_000_000:
        return None, [complaint(loc, "The file is too large", "file_too_large", max_size=10_000_000)]
    if min(picture.width, picture.height) < 300:
        return None, [complaint(loc, "The image is too small", "image_too_small", min_height=300, min_width=300)]
    if not 0.4 <= picture.ratio <= 2.5:
        return None, [complaint(loc, "The image's aspect ratio is not between 0.4 and 2.5", "value_error")]
    return picture, []


async def _film(job: Job, model: Endpoint, picture: pictures.Picture | None, studio: Studio) -> Verdict:
    width, _, height = str(job.body.get("aspect_ratio") or "16:9").partition(":")
    follows = picture is not None and "aspect_ratio" not in model.fields
    seconds = fal_models.seconds_of(job.body)
    clip = await studio.film(
        seconds=seconds,
        ratio=picture.ratio if picture is not None and follows else int(width) / int(height),
        short_side=fal_models.short_side_of(model, job.body),
        audio=fal_models.has_audio(model, job.body),
    )
    file: dict[str, Any] = {"content_type": "video/mp4", "file_name": "output.mp4", "file_size": len(clip)}
    if job.fate is None or job.fate.verb is not Verb.RESULT_WITHOUT_FILE:
        file = {"url": job.base + studio.keep("video/mp4", clip, "output.mp4")} | file
    # what a unit is differs by model and is not documented; seconds is what Kling's price pages count in
    return Verdict(status=200, body={"video": file}, headers={"x-fal-billable-units": str(seconds)})


def _iso(at_us: int) -> str:
    return datetime.datetime.fromtimestamp(at_us / 1_000_000, datetime.UTC).isoformat().replace("+00:00", "Z")
