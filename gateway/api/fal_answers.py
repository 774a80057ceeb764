"""A job in fal's three words, its result, and every error in one of fal's two shapes.

Law: each answer carries `x-fal-request-id`; 408 and 409, after which fal's clients send a POST again, are never said,
429 only where a later try is wanted. A failure is COMPLETED with an error in the status, and an error of its own as the
result: 5xx that a client would ask again (502, 503, 504) are kept for what may indeed change.

Shapes and words, read 2026-11-23: fal.ai/docs inference-api/queue, errors, errors/request-errors; what clients do with
them: fal-client 1.0.3 and @fal-ai/client 1.10.1. "Request is still in progress" is the text by which @ai-sdk/fal tells
"not yet" from "failed".
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

from gateway.api import view
from gateway.api.answers import JSON, Answer, Header, encode, request_id
from gateway.api.fal_paths import OWN_OWNER, ROOT, app_of
from gateway.api.fal_words import DIALECT, renamed
from gateway.api.problems import Problem
from gateway.jobs import Job, JobState
from gateway.store.live import LiveView
from providers.spec import Kind

SECOND = 1_000_000
STILL_RUNNING = "Request is still in progress"
DOCS = "https://docs.fal.ai/errors#"

_STATUS = {JobState.QUEUED: "IN_QUEUE", JobState.ACTIVE: "IN_PROGRESS"}
_SUFFIXES = {"video/webm": "webm", "video/quicktime": "mov"}

# our codes → fal's types of a refused input; whatever is not here is a `value_error`
_TYPES = {
    "missing_field": "missing",
    "wrong_type": "type_error",
    "prompt_too_long": "string_too_long",
    "too_long": "sequence_too_long",
    "picture_format": "unsupported_image_format",
    "unsupported_image_format": "unsupported_image_format",
    "picture_too_large": "file_too_large",
    "input_too_large": "file_too_large",
    "picture_too_small": "image_too_small",
    "image_too_large": "image_too_large",
    "invalid_image": "image_load_error",
    "input_fetch_failed": "file_download_error",
    "url_not_allowed": "file_download_error",
    "seconds_unsupported": "one_of",
    "aspect_ratio_unsupported": "one_of",
    "resolution_unsupported": "one_of",
    "invalid_value": "one_of",
}
# how a job ended: status, fal's word, and whether the same request may fare better another time
_MODEL_FAILURES = {
    Kind.CONTENT_POLICY: "content_policy_violation",
    Kind.INVALID_REQUEST: "value_error",
    Kind.UNSUPPORTED: "feature_not_supported",
}
_PLATFORM_FAILURES = {
    Kind.GENERATION_FAILED: (500, "internal_server_error"),
    Kind.CANCELLED: (499, "client_cancelled"),
}
_ENDED = {JobState.CANCELLED: (499, "client_cancelled"), JobState.EXPIRED: (504, "request_timeout")}


def said(body: Any, *, status: int = 200, number: str | None = None, headers: Iterable[Header] = ()) -> Answer:
    """One answer; `number` is the request's id where there is one."""
    number = number or request_id()
    return Answer(encode(body), status=status, headers=[JSON, (b"x-fal-request-id", number.encode()), *headers])


# --- a job ------------------------------------------------------------------------------------------------------------


def addresses(job: Job, base: str) -> dict[str, str]:
    """Where its client goes on: at this gateway, by owner and app as fal's clients themselves would write it."""
    endpoint = job.spec.endpoint or f"{OWN_OWNER}/{job.spec.model.rpartition('/')[2]}"
    request = f"{base}{ROOT}/{app_of(endpoint)}/requests/{job.id}"
    return {"response_url": request, "status_url": f"{request}/status", "cancel_url": f"{request}/cancel"}


def queued(job: Job, live: LiveView, base: str) -> dict[str, Any]:
    """What a submit is answered."""
    return {
        "status": "IN_QUEUE",
        "request_id": job.id,
        "gateway_request_id": job.id,
        **addresses(job, base),
        "queue_position": live.position(job.id) or 0,
    }


def place(job: Job, live: LiveView, base: str, *, with_logs: bool) -> dict[str, Any]:
    """The status: IN_QUEUE, IN_PROGRESS or COMPLETED, and nothing else."""
    shown: dict[str, Any] = {"status": _STATUS.get(job.state, "COMPLETED"), "request_id": job.id}
    shown |= addresses(job, base)
    if job.state is JobState.QUEUED:
        return {**shown, "queue_position": live.position(job.id) or 0}
    shown["logs"] = _logs(job, live) if with_logs else None
    if job.state.is_terminal:
        shown["metrics"] = {"inference_time": ((job.ended_us or job.created_us) - job.created_us) / SECOND}
        if job.state is not JobState.COMPLETED:
            _, word = _failed(job)
            shown |= {"error": _message(job, live), "error_type": word}
    return shown


def result(job: Job, live: LiveView, *, url: str, size: int | None = None) -> Answer:
    """What the model made, or why it made nothing; a 400 while it is being made. `url` opens the clip without a key."""
    if not job.state.is_terminal:
        return said({"detail": STILL_RUNNING}, status=400, number=job.id)
    if job.state is not JobState.COMPLETED:
        return _failure(job, live)
    return said(made(job, live, url=url, size=size), number=job.id)


