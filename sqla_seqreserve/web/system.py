"""``system_router``: health and repair of the sequences of any models, and the page that shows
both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncSession

from ..errors import ConfigurationError
from ..health import HealthReport, check_sequences, repair_sequences
from ._bodies import HealthBody, PageBody, RepairBody, refusals
from ._history import HealthHistory, key_of
from ._origin import same_origin
from ._page import page_response
from ._refusals import SafeRoute
from ._transaction import committing

__all__ = ["system_router"]

Dependency = Callable[..., Any]


def system_router(
    session: Dependency,
    source: Any,
    *,
    authorise: Dependency,
    authorise_repair: Dependency | None = None,
    trusted_origins: Collection[str] = (),
) -> APIRouter:
    """Return the router; see :mod:`sqla_seqreserve.web` for its paths.

    :param session: a dependency that gives an ``AsyncSession`` for the request.
    :param source: as for :func:`~sqla_seqreserve.check_sequences`.
    :param authorise: a dependency that raises for those who may not come in.
    :param authorise_repair: a dependency, asked too, that raises for those who may look only;
        None: whoever comes in may repair.
    :param trusted_origins: other origins, such as ``https://portal.example``, whose pages may ask
        for a repair.
    """
    for name, dependency in (("session", session), ("authorise", authorise)):
        if not callable(dependency):
            raise ConfigurationError(f"{name}: expected a dependency, got {dependency!r}")
    router = APIRouter(
        prefix="/system", tags=["system"], route_class=SafeRoute, dependencies=[Depends(authorise)]
    )
    may_repair = [] if authorise_repair is None else [Depends(authorise_repair)]
    request_session = Depends(session)
    history = HealthHistory()

    async def check(session: AsyncSession) -> HealthReport:
        report = await session.run_sync(check_sequences, source)
        history.add(report)
        return report

    @router.get("/sequence-health", response_model=HealthBody, responses=refusals(500, 503))
    async def sequence_health(session: AsyncSession = request_session) -> dict[str, Any]:
        """Check whether every sequence is ahead of its table."""
        return (await check(session)).to_dict()

    @router.post(
        "/repair-sequences",
        response_model=RepairBody,
        responses=refusals(409, 500, 503),
        dependencies=[*may_repair, Depends(same_origin(frozenset(trusted_origins)))],
    )
    async def repair(
        session: AsyncSession = request_session,
        dry_run: bool = Query(default=False, description="Only say what would be done."),
    ) -> dict[str, Any]:
        """Move every sequence that is behind its table beyond it, and none back."""
        async with committing(session):
            report = await session.run_sync(repair_sequences, source, dry_run=dry_run)
        return report.to_dict()

    @router.get("/sequences", response_class=HTMLResponse)
    async def page() -> Response:
        """Show the page."""
        return page_response()

    @router.get("/sequences/state", response_model=PageBody, responses=refusals(500, 503))
    async def page_state(session: AsyncSession = request_session) -> dict[str, Any]:
        """Check, and return all that the page shows."""
        report = await check(session)
        body = report.to_dict()
        points = history.points()
        for entry, values in zip(report.sequences, body["sequences"], strict=True):
            values["history"] = points[key_of(entry)]
        return body

    @router.get("/sequences/may-repair", status_code=204, dependencies=may_repair)
    async def page_may_repair() -> None:
        """Tell the page whether to offer the repair."""

    return router
