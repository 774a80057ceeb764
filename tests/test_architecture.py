"""The house's laws, kept over the syntax trees of every module: which way arrows run, and who may touch what.

Each law is also shown to bite: the same check over a copy with one line broken finds exactly that line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 400
VENDORS = re.compile(r"(?<![a-z])(fal|kling|runway|pika|wavespeed|atlascloud|ulazai)(?![a-z])", re.IGNORECASE)
DIALECTS = (
    "gateway/api/fal.py",
    "gateway/api/fal_answers.py",
    "gateway/api/fal_files.py",
    "gateway/api/fal_hook.py",
    "gateway/api/fal_paths.py",
    "gateway/api/fal_words.py",
    "gateway/console/",
)
PURE = (
    "gateway.catalogue",
    "gateway.router",
    "gateway.acceptance",
    "gateway.deciding",
    "gateway.health",
    "gateway.buckets",
    "gateway.circuits",
    "gateway.draws",
    "gateway.paces",
    "gateway.renders",
    "gateway.jobs",
    "gateway.auditing",
    "gateway.mirror",
    "gateway.tokens",
    "gateway.links",
    "gateway.worker.pace",
)
IMPURE = {
    "asyncio",
    "httpx",
    "io",
    "os",
    "pathlib",
    "random",
    "secrets",
    "socket",
    "sqlite3",
    "structlog",
    "threading",
    "time",
}
READS_FILES = "gateway.catalogue.loading"  # the catalogue's one exception
HTTPX = (
    "providers.",
    "gateway.delivery",
    "gateway.clips",
    "gateway.archiving",
    "gateway.api.content",
    "gateway.commands.client",
)
NO_ROOM = {"utils", "helpers", "common", "base", "services", "models", "manager", "misc"}
SQL = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+TABLE)\b")


class Module:
    """One file: its dotted name, its tree, and what it imports."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path.relative_to(root).as_posix()
        self.text = path.read_text("utf-8")
        self.tree = ast.parse(self.text)
        parts = path.relative_to(root).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every imported module, absolute, with its line. `from a import b` counts as a.b too: b may be a module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: imports are absolute"
                yield node.module or "", node.lineno
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node.lineno

    def within(self, *rooms: str) -> bool:
        return any(self.name == room or self.name.startswith(room.rstrip(".") + ".") for room in rooms)


Law = Callable[[Module], Iterator[str]]


def modules(root: Path) -> list[Module]:
    return [Module(root, path) for room in ("gateway", "providers") for path in sorted((root / room).rglob("*.py"))]


def is_of(imported: str, *rooms: str) -> bool:
    return any(imported == room or imported.startswith(room + ".") for room in rooms)


def providers_know_no_gateway_and_only_the_contract(module: Module) -> Iterator[str]:
    if not module.within("providers"):
        return
    package = ".".join(module.name.split(".")[:2])
    allowed: tuple[str, ...] = ("providers.spec", "providers.transport", package)
    if module.name == "providers.transport":
        allowed = ("providers.spec", "providers.guard")
    for name, line in module.imports():
        if is_of(name, "gateway") or (is_of(name, "providers") and name != "providers" and not is_of(name, *allowed)):
            yield f"{module.path}:{line}: a provider imports {name}"


def api_and_worker_never_meet(module: Module) -> Iterator[str]:
    for one, other in (("gateway.api", "gateway.worker"), ("gateway.worker", "gateway.api")):
        if module.within(one):
            for name, line in module.imports():
                if is_of(name, other):
                    yield f"{module.path}:{line}: {one} imports {other}"


def only_the_worker_calls_providers(module: Module) -> Iterator[str]:
    """Everybody may know the words (spec); adapters are made in app and settings, transport is handed to few."""
    if module.within("gateway.worker", "gateway.app", "gateway.settings") or not module.within("gateway"):
        return
    for name, line in module.imports():
        if (
            name != "providers"
            and is_of(name, "providers")
            and not is_of(name, "providers.spec", "providers.transport", "providers.guard")
        ):
            yield f"{module.path}:{line}: {name} is for the worker"


def app_is_known_to_commands_alone(module: Module) -> Iterator[str]:
    if module.within("gateway.commands", "gateway.__main__"):
        return
    for name, line in module.imports():
        if is_of(name, "gateway.app", "gateway.commands"):
            yield f"{module.path}:{line}: only a command may import {name}"


def pure_rooms_do_no_io(module: Module) -> Iterator[str]:
    if not module.within(*PURE) or module.within(READS_FILES):
        return
    for name, line in module.imports():
        if name.split(".")[0] in IMPURE:
            yield f"{module.path}:{line}: a pure room imports {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
            yield f"{module.path}:{node.lineno}: a pure room looks at the clock"


