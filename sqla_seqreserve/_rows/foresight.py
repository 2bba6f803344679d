"""What a plan tells of objects before there are any: why COPY would not write one that leaves to
the model and the database whatever they fill in.
"""

from __future__ import annotations

from sqlalchemy import Column

from .._ids.keys import KeySequence, may_be_generated
from .plan import Absent, ColumnPlan, InsertPlan

__all__ = ["foreseen_reason"]


def foreseen_reason(plan: InsertPlan, source: KeySequence) -> str | None:
    """Why COPY would not write a row of the plan's class; ``None``: it would.

    :param source: the sequence that numbers the class, or why none does.
    """
    if plan.reason is not None:
        return plan.reason
    for column in plan.columns:
        reason = _reason_of(column, plan, source)
        if reason is not None:
            return reason
    return None


def _reason_of(plan: ColumnPlan, whole: InsertPlan, source: KeySequence) -> str | None:
    column: Column[object] = plan.column
    if plan.absent is Absent.OMITTED:
        return None
    if plan.absent is Absent.ELSEWHERE:
        if not column.primary_key:
            return f"the default of {plan.attribute or column.name} is an SQL expression"
        if (
            not source.is_reservable
            and column in whole.mapper.primary_key
            and may_be_generated(column)
        ):
            return f"no id is reserved: {source.reason}"
    return plan.reason if plan.codec is None else None
