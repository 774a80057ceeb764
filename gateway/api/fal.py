"""fal's queue, spoken to fal's own clients: submit, status, its stream, result, cancel, the blocking run, uploads.

Law: a client changes its host and nothing else. What it submits is a job like any other (`buying.buy`), made by whoever
is best for it; the key that reads a request is the key that made it. Addresses that are handed out lead here.

    FAL_QUEUE_RUN_HOST=gateway.example/fal   FAL_RUN_HOST=gateway.example/fal/run
    fal.config({ proxyUrl: { url: "https://gateway.example/fal/proxy", when: "always" } })
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import parse_qsl

import structlog
from litestar import Request, route
from litestar.enums import HttpMethod as Method
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ExceptionHandlersMap

from gateway.api import Rooms, buying, fal_answers, fal_hook, fal_words, videos, wire
from gateway.api.answers import PROBLEM, Answer, encode, header, request_id
from gateway.api.auth import KeyRing
from gateway.api.fal_files import Files
from gateway.api.fal_paths import ROOT, Act, Call, Endpoints, call_of, call_through_proxy
from gateway.api.problems import Problem
from gateway.api.streaming import Stream
from gateway.api.unheard import Heard, Question, Unheard
from gateway.jobs import Job, JobState
from gateway.store.feed import Listener
from gateway.store.spec import Key, StoreUnavailable

log = structlog.get_logger(__name__)

METHODS = (Method.GET, Method.POST, Method.PUT, Method.DELETE, Method.PATCH)
LOOK_SECONDS = 15.0  # an open stream says something this often, so that nobody in between takes it for dead
MAX_UPLOAD = 20 << 20
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?")
_LIVE = "Nothing is made in real time here, and no output is streamed while it is made: submit, or run, instead."


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    queue = _Queue(rooms)

    @route([ROOT, ROOT + "/{rest:path}"], http_method=METHODS, status_code=200, exception_handlers=HANDLERS)
    async def fal(request: Request[Any, Any, Any]) -> Answer:
        return await queue.answer(request)

    return [fal]


class _Queue:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._ring = KeyRing(rooms.store.live, rooms.settings)
        self._endpoints = Endpoints(rooms.catalogue, rooms.settings.routing.aliases)
        self._unheard = Unheard()
        self._files = Files(rooms.pictures, lambda: rooms.store.secret("uploads"), rooms.now_us)

    async def answer(self, request: Request[Any, Any, Any]) -> Answer:
        """Raises Problem; the handlers below put it in fal's words."""
        scope = request.scope
        path = scope["path"].removeprefix(ROOT)
        if path == "/proxy":
            call = call_through_proxy(scope["method"], header(scope, b"x-fal-target-url") or "")
        else:
            call = call_of(scope["method"], path, scope["query_string"].decode("latin-1"))
        base = self._base(request)
        match call.act:
            case Act.SUBMIT | Act.RUN:
                return await self._buy(request, call, base)
            case Act.STATUS | Act.STREAM | Act.RESULT | Act.CANCEL:
                return await self._follow(request, call, base)
            case Act.LIVE:
                raise Problem(400, "bad_request", _LIVE)
            case _:
                return await self._file(request, call, base)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    async def _buy(self, request: Request[Any, Any, Any], call: Call, base: str) -> Answer:
        key = self._ring.caller(request.scope)
        endpoint = self._endpoints.find(call.name)
        wire.must_be_json(request)
        body = await wire.read(request, limit=wire.LARGE)
        wishes = fal_words.understood(
            body,
            endpoint,
            callback_url=_first(call.query, "fal_webhook"),
            pinned=_is_yes(header(request.scope, fal_words.DISABLE_FALLBACK)),
        )
        mark = (key.id, call.act.value, wishes.asked.fingerprint())
        question = self._unheard.ask(mark, request.receive)
        try:
            job = await self._known(mark) or await self._bought(key, wishes)
            question.became(job.id)
            if call.act is Act.SUBMIT:
                answer = fal_answers.said(fal_answers.queued(job, self._rooms.store.live, base), number=job.id)
            else:
                answer = await self._result(await self._ended(job, question), base)
        except BaseException:
            question.over()
            raise
        return Heard(answer, question)

    async def _known(self, mark: tuple[str, ...]) -> Job | None:
        """The job of an equal request whose caller hung up before it could be told."""
        while (lost := self._unheard.take(mark)) is not None:
            job_id = await lost
            if job_id is not None:
                log.info("job.asked_again", job=job_id)
                return self._rooms.store.live.job(job_id) or await self._rooms.store.job(job_id)
        return None

    async def _bought(self, key: Key, wishes: fal_words.Wishes) -> Job:
        """The job, with everything that was asked where somebody can; else without what fal would not refuse either."""
        try:
            asked = await self._files.with_own(wishes.asked, key.id)
            return (await buying.buy(self._rooms, key, asked)).job
        except Problem as problem:
            if problem.status != 422 or not problem.refusals or wishes.else_asked is None:
                raise
        asked = await self._files.with_own(wishes.else_asked, key.id)
        return (await buying.buy(self._rooms, key, asked)).job

    async def _ended(self, job: Job, question: Question) -> Job:
        """The job at its end, or as it is when nobody waits for it any more."""
        with self._rooms.store.live.feed.listen(job.caller, job.id) as listener:
            question.hung_up.add_done_callback(lambda _: listener.end())
            while not job.state.is_terminal and not listener.ended:
                await listener.wait(LOOK_SECONDS)
                job = await self._now(job, listener)
        if not job.state.is_terminal:  # we go, and the job stays: its number is in the answer's header
            message = f"The gateway stopped while {job.id} was being made; ask for its result again in a moment."
            raise Stopped(Problem(500, "internal_error", message), job.id)
        return job

    async def _now(self, job: Job, listener: Listener) -> Job:
        """The job as it stands after what the listener heard."""
        listener.take()
        listener.take_moved()
        listener.catch_up()
        return self._rooms.store.live.job(job.id) or await self._rooms.store.job(job.id) or job

    async def _follow(self, request: Request[Any, Any, Any], call: Call, base: str) -> Answer:
        key = self._ring.caller(request.scope)
        live = self._rooms.store.live
        try:
            job = await videos.own_job(self._rooms.store, key, call.name)
        except Problem as problem:
            if call.act is Act.CANCEL and problem.status == 404:
                return fal_answers.said({"status": "NOT_FOUND"}, status=404)
            raise
        with_logs = _is_yes(_first(call.query, "logs"))
        match call.act:
            case Act.STATUS:
                place = fal_answers.place(job, live, base, with_logs=with_logs)
                return fal_answers.said(place, status=200 if job.state.is_terminal else 202, number=job.id)
            case Act.STREAM:
                headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
                headers += [(b"x-fal-request-id", job.id.encode()), (b"x-accel-buffering", b"no")]
                pieces = self._places(job, base, with_logs=with_logs)
                return Stream(pieces, status=200, headers=headers, length=None, close=pieces.aclose)
            case Act.CANCEL:
                return await self._cancel(job)
            case _:
                return await self._result(job, base)

    async def _places(self, job: Job, base: str, *, with_logs: bool) -> AsyncGenerator[bytes]:
        live = self._rooms.store.live
        last: dict[str, Any] | None = None
        with live.feed.listen(job.caller, job.id) as listener:
            while True:
                place = fal_answers.place(job, live, base, with_logs=with_logs)
                if place != last:
                    yield b"data: " + encode(place) + b"\n\n"
                    last = place
                if job.state.is_terminal or listener.ended:
                    return
                if not await listener.wait(LOOK_SECONDS):
                    yield b": still there\n\n"
                job = await self._now(job, listener)

    async def _result(self, job: Job, base: str) -> Answer:
        url = self._rooms.links.content(job.id, now_us=self._rooms.now_us(), base=base)
        kept = await self._rooms.store.files.of(job.id) if job.state is JobState.COMPLETED else None
        size = kept.archived.size_bytes if kept is not None and kept.archived is not None else None
        return fal_answers.result(job, self._rooms.store.live, url=url, size=size)

    async def _cancel(self, job: Job) -> Answer:
        if not job.state.is_terminal:
            job = await videos.wish_end(self._rooms.store, job, now_us=self._rooms.now_us())
        if job.state.is_terminal:
            return fal_answers.said({"status": "ALREADY_COMPLETED"}, status=400, number=job.id)
        self._rooms.store.live.wake(job.id)
        return fal_answers.said({"status": "CANCELLATION_REQUESTED"}, status=202, number=job.id)

    # --- files --------------------------------------------------------------------------------------------------------

    async def _file(self, request: Request[Any, Any, Any], call: Call, base: str) -> Answer:
        match call.act:
            case Act.KEYS:
                keys = fal_hook.jwks(await self._rooms.store.secret(fal_hook.SECRET))
                return fal_answers.said(keys, headers=[(b"cache-control", b"public, max-age=3600")])
            case Act.TOKEN:
                key = self._ring.caller(request.scope)
                return fal_answers.said(await self._files.token(key.id, base))
            case Act.INITIATE:
                key = self._ring.caller(request.scope)
                wire.must_be_json(request)
                asked = wire.decode(await wire.read(request, limit=wire.SMALL), dict[str, Any])
                return fal_answers.said(self._files.initiate(key.id, base, asked))
            case Act.PUT:
                await self._files.put(call.name, await wire.read(request, limit=MAX_UPLOAD))
                return fal_answers.said({})
            case Act.UPLOAD:
                caller = await self._files.caller_of(header(request.scope, b"authorization") or "")
                data = await wire.read(request, limit=MAX_UPLOAD)
                name = header(request.scope, b"x-fal-file-name")
                return fal_answers.said(await self._files.upload(caller, base, data, name))
            case _:
                return await self._files.serve(call.name)

    def _base(self, request: Request[Any, Any, Any]) -> str:
        """This gateway's address: as configured, else as the client called it."""
        server = self._rooms.settings.server
        if server.public_url is not None:
            return server.public_url.rstrip("/")
        host = header(request.scope, b"host") or ""
        if not _HOST.fullmatch(host):
            host = f"{server.host}:{server.port}"
        return f"{request.scope['scheme']}://{host}"


