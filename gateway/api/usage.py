"""`GET /v1/usage`: what the caller's key has used, by day, model or backend, as JSON or CSV; and what its budgets hold.

Law: a key sees its own use and nothing else. Days are UTC; a job counts to the day on which it was made.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, UnsetType

from gateway import usage
from gateway.api import Rooms
from gateway.api.answers import Answer, encode
from gateway.api.auth import KeyRing
from gateway.api.openapi import Operation, Query
from gateway.api.problems import Problem
from gateway.keys import Need
from gateway.store.money import DAY_US, date_of, day_of, span_of
from gateway.store.spec import Key
from gateway.usage import MICROS, By, Figures, Line

_PARAMS = ("from", "to", "group_by", "format")


class BudgetView(msgspec.Struct, kw_only=True):
    """A budget of the key. What is reserved for jobs that have not ended counts as used."""

    limit_usd: float | None  # null: none
    used_usd: float
    left_usd: float | None
    resets_at: int  # unix seconds


class BudgetsView(msgspec.Struct, kw_only=True):
    day: BudgetView
    month: BudgetView


class LineView(msgspec.Struct, kw_only=True):
    """One group: of the first five, what it was grouped by."""

    day: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    backend: str | UnsetType = UNSET
    key: str | UnsetType = UNSET  # its id
    name: str | UnsetType = UNSET  # and its name
    jobs: int  # accepted
    completed: int
    failed: int  # ended without a clip: failed, cancelled, expired
    seconds: int  # of the completed clips
    cost_usd: float
    reserved_usd: float  # for what has not ended


class UsageView(msgspec.Struct, kw_only=True):
    object: str = "usage"
    from_: str = msgspec.field(name="from")  # both days are included
    to: str
    group_by: By
    data: list[LineView]
    total: Figures
    budgets: BudgetsView


_DATE = {"type": "string", "format": "date"}
OPERATIONS = (
    Operation(
        "get",
        "/v1/usage",
        "usage",
        "What this key has used; a CSV file with `format=csv`.",
        UsageView,
        query=(
            Query("from", _DATE, "The first day (UTC), included; thirty days before the last when it is left out."),
            Query("to", _DATE, "The last day (UTC), included; today when it is left out."),
            Query("group_by", {"type": "string", "enum": list(get_args(By)), "default": "day"}, "One record for each."),
            Query("format", {"type": "string", "enum": ["json", "csv"], "default": "json"}, "How it is answered."),
        ),
        fails=(403, 422),
        or_as="text/csv",
    ),
)


def routes(rooms: Rooms) -> list[HTTPRouteHandler]:
    ring = KeyRing(rooms.store.live, rooms.settings)

    @get("/v1/usage")
    async def read_usage(request: Request[Any, Any, Any]) -> Answer:
        key = ring.caller(request.scope, needs=Need.USAGE)
        asked = request.query_params
        if unknown := next((name for name in asked if name not in _PARAMS), None):
            message = f"There is no parameter {unknown[:40]!r}; there are {', '.join(_PARAMS)}."
            raise Problem(422, "unknown_parameter", message, param=unknown[:40])
        by: By = _one_of("group_by", asked.get("group_by", "day"), get_args(By))
        form = _one_of("format", asked.get("format", "json"), ("json", "csv"))
        now_us = rooms.now_us()
        try:
            first, last = usage.days(asked.get("from"), asked.get("to"), today=day_of(now_us))
        except usage.BadRange as error:
            raise Problem(422, "invalid_range", f"{error}.", param=error.param) from error
        rows = await rooms.store.ledger.used(key.id, first=first, last=last)
        found = usage.lines(rows, by, names={key.id: key.name})
        if form == "csv":
            name = f"usage-{date_of(first)}-{date_of(last)}-by-{by}.csv"
            headers = [
                (b"content-type", b"text/csv; charset=utf-8; header=present"),
                (b"content-disposition", f'attachment; filename="{name}"'.encode()),
            ]
            return Answer(usage.as_csv(found, by).encode(), headers=headers)
        view = UsageView(
            from_=date_of(first).isoformat(),
            to=date_of(last).isoformat(),
            group_by=by,
            data=[_shown(line, by) for line in found],
            total=usage.total(rows),
            budgets=await _budgets(rooms, key, now_us),
        )
        return Answer(encode(view))

    return [read_usage]


def _one_of(param: str, given: str, known: tuple[str, ...]) -> Any:
    if given not in known:
        message = f"{param} is one of {', '.join(known)}, not {given[:40]!r}."
        raise Problem(422, "invalid_parameter", message, param=param)
    return given


def _shown(line: Line, by: By) -> LineView:
    name = {by: line.name} | ({"name": line.label} if by == "key" else {})
    return msgspec.convert(name | msgspec.structs.asdict(line.figures), LineView)


async def _budgets(rooms: Rooms, key: Key, now_us: int) -> BudgetsView:
    spent = await rooms.store.ledger.spent_by(key.id, now_us=now_us)
    span = span_of(day_of(now_us))
    return BudgetsView(
        day=_budget(key.budget_day_usd_micros, spent.day_usd_micros, resets_day=span.day + 1),
        month=_budget(key.budget_month_usd_micros, spent.month_usd_micros, resets_day=span.month_to + 1),
    )


def _budget(limit: int | None, used: int, *, resets_day: int) -> BudgetView:
    return BudgetView(
        limit_usd=None if limit is None else limit / MICROS,
        used_usd=used / MICROS,
        left_usd=None if limit is None else max(limit - used, 0) / MICROS,
        resets_at=resets_day * DAY_US // MICROS,
    )