def libraries_stay_in_their_rooms(module: Module) -> Iterator[str]:
    homes = {
        "litestar": ("gateway.api", "gateway.console", "gateway.app"),
        "granian": ("gateway.app",),
        "obstore": ("gateway.archive",),
        "httpx": HTTPX,
        "sqlite3": ("gateway.store",),
        "asyncpg": ("gateway.store",),
        "prometheus_client": ("gateway.metrics",),
        "click": ("gateway.commands",),
        "rich": ("gateway.commands",),
    }
    for name, line in module.imports():
        home = homes.get(name.split(".")[0])
        if home is not None and not module.within(*home):
            yield f"{module.path}:{line}: {name} belongs to {', '.join(home)}"


def sql_stays_in_the_store(module: Module) -> Iterator[str]:
    if module.within("gateway.store"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value):
            yield f"{module.path}:{node.lineno}: SQL outside the store"


def the_environment_is_read_in_settings(module: Module) -> Iterator[str]:
    if module.within("gateway.settings"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"):
            yield f"{module.path}:{node.lineno}: the environment is read outside settings"


def no_vendor_is_named_in_the_gateway(module: Module) -> Iterator[str]:
    if not module.within("gateway") or module.path.startswith(DIALECTS):
        return
    for number, text in enumerate(module.text.splitlines(), 1):
        found = VENDORS.search(text)
        if found:
            yield f"{module.path}:{number}: a vendor's name: {found.group()}"


def what_is_caught_is_named(module: Module) -> Iterator[str]:
    """Outside the rooms that must outlive anything: the worker, the archive's copies, app, and the store's threads,
    whose errors belong to whoever awaits them. Cleaning up and raising on is no catch."""
    if module.within("gateway.worker", "gateway.archiving", "gateway.app", "gateway.store"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
                continue
            caught = node.type
            if caught is None or (isinstance(caught, ast.Name) and caught.id in ("Exception", "BaseException")):
                yield f"{module.path}:{node.lineno}: catches everything"


def rooms_are_small_and_well_named(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > MAX_LINES:
        yield f"{module.path}: {lines} lines, more than {MAX_LINES}"
    if set(module.name.split(".")) & NO_ROOM:
        yield f"{module.path}: not a room's name"
    if not ast.get_docstring(module.tree):
        yield f"{module.path}: says neither what it is nor its law"


LAWS: tuple[Law, ...] = (
    providers_know_no_gateway_and_only_the_contract,
    api_and_worker_never_meet,
    only_the_worker_calls_providers,
    app_is_known_to_commands_alone,
    pure_rooms_do_no_io,
    libraries_stay_in_their_rooms,
    sql_stays_in_the_store,
    the_environment_is_read_in_settings,
    no_vendor_is_named_in_the_gateway,
    what_is_caught_is_named,
    rooms_are_small_and_well_named,
)

BREAKS: tuple[tuple[Law, str, str], ...] = (
    (providers_know_no_gateway_and_only_the_contract, "providers/acme.py", "from gateway.jobs import Job"),
    (providers_know_no_gateway_and_only_the_contract, "providers/acme.py", "from providers.other import Adapter"),
    (api_and_worker_never_meet, "gateway/api/videos.py", "from gateway.worker import Worker"),
    (api_and_worker_never_meet, "gateway/worker/steps.py", "import gateway.api.wire"),
    (only_the_worker_calls_providers, "gateway/api/videos.py", "from providers.acme import Adapter"),
    (app_is_known_to_commands_alone, "gateway/router.py", "from gateway import app"),
    (pure_rooms_do_no_io, "gateway/router.py", "import time"),
    (pure_rooms_do_no_io, "gateway/health.py", "import datetime\nNOW = datetime.datetime.now()"),
    (libraries_stay_in_their_rooms, "gateway/media.py", "import litestar"),
    (libraries_stay_in_their_rooms, "gateway/worker/steps.py", "import httpx"),
    (sql_stays_in_the_store, "gateway/admin.py", "QUERY = 'SELECT id FROM jobs'"),
    (the_environment_is_read_in_settings, "gateway/app.py", "import os\nHOME = os.environ['HOME']"),
    (no_vendor_is_named_in_the_gateway, "gateway/router.py", "CHEAPEST = 'runway'"),
    (what_is_caught_is_named, "gateway/media.py", "try:\n    pass\nexcept Exception:\n    pass"),
    (rooms_are_small_and_well_named, "gateway/helpers.py", "X = 1"),
    (rooms_are_small_and_well_named, "gateway/router.py", "X = 1\n" * (MAX_LINES + 1)),
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_holds(law: Law) -> None:
    broken = [fault for module in modules(ROOT) for fault in law(module)]

    assert broken == []


@pytest.mark.parametrize(("law", "path", "line"), BREAKS, ids=lambda value: getattr(value, "__name__", None))
def test_law_bites(law: Law, path: str, line: str, tmp_path: Path) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    (tmp_path / "gateway").mkdir(exist_ok=True)
    (tmp_path / "providers").mkdir(exist_ok=True)
    file.write_text(f'"""A room. Law: none."""\n{line}\n')

    assert [fault for module in modules(tmp_path) for fault in law(module)]


def test_every_law_is_shown_to_bite() -> None:
    assert {law for law, _, _ in BREAKS} == set(LAWS)
