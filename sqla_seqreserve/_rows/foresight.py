"""What is certain before rows are divided: why COPY would not write an object that leaves to the
model and the database whatever they fill in; and, by the types of their values alone, why it will
not write these rows, so that no key is reserved for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Final

from sqlalchemy import Column

from .._ids.keys import KeySequence, may_be_generated
from .codecs import Codec
from .defaults import Missing
from .division import CONTEXT, is_sql, values_of
from .plan import Absent, ColumnPlan, InsertPlan

__all__ = ["foreseen_reason", "refusal_of"]

_NOTHING_GIVEN: Final[Mapping[str, Sequence[Any]]] = {}


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


def refusal_of(
    plan: InsertPlan,
    rows: Sequence[Mapping[str, Any]],
    given: Mapping[str, Sequence[Any]] = _NOTHING_GIVEN,
) -> str | None:
    """Why none of these rows, attribute key -> value, can go by COPY, as far as the types of their
    values tell; ``None``: some may. No value is changed or asked for its processor.

    :param given: attribute key -> one value a row, in place of what the rows hold.
    """
    is_mixed = False
    for column in plan.columns:
        attribute, codec = column.attribute, column.codec
        if attribute is None or column.is_version:
            continue
        nothing = Missing.MISSING if column.evaluates_none else None
        looks = plan.context_default is not None and column.absent is not Absent.NULL
        if codec is None and column.absent is not Absent.OMITTED:
            return column.reason or f"{column.column.name} cannot be written by COPY"
        if not looks and codec is not None and column.processor is not None:
            continue
        found = given.get(attribute)
        types = set(map(type, values_of(rows, attribute, nothing) if found is None else found))
        some_lack = type(nothing) in types
        if types and all(map(is_sql, types)):
            return f"{attribute} is an SQL expression"
        if (
            column.absent is Absent.ELSEWHERE
            and not column.column.primary_key
            and types == {type(nothing)}
        ):
            return f"the default of {attribute} is an SQL expression"
        is_mixed = is_mixed or any(map(is_sql, types)) or (looks and some_lack and len(types) > 1)
        if codec is None:
            if not some_lack:
                return column.reason or f"{column.column.name} cannot be written by COPY"
        elif column.processor is None and (refused := _refused(codec, types)):
            return (
                f"{column.column.name} holds {refused} for a column of type {column.column.type!r}"
            )
    if is_mixed and plan.context_default is not None:
        return CONTEXT.format(plan.context_default)
    return None


def _refused(codec: Codec, types: set[type]) -> str | None:
    """The types of values of a column that COPY cannot write and that keep all rows from it."""
    exact = {type_ for type_ in types if not is_sql(type_)} - {NoneType, Missing}
    unknown = {
        type_ for type_ in exact - codec.binary - codec.text if codec.converter(type_) is None
    }
    # Where each value is cast by itself, rows without such a value may still go by COPY.
    if not unknown or (codec.casts_each and unknown != types):
        return None
    return ", ".join(sorted(type_.__name__ for type_ in unknown))
