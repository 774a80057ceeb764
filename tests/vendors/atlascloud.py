"""AtlasCloud, as its clients see it: predictions, uploads, signed callbacks, its public keys, a balance.

Law: a bad input, model or callback address is refused at submit and costs nothing; a job that fails answers 200, with
its failure in `data.status`. Any path that Atlas does not have is a 401, as a bad key is. Sources: atlascloud.ai/docs
(predictions, errors, webhooks, upload, billing; read 2026-11-23) and Atlas's clients on GitHub. What no source tells is
marked "inferred". Callbacks go to loopback and plain http too, where Atlas itself wants public https addresses.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from tests.vendors import atlascloud_models, ed25519, kit, pictures
from tests.vendors.atlascloud_models import Model
from tests.vendors.kit import Phase, Render
from tests.vendors.process import serve
from tests.vendors.script import Act, Family, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wire import Reply, Request, json_reply

MODERATED = 1039
MAX_BODY_BYTES = 50_000_000
_WORDS = {
    400: "invalid request",
    401: "unauthorized",
    402: "insufficient balance",
    403: "forbidden",
    404: "not found",
    413: "request body too large",
    429: "too many requests",
    451: "unavailable for legal reasons",
    500: "internal error",
    503: "service overloaded",
    504: "timeout",
}
_PHASES = {Phase.QUEUED: "created", Phase.RUNNING: "processing"}


class Job:
    """One paid prediction."""

    def __init__(self, *, model: Model, body: dict[str, Any], base: str, render: Render, fate: Act | None) -> None:
        self.id = uuid.uuid4().hex
        self.model = model
        self.body = body
        self.base = base  # the address under which the client knows us
        self.render = render
        self.fate = fate
        self.end: dict[str, Any] | None = None  # what its prediction says once it is over
        self.lock = asyncio.Lock()
        self._oddities = fate.count if fate and fate.verb in (Verb.INVENTED_STATUS, Verb.RESULT_MISSING) else 0

    @property
    def callback_url(self) -> str:
        return self.body.get("webhook_url") or ""

    def spends_oddity(self, verb: Verb) -> bool:
        if self.fate is None or self.fate.verb is not verb or not self._oddities:
            return False
        self._oddities -= 1
        return True

    def told(self, status: str, **more: Any) -> dict[str, Any]:
        urls = {"get": f"{self.base}/api/v1/model/prediction/{self.id}"}
        return {"id": self.id, "model": self.body["model"], "status": status, "urls": urls, "outputs": None} | more


class AtlasServer(Vendor):
    """Atlas's media API and what belongs to it."""

    name: ClassVar[str] = "atlascloud"
    id_fields: ClassVar[frozenset[str]] = frozenset({"id", "urls"})
    cancel_taken: ClassVar[Reply] = Reply(status=404)  # there is no cancel

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        super().__init__(folder, options)
        self.jobs: dict[str, Job] = {}
        self.kid = ""
        self.rotate()

    def rotate(self) -> None:
        """Signs with a new key from now on; the old one is no longer told of."""
        self.kid = f"key-{secrets.token_hex(4)}"
        self._seed = hashlib.sha256(self.kid.encode()).digest()

    def words(self, status: int, act: Act | None = None) -> Reply:
        text = (act and act.message) or _WORDS.get(status, f"error {status}")
        code = int(act.word) if act and act.word.isdigit() else status
        return json_reply({"code": code, "msg": text, "request_id": uuid.uuid4().hex, "data": None}, status)

    # --- routes ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        reply = await self._route(request)
        return msgspec.structs.replace(reply, headers={"x-request-id": uuid.uuid4().hex} | reply.headers)

    async def _route(self, request: Request) -> Reply:
        match request.method, request.path.split("/")[1:]:
            case "GET", ["api", "v1", "webhooks", "jwks.json"]:
                return json_reply({"keys": [self._jwk()]})
            case "GET", ["api", "v1", "models"]:
                items = [{"model": id, "type": "Video", "display_console": True} for id in atlascloud_models.MODELS]
                return json_reply({"code": "200", "data": items})
        key = kit.bearer(request.headers, "bearer")
        if key is None or (self.options.keys and key not in self.options.keys):
            return self.words(401)
        match request.method, request.path.split("/")[1:]:
            case "POST", ["api", "v1", "model", "generateVideo"]:
                return await self._generate(request, key)
            case "GET", ["api", "v1", "model", "prediction" | "result", id]:
                job = self.jobs.get(id)
                endpoint = job.body["model"] if job else ""
                return await self.perform(Op.STATUS, endpoint, lambda: self._prediction(job))
            case "POST", ["api", "v1", "model", "uploadMedia"]:
                return await self.perform(Op.UPLOAD, "", lambda: self._upload(request))
            case "GET", ["public", "v1", "balance"]:
                return json_reply({"balance": "100.00", "currency": "USD"})  # its fields are inferred
        return self.words(401)  # a wrong path, whatever the key

    # --- predictions ----------------------------------------------------------------------------------------------

    async def _generate(self, request: Request, key: str) -> Reply:
        if len(request.body) > MAX_BODY_BYTES:
            return self.words(413)
        try:
            body = request.json()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._refuse(400, "the body is not JSON")
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            return self._refuse(400, "model is required")
        return await self.perform(Op.SUBMIT, body["model"], lambda: self._submit(request, body, key))

    def _refuse(self, status: int, text: str) -> Reply:
        return self.words(status, Act(verb=Verb.STATUS, message=text))

    async def _submit(self, request: Request, body: dict[str, Any], key: str) -> Reply:
        model = atlascloud_models.MODELS.get(body["model"])
        if model is None:
            return self._refuse(404, "model not found")
        hook = body.get("webhook_url")
        wrong = "webhook_url is not allowed" if hook is not None and not _may_be_called(hook) else None
        if wrong := wrong or atlascloud_models.complaint(model, body):
            return self._refuse(400, wrong)
        fate = self.script.take(Op.SUBMIT, body["model"], Family.JOB)
        ringing = self.script.take(Op.SUBMIT, body["model"], Family.CALLBACK)
        pace = kit.Pace(seconds=fate.seconds) if fate and fate.verb is Verb.RENDER else self.options.pace
        render = Render(self.clock, pace, stuck=fate is not None and fate.verb is Verb.STUCK)
        base = f"http://{request.headers.get('host', '')}"
        job = Job(model=model, body=body, base=base, render=render, fate=fate)
        self.bill(
            kit.accepted(
                request=request,
                id=job.id,
                endpoint=body["model"],
                account=hashlib.sha256(key.encode()).hexdigest()[:12],
                at_us=self.clock.now_us(),
                callback_url=job.callback_url,
                usd_micros=atlascloud_models.usd_micros(model, body),
            )
        )
        self.jobs[job.id] = job
        self.renders[job.id] = render
        ring = self.spawn(self._follow(job, ringing))
        if ringing and ringing.verb is Verb.CALLBACK_BEFORE_REPLY:
            render.finish()
            await ring
        return json_reply({"code": 200, "message": "success", "data": job.told("processing")})

    async def _follow(self, job: Job, ringing: Act | None) -> None:
        await job.render.run()
        if job.callback_url:
            end = await self._end(job)
            told = {
                "session_id": job.id,
                "event_type": "video.task.terminal",
                "status": "OK" if end["status"] == "completed" else "ERROR",
                "payload": end,
                "error": end.get("error") or "",
            }
            sign = self._signer(job.id)
            await self.ring(job.id, job.callback_url, msgspec.json.encode(told), sign=sign, act=ringing)

    async def _prediction(self, job: Job | None) -> Reply:
        if job is None or job.spends_oddity(Verb.RESULT_MISSING):  # also: not known yet
            return self._refuse(404, "prediction not found")
        phase = job.render.poll()
        if job.fate is not None and job.spends_oddity(Verb.INVENTED_STATUS):
            return json_reply({"code": 200, "data": job.told(job.fate.word or "paused")})
        told = await self._end(job) if phase is Phase.DONE else job.told(_PHASES[phase])
        return json_reply({"code": 200, "data": told})

    async def _end(self, job: Job) -> dict[str, Any]:
        async with job.lock:
            if job.end is None:
                job.end = await self._judge(job)
            return job.end

    async def _judge(self, job: Job) -> dict[str, Any]:
        fate = job.fate
        if atlascloud_models.FORBIDDEN in job.body["prompt"]:
            return job.told("failed", error="content moderation", error_code=MODERATED)
        if fate is not None and fate.verb is Verb.FAIL_RESULT:
            code = MODERATED if fate.word in ("", "content_policy_violation") else 1001
            return job.told("failed", error=fate.message or "the output was withheld", error_code=code)
        if fate is not None and fate.verb is Verb.FAIL_RENDER:
            status = "timeout" if fate.word == "timeout" else "failed"
            return job.told(status, error=fate.message or "generation failed", error_code=1001)  # the code is inferred
        seen = None
        for text in atlascloud_models.pictures_of(job.model, job.body):
            try:
                data = await self.picture(text if "://" in text or text.startswith("data:") else f"data:;base64,{text}")
            except OSError:
                return job.told("failed", error="the image could not be fetched", error_code=1001)
            look = None if data is None else pictures.look(data)
            if data is not None and look is None:
                return job.told("failed", error="the image could not be read", error_code=1001)
            seen = seen or look
        width, _, height = str(job.body.get("aspect_ratio") or "16:9").partition(":")
        clip = await self.film(
            seconds=job.body.get("duration", 5),
            ratio=seen.ratio if seen is not None and not job.model.text else int(width) / int(height),
            short_side=atlascloud_models.short_side(job.model, job.body),
            audio=atlascloud_models.has_sound(job.model, job.body),
        )
        outputs = [job.base + self.keep("video/mp4", clip, "output.mp4")]
        if fate is not None and fate.verb is Verb.RESULT_WITHOUT_FILE:
            outputs = []
        return job.told("completed", outputs=outputs, error="", has_nsfw_contents=[False])

    # --- callbacks ------------------------------------------------------------------------------------------------

    def _jwk(self) -> dict[str, str]:
        return {"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": _base64url(ed25519.public_key(self._seed))}

    def _signer(self, id: str) -> Callable[[bytes], dict[str, str]]:
        return lambda body: {"x-atlascloud-webhook-id": id} | self.signature(body)

    def signature(self, body: bytes) -> dict[str, str]:
        """The headers that make `body` a callback of this moment."""
        stamp = str(self.clock.now_us() // 1_000_000)
        message = f"{stamp}.".encode() + body
        return {
            "x-atlascloud-webhook-event": "video.task.terminal",
            "x-atlascloud-timestamp": stamp,
            "x-atlascloud-key-id": self.kid,
            "x-atlascloud-signature-ed25519": _base64url(ed25519.sign(self._seed, message)),
            "x-atlascloud-signature": hmac.new(self._seed, message, hashlib.sha256).hexdigest(),  # the older one
        }

    # --- uploads --------------------------------------------------------------------------------------------------

    async def _upload(self, request: Request) -> Reply:
        file = _file_in(request)
        if file is None:
            return self._refuse(400, "file is required")
        content_type, filename, data = file
        address = f"http://{request.headers.get('host', '')}" + self.keep(content_type, data, filename)
        told = {"type": "image", "download_url": address, "filename": filename, "size": len(data)}
        return json_reply({"code": 200, "message": "success", "data": told})


def _may_be_called(url: Any) -> bool:
    if not isinstance(url, str) or len(url) > 1024:
        return False
    parts = urlsplit(url)
    is_loopback = parts.hostname in ("127.0.0.1", "localhost")
    return (parts.scheme == "https" and bool(parts.hostname)) or (parts.scheme == "http" and is_loopback)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _file_in(request: Request) -> tuple[str, str, bytes] | None:
    """The content type, name and bytes of the form's part `file`."""
    kind, _, mark = request.headers.get("content-type", "").partition("boundary=")
    if not kind.startswith("multipart/form-data") or not mark:
        return None
    for part in request.body.split(b"--" + mark.strip('"').encode())[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        if 'name="file"' not in text:
            continue
        lines = {line.partition(":")[0].strip().lower(): line.partition(":")[2].strip() for line in text.splitlines()}
        filename = text.partition('filename="')[2].partition('"')[0] or "file"
        return lines.get("content-type", "application/octet-stream"), filename, data.removesuffix(b"\r\n")
    return None


if __name__ == "__main__":
    serve(AtlasServer)
