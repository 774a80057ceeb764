"""Configuration: the shipped file, the operator's file, the environment, in that order, into one frozen Settings.

Law: nothing else reads the environment. A key that nobody knows is an error that names the nearest key that somebody
does; an error in a file names the file, the key's path and the line of its table's header.

Every key can be overridden by `FILMGATE_` + its path in capitals, joined by two underscores
(`FILMGATE_ROUTING__ON_UNKNOWN`); the value is read as TOML, else as text.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

import providers
from gateway.catalogue import Alias
from gateway.jobs import Sort
from providers.spec import Frozen, Secret

PREFIX = "FILMGATE_"
_NOT_CONFIGURATION = frozenset({"FILMGATE_URL", "FILMGATE_API_KEY", "FILMGATE_FAILPOINT", "FILMGATE_TESTS_REQUIRE"})


_OURS = ("max_in_flight", "max_submits_per_minute")  # keys of an account that no provider's own Settings has


class SettingsError(Exception):
    """The configuration cannot be used. One line per fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Server(Frozen):
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None  # where vendors and callers reach us; callbacks need it


class StoreSettings(Frozen):
    url: str = "sqlite:///filmgate.db"


class Egress(Frozen):
    allow: tuple[str, ...] = ()  # hosts that the URL guard lets through beyond public https


class Routing(Frozen):
    """How backends are chosen, and how long doubt may last. Times in seconds, money in US dollars."""

    sort: Sort = "balanced"
    usd_per_minute_of_waiting: float = 0.05
    on_unknown: Literal["fail", "resubmit", "hold"] = "fail"
    check_clips: bool = True  # a delivered clip is held against what was bought
    on_mismatch: Literal["warn", "fail", "failover"] = "warn"
    unknown_after_seconds: float = 600.0
    deadline_seconds: float = 3600.0
    stuck_after_seconds: float = 120.0  # the soonest that a render is given up for another backend
    max_attempts: int = 4  # attempts of one job that a vendor took on
    purse_factor: float = 2.0  # a job's purse over all attempts, in quotes, where the caller sets no max_price
    intent_seconds: float = 30.0  # a submit is sent this soon after its intent is on disk, or never
    read_seconds: float = 60.0  # how long a vendor's reply is waited for
    grace_seconds: float = 30.0
    aliases: dict[str, Alias] = {}

    @property
    def overdue_seconds(self) -> float:
        """So long after its intent, no reply to a submit can come any more."""
        return self.intent_seconds + self.read_seconds + self.grace_seconds


class Log(Frozen):
    format: Literal["auto", "console", "json"] = "auto"  # auto: console in a terminal, else json
    level: Literal["debug", "info", "warning", "error"] = "info"


class Account(Frozen):
    """One credential at a provider."""

    provider: str
    name: str
    settings: Any  # the provider module's own Settings
    max_in_flight: int | None = None
    max_submits_per_minute: float | None = None
    callbacks: bool = True


class File(Frozen):
    """The tables of a configuration file, except `providers`, whose keys each provider's own Settings declares."""

    server: Server = Server()
    store: StoreSettings = StoreSettings()
    egress: Egress = Egress()
    routing: Routing = Routing()
    log: Log = Log()
    catalogue: tuple[str, ...] = ()


