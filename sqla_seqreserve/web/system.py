"""``system_router``: health and repair of the sequences of any models, and the page that shows
both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from os import PathLike
from typing import Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, PlainTextResponse
from sqlalchemy.orm import Session

from ..health import HealthReport, check_sequences, repair_sequences
from ..health._history import HealthHistory, Point, SequenceKey, key_of
from ..health._outlook import with_outlook
from ..health._place import Place, places_of
from ._bodies import HealthBody, PageBody, RepairBody, refusals
from ._origin import checked_origins, same_origin
from ._page import page_response
from ._refusals import SafeRoute
from ._sessions import Dependency, checked_dependency, checked_source, committing, on

__all__ = ["system_router"]

# The extra [metrics].
_HAS_METRICS = find_spec("prometheus_client") is not None


def system_router(
    session: Dependency,
    source: Any,
    *,
    authorise: Dependency,
    authorise_repair: Dependency | None = None,
    trusted_origins: Collection[str] = (),
    schemas: Sequence[str] | None = None,
    history: str | PathLike[str] | None = None,
) -> APIRouter:
    """Return the router; see :mod:`sqla_seqreserve.web` for its paths.

    :param session: a dependency that gives an ``AsyncSession`` or a ``Session`` for the request.
    :param source: as for :func:`~sqla_seqreserve.check_sequences`; None: the whole database.
    :param authorise: a dependency that raises for users without access.
    :param authorise_repair: a further dependency that raises for users who may only look;
        None: every user with access may repair.
    :param trusted_origins: other origins, such as ``https://portal.example``, whose pages may
        request a repair; without a path.
    :param schemas: with ``source=None``, the schemas to look into; None: all but the system's.
    :param history: a file that keeps the page's history over restarts, made if it is not there;
        None: the history begins with the process.
    :raises ConfigurationError: an argument that cannot be used, and what to give instead
    """
    session = checked_dependency("session", session)
    authorise = checked_dependency("authorise", authorise)
    may_repair = []
    if authorise_repair is not None:
        may_repair.append(Depends(checked_dependency("authorise_repair", authorise_repair)))
    source = checked_source(source, schemas)
    router = APIRouter(
        prefix="/system", tags=["system"], route_class=SafeRoute, dependencies=[Depends(authorise)]
    )
    request_session = Depends(session)
    past = HealthHistory(history)

    def look(session: Session) -> tuple[HealthReport, list[Place]]:
        return check_sequences(session, source, schemas=schemas), places_of(session, source)

    @router.get("/sequence-health", response_model=HealthBody, responses=refusals(500, 503))
    async def sequence_health(session: Any = request_session) -> dict[str, Any]:
        """Check whether every sequence is ahead of its table."""
        report, places = await on(session, look)
        report = await run_in_threadpool(_remembered, past, report, places)
        return _body(report, places)

    @router.post(
        "/repair-sequences",
        response_model=RepairBody,
        responses=refusals(409, 500, 503),
        dependencies=[*may_repair, Depends(same_origin(checked_origins(trusted_origins)))],
    )
    async def repair(
        session: Any = request_session,
        dry_run: bool = Query(default=False, description="Only say what would be done."),
        allow_exhaustion: bool = Query(
            default=False,
            description="Move a sequence beyond a few ids far ahead of all others, too.",
        ),
    ) -> dict[str, Any]:
        """Move every sequence that is behind its table beyond it, and none back."""
        async with committing(session):
            report = await on(
                session,
                repair_sequences,
                source,
                dry_run=dry_run,
                schemas=schemas,
                allow_exhaustion=allow_exhaustion,
            )
        return report.to_dict()

    @router.get("/sequences", response_class=HTMLResponse)
    async def page() -> Response:
        """Show the page."""
        return page_response()

    if _HAS_METRICS:

        @router.get("/metrics", response_class=PlainTextResponse, responses=refusals(500, 503))
        async def metrics(session: Any = request_session) -> Response:
            """Check, and return the sequences' state as Prometheus metrics."""
            from ..metrics import health_text

            report, places = await on(session, look)
            report = await run_in_threadpool(_remembered, past, report, places)
            return PlainTextResponse(health_text(report))

    @router.get("/sequences/state", response_model=PageBody, responses=refusals(500, 503))
    async def page_state(session: Any = request_session) -> Response:
        """Check, and return all that the page shows."""
        report, places = await on(session, look)
        content = await run_in_threadpool(_state, past, report, places)
        return Response(content, media_type="application/json")

    @router.get("/sequences/may-repair", status_code=204, dependencies=may_repair)
    async def page_may_repair() -> None:
        """Tell the page whether to offer the repair."""

    return router


def _name(places: list[Place]) -> str:
    return "; ".join(map(str, places))


def _body(report: HealthReport, places: list[Place]) -> dict[str, Any]:
    return report.to_dict() | {"databases": [asdict(place) for place in places]}


def _remembered(past: HealthHistory, report: HealthReport, places: list[Place]) -> HealthReport:
    """Return the report with its forecasts, and keep its values for later forecasts."""
    past.add(_name(places), report)
    return with_outlook(report, past.seen(_name(places)))


def _state(past: HealthHistory, report: HealthReport, places: list[Place]) -> str:
    report = _remembered(past, report, places)
    points: dict[SequenceKey, list[Point]] = past.points(_name(places))
    body = _body(report, places) | {"metrics": _HAS_METRICS}
    for entry, values in zip(report.sequences, body["sequences"], strict=True):
        values["history"] = points.get(key_of(entry), [])
    return PageBody.model_validate(body).model_dump_json(by_alias=True)
