"""The catalogue as a whole, and what a caller's `model` names in it.

Law: pure. A name is an alias, a model, `provider/model`, or a backend's id, looked up in that order: an operator's
alias wins over a model of the same name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.catalogue.rows import Backend, Quote, listed, price_of
from gateway.catalogue.shapes import Ratio, Shape, parse_ratio, parse_size, pixels, short_side
from providers.spec import Frozen


class Alias(Frozen):
    """A name of the configuration for a list of models, with defaults for what the caller leaves open.

    `models` are models, `provider/model`s or backend ids. `warning` is shown on every job made under this name.
    """

    models: tuple[str, ...]
    seconds: int | None = None
    size: str | None = None  # "1280x720"
    resolution: str | None = None
    aspect_ratio: str | None = None
    generate_audio: bool | None = None
    warning: str | None = None


class Target(Frozen):
    """What a `model` came to: the backends that compete for the job."""

    models: tuple[str, ...]
    provider: str | None = None  # set when the caller pinned one
    alias: Alias | None = None
    name: str = ""  # as the caller wrote it
    backends: tuple[str, ...] = ()  # ids: models in the caller's (or the alias's) order, ids in their own


class UnknownModel(Exception):
    """Nothing of the catalogue has this name. `nearest` are names that exist, best first."""

    def __init__(self, model: str, nearest: tuple[str, ...]) -> None:
        hint = f"; did you mean {listed(nearest)}?" if nearest else ""
        super().__init__(f"There is no model {model!r}{hint}")
        self.model = model
        self.nearest = nearest


class Tables(NamedTuple):
    """What `match` looks up of one row, worked out once."""

    names: frozenset[str]  # what a caller's `provider` object may call it
    resolutions: dict[int, str]  # short side → the row's own word
    shorts: dict[str, int]  # and back
    ratios: dict[Ratio, str]
    shapes: tuple[tuple[float, str], ...]  # width ÷ height, and its word
    sizes: dict[tuple[int, int], Shape]  # by pixels
    named: dict[tuple[str, str], Shape]  # by resolution and ratio
    quotes: dict[tuple[str, bool, int], Quote | None]  # by resolution, sound and seconds; filled as they are asked for


class Catalogue:
    """Every backend that is known. Frozen once made."""

    def __init__(self, backends: Iterable[Backend]) -> None:
        self.backends: tuple[Backend, ...] = tuple(backends)
        self.rows: dict[str, tuple[Backend, Tables]] = {row.id: (row, _tables(row)) for row in self.backends}
        self._by_model: dict[str, tuple[str, ...]] = {}
        self._by_pin: dict[str, tuple[str, ...]] = {}
        for row in sorted(self.backends, key=lambda row: row.id):
            pin = f"{row.provider}/{row.model}"
            self._by_model[row.model] = (*self._by_model.get(row.model, ()), row.id)
            self._by_pin[pin] = (*self._by_pin.get(pin, ()), row.id)

    def backend(self, backend_id: str) -> Backend | None:
        """The row with this id."""
        found = self.rows.get(backend_id)
        return found[0] if found else None

    def model_names(self) -> tuple[str, ...]:
        """Every model, once, in the order of the rows."""
        return tuple(dict.fromkeys(row.model for row in self.backends))

    def everything(self) -> Target:
        """All backends, as one target."""
        return Target(models=self.model_names(), name="any model", backends=tuple(sorted(self.rows)))

    def resolve(self, model: str, aliases: Mapping[str, Alias]) -> Target:
        """What `model` names. An alias skips those of its models that this catalogue has not (a file was left out).

        Raises UnknownModel when no backend is left.
        """
        alias = aliases.get(model)
        if alias is None:
            return self._named(model, aliases)
        known = [found for name in alias.models if (found := self._look_up(name)) is not None]
        if not known:
            raise UnknownModel(model, self._nearest(alias.models[0] if alias.models else model, {}))
        backends = dict.fromkeys(backend for target in known for backend in target.backends)
        models = dict.fromkeys(name for target in known for name in target.models)
        return Target(models=tuple(models), alias=alias, name=model, backends=tuple(backends))

    def faults_in(self, aliases: Mapping[str, Alias]) -> tuple[str, ...]:
        """A sentence for everything in the aliases that cannot work; for `filmgate check`."""
        found = []
        for name, alias in aliases.items():
            if not alias.models:
                found.append(f"alias {name!r}: lists no models")
            found += [
                f"alias {name!r}: {UnknownModel(model, self._nearest(model, {}))}"
                for model in alias.models
                if self._look_up(model) is None
            ]
            for key, text, meaning in (
                ("size", alias.size, parse_size(alias.size or "")),
                ("resolution", alias.resolution, short_side(alias.resolution or "")),
                ("aspect_ratio", alias.aspect_ratio, parse_ratio(alias.aspect_ratio or "")),
            ):
                if text is not None and meaning is None:
                    found.append(f"alias {name!r}: {key} {text!r} is not known: write 1280x720, 720p or 16:9")
        return tuple(found)

    def _named(self, model: str, aliases: Mapping[str, Alias]) -> Target:
        found = self._look_up(model)
        if found is None:
            raise UnknownModel(model, self._nearest(model, aliases))
        return found

    def _look_up(self, name: str) -> Target | None:
        if backends := self._by_model.get(name):
            return Target(models=(name,), name=name, backends=backends)
        if backends := self._by_pin.get(name):
            provider, _, model = name.partition("/")
            return Target(models=(model,), provider=provider, name=name, backends=backends)
        if row := self.backend(name):
            return Target(models=(row.model,), provider=row.provider, name=name, backends=(row.id,))
        return None

    def _nearest(self, model: str, aliases: Mapping[str, Alias]) -> tuple[str, ...]:
        provider, _, bare = model.rpartition("/")
        if provider and bare in self._by_model:  # the model is there, but not through this provider
            return tuple(pin for pin in self._by_pin if pin.endswith(f"/{bare}"))
        known = (*self._by_model, *aliases, *self._by_pin, *self.rows)
        close = difflib.get_close_matches(model, dict.fromkeys(known), n=3, cutoff=0.5)
        return tuple(close or difflib.get_close_matches(bare, self.model_names(), n=3, cutoff=0.5))


def quoted(row: Backend, tables: Tables, *, resolution: str, audio: bool, seconds: int) -> Quote | None:
    """The price of a clip that the row grants, remembered: there are only so many."""
    key = (resolution, audio, seconds)
    if key not in tables.quotes:
        tables.quotes[key] = price_of(row, resolution=resolution, audio=audio, seconds=seconds)
    return tables.quotes[key]


def _tables(row: Backend) -> Tables:
    ratios = {ratio: text for text in row.aspect_ratios if (ratio := parse_ratio(text))}
    resolutions = {short: text for text in row.resolutions if (short := short_side(text))}
    sizes = {
        size: Shape(resolution, ratio, f"{size[0]}x{size[1]}")
        for short, resolution in resolutions.items()
        for (a, b), ratio in ratios.items()
        for size in (row.exact_size(resolution, ratio) or pixels(short, a / b),)
    }
    return Tables(
        names=frozenset((row.provider, row.id, f"{row.provider}/{row.model}")),
        resolutions=resolutions,
        shorts={text: short for short, text in resolutions.items()},
        ratios=ratios,
        shapes=tuple((a / b, text) for (a, b), text in ratios.items()),
        sizes=sizes,
        quotes={},
        named={(shape.resolution, shape.aspect or ""): shape for shape in sizes.values()},
    )
