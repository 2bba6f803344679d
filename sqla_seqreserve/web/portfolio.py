"""``portfolio_router``: the portal's bulk endpoint beside health and repair (extra ``[portal]``).

::

    sessions = async_sessionmaker(create_async_engine(url))
    register(sessions, reserve="always")

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    app.include_router(portfolio_router(session, authorise=signed_in, authorise_repair=admin))

POST ``/holding_activity_logs/bulk`` takes a JSON array of activities, each as
:func:`~sqla_seqreserve.portfolio.activities.save_activities` takes a row, and answers with the
saved ones in their order and with the result for the rates of return, unless
``?skip_irr_calculation=true``. All are saved, or none and every problem of every row is listed.
Registered, the session writes them in bulk.

A body beyond ``max_body_bytes``, or with more than ``max_rows`` activities, is refused with 413.
Reading and checking a body, and writing the answer, delay no other request; nor does saving if
``session`` gives a synchronous session. On an ``AsyncSession`` the flush and the rates run in the
event loop, so other requests wait for them: therefore the number of rows is limited.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from decimal import Decimal
from operator import attrgetter
from os import PathLike
from typing import Any, NamedTuple

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from ..errors import RowProblem
from ..portfolio._parents import Parents, read_parents
from ..portfolio.activities import ParsedActivity, refuse_problems, save_checked
from ..portfolio.activity_rows import ActivityRow, parse_activity
from ..portfolio.base import Base
from ..portfolio.models import HoldingActivityLog
from ..portfolio.recalculation import RecalculationReport
from ._bodies import refusals
from ._bulk import BulkLimits, rows_of
from ._refusals import SafeRoute, problems_response
from ._sessions import Dependency, committing, on
from .system import system_router

__all__ = ["portfolio_router"]


class ActivityBody(BaseModel):
    """A saved activity."""

    id: int
    product_id: int
    portfolio_fund_id: int
    activity_type: str
    activity_timestamp: dt.datetime
    amount: Decimal | None
    created_at: dt.datetime
    updated_at: dt.datetime


class RatesBody(BaseModel):
    """The result for the rates of return; the activities are saved in any case."""

    fund_irrs: int
    portfolio_irrs: int
    stored: int
    deleted: int
    failures: list[str]
    error: str | None


class SavedBody(BaseModel):
    """The saved activities in the order of the request, and the rates unless skipped."""

    activities: list[ActivityBody]
    irr: RatesBody | None


_REQUEST_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "array",
                "items": {
                    "type": "object",
                    "description": "One activity, on a date, at a moment, or in a month.",
                    "properties": {
                        "product_id": {"type": "integer", "minimum": 1},
                        "portfolio_fund_id": {"type": "integer", "minimum": 1},
                        "activity_type": {"type": "string", "minLength": 1},
                        "activity_timestamp": {
                            "type": "string",
                            "description": "A date, or a moment with its time zone, in ISO 8601.",
                        },
                        "month": {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"},
                        "amount": {"type": ["number", "string", "null"], "minimum": 0},
                    },
                    "required": ["product_id", "portfolio_fund_id", "activity_type"],
                    "additionalProperties": False,
                },
            }
        }
    },
}


def portfolio_router(
    session: Dependency,
    *,
    authorise: Dependency,
    authorise_repair: Dependency | None = None,
    trusted_origins: Collection[str] = (),
    history: str | PathLike[str] | None = None,
    max_body_bytes: int = 16 * 2**20,
    max_rows: int = 20_000,
) -> APIRouter:
    """Return the portal's router; the first arguments are those of :func:`.system_router`.

    :param max_body_bytes: the longest body of a bulk request
    :param max_rows: the most activities of a bulk request
    """
    limits = BulkLimits(body_bytes=max_body_bytes, rows=max_rows)
    router = APIRouter(route_class=SafeRoute)
    router.include_router(
        system_router(
            session,
            Base,
            authorise=authorise,
            authorise_repair=authorise_repair,
            trusted_origins=trusted_origins,
            history=history,
        )
    )
    request_session = Depends(session)

    @router.post(
        "/holding_activity_logs/bulk",
        tags=["activities"],
        response_model=SavedBody,
        responses=refusals(409, 413, 500, 503),
        dependencies=[Depends(authorise)],
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def save_activities_in_bulk(
        request: Request,
        session: Any = request_session,
        skip_irr_calculation: bool = Query(
            default=False, description="Leave the rates of return as they are."
        ),
    ) -> Any:
        """Save many activities, all or none."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # A form of another site cannot send this content type, so it cannot misuse our cookie.
            raise HTTPException(415, "Send the activities as application/json.")
        body = await limits.body(request)
        try:
            parsed = await limits.aside(_parsed, body, limits.rows)
        except ValueError as error:
            return problems_response([(("body",), str(error), "json_invalid")])
        saved = _Saved([], None)
        if parsed:
            async with committing(session):
                parents = await on(session, read_parents, [activity for activity, _ in parsed])
                await limits.aside(refuse_problems, parsed, parents)
                saved = await on(session, _save, parsed, parents, skip_irr_calculation)
        return Response(await limits.aside(_answer, saved), media_type="application/json")

    return router


class _Saved(NamedTuple):
    """The content of the answer, read while the session is open."""

    activities: list[tuple[Any, ...]]
    irr: RecalculationReport | None


_COLUMNS = tuple(ActivityBody.model_fields)


def _parsed(body: bytes, most: int) -> list[ParsedActivity]:
    # An item that is no object gets no values, so that problems of all items are found together.
    nothing = ActivityRow(*[None] * len(ActivityRow._fields))
    return [
        parse_activity(index, row)
        if isinstance(row, dict)
        else (nothing, [RowProblem(index, "", "expected an object")])
        for index, row in enumerate(rows_of(body, most))
    ]


def _save(
    session: Session, parsed: list[ParsedActivity], parents: Parents, skip_irr_calculation: bool
) -> _Saved:
    saved = save_checked(
        session,
        [HoldingActivityLog(**activity._asdict()) for activity, _ in parsed],
        [activity for activity, _ in parsed],
        parents,
        skip_irr_calculation=skip_irr_calculation,
    )
    read = attrgetter(*_COLUMNS)
    return _Saved([read(activity) for activity in saved], saved.irr)


def _answer(saved: _Saved) -> str:
    body = SavedBody(
        activities=[
            ActivityBody.model_construct(**dict(zip(_COLUMNS, values, strict=True)))
            for values in saved.activities
        ],
        irr=None if saved.irr is None else _rates(saved.irr),
    )
    return body.model_dump_json()


def _rates(report: RecalculationReport) -> RatesBody:
    return RatesBody(
        fund_irrs=report.fund_irrs,
        portfolio_irrs=report.portfolio_irrs,
        stored=report.stored,
        deleted=report.deleted,
        failures=[str(failure) for failure in report.failures],
        # Its text may be a statement.
        error=None if report.error is None else "Not recalculated; the server's log says why.",
    )
