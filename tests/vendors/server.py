"""The part of a vendor server that is the same at every vendor: life, script, control plane, callbacks, files.

Law: a subclass says what its vendor says (`answer`, `words`, …); how a call goes wrong is decided here, by
the script, so that every vendor fails in the same words.

In a test                                    As a process of its own
    with FalServer(tmp_path) as fal:             python -m tests.vendors.fal --folder DIR [--port N]
        fal.say(act("status", status=503))       curl -d '{"verb": "status", "status": 503}' URL/_script
        … fal.url …                              (it prints "listening on URL" once it does)
        assert fal.ledger() == []                DIR/ledger.jsonl, requests.jsonl, callbacks.jsonl

Control plane: POST /_script (an act or a list), GET /_script (acts left), DELETE /_script, POST /_advance
{"seconds": n} (virtual clock), POST /_finish {"id": …} (that render ends now; without id: all of them).
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import itertools
import math
import re
import secrets
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx
import msgspec

from tests.vendors import film, kit, pictures
from tests.vendors.kit import Clock, Delivery, Journal, Pace, Render, Row, Seen
from tests.vendors.script import Act, Op, Script, Verb
from tests.vendors.wire import LoopThread, Manner, Reply, Request, Server, json_reply

Sign = Callable[[bytes], dict[str, str]]  # a callback's body → the headers that go with it


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a vendor server behaves when no script says otherwise."""

    port: int = 0  # 0: a free one
    pace: Pace = Pace()
    virtual: bool = False  # time passes only by `advance`
    keys: tuple[str, ...] = ()  # credentials that are known; none given: any well-formed one is
    true_size: bool = False  # clips in the size that was bought; else a small one of the same shape, which is cheap
    fetch_pictures: bool = False  # fetch and check pictures at other people's addresses too
    callback_tries: int = 32
    callback_retry_seconds: float = 0.2  # before the second try; each further wait is twice as long, up to 30


