"""Saves the edits of the portal's grid: activities and valuations, all or nothing.

::

    result = TransactionCoordinator(session).save(
        [
            TransactionEdit(7, "2024-05", "Investment", "2500", is_new=True),
            TransactionEdit(7, "2024-06", "Current Value", "2630.10", is_new=True),
            TransactionEdit(8, "2024-05", "Withdrawal", original_activity_id=1203, to_delete=True),
        ],
        product_id=3,
    )
    if result.success:
        session.commit()

Three phases, in one savepoint of the caller's transaction:

1. Activities: new ones are inserted together, changed ones updated, deleted ones deleted. An edit
   with an ``original_activity_id`` edits that row, whatever else it says, and never inserts one.
2. Valuations, which are the edits of the type ``Current Value``: one per fund and month, on the
   month's first day; inserted, updated or deleted.
3. The rates of return of each portfolio touched, once, from its earliest change on.

After an error the database is unchanged, and the result lists all errors: those found in the edits
before anything is written, or the one that the database raised. Flows without a rate of return
are no errors, because the client did make them; the result lists them in ``irr_failures``.

The feature flag is the session's :class:`~sqla_seqreserve.Registration`, given to the coordinator:
while its mode is ``"off"``, plain SQLAlchemy saves the edits one by one, with the same result.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from sqla_seqreserve.errors import RowProblem
from sqla_seqreserve.registration import Registration

from ._edits import CURRENT_VALUE, Cell, EditPlan, TransactionEdit
from .activity_rows import midnight
from .models import Base, HoldingActivityLog, PortfolioFundValuation
from .recalculation import IrrFailure, recalculate

__all__ = ["CURRENT_VALUE", "TransactionCoordinator", "TransactionEdit", "TransactionResult"]

log = logging.getLogger("sqla_seqreserve.portfolio")


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """The result of the edits. Without success, nothing was saved, and the errors say why."""

    success: bool
    errors: tuple[str, ...] = ()
    processed_activities: int = 0
    processed_valuations: int = 0
    recalculated_irrs: int = 0
    irr_failures: tuple[IrrFailure, ...] = ()


class TransactionCoordinator:
    """Saves the edits of a product's grid in one session.

    :param registration: the session's registration, whose mode is the feature flag
    """

    def __init__(self, session: Session, *, registration: Registration | None = None) -> None:
        self._session = session
        self._registration = registration

    def save(
        self, edits: Iterable[TransactionEdit | Mapping[str, Any]], product_id: int
    ) -> TransactionResult:
        """Save the edits, or none of them. The caller commits."""
        plan = EditPlan.of(edits, product_id)
        if not (plan.activities or plan.valuations or plan.problems):
            return TransactionResult(success=True)
        try:
            with self._session.begin_nested():
                plan.read(self._session)
                if plan.problems:
                    return TransactionResult(
                        success=False, errors=tuple(map(_message, plan.problems))
                    )
                self._save_activities(plan)
                self._save_valuations(plan)
                report = recalculate(self._session, plan.changes)
        except SQLAlchemyError as error:
            log.warning("the edits of product %s were refused", product_id, exc_info=True)
            return TransactionResult(success=False, errors=(_database_message(error),))
        log.info(
            "saved the edits of product %s: activities: %d, valuations: %d",
            product_id,
            len(plan.activities),
            len(plan.valuations),
        )
        return TransactionResult(
            success=True,
            processed_activities=len(plan.activities),
            processed_valuations=len(plan.valuations),
            recalculated_irrs=report.fund_irrs + report.portfolio_irrs,
            irr_failures=report.failures,
        )

    def _save_activities(self, plan: EditPlan) -> None:
        for cell in plan.activities:
            original = None if cell.original_id is None else plan.originals[cell.original_id]
            if original is not None:
                before = original.activity_timestamp.astimezone(dt.UTC).date()
                plan.note_change(original.portfolio_fund_id, before)
                if cell.to_delete:
                    self._delete(original)
                    continue
            row = _edited(cell, original, plan.product_id)
            plan.note_change(cell.fund_id, row.activity_timestamp.astimezone(dt.UTC).date())
            self._add(row)
        self._session.flush()

    def _save_valuations(self, plan: EditPlan) -> None:
        for cell in plan.valuations:
            plan.note_change(cell.fund_id, cell.month)
            stored = plan.stored_valuations.get((cell.fund_id, cell.month))
            if not cell.to_delete:
                row = stored or PortfolioFundValuation(
                    portfolio_fund_id=cell.fund_id, valuation_date=cell.month
                )
                row.valuation = cell.value
                self._add(row)
            elif stored is not None:
                self._delete(stored)
        self._session.flush()

    def _add(self, row: Base) -> None:
        self._session.add(row)
        self._flush_if_one_by_one()

    def _delete(self, row: Base) -> None:
        self._session.delete(row)
        self._flush_if_one_by_one()

    def _flush_if_one_by_one(self) -> None:
        if self._registration is not None and self._registration.mode == "off":
            self._session.flush()


def _edited(cell: Cell, original: HoldingActivityLog | None, product_id: int) -> HoldingActivityLog:
    """Return the activity as edited. If its month does not change, it keeps its timestamp."""
    if original is None:
        return HoldingActivityLog(
            product_id=product_id,
            portfolio_fund_id=cell.fund_id,
            activity_type=cell.activity_type,
            activity_timestamp=midnight(cell.month),
            amount=cell.value,
        )
    original.portfolio_fund_id = cell.fund_id
    original.activity_type = cell.activity_type
    original.amount = cell.value
    if original.activity_timestamp.astimezone(dt.UTC).date().replace(day=1) != cell.month:
        original.activity_timestamp = midnight(cell.month)
    return original


def _message(problem: RowProblem) -> str:
    if problem.index < 0:
        return f"{problem.attribute}: {problem.problem}"
    return f"edit {problem.index}, {problem.attribute}: {problem.problem}"


def _database_message(error: SQLAlchemyError) -> str:
    """Return the database's message, without the statement and its values."""
    if isinstance(error, DBAPIError):
        return str(error.orig).partition("\n")[0]
    return str(error)
