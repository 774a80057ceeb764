"""What a caller may ask for, field by field, and what it means in our own words.

The names are OpenAI's, with OpenRouter's as aliases. Law: a field that is not here is refused with the nearest that is;
a value is never clamped, dropped or guessed. The form means the same in JSON and in multipart, and so has one
fingerprint.
"""

from __future__ import annotations

import base64
import hashlib
import math
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from litestar import Request
from msgspec import Meta

from gateway.api import parts, wire
from gateway.api.parts import SentPicture
from gateway.api.problems import Problem
from gateway.catalogue.shapes import parse_ratio, parse_size, short_side
from gateway.jobs import Preferences, Sort
from providers.spec import Camera, Frozen, Shot, VideoRequest

MAX_PROMPT_CHARS = 32_000  # OpenAI's own limit
MAX_SECONDS = 3600
MAX_SEED = 2**63 - 1
MAX_DEADLINE_SECONDS = 7 * 86_400
MAX_PRICE_USD = 1_000_000
DEFAULT_MODEL = "sora-2"  # OpenAI's own, where a request names none: an alias of the configuration

F = TypeVar("F", bound=msgspec.Struct)
Whole = int | float  # 5 and 5.0; `_whole` refuses 5.5
Length = int | float | str  # "5" as well: OpenAI's SDKs type seconds as text
Text = Annotated[str, Meta(max_length=MAX_PROMPT_CHARS)]
Word = Annotated[str, Meta(min_length=1, max_length=200)]
Words = Annotated[tuple[Word, ...], Meta(max_length=64)]
Label = Annotated[str, Meta(max_length=512)]


class Form(Frozen, forbid_unknown_fields=True):
    """The manner of everything that a caller sends."""


class ShotForm(Form):
    prompt: Text
    seconds: Length | None = None
    duration: Length | None = None


class FrameForm(Form):
    image_url: SentPicture
    frame_type: Literal["first_frame", "last_frame"]
    type: Literal["image_url"] = "image_url"


class MaxPrice(Form):
    request: float | str  # US dollars for the whole job


class MaxLatency(Form):
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class ProviderForm(Form):
    order: Words = ()
    only: Words = ()
    ignore: Words = ()
    allow_fallbacks: bool = True
    moderation_fallback: bool = False
    require_parameters: bool = True
    sort: Sort | None = None
    max_price: MaxPrice | None = None
    preferred_max_latency: MaxLatency | None = None
    options: dict[str, dict[str, Any]] = {}


class CreateForm(Form):
    """The body of `POST /v1/videos` and of its dry run."""

    model: Word = DEFAULT_MODEL
    prompt: Text | None = None
    negative_prompt: Text | None = None
    seconds: Length | None = None
    duration: Length | None = None
    size: Word | None = None
    resolution: Word | None = None
    aspect_ratio: Word | None = None
    generate_audio: bool | None = None
    input_reference: SentPicture | None = None
    frame_images: Annotated[tuple[FrameForm, ...], Meta(max_length=2)] = ()
    input_references: Annotated[tuple[SentPicture, ...], Meta(max_length=16)] = ()
    shots: Annotated[tuple[ShotForm, ...], Meta(max_length=32)] = ()
    camera: Camera | None = None
    seed: Whole | None = None
    cfg_scale: float | None = None
    metadata: dict[str, Label] = {}
    user: Label | None = None
    callback_url: str | None = None
    deadline_seconds: float | None = None
    session_id: Label | None = None
    trace: dict[str, Any] | None = None
    previous_job_id: str | None = None
    provider: ProviderForm = ProviderForm()


SHAPES: dict[str, type] = {
    "": CreateForm,
    "shots": ShotForm,
    "frame_images": FrameForm,
    "provider": ProviderForm,
    "provider.max_price": MaxPrice,
    "provider.preferred_max_latency": MaxLatency,
}


