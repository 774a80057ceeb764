"""WaveSpeed: one POST starts a prediction, one GET reads it until it has ended; a list finds one whose reply was lost.

Laws: `failed`, `cancelled`, `timeout` and `deleted` are ends; the documents name the first only. Numbers in a failed
prediction's `code` are WaveSpeed's own and mean nothing of Kling's. A look-up says None only when the list was read
whole and nothing in it can be ours; a prediction that may be ours and cannot be told apart is an error with the verdict
`unsure`. Even None disproves nothing: how late the list is is unknown. There is no cancel and no idempotency key.

Inferred: that a prediction shows its `input` when it is asked for (its webhook does, the documents' list does not, the
vendor's own CLI reads it from both); the words of an empty balance, whose code is not documented; an `error_code` in a
rejection that repeats those of predictions; integer seconds in `multi_prompt`. `shot_type` is said with shots alone, as
"customize": the sources disagree on its default and on its other word. Unknown: how often a webhook is tried again,
and whether a deleted prediction was billed. The cost is told nowhere.

Sources, read 2026-11-23: wavespeed.ai/docs (model pages, error-codes, predictions, verify-webhooks, troubleshooting),
PyPI wavespeed 2.0.5, github.com/WaveSpeedAI/wavespeed-cli src/lib/api.ts at 13b1cca.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec

from providers.spec import (
    Failed,
    Fault,
    Frozen,
    Kind,
    Media,
    MediaForm,
    Operation,
    ProviderError,
    Queued,
    Running,
    Secret,
    Status,
    Succeeded,
    VendorJob,
    Verdict,
    Video,
    VideoRequest,
    unsupported,
)
from providers.transport import Judged, Reply, Transport

NAME = "wavespeed"
T = TypeVar("T")

WINDOW_SECONDS = 300  # wavespeed.ai/docs/verify-webhooks
PAGE_SIZE, MAX_PAGES = 100, 50  # wavespeed.ai/docs/docs-common-api/predictions: 100 is the most
EARLIEST, LATEST = timedelta(seconds=-60), timedelta(minutes=15)  # when a lost prediction may say it was created


class Settings(Frozen):
    """One account. `webhook_secret` is what GET /api/v3/webhook/secret gives; without it, callbacks go unchecked."""

    api_key: Secret
    webhook_secret: Secret | None = None
    base_url: str = "https://api.wavespeed.ai"
    callbacks: bool = True


def make(settings: Settings, transport: Transport) -> Adapter:
    return Adapter(settings, transport)


# --- what WaveSpeed calls our fields ----------------------------------------------------------------------------------


_BASIC, _SOUND = {"prompt": "prompt", "seconds": "duration"}, {"audio": "sound"}
_SHOTS = {"shots": "multi_prompt"}
_CUTS = _SHOTS | {"shot_type": "shot_type"}
_END = {"last_frame": "end_image"}
_TUNING = {"negative_prompt": "negative_prompt", "cfg_scale": "cfg_scale"}
_KLING = "kwaivgi/kling-"

# family → its fields, ours to WaveSpeed's; the first that fits counts. The resolution is the tier in the model id.
# 4k and o3 know `multi_prompt` too, but want a prompt beside it, of which nobody says what it does there.
_FAMILIES = {
    _KLING + "v3-turbo-": _BASIC | _SHOTS,
    _KLING + "v3.0-4k": _BASIC | _SOUND | _TUNING | _END,
    _KLING + "v3.0-": _BASIC | _SOUND | _TUNING | _CUTS | _END,
    _KLING + "video-o3-": _BASIC | _SOUND | _END,
    _KLING + "v2.6-pro": _BASIC | _SOUND | _TUNING | _END,
}
# last part of the model id → what comes to these, and what goes
_MODES: dict[str, tuple[dict[str, str], str]] = {
    "text-to-video": ({"aspect_ratio": "aspect_ratio"}, "last_frame"),
    "image-to-video": ({"first_frame": "image"}, ""),
    "reference-to-video": ({"aspect_ratio": "aspect_ratio", "references": "images"}, "last_frame"),
}
_PICTURES = frozenset({"image", "end_image", "images"})


def to_body(request: VideoRequest, model_id: str) -> dict[str, Any]:
    """The input of `model_id`, flat. Raises ProviderError(UNSUPPORTED) for a field it has no word for."""
    by = f"{NAME}'s {model_id}"
    family = next((fields for family, fields in _FAMILIES.items() if model_id.startswith(family)), None)
    mode = _MODES.get(model_id.rpartition("/")[2])
    if family is None or mode is None:
        raise unsupported("model_id", by=by)
    words = {ours: theirs for ours, theirs in (family | mode[0]).items() if ours != mode[1]}
    mixed = {
        "prompt beside shots": request.shots and request.prompt,
        "shots that do not fill the clip": request.shots and sum(s.seconds for s in request.shots) != request.seconds,
        "last_frame beside shots": request.shots and request.last_frame,  # the model's page: with one shot only
        "last_frame without first_frame": request.last_frame and not request.first_frame,
        "references beside first_frame": request.references and request.first_frame,
    }
    for what in filter(mixed.get, mixed):
        raise unsupported(what, by=by)
    asked = {
        "prompt": None if request.shots else request.prompt,
        "negative_prompt": request.negative_prompt,
        "seconds": request.seconds,
        "aspect_ratio": request.aspect_ratio,
        "audio": bool(request.audio) if request.audio or "audio" in words else None,
        "first_frame": request.first_frame and _handed(request.first_frame),
        "last_frame": request.last_frame and _handed(request.last_frame),
        "references": [_handed(media) for media in request.references] or None,
        "shots": [{"prompt": shot.prompt, "duration": shot.seconds} for shot in request.shots] or None,
        "shot_type": "customize" if request.shots and "shot_type" in words else None,
        "camera": request.camera,
        "seed": request.seed,
        "cfg_scale": request.cfg_scale,
    }
    body: dict[str, Any] = {}
    for field, value in ((field, value) for field, value in asked.items() if value is not None):
        if field not in words:
            raise unsupported(field, by=by)
        body[words[field]] = value
    return request.options.get(NAME, {}) | body  # options add fields; what the quote rests on stays


def _handed(media: Media) -> str:
    if media.handed is None:  # left out, it would be a clip from the text alone, and paid
        raise unsupported("a picture that was not handed over", by=NAME)
    return media.handed


# --- what WaveSpeed answers -------------------------------------------------------------------------------------------


class _Envelope(msgspec.Struct, Generic[T]):
    data: T


class _Prediction(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    status: str = ""
    model: str | None = None
    outputs: tuple[str | dict[str, Any], ...] | None = None
    error: str | None = None
    code: int | str | None = None
    created_at: datetime | None = None
    urls: dict[str, Any] | None = None
    input: dict[str, Any] | None = None


class _Page(msgspec.Struct):
    items: tuple[_Prediction, ...] | None  # must be there: its absence is no empty list


class _Ring(msgspec.Struct):  # a webhook's body, flat, as far as it is believed: anybody may have sent it
    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class _Put(msgspec.Struct):
    method: Literal["PUT", "put"]
    url: str
    headers: dict[str, str] | None = None


class _Ticket(msgspec.Struct):
    upload: _Put
    download_url: Annotated[str, msgspec.Meta(min_length=1)]


class _Problem(msgspec.Struct):
    message: str | None = None
    code: int | str | None = None
    error_code: int | str | None = None


# wavespeed.ai/docs/error-codes; 1403, 1405, 5000 and whatever is not here: a generation that failed
_CODES = dict.fromkeys(("1400", "1401", "1402"), Kind.INVALID_REQUEST)
_CODES |= {"1200": Kind.CONTENT_POLICY, "5003": Kind.UNAVAILABLE, "5004": Kind.TIMEOUT}
_ENDS = {"cancelled": Kind.CANCELLED, "timeout": Kind.TIMEOUT, "deleted": Kind.OPERATION_LOST}
_NO_FUNDS = re.compile(r"(insufficient|not enough) (account )?(balance|credit|fund)|top[ -]?up|recharge", re.IGNORECASE)


def _fault(kind: Kind, text: str, code: str = "") -> Fault:
    verdict = Verdict.NEVER if kind in (Kind.CONTENT_POLICY, Kind.CANCELLED) else Verdict.ELSEWHERE
    return Fault(kind=kind, verdict=verdict, message=text, code=code if re.fullmatch(r"\w{1,64}", code) else "")


def judge_submit(reply: Reply) -> Judged | None:
    """A rejection that says more than its HTTP status does."""
    problem = reply.json(_Problem)
    if reply.status not in (400, 403, 422) or problem is None:
        return None
    code = str(problem.error_code or problem.code or "")
    kind = _CODES.get(code) or (Kind.INSUFFICIENT_FUNDS if _NO_FUNDS.search(problem.message or "") else None)
    text = f"WaveSpeed said {reply.status}: {problem.message or 'nothing more'}"
    return Judged(fault=_fault(kind, text, code if code in _CODES else "")) if kind else None


def _unsure(text: str) -> ProviderError:
    return ProviderError(Fault(kind=Kind.UNKNOWN, verdict=Verdict.UNSURE, message=text))


def to_status(prediction: _Prediction) -> Status:
    match prediction.status:
        case "created":
            return Queued()
        case "completed":
            urls = [one.get("url") if isinstance(one, dict) else one for one in prediction.outputs or ()]
            if videos := tuple(Video(url=url) for url in urls if url and isinstance(url, str)):
                return Succeeded(videos=videos)
            return Failed(fault=_fault(Kind.GENERATION_FAILED, "WaveSpeed ended this job without a file"))
        case "failed" | "cancelled" | "timeout" | "deleted" as word:
            code = str(prediction.code or "") if word == "failed" else ""
            kind = _ENDS.get(word) or _CODES.get(code, Kind.GENERATION_FAILED)
            return Failed(fault=_fault(kind, f"WaveSpeed said of this job: {prediction.error or word}", code or word))
        case _:
            return Running()  # a word of theirs may be new; "not ended" is all we know


# --- whether a prediction is ours -------------------------------------------------------------------------------------


_NOTHING: tuple[Any, ...] = (None, "", [], {})  # this, and defaults, may stand in an input though nobody asked it
_DEFAULTS: dict[str, tuple[Any, ...]] = {"cfg_scale": (0.5,), "shot_type": ("customize", "intelligent", "intelligence")}


def is_ours(body: Mapping[str, Any], said: Mapping[str, Any]) -> bool | None:
    """Whether `said`, a prediction's input, is what `body` asked. None: it may be, and no more can be told.

    Another text, number or flag than was asked is a no. A picture's address may have been changed on its way, a list
    be written otherwise, a field be left out or added: from these no no follows, and no yes.
    """
    told = {name: value for name, value in said.items() if value not in _NOTHING}
    plain = {name for name in body if name not in _PICTURES and not isinstance(body[name], list | dict)}
    if any(_text(told[name]) != _text(body[name]) for name in plain & told.keys()):
        return False
    added = (told[name] not in (False, *_DEFAULTS.get(name, ())) for name in told.keys() - body.keys())
    alike = (name in plain or _shows(told[name], body[name]) for name in body if name in told)
    return True if body.keys() <= told.keys() and all(alike) and not any(added) else None


def _text(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return " ".join((f"{value:g}" if number else str(value)).split()).casefold()


def _shows(told: Any, asked: Any) -> bool:
    """Whether these are the very same, or addresses that hold the asked ones or the names of our files."""
    theirs, mine = ([one] if isinstance(one, str) else one for one in (told, asked))
    if theirs == mine or not isinstance(theirs, list) or len(theirs) != len(mine):
        return bool(theirs == mine)
    return all(isinstance(there, str) and str(here) in there for here, there in zip(mine, theirs, strict=True))


def _known(request: VideoRequest) -> VideoRequest:
    """The request, its pictures by what they can be known again when nobody remembers how they were handed over."""

    def known(media: Media | None) -> Media | None:
        return media and msgspec.structs.replace(media, handed=media.handed or media.source_url or media.sha256[:16])

    frames = {"first_frame": known(request.first_frame), "last_frame": known(request.last_frame)}
    return msgspec.structs.replace(request, **frames, references=tuple(filter(None, map(known, request.references))))


# --- the adapter ------------------------------------------------------------------------------------------------------


class Adapter:
    name: str = NAME
    takes: tuple[MediaForm, ...] = (MediaForm.URL, MediaForm.UPLOAD)

    def __init__(self, settings: Settings, transport: Transport, now: Callable[[], float] = time.time) -> None:
        headers = {"authorization": f"Bearer {settings.api_key.reveal()}"}
        secrets = [settings.api_key, *([settings.webhook_secret] if settings.webhook_secret else [])]
        self._base = settings.base_url.rstrip("/")
        self._callbacks = settings.callbacks
        self._webhook_secret = settings.webhook_secret
        self._now = now
        self._submits = transport.door(settings.base_url, headers=headers, secrets=secrets, judge=judge_submit)
        self._reads = transport.door(settings.base_url, headers=headers, secrets=secrets)
        self._files = transport.door(settings.base_url, secrets=secrets)  # its uploads go elsewhere, without the key

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """One POST. WaveSpeed takes no id of ours."""
        answer = await self._submits.post(
            f"/api/v3/{model_id}",
            json=to_body(request, model_id),
            params={"webhook": callback_url} if callback_url and self._callbacks else None,
            reply=_Envelope[_Prediction],
        )
        return self._operation(answer.data)

    async def poll(self, operation: Operation) -> Status:
        given = operation.ref.get("get", "")
        prediction = await self._read(given if given.startswith(self._base + "/") else self._address(operation.id))
        return to_status(prediction)

    async def find(
        self, request: VideoRequest, *, model_id: str, client_id: str, callback_url: str | None, sent_at: datetime
    ) -> Operation | None:
        """The prediction of this model and input that was created about then. None: the list, read whole, has none.

        Raises ProviderError(UNKNOWN, UNSURE) where one may be ours, or several are alike.
        """
        body = to_body(_known(request), model_id)
        found: dict[bool | None, list[_Prediction]] = {True: [], None: [], False: []}
        async for one in self._history(sent_at + EARLIEST, sent_at + LATEST):
            if one.model in (model_id, None):
                said = one.input or (await self._read(self._address(one.id))).input
                found[is_ours(body, said) if said else None].append(one)
        if len(found[True]) == 1:
            return self._operation(found[True][0])
        if not found[True] and not found[None]:
            return None
        raise _unsure(f"{len(found[True])} predictions are like the lost one, and {len(found[None])} may be it")

    async def list_jobs(self, *, since: datetime) -> list[VendorJob]:
        """Every prediction since then that WaveSpeed still shows (7 days). Costs are not told."""
        return [
            VendorJob(id=one.id, created_at=one.created_at or since, status=to_status(one))
            async for one in self._history(since, None)
        ]

    def operation_in(self, body: bytes, *, model_id: str) -> Operation | None:
        try:
            ring = msgspec.json.decode(body, type=_Ring)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return Operation(provider=NAME, id=ring.id)

    async def check_callback(self, headers: Mapping[str, str], body: bytes) -> None:
        """Looks like Standard Webhooks, and is not: `v3,` and a hexadecimal HMAC-SHA256 of "id.timestamp.body", whose
        key is the secret's text after `whsec_`, not decoded."""
        if self._webhook_secret is None:
            return
        key = self._webhook_secret.reveal().removeprefix("whsec_").encode()
        at = headers.get("webhook-timestamp", "")
        signed = f"{headers.get('webhook-id', '')}.{at}.".encode() + body
        expected = "v3," + hmac.new(key, signed, hashlib.sha256).hexdigest()
        is_signed = hmac.compare_digest(headers.get("webhook-signature", "").encode(), expected.encode())
        if not is_signed or not re.fullmatch(r"[0-9]{1,12}", at) or abs(self._now() - int(at)) > WINDOW_SECONDS:
            text = "the callback is not signed by this account, or not now"
            raise ProviderError(Fault(kind=Kind.AUTHENTICATION, verdict=Verdict.NEVER, message=text))

    async def upload(self, media: Media) -> str:
        """As WaveSpeed's own client does: ask for a place (`media/uploads`), put the bytes there."""
        if media.data is None:
            raise unsupported("a picture without its bytes", by=NAME)
        kind = media.content_type
        name = f"{media.sha256[:16]}.{kind.rpartition('/')[2]}"  # by which `find` knows it again
        asked = {"filename": name, "size": len(media.data), "content_type": kind}
        place = (await self._reads.ask("/api/v3/media/uploads", json=asked, reply=_Envelope[_Ticket])).data
        given = {name.lower(): value for name, value in (place.upload.headers or {}).items()}
        await self._files.exchange("PUT", place.upload.url, content=media.data, headers={"content-type": kind, **given})
        return place.download_url

    async def _read(self, address: str) -> _Prediction:
        prediction = (await self._reads.get(address, reply=_Envelope[_Prediction])).data
        prediction.error = prediction.error and self._reads.scrub(prediction.error)
        return prediction

    async def _history(self, after: datetime, before: datetime | None) -> AsyncIterator[_Prediction]:
        """Every prediction created between, the latest first. Raises ProviderError where they are too many to read."""
        between = {"created_after": after, "created_before": before}
        instants = {name: f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for name, at in between.items() if at}
        for page in range(1, MAX_PAGES + 1):
            listed = await self._reads.ask(
                "/api/v3/predictions", json={"page": page, "page_size": PAGE_SIZE, **instants}, reply=_Envelope[_Page]
            )
            items = listed.data.items or ()
            for one in items:
                yield one
            if len(items) < PAGE_SIZE:
                return
        raise _unsure(f"there are more than {MAX_PAGES * PAGE_SIZE} predictions to look through")

    def _operation(self, prediction: _Prediction) -> Operation:
        given = (prediction.urls or {}).get("get")
        return Operation(provider=NAME, id=prediction.id, ref={"get": given} if isinstance(given, str) else {})

    def _address(self, id: str) -> str:
        return f"{self._base}/api/v3/predictions/{quote(id, safe='')}/result"
