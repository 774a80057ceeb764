"""The named statements, read once from statements.sql. Law: SQL stands in that file, never in a string of the code."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Name → statement. A name stands on a `-- name: …` line and owns the text up to the next one.
    Raises ValueError for a name given twice."""
    _, *parts = _NAME.split(text)
    statements: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"the statement {name!r} is written twice")
        statements[name] = body.strip().rstrip(";")
    return statements


STATEMENTS = parse(Path(__file__).with_name("statements.sql").read_text(encoding="utf-8"))
