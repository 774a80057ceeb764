"""Kling's own platform, as its clients see it: legacy `/v1/videos/…` and API 2.0, over one store of jobs.

Law: every answer is an envelope with a code; what is wrong with an input is said at submit. `external_task_id` is
unique within an account. A callback comes with every change of a job's status, unsigned. Sources: kling.ai/document-api
(authentication, error codes, callbacks, concurrency; read 2026-11-23), clients of API 2.0 (July to October 2026).
Inferred: the code for an external_task_id that was used before (1201); the callback of API 2.0 (one item of /tasks).

Keys that are known are an API key, or `access_key:secret_key`. `slots` is the pack's: a submit beyond them gets 1303.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tests.vendors import kit, kling_models, pictures
from tests.vendors.kit import Phase, Render
from tests.vendors.kling_models import Order, Refused
from tests.vendors.process import serve
from tests.vendors.script import Act, Family, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wire import Reply, Request, json_reply

_STATUSES = {
    1000: (401, "authentication failed"),
    1001: (401, "Authorization is empty"),
    1002: (401, "Authorization is invalid"),
    1003: (401, "Authorization is not yet valid"),
    1004: (401, "Authorization has expired"),
    1100: (429, "account exception"),
    1101: (429, "account in arrears"),
    1102: (429, "resource pack depleted or expired"),
    1103: (403, "no right to access this resource"),
    1200: (400, "invalid request parameters"),
    1201: (400, "invalid parameters"),
    1202: (404, "the requested method is invalid"),
    1203: (404, "the requested resource does not exist"),
    1300: (400, "platform policy triggered"),
    1301: (400, "The content does not pass the security check"),
    1302: (429, "requests too frequent"),
    1303: (429, "parallel task over resource pack limit"),
    1304: (429, "IP whitelist policy triggered"),
    5000: (500, "internal error"),
    5001: (503, "service unavailable"),
    5002: (504, "internal timeout"),
}
# what is said for a status when nobody names a code
_CODES = {400: 1200, 401: 1002, 403: 1103, 404: 1203, 429: 1302, 500: 5000, 503: 5001, 504: 5002}
_OPERATIONS = {"text2video", "image2video"}
_V2_OPERATIONS = {"text-to-video", "image-to-video"}


def says(code: int, message: str = "") -> Reply:
    """An answer with a code that is not 0."""
    status, usual = _STATUSES[code]
    return json_reply({"code": code, "message": message or usual, "request_id": str(uuid.uuid4())}, status)


class Job:
    """One job, in either protocol."""

    def __init__(
        self,
        *,
        id: str,
        operation: str,
        account: str,
        external_id: str,
        order: Order,
        base: str,
        callback_url: str,
        created_ms: int,
        render: Render,
        fate: Act | None,
        ringing: Act | None,
    ) -> None:
        self.id = id
        self.operation = operation
        self.account = account
        self.external_id = external_id
        self.order = order
        self.base = base  # the address under which the client knows us
        self.callback_url = callback_url
        self.created_ms = created_ms
        self.render = render
        self.fate = fate
        self.ringing = ringing
        self.lock = asyncio.Lock()
        self.file: str | None = None  # its address, once it has been filmed
        odd = fate is not None and fate.verb in (Verb.INVENTED_STATUS, Verb.RESULT_MISSING)
        self._oddities = fate.count if fate and odd else 0

    @property
    def is_legacy(self) -> bool:
        return self.operation in _OPERATIONS

    def spends_oddity(self, verb: Verb) -> bool:
        """Whether this answer is one of those that the script made odd in this way; asking spends one."""
        if self.fate is None or self.fate.verb is not verb or not self._oddities:
            return False
        self._oddities -= 1
        return True

    @property
    def failure(self) -> str | None:
        """Why it failed; moderation shows in the sentence alone."""
        match self.fate:
            case Act(verb=Verb.FAIL_RENDER):
                return self.fate.message or "The task failed for internal reasons"
            case Act(verb=Verb.FAIL_RESULT):
                return self.fate.message or "Failure to pass the risk control system"
        return None

    def shown(self, phase: Phase) -> dict[str, Any]:
        """The job as JSON: legacy's `data`, or an item of `/tasks`."""
        word = {Phase.QUEUED: "submitted", Phase.RUNNING: "processing"}.get(phase)
        failed = self.failure if word is None else None
        if word is None:
            word = "failed" if failed is not None else "succeed" if self.is_legacy else "succeeded"
        is_done, moments = phase is Phase.DONE, (self.created_ms, self.created_ms + 1)
        file = {"url": self.file} if self.file is not None else {}
        files = [{"id": f"v{self.id}", "duration": f"{self.order.seconds}.041"} | file] if file else []
        if self.is_legacy:
            told: dict[str, Any] = {
                "task_id": self.id,
                "task_status": word,
                "task_info": {"external_task_id": self.external_id} if self.external_id else {},
                "created_at": moments[0],
                "updated_at": moments[1],
            }
            if failed is not None:
                return told | {"task_status_msg": failed}
            done = {"final_unit_deduction": self.order.units, "task_result": {"videos": files}}
            return told | (done if is_done else {})
        told = {"id": self.id, "external_id": self.external_id, "status": word, "message": failed or ""}
        told |= {"create_time": moments[0], "update_time": moments[1]}
        if not is_done or failed is not None:
            return told
        charge = {"charge_type": "unit", "amount": self.order.units, "package_type": "video", "list_price": "0.14"}
        return told | {"outputs": [{"type": "video"} | one for one in files], "billing": [charge]}


