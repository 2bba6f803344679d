"""``portfolio_router``: the portal's bulk endpoint beside health and repair (extras ``[web]`` and
``[portfolio]``).

::

    sessions = async_sessionmaker(create_async_engine(url))
    register(sessions, reserve="always")

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    app.include_router(portfolio_router(session, authorise=signed_in, authorise_repair=admin))

POST ``/holding_activity_logs/bulk`` takes a JSON array of activities, each as
:func:`~sqla_seqreserve.portfolio.activities.save_activities` takes a row, and answers with the
saved ones in their order and with what became of the rates of return, unless
``?skip_irr_calculation=true``. All are saved, or none and every problem of every row is listed.
Registered, the session writes them in bulk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from datetime import datetime
from decimal import Decimal
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from ..errors import InvalidRowsError, RowProblem
from ..portfolio.activities import save_activities
from ..portfolio.base import Base
from ..portfolio.recalculation import RecalculationReport
from ._bodies import refusals
from ._refusals import SafeRoute, problems_response
from ._transaction import committing
from .system import system_router

__all__ = ["portfolio_router"]

Dependency = Callable[..., Any]


class ActivityBody(BaseModel):
    """A saved activity."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    product_id: int
    portfolio_fund_id: int
    activity_type: str
    activity_timestamp: datetime
    amount: Decimal | None
    created_at: datetime
    updated_at: datetime


class RatesBody(BaseModel):
    """What became of the rates of return; the activities are saved in any case."""

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
) -> APIRouter:
    """Return the portal's router; the arguments are those of :func:`.system_router`."""
    router = APIRouter(route_class=SafeRoute)
    router.include_router(
        system_router(
            session,
            Base,
            authorise=authorise,
            authorise_repair=authorise_repair,
            trusted_origins=trusted_origins,
        )
    )
    request_session = Depends(session)

    @router.post(
        "/holding_activity_logs/bulk",
        tags=["activities"],
        response_model=SavedBody,
        responses=refusals(409, 500, 503),
        dependencies=[Depends(authorise)],
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def save_activities_in_bulk(
        request: Request,
        session: AsyncSession = request_session,
        skip_irr_calculation: bool = Query(
            default=False, description="Leave the rates of return as they are."
        ),
    ) -> Any:
        """Save many activities, all or none."""
        try:
            rows = await _rows(request)
        except ValueError as error:
            return problems_response([(("body",), str(error), "json_invalid")])
        async with committing(session):
            return await session.run_sync(_save, rows, skip_irr_calculation)

    return router


async def _rows(request: Request) -> list[Any]:
    """Read the body ourselves: after the authorisation, and refused with one status for all."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Another site's form cannot send this type, so no cookie of ours comes with its request.
        raise HTTPException(415, "Send the activities as application/json.")
    try:
        rows = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON that can be read") from error
    if not isinstance(rows, list):
        raise ValueError("expected an array of activities")
    return rows


def _save(session: Session, rows: list[Any], skip_irr_calculation: bool) -> SavedBody:
    # What is no object counts as an empty one, so that the others' problems are found with it.
    strange = {index for index, row in enumerate(rows) if not isinstance(row, dict)}
    try:
        saved = save_activities(
            session,
            [{} if index in strange else row for index, row in enumerate(rows)],
            skip_irr_calculation=skip_irr_calculation,
        )
    except InvalidRowsError as error:
        if not strange:
            raise
        problems = [problem for problem in error.problems if problem.index not in strange]
        problems += [RowProblem(index, "", "expected an object") for index in strange]
        raise InvalidRowsError(
            "No activity was saved", sorted(problems, key=lambda problem: problem.index)
        ) from error
    return SavedBody(
        activities=[ActivityBody.model_validate(activity) for activity in saved],
        irr=None if saved.irr is None else _rates(saved.irr),
    )


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
