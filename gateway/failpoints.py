"""Named places where a crash test stops the process, as a power cut would.

Law: nothing happens anywhere unless `FILMGATE_FAILPOINT` names the place, which no configuration file can do.
"""

from __future__ import annotations

import os
import signal

PLACES = (
    "before_accept",
    "after_accept",
    "after_intent",
    "after_reply",
    "while_running",
    "before_end",
    "after_end",
    "after_webhook",
)

_armed = ""


def arm(place: str) -> None:
    """Make the first `reach(place)` the process's last act. Raises ValueError on a place that does not exist."""
    global _armed
    if place and place not in PLACES:
        raise ValueError(f"no failpoint {place!r}; there are {', '.join(PLACES)}")
    _armed = place


def reach(place: str) -> None:
    if place == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