def made(job: Job, live: LiveView, *, url: str, size: int | None = None) -> dict[str, Any]:
    """The output of a completed job: fal's `video`, and beside it what only we can tell."""
    kind = job.videos[0].content_type if job.videos else "video/mp4"
    video: dict[str, Any] = {"url": url, "content_type": kind, "file_name": f"output.{_SUFFIXES.get(kind, 'mp4')}"}
    if size is not None:
        video["file_size"] = size
    shown = view.view(job, live)
    told: dict[str, Any] = {"video": video}
    if job.spec.video.seed is not None:
        told["seed"] = job.spec.video.seed
    return told | {
        "warnings": shown.warnings,
        "filmgate": {
            "id": job.id,
            "backend": shown.routing.backend,
            "provider": shown.routing.provider,
            "cost_usd": shown.usage.cost_usd,
        },
    }


def failure(job: Job, live: LiveView) -> dict[str, Any]:
    """The body of a failed job's result."""
    status, word = _failed(job)
    message = _message(job, live)
    if status != 422:
        return {"detail": message, "error_type": word}
    return {"detail": [{"loc": ["body", "prompt"], "msg": message, "type": word, "url": DOCS + word}]}


def failed_status(job: Job) -> int:
    return _failed(job)[0]


def _failure(job: Job, live: LiveView) -> Answer:
    status, word = _failed(job)
    headers: list[Header] = [(b"x-fal-error-type", word.encode()), (b"x-fal-needs-retry", b"0")]
    if status == 504:
        headers.append((b"x-fal-request-timeout-type", b"user"))  # no client asks again after this one
    return said(failure(job, live), status=status, number=job.id, headers=headers)


def _failed(job: Job) -> tuple[int, str]:
    """Status and fal's word for how it ended."""
    if job.state in _ENDED:
        return _ENDED[job.state]
    kind = job.fault.kind if job.fault is not None else Kind.GENERATION_FAILED
    if kind in _MODEL_FAILURES:
        return 422, _MODEL_FAILURES[kind]
    return _PLATFORM_FAILURES.get(kind, (500, "downstream_service_unavailable"))


def _message(job: Job, live: LiveView) -> str:
    error = view.view(job, live).error
    return error.message if error is not None else "The render failed."


def _logs(job: Job, live: LiveView) -> list[dict[str, str]]:
    """What a person would want to know of it: who makes it and why, what was left out, how it ended."""
    began, ended = _moment(job.created_us), _moment(job.ended_us or job.created_us)
    lines = [("INFO", job.routing.reason, began)]
    lines += [("WARN", text, began) for text in (*job.spec.ignored, *job.warnings)]
    if job.state is JobState.COMPLETED:
        lines.append(("INFO", f"made by {job.routing.provider}", ended))
    elif job.state.is_terminal:
        lines.append(("ERROR", _message(job, live), ended))
    return [{"message": text, "level": level, "timestamp": moment, "source": "USER"} for level, text, moment in lines]


def _moment(us: int) -> str:
    return datetime.datetime.fromtimestamp(us / SECOND, datetime.UTC).isoformat()


# --- errors -----------------------------------------------------------------------------------------------------------


def refused(problem: Problem, *, number: str | None = None) -> Answer:
    """A problem in fal's shape: a list of details where the input is at fault, one sentence otherwise."""
    number = number or request_id()
    status = {408: 400, 409: 400}.get(problem.status, problem.status)
    headers = [pair for pair in problem.headers if pair[0] != b"www-authenticate"]
    if problem.status == 422:
        problem = renamed(problem)
        word = _TYPES.get(
            problem.code, "feature_not_supported" if problem.code.endswith("_unsupported") else "value_error"
        )
        detail: dict[str, Any] = {
            "loc": _place(problem.param),
            "msg": problem.message,
            "type": word,
            "url": DOCS + word,
        }
        detail["ctx"] = {"code": problem.code} | ({"nearest": problem.nearest} if problem.nearest else {})
        if problem.refusals:
            detail["ctx"]["refusals"] = [
                {"backend": no.backend, "code": no.code, "message": no.message} for no in problem.refusals
            ]
        return said({"detail": [detail]}, status=422, number=number, headers=headers)
    word = {400: "bad_request", 500: "internal_error"}.get(status, problem.code)
    headers.append((b"x-fal-error-type", word.encode()))
    return said({"detail": problem.message, "error_type": word}, status=status, number=number, headers=headers)


def _place(param: str | None) -> list[str | int]:
    """ "multi_prompt[0].prompt" → ["body", "multi_prompt", 0, "prompt"]."""
    words = re.findall(r"[^.\[\]]+", param or "")
    if param == "fal_webhook":
        return ["query", param]
    return ["body", *(int(word) if word.isdecimal() and word.isascii() else word for word in words)]


__all__ = ["DIALECT", "addresses", "failed_status", "failure", "made", "place", "queued", "refused", "result", "said"]
