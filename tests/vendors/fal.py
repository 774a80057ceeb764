"""fal, as its clients see it: the queue, the sync run, uploads, callbacks, signing keys, the list of requests.

Law: like fal, it takes any input at submit and says what was wrong with it only in the result; a job that failed is
COMPLETED all the same. Sources: fal.ai/docs (queue, errors, webhooks, platform APIs; read 2026-11-23), fal-client 1.0.3
and @fal-ai/client 1.10.1. What no source tells is marked "inferred".

One address serves what fal spreads over four hosts:
    URL/…       queue.fal.run        URL/run/…            fal.run
    URL/…       rest.fal.ai          URL/v1/…             api.fal.ai/v1        URL/files/…   v3.fal.media
Callbacks go to loopback too, where fal itself delivers to public addresses only.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import datetime
import hashlib
import secrets
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tests.vendors import ed25519, fal_models, kit
from tests.vendors.fal_jobs import CANCELLED, Job, Verdict, flat_error, judge
from tests.vendors.kit import Phase, Render
from tests.vendors.process import serve
from tests.vendors.script import Act, Family, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wire import Reply, Request, json_reply

USER_ID = "user_0123456789"

_WORDS = {
    400: ("Bad request", "bad_request"),
    404: ("Request not found", ""),
    409: ("Conflict", ""),
    429: ("Too many requests", "concurrent_requests_limit"),
    500: ("Internal server error", "internal_error"),
    502: ("The runner sent an incomplete response", "runner_incomplete_response"),
    503: ("No runner could be scheduled", "runner_scheduling_failure"),
    504: ("The request timed out", "request_timeout"),
}
_ACCOUNT_WORDS = {
    401: "No user found for Key ID and Secret",
    403: "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing.",
}


class _Asked(msgspec.Struct):
    """What an upload begins with."""

    content_type: str
    file_name: str


class FalServer(Vendor):
    """fal's queue and what belongs to it."""

    name: ClassVar[str] = "fal"
    id_fields: ClassVar[frozenset[str]] = frozenset(
        {"request_id", "gateway_request_id", "response_url", "status_url", "cancel_url"}
    )
    cancel_taken: ClassVar[Reply] = json_reply({"status": "CANCELLATION_REQUESTED"}, 202)

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        super().__init__(folder, options)
        self.jobs: dict[str, Job] = {}
        self._queue: collections.deque[Job] = collections.deque()
        self.signing_seed = hashlib.sha256(str(folder).encode()).digest()
        self._tokens: set[str] = set()
        self._uploads: dict[str, tuple[str, str]] = {}  # PUT path → (content type, file path)

    # --- what is said on errors -----------------------------------------------------------------------------------

    def words(self, status: int, act: Act | None = None) -> Reply:
        if status in _ACCOUNT_WORDS:
            return json_reply({"detail": _ACCOUNT_WORDS[status]}, status)
        if status == 422:
            said = fal_models.complaint(["body"], "The input is not valid", (act and act.word) or "value_error")
            return json_reply({"detail": [said]}, 422)
        text, type = _WORDS.get(status, (f"Error {status}", "internal_error" if status >= 500 else ""))
        return flat_error(status, text, (act and act.word) or type).reply()

    # --- routes ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        reply = await self._route(request)
        if reply.headers.get("content-type") == "text/html":
            return reply  # from the ingress before fal, which names no request: that is how clients tell them apart
        return msgspec.structs.replace(reply, headers={"x-fal-request-id": str(uuid.uuid4())} | reply.headers)

    async def _route(self, request: Request) -> Reply:
        parts = [part for part in request.path.split("/") if part]
        match request.method, parts:
            case "GET", [".well-known", "jwks.json"]:
                return json_reply({"keys": [self._jwk()]})
            case "POST", ["files", "upload"]:
                return await self.perform(Op.UPLOAD, "", lambda: self._upload(request))
            case "PUT", ["upload", _]:  # the address is its own credential
                return await self.perform(Op.UPLOAD, "", lambda: self._put(request))
        account = self._account(request)
        if isinstance(account, Reply):
            return account
        match request.method, parts:
            case "POST", ["storage", "auth", "token"]:
                return self._token(request)
            case "POST", ["storage", "upload", "initiate"]:
                return self._initiate(request)
            case "GET", ["v1", "models", "requests", "by-endpoint"]:
                return await self.perform(Op.LIST, request.first("endpoint_id"), lambda: self._list(request))
            case "GET" | "PUT", [*_, "requests", _] | [*_, "requests", _, _] | [*_, "requests", _, "status", "stream"]:
                return await self._about_job(request, parts)
            case "POST", ["run", _, _, *_]:
                endpoint = "/".join(parts[1:])
                return await self.perform(Op.RUN, endpoint, lambda: self._run(request, endpoint, account))
            case "POST", [_, _, *_]:
                endpoint = "/".join(parts)
                return await self.perform(Op.SUBMIT, endpoint, lambda: self._submit(request, endpoint, account))
        return json_reply({"detail": "Not Found"}, 404)

    def _account(self, request: Request) -> str | Reply:
        """The public half of the key; or the 401 that it earns."""
        key = kit.bearer(request.headers, "key")
        if key is None:
            return json_reply({"detail": "Authentication is required to access this application."}, 401)  # inferred
        account, colon, secret = key.partition(":")
        if not (account and colon and secret):
            text = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."
            return json_reply({"detail": text}, 401)
        return self.words(401) if self.options.keys and key not in self.options.keys else account

    # --- the queue ------------------------------------------------------------------------------------------------

    async def _submit(self, request: Request, endpoint: str, account: str) -> Reply:
        job = self._accept(request, endpoint, account, Op.SUBMIT)
        if isinstance(job, Reply):
            return job
        ring = self.spawn(self._follow(job))
        if job.ringing and job.ringing.verb is Verb.CALLBACK_BEFORE_REPLY:
            job.render.finish()
            await ring
        return job.answer(self._status(job, Phase.QUEUED))

    async def _run(self, request: Request, endpoint: str, account: str) -> Reply:
        job = self._accept(request, endpoint, account, Op.RUN)
        if isinstance(job, Reply):
            return job
        await self._follow(job)
        return (await self._verdict(job)).reply(job.id)

    def _accept(self, request: Request, endpoint: str, account: str, op: Op) -> Job | Reply:
        try:
            body = request.json()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return flat_error(400, "Invalid JSON in the request's body", "bad_request").reply()  # inferred
        if not endpoint.startswith(tuple(f"{app}/" for app in fal_models.KNOWN_APPS)):
            return json_reply({"detail": f"Application '{endpoint}' not found"}, 404)  # inferred
        limit = request.first("fal_max_queue_length")
        if limit.isdigit() and sum(job.render.phase is Phase.QUEUED for job in self.jobs.values()) > int(limit):
            return self.words(429)
        fate = self.script.take(op, endpoint, Family.JOB)
        pace = self.options.pace
        if fate and fate.verb is Verb.RENDER:
            pace = kit.Pace(seconds=fate.seconds)
        job = Job(
            id=str(uuid.uuid4()),
            number=len(self.jobs),
            endpoint=endpoint,
            body=body,
            base=f"http://{request.headers.get('host', '')}",
            callback_url=request.first("fal_webhook"),
            created_us=self.clock.now_us(),
            render=Render(self.clock, pace, stuck=fate is not None and fate.verb is Verb.STUCK),
            fate=fate,
            ringing=self.script.take(op, endpoint, Family.CALLBACK),
        )
        self.bill(
            kit.accepted(
                request=request,
                id=job.id,
                endpoint=endpoint,
                account=account,
                at_us=job.created_us,
                callback_url=job.callback_url,
                usd_micros=job.usd_micros,
            )
        )
        self.jobs[job.id] = job
        self._queue.append(job)
        self.renders[job.id] = job.render
        return job

    async def _follow(self, job: Job) -> None:
        """Sees a job to its end and rings."""
        await job.render.run()
        if job.callback_url:
            verdict = await self._verdict(job)
            body = msgspec.json.encode(verdict.callback(job.id))
            await self.ring(
                job.id, job.callback_url, body, sign=lambda body: self._signature(job.id, body), act=job.ringing
            )

    async def _about_job(self, request: Request, parts: list[str]) -> Reply:
        at = len(parts) - 1 - parts[::-1].index("requests")
        app, id, tail = "/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :])
        job = self.jobs.get(id)
        # fal's own addresses name the app alone; its OpenAPI files name the whole endpoint: both are served
        known = job is not None and app in (job.app, job.endpoint)
        endpoint = job.endpoint if job is not None else app
        match request.method, tail:
            case "GET", "status":
                return await self.perform(
                    Op.STATUS, endpoint, lambda: self._answer_status(request, job if known else None)
                )
            case "GET", "status/stream" if job is not None and known:
                stream = self._stream(job, with_logs=_wants_logs(request))
                return Reply(headers={"content-type": "text/event-stream", "x-fal-request-id": id}, stream=stream)
            case "GET", "" | "response":
                return await self.perform(Op.RESULT, endpoint, lambda: self._answer_result(job if known else None))
            case "PUT", "cancel":
                return await self.perform(Op.CANCEL, endpoint, lambda: self._cancel(job if known else None))
        return self.words(404)

    async def _answer_status(self, request: Request, job: Job | None) -> Reply:
        if job is None:
            return self.words(404)
        phase = job.render.poll()
        return job.answer(self._status(job, phase, with_logs=_wants_logs(request)), done=phase is Phase.DONE)

    def _status(self, job: Job, phase: Phase, *, with_logs: bool = False) -> dict[str, Any]:
        while self._queue and self._queue[0].render.phase is not Phase.QUEUED:
            self._queue.popleft()
        # counted by number, so that a poll costs the same with ten jobs and with ten thousand
        ahead = job.number - self._queue[0].number if self._queue else 0
        return job.status(phase, queue_position=max(0, ahead), with_logs=with_logs)

    async def _stream(self, job: Job, *, with_logs: bool) -> AsyncIterator[bytes]:
        last: Phase | None = None
        while last is not Phase.DONE:
            phase = job.render.poll()
            if phase is not last:
                yield b"data: " + msgspec.json.encode(self._status(job, phase, with_logs=with_logs)) + b"\n\n"
                last = phase
            elif self.options.pace.steps is None:
                await asyncio.sleep(0.01)

    async def _answer_result(self, job: Job | None) -> Reply:
        if job is None or job.spends_oddity(Verb.RESULT_MISSING):
            return self.words(404)
        if job.render.phase is not Phase.DONE:
            # clients tell "not yet" from "failed" by this very text (@ai-sdk/fal 3.0.41); the code is inferred
            return json_reply({"detail": "Request is still in progress"}, 400, {"x-fal-request-id": job.id})
        return (await self._verdict(job)).reply(job.id)

    async def _cancel(self, job: Job | None) -> Reply:
        if job is None:
            return json_reply({"status": "NOT_FOUND"}, 404)
        if job.render.phase is Phase.DONE:
            return json_reply({"status": "ALREADY_COMPLETED"}, 400)
        job.verdict = CANCELLED
        job.render.finish()
        return self.cancel_taken

    async def _verdict(self, job: Job) -> Verdict:
        async with job.lock:
            if job.verdict is None:
                job.verdict = await judge(job, self)
            return job.verdict

    # --- callbacks ------------------------------------------------------------------------------------------------

    def _jwk(self) -> dict[str, str]:
        public = base64.urlsafe_b64encode(ed25519.public_key(self.signing_seed)).decode().rstrip("=")
        return {"kty": "OKP", "crv": "Ed25519", "x": public}

    def _signature(self, id: str, body: bytes) -> dict[str, str]:
        now = str(self.clock.now_us() // 1_000_000)
        message = "\n".join((id, USER_ID, now, hashlib.sha256(body).hexdigest())).encode()
        return {
            "x-fal-webhook-request-id": id,
            "x-fal-webhook-user-id": USER_ID,
            "x-fal-webhook-timestamp": now,
            "x-fal-webhook-signature": ed25519.sign(self.signing_seed, message).hex(),
        }

    # --- uploads --------------------------------------------------------------------------------------------------

    def _token(self, request: Request) -> Reply:
        token = f"cdn-token-{secrets.token_hex(8)}"
        self._tokens.add(token)
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        base = f"http://{request.headers.get('host', '')}"
        return json_reply({"token": token, "token_type": "Bearer", "base_url": base, "expires_at": ends.isoformat()})

    async def _upload(self, request: Request) -> Reply:
        if kit.bearer(request.headers, "bearer") not in self._tokens:
            return json_reply({"detail": "Invalid token"}, 401)
        name = request.headers.get("x-fal-file-name", "upload.bin")
        path = self.keep(request.headers.get("content-type", ""), request.body, name)
        return json_reply({"access_url": f"http://{request.headers.get('host', '')}{path}"})

    def _initiate(self, request: Request) -> Reply:
        try:
            asked = msgspec.json.decode(request.body, type=_Asked)
        except msgspec.DecodeError:
            return self.words(422)
        path = f"/upload/{secrets.token_hex(12)}"
        file_path = self.keep(asked.content_type, b"", asked.file_name)
        self._uploads[path] = (asked.content_type, file_path)
        base = f"http://{request.headers.get('host', '')}"
        return json_reply({"upload_url": base + path, "file_url": base + file_path})

    async def _put(self, request: Request) -> Reply:
        if request.path not in self._uploads:
            return self.words(404)
        content_type, file_path = self._uploads[request.path]
        self._files[file_path] = (content_type, request.body)
        return json_reply({})

    # --- the list -------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Reply:
        """Ended requests, the latest first. That one still in flight is not listed is inferred from its sorting."""
        day_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=24)
        endpoints = {part for text in request.query.get("endpoint_id", []) for part in text.split(",") if part}
        try:
            start = _microseconds(request.first("start", day_ago.isoformat()))
            end = _microseconds(request.first("end", "9999-01-01"))
            page = int(base64.b64decode(request.first("cursor", "MQ==")))
            limit = int(request.first("limit", "50"))
        except ValueError:
            limit = 0
        if not endpoints or not 1 <= limit <= 100:
            said = "endpoint_id is required, limit is 1 to 100, start and end are ISO 8601"
            return json_reply({"error": {"type": "validation_error", "message": said}}, 400)  # its shape is inferred
        found = []
        for job in self.jobs.values():
            if job.endpoint in endpoints and job.ended_us is not None and start <= job.ended_us < end:
                item = job.listed(await self._verdict(job), with_payloads="payloads" in request.first("expand"))
                if request.first("request_id", job.id) == job.id:
                    found.append((job.ended_us, item))
        found.sort(key=lambda pair: -pair[0])
        wanted = [item for _, item in found if request.first("status") in ("", item.pop("_kind"))]
        more = len(wanted) > page * limit
        cursor = base64.b64encode(str(page + 1).encode()).decode() if more else None
        return json_reply({"items": wanted[(page - 1) * limit : page * limit], "next_cursor": cursor, "has_more": more})


def _wants_logs(request: Request) -> bool:
    return request.first("logs").lower() in ("1", "true")  # one client says 1, the other true


def _microseconds(text: str) -> int:
    moment = datetime.datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp() * 1_000_000)


if __name__ == "__main__":
    serve(FalServer)
