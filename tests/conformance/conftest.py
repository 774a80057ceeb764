"""The cast of the suite: every player, every row, and a vendor server for those who have one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.asks import asks
from tests.conformance.player import Player, entered
from tests.vendors.kit import Pace
from tests.vendors.server import Options, Vendor

PLAYERS = entered()
NETWORKED = [player for player in PLAYERS if player.vendor]
RENDERERS = [player for player in PLAYERS if not player.vendor]
ASKS = [ask for player in NETWORKED for ask in asks(player)]
SMALLEST = [ask for ask in ASKS if ask.is_smallest]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`networked`: those with a vendor. `ask`: each request of each row of these; `smallest`: one a row and mode.
    `renderer`: those that render on this machine. A test that names its own cast keeps it."""
    casts: dict[str, list[Any]] = {"networked": NETWORKED, "renderer": RENDERERS, "ask": ASKS, "smallest": SMALLEST}
    marks = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    own = {name for names in marks for name in ([names] if isinstance(names, str) else names)}
    for name, cast in casts.items():
        if name in metafunc.fixturenames and name not in own:
            metafunc.parametrize(name, cast, ids=str)


@pytest.fixture
def vendor(networked: Player, tmp_path: Path) -> Iterator[Vendor]:
    """The player's vendor, whose jobs are done with their first poll behind them."""
    assert networked.vendor is not None
    with networked.vendor(tmp_path, Options(pace=Pace(steps=0))) as server:
        yield server


@pytest.fixture(scope="session")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Vendor]]:
    """One server a player for the whole session, for tests that leave nothing behind that another could see."""
    running: dict[str, Vendor] = {}
    try:
        for player in NETWORKED:
            assert player.vendor is not None
            if player.name in running:
                continue
            folder = tmp_path_factory.mktemp(player.name)
            running[player.name] = player.vendor(folder, Options(pace=Pace(steps=0))).__enter__()
        yield running
    finally:
        for server in running.values():
            server.__exit__(None, None, None)
