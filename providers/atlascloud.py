"""AtlasCloud: one POST starts a prediction, one GET reads it; a signed callback tells of its end.

Laws: the model's id stands in the body, not in the path. A 200 says nothing about the job: its own status does. A poll
right after a submit may be a 400 or a 404 for half a minute, so each of them is a job that is not there (yet), never a
bad request. Atlas answers 401 to a wrong path too: before the key is blamed, Atlas is asked whether it knows the key.
There is no id of ours, no list and no cancel; a submission whose reply was lost is named by its callback alone.

Read: bodies, statuses, uploads, webhooks, the error table, that failed and timed-out tasks are not charged.
Third party, not official: the fields of 4k and turbo and the values of `resolution` (github.com, an account's own
/model/calculate of 2026-09-09); 3 to 15 seconds for v3.0 std and pro (Atlas's own ComfyUI nodes offer 5 and 10 only).
Inferred: that `resolution`, left out, is the tier's own (Atlas's nodes never send it, and pay the listed price); that
`created`, `pending` and `starting` mean waiting; that a rejection may carry the code of a moderation; that timestamps
are in seconds; the prompt's limit, which is Kling's. Unknown, and not used: how shots are written, `has_nsfw_contents`.
Nowhere is a 5xx of a submit said to mean that nothing was created: each leaves the outcome unknown. No cost is told.

Sources, read 2026-11-23: atlascloud.ai/docs predictions, errors, webhooks, billing/refunds; fields from the nodes of
github.com/AtlasCloudAI/atlascloud_comfyui, commit 12879ed (2026-03-20); uploads from AtlasCloudAI/mcp-server 1.5.0.
"""

from __future__ import annotations

import asyncio
import base64
import fnmatch
import functools
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from providers.spec import (
    Failed,
    Fault,
    Frozen,
    Kind,
    Media,
    MediaForm,
    Operation,
    Outcome,
    ProviderError,
    Queued,
    Running,
    Secret,
    Status,
    Succeeded,
    Verdict,
    Video,
    VideoRequest,
    unsupported,
)
from providers.transport import Judged, Reply, Transport

NAME = "atlascloud"
MODERATED = "1039"  # the one error code that the documents explain
CALLBACK_WINDOW_SECONDS = 300
KEYS_KEPT_SECONDS = 24 * 3600.0
KEYS_ASKED_AGAIN_SECONDS = 60.0  # for a key id that nobody knows: a forger must not make us ask without end


class Settings(Frozen):
    """One account at AtlasCloud."""

    api_key: Secret
    base_url: str = "https://api.atlascloud.ai/api/v1"
    billing_url: str = "https://api.atlascloud.ai/public/v1"  # tells whether a refused key is known
    jwks_url: str = "https://api.atlascloud.ai/api/v1/webhooks/jwks.json"  # the keys that sign callbacks
    user_agent: str = "Mozilla/5.0 (compatible; Filmgate)"  # Atlas's own starter: plain agents are stopped (1010)
    callbacks: bool = True


def make(settings: Settings, transport: Transport) -> Adapter:
    return Adapter(settings, transport)


# --- what Atlas calls our fields --------------------------------------------------------------------------------------


_BASIC = {"prompt": "prompt", "seconds": "duration"}
_SHAPE = {"aspect_ratio": "aspect_ratio"}
_SOUND = {"audio": "sound"}
_TUNING = {"negative_prompt": "negative_prompt", "cfg_scale": "cfg_scale"}
_TIER = {"resolution": "resolution"}
_IMAGE = {"first_frame": "image"}  # not `image_url`, whatever Atlas's own skill file writes
_END = {"last_frame": "end_image"}
_KLING = "kwaivgi/kling-"

