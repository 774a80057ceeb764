"""The threads that render: which orders are being filmed, how far each is, and how each ends.

Law: at most `renders` films at once; an order is filmed by one thread of this process at a time. A stop leaves no file
and writes no end: a cancel has written its own before, and an order stopped by the process's end is filmed anew.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from queue import SimpleQueue

from providers.sandbox.film import DRAFT_FPS, FPS, PictureUnreadable, clip_seconds, film
from providers.sandbox.orders import Clip, Fell, Order, Orders
from providers.sandbox.size import SizeRefused
from providers.sandbox.words import Words
from providers.spec import Fault, Frozen, Kind, Queued, Running, Verdict


class Lane(Frozen):
    """One of the sandbox's backends: the same renderer, made to wait and to fail as vendors do.

    `wait` is added seconds for each second of the clip; `failure_rate` the share of orders that break part way, chosen
    by a hash of the client id, so that the same order always fares the same. A double plays another backend's part: it
    takes whatever that one takes, and films it as a draft.
    """

    wait: float
    failure_rate: float
    is_double: bool = False


LANES = {
    "swift": Lane(wait=0.0, failure_rate=0.05),
    "steady": Lane(wait=0.35, failure_rate=0.0),
    "thrifty": Lane(wait=1.2, failure_rate=0.25),
    "double": Lane(wait=0.0, failure_rate=0.0, is_double=True),
}


class _Stopped(Exception):
    """The film is not wanted any more."""


class _Broke(Exception):
    """The film breaks off here, by chance or by order."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Film:
    """One film in the making. `hand` is the thread that is at it, once one is."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hand: threading.Thread | None = None
        self.share = 0.0
        self.looked = 0.0  # the share at which its end was last looked for

    def wait(self, seconds: float) -> None:
        """Wait; raise _Stopped when asked to stop."""
        if self.stop.wait(None if math.isinf(seconds) else seconds):
            raise _Stopped


class Studio:
    """Films orders of one folder. `pace` scales the lanes' waiting; without `failures` only ordered ones happen.

    Its threads are daemons, so that no render keeps a process alive that wants to end.
    """

    def __init__(self, orders: Orders, *, renders: int, pace: float, failures: bool) -> None:
        self._orders = orders
        self._renders = renders
        self._pace = pace
        self._failures = failures
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[str, _Film] | None] = SimpleQueue()
        self._hands: list[threading.Thread] = []
        self._films: dict[str, _Film] = {}

    def begin(self, name: str) -> None:
        """Film an order that has not ended, unless a thread of this process is at it."""
        with self._lock:
            if name in self._films or self._orders.end(name) is not None:
                return
            work = self._films[name] = _Film()
            self._queue.put((name, work))
            self._hire()

    def stage(self, name: str) -> Queued | Running | None:
        """How far an order is; None when nobody here is at it. Touches no file."""
        work = self._films.get(name)
        if work is None or work.stop.is_set() or (work.hand is not None and not work.hand.is_alive()):
            return None
        if work.hand is not None:
            return Running(progress=work.share)
        waiting = [other for other in list(self._films.values()) if other.hand is None]
        return Queued(position=waiting.index(work) if work in waiting else 0)

    def has_collapsed(self, name: str) -> bool:
        """Whether the renderer itself broke at this order and took its thread along. Told once; others go on."""
        with self._lock:
            work = self._films.get(name)
            if work is None or work.hand is None or work.hand.is_alive():
                return False
            del self._films[name]
            self._hire()
            return True

    def stop(self, name: str) -> None:
        """Have an order's film broken off, soon."""
        work = self._films.get(name)
        if work is not None:
            work.stop.set()

    def close(self) -> None:
        """Stop every film and wait for the threads."""
        with self._lock:
            for work in self._films.values():
                work.stop.set()
            for _ in self._hands:
                self._queue.put(None)
        for hand in self._hands:
            hand.join()

    def _hire(self) -> None:
        self._hands = [hand for hand in self._hands if hand.is_alive()]
        if len(self._hands) < self._renders:
            hand = threading.Thread(target=self._serve, name=f"sandbox-{len(self._hands)}", daemon=True)
            self._hands.append(hand)
            hand.start()

    def _serve(self) -> None:
        """One thread: film after film. A fault of ours ends it, shows on stderr, and is told by `has_collapsed`."""
        while (item := self._queue.get()) is not None:
            name, work = item
            work.hand = threading.current_thread()
            order = self._orders.read(name)
            if order is not None and not work.stop.is_set() and self._orders.end(name) is None:
                self._film(name, order, work)
            with self._lock:
                self._films.pop(name, None)

    def _film(self, name: str, order: Order, work: _Film) -> None:
        draft = self._orders.draft(name)
        first, last = self._orders.picture(name, "first"), self._orders.picture(name, "last")
        try:
            film(
                order.request,
                draft,
                first=first,
                last=last,
                tick=self._tick(name, order, work),
                draft=LANES[order.lane].is_double,
            )
            draft.replace(self._orders.clip(name))
            self._orders.settle(name, Clip())
        except _Stopped:
            draft.unlink(missing_ok=True)
            return
        except _Broke as broke:
            self._orders.settle(name, Fell(fault=broke.fault))
        except (PictureUnreadable, SizeRefused) as refused:
            fault = Fault(kind=Kind.INVALID_REQUEST, verdict=Verdict.NEVER, message=str(refused)[:500])
            self._orders.settle(name, Fell(fault=fault))
        self._orders.clear(name)

    def _tick(self, name: str, order: Order, work: _Film) -> Callable[[float], None]:
        """What happens before each frame: the lane's waiting, the staged words, the end of an unwanted film."""
        lane, words = LANES[order.lane], order.words()
        seconds = clip_seconds(order.request)
        pause = (lane.wait * seconds * self._pace + words.seconds) / (seconds * (DRAFT_FPS if lane.is_double else FPS))
        fault, breaking = fate(order, words, failures=self._failures)
        held = False

        def tick(share: float) -> None:
            nonlocal held
            work.wait(pause)
            if share >= work.looked + 0.1:
                work.looked = share
                if self._orders.end(name) is not None:  # cancelled through another process
                    raise _Stopped
            work.share = share
            if words.hold and share >= 0.5 and not held:
                held = True
                work.wait(math.inf if words.hold is True else words.hold)
            if fault is not None and share >= breaking:
                raise _Broke(fault)

        return tick


def fate(order: Order, words: Words, *, failures: bool) -> tuple[Fault | None, float]:
    """Whether a film breaks, and at which share of it: as its words say, else (with `failures`) as its lane's luck has
    it, which is a hash of the client id."""
    digest = hashlib.sha256(f"{order.lane}\n{order.client_id}".encode()).digest()
    luck, where = digest[0] / 256 + digest[1] / 65536, 0.25 + 0.5 * digest[2] / 255
    if words.fail == "content_policy":
        message = "the sandbox was told to refuse this clip's content"
        return Fault(kind=Kind.CONTENT_POLICY, verdict=Verdict.NEVER, message=message, code="staged"), where
    if words.fail:
        return broken("the sandbox was told to break this render", "staged"), where
    if failures and luck < LANES[order.lane].failure_rate:
        return broken(f"the render broke part way, as some do in lane {order.lane}", "by_chance"), where
    return None, where


def broken(message: str, code: str) -> Fault:
    """A render that did not end in a clip, though another might."""
    return Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE, message=message, code=code)
