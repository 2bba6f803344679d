"""Saving holding activities, many at once.

::

    saved = save_activities(session, [
        {"product_id": 3, "portfolio_fund_id": 7, "activity_type": "Investment",
         "activity_timestamp": date(2024, 5, 17), "amount": 2500},
        {"product_id": 3, "portfolio_fund_id": 8, "activity_type": "Withdrawal",
         "month": "2024-05", "amount": "99.95"},
    ])
    saved[0].id          # a list of the objects, in the order of the rows
    saved.irr.failures   # and what became of the rates of return
    session.commit()

All rows are checked before anything is reserved or written, and every bad one is named. Then the
objects go through ``session.add_all()`` and a flush; a registered session writes them in bulk.
The rates of return of each portfolio touched are recalculated from its earliest activity on, in a
savepoint: if this fails, the error is logged and reported, and the activities stay.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

from sqlalchemy.orm import Session

from sqla_seqreserve.errors import InvalidRowsError, RowProblem

from ._parents import Parents, read_parents
from .activity_rows import ActivityRow, parse_activity
from .models import HoldingActivityLog
from .recalculation import RecalculationReport, recalculate

__all__ = [
    "ParsedActivity",
    "SavedActivities",
    "note_change",
    "recalculate_safely",
    "refuse_problems",
    "save_activities",
    "save_checked",
]

log = logging.getLogger("sqla_seqreserve.portfolio")

ParsedActivity: TypeAlias = tuple[ActivityRow, list[RowProblem]]
"""A row of input as :func:`~.activity_rows.parse_activity` reads it, and what is wrong with it."""


class SavedActivities(list[HoldingActivityLog]):
    """The saved objects, in the order of the rows.

    :ivar irr: the result for the rates of return; None if their recalculation was skipped
    """

    irr: RecalculationReport | None = None


def save_activities(
    session: Session,
    activities: Iterable[Mapping[str, Any] | HoldingActivityLog],
    *,
    skip_irr_calculation: bool = False,
) -> SavedActivities:
    """Save activities, flush, and recalculate the rates of return that they touch.

    A row holds ``product_id``, ``portfolio_fund_id``, ``activity_type``, ``amount``, which may be
    None, and ``activity_timestamp``: a datetime with its time zone, a date, or text of either. Or,
    in place of the last, ``month`` as ``YYYY-MM``; if both are given, they must agree. New objects
    of the model are rows too. The caller commits.

    :raises InvalidRowsError: naming every bad row; nothing was reserved or written
    """
    rows = list(activities)
    parsed = [parse_activity(index, _mapping(row)) for index, row in enumerate(rows)]
    if not rows:
        return SavedActivities()
    # New objects are not to be flushed, along with their parents, before they are checked.
    objects = any(isinstance(row, HoldingActivityLog) for row in rows)
    with session.no_autoflush if objects else nullcontext():
        parents = read_parents(session, (activity for activity, _ in parsed))
    refuse_problems(parsed, parents)
    checked = [activity for activity, _ in parsed]
    return save_checked(
        session,
        map(_object, rows, checked),
        checked,
        parents,
        skip_irr_calculation=skip_irr_calculation,
    )


def refuse_problems(parsed: Sequence[ParsedActivity], parents: Parents) -> None:
    """Refuse all rows if one of them is wrong, or refers to a row that does not exist.

    :raises InvalidRowsError: naming every bad row
    """
    problems: list[RowProblem] = []
    for index, (activity, found) in enumerate(parsed):
        problems.extend(found)
        problems.extend(parents.problems(index, activity))
    if problems:
        bad = len({problem.index for problem in problems})
        raise InvalidRowsError(
            f"No activity was saved: {bad} of {len(parsed)} rows are wrong", problems
        )


def save_checked(
    session: Session,
    objects: Iterable[HoldingActivityLog],
    activities: Iterable[ActivityRow],
    parents: Parents,
    *,
    skip_irr_calculation: bool = False,
) -> SavedActivities:
    """Save the objects of correct rows; otherwise like :func:`save_activities`."""
    saved = SavedActivities(objects)
    if not saved:
        return saved
    session.add_all(saved)
    session.flush()
    log.info("saved activities: %d", len(saved))
    if not skip_irr_calculation:
        changes: dict[int, dt.date] = {}
        for activity in activities:
            note_change(changes, parents.portfolio_of, activity)
        saved.irr = recalculate_safely(session, changes)
    return saved


def note_change(
    changes: dict[int, dt.date], portfolio_of: Mapping[int, int], activity: ActivityRow
) -> None:
    """Add an activity to the earliest changed dates of the portfolios."""
    if activity.portfolio_fund_id is None or activity.activity_timestamp is None:
        return
    day = activity.activity_timestamp.astimezone(dt.UTC).date()
    portfolio = portfolio_of[activity.portfolio_fund_id]
    changes[portfolio] = min(day, changes.get(portfolio, day))


def recalculate_safely(session: Session, changes: Mapping[int, dt.date]) -> RecalculationReport:
    """Recalculate in a savepoint: a failure is undone, logged and reported, and nothing else."""
    try:
        with session.begin_nested():
            return recalculate(session, changes)
    except Exception as error:
        log.exception(
            "the rates of return of portfolios %s were not recalculated; the activities are saved",
            sorted(changes),
        )
        return RecalculationReport(error=error)


def _mapping(row: Mapping[str, Any] | HoldingActivityLog) -> Mapping[str, Any]:
    if not isinstance(row, HoldingActivityLog):
        return row
    values = {name: getattr(row, name) for name in ActivityRow._fields}
    for key, parent in (("product_id", row.product), ("portfolio_fund_id", row.portfolio_fund)):
        if values[key] is None and parent is not None:
            values[key] = parent.id
    return values


def _object(
    row: Mapping[str, Any] | HoldingActivityLog, activity: ActivityRow
) -> HoldingActivityLog:
    values = activity._asdict()
    if not isinstance(row, HoldingActivityLog):
        return HoldingActivityLog(**values)
    for name, value in values.items():
        setattr(row, name, value)
    return row
