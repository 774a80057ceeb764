"""When a backend or an account rests, and how it comes back.

Law: pure, and fed by real jobs alone: no paid probe is ever sent. Two signals are kept apart. Submits that are refused
for the vendor's own reasons bought nothing, so a few in a row are enough, and the first one that is taken ends it.
Renders that fail in a row take a render that ends well. After its rest one job tries first; each vain try doubles the
rest, as far as its longest.
"""

from __future__ import annotations

import math

SECOND_US = 1_000_000
REFUSED_SUBMITS = 3  # in a row
FAILED_RENDERS = 5  # in a row
REST_US, LONGEST_SUBMIT_REST_US, LONGEST_RENDER_REST_US = 30 * SECOND_US, 45 * SECOND_US, 300 * SECOND_US
ACCOUNT_REST_US, LONGEST_ACCOUNT_REST_US = 60 * SECOND_US, 300 * SECOND_US


class Circuit:
    """Of one backend."""

    __slots__ = ("failed", "refused", "rests", "trying", "until_us")

    def __init__(self) -> None:
        self.refused = self.failed = 0  # in a row
        self.rests = 0  # since it last worked
        self.until_us = 0
        self.trying: int | None = None  # half-open: when the one job went out that sees whether it works again

    @property
    def is_open(self) -> bool:
        return self.refused >= REFUSED_SUBMITS or self.failed >= FAILED_RENDERS

    def refuse(self, at_us: int) -> None:
        """A submit was not taken, for a reason of the vendor's."""
        self.refused += 1
        if self.refused >= REFUSED_SUBMITS:
            self._rest(at_us, LONGEST_SUBMIT_REST_US)

    def take(self) -> None:
        """A submit was taken. A render that failed must still be made good by a render."""
        self.refused = 0
        if self.failed < FAILED_RENDERS:
            self._close()

    def fail(self, at_us: int) -> None:
        """A render that was taken on failed."""
        self.failed += 1
        if self.failed >= FAILED_RENDERS:
            self._rest(at_us, LONGEST_RENDER_REST_US)

    def succeed(self) -> None:
        """A render ended well. It was taken on long ago, so it says nothing of submits."""
        self.failed = 0
        if self.refused < REFUSED_SUBMITS:
            self._close()

    def why_not(self, now_us: int) -> str:
        """Why no job may go there now; empty when one may."""
        if not self.is_open:
            return ""
        what = f"{self.refused} refused submits" if self.refused >= REFUSED_SUBMITS else f"{self.failed} failures"
        if self.until_us > now_us:
            return f"it rests for {math.ceil((self.until_us - now_us) / SECOND_US)} s more after {what} in a row"
        return f"one job is out to try it again after {what} in a row" if self.trying is not None else ""

    def _rest(self, at_us: int, longest_us: int) -> None:
        if at_us < self.until_us:
            return  # sent before it rested
        self.until_us = at_us + min(REST_US << min(self.rests, 16), longest_us)
        self.rests += 1

    def _close(self) -> None:
        self.rests = self.until_us = 0
        self.trying = None


class AccountRest:
    """Of one account, after its credential or its balance was refused."""

    __slots__ = ("rests", "trying", "until_us")

    def __init__(self) -> None:
        self.rests = self.until_us = 0
        self.trying: int | None = None  # as of a circuit

    def refuse(self, at_us: int) -> None:
        if at_us < self.until_us:
            return
        self.until_us = at_us + min(ACCOUNT_REST_US << min(self.rests, 16), LONGEST_ACCOUNT_REST_US)
        self.rests += 1

    def is_out(self, now_us: int) -> bool:
        return self.until_us > now_us or self.trying is not None
