"""UlazAI (a reseller): one POST to its Video Studio starts a job, one GET reads it.

Laws: `success: true` is about the HTTP call; whether the job failed stands in the job. Every path ends in a slash:
without it a POST may become a redirect. `prompt_directory_optin` is always sent as false, whatever options say: true
publishes the caller's prompt and clip. Only http(s) addresses of pictures are taken. There is no callback, no cancel,
no upload, no id of ours: a submission whose reply was lost cannot be found.

`model_id` here is `model_slug/quality_mode`: "kling_3_0/pro".

Read: requests, states, replies, errors, 24 POSTs per user and hour, that a failed job's credits "may be" refunded and
that `credits_refunded` says so. Inferred: that one picture alone is the first frame in `input_image_urls`; that a ratio
beside any picture is refused (the documents say so of frame addresses, in an older API). Unknown: what a credit costs
(`usd_per_credit` is the operator's to say), how a moderation is told (so it is a failure like any other), the shape of
the history's answer (so no list is read), how long files are kept, the shape of `elements`.
No status is documented as "nothing was created" beyond the table's: a 5xx of a submit leaves the outcome unknown.

Sources, read 2026-11-23: ulazai.com/docs video-api, video-status-workflows, video-errors-limits, kling30;
github.com/smrht/ulazai-agent-skills, commit ad815ae (2026-02-28).
"""

from __future__ import annotations

from decimal import Decimal
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

NAME = "ulazai"
MODELS = ("kling_3_0/std", "kling_3_0/pro")


class Settings(Frozen):
    """One account at UlazAI. `usd_per_credit` turns the credits it tells into money; None: the row's price holds."""

    api_key: Secret
    base_url: str = "https://ulazai.com"
    usd_per_credit: float | None = None


def make(settings: Settings, transport: Transport) -> Adapter:
    return Adapter(settings, transport)


# --- what UlazAI calls our fields -------------------------------------------------------------------------------------


def to_body(request: VideoRequest, model_id: str) -> dict[str, Any]:
    """One job of `model_id`. Raises ProviderError(UNSUPPORTED) for a field that UlazAI has no word for.

    Nothing in options changes which model is bought, or publishes it.
    """
    by = f"{NAME}'s {model_id}"
    if model_id not in MODELS:
        raise unsupported("model_id", by=by)
    for field in ("negative_prompt", "references", "shots", "camera", "seed", "cfg_scale"):
        if getattr(request, field) not in (None, ()):
            raise unsupported(field, by=by)
    first, last = request.first_frame, request.last_frame
    if last and not first:
        raise unsupported("last_frame without first_frame", by=by)
    if first and request.aspect_ratio:
        raise unsupported("aspect_ratio beside a picture", by=by)
    slug, _, quality = model_id.partition("/")
    body: dict[str, Any] = {
        "prompt": request.prompt,
        "duration_seconds": request.seconds,
        "quality_mode": quality,
        "sound": bool(request.audio),
    }
    if request.aspect_ratio:
        body["aspect_ratio"] = request.aspect_ratio
    if first and last:
        body |= {"start_frame_url": _address(first), "end_frame_url": _address(last)}
    elif first:
        body["input_image_urls"] = [_address(first)]
    return request.options.get(NAME, {}) | body | {"model_slug": slug, "prompt_directory_optin": False}


def _address(media: Media) -> str:
    if media.handed is None or not media.handed.startswith(("https://", "http://")):
        raise unsupported("a picture that has no address", by=NAME)
    return media.handed


# --- what UlazAI answers ----------------------------------------------------------------------------------------------


class _Accepted(msgspec.Struct):
    job_ids: Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(min_length=1)]


class _Job(msgspec.Struct):
    status: str
    result_urls: tuple[str, ...] | None = None
    error_message: str | None = None
    credits_charged: float | None = None
    credits_refunded: bool | None = None


class _Answer(msgspec.Struct):
    job: _Job


class _Said(msgspec.Struct):
    """An error. Their own client reads `error`, then `message`."""

    success: bool = True
    error: str | None = None
    message: str | None = None


def _hidden(reply: Reply, shape: type[msgspec.Struct], verdict: Verdict) -> Judged | None:
    """A 2xx that says it is none, and holds nothing else: what became of the call is unknown, its words are kept."""
    said = reply.json(_Said)
    if said is None or said.success or not reply.is_ok or reply.json(shape) is not None:
        return None
    message = f"UlazAI said within a 2xx: {said.error or said.message or 'no success'}"
    return Judged(fault=Fault(kind=Kind.UNKNOWN, verdict=verdict, message=message))


def judge_submit(reply: Reply) -> Judged | None:
    return _hidden(reply, _Accepted, Verdict.UNSURE)


def judge_poll(reply: Reply) -> Judged | None:
    return _hidden(reply, _Answer, Verdict.SAME)


def to_status(job: _Job, usd_per_credit: float | None = None) -> Status:
    cost = _cost(job, usd_per_credit)
    match job.status:
        case "pending":
            return Queued()
        case "completed" if job.result_urls and job.result_urls[0]:
            return Succeeded(videos=(Video(url=job.result_urls[0]),), cost_usd_micros=cost)
        case "completed" | "failed" as word:
            text = job.error_message or ("it ended without a file" if word == "completed" else "nothing more")
            message = f"UlazAI said of this job: {text}"
            fault = Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE, message=message)
            return Failed(fault=fault, cost_usd_micros=cost)
        case _:
            return Running()  # `processing`; a word of theirs may be new: "not ended" is all we know


def _cost(job: _Job, usd_per_credit: float | None) -> int | None:
    """Micro-dollars, where they can be told: nothing for what was refunded, else its credits by the operator's rate."""
    if job.credits_refunded:
        return 0
    if job.credits_charged is None or usd_per_credit is None:
        return None
    return round(Decimal(str(job.credits_charged)) * Decimal(str(usd_per_credit)) * 1_000_000)


# --- the adapter ------------------------------------------------------------------------------------------------------


class Adapter:
    name: str = NAME
    takes: tuple[MediaForm, ...] = (MediaForm.URL,)

    def __init__(self, settings: Settings, transport: Transport) -> None:
        headers = {"authorization": f"Bearer {settings.api_key.reveal()}"}
        secrets = (settings.api_key,)
        self._submits = transport.door(settings.base_url, headers=headers, secrets=secrets, judge=judge_submit)
        self._polls = transport.door(settings.base_url, headers=headers, secrets=secrets, judge=judge_poll)
        self._usd_per_credit = settings.usd_per_credit

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """One POST, one job: it answers with a list, since one request can ask for up to four. It calls nobody back."""
        body = to_body(request, model_id)
        accepted = await self._submits.post("/api/v1/video-studio/generate/", json=body, reply=_Accepted)
        return Operation(provider=NAME, id=accepted.job_ids[0], ref={"endpoint": model_id})

    async def poll(self, operation: Operation) -> Status:
        path = f"/api/v1/video-studio/status/{quote(operation.id, safe='')}/"
        answer = await self._polls.get(path, reply=_Answer)
        status = to_status(answer.job, self._usd_per_credit)
        if isinstance(status, Failed):
            said = msgspec.structs.replace(status.fault, message=self._polls.scrub(status.fault.message))
            status = msgspec.structs.replace(status, fault=said)
        return status
