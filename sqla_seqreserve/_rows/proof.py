"""Whether an INSERT with known keys writes the values that one without them would.

Where the database numbers several rows, SQLAlchemy takes them from one ``VALUES`` and casts its
columns to the model's types: what a value is then depends on the others. An INSERT with known keys
assigns each value to its column. The two are the same where each value is cast by itself, or where
all are of the type that the column is for. No I/O happens here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._reasons import Reason
from .division import is_plain, values_of
from .plan import ColumnPlan, InsertPlan
from .reasons import may_be_cast


def cast_reason(plan: InsertPlan, rows: Sequence[Mapping[str, Any]]) -> Reason | None:
    """Why the rows, attribute key -> value, must be numbered by the database; ``None``: an INSERT
    with known keys writes the same.
    """
    # An INSERT of one row has one form.
    if len(rows) < 2:
        return None
    for column in plan.columns:
        if column.casts:
            return column.reason
        if column.codec is None or column.codec.casts_each or column.attribute is None:
            continue
        values = [value for value in values_of(rows, column.attribute) if is_plain(value)]
        if not _is_the_same(column, values):
            return may_be_cast(column.attribute)
    return None


def _is_the_same(column: ColumnPlan, values: Sequence[Any]) -> bool:
    codec = column.codec
    assert codec is not None
    if column.default is not None and not codec.is_own and None in values:
        return False
    if not column.is_made_ready:
        return codec.takes(values)
    # What a processor makes of values is not to be asked twice.
    return codec.is_own and (column.is_uniform or len(set(map(type, values)) - {type(None)}) < 2)
