"""WaveSpeed, as its client sees it: predictions, their list, uploads, the webhook and its secret.

Law: an input is judged at submit; a job that failed answers 200, and its webhook is flat where every reply has an
envelope. Sources, read 2026-11-23: wavespeed.ai/docs (predictions, error-codes, how-to-use-webhooks, verify-webhooks),
PyPI wavespeed 2.0.5, github.com/WaveSpeedAI/wavespeed-cli at 13b1cca. What no source tells is marked "inferred".

Webhooks go to plain http on loopback too, where WaveSpeed itself wants public https. That a failed delivery is tried
again is inferred; so is the `input` in a prediction that is asked for by its id (the list shows none).
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import hmac
import secrets
import uuid
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tests.vendors import kit, pictures, wavespeed_models
from tests.vendors.kit import Phase, Render
from tests.vendors.process import serve
from tests.vendors.script import Act, Family, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wavespeed_models import MODELS, Model
from tests.vendors.wire import Reply, Request, json_reply

_WORDS = {
    400: "Invalid request",
    401: "Unauthorized: invalid API key",
    402: "Payment required",
    403: "Forbidden",
    404: "Not found",
    429: "Too Many Requests",
    500: "Internal server error",
    503: "Service unavailable",
}
_ENDS = ("cancelled", "timeout", "deleted")


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended, for good."""

    status: str
    outputs: tuple[Any, ...] = ()
    error: str = ""
    code: int | None = None


class Job:
    def __init__(self, *, id: str, model_id: str, body: dict[str, Any], base: str, created_us: int, fate: Act | None):
        self.id = id
        self.model_id = model_id
        self.body = body
        self.base = base  # the address under which the client knows us
        self.created_us = created_us
        self.fate = fate
        self.oddities = fate.count if fate else 0
        self.ended: Ended | None = None
        self.lock = asyncio.Lock()
        self.webhook = ""
        self.ringing: Act | None = None
        self.render: Render

    @property
    def model(self) -> Model:
        return MODELS[self.model_id]

    @property
    def created(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.created_us / 1e6, datetime.UTC)

    def spends_oddity(self, verb: Verb) -> bool:
        """Whether this answer is one of those that the script made odd in this way; asking spends one."""
        if self.fate is None or self.fate.verb is not verb or not self.oddities:
            return False
        self.oddities -= 1
        return True

    def told(self, status: str, *, with_input: bool) -> dict[str, Any]:
        """The prediction object."""
        ended = self.ended or Ended(status=status)
        took = int((self.render.ended_after or 0) * 1000) if self.ended else 0
        said: dict[str, Any] = {
            "id": self.id,
            "model": self.model_id,
            "outputs": list(ended.outputs),
            "urls": {"get": f"{self.base}/api/v3/predictions/{self.id}/result"},
            "has_nsfw_contents": [False for _ in ended.outputs],
            "status": status,
            "created_at": f"{self.created:%Y-%m-%dT%H:%M:%S.%f}148Z",  # nanoseconds, as theirs
            "error": ended.error,
            "executionTime": took,
            "timings": {"inference": took},
        }
        if ended.code is not None:
            said["code"] = ended.code
        return said | ({"input": self.body} if with_input else {})


def envelope(data: Any, code: int = 200, message: str = "success") -> Reply:
    return json_reply({"code": code, "message": message, "data": data}, code)


