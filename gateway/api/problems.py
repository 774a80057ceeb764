"""Errors, in OpenAI's envelope: `{"error": {"message", "type", "param", "code", …}}`, whoever raised them.

Law: no answer shows a traceback, a path or a vendor's raw words. What a client must not repeat says so: its SDK would
send a POST again after a 409 or a 5xx (`x-should-retry`), and a second POST is a second video.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from litestar import Request
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from gateway.api.answers import JSON, PROBLEM, Answer, Header, encode, header, request_id
from gateway.catalogue import Refusal
from gateway.store.spec import KeyReused, StoreUnavailable
from providers.spec import Frozen

log = structlog.get_logger(__name__)

_TYPES = {
    401: "authentication_error",
    402: "insufficient_funds",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_CODES = {400: "bad_request", 404: "route_not_found", 405: "method_not_allowed", 413: "body_too_large"}
_RETRYABLE = frozenset({408, 429, 502, 503, 504})
NO_RETRY: Header = (b"x-should-retry", b"false")  # in a problem's headers: not to be sent again at once, though it may
RETRY: Header = (b"x-should-retry", b"true")  # to be sent again as it is, though its status alone would not say so


class RefusedBackend(Frozen, omit_defaults=False):
    """One backend's no, as a caller sees it."""

    backend: str
    code: str
    param: str | None
    message: str
    nearest: str | None
    estimated_cost_usd: float | None


class Problem(Exception):
    """What went wrong with a request, ready to be answered.

    `code` is for programs and keeps its meaning for ever, `message` is for people, `param` names the field as it is
    called on the wire, `nearest` says what would have been taken.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        type: str | None = None,
        nearest: str | None = None,
        refusals: Iterable[Refusal] = (),
        headers: Iterable[Header] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.type = type or _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.nearest = nearest
        self.refusals = tuple(refusals)
        self.headers = tuple(headers)

    def answer(self, *, may_retry: bool, number: str | None = None) -> Answer:
        """The envelope. `may_retry` is false where the same request, sent again, could buy a second time."""
        number = number or request_id()
        retryable = may_retry and (self.status in _RETRYABLE or RETRY in self.headers) and NO_RETRY not in self.headers
        body: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            "request_id": number,
            "retryable": retryable,
        }
        if self.nearest:
            body["nearest"] = self.nearest
        if self.refusals:
            body["refusals"] = [_shown(refusal) for refusal in self.refusals]
        headers = [JSON, *self.headers]
        if not retryable and NO_RETRY not in self.headers:
            headers.append(NO_RETRY)
        return Answer(encode({"error": body}), status=self.status, headers=headers, number=number)


def not_found(what: str = "video") -> Problem:
    """The one answer for what does not exist, and for what belongs to somebody else."""
    return Problem(404, f"{what}_not_found", f"There is no such {what}.")


def unavailable() -> Problem:
    """The store cannot write: nothing new is taken, what is known can still be read."""
    message = "Nothing can be stored at the moment, so nothing was accepted. Try again shortly."
    return Problem(503, "store_unavailable", message, headers=[(b"retry-after", b"2")])


def _shown(refusal: Refusal) -> RefusedBackend:
    return RefusedBackend(
        backend=refusal.backend,
        code=refusal.code,
        param=refusal.param,
        message=refusal.message,
        nearest=refusal.nearest,
        estimated_cost_usd=refusal.quote.usd_micros / 1e6 if refusal.quote else None,
    )


# --- for the framework ------------------------------------------------------------------------------------------------


def _answer_problem(request: Request[Any, Any, Any], problem: Problem) -> Answer:
    request.scope[PROBLEM] = problem.code  # type: ignore[literal-required]
    buys = request.scope["method"] == "POST" and header(request.scope, b"idempotency-key") is None
    return problem.answer(may_retry=problem.status < 500 or not buys)


def _answer_http(request: Request[Any, Any, Any], error: HTTPException) -> Answer:
    """The router's own refusals: no such path, no such method, a malformed host."""
    status = error.status_code
    if status >= 500:
        return _answer_any(request, error)
    headers = [(name.lower().encode(), str(value).encode()) for name, value in (error.headers or {}).items()]
    method, path = request.scope["method"], request.scope["path"][:200]
    message = {
        404: f"There is nothing at {path}.",
        405: f"{path} does not take {method}; it takes {(error.headers or {}).get('allow', 'other methods')}.",
    }.get(status, str(error.detail))
    problem = Problem(status, _CODES.get(status, "bad_request"), message, headers=headers)
    return _answer_problem(request, problem)


def _answer_store(request: Request[Any, Any, Any], error: StoreUnavailable) -> Answer:
    log.error("store.unavailable", path=request.scope["path"][:200], said=str(error)[:200])
    return _answer_problem(request, unavailable())


def _answer_key_reused(request: Request[Any, Any, Any], _: KeyReused) -> Answer:
    message = "This Idempotency-Key was used for another request. Send a new key with a new request."
    return _answer_problem(request, Problem(422, "idempotency_key_reused", message, param="Idempotency-Key"))


def _answer_any(request: Request[Any, Any, Any], error: Exception) -> Answer:
    """A defect of ours. The caller gets its number, the log gets the rest."""
    number = request_id()
    log.error("request.failed", request=number, path=request.scope["path"][:200], exc_info=error)
    message = f"Something went wrong on our side. Tell the operator this number: {number}."
    problem = Problem(500, "internal_error", message)
    request.scope[PROBLEM] = problem.code  # type: ignore[literal-required]
    return problem.answer(may_retry=False, number=number)


HANDLERS: ExceptionHandlersMap = {
    Problem: _answer_problem,  # type: ignore[dict-item]
    HTTPException: _answer_http,  # type: ignore[dict-item]
    StoreUnavailable: _answer_store,  # type: ignore[dict-item]
    KeyReused: _answer_key_reused,  # type: ignore[dict-item]
    Exception: _answer_any,  # type: ignore[dict-item]
}


async def name_answer(response: Any) -> Any:
    """Give an answer that the framework made itself (OPTIONS) its `x-request-id`."""
    if not isinstance(response, Answer):
        response.headers.setdefault("x-request-id", request_id())
    return response
