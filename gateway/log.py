"""How the log is written: one event per line on stderr.

Law: set once, by the command that serves; what is logged, and that no secret or prompt is, is each room's own business.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from gateway.settings import Settings


def configure(settings: Settings) -> None:
    """One event per line on stderr: for people in a terminal, as JSON elsewhere."""
    console = settings.log.format == "console" or (settings.log.format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if not console else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    for name in ("granian", "_granian", "httpx", "httpcore"):  # httpx would print addresses, and a callback's token
        logging.getLogger(name).setLevel(logging.WARNING)