# model → its fields, ours to Atlas's; the first pattern that fits counts. Only turbo's tier is a field, not an id.
_WORDS = (
    (_KLING + "v3.0-turbo/text-to-video", _BASIC | _TIER | _SHAPE),
    (_KLING + "v3.0-turbo/image-to-video", _BASIC | _TIER | _IMAGE),
    (_KLING + "v3.0-4k/text-to-video", _BASIC | _SOUND | _SHAPE),
    (_KLING + "v3.0-4k/image-to-video", _BASIC | _SOUND | _IMAGE | _END),
    (_KLING + "v3.0-*/text-to-video", _BASIC | _SOUND | _TUNING | _SHAPE),
    (_KLING + "v3.0-*/image-to-video", _BASIC | _SOUND | _TUNING | _IMAGE | _END),
    # o3-4k: one source says `sound`, another `generate_audio`; it is asked for neither
    (_KLING + "video-o3-4k/image-to-video", _BASIC | _IMAGE | _END),
    (_KLING + "video-o3-*/text-to-video", _BASIC | _SOUND | _SHAPE),
    (_KLING + "video-o3-*/image-to-video", _BASIC | {"audio": "generate_audio"} | _IMAGE | _END),
    (_KLING + "video-o3-*/reference-to-video", _BASIC | _SOUND | _SHAPE | {"references": "images"}),
)


def to_body(request: VideoRequest, model_id: str) -> dict[str, Any]:
    """The input of `model_id`, flat. Raises ProviderError(UNSUPPORTED) for a field that it has no word for.

    Sound is always said where it can be. What is bought is never changed by options: `model` comes last.
    """
    by = f"{NAME}'s {model_id}"
    words = next((words for pattern, words in _WORDS if fnmatch.fnmatchcase(model_id, pattern)), None)
    if words is None:
        raise unsupported("model_id", by=by)
    if request.last_frame and not request.first_frame:
        raise unsupported("last_frame without first_frame", by=by)
    if request.first_frame and request.references:
        raise unsupported("first_frame beside references", by=by)
    asked = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seconds": request.seconds,
        "resolution": request.resolution if "resolution" in words else None,
        "aspect_ratio": request.aspect_ratio,
        "audio": bool(request.audio) if request.audio or "audio" in words else None,
        "first_frame": request.first_frame and _handed(request.first_frame),
        "last_frame": request.last_frame and _handed(request.last_frame),
        "references": [_handed(media) for media in request.references] or None,
        "shots": request.shots or None,
        "camera": request.camera,
        "seed": request.seed,
        "cfg_scale": request.cfg_scale,
    }
    body: dict[str, Any] = {}
    for field, value in asked.items():
        if value is None:
            continue
        if field not in words:
            raise unsupported(field, by=by)
        body[words[field]] = value
    return request.options.get(NAME, {}) | body | {"model": model_id}


def _handed(media: Media) -> str:
    if media.handed is None:  # left out, it would be a clip from the text alone, and paid
        raise unsupported("a picture that was not handed over", by=NAME)
    return media.handed


# --- what Atlas answers -----------------------------------------------------------------------------------------------