class Asked(Frozen):
    """A form, understood: everything but the pictures, which are still as they were sent."""

    model: str
    video: VideoRequest
    preferences: Preferences
    metadata: dict[str, str] = {}
    user: str | None = None
    deadline_seconds: float | None = None
    dialect: str = ""
    endpoint: str = ""
    ignored: tuple[str, ...] = ()
    first_frame: SentPicture | None = None
    last_frame: SentPicture | None = None
    references: tuple[SentPicture, ...] = ()
    callback_url: str | None = None
    remixed_from: str | None = None
    extends: str | None = None
    extends_seconds: int = 0
    extends_sha256: str = ""  # of the clip, where the caller sent it

    @property
    def has_pictures(self) -> bool:
        return self.first_frame is not None or self.last_frame is not None or bool(self.references)

    def fingerprint(self) -> str:
        """A hash of what was asked, the same however it was encoded."""
        return hashlib.sha256(_canonical.encode(self)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, SentPicture):
        if value.data is not None:
            return base64.b64encode(hashlib.sha256(value.data).digest()).decode()
        if value.kept is not None:
            return {"sha256": value.kept.sha256}
        return value.text if value.file_id is None else {"file_id": value.file_id}
    raise NotImplementedError(type(value))  # msgspec's word for a type that a hook does not know


_canonical = msgspec.json.Encoder(enc_hook=_plain, order="deterministic")


async def read(request: Request[Any, Any, Any]) -> Asked:
    """The request's body, JSON or multipart, understood. Raises Problem."""
    return understood(await decoded(request, CreateForm, shapes=SHAPES))


async def decoded(
    request: Request[Any, Any, Any],
    shape: type[F],
    *,
    shapes: wire.Shapes,
    limit: int = wire.LARGE,
    hook: wire.Hook = parts.picture,
) -> F:
    """The request's body, JSON or multipart, as `shape`. Raises Problem."""
    kind, parameters = wire.media_type(request)
    if kind == "multipart/form-data":
        pieces = wire.pieces(request, limit=limit)
        found = await parts.read_form(pieces, boundary=parameters.get("boundary", ""))
        return wire.convert(found, shape, shapes=shapes, dec_hook=hook)
    if kind == "application/json":
        wire.must_be_json(request)
        return wire.decode(await wire.read(request, limit=limit), shape, shapes=shapes, dec_hook=hook)
    raise wire.unsupported_type(kind, "application/json or multipart/form-data")


def understood(form: CreateForm) -> Asked:
    """The form in our own words. Raises Problem 422."""
    if form.previous_job_id is not None:
        message = "To go on from another video, send its id as video.id to POST /v1/videos/extensions."
        nearest = "POST /v1/videos/extensions"
        raise Problem(422, "unsupported_operation", message, param="previous_job_id", nearest=nearest)
    shots = tuple(_shot(shot, number) for number, shot in enumerate(form.shots))
    prompt = form.prompt
    if prompt is None and not shots:
        raise Problem(422, "missing_field", "'prompt' is missing: say what the clip shows.", param="prompt")
    if prompt is not None and not prompt.strip():
        raise _bad("prompt", "'prompt' holds nothing but white space.")
    first, last = _frames(form)
    width, height = _size(form.size)
    if form.resolution is not None and short_side(form.resolution) is None:
        raise _bad("resolution", "'resolution' is a word like 720p, 1080p or 4k.")
    if form.aspect_ratio not in (None, "auto") and parse_ratio(str(form.aspect_ratio)) is None:
        raise _bad("aspect_ratio", "'aspect_ratio' is a ratio like 16:9 or 9:16.")
    if len(form.metadata) > 16 or any(len(name) > 64 for name in form.metadata):
        raise _bad("metadata", "'metadata' holds at most 16 entries, with names of at most 64 characters.")
    return Asked(
        model=form.model,
        video=VideoRequest(
            prompt=prompt or "",
            negative_prompt=form.negative_prompt,
            seconds=_one_length(form.seconds, form.duration, where=""),
            resolution=form.resolution.lower() if form.resolution else None,
            aspect_ratio=form.aspect_ratio,
            width=width,
            height=height,
            audio=form.generate_audio,
            shots=shots,
            camera=form.camera,
            seed=_whole(form.seed, "seed", most=MAX_SEED),
            cfg_scale=_within(form.cfg_scale, "cfg_scale", least=0.0, most=1.0),
            options=form.provider.options,
        ),
        preferences=_preferences(form.provider),
        metadata=form.metadata,
        user=form.user,
        deadline_seconds=_within(form.deadline_seconds, "deadline_seconds", least=1.0, most=MAX_DEADLINE_SECONDS),
        first_frame=first,
        last_frame=last,
        references=form.input_references,
        callback_url=form.callback_url,
        ignored=tuple(f"{name} is kept nowhere" for name in ("session_id", "trace") if getattr(form, name) is not None),
    )


