"""The parent's side of a measured process: it starts one, asks it, and ends it with its own block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec

from tests.bench.subject import ROOT, Told

_told = msgspec.json.Decoder(Told)


class Measured:
    """A `tests.bench.subject`, serving for as long as the block lasts. Its log goes to `log`."""

    def __init__(self, *words: str | Path, log: Path) -> None:
        self._words = words
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Returns once it answers requests. Raises RuntimeError with its log when it ends before that."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.subject", *map(str, self._words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self._heard()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        return self._ask(b"cpu").cpu_seconds

    def settled(self) -> Told:
        """Its memory, garbage collected and given back."""
        return self._ask(b"settle")

    def _ask(self, word: bytes) -> Told:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(word + b"\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> Told:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"the measured process has ended:\n{self._log.read_text()[-3000:]}")
        return _told.decode(line)