class KlingServer(Vendor):
    """Both of Kling's protocols."""

    name: ClassVar[str] = "kling"
    id_fields: ClassVar[frozenset[str]] = frozenset({"task_id", "id", "external_task_id", "external_id"})
    cancel_taken: ClassVar[Reply] = json_reply({"code": 0, "message": "SUCCEED"})  # never said: there is no cancelling

    def __init__(self, folder: Path, options: Options | None = None, *, slots: int | None = None) -> None:
        super().__init__(folder, options)
        self.jobs: dict[str, Job] = {}
        self.slots = slots

    def words(self, status: int, act: Act | None = None) -> Reply:
        """A status that Kling never says comes from what stands before it, without a code."""
        if act is not None and act.word.isdecimal():
            return says(int(act.word), act.message)
        if status in _CODES:
            return says(_CODES[status], act.message if act else "")
        return json_reply({"message": f"Error {status}"}, status)

    # --- routes ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        parts = [part for part in request.path.split("/") if part]
        account = self._account(request, is_v2=parts[:1] != ["v1"])
        if isinstance(account, Reply):
            return account
        match request.method, parts:
            case "POST", ["v1", "videos", operation] if operation in _OPERATIONS:
                return await self.perform(Op.SUBMIT, operation, lambda: self._submit(request, account, operation, ""))
            case "POST", [operation, model] if operation in _V2_OPERATIONS:
                endpoint = f"{operation}/{model}"
                return await self.perform(Op.SUBMIT, endpoint, lambda: self._submit(request, account, operation, model))
            case "GET", ["v1", "videos", operation, id] if operation in _OPERATIONS:
                return await self.perform(Op.STATUS, operation, lambda: self._status(account, operation, id))
            case "GET", ["v1", "videos", operation] if operation in _OPERATIONS:
                return await self.perform(Op.LIST, operation, lambda: self._list(request, account, operation))
            case "GET", ["tasks"]:
                return await self.perform(Op.STATUS, "tasks", lambda: self._tasks(request, account))
        return says(1202)

    def _account(self, request: Request, *, is_v2: bool) -> str | Reply:
        """Who asks; or the 401 that the credential earns."""
        if not request.headers.get("authorization"):
            return says(1001)
        token = kit.bearer(request.headers, "bearer")
        if token is None:
            return says(1002)
        if token.count(".") == 2:
            return says(1002) if is_v2 else self._signed(token)
        if self.options.keys and token not in self.options.keys:
            return says(1002)
        return "api-key-" + hashlib.sha256(token.encode()).hexdigest()[:12]

    def _signed(self, token: str) -> str | Reply:
        """An access key's own token: HS256 over exactly iss, exp and nbf."""
        head, claims, signature = token.split(".")
        try:
            header, said = (msgspec.json.decode(_unpadded(part)) for part in (head, claims))
            signed = _unpadded(signature)
        except (msgspec.DecodeError, ValueError):
            return says(1002)
        if header != {"alg": "HS256", "typ": "JWT"} or not isinstance(said, dict) or set(said) != {"iss", "exp", "nbf"}:
            return says(1002)
        pairs = dict(key.split(":", 1) for key in self.options.keys if ":" in key)
        secret = pairs.get(said["iss"])
        if secret is not None:
            true = hmac.digest(secret.encode(), f"{head}.{claims}".encode(), "sha256")
            if not hmac.compare_digest(true, signed):
                return says(1000)
        elif self.options.keys:
            return says(1002)
        now = self.clock.now_us() // 1_000_000
        if said["nbf"] > now:
            return says(1003)
        return says(1004) if said["exp"] <= now else str(said["iss"])

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def _submit(self, request: Request, account: str, operation: str, model: str) -> Reply:
        try:
            job = self._accept(request, account, operation, model)
        except Refused as refusal:
            return says(refusal.code, refusal.message)
        ring = self.spawn(self._follow(job))
        if job.ringing and job.ringing.verb is Verb.CALLBACK_BEFORE_REPLY:
            job.render.finish()
            await ring
        return _envelope(job.shown(Phase.QUEUED))

    def _accept(self, request: Request, account: str, operation: str, model: str) -> Job:
        """Looks the input over, bills it, and begins. Raises Refused."""
        try:
            body = request.json()
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refused(1200, "the body is not JSON") from None
        if not isinstance(body, dict):
            raise Refused(1200, "the body is no object")
        is_legacy = operation in _OPERATIONS
        order = (
            kling_models.legacy_order(operation, body) if is_legacy else kling_models.v2_order(operation, model, body)
        )
        options = body if is_legacy else body.get("options", {})
        external_id, callback_url = options.get("external_task_id", ""), options.get("callback_url", "")
        if not isinstance(external_id, str) or not isinstance(callback_url, str):
            raise Refused(1201, "external_task_id or callback_url is invalid")
        mine = [job for job in self.jobs.values() if job.account == account]
        if external_id and any(job.external_id == external_id for job in mine):
            raise Refused(1201, "external_task_id already exists")
        if self.slots is not None and sum(job.render.phase is not Phase.DONE for job in mine) >= self.slots:
            raise Refused(1303, "parallel task over resource pack limit")
        endpoint = operation if is_legacy else f"{operation}/{model}"
        fate = self.script.take(Op.SUBMIT, endpoint, Family.JOB)
        pace = kit.Pace(seconds=fate.seconds) if fate and fate.verb is Verb.RENDER else self.options.pace
        job = Job(
            id=str(893_605_000_000_000_000 + len(self.jobs)),
            operation=operation,
            account=account,
            external_id=external_id,
            order=order,
            base=f"http://{request.headers.get('host', '')}",
            callback_url=callback_url,
            created_ms=self.clock.now_us() // 1000,
            render=Render(self.clock, pace, stuck=fate is not None and fate.verb is Verb.STUCK),
            fate=fate,
            ringing=self.script.take(Op.SUBMIT, endpoint, Family.CALLBACK),
        )
        row = kit.accepted(
            request=request,
            id=job.id,
            endpoint=endpoint,
            account=account,
            at_us=self.clock.now_us(),
            callback_url=callback_url,
            client_id=external_id,
            usd_micros=order.usd_micros,
        )
        self.bill(row)
        self.jobs[job.id] = job
        self.renders[job.id] = job.render
        return job

    async def _follow(self, job: Job) -> None:
        """Sees a job to its end, and tells of each change of its status."""
        if job.callback_url:
            fuss = job.ringing and job.ringing.verb in (Verb.CALLBACK_DROP, Verb.CALLBACK_DUPLICATE)
            await self._tell(job, Phase.RUNNING, job.ringing if fuss else None)
        await job.render.run()
        await self._film(job)
        if job.callback_url:
            await self._tell(job, Phase.DONE, job.ringing)

    async def _tell(self, job: Job, phase: Phase, act: Act | None) -> None:
        body = msgspec.json.encode(job.shown(phase))
        await self.ring(job.id, job.callback_url, body, sign=lambda body: {}, act=act)

    async def _status(self, account: str, operation: str, id: str) -> Reply:
        """By Kling's id or the client's, under the operation that made it."""
        found = self._known(account, lambda job: job.operation == operation and id in (job.id, job.external_id))
        if not found or found[0].spends_oddity(Verb.RESULT_MISSING):
            return says(1201, "Task not found")
        return _envelope(await self._seen(found[0]))

    async def _tasks(self, request: Request, account: str) -> Reply:
        ids, own = (request.first(name) for name in ("task_ids", "external_task_ids"))
        if bool(ids) == bool(own):
            return says(1201, "one of task_ids and external_task_ids is required")
        wanted = (ids or own).split(",")
        found = self._known(account, lambda job: not job.is_legacy and (job.id if ids else job.external_id) in wanted)
        there = [job for job in found if not job.spends_oddity(Verb.RESULT_MISSING)]
        return _envelope([await self._seen(job) for job in there])

    async def _list(self, request: Request, account: str, operation: str) -> Reply:
        try:
            page, size = int(request.first("pageNum", "1")), int(request.first("pageSize", "30"))
        except ValueError:
            page = size = 0
        if not (1 <= page <= 1000 and 1 <= size <= 500):
            return says(1201, "pageNum is 1 to 1000, pageSize 1 to 500")
        found = self._known(account, lambda job: job.operation == operation)[::-1]
        return _envelope([job.shown(job.render.phase) for job in found[(page - 1) * size : page * size]])

    def _known(self, account: str, is_meant: Callable[[Job], bool]) -> list[Job]:
        return [job for job in self.jobs.values() if job.account == account and is_meant(job)]

    async def _seen(self, job: Job) -> dict[str, Any]:
        phase = job.render.poll()
        if phase is Phase.DONE:
            await self._film(job)
        told = job.shown(phase)
        if job.fate is not None and job.spends_oddity(Verb.INVENTED_STATUS):
            told["task_status" if job.is_legacy else "status"] = job.fate.word or "reviewing"
        return told

    async def _film(self, job: Job) -> None:
        async with job.lock:
            without = job.failure is not None or (job.fate and job.fate.verb is Verb.RESULT_WITHOUT_FILE)
            if job.file is not None or without:
                return
            order = job.order
            picture = next(filter(None, map(pictures.look, kling_models.frames(order))), None)
            width, _, height = (order.ratio or "16:9").partition(":")
            ratio = picture.ratio if picture and not order.ratio else int(width) / int(height)
            clip = await self.film(seconds=order.seconds, ratio=ratio, short_side=order.short_side, audio=order.sounds)
            job.file = job.base + self.keep("video/mp4", clip, "output.mp4")


def _envelope(data: Any) -> Reply:
    return json_reply({"code": 0, "message": "SUCCEED", "request_id": str(uuid.uuid4()), "data": data})


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)


if __name__ == "__main__":
    serve(KlingServer)
