"""The shared words: what a clip is, what a vendor answers, and what a provider must be able to do.

Law: data here is frozen and carries no vendor's name; every adapter speaks these words and no others.
Adapters translate. They do not wait, loop, retry, log, count or look at the clock: the gateway's worker does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, dataclass_transform, runtime_checkable

import msgspec


class Secret:
    """A credential. Its text comes out only by `reveal`; a repr, a log line or an error shows dots."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(•••)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _FrozenMeta(msgspec.StructMeta):
    """Makes `kw_only` the rule for every record: msgspec would have it said anew in each class."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        config.setdefault("kw_only", True)
        return super().__new__(mcls, name, bases, namespace, **config)


class Frozen(msgspec.Struct, metaclass=_FrozenMeta, frozen=True, omit_defaults=True):
    """The manner of every plain record: immutable, named fields, defaults left out of its JSON."""


# --- what is asked for ------------------------------------------------------------------------------------------------


class MediaForm(enum.StrEnum):
    """The shapes in which a picture can be handed to a vendor."""

    URL = "url"  # an http(s) address that the vendor can fetch
    UPLOAD = "upload"  # an address that the vendor's own upload gave (the `Uploads` face)
    DATA_URI = "data_uri"  # data:image/png;base64,…
    BYTES = "bytes"  # the bytes themselves (raw base64 on the wire, or a renderer on this machine)


class Media(Frozen):
    """One picture, checked: what its header says, where it is kept, and the form in which a vendor gets it.

    `sha256` names the kept bytes. `source_url` is the caller's own public address, when there was one. `handed` is
    filled by the gateway just before a submit, in the first of the adapter's `takes` that is possible: the text that
    stands in the vendor's field (address or data URI), or None when the adapter takes `data`.
    """

    sha256: str
    content_type: str  # image/jpeg | image/png | image/webp, by the file's own magic bytes
    width: int
    height: int
    size_bytes: int
    source_url: str | None = None
    handed: str | None = None
    data: bytes | None = None


class Shot(Frozen):
    """One cut of a multi-shot clip."""

    prompt: str
    seconds: int


class Camera(enum.StrEnum):
    """A camera move that a caller can ask for by name."""

    STATIC = "static"
    PUSH_IN = "push_in"
    PULL_OUT = "pull_out"
    DOLLY_LEFT = "dolly_left"
    DOLLY_RIGHT = "dolly_right"
    PAN_LEFT = "pan_left"
    PAN_RIGHT = "pan_right"
    TILT_UP = "tilt_up"
    TILT_DOWN = "tilt_down"
    ZOOM_IN = "zoom_in"
    ZOOM_OUT = "zoom_out"
    ORBIT_LEFT = "orbit_left"
    ORBIT_RIGHT = "orbit_right"


class Mode(enum.StrEnum):
    """How a clip begins; a backend may sell each under another model id."""

    TEXT = "text"
    FIRST_FRAME = "first_frame"  # with or without a last frame
    REFERENCES = "references"


class VideoRequest(Frozen):
    """One clip. None means that the caller left it open; `catalogue.match` closes it for one backend before a submit,
    so an adapter always finds `seconds`, `resolution` and `audio` set, and `aspect_ratio` set unless the clip follows
    its picture."""

    prompt: str = ""
    negative_prompt: str | None = None
    seconds: int | None = None
    resolution: str | None = None  # 480p | 720p | 768p | 1080p | 1440p | 2k | 4k: the short side, except 2k and 4k
    aspect_ratio: str | None = None  # "16:9"
    width: int | None = None  # pixels, where the caller named a size
    height: int | None = None
    audio: bool | None = None
    first_frame: Media | None = None
    last_frame: Media | None = None
    references: tuple[Media, ...] = ()
    shots: tuple[Shot, ...] = ()
    camera: Camera | None = None
    seed: int | None = None
    cfg_scale: float | None = None  # 0 (free) to 1 (strict)
    options: dict[str, dict[str, Any]] = {}  # provider.options: vendor → its own fields, passed through unread

    @property
    def mode(self) -> Mode:
        if self.references:
            return Mode.REFERENCES
        return Mode.FIRST_FRAME if self.first_frame or self.last_frame else Mode.TEXT


# --- what a vendor answers --------------------------------------------------------------------------------------------


class Operation(Frozen):
    """The vendor's handle of one paid job: JSON, enough to poll it from another process a day later.

    `id` is the vendor's own id (unique per account, checked by the store); `ref` is whatever else the adapter needs.
    """

    provider: str
    id: str
    ref: dict[str, str] = {}


class Video(Frozen):
    """One finished file: an address, or (from a backend that renders on this machine) a path."""

    url: str | None = None
    path: str | None = None
    content_type: str = "video/mp4"


class Kind(enum.StrEnum):
    """What went wrong, by whose doing."""

    INVALID_REQUEST = "invalid_request"  # the caller's
    CONTENT_POLICY = "content_policy"
    UNSUPPORTED = "unsupported"
    AUTHENTICATION = "authentication"  # the operator's
    INSUFFICIENT_FUNDS = "insufficient_funds"
    RATE_LIMITED = "rate_limited"  # the vendor's capacity
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    GENERATION_FAILED = "generation_failed"  # the work's
    OPERATION_LOST = "operation_lost"
    CANCELLED = "cancelled"  # the vendor confirms that it stopped
    UNKNOWN = "unknown"

    @property
    def is_callers(self) -> bool:
        return self in (Kind.INVALID_REQUEST, Kind.CONTENT_POLICY, Kind.UNSUPPORTED)

    @property
    def is_operators(self) -> bool:
        return self in (Kind.AUTHENTICATION, Kind.INSUFFICIENT_FUNDS)


class Verdict(enum.StrEnum):
    """What may be done about it. The adapter says; only the worker decides."""

    NEVER = "never"  # no backend would fare better
    SAME = "same"  # the same question can be asked again (polls; a submit that was provably not accepted)
    ELSEWHERE = "elsewhere"  # another backend may fare better
    UNSURE = "unsure"  # nobody knows whether it was bought


class Fault(Frozen):
    """Kind × verdict, with a sentence for people: never a secret, never a whole prompt, at most 500 characters."""

    kind: Kind
    verdict: Verdict
    message: str = ""
    code: str = ""  # the vendor's own word for it, for the operator's eyes
    retry_after_seconds: float | None = None  # where the vendor says when to ask again


class Outcome(enum.StrEnum):
    """What one POST that buys something came to. Whatever is not listed in the table is `unknown`."""

    NOT_SENT = "not_sent"
    REJECTED = "rejected"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"


class Queued(Frozen, tag="queued"):
    position: int | None = None


class Running(Frozen, tag="running"):
    progress: float | None = None  # 0 to 1, where the vendor tells


class Succeeded(Frozen, tag="succeeded"):
    videos: tuple[Video, ...]
    cost_usd_micros: int | None = None  # the vendor's own figure, where it tells


class Failed(Frozen, tag="failed"):
    fault: Fault
    cost_usd_micros: int | None = None


Status = Queued | Running | Succeeded | Failed


class ProviderError(Exception):
    """A vendor call that gave no Status or Operation. `outcome` has a meaning for a submit only."""

    def __init__(
        self,
        fault: Fault,
        *,
        outcome: Outcome = Outcome.UNKNOWN,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{fault.kind}: {fault.message}")
        self.fault = fault
        self.outcome = outcome
        self.status = status
        self.retry_after_seconds = retry_after_seconds


def unsupported(field: str, *, by: str) -> ProviderError:
    """The vendor has no word for this field. Raised before anything is sent."""
    message = f"{by} has no field for {field!r}"
    return ProviderError(
        Fault(kind=Kind.UNSUPPORTED, verdict=Verdict.ELSEWHERE, message=message), outcome=Outcome.NOT_SENT
    )


class VendorJob(Frozen):
    """One job as the vendor's own list shows it; for the auditor."""

    id: str
    created_at: datetime
    status: Status
    cost_usd_micros: int | None = None


