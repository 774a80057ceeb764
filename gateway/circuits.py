"""When a backend or an account rests, and how it comes back.

Law: pure, and fed by real jobs alone: no paid probe is ever sent. Two signals are kept apart. Submits that are refused
for the vendor's own reasons bought nothing, so a few in a row are enough, and the first one that is taken ends it.
Renders that fail in a row take a render that ends well. After its rest one job tries first. A rest lasts twice as long
as the trouble has lasted so far, within bounds, so that a long trouble costs few vain tries. What is heard for nothing
counts too: while polls go without an answer no job tries, and a poll that is answered again, or a sibling that is
taken again, cuts the rest short.
"""

from __future__ import annotations

import math

SECOND_US = 1_000_000
REFUSED_SUBMITS = 3  # in a row
FAILED_RENDERS = 5  # in a row
REST_US, LONGEST_REST_US = 60 * SECOND_US, 600 * SECOND_US
SILENCE_US, LONGEST_SILENCE_US = 60 * SECOND_US, 1200 * SECOND_US


class Rest:
    """A time without jobs, after which one job tries first. Of an account whose credential or balance was refused."""

    __slots__ = ("since_us", "trying", "until_us")

    def __init__(self) -> None:
        self.since_us: int | None = None  # when the trouble began
        self.until_us = 0
        self.trying: int | None = None  # half-open: when the one job went out that sees whether it works again

    def refuse(self, at_us: int) -> None:
        """It does not work, or still not."""
        if at_us < self.until_us:
            return  # sent before it rested
        if self.since_us is None:
            self.since_us = at_us
        self.until_us = at_us + min(max(2 * (at_us - self.since_us), REST_US), LONGEST_REST_US)

    def cut_short(self) -> None:
        """Something speaks for it: the next job tries, and should it be in vain, the trouble counts as new."""
        self.since_us, self.until_us = None, 0

    def is_out(self, now_us: int) -> bool:
        return self.until_us > now_us or self.trying is not None


class Circuit(Rest):
    """Of one backend."""

    __slots__ = ("failed", "refused")

    def __init__(self) -> None:
        super().__init__()
        self.refused = self.failed = 0  # in a row

    @property
    def is_refused(self) -> bool:
        return self.refused >= REFUSED_SUBMITS

    @property
    def is_open(self) -> bool:
        return self.is_refused or self.failed >= FAILED_RENDERS

    def refuse(self, at_us: int) -> None:
        """A submit was not taken, for a reason of the vendor's."""
        self.refused += 1
        if self.is_refused:
            super().refuse(at_us)

    def take(self) -> None:
        """A submit was taken. A render that failed must still be made good by a render."""
        self.refused = 0
        self._close()

    def fail(self, at_us: int) -> None:
        """A render that was taken on failed."""
        self.failed += 1
        if self.failed >= FAILED_RENDERS:
            super().refuse(at_us)

    def succeed(self) -> None:
        """A render ended well. It was taken on long ago, so it says nothing of submits."""
        self.failed = 0
        self._close()

    def why_not(self, now_us: int, *, silent: bool) -> str:
        """Why no job may go there now that it is open; empty when one may. `silent`: its provider answers no poll."""
        what = f"{self.refused} refused submits" if self.is_refused else f"{self.failed} failures"
        if self.is_refused and silent:
            return f"its polls are not answered, after {what} in a row"
        if self.until_us > now_us:
            return f"it rests for {math.ceil((self.until_us - now_us) / SECOND_US)} s more after {what} in a row"
        return f"one job is out to try it again after {what} in a row" if self.trying is not None else ""

    def _close(self) -> None:
        if not self.is_open:
            self.cut_short()
            self.trying = None


class Silence:
    """Of a provider whose polls go without an answer. Polls cost nothing and are sent anyway, for every render that is
    out. Where they are answered throughout, they say nothing of submits."""

    __slots__ = ("last_us", "since_us")

    def __init__(self, at_us: int) -> None:
        self.since_us = self.last_us = at_us

    def still(self, at_us: int) -> Silence:
        """One more poll without an answer; long after the last one it is another silence."""
        if at_us - self.last_us >= LONGEST_REST_US:
            return Silence(at_us)
        self.last_us = at_us
        return self

    def lasts(self, now_us: int) -> bool:
        """Whether a submit would be in vain. A poll of long ago is no news, and one render may be silent for ever."""
        return now_us - self.last_us < SILENCE_US and now_us - self.since_us < LONGEST_SILENCE_US

    def is_news(self, at_us: int) -> bool:
        """Whether an answer, now, tells that the provider is back: polls that fail now and then are no silence."""
        return at_us - self.since_us >= SILENCE_US
