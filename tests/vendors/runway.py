"""Runway, as its clients see it: tasks and ephemeral uploads. It has no callbacks and no list.

Law: a body is judged when it comes, pictures and prompts when the task runs; a task's cost is told when it has ended,
and a moderated one costs as much as a good one. Sources, read 2026-11-23: runwayml 5.24.0 and @runwayml/sdk 4.20.1
(wire, types, docstrings), docs.dev.runwayml.com errors, task-failures, api-details/moderation, assets/inputs. What no
source tells is marked "inferred".

The upload's target and the files, on hosts of their own at Runway, are on this server's own address.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import io
import secrets
import uuid
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from multipart import MultipartError, MultipartParser, parse_options_header  # type: ignore[import-untyped]

from tests.vendors import kit, pictures, runway_models
from tests.vendors.kit import Phase, Render
from tests.vendors.process import serve
from tests.vendors.runway_models import Issue, Model
from tests.vendors.script import Act, Family, Op, Verb
from tests.vendors.server import Options, Vendor
from tests.vendors.wire import Reply, Request, json_reply

VERSION = "2024-11-06"
USD_MICROS_PER_CREDIT = 10_000
PICTURE_TYPES = ("JPEG", "PNG", "WEBP")

# what is said with each status is inferred, but for the shape
_WORDS = {
    400: "Validation of body failed",
    401: "The API key is not valid",
    404: "Not found",
    405: "Method not allowed",
    429: "You have reached the daily limit of generations for this model",
}
NO_CREDITS = "You do not have enough credits to run this task."  # github.com/runwayml/sdk-node issue 28


class _Asked(msgspec.Struct):
    """What an upload begins with."""

    filename: str
    type: str


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What a task came to; reached once and never changed."""

    status: str  # SUCCEEDED | FAILED
    credits: int
    output: tuple[str, ...] = ()
    failure: str = ""
    code: str | None = None


class Task(msgspec.Struct, kw_only=True):
    """One task that was taken on."""

    id: str
    endpoint: str
    model: Model
    body: dict[str, Any]
    base: str  # the address under which the client knows us
    created_us: int
    render: Render
    fate: Act | None
    end: End | None = None
    deleted: bool = False
    refunded: bool = False  # by a cancel that came before the render
    oddities: int = 0  # answers that the script still makes odd
    lock: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return str(self.body["model"])

    @property
    def credits(self) -> int:
        return runway_models.credits_of(self.model, self.body)

    def spends_oddity(self, verb: Verb) -> bool:
        if self.fate is None or self.fate.verb is not verb or not self.oddities:
            return False
        self.oddities -= 1
        return True


