"""What a list is asked for: where its page begins, how long it is, in which order.

Law: a word that is not understood is refused, never passed over: a filter that is misspelt would show what it was to
leave out.
"""

from __future__ import annotations

import difflib
from typing import Any

from litestar import Request

from gateway import ids
from gateway.api.problems import Problem

NAMES = ("after", "limit", "order")


def page_of(request: Request[Any, Any, Any], prefix: str, *, default: int, most: int) -> tuple[str | None, int, bool]:
    """`after` (an id of this prefix), `limit`, and whether `order` is descending. Raises Problem 422."""
    query = request.query_params
    after = query.get("after")
    if after is not None and not ids.is_id(after, prefix):
        message = f"'after' is the id of a {prefix}, the last of the page before."
        raise Problem(422, "invalid_cursor", message, param="after")
    text = query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most):
        raise Problem(422, "out_of_range", f"'limit' is a number from 1 to {most}.", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise Problem(422, "invalid_value", "'order' is asc or desc.", param="order")
    return after, int(text), order == "desc"


def must_be_known(request: Request[Any, Any, Any], known: tuple[str, ...], *, free: str = "") -> None:
    """Raises Problem 422 for a query parameter that is none of these, nor one of `free[…]`."""
    for name in request.query_params:
        if name in known or (free and name.startswith(f"{free}[") and name.endswith("]")):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."
        message = (
            f"There is no parameter {name[:80]!r}; {hint}" if near else f"There is no parameter {name[:80]!r}. {hint}"
        )
        raise Problem(422, "unknown_parameter", message, param=name[:80], nearest=near[0] if near else None)
