"""Sandbox: a backend that renders real clips on this machine, without a key, a network or a cent.

It takes the source picture, or a scene generated from the prompt's words, under the camera move that the prompt names,
and gives H.264 at 24 fps with a bed of sound where sound is asked for. Its model ids are lanes (`swift`, `steady`,
`thrifty`): one renderer, made to wait and to fail at different rates, so that routing and failover can be watched; and
`double:acme/cat`, which plays another backend's part: it takes all that a request can hold (references, a negative
prompt and cfg_scale have no effect) and films drafts. `words` stages failures and delays.

Law: rendering and files live in threads; the event loop only asks. An order is on disk before its operation is told,
so another process can take it up: what was rendered is found, what was not is rendered anew, for it costs nothing.
`callback_url` is not rung: a poll tells at once.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import msgspec

from providers.sandbox.film import clip_seconds
from providers.sandbox.orders import End, Fell, Order, Orders
from providers.sandbox.size import SizeRefused, frame_size
from providers.sandbox.studio import LANES, Studio, broken
from providers.sandbox.words import CueUnknown, Words
from providers.spec import (
    Failed,
    Fault,
    Frozen,
    Kind,
    MediaForm,
    Operation,
    Outcome,
    Provider,
    ProviderError,
    Running,
    Status,
    Succeeded,
    Verdict,
    Video,
    VideoRequest,
    unsupported,
)

if TYPE_CHECKING:
    from providers.transport import Transport

DEV_ONLY = True  # offered without being asked for only where nothing can be bought
LONGEST_SECONDS = 30

P = ParamSpec("P")
T = TypeVar("T")


class Settings(Frozen):
    """`folder` keeps orders and clips; unset, a temporary one that goes with the process. `renders` is how many clips
    are filmed at once. `pace` scales the lanes' waiting (0: none); `failures = false` leaves out those by chance."""

    folder: str | None = None
    renders: int = 2
    pace: float = 1.0
    failures: bool = True


def make(settings: Settings, transport: Transport | None = None) -> Provider:
    """The sandbox. It sends nothing, so the transport is left alone."""
    return Adapter(settings)