class RunwayServer(Vendor):
    """Runway's tasks and what belongs to them."""

    name: ClassVar[str] = "runway"
    id_fields: ClassVar[frozenset[str]] = frozenset({"id"})
    cancel_taken: ClassVar[Reply] = Reply(status=204)

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        super().__init__(folder, options)
        self.tasks: dict[str, Task] = {}
        self.max_concurrent: int | None = None  # of one model; tier 1 has 1
        # of a stopped task the client's types say both: that it is CANCELLED, and that it can't be fetched again
        self.tells_cancelled = False
        self._uploads: dict[str, bytes] = {}  # runway:// address → bytes
        self._places: dict[str, str] = {}  # key of an upload's form → the address that it will have

    # --- what is said on errors -----------------------------------------------------------------------------------

    def words(self, status: int, act: Act | None = None) -> Reply:
        text = (act and act.message) or _WORDS.get(status, f"Error {status}")
        issues = [Issue("custom", ("promptText",), "Invalid")] if status == 400 and not (act and act.message) else []
        return _refusal(status, text, issues)

    # --- routes ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Reply:
        parts = [part for part in request.path.split("/") if part]
        if request.method == "POST" and parts == ["uploads-target"]:  # its fields are its credential
            return await self.perform(Op.UPLOAD, "", lambda: self._put(request))
        account = self._account(request)
        if isinstance(account, Reply):
            return account
        if request.headers.get("x-runway-version") != VERSION:
            return _refusal(400, "The X-Runway-Version header is missing or unknown")  # inferred
        match request.method, parts:
            case "POST", ["v1", ("text_to_video" | "image_to_video") as endpoint]:
                name = f"{endpoint}/{_model_in(request)}"
                return await self.perform(Op.SUBMIT, name, lambda: self._create(request, endpoint, account))
            case "GET", ["v1", "tasks", id]:
                return await self.perform(Op.STATUS, self._endpoint(id), lambda: self._retrieve(id))
            case "DELETE", ["v1", "tasks", id]:
                return await self.perform(Op.CANCEL, self._endpoint(id), lambda: self._delete(id))
            case "POST", ["v1", "uploads"]:
                return await self.perform(Op.UPLOAD, "", lambda: self._place(request))
        return self.words(404)

    def _account(self, request: Request) -> str | Reply:
        """What the ledger calls the key; or the 401 that it earns."""
        key = kit.bearer(request.headers, "bearer")
        if key is None or (self.options.keys and key not in self.options.keys):
            return self.words(401)
        return f"key-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def _endpoint(self, id: str) -> str:
        task = self.tasks.get(id)
        return f"{task.endpoint}/{task.name}" if task else ""

    # --- tasks ----------------------------------------------------------------------------------------------------

    async def _create(self, request: Request, endpoint: str, account: str) -> Reply:
        try:
            body = request.json()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _refusal(400, "The body is not JSON")  # inferred
        found = runway_models.issues(endpoint, body)
        if found:
            return _refusal(400, _WORDS[400], found)
        name = f"{endpoint}/{body['model']}"
        fate = self.script.take(Op.SUBMIT, name, Family.JOB)
        pace = kit.Pace(seconds=fate.seconds) if fate and fate.verb is Verb.RENDER else self.options.pace
        task = Task(
            id=str(uuid.uuid4()),
            endpoint=endpoint,
            model=runway_models.MODELS[endpoint, body["model"]],
            body=body,
            base=f"http://{request.headers.get('host', '')}",
            created_us=self.clock.now_us(),
            render=Render(self.clock, pace, stuck=fate is not None and fate.verb is Verb.STUCK),
            fate=fate,
            oddities=fate.count if fate and fate.verb in (Verb.INVENTED_STATUS, Verb.RESULT_MISSING) else 0,
        )
        usd_micros = task.credits * USD_MICROS_PER_CREDIT
        row = kit.accepted(
            request=request, id=task.id, endpoint=name, account=account, at_us=task.created_us, usd_micros=usd_micros
        )
        self.bill(row)
        self.tasks[task.id] = task
        self.renders[task.id] = task.render
        self.spawn(task.render.run())
        return json_reply({"id": task.id, "estimatedCost": {"credits": task.credits}})

    async def _retrieve(self, id: str) -> Reply:
        task = self.tasks.get(id)
        if task is None or task.spends_oddity(Verb.RESULT_MISSING):
            return self.words(404)
        told: dict[str, Any] = {"id": task.id, "createdAt": _iso(task.created_us)}
        if task.deleted:
            if not self.tells_cancelled:
                return self.words(404)
            credits = 0 if task.refunded else task.credits
            return json_reply(told | {"status": "CANCELLED", "cost": {"credits": credits}})
        if self._is_throttled(task):
            return json_reply(told | {"status": "THROTTLED", "estimatedCost": {"credits": task.credits}})
        match task.render.poll():
            case Phase.QUEUED:
                told |= {"status": "PENDING", "estimatedCost": {"credits": task.credits}}
            case Phase.RUNNING:
                told |= {"status": "RUNNING", "progress": 0.5, "estimatedCost": {"credits": task.credits}}
            case Phase.DONE:
                told |= _ended(await self._end(task))
        if task.spends_oddity(Verb.INVENTED_STATUS):
            told["status"] = (task.fate and task.fate.word) or "PAUSED"
        return json_reply(told)

    def _is_throttled(self, task: Task) -> bool:
        """Whether it waits because as many of its model as the tier allows were taken on before it and still go on."""
        if self.max_concurrent is None or task.render.phase is not Phase.QUEUED:
            return False
        before = [other for other in self.tasks.values() if other.name == task.name]
        before = before[: before.index(task)]
        going = [other for other in before if other.render.phase is not Phase.DONE and not other.deleted]
        return len(going) >= self.max_concurrent

    async def _delete(self, id: str) -> Reply:
        """Stops a task that goes on, forgets one that has ended; the clip and what was paid for it are gone."""
        task = self.tasks.get(id)
        if task is None or task.deleted:
            return self.words(404)
        task.refunded = task.render.phase is Phase.QUEUED
        task.deleted = True
        if task.end is not None:
            for url in task.end.output:
                self._files.pop(url.removeprefix(task.base), None)
        task.render.finish()
        return self.cancel_taken

    # --- what a task comes to -------------------------------------------------------------------------------------

    async def _end(self, task: Task) -> End:
        async with task.lock:
            if task.end is None:
                task.end = await self._judge(task)
            return task.end

    async def _judge(self, task: Task) -> End:
        match task.fate.verb if task.fate else None:
            case Verb.FAIL_RENDER if task.fate:
                text = task.fate.message or "An unexpected error occurred."
                return _failed(task, task.fate.word or "INTERNAL", text)
            case Verb.FAIL_RESULT if task.fate:  # here: rendered, and withheld
                code = task.fate.word if "." in task.fate.word else "SAFETY.OUTPUT.VIDEO"
                return _failed(task, code, task.fate.message or "The output was rejected by content moderation.")
            case Verb.RESULT_WITHOUT_FILE:
                return End(status="SUCCEEDED", credits=task.credits)
        if any(runway_models.FORBIDDEN in prompt for prompt in runway_models.prompts_of(task.body)):
            return _failed(task, "SAFETY.INPUT.TEXT", "The prompt was rejected by content moderation.")
        seen: list[pictures.Picture] = []
        for uri in runway_models.pictures_of(task.body):
            try:
                data = await self.picture(uri)
            except OSError:
                return _failed(task, "ASSET.INVALID", "An input could not be fetched.")
            picture = pictures.look(data) if data is not None else None
            if data is not None and (picture is None or picture.format not in PICTURE_TYPES):
                return _failed(task, "ASSET.INVALID", "An input is not a valid image.")
            seen += [picture] if picture else []
        width, height = runway_models.size_of(task.body)
        follows = bool(seen) and runway_models.follows_first(task.body)
        clip = await self.film(
            seconds=runway_models.seconds_of(task.body),
            ratio=seen[0].ratio if follows else width / height,
            short_side=min(width, height),
            audio=runway_models.has_audio(task.model, task.body),
        )
        url = task.base + self.keep("video/mp4", clip, "output.mp4")
        return End(status="SUCCEEDED", credits=task.credits, output=(url,))

    async def picture(self, url: str) -> bytes | None:
        """Likewise for what was uploaded; raises OSError for an upload that is not there."""
        if not url.startswith("runway://"):
            return await super().picture(url)
        if url not in self._uploads:
            raise OSError(f"nothing was uploaded as {url}")
        return self._uploads[url]

    # --- uploads --------------------------------------------------------------------------------------------------

    async def _place(self, request: Request) -> Reply:
        try:
            asked = msgspec.json.decode(request.body, type=_Asked)
        except msgspec.DecodeError:
            asked = _Asked("", "")
        if not asked.filename or asked.type != "ephemeral":
            return _refusal(400, _WORDS[400], [Issue("invalid_type", ("filename",), "Required")])
        key = f"{secrets.token_hex(12)}/{asked.filename}"
        self._places[key] = f"runway://{secrets.token_urlsafe(24)}"
        url = f"http://{request.headers.get('host', '')}/uploads-target"
        return json_reply(
            {"uploadUrl": url, "fields": {"key": key, "policy": "cG9saWN5"}, "runwayUri": self._places[key]}
        )

    async def _put(self, request: Request) -> Reply:
        """A form's target as object stores have it: fields first, then the file; what is wrong is told in XML."""
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        fields: dict[str, str] = {}
        data = b""
        try:
            for part in MultipartParser(io.BytesIO(request.body), options.get("boundary", "")):
                if part.name == "file":
                    data = part.raw
                    break
                fields[part.name] = part.value
        except (MultipartError, ValueError):
            kind = ""
        uri = self._places.get(fields.get("key", ""))
        if kind != "multipart/form-data" or uri is None or fields.get("policy") != "cG9saWN5":
            return _xml(403, "AccessDenied")
        if not 512 <= len(data) <= 200_000_000:
            return _xml(400, "EntityTooSmall" if len(data) < 512 else "EntityTooLarge")
        self._uploads[uri] = data
        return Reply(status=204)


def _model_in(request: Request) -> str:
    try:
        body = request.json()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return str(body.get("model", "")) if isinstance(body, dict) else ""


def _refusal(status: int, text: str, issues: list[Issue] | None = None) -> Reply:
    return json_reply({"error": text} | ({"issues": issues} if issues else {}), status)


def _xml(status: int, code: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'.encode()
    return Reply(status=status, headers={"content-type": "application/xml"}, body=body)


def _failed(task: Task, code: str, text: str) -> End:
    """Moderation costs the whole price (docs api-details/moderation); that other failures cost nothing is inferred."""
    return End(status="FAILED", credits=task.credits if "SAFETY" in code.split(".") else 0, failure=text, code=code)


def _ended(end: End) -> dict[str, Any]:
    told: dict[str, Any] = {"status": end.status, "cost": {"credits": end.credits}}
    if end.status == "SUCCEEDED":
        return told | {"output": end.output}
    return told | {"failure": end.failure, "failureCode": end.code}


def _iso(at_us: int) -> str:
    return datetime.datetime.fromtimestamp(at_us / 1_000_000, datetime.UTC).isoformat().replace("+00:00", "Z")


if __name__ == "__main__":
    serve(RunwayServer)
