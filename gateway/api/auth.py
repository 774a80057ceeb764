"""Who is calling: an API key by `Authorization: Bearer …` (OpenAI's clients) or `Authorization: Key …` (queue clients).

Law: a key's text is judged by its shape and checksum before anything is looked up, is compared as a hash in constant
time, and is written nowhere. Keys live in memory: a revocation holds from the next request on.
"""

from __future__ import annotations

import hmac

from litestar.types import Scope

from gateway import keys
from gateway.api.answers import header
from gateway.api.problems import Problem
from gateway.settings import Settings
from gateway.store.live import LiveView
from gateway.store.spec import Key

# whose jobs those of a process's own key are
_LOCAL_KEY = Key(id="local", name="local", hash="", hint="", created_us=0)
_SCHEMES = ("bearer", "key")


class KeyRing:
    """Every key that is accepted: the store's, and the one that this process alone knows (`--dev`)."""

    def __init__(self, live: LiveView, settings: Settings) -> None:
        self._live = live
        self._local = settings.local_key.reveal().encode() if settings.local_key else b""

    def caller(self, scope: Scope) -> Key:
        """The key of this request. Raises Problem 401."""
        given = header(scope, b"authorization")
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
        if known is None or not keys.opens(text, known):
            raise _refused("invalid_api_key", "The API key is not known here, or it was revoked.")
        return known


def _refused(code: str, message: str) -> Problem:
    return Problem(401, code, message, headers=[(b"www-authenticate", b'Bearer realm="filmgate"')])
