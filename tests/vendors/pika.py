"""Pika's own API, as its clients see it: jobs under idempotency keys, their files, uploads.

Law: one key of one account is one job: the same request under it gives that job again, whatever became of it, and never
a second one; another request under it is a conflict. Only what was taken on is in the ledger: a job that fails at its
submit is not. Sources: public clients of api.dev.pika.art and their tests (August to November 2026), docs.comfy.org's
pages of Pika's models (read 2026-11-23). What no source tells is marked "inferred".

One address serves what Pika spreads over several hosts:
    URL/v1/media/…   api.dev.pika.art        URL/put/…, URL/files/…   the hosts of its uploads and files
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import uuid
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from tests.vendors import kit, pictures
from tests.vendors.kit import Phase, Render
from tests.vendors.pika_models import (
    FORBIDDEN,
    MODELS,
    SHORT_SIDES,
    UPLOAD_LIMITS,
    Model,
    complaints,
    pictures_of,
    resolution_of,
    seconds_of,
    usd_micros_of,
)
from tests.vendors.process import serve
from tests.vendors.script import Act, Family, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wire import Reply, Request, json_reply

AT_WORK = frozenset(
    [
        "invalid_input",
        "content_moderation",
        "provider_error",
        "provider_timeout",
        "provider_unavailable",
        "rate_limited",
        "timed_out",
        "internal",
    ]
)
# before any work, so that the submit itself answers with a failed job: seen of the balance, inferred of the others
AT_SUBMIT = frozenset(
    [
        "insufficient_balance",
        "membership_required",
        "cycle_limit_exceeded",
        "admission_suspended",
        "usage_limit_exceeded",
    ]
)

# both shapes of an error are served, as both were seen: with a code, and without (which has which is inferred)
_CODED = {
    402: ("insufficient_balance", "The balance is too low for this request"),
    422: ("invalid_input", "The input is not valid"),
    429: ("rate_limited", "Too many requests"),
    500: ("internal", "Something went wrong"),
    503: ("provider_unavailable", "The model is not available"),
}
_PLAIN = {
    401: "Invalid API key",
    403: "This API key is not active",
    404: "Not found",
    409: "This Idempotency-Key was used with another request",
    413: "The file is too large",
    415: "This content type is not supported",
}

Ended = dict[str, Any]  # `output` or `error`, and `billing`


class Job:
    """One job, and what has become of it."""

    def __init__(self, *, id: str, model: Model, body: dict[str, Any], base: str, render: Render, fate: Act | None):
        self.id = id
        self.model = model
        self.body = body
        self.base = base  # the address under which the client knows us
        self.render = render
        self.fate = fate
        self.ended: Ended | None = None
        self.lock = asyncio.Lock()
        self.is_withheld = False  # completed, but its file not named yet
        odd = fate is not None and fate.verb in (Verb.INVENTED_STATUS, Verb.RESULT_MISSING)
        self._oddities = fate.count if fate and odd else 0

    def spends_oddity(self, verb: Verb) -> bool:
        """Whether this answer is one of those that the script made odd in this way; asking spends one."""
        if self.fate is None or self.fate.verb is not verb or not self._oddities:
            return False
        self._oddities -= 1
        return True

    def receipt(self) -> dict[str, Any]:
        """What a submit answers, the first one or a repeated one."""
        error = (self.ended or {}).get("error")
        if error is not None:
            return {"id": self.id, "status": "failed", "error": error}
        return {"id": self.id, "status": _word(self.render.phase)}

    def told(self, status: str, ended: Ended | None = None) -> dict[str, Any]:
        return {"id": self.id, "status": status, "output": None, "error": None} | (ended or {})


class PikaServer(Vendor):
    """Pika's jobs, uploads and files."""

    name: ClassVar[str] = "pika"
    id_fields: ClassVar[frozenset[str]] = frozenset({"id"})

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        super().__init__(folder, options)
        self.jobs: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], tuple[str, Job]] = {}  # account and key → what was asked, and its job
        self._places: dict[str, tuple[str, int, str]] = {}  # PUT path → content type, size, file path

    def words(self, status: int, act: Act | None = None) -> Reply:
        headers = {"x-request-id": str(uuid.uuid4())}
        if status in _PLAIN:
            return json_reply({"message": _PLAIN[status]}, status, headers)
        code, message = _CODED.get(status, ("internal" if status >= 500 else "invalid_input", f"Error {status}"))
        if act is not None:
            code, message = act.word or code, act.message or message
        return json_reply({"error": {"message": message, "code": code}}, status, headers)

    # --- routes ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        parts = [part for part in request.path.split("/") if part]
        if request.method == "PUT" and parts[:1] == ["put"]:  # the address is its own credential
            return await self.perform(Op.UPLOAD, "", lambda: self._put(request))
        account = self._account(request)
        if account is None:
            return self.words(401)
        match request.method, parts:
            case "POST", ["v1", "media", "uploads"]:
                return await self.perform(Op.UPLOAD, "", lambda: self._upload(request))
            case "GET", ["v1", "media", "jobs", id]:
                return await self.perform(Op.STATUS, "", lambda: self._status(id))
            case "GET", ["v1", "media", "jobs", id, "content"]:
                return await self.perform(Op.RESULT, "", lambda: self._content(id))
            case "POST", ["v1", "media", _, _, *_]:
                entry = "/".join(parts[2:])
                return await self.perform(Op.SUBMIT, entry, lambda: self._submit(request, entry, account))
        return self.words(404)

    def _account(self, request: Request) -> str | None:
        key = request.headers.get("x-api-key") or kit.bearer(request.headers, "bearer") or ""
        if not key.startswith("pk_") or (self.options.keys and key not in self.options.keys):
            return None
        return hashlib.sha256(key.encode()).hexdigest()[:12]

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def _submit(self, request: Request, entry: str, account: str) -> Reply:
        key = request.headers.get("idempotency-key", "")
        asked = hashlib.sha256(entry.encode() + b"\0" + request.body).hexdigest()
        if key and (account, key) in self._keys:
            before, job = self._keys[account, key]
            if before != asked:
                return self.words(409)
            if job.render.phase is Phase.DONE:
                await self._end(job)
            return json_reply(job.receipt())
        made = self._make(request, entry, account, client_id=key)
        if isinstance(made, Reply):
            return made
        if key:
            self._keys[account, key] = (asked, made)
        return json_reply(made.receipt())

    def _make(self, request: Request, entry: str, account: str, *, client_id: str) -> Job | Reply:
        model = MODELS.get(entry)
        if model is None:
            return self.words(404)
        try:
            body = request.json()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self.words(422)
        wrong = complaints(model, body, is_address=self._is_address)
        if wrong:
            return self.words(422, Act(verb=Verb.STATUS, message="; ".join(wrong)))
        fate = self.script.take(Op.SUBMIT, entry, Family.JOB)
        pace = kit.Pace(seconds=fate.seconds) if fate and fate.verb is Verb.RENDER else self.options.pace
        render = Render(self.clock, pace, stuck=fate is not None and fate.verb is Verb.STUCK)
        base = f"http://{request.headers.get('host', '')}"
        job = Job(id=str(uuid.uuid4()), model=model, body=body, base=base, render=render, fate=fate)
        self.jobs[job.id] = job
        if fate and fate.verb is Verb.FAIL_RENDER and fate.word in AT_SUBMIT:
            job.ended = _failed(fate.word, fate.message)
            render.finish()
            return job
        row = kit.accepted(
            request=request,
            id=job.id,
            endpoint=entry,
            account=account,
            at_us=self.clock.now_us(),
            client_id=client_id,
            usd_micros=usd_micros_of(model, body),
        )
        self.bill(row)
        self.renders[job.id] = render
        self.spawn(render.run())
        return job

    async def _status(self, id: str) -> Reply:
        job = self.jobs.get(id)
        if job is None:
            return self.words(404)
        phase = job.render.poll()
        if job.spends_oddity(Verb.INVENTED_STATUS):
            return json_reply(job.told((job.fate and job.fate.word) or "paused"))
        if phase is not Phase.DONE:
            return json_reply(job.told(_word(phase)))
        job.is_withheld = job.spends_oddity(Verb.RESULT_MISSING)
        if job.is_withheld:
            return json_reply(job.told("completed", {"billing": {"state": "pending"}}))
        ended = await self._end(job)
        return json_reply(job.told("failed" if ended.get("error") else "completed", ended))

    async def _content(self, id: str) -> Reply:
        job = self.jobs.get(id)
        if job is None:
            return self.words(404)
        ended = await self._end(job) if job.render.phase is Phase.DONE else {}
        if not ended.get("output") or job.is_withheld:
            return json_reply({"message": "The job is not completed"}, 409)
        url = ended["output"]["video"].get("url")
        return json_reply({"url": url}) if url else self.words(404)  # of no file: inferred

    async def _end(self, job: Job) -> Ended:
        async with job.lock:
            if job.ended is None:
                job.ended = await self._ending(job)
            return job.ended

    async def _ending(self, job: Job) -> Ended:
        fate = job.fate
        if fate and fate.verb is Verb.FAIL_RENDER:
            return _failed(fate.word or "provider_error", fate.message)
        if fate and fate.verb is Verb.FAIL_RESULT:  # Pika knows no result that fails: what is meant is its moderation
            return _failed(fate.word if fate.word in AT_WORK else "content_moderation", fate.message)
        if FORBIDDEN in (job.body.get("prompt") or ""):
            return _failed("content_moderation", "The content was flagged by moderation")
        ratio: float | None = None
        for url in pictures_of(job.body):
            try:
                data = await self.picture(url)
            except OSError:
                return _failed("invalid_input", "An image could not be downloaded")
            if data is None:
                continue
            picture = pictures.look(data)
            if picture is None or picture.size_bytes > UPLOAD_LIMITS["image"]:
                return _failed("invalid_input", "An image could not be read")
            ratio = ratio or picture.ratio
        return await self._film(job, ratio)

    async def _film(self, job: Job, picture_ratio: float | None) -> Ended:
        asked = str(job.body.get("aspect_ratio") or "auto")
        width, _, height = asked.partition(":")
        ratio = int(width) / int(height) if height else picture_ratio or 16 / 9
        short_side = SHORT_SIDES[resolution_of(job.model, job.body)]
        clip = await self.film(
            seconds=seconds_of(job.model, job.body), ratio=ratio, short_side=short_side, audio=job.model.audio
        )
        wide, high = (short_side * ratio, short_side) if ratio >= 1 else (short_side, short_side / ratio)
        video: dict[str, Any] = {"content_type": "video/mp4", "width": round(wide), "height": round(high)}
        if job.fate is None or job.fate.verb is not Verb.RESULT_WITHOUT_FILE:
            video = {"url": job.base + self.keep("video/mp4", clip, "output.mp4")} | video
        usd_micros = usd_micros_of(job.model, job.body)
        billing = {"state": "unavailable"} if usd_micros is None else _settled(usd_micros)
        return {"output": {"media_type": "video", "video": video}, "billing": billing}

    def _is_address(self, url: str) -> bool:
        """Public https; or our own upload, which on loopback is not."""
        return url.startswith("https://") or urlsplit(url).path in self._files

    # --- uploads --------------------------------------------------------------------------------------------------

    async def _upload(self, request: Request) -> Reply:
        try:
            asked = request.json()
            content_type, size = asked["content_type"], asked["size_bytes"]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            return self.words(422)
        limit = UPLOAD_LIMITS.get(str(content_type).partition("/")[0])
        if limit is None:
            return self.words(415)
        if not isinstance(size, int) or size < 1:
            return self.words(422)
        if size > limit:
            return self.words(413)
        path = f"/put/{secrets.token_hex(12)}"
        file_path = self.keep(content_type, b"", "upload")
        self._places[path] = (content_type, size, file_path)
        base = f"http://{request.headers.get('host', '')}"
        headers = {"Content-Type": content_type}
        return json_reply({"upload_url": base + path, "headers": headers, "url": base + file_path})

    async def _put(self, request: Request) -> Reply:
        """As storage of signed addresses does: what was not signed for is refused, a stray key too (inferred)."""
        content_type, size, file_path = self._places.get(request.path, ("", 0, ""))
        right = request.headers.get("content-type") == content_type and len(request.body) == size
        if not right or not file_path or "x-api-key" in request.headers:
            return self.words(403)
        self._files[file_path] = (content_type, request.body)
        return Reply()


def _word(phase: Phase) -> str:
    return {Phase.QUEUED: "queued", Phase.RUNNING: "running", Phase.DONE: "completed"}[phase]


def _failed(code: str, message: str) -> Ended:
    return {"error": {"code": code, "message": message or f"The job failed: {code}"}}


def _settled(usd_micros: int) -> dict[str, Any]:
    return {"state": "settled", "charge_micro_usd": usd_micros}


if __name__ == "__main__":
    serve(PikaServer)