class Vendor(abc.ABC):
    """A vendor server on loopback."""

    name: ClassVar[str]
    id_fields: ClassVar[frozenset[str]]  # what an answer without an id lacks, at any depth
    cancel_taken: ClassVar[Reply]  # what a cancel is answered that the vendor takes up
    max_callback_seconds: ClassVar[float] = 15.0

    def __init__(self, folder: Path, options: Options | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.options = options or Options()
        self.script = Script()
        self.clock = Clock(virtual=self.options.virtual)
        self.url = ""
        self.renders: dict[str, Render] = {}
        self._ledger = Journal(folder / kit.LEDGER, Row, durable=True)
        self._requests = Journal(folder / kit.REQUESTS, Seen)
        self._callbacks = Journal(folder / kit.CALLBACKS, Delivery)
        self._files: dict[str, tuple[str, bytes]] = {}
        self._server = Server(self._handle, pause=self.clock.sleep)
        self._work: set[asyncio.Task[Any]] = set()
        self._held_back: dict[str, Callable[[], Awaitable[None]]] = {}  # id of a job → how it is told
        self._told: set[str] = set()
        self._thread: LoopThread | None = None
        self._rung = threading.Condition()

    # --- what a vendor says ---------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def answer(self, request: Request) -> Reply:
        """The vendor's answer to one request; calls that a script may touch go through `perform`."""

    @abc.abstractmethod
    def words(self, status: int, act: Act | None = None) -> Reply:
        """The vendor's own error reply for a status."""

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._client = httpx.AsyncClient(follow_redirects=False, timeout=self.max_callback_seconds, trust_env=False)
        self.url = await self._server.start(port=self.options.port)

    async def stop(self) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._server.stop()
        await self._client.aclose()
        for journal in (self._ledger, self._requests, self._callbacks):
            journal.close()

    def __enter__(self) -> Self:
        self._thread = LoopThread(self.name)
        self._thread.run(self.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._thread.run(self.stop())
        self._thread.stop()
        if kind is None and self._server.defects:
            raise AssertionError(f"the {self.name} server itself failed") from self._server.defects[0]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work beside the calls; ended with the server. What it raises is a defect of the server."""

        async def watched() -> None:
            try:
                await work
            except Exception as error:
                self._server.defects.append(error)
                raise

        task = asyncio.get_running_loop().create_task(watched())
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    # --- for tests, from their own thread -------------------------------------------------------------------------

    def say(self, *acts: Act) -> None:
        self.script.add(*acts)

    def ledger(self) -> list[Row]:
        return self._ledger.lines()

    def requests(self) -> list[Seen]:
        return self._requests.lines()

    def callbacks(self, count: int = 0, seconds: float = 10) -> list[Delivery]:
        """The tries to deliver a callback, once there are `count` or more; raises TimeoutError."""
        with self._rung:
            if not self._rung.wait_for(lambda: len(self._callbacks.lines()) >= count, seconds):
                raise TimeoutError(f"there were not {count} tries to call back within {seconds} s")
            return self._callbacks.lines()

    def advance(self, seconds: float) -> None:
        """Lets virtual time pass."""
        assert self._thread is not None
        self._thread.run(self.clock.advance(seconds))

    def finish(self, id: str | None = None) -> None:
        """Ends one render now, or all of them."""
        assert self._thread is not None
        self._thread.run(self._finish(id))

    async def _finish(self, id: str | None) -> None:
        for render in [self.renders[id]] if id is not None else list(self.renders.values()):
            render.finish()

    # --- one call -------------------------------------------------------------------------------------------------

    async def _handle(self, request: Request) -> Reply:
        if request.path.startswith("/_"):
            return await self._control(request)
        self._requests.write(kit.seen(request, self.clock.now_us()))
        if request.path.startswith("/files/") and request.method in ("GET", "HEAD"):
            return await self.perform(Op.FILE, "", lambda: self._serve_file(request))
        return await self.answer(request)

    async def _control(self, request: Request) -> Reply:
        try:
            match request.method, request.path:
                case "POST", "/_script":
                    said = request.json()
                    self.script.add(*msgspec.convert(said if isinstance(said, list) else [said], list[Act]))
                case "DELETE", "/_script":
                    self.script.clear()
                case "POST", "/_advance":
                    await self.clock.advance(float(request.json()["seconds"]))
                case "POST", "/_finish":
                    await self._finish(request.json().get("id") if request.body else None)
                case "GET", "/_script":
                    pass
                case _:
                    return json_reply({"error": "no such control"}, 404)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            return json_reply({"error": f"{type(error).__name__}: {error}"}, 400)
        return json_reply(self.script.left())

    async def perform(self, op: Op, endpoint: str, real: Callable[[], Awaitable[Reply]]) -> Reply:
        """The real answer, or what the script makes of this call."""
        act = self.script.take(op, endpoint)
        if act is None:
            return await real()
        reply = await real() if act.does_the_work else None
        return self._spoil(act, reply)

    def _spoil(self, act: Act, reply: Reply | None) -> Reply:
        true = reply or json_reply({"status": "ok"})
        kept = {**true.headers, **act.headers}
        match act.verb:
            case Verb.STATUS:
                spoilt = self.words(act.status or 500, act)
                return _replace(spoilt, body=_body(act, spoilt.body), headers=spoilt.headers | act.headers)
            case Verb.HTML:
                page = _body(act, b"<html><head><title>fault</title></head><body><h1>fault</h1></body></html>")
                return Reply(status=act.status or 200, headers={"content-type": "text/html"} | act.headers, body=page)
            case Verb.EMPTY:
                return _replace(true, body=b"", headers=kept)
            case Verb.TRUNCATED:
                return _replace(true, body=true.body[: len(true.body) // 2], headers=kept)
            case Verb.NO_ID:
                bare = _without(msgspec.json.decode(true.body), self.id_fields)
                return _replace(true, body=msgspec.json.encode(bare), headers=kept)
            case Verb.REDIRECT:
                return Reply(status=act.status or 307, headers={"location": act.word or "/elsewhere"} | act.headers)
            case Verb.SLOW:
                return _replace(true, headers=kept, manner=Manner(before_seconds=act.seconds))
            case Verb.DRIP:
                return _replace(true, headers=kept, manner=Manner(drip_seconds=act.seconds))
            case Verb.HALF_REPLY:
                return _replace(true, headers=kept, manner=Manner(cut=0.5, reset=act.reset))
            case Verb.ACCEPT_THEN_CUT | Verb.CUT_BEFORE_ACCEPT:
                return Reply(manner=Manner(cut=0, reset=act.reset))
            case Verb.ACCEPT_THEN_STALL | Verb.STALL_BEFORE_ACCEPT:
                return Reply(manner=Manner(before_seconds=act.seconds or math.inf, cut=0, reset=act.reset))
            case Verb.IGNORE:
                return self.cancel_taken
        raise AssertionError(f"{act.verb} is not about one call")

    def bill(self, row: Row) -> None:
        """On disk when this returns."""
        self._ledger.write(row)

    # --- callbacks ------------------------------------------------------------------------------------------------

    async def ring(self, id: str, url: str, body: bytes, *, sign: Sign, act: Act | None) -> None:
        """Delivers one callback as the script wants it; returns after the first try (retries go on beside)."""

        async def deliver() -> None:
            await self._deliver(id, url, body, sign)
            self._told.add(id)
            for held in [held for held in self._held_back if self._is_overtaken(held)]:
                await self._held_back.pop(held)()

        match act.verb if act else None:
            case Verb.CALLBACK_DROP:
                return
            case Verb.CALLBACK_REORDER if not self._is_overtaken(id):
                self._held_back[id] = deliver
                return
            case Verb.CALLBACK_DELAY if act:
                await self.clock.sleep(act.seconds)
        for _ in range(act.count if act and act.verb is Verb.CALLBACK_DUPLICATE else 1):
            await deliver()

    def _is_overtaken(self, id: str) -> bool:
        """Whether a job that was accepted after this one has been told of already."""
        later = itertools.dropwhile(lambda other: other != id, self.renders)
        return not self._told.isdisjoint(itertools.islice(later, 1, None))

    async def _deliver(self, id: str, url: str, body: bytes, sign: Sign) -> None:
        status = await self._try(id, url, body, sign)
        if not _is_final(status):
            self.spawn(self._try_again(id, url, body, sign))

    async def _try_again(self, id: str, url: str, body: bytes, sign: Sign) -> None:
        pause = self.options.callback_retry_seconds
        for _ in range(self.options.callback_tries - 1):
            await self.clock.sleep(pause)
            if _is_final(await self._try(id, url, body, sign)):
                return
            pause = min(30.0, pause * 2)

    async def _try(self, id: str, url: str, body: bytes, sign: Sign) -> int:
        status = 0
        with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL):
            headers = {"content-type": "application/json", **sign(body)}
            status = (await self._client.post(url, content=body, headers=headers)).status_code
        with self._rung:
            self._callbacks.write(Delivery(at_us=self.clock.now_us(), id=id, url=url, status=status))
            self._rung.notify_all()
        return status

    # --- files ----------------------------------------------------------------------------------------------------

    def keep(self, content_type: str, body: bytes, name: str) -> str:
        """Keeps a file; the path at which it is served from now on."""
        path = f"/files/{secrets.token_hex(12)}/{name}"
        self._files[path] = (content_type, body)
        return path

    async def picture(self, url: str) -> bytes | None:
        """The bytes behind a picture's address or data URI; None where they are to be believed in. Raises OSError."""
        if url.startswith("data:"):
            return pictures.from_data_uri(url) or b""
        try:
            kept = self._files.get(httpx.URL(url).path)
            if kept is not None:
                return kept[1]
            if not self.options.fetch_pictures:
                return None
            return (await self._client.get(url)).raise_for_status().content
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError(f"{url}: {error}") from error

    async def film(self, *, seconds: float, ratio: float, short_side: int, audio: bool) -> bytes:
        """A clip as it was bought (but small, unless `true_size`)."""
        width, height = film.size_of(ratio, short_side if self.options.true_size else 180)
        return await asyncio.to_thread(film.clip, seconds, width, height, audio=audio)

    async def _serve_file(self, request: Request) -> Reply:
        file = self._files.get(request.path)
        if file is None:
            return self.words(404)
        content_type, body = file
        headers = {"content-type": content_type, "accept-ranges": "bytes", "cache-control": "public, max-age=31536000"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
        if not asked or not any(asked.groups()):
            return Reply(headers=headers, body=body)
        first, last = asked.groups()
        start = int(first) if first else max(0, len(body) - int(last))
        end = min(int(last), len(body) - 1) if first and last else len(body) - 1
        if start > end:
            return Reply(status=416, headers=headers | {"content-range": f"bytes */{len(body)}"})
        headers["content-range"] = f"bytes {start}-{end}/{len(body)}"
        return Reply(status=206, headers=headers, body=body[start : end + 1])


def _is_final(status: int) -> bool:
    """Delivered, or refused for good: a redirect is never followed."""
    return 200 <= status < 400


def _replace(reply: Reply, **changes: Any) -> Reply:
    return msgspec.structs.replace(reply, **changes)


def _body(act: Act, otherwise: bytes) -> bytes:
    if act.body is None:
        return otherwise
    return act.body.encode() if isinstance(act.body, str) else msgspec.json.encode(act.body)


def _without(value: Any, fields: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner, fields) for name, inner in value.items() if name not in fields}
    return [_without(inner, fields) for inner in value] if isinstance(value, list) else value