# --- what a provider can do -------------------------------------------------------------------------------------------


@runtime_checkable
class Provider(Protocol):
    """The five lines that every vendor must meet. `takes` lists the picture forms it accepts, best first."""

    name: str
    takes: tuple[MediaForm, ...]

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """Buy one clip, with one POST. Raises ProviderError with its outcome when no operation came of it."""
        ...

    async def poll(self, operation: Operation) -> Status:
        """Read one operation. Raises ProviderError when the vendor could not be asked."""
        ...


# Optional faces, one method each, found by isinstance.


@runtime_checkable
class Cancels(Protocol):
    async def cancel(self, operation: Operation) -> None:
        """Ask the vendor to stop. Returns when the wish was taken; the truth comes by the next poll.
        Raises ProviderError(UNSUPPORTED) when it is too late."""
        ...


@runtime_checkable
class Finds(Protocol):
    async def find(
        self, request: VideoRequest, *, model_id: str, client_id: str, callback_url: str | None, sent_at: datetime
    ) -> Operation | None:
        """Look for a submission whose reply was lost. None: not there (yet)."""
        ...


@runtime_checkable
class Disproves(Finds, Protocol):
    """A `Finds` that looks up by our own client id: once every reply is overdue, what is not found was not bought."""

    absence_disproves: Literal[True]


@runtime_checkable
class BuysNothing(Protocol):
    """One that makes its clips on this machine: no network, no account, no cent. Test keys are served by no other."""

    buys_nothing: Literal[True]


@runtime_checkable
class BuysByFinding(Finds, Protocol):
    """A `Finds` that replays the submit under the vendor's own idempotency key: it finds the job, or makes the one that
    was meant. So it is asked only while the clip is still wanted."""

    finding_may_buy: Literal[True]


@runtime_checkable
class NamesOperation(Protocol):
    def operation_in(self, body: bytes, *, model_id: str) -> Operation | None:
        """The operation that a callback says it rings for. A claim only: believed after an authenticated poll."""
        ...


@runtime_checkable
class PollsMany(Protocol):
    async def poll_many(self, operations: list[Operation]) -> list[Status]: ...


@runtime_checkable
class Uploads(Protocol):
    async def upload(self, media: Media) -> str:
        """Put `media.data` at the vendor's; the address to hand over instead."""
        ...


@runtime_checkable
class ChecksCallback(Protocol):
    async def check_callback(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raises ProviderError(AUTHENTICATION) on a bad signature."""
        ...


@runtime_checkable
class RefreshesResult(Protocol):
    async def refresh(self, operation: Operation) -> tuple[Video, ...]:
        """A fresh link to an expired file."""
        ...


@runtime_checkable
class Forgets(Protocol):
    async def forget(self, operation: Operation, *, words: bool, clip: bool) -> None:
        """Let go of what is kept on this machine of an ended operation: what was asked (`words`: prompts, pictures)
        and what was made. Also when it is not there. Raises ProviderError when it could not."""
        ...


@runtime_checkable
class Lists(Protocol):
    async def list_jobs(self, *, since: datetime) -> list[VendorJob]: ...


@runtime_checkable
class Closes(Protocol):
    async def close(self) -> None:
        """Give back what the adapter holds (threads, files)."""
        ...