def _preferences(form: ProviderForm) -> Preferences:
    latency = form.preferred_max_latency or MaxLatency()
    asked = (("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99))
    place = "provider.preferred_max_latency"
    return Preferences(
        order=form.order,
        only=form.only,
        ignore=form.ignore,
        allow_fallbacks=form.allow_fallbacks,
        moderation_fallback=form.moderation_fallback,
        require_parameters=form.require_parameters,
        sort=form.sort,
        max_price_usd_micros=_micros(form.max_price.request) if form.max_price else None,
        max_latency_seconds={
            name: limit
            for name, seconds in asked
            if (limit := _within(seconds, f"{place}.{name}", least=0.1, most=MAX_DEADLINE_SECONDS)) is not None
        },
    )


def _shot(form: ShotForm, number: int) -> Shot:
    where = f"shots[{number}]."
    seconds = _one_length(form.seconds, form.duration, where=where)
    if seconds is None:
        raise Problem(422, "missing_field", f"'{where}seconds' is missing.", param=f"{where}seconds")
    if not form.prompt.strip():
        raise _bad(f"{where}prompt", f"'{where}prompt' holds nothing but white space.")
    return Shot(prompt=form.prompt, seconds=seconds)


def _frames(form: CreateForm) -> tuple[SentPicture | None, SentPicture | None]:
    """The first and the last frame, of `input_reference` and `frame_images`."""
    firsts = [frame.image_url for frame in form.frame_images if frame.frame_type == "first_frame"]
    lasts = [frame.image_url for frame in form.frame_images if frame.frame_type == "last_frame"]
    if form.input_reference is not None:
        firsts.append(form.input_reference)
    if len(firsts) > 1 or len(lasts) > 1:
        message = "There is more than one first frame (input_reference is one), or more than one last frame."
        raise Problem(422, "conflicting_parameters", message, param="frame_images")
    return firsts[0] if firsts else None, lasts[0] if lasts else None


def _one_length(seconds: Length | None, duration: Length | None, *, where: str) -> int | None:
    one, other = _length(seconds, f"{where}seconds"), _length(duration, f"{where}duration")
    if one is not None and other is not None and one != other:
        message = f"'{where}seconds' and '{where}duration' are two names for one thing, and they differ."
        raise Problem(422, "conflicting_parameters", message, param=f"{where}duration")
    return other if one is None else one


def _length(value: Length | None, param: str) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        if not (text.isascii() and text.isdigit() and len(text) < 9):
            message = f'{param!r} must be a whole number of seconds, such as 5 or "5"; it is {value[:40]!r}.'
            raise Problem(422, "wrong_type", message, param=param)
        value = int(text)
    return _whole(value, param, least=1, most=MAX_SECONDS)


def _whole(value: Whole | None, param: str, *, least: int = 0, most: int) -> int | None:
    if isinstance(value, float):
        if not value.is_integer():  # nor are nan and inf
            raise Problem(422, "wrong_type", f"{param!r} must be a whole number.", param=param)
        value = int(value)
    if value is not None and not least <= value <= most:
        raise Problem(422, "out_of_range", f"{param!r} must be from {least} to {most}.", param=param)
    return value


def _within(value: float | None, param: str, *, least: float, most: float) -> float | None:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise Problem(422, "out_of_range", f"{param!r} must be from {least:g} to {most:g}.", param=param)
    return value


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    size = parse_size(text)
    if size is None:
        raise _bad("size", "'size' is width and height in pixels, like 1280x720.")
    return size


def _micros(dollars: float | str) -> int:
    """Micro-dollars, exactly as written: 0.1 is 100,000."""
    param = "provider.max_price.request"
    try:
        amount = Decimal(dollars if isinstance(dollars, str) else repr(dollars))
    except InvalidOperation as error:
        raise Problem(422, "wrong_type", f"{param!r} is an amount in US dollars, such as 0.5.", param=param) from error
    if not amount.is_finite() or not 0 <= amount <= MAX_PRICE_USD:
        raise Problem(422, "out_of_range", f"{param!r} must be from 0 to {MAX_PRICE_USD}.", param=param)
    return int(amount * 1_000_000)


def _bad(param: str, message: str) -> Problem:
    return Problem(422, "invalid_value", message, param=param)
