"""Which models there are: OpenAI's list, and OpenRouter's of what each video model can do and costs.

Law: everything is read off the catalogue's rows and the configuration, which do not change while we run. A capability
is listed when any backend that is configured grants it (of one without a credential: any backend at all); what goes
together is the routing's to say, before anything is paid: `POST /v1/videos/route`. Prices are the least of any backend.

The keys of `GET /v1/videos/models` are those of OpenRouter's VideoModel (openrouter.ai/docs, read 2026-11-23); it names
its SKUs by what a price depends on, and so do we: `duration_seconds_1080p_with_audio`, or `clip_5s_720p` where whole
clips are priced.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from gateway.api import Rooms
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation
from gateway.api.problems import not_found
from gateway.catalogue import AudioGrant, Backend, UnknownModel
from gateway.catalogue.shapes import parse_ratio, pixels, short_side
from providers.spec import Mode

OWN = "filmgate"  # owner of the names that the configuration made
MICROS = 1_000_000
T = TypeVar("T")


class ModelView(msgspec.Struct, kw_only=True):
    """OpenAI's model object, and after it who makes the model here and whether a credential is set."""

    id: str
    object: str = "model"
    created: int  # unix seconds: when a person last checked its rows
    owned_by: str
    backends: tuple[str, ...]
    available: bool


