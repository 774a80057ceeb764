"""What an address of fal's queue means here, and which of our models an endpoint of fal's names.

Law: pure. An endpoint's depth varies, so a path is read from its right end; a request is known by its id alone, whether
the client kept the whole endpoint in the path or only owner and app, as fal's own clients do. An endpoint names a
model, never a seller: whoever sells that model may make the clip.

Sources, read 2026-11-23: fal.ai/docs inference-api/queue; fal-client 1.0.3 (`AppId`, `RUN_URL_FORMAT`,
`QUEUE_URL_FORMAT`) and @fal-ai/client 1.10.1 (`buildUrl`, `parseEndpointId`, `withProxy`).
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from gateway.api.problems import Problem
from gateway.catalogue import Alias, Catalogue, UnknownModel
from gateway.catalogue.rows import Backend
from providers.spec import Frozen, Mode

ROOT = "/fal"
VENDOR = "fal"
OWN_OWNER = "filmgate"
MAX_PATH_CHARS = 400

# fal's hosts, and where under ROOT their paths are
_DOORS = {"queue.fal.run": "", "fal.run": "/run", "rest.fal.ai": "", "rest.alpha.fal.ai": ""}
_REST = ("storage", "files", ".well-known", "tokens")  # the first word of a path that is no endpoint's
_OWNERS = ("fal-ai", OWN_OWNER)
_MODES = {"text-to-video": Mode.TEXT, "image-to-video": Mode.FIRST_FRAME, "reference-to-video": Mode.REFERENCES}


class Act(enum.StrEnum):
    """What a call asks for."""

    SUBMIT = "submit"
    RUN = "run"  # submit, and wait for the result
    STATUS = "status"
    STREAM = "stream"  # every status, until the end
    RESULT = "result"
    CANCEL = "cancel"
    KEYS = "keys"  # our public keys, for whoever checks a webhook
    TOKEN = "token"  # noqa: S105 (leave to upload)
    INITIATE = "initiate"
    PUT = "put"
    UPLOAD = "upload"
    FILE = "file"
    LIVE = "live"  # a socket, or a model's own stream: not offered


class Call(Frozen):
    """One call, understood: `name` is an endpoint, a request's id or a token, as `act` has it."""

    act: Act
    name: str = ""
    query: str = ""


_OF_REQUEST: dict[tuple[str, ...], tuple[str, Act]] = {
    (): ("GET", Act.RESULT),
    ("response",): ("GET", Act.RESULT),
    ("status",): ("GET", Act.STATUS),
    ("status", "stream"): ("GET", Act.STREAM),
    ("cancel",): ("PUT", Act.CANCEL),
}
_OF_REST: dict[tuple[str, ...], tuple[str, Act]] = {
    (".well-known", "jwks.json"): ("GET", Act.KEYS),
    ("storage", "auth", "token"): ("POST", Act.TOKEN),
    ("storage", "upload", "initiate"): ("POST", Act.INITIATE),
    ("files", "upload"): ("POST", Act.UPLOAD),
}


def call_of(method: str, path: str, query: str = "") -> Call:
    """What `method path` asks for, `path` being what follows ROOT. Raises Problem 404 or 405."""
    words = [word for word in path.split("/") if word]
    if len(path) > MAX_PATH_CHARS or not words:
        raise _nothing_at(path)
    if words[0] == "run":
        return _started(method, words[1:], query, act=Act.RUN)
    if words[0] in _REST:
        return _rest(method, words, query)
    for length, (*tail,) in ((len(known), known) for known in _OF_REQUEST):
        if len(words) >= length + 3 and words[len(words) - length :] == tail and words[-length - 2] == "requests":
            wanted, act = _OF_REQUEST[tuple(tail)]
            return Call(act=_allowed(method, wanted, act), name=words[-length - 1], query=query)
    return _started(method, words, query, act=Act.SUBMIT)


def call_through_proxy(method: str, target: str) -> Call:
    """What a JavaScript client asks of us in place of the address `target` of fal's. Nothing is ever sent there: its
    host says which of fal's doors is meant, and its path is a path of ours. Raises Problem."""
    try:
        address = urlsplit(target)
        door = _DOORS.get(address.hostname or "") if address.scheme == "https" else None
    except ValueError:  # a bracket that is not closed, for one
        door = None
    if door is None:
        message = f"x-fal-target-url must be an address of {', '.join(_DOORS)}; it is {target[:120]!r}."
        raise Problem(400, "bad_request", message, param="x-fal-target-url")
    return call_of(method, door + unquote(address.path), address.query)


