"""Configuration: the shipped file, the operator's file, the environment, in that order, into one frozen Settings.

Law: nothing else reads the environment. A key that nobody knows is an error that names the nearest key that somebody
does; an error in a file names the file, the key's path and the line of its table's header.

Every key can be overridden by `FILMGATE_` + its path in capitals, joined by two underscores
(`FILMGATE_ROUTING__ON_UNKNOWN`); the value is read as TOML, else as text.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

import providers
from gateway.settings.sources import SettingsError, Source, explain
from gateway.settings.tables import (
    Account,
    ArchiveSettings,
    Egress,
    File,
    Log,
    Retention,
    Routing,
    Server,
    Settings,
    StoreSettings,
    Webhooks,
)
from providers.spec import Secret

__all__ = [
    "Account",
    "ArchiveSettings",
    "Egress",
    "File",
    "Log",
    "Retention",
    "Routing",
    "Server",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "Webhooks",
    "load",
    "provider_modules",
    "shipped",
]

PREFIX = "FILMGATE_"
_NOT_CONFIGURATION = frozenset({"FILMGATE_URL", "FILMGATE_API_KEY", "FILMGATE_FAILPOINT", "FILMGATE_TESTS_REQUIRE"})


_OURS = ("max_in_flight", "max_submits_per_minute")  # keys of an account that no provider's own Settings has


def provider_modules() -> dict[str, Any]:
    """Every provider by name: the modules of the package `providers` that export `Settings` and `make`."""
    found = {}
    for entry in pkgutil.iter_modules(providers.__path__):
        module = importlib.import_module(f"providers.{entry.name}")
        if hasattr(module, "make") and hasattr(module, "Settings"):
            found[entry.name] = module
    return found


def shipped() -> Path:
    """The folder `config`: beside the packages in a checkout, inside `gateway` in an installed wheel."""
    here = Path(__file__).parent.parent
    inside = here / "config"
    return inside if inside.is_dir() else here.parent / "config"


def load(
    path: Path | None = None,
    *,
    dev: bool = False,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of `path` over the shipped ones, under the environment, under `overrides` ("server.port" → value).

    Raises SettingsError with every fault found.
    """
    environ = os.environ if environ is None else environ
    sources = [Source.of_file(shipped() / "filmgate.toml")]
    if path is not None:
        sources.append(Source.of_file(path))
    sources.append(Source("the environment", "", _from_environment(environ)))
    sources.append(Source("the command line", "", _nest({k: v for k, v in (overrides or {}).items() if v is not None})))
    faults: list[str] = []
    raw: dict[str, Any] = {}
    modules = provider_modules()
    for source in sources:
        faults += source.unknown_keys(modules)
        raw = _merged(raw, source.raw)
    if faults:
        raise SettingsError(faults)
    vendors = raw.pop("providers", {})
    try:
        file = msgspec.convert(raw, File, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError([explain(error, sources)]) from error
    accounts: list[Account] = []
    for name, table in vendors.items():
        try:
            accounts += _accounts(name, table, modules[name], environ, dev=dev)
        except (msgspec.ValidationError, ValueError) as error:
            faults.append(explain(error, sources, prefix=f"providers.{name}"))
    if faults:
        raise SettingsError(faults)
    rows = sorted((shipped() / "catalogue").glob("*.toml"))
    base = path.parent if path is not None else Path()
    return Settings(
        server=file.server,
        store=file.store,
        egress=file.egress,
        routing=file.routing,
        webhooks=file.webhooks,
        archive=file.archive,
        retention=file.retention,
        log=file.log,
        accounts=tuple(accounts),
        catalogue=(*rows, *(base / extra for extra in file.catalogue)),
        dev=dev,
        fleeting=dev and file.store == StoreSettings(),
        local_key=Secret("dev") if dev else None,
        failpoint=environ.get("FILMGATE_FAILPOINT", ""),
    )


def _accounts(name: str, table: dict[str, Any], module: Any, environ: Mapping[str, str], *, dev: bool) -> list[Account]:
    """The accounts of one provider's table; none when its credential is not there."""
    common = {key: value for key, value in table.items() if key not in ("accounts", "enabled")}
    if not table.get("enabled", dev or not getattr(module, "DEV_ONLY", False)):
        return []
    fields = {field.name: field for field in msgspec.structs.fields(module.Settings)}
    secret_names = [key for key, field in fields.items() if field.type is Secret or field.type == Secret | None]
    needed = [key for key in secret_names if fields[key].required]
    accounts = []
    for entry in table.get("accounts") or [{}]:
        values = {**common, **entry}
        own = {key: values.pop(key) for key in ("name", *_OURS) if key in values}
        for key in secret_names:
            text = _secret(values.get(key), environ, where=f"{name}.{key}")
            values.pop(key, None)
            if text:
                values[key] = Secret(text)
        if any(key not in values for key in needed):
            continue
        settings = msgspec.convert(values, module.Settings, strict=False, dec_hook=_hook)
        usable = getattr(settings, "usable", None)  # where one of several credentials will do
        if usable is not None and not usable():
            continue
        accounts.append(
            Account(
                provider=name,
                name=own.get("name", "main"),
                settings=settings,
                max_in_flight=own.get("max_in_flight"),
                max_submits_per_minute=own.get("max_submits_per_minute"),
                callbacks=bool(values.get("callbacks", True)),
            )
        )
    return accounts


def _hook(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, Secret):
        return value
    raise ValueError(f"a {type(value).__name__} cannot be a {kind.__name__}")


def _secret(text: Any, environ: Mapping[str, str], *, where: str) -> str:
    if not text:
        return ""
    if not isinstance(text, str):
        raise ValueError(f'{where}: a secret is text, such as "env:NAME"')
    if text.startswith("env:"):
        text = environ.get(text[4:], "")
    return str(text).strip()  # a file's or a shell's stray newline is no part of a key


# --- layers ----------------------------------------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, text in environ.items():
        if name.startswith(PREFIX) and name not in _NOT_CONFIGURATION:
            flat[name.removeprefix(PREFIX).lower().replace("__", ".")] = _toml_or_text(text)
    return _nest(flat)


def _toml_or_text(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        table = nested
        for part in parents:
            table = table.setdefault(part, {})
        table[last] = value
    return nested


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, table by table."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