class Settings(Frozen):
    """Everything that the operator decided."""

    server: Server = Server()
    store: StoreSettings = StoreSettings()
    egress: Egress = Egress()
    routing: Routing = Routing()
    log: Log = Log()
    accounts: tuple[Account, ...] = ()
    catalogue: tuple[Path, ...] = ()
    dev: bool = False
    fleeting: bool = False  # the store lives in a temporary folder, and only as long as the process
    local_key: Secret | None = None  # a key text that this process alone accepts: "dev", or a one-time key
    failpoint: str = ""

    @property
    def configured(self) -> frozenset[str]:
        """Providers with a credential."""
        return frozenset(account.provider for account in self.accounts)


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
    here = Path(__file__).parent
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
    sources = [_Source.of_file(shipped() / "filmgate.toml")]
    if path is not None:
        sources.append(_Source.of_file(path))
    sources.append(_Source("the environment", "", _from_environment(environ)))
    sources.append(
        _Source("the command line", "", _nest({k: v for k, v in (overrides or {}).items() if v is not None}))
    )
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
        raise SettingsError([_explain(error, sources)]) from error
    accounts: list[Account] = []
    for name, table in vendors.items():
        try:
            accounts += _accounts(name, table, modules[name], environ, dev=dev)
        except (msgspec.ValidationError, ValueError) as error:
            faults.append(_explain(error, sources, prefix=f"providers.{name}"))
    if faults:
        raise SettingsError(faults)
    rows = sorted((shipped() / "catalogue").glob("*.toml"))
    base = path.parent if path is not None else Path()
    return Settings(
        server=file.server,
        store=file.store,
        egress=file.egress,
        routing=file.routing,
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


# --- where a value came from ------------------------------------------------------------------------------------------


class _Source:
    """One layer of configuration, with the text that its faults are shown in."""

    def __init__(self, name: str, text: str, raw: dict[str, Any]) -> None:
        self.name = name
        self.text = text
        self.raw = raw

    @classmethod
    def of_file(cls, path: Path) -> _Source:
        try:
            text = path.read_text("utf-8")
            return cls(str(path), text, tomllib.loads(text))
        except FileNotFoundError as error:
            raise SettingsError([f"{path}: there is no such file"]) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError([f"{path}: {error}"]) from error

    def unknown_keys(self, modules: Mapping[str, Any]) -> list[str]:
        faults = []
        for path, known in _strays(self.raw, modules):
            near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"
            faults.append(f"{self.place(path)}: unknown key {'.'.join(path)!r}{hint}")
        return faults

    def place(self, path: tuple[str, ...]) -> str:
        """File and line of the key, or of the nearest table header above it."""
        for depth in range(len(path), 0, -1):
            header = re.escape(".".join(path[:depth]))
            found = re.search(rf"^\s*\[+\s*{header}\s*\]+", self.text, re.MULTILINE)
            if found:
                return f"{self.name}:{self.text.count(chr(10), 0, found.end()) + 1}"
        found = re.search(rf"^\s*{re.escape(path[0])}\s*=", self.text, re.MULTILINE)
        return f"{self.name}:{self.text.count(chr(10), 0, found.end()) + 1}" if found else self.name


def _strays(raw: Mapping[str, Any], modules: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Paths of keys that nobody knows, each with the keys that are known in its place."""
    tables = {field.name: field.type for field in msgspec.structs.fields(File)}
    for key, value in raw.items():
        if key == "providers":
            yield from _vendor_strays(value, modules)
        elif key not in tables:
            yield (key,), {*tables, "providers"}
        elif isinstance(value, dict):
            yield from _table_strays((key,), value, tables[key])


def _table_strays(
    path: tuple[str, ...], value: Mapping[str, Any], shape: Any
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    known = {field.name: field.type for field in msgspec.structs.fields(shape)}
    for key, inner in value.items():
        if key not in known:
            yield (*path, key), set(known)
        elif key == "aliases" and isinstance(inner, dict):
            for alias, table in inner.items():
                yield from _table_strays((*path, key, alias), table, Alias)


def _vendor_strays(value: Mapping[str, Any], modules: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    for name, table in value.items():
        if name not in modules:
            yield ("providers", name), set(modules)
            continue
        known = {field.name for field in msgspec.structs.fields(modules[name].Settings)} | {
            "max_in_flight",
            "callbacks",
        }
        for key in table:
            if key not in known | {"accounts", "enabled"}:
                yield ("providers", name, key), known | {"accounts", "enabled"}
        for account in table.get("accounts", ()):
            for key in account:
                if key not in known | {"name"}:
                    yield ("providers", name, "accounts", key), known | {"name"}


def _explain(error: Exception, sources: list[_Source], *, prefix: str = "") -> str:
    """A validation error as a sentence that begins with its place."""
    text = str(error)
    found = re.search(r" - at `\$\.?([^`]*)`", text)
    inside = re.sub(r"\[\.\.\.\]|\[\d+\]", "", found.group(1)) if found else ""
    path = tuple(part for part in f"{prefix}.{inside}".split(".") if part)
    said = text[: found.start()] if found else text
    for source in reversed(sources):
        table: Any = source.raw
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if table is not None:
            return f"{source.place(path)}: {'.'.join(path)}: {said}"
    return f"{'.'.join(path)}: {said}"


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