class Adapter:
    """The sandbox as a provider; it also cancels, finds, forgets and closes."""

    name = "sandbox"
    takes: tuple[MediaForm, ...] = (MediaForm.BYTES,)
    buys_nothing: Literal[True] = True
    absence_disproves: Literal[True] = True  # orders are named by our own id

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._temporary: Path | None = None
        self._open: tuple[Orders, Studio] | None = None

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """Take an order and begin to render it. The same client id is the same operation, whatever it asks for."""
        lane, _, part = model_id.partition(":")
        order = Order(client_id=client_id, lane=lane, request=request, part=part)
        words = _check(order)
        if words.refuse is not None:
            raise _refused(words.refuse)
        orders, studio = self._house()
        name = await _in_thread(_take, orders, studio, order)
        if words.lose_reply:
            message = "the sandbox was told to lose its reply"
            raise ProviderError(Fault(kind=Kind.TIMEOUT, verdict=Verdict.UNSURE, message=message, code="staged"))
        return Operation(provider=self.name, id=name)

    async def poll(self, operation: Operation) -> Status:
        orders, studio = self._house()
        stage = studio.stage(operation.id)
        if stage is not None:
            return stage
        return await _in_thread(_look, orders, studio, operation.id)

    async def cancel(self, operation: Operation) -> None:
        orders, studio = self._house()
        await _in_thread(_cancel, orders, studio, operation.id)

    async def find(
        self, request: VideoRequest, *, model_id: str, client_id: str, callback_url: str | None, sent_at: datetime
    ) -> Operation | None:
        """The operation of a client id whose answer was lost; None when its order never reached the disk."""
        orders, _ = self._house()
        name = orders.name(client_id)
        order = await _in_thread(orders.read, name)
        return None if order is None else Operation(provider=self.name, id=name)

    async def forget(self, operation: Operation, *, words: bool, clip: bool) -> None:
        orders, _ = self._house()
        await _in_thread(orders.forget, operation.id, words=words, clip=clip)

    async def close(self) -> None:
        """Stop rendering. Orders that had not ended are rendered anew when the next process polls them."""
        if self._open is not None:
            await asyncio.to_thread(self._open[1].close)
        if self._temporary is not None:
            await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)

    def _house(self) -> tuple[Orders, Studio]:
        """The folder and the threads, made on first use."""
        if self._open is None:
            settings = self._settings
            if settings.folder is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="filmgate-sandbox-"))
            orders = Orders(self._temporary or Path(str(settings.folder)).expanduser().absolute())
            studio = Studio(orders, renders=settings.renders, pace=settings.pace, failures=settings.failures)
            self._open = orders, studio
        return self._open


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """File work off the event loop; a folder that cannot be used is told in the contract's words."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        message = f"the sandbox's folder cannot be used: {error.strerror or type(error).__name__}"
        fault = Fault(kind=Kind.UNAVAILABLE, verdict=Verdict.ELSEWHERE, message=message)
        # an order half written is one that nobody will ever render
        raise ProviderError(fault, outcome=Outcome.REJECTED) from error
    except msgspec.DecodeError as error:
        raise _lost("the sandbox's files of this operation cannot be read") from error


def _take(orders: Orders, studio: Studio, order: Order) -> str:
    name = orders.take(order)
    studio.begin(name)
    return name


def _check(order: Order) -> Words:
    """Refuse what cannot be rendered; what is staged. Raises ProviderError; nothing was accepted."""
    request = order.request
    if order.lane not in LANES:
        message = f"the sandbox has no lane {order.lane!r}; it has {', '.join(LANES)}"
        raise ProviderError(
            Fault(kind=Kind.UNSUPPORTED, verdict=Verdict.ELSEWHERE, message=message), outcome=Outcome.NOT_SENT
        )
    given = {
        "negative_prompt": bool(request.negative_prompt),
        "cfg_scale": request.cfg_scale is not None,
        "references": bool(request.references),
    }
    for field, is_given in given.items():
        if is_given and not LANES[order.lane].is_double:
            raise unsupported(field, by="the sandbox")
    try:
        words = order.words()
        frame_size(request)
    except (msgspec.ValidationError, CueUnknown, SizeRefused) as error:
        raise _invalid(str(error)) from error
    seconds = clip_seconds(request)
    if not 1 <= seconds <= LONGEST_SECONDS or any(shot.seconds < 1 for shot in request.shots):
        raise _invalid(f"{seconds} s cannot be rendered: a clip has 1 to {LONGEST_SECONDS} s, and each shot at least 1")
    if request.shots and request.seconds not in (None, seconds):
        raise _invalid(f"the shots last {seconds} s together, but {request.seconds} s were asked for")
    for frame, media in (("first", request.first_frame), ("last", request.last_frame)):
        if media is not None and not media.data:
            raise _invalid(f"the {frame} frame came without its bytes")
    return words


def _invalid(message: str) -> ProviderError:
    fault = Fault(kind=Kind.INVALID_REQUEST, verdict=Verdict.NEVER, message=message[:500])
    return ProviderError(fault, outcome=Outcome.NOT_SENT)


def _refused(kind: Literal["invalid_request", "unavailable"]) -> ProviderError:
    verdict = Verdict.NEVER if kind == "invalid_request" else Verdict.ELSEWHERE
    fault = Fault(kind=Kind(kind), verdict=verdict, message="the sandbox was told to refuse this order", code="staged")
    return ProviderError(fault, outcome=Outcome.REJECTED)


def _look(orders: Orders, studio: Studio, name: str) -> Status:
    """The state on disk; an order that nobody renders is begun again."""
    if studio.has_collapsed(name):
        message = "the renderer itself broke; its traceback is on the server's stderr"
        orders.settle(name, Fell(fault=broken(message, "collapsed")))
    end = orders.end(name)
    if end is not None:
        return _ended(orders, name, end)
    if orders.read(name) is None:
        raise _lost(f"the sandbox knows no operation {name!r}")
    studio.begin(name)
    stage = studio.stage(name)
    if stage is not None:
        return stage
    end = orders.end(name)  # it ended between the two looks
    return Running() if end is None else _ended(orders, name, end)


def _ended(orders: Orders, name: str, end: End) -> Status:
    if isinstance(end, Fell):
        return Failed(fault=end.fault, cost_usd_micros=0)
    clip = orders.clip(name)
    if not clip.exists():
        raise _lost(f"the clip of {name!r} was rendered, but its file is gone")
    return Succeeded(videos=(Video(path=str(clip)),), cost_usd_micros=0)


def _lost(message: str) -> ProviderError:
    return ProviderError(Fault(kind=Kind.OPERATION_LOST, verdict=Verdict.ELSEWHERE, message=message), status=404)


def _cancel(orders: Orders, studio: Studio, name: str) -> None:
    if orders.read(name) is None:
        raise _lost(f"the sandbox knows no operation {name!r}")
    fault = Fault(kind=Kind.CANCELLED, verdict=Verdict.NEVER, message="cancelled as asked; nothing was charged")
    if not orders.settle(name, Fell(fault=fault)):
        end = orders.end(name)
        if not (isinstance(end, Fell) and end.fault.kind is Kind.CANCELLED):
            message = "too late to cancel: the render has ended"
            raise ProviderError(Fault(kind=Kind.UNSUPPORTED, verdict=Verdict.NEVER, message=message))
    studio.stop(name)
