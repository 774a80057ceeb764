"""Where the JavaScript clients are, and how a judge written with them is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

_FOLDER = Path(__file__).parent / "js"


class Node(msgspec.Struct, frozen=True):
    """Node.js and the folder whose node_modules hold the clients."""

    program: str
    folder: Path

    def run(self, script: str, *arguments: str, seconds: float = 90) -> dict[str, dict[str, Any]]:
        """Runs a judge; what it found, by the `name` of each JSON line that it printed."""
        done = subprocess.run(
            [self.program, str(self.folder / script), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        found = [json.loads(line) for line in done.stdout.splitlines() if line]
        return {line.pop("name"): line for line in found}


@pytest.fixture(scope="session")
def node() -> Node:
    """Node and the clients; where they are missing the test skips, or fails if FILMGATE_TESTS_REQUIRE=1."""
    program = shutil.which("node")
    if program is None:
        without("Node.js is not installed")
    if not (_FOLDER / "node_modules" / ".package-lock.json").exists():
        without("the JavaScript clients are not installed: run `npm ci` in tests/sdk/js")
    assert program is not None
    return Node(program, _FOLDER)


def without(reason: str) -> None:
    if os.environ.get("FILMGATE_TESTS_REQUIRE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
