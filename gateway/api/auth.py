"""Who is calling: an API key by `Authorization: Bearer …` (OpenAI's clients) or `Authorization: Key …` (queue clients).

Law: a key's text is judged by its shape and checksum before anything is looked up, is compared as a hash in constant
time, and is written nowhere. Keys live in memory: a revocation holds from the next request on. Nothing is done for a
key that has expired, lacks the scope, or has made too many requests in this minute.
"""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable

from litestar.types import Scope

from gateway import keys
from gateway.allowances import Allowance
from gateway.api.answers import MORE_HEADERS, Header, header
from gateway.api.problems import Problem
from gateway.keys import Need, Opens
from gateway.settings import Settings
from gateway.store.live import LiveView
from gateway.store.spec import Key

# whose jobs those of a process's own key are
_LOCAL_KEY = Key(id="local", name="local", hash="", hint="", created_us=0)
_SCHEMES = ("bearer", "key")
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class KeyRing:
    """Every key that is accepted: the store's, and the one that this process alone knows (`--dev`)."""

    def __init__(self, live: LiveView, settings: Settings, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._live = live
        self._local = settings.local_key.reveal().encode() if settings.local_key else b""
        self._clock = clock

    def caller(self, scope: Scope, needs: str | None = None) -> Key:
        """The key of this request, which may do what it `needs`: by its method, `videos:read` or `videos:write`, when
        nothing is said; any key will do for "". Raises Problem 401, 403 or 429."""
        key = self._known(header(scope, b"authorization"))
        if key.requests_per_minute is not None:
            self._count(scope, key, key.requests_per_minute)
        if needs is None:
            needs = Need.READ if scope["method"] in _READS else Need.WRITE  # type: ignore[typeddict-item]
        if needs and not keys.may(key, needs):
            has = f"it has {', '.join(key.scopes)}" if key.scopes else "it has to be given by name"
            message = f"This API key lacks the scope {needs}, which this request needs; {has}."
            raise Problem(403, "missing_scope", message, nearest=f"a key with the scope {needs}")
        return key

    def _known(self, given: str | None) -> Key:
        if not given:
            raise _refused("missing_api_key", "No API key was given. Send it as: Authorization: Bearer <key>")
        scheme, _, text = given.partition(" ")
        text = text.strip()
        if scheme.lower() not in _SCHEMES or not text:
            raise _refused("invalid_api_key", "Send the API key as: Authorization: Bearer <key>")
        if self._local and hmac.compare_digest(text.encode(), self._local):
            return _LOCAL_KEY
        key_id = keys.parse(text)
        known = self._live.key(key_id) if key_id is not None else None
        judged = Opens.NO if known is None else keys.opens(text, known, now_us=self._clock() // 1000)
        if known is None or judged is Opens.NO:
            raise _refused("invalid_api_key", "The API key is not known here, or it was revoked.")
        if judged is Opens.EXPIRED:
            raise _refused("expired_api_key", "The API key has expired. Its operator can give it more time.")
        return known

    def _count(self, scope: Scope, key: Key, per_minute: int) -> None:
        """Count the request against its key's minute. Raises Problem 429."""
        allowance = self._live.allowances.take(key.id, per_minute, now=self._clock() / 1e9)
        scope[MORE_HEADERS] = _told(allowance)  # type: ignore[literal-required]
        if not allowance.is_granted:
            wait = allowance.wait_seconds
            message = f"This API key may make {per_minute} requests a minute. The next one is taken in {wait:.1f} s."
            headers = [(b"retry-after", b"%d" % math.ceil(wait)), (b"retry-after-ms", b"%d" % math.ceil(wait * 1000))]
            raise Problem(429, "rate_limit_exceeded", message, headers=headers)


def _told(allowance: Allowance) -> list[Header]:
    """In OpenAI's names."""
    return [
        (b"x-ratelimit-limit-requests", b"%d" % allowance.per_minute),
        (b"x-ratelimit-remaining-requests", b"%d" % allowance.left),
        (b"x-ratelimit-reset-requests", b"%.3fs" % allowance.full_in_seconds),
    ]


def _refused(code: str, message: str) -> Problem:
    return Problem(401, code, message, headers=[(b"www-authenticate", b'Bearer realm="filmgate"')])
