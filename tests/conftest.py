"""What every test may lean on: the event loop's make, and free ports on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that names a TCP port on 127.0.0.1 which nobody listens on now."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-rounds", default="3", help="kills at each failpoint")
    parser.addoption("--fuzz-cases", default="400", help="requests that the HTTP face is fuzzed with, about")