class ModelsView(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[ModelView]


class VideoModelView(msgspec.Struct, kw_only=True):
    """OpenRouter's video model, and after it what its keys have no word for."""

    id: str
    object: str = "model"
    canonical_slug: str
    name: str
    created: int
    description: str
    supported_resolutions: list[str]
    supported_aspect_ratios: list[str]
    supported_sizes: list[str]
    supported_durations: list[int]
    supported_frame_images: list[str]
    generate_audio: bool
    seed: bool
    allowed_passthrough_parameters: list[str]
    pricing_skus: dict[str, str]  # US dollars
    negative_prompt: bool
    max_input_references: int
    max_shots: int
    camera: list[str]
    max_prompt_characters: int
    backends: tuple[str, ...]
    available: bool


class VideoModelsView(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: list[VideoModelView]


OPERATIONS = (
    Operation("get", "/v1/models", "listModels", "Every model and alias, as OpenAI lists them.", ModelsView),
    Operation("get", "/v1/models/{model_id}", "retrieveModel", "One model or alias.", ModelView, fails=(404,)),
    Operation("get", "/v1/videos/models", "listVideoModels", "What each can make, and its prices.", VideoModelsView),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)
    of_realm = {False: _Known(rooms), **({True: _Known(rooms.test)} if rooms.test is not None else {})}

    def known(request: Request[Any, Any, Any]) -> _Known:
        key = ring.caller(request.scope, needs="")
        rooms.of(key)
        return of_realm[key.test]

    @get("/v1/models")
    async def list_models(request: Request[Any, Any, Any]) -> Answer:
        return Answer(known(request).models)

    @get("/v1/models/{model_id:path}")
    async def retrieve(request: Request[Any, Any, Any]) -> Answer:
        found = known(request).by_id.get(request.path_params["model_id"].lstrip("/"))
        if found is None:
            raise not_found("model")
        return Answer(encode(found))

    @get("/v1/videos/models")
    async def list_video_models(request: Request[Any, Any, Any]) -> Answer:
        return Answer(known(request).video_models)

    return [list_models, retrieve, list_video_models]


class _Known:
    """The answers of one realm, encoded once."""

    def __init__(self, rooms: Rooms) -> None:
        models: list[ModelView] = []
        videos: list[VideoModelView] = []
        for name, rows in _named(rooms):
            configured = [row for row in rows if row.provider in rooms.settings.configured]
            is_alias = name in rooms.settings.routing.aliases
            shown = _model(name, rows, is_alias=is_alias, available=bool(configured))
            models.append(shown)
            videos.append(_video_model(shown, configured or rows))
        self.by_id = {model.id: model for model in models}
        self.models = encode(ModelsView(data=models))
        self.video_models = encode(VideoModelsView(data=videos))


def _named(rooms: Rooms) -> Iterable[tuple[str, list[Backend]]]:
    """The catalogue's models, then the configuration's names for lists of them, with their rows."""
    aliases = rooms.settings.routing.aliases
    for name in dict.fromkeys((*rooms.catalogue.model_names(), *aliases)):
        try:
            target = rooms.catalogue.resolve(name, aliases)
        except UnknownModel:  # an alias of models whose catalogue file is left out
            continue
        yield name, [row for backend in target.backends if (row := rooms.catalogue.backend(backend)) is not None]


def _model(name: str, rows: list[Backend], *, is_alias: bool, available: bool) -> ModelView:
    checked = max((row.checked for row in rows if row.checked is not None), default=None)
    providers = sorted({row.provider for row in rows})
    day = datetime(checked.year, checked.month, checked.day, tzinfo=UTC) if checked else None
    return ModelView(
        id=name,
        created=int(day.timestamp()) if day else 0,
        owned_by=OWN if is_alias or len(providers) != 1 else providers[0],
        backends=tuple(row.id for row in rows),
        available=available,
    )


def _video_model(model: ModelView, rows: list[Backend]) -> VideoModelView:
    ratios = _each(row.aspect_ratios for row in rows)
    frames = [
        word
        for word, granted in (
            ("first_frame", any(Mode.FIRST_FRAME in row.model_id for row in rows)),
            ("last_frame", any(row.last_frame for row in rows)),
        )
        if granted
    ]
    count = len(model.backends)
    return VideoModelView(
        id=model.id,
        canonical_slug=model.id,
        name=model.id,
        created=model.created,
        description=f"{model.id}, by {count} backend{'' if count == 1 else 's'}: {', '.join(model.backends)}",
        supported_resolutions=sorted(_each(row.resolutions for row in rows), key=lambda word: short_side(word) or 0),
        supported_aspect_ratios=ratios,
        supported_sizes=_each(_sizes(row) for row in rows),
        supported_durations=sorted(_each(row.seconds.all() for row in rows)),
        supported_frame_images=frames,
        generate_audio=any(row.audio is not AudioGrant.NEVER for row in rows),
        seed=any(row.seed for row in rows),
        allowed_passthrough_parameters=sorted({f"provider.options.{row.provider}" for row in rows}),
        pricing_skus=_skus(rows),
        negative_prompt=any(row.negative_prompt for row in rows),
        max_input_references=max((row.references for row in rows), default=0),
        max_shots=max((row.shots for row in rows), default=0),
        camera=_each(tuple(move.value for move in row.camera) for row in rows),
        max_prompt_characters=max((row.prompt_max for row in rows), default=0),
        backends=model.backends,
        available=model.available,
    )


def _each(lists: Iterable[Iterable[T]]) -> list[T]:
    return list(dict.fromkeys(one for several in lists for one in several))


def _sizes(row: Backend) -> list[str]:
    """ "1920x1080" for every resolution in every shape."""
    found = []
    for resolution in row.resolutions:
        for aspect in row.aspect_ratios:
            ratio, short = parse_ratio(aspect), short_side(resolution)
            if ratio is None or short is None:
                continue
            width, height = row.exact_size(resolution, aspect) or pixels(short, ratio[0] / ratio[1])
            found.append(f"{width}x{height}")
    return found


def _skus(rows: list[Backend]) -> dict[str, str]:
    """The least price of each kind of clip."""
    least: dict[str, int] = {}
    for row in rows:
        if row.price is None:
            continue
        for rate in row.price.rates:
            unit = "duration_seconds" if row.price.per == "second" else f"clip_{rate.seconds}s"
            unit = unit if row.price.per == "second" or rate.seconds is not None else "clip"
            sku = f"{unit}_{rate.resolution}{'_with_audio' if rate.audio else ''}"
            least[sku] = min(rate.usd_micros, least.get(sku, rate.usd_micros))
    return {sku: f"{usd / MICROS:.6f}".rstrip("0").rstrip(".") for sku, usd in sorted(least.items())}