class Stopped(Exception):
    """The server ends before the job that a caller waits for."""

    def __init__(self, problem: Problem, job_id: str) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.job_id = job_id


def _first(query: str, name: str) -> str | None:
    return next((value for key, value in parse_qsl(query) if key == name), None)


def _is_yes(text: str | None) -> bool:
    return (text or "").strip().lower() in ("1", "true", "yes")  # one client writes 1, the other true


# --- errors -----------------------------------------------------------------------------------------------------------


def _answer_problem(request: Request[Any, Any, Any], problem: Problem) -> Answer:
    request.scope[PROBLEM] = problem.code  # type: ignore[literal-required]
    return fal_answers.refused(problem)


def _answer_stopped(request: Request[Any, Any, Any], stopped: Stopped) -> Answer:
    request.scope[PROBLEM] = stopped.problem.code  # type: ignore[literal-required]
    return fal_answers.refused(stopped.problem, number=stopped.job_id)


def _answer_http(request: Request[Any, Any, Any], error: HTTPException) -> Answer:
    if error.status_code >= 500:
        return _answer_any(request, error)
    return fal_answers.refused(Problem(error.status_code, "bad_request", str(error.detail)))


def _answer_store(request: Request[Any, Any, Any], error: StoreUnavailable) -> Answer:
    """A 503 would be asked again by a client that has just asked us to buy; whether nothing was is for a person."""
    log.error("store.unavailable", path=request.scope["path"][:200], said=str(error)[:200])
    message = "Nothing can be stored at the moment. Try again shortly."
    return fal_answers.refused(Problem(500 if request.scope["method"] == "POST" else 503, "internal_error", message))


def _answer_any(request: Request[Any, Any, Any], error: Exception) -> Answer:
    number = request_id()
    log.error("request.failed", request=number, path=request.scope["path"][:200], exc_info=error)
    message = f"Something went wrong on our side. Tell the operator this number: {number}."
    return fal_answers.refused(Problem(500, "internal_error", message), number=number)


HANDLERS: ExceptionHandlersMap = {
    Stopped: _answer_stopped,  # type: ignore[dict-item]
    Problem: _answer_problem,  # type: ignore[dict-item]
    HTTPException: _answer_http,  # type: ignore[dict-item]
    StoreUnavailable: _answer_store,  # type: ignore[dict-item]
    Exception: _answer_any,  # type: ignore[dict-item]
}