class WaveSpeedServer(Vendor):
    """WaveSpeed's API, version 3."""

    name: ClassVar[str] = "wavespeed"
    id_fields: ClassVar[frozenset[str]] = frozenset({"id", "urls"})
    cancel_taken: ClassVar[Reply] = json_reply({"code": 404, "message": "Not found"}, 404)  # there is no cancel

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        super().__init__(folder, options)
        self.jobs: dict[str, Job] = {}
        self.webhook_secret = "whsec_" + hashlib.sha256(str(folder).encode()).hexdigest()
        self._uploads: dict[str, tuple[str, str]] = {}  # PUT path → (content type, file path)

    def words(self, status: int, act: Act | None = None) -> Reply:
        said: dict[str, Any] = {"code": status, "message": (act and act.message) or _WORDS.get(status, "Error")}
        return json_reply(said | ({"error_code": act.word} if act and act.word else {}), status)

    # --- routes ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        parts = [part for part in request.path.split("/") if part]
        if request.method == "PUT" and parts[:1] == ["upload"]:  # the address is its own credential
            return await self.perform(Op.UPLOAD, "", lambda: self._put(request))
        key = kit.bearer(request.headers, "bearer")
        if key is None or (self.options.keys and key not in self.options.keys):
            return self.words(401)
        match request.method, parts:
            case "GET", ["api", "v3", "predictions", id, "result"] | ["api", "v3", "predictions", id]:
                job = self.jobs.get(id)
                return await self.perform(Op.STATUS, job.model_id if job else "", lambda: self._result(job))
            case "POST", ["api", "v3", "predictions"]:
                return await self.perform(Op.LIST, "", lambda: self._list(request))
            case "POST", ["api", "v3", "predictions", "delete"]:
                return self._delete(request)
            case "GET", ["api", "v3", "webhook", "secret"]:
                return envelope({"secret": self.webhook_secret})  # the field's name is inferred
            case "POST", ["api", "v3", "media", "uploads"]:
                return await self.perform(Op.UPLOAD, "", lambda: self._ticket(request))
            case "POST", ["api", "v3", _, *_]:
                model_id = "/".join(parts[2:])
                account = "key-" + hashlib.sha256(key.encode()).hexdigest()[:8]
                return await self.perform(Op.SUBMIT, model_id, lambda: self._submit(request, model_id, account))
        return self.words(404)

    # --- predictions ----------------------------------------------------------------------------------------------

    async def _submit(self, request: Request, model_id: str, account: str) -> Reply:
        model, webhook = MODELS.get(model_id), request.first("webhook")
        if model is None:
            return envelope(None, 404, f"model {model_id} not found")  # inferred
        try:
            body = msgspec.json.decode(request.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return envelope(None, 400, "the body is not a JSON object")  # inferred
        wrong = wavespeed_models.complaint(model, body)
        if webhook and not webhook.startswith(("https://", "http://127.0.0.1:")):
            wrong = "webhook must be a public https address"
        if wrong:
            return envelope(None, 400, wrong)
        fate = self.script.take(Op.SUBMIT, model_id, Family.JOB)
        pace = kit.Pace(seconds=fate.seconds) if fate and fate.verb is Verb.RENDER else self.options.pace
        base = f"http://{request.headers.get('host', '')}"
        now = self.clock.now_us()
        job = Job(id=uuid.uuid4().hex, model_id=model_id, body=body, base=base, created_us=now, fate=fate)
        job.webhook, job.ringing = webhook, self.script.take(Op.SUBMIT, model_id, Family.CALLBACK)
        job.render = Render(self.clock, pace, stuck=fate is not None and fate.verb is Verb.STUCK)
        self.bill(
            kit.accepted(
                request=request,
                id=job.id,
                endpoint=model_id,
                account=account,
                at_us=now,
                callback_url=webhook,
                usd_micros=wavespeed_models.usd_micros_of(model, body),
            )
        )
        self.jobs[job.id] = job
        self.renders[job.id] = job.render
        ring = self.spawn(self._follow(job))
        reply = envelope(job.told("created", with_input=False))
        if job.ringing and job.ringing.verb is Verb.CALLBACK_BEFORE_REPLY:
            job.render.finish()
            await ring
        return reply

    async def _follow(self, job: Job) -> None:
        """Sees a job to its end and rings, flat."""
        await job.render.run()
        if job.webhook:
            ended = await self._ended(job)
            body = msgspec.json.encode(job.told(ended.status, with_input=True))
            await self.ring(job.id, job.webhook, body, sign=self.signature, act=job.ringing)

    async def _result(self, job: Job | None) -> Reply:
        if job is None or job.spends_oddity(Verb.RESULT_MISSING):
            return self.words(404)
        phase = job.render.poll()
        if job.spends_oddity(Verb.INVENTED_STATUS) and job.fate:
            return envelope(job.told(job.fate.word or "paused", with_input=True))
        status = "created" if phase is Phase.QUEUED else "processing"
        if phase is Phase.DONE:
            status = (await self._ended(job)).status
        return envelope(job.told(status, with_input=True))

    async def _ended(self, job: Job) -> Ended:
        async with job.lock:
            if job.ended is None:
                job.ended = await self._judge(job)
            return job.ended

    async def _judge(self, job: Job) -> Ended:
        fate = job.fate
        if fate is not None and fate.verb in (Verb.FAIL_RENDER, Verb.FAIL_RESULT):
            if fate.word in _ENDS:
                return Ended(status=fate.word, error=fate.message)
            flagged = fate.word == "content_policy_violation"
            code = int(fate.word) if fate.word.isdigit() else 1200 if flagged else 1405
            return Ended(status="failed", error=fate.message or "The task could not be completed.", code=code)
        prompts = [job.body.get("prompt") or "", *(shot["prompt"] for shot in job.body.get("multi_prompt") or ())]
        if any(wavespeed_models.FORBIDDEN in prompt for prompt in prompts):
            return Ended(status="failed", error="The content contains sensitive information.", code=1200)
        shape: pictures.Picture | None = None
        for address in filter(
            None, (job.body.get("image"), job.body.get("end_image"), *(job.body.get("images") or ()))
        ):
            try:
                data = await self.picture(address)
            except OSError:
                return Ended(status="failed", error="Failed to download image from the provided URL.", code=1402)
            seen = None if data is None else pictures.look(data)
            if data is not None and (wrong := _wrong(seen)):
                return Ended(status="failed", error=wrong, code=1401)
            shape = shape or seen
        return Ended(status="completed", outputs=await self._outputs(job, shape))

    async def _outputs(self, job: Job, picture: pictures.Picture | None) -> tuple[Any, ...]:
        if job.fate is not None and job.fate.verb is Verb.RESULT_WITHOUT_FILE:
            return ()
        width, _, height = str(job.body.get("aspect_ratio") or "16:9").partition(":")
        follows = picture is not None and "image" in job.body
        clip = await self.film(
            seconds=wavespeed_models.seconds_of(job.body),
            ratio=picture.ratio if picture is not None and follows else int(width) / int(height),
            short_side=job.model.short_side,
            audio=bool(job.body.get("sound")),
        )
        return (job.base + self.keep("video/mp4", clip, "output.mp4"),)

    # --- the list -------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Reply:
        try:
            asked = msgspec.json.decode(request.body, type=_Asked)
        except msgspec.DecodeError as error:
            return envelope(None, 400, str(error))
        found = []
        for job in reversed(self.jobs.values()):
            status = job.ended.status if job.ended else "created" if job.render.phase is Phase.QUEUED else "processing"
            if (
                asked.model in (None, job.model_id)
                and asked.status in (None, status)
                and (asked.created_after is None or asked.created_after <= job.created)
                and (asked.created_before is None or job.created < asked.created_before)
            ):
                found.append(job.told(status, with_input=False))
        start = (asked.page - 1) * asked.page_size
        return envelope({"page": asked.page, "items": found[start : start + asked.page_size]})

    def _delete(self, request: Request) -> Reply:
        """Out of the history; the job, were it running, runs on and is paid."""
        try:
            ids = msgspec.json.decode(request.body, type=dict[str, list[str]])["ids"]
        except (msgspec.DecodeError, KeyError):
            return envelope(None, 400, "ids is required")
        for id in ids:
            self.jobs.pop(id, None)
        return envelope({})  # inferred

    # --- webhooks and uploads -------------------------------------------------------------------------------------

    def signature(self, body: bytes) -> dict[str, str]:
        id, at = uuid.uuid4().hex, str(self.clock.now_us() // 1_000_000)
        key = self.webhook_secret.removeprefix("whsec_").encode()
        digest = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).hexdigest()
        return {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v3,{digest}"}

    async def _ticket(self, request: Request) -> Reply:
        try:
            asked = msgspec.json.decode(request.body, type=_Upload)
        except msgspec.DecodeError as error:
            return envelope(None, 400, str(error))
        kind = asked.content_type or "application/octet-stream"
        path, file_path = f"/upload/{secrets.token_hex(12)}", self.keep(kind, b"", asked.filename)
        self._uploads[path] = (kind, file_path)
        base = f"http://{request.headers.get('host', '')}"
        instruction = {"method": "PUT", "url": base + path, "headers": {"Content-Type": kind}}
        return envelope({"upload": instruction, "download_url": base + file_path})

    async def _put(self, request: Request) -> Reply:
        if request.path not in self._uploads:
            return Reply(status=403)
        kind, file_path = self._uploads[request.path]
        self._files[file_path] = (kind, request.body)
        return Reply()


class _Asked(msgspec.Struct):
    page: int
    page_size: int
    model: str | None = None
    status: str | None = None
    created_after: datetime.datetime | None = None
    created_before: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if self.page < 1 or not 1 <= self.page_size <= 100:
            raise ValueError("page is 1 or more, page_size 1 to 100")


class _Upload(msgspec.Struct):
    filename: str
    size: int
    content_type: str | None = None


def _wrong(picture: pictures.Picture | None) -> str:
    """Kling's limits for a frame, on the models' pages: 10 MB, 300 pixels, 1:2.5 to 2.5:1, JPEG or PNG."""
    if picture is None or picture.format not in ("PNG", "JPEG"):
        return "The image is not a JPEG or PNG."
    if picture.size_bytes > 10_000_000 or min(picture.width, picture.height) < 300 or not 0.4 <= picture.ratio <= 2.5:
        return "The image's size or ratio is not supported."
    return ""


if __name__ == "__main__":
    serve(WaveSpeedServer)