class _Task(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    urls: dict[str, Any] | None = None


class _Accepted(msgspec.Struct):
    data: _Task


class _Prediction(msgspec.Struct):
    status: str
    outputs: Any = None  # a list of addresses; some models say `output`
    output: Any = None
    error: Any = None
    error_code: int | str | None = None


class _Polled(msgspec.Struct):
    data: _Prediction


class _Said(msgspec.Struct):
    """An error of the media API: its words stand in `msg`, in some replies in `message`."""

    code: int | str | None = None
    msg: str | None = None
    message: str | None = None

    @property
    def text(self) -> str:
        return f"Atlas said {self.code}: {self.msg or self.message or 'nothing more'}"


class _Uploaded(msgspec.Struct):
    """Both forms of the reply: of the official clients (`data.download_url`), and of the documents' example."""

    data: dict[str, Any] | None = None
    url: Any = None


class _Jwk(msgspec.Struct):
    kid: str = ""
    crv: str = ""
    x: str = ""


class _Jwks(msgspec.Struct):
    keys: tuple[_Jwk, ...]


class _Ring(msgspec.Struct):
    """A callback's body, as far as it is read: `session_id` is the task's id (docs/webhooks)."""

    session_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


def judge_submit(reply: Reply) -> Judged | None:
    """What the shared table cannot know. A body's code comes before the HTTP status."""
    said = reply.json(_Said) or _Said()
    if 400 <= reply.status < 500 and str(said.code) == MODERATED:
        return Judged(fault=_moderation(said.text), outcome=Outcome.REJECTED)
    if reply.status == 451:  # a block by region or compliance: fail over (docs/errors)
        fault = Fault(kind=Kind.UNAVAILABLE, verdict=Verdict.ELSEWHERE, message=said.text, code="451")
        return Judged(fault=fault, outcome=Outcome.REJECTED)
    return None


def judge_poll(reply: Reply) -> Judged | None:
    """400 and 404 are a job that is not there: not yet (Atlas's own client waits 30 s), or no more."""
    if reply.status not in (400, 404):
        return None
    text = (reply.json(_Said) or _Said()).text
    return Judged(fault=Fault(kind=Kind.OPERATION_LOST, verdict=Verdict.SAME, message=text))


def _moderation(text: str) -> Fault:
    return Fault(kind=Kind.CONTENT_POLICY, verdict=Verdict.NEVER, message=text, code=MODERATED)


def to_status(prediction: _Prediction) -> Status:
    match prediction.status:
        case "created" | "pending" | "starting":
            return Queued()
        case "completed" | "succeeded":
            if url := _first(prediction.outputs) or _first(prediction.output):
                return Succeeded(videos=(Video(url=url),))
            message = "Atlas ended this job without a file"
            return Failed(fault=Fault(kind=Kind.GENERATION_FAILED, verdict=Verdict.ELSEWHERE, message=message))
        case "failed" | "timeout" as word:
            message = f"Atlas said of this job: {prediction.error if isinstance(prediction.error, str) else word}"
            code = "" if prediction.error_code is None else str(prediction.error_code)
            if code == MODERATED:
                return Failed(fault=_moderation(message))
            kind = Kind.TIMEOUT if word == "timeout" else Kind.GENERATION_FAILED
            return Failed(fault=Fault(kind=kind, verdict=Verdict.ELSEWHERE, message=message, code=code[:64]))
        case _:
            return Running()  # `processing`, `running`; a word of theirs may be new: "not ended" is all we know


def _first(given: Any) -> str | None:
    found = given[0] if isinstance(given, list) and given else given
    return found if isinstance(found, str) and found else None


# --- the adapter ------------------------------------------------------------------------------------------------------


class Adapter:
    name: str = NAME
    takes: tuple[MediaForm, ...] = (MediaForm.URL, MediaForm.UPLOAD, MediaForm.DATA_URI)

    def __init__(self, settings: Settings, transport: Transport, *, now: Callable[[], float] = time.time) -> None:
        agent = {"user-agent": settings.user_agent}
        headers = {"authorization": f"Bearer {settings.api_key.reveal()}", **agent}
        door = functools.partial(transport.door, headers=headers, secrets=(settings.api_key,))
        self._base = settings.base_url.rstrip("/")
        self._origin = "/".join(self._base.split("/")[:3])
        self._callbacks = settings.callbacks
        self._submits = door(settings.base_url, judge=judge_submit)
        self._polls = door(settings.base_url, judge=judge_poll)
        self._uploads = door(settings.base_url)
        self._billing = door(settings.billing_url)
        self._jwks_url = settings.jwks_url
        self._jwks = transport.door(settings.jwks_url, headers=agent)  # public: asked without the key
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._keys_since = float("-inf")
        self._keys_turn = asyncio.Lock()
        self._now = now

    async def submit(
        self, request: VideoRequest, *, model_id: str, callback_url: str | None, client_id: str
    ) -> Operation:
        """One POST. Atlas takes no id of ours."""
        hook = {"webhook_url": callback_url} if callback_url and self._callbacks else {}
        body = to_body(request, model_id) | hook
        try:
            accepted = await self._submits.post("/model/generateVideo", json=body, reply=_Accepted)
        except ProviderError as error:
            if error.status == 401:
                await self._blame_the_path(error)
            raise
        given = (accepted.data.urls or {}).get("get")
        ref = {"endpoint": model_id} | ({"get": given} if isinstance(given, str) else {})
        return Operation(provider=NAME, id=accepted.data.id, ref=ref)

    async def _blame_the_path(self, error: ProviderError) -> None:
        """Raises what a 401 was about, when it was not the key: Atlas's billing takes that very key."""
        try:
            await self._billing.exchange("GET", "/balance")
        except ProviderError:
            return
        said = self._submits.scrub(f"Atlas knows this key, so its 401 is about base_url: {error.fault.message}")
        fault = Fault(kind=Kind.UNAVAILABLE, verdict=Verdict.ELSEWHERE, message=said, code="wrong_path")
        raise ProviderError(fault, outcome=error.outcome, status=error.status) from error

    async def poll(self, operation: Operation) -> Status:
        """By the address that Atlas gave, when it is on our base's host; else, and when Atlas disowns it, the usual."""
        usual = f"{self._base}/model/prediction/{quote(operation.id, safe='')}"
        given = operation.ref.get("get", "")
        address = given if given.startswith(self._origin + "/") else usual
        try:
            polled = await self._polls.get(address, reply=_Polled)
        except ProviderError as error:
            if error.status != 401 or address == usual:
                raise
            polled = await self._polls.get(usual, reply=_Polled)
        status = to_status(polled.data)
        if isinstance(status, Failed):
            said = msgspec.structs.replace(status.fault, message=self._polls.scrub(status.fault.message))
            status = msgspec.structs.replace(status, fault=said)
        return status

    async def upload(self, media: Media) -> str:
        if media.data is None:
            raise unsupported("a picture without its bytes", by=NAME)
        mark = f"filmgate-{media.sha256[:32]}"
        name = f"{media.sha256[:16]}.{media.content_type.rpartition('/')[2]}"
        head = f'content-disposition: form-data; name="file"; filename="{name}"\r\ncontent-type: {media.content_type}'
        form = f"--{mark}\r\n{head}\r\n\r\n".encode() + media.data + f"\r\n--{mark}--\r\n".encode()
        headers = {"content-type": f"multipart/form-data; boundary={mark}"}
        reply = await self._uploads.ask("/model/uploadMedia", content=form, headers=headers, reply=_Uploaded)
        address = (reply.data or {}).get("download_url") or reply.url
        if isinstance(address, str) and address:
            return address
        message = "Atlas took the picture and named no address for it"
        raise ProviderError(Fault(kind=Kind.UNKNOWN, verdict=Verdict.SAME, message=message))

    # --- callbacks ----------------------------------------------------------------------------------------------------

    def operation_in(self, body: bytes, *, model_id: str) -> Operation | None:
        try:
            ring = msgspec.json.decode(body, type=_Ring)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return Operation(provider=NAME, id=ring.session_id, ref={"endpoint": model_id})

    async def check_callback(self, headers: Mapping[str, str], body: bytes) -> None:
        """Ed25519 over "{timestamp}.{body}", at most 300 s old (docs/webhooks). The older HMAC is not looked at.

        Raises ProviderError: AUTHENTICATION when the signature is not theirs, else why their keys could not be had.
        """
        stamp = headers.get("x-atlascloud-timestamp", "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
            raise _forged("it has no timestamp")
        if abs(self._now() - int(stamp)) > CALLBACK_WINDOW_SECONDS:
            raise _forged(f"its timestamp is not within {CALLBACK_WINDOW_SECONDS} s of now")
        key = await self._key(headers.get("x-atlascloud-key-id", ""))
        if key is None:
            raise _forged("nobody knows the key that it names")
        try:
            key.verify(_unpadded(headers.get("x-atlascloud-signature-ed25519", "")), f"{stamp}.".encode() + body)
        except (InvalidSignature, ValueError) as error:
            raise _forged("its signature is not that of its body") from error

    async def _key(self, kid: str) -> Ed25519PublicKey | None:
        """The key of that id: as kept, or as Atlas tells it now."""
        async with self._keys_turn:
            age = self._now() - self._keys_since
            if age >= KEYS_KEPT_SECONDS or (kid not in self._keys and age >= KEYS_ASKED_AGAIN_SECONDS):
                found = await self._jwks.get(self._jwks_url, reply=_Jwks)
                self._keys = {key.kid: public for key in found.keys if (public := _public(key)) is not None}
                self._keys_since = self._now()
            return self._keys.get(kid)


def _public(key: _Jwk) -> Ed25519PublicKey | None:
    try:
        return Ed25519PublicKey.from_public_bytes(_unpadded(key.x)) if key.crv == "Ed25519" else None
    except ValueError:
        return None


def _unpadded(text: str) -> bytes:
    """base64url without its padding. Raises ValueError."""
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _forged(why: str) -> ProviderError:
    message = f"a callback is not Atlas's: {why}"
    return ProviderError(Fault(kind=Kind.AUTHENTICATION, verdict=Verdict.NEVER, message=message))