def _started(method: str, words: list[str], query: str, *, act: Act) -> Call:
    if not words:
        raise _nothing_at("/run")
    if words[-1] in ("realtime", "ws", "stream") and words[-2:-1] != ["status"]:
        return Call(act=Act.LIVE, name="/".join(words))
    return Call(act=_allowed(method, "POST", act), name="/".join(words), query=query)


def _rest(method: str, words: list[str], query: str) -> Call:
    known = _OF_REST.get(tuple(words))
    if known is not None:
        return Call(act=_allowed(method, *known), query=query)
    if words == ["tokens"]:  # what a client asks for before it opens a socket
        return Call(act=Act.LIVE)
    if words[:2] == ["storage", "upload"] and len(words) == 3 and words[2] != "initiate-multipart":
        return Call(act=_allowed(method, "PUT", Act.PUT), name=words[2])
    if words[0] == "files" and len(words) in (2, 3):
        return Call(act=_allowed(method, "GET", Act.FILE), name=words[1])
    if words[-1] in ("initiate-multipart", "multipart"):
        raise Problem(413, "file_too_large", "Files in several parts are not taken: a picture is 20 MB at most.")
    raise _nothing_at("/".join(words))


def _allowed(method: str, wanted: str, act: Act) -> Act:
    if method != wanted:
        headers = [(b"allow", wanted.encode())]
        raise Problem(405, "method_not_allowed", f"This address takes {wanted}, not {method}.", headers=headers)
    return act


def _nothing_at(path: str) -> Problem:
    return Problem(404, "not_found", f"There is nothing at {ROOT}/{path.strip('/')[:200]}.")


# --- endpoints --------------------------------------------------------------------------------------------------------


class Endpoint(Frozen):
    """An endpoint as a client named it, and what it stands for."""

    path: str  # as it stands in addresses: owner/app and what follows
    model: str  # for the catalogue
    mode: Mode | None = None  # how its clips begin; None: as the pictures say
    rows: tuple[Backend, ...] = ()  # whose grants tell which fields a client may count on

    def grants(self, field: str) -> bool:
        """Whether a client may count on `seed`, `negative_prompt` or `cfg_scale` here."""
        return any(getattr(row, field) for row in self.rows)


def app_of(endpoint: str) -> str:
    """Owner and app: what the clients keep of an endpoint in the addresses of its requests."""
    return "/".join(endpoint.split("/")[:2])


class Endpoints:
    """Every endpoint that means something: fal's own, for the models that fal sells, and `filmgate/<model>` (with or
    without `/text-to-video` and its like after it) for any model, alias or `provider/model` of the catalogue."""

    def __init__(self, catalogue: Catalogue, aliases: Mapping[str, Alias]) -> None:
        self._catalogue = catalogue
        self._aliases = aliases
        self._known: dict[str, Endpoint] = {}
        rows = [row for row in catalogue.backends if row.provider == VENDOR]
        for row in sorted(rows, key=lambda row: row.id != f"{VENDOR}/{row.model}"):  # a model's plain row comes first
            for mode, path in row.model_id.items():
                self._known.setdefault(path, Endpoint(path=path, model=row.model, mode=mode, rows=(row,)))

    def find(self, path: str) -> Endpoint:
        """Raises Problem 404, with the nearest endpoint there is."""
        known = self._known.get(path)
        if known is not None:
            return known
        words = path.split("/")
        mode = _MODES.get(words[-1])
        inner = words[:-1] if mode is not None else words
        if len(inner) > 1 and inner[0] in _OWNERS:
            inner = inner[1:]
        name = "/".join(inner)
        try:
            target = self._catalogue.resolve(name, self._aliases)
        except UnknownModel as error:
            raise self._unknown(path) from error
        rows = tuple(self._catalogue.rows[id][0] for id in target.backends)
        path = path if len(words) > 1 else f"{OWN_OWNER}/{path}"
        return Endpoint(path=path, model=name, mode=mode, rows=rows)

    def _unknown(self, path: str) -> Problem:
        ours = [f"{OWN_OWNER}/{model}" for model in self._catalogue.model_names()]
        near = difflib.get_close_matches(path, [*self._known, *ours], n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else f". Each of GET /v1/models is {OWN_OWNER}/<model> here."
        message = f"There is no endpoint {path[:120]!r}{hint}"
        return Problem(404, "not_found", message, nearest=near[0] if near else None)
