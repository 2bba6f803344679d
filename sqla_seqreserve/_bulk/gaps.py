"""Gaps in columns of values: which values stand for a missing one, and what is written for them.

NaN, NaT and NA of numpy and pandas are gaps, and so is a null of pandas, polars and Arrow; NaN is
none where the column holds numbers that can be NaN. A gap counts as a value that is not given. For
most columns ``None`` says that. A type such as JSON makes a value of ``None`` (JSON's null), so
there a marker says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Float, Integer, Numeric
from sqlalchemy.orm import Mapper
from sqlalchemy.types import NullType, TypeDecorator

from .._rows.column_checks import exact_types
from .._rows.table import Missing

MARKERS: Final = frozenset({"NaTType", "NAType"})
"""Class names of pandas' markers; pandas need not be installed."""

_FINE: Final = ("[ns]", "[ps]", "[fs]", "[as]")
"""Units of times that numpy returns as integers, because ``datetime`` has none so small."""

_MAY_HOLD_NAN: Final = (Numeric, Float, Integer, NullType, TypeDecorator)
"""An integer of the model may be a number of another kind in the database; what is known of the
table decides later.
"""


def is_gap(value: Any) -> bool:
    """Whether a value of a column is NaN, NaT or NA."""
    # NaN, of any class, and NaT are not equal to themselves; NA gives neither answer.
    return type(value).__name__ in MARKERS or (isinstance(value, float) and value != value)


def may_be_gap(type_: type) -> bool:
    """Whether values of a type can be NaN, NaT or NA."""
    return issubclass(type_, float) or type_.__name__ in MARKERS


def is_time_of_numpy(type_: type) -> bool:
    """Whether a type is numpy's for a time or an interval, which drivers do not take."""
    return type_.__module__ == "numpy" and type_.__name__ in ("datetime64", "timedelta64")


def in_microseconds(times: Any) -> Any:
    """Return an array or a scalar of numpy; if it holds times, in a unit that Python has too."""
    dtype: Any = getattr(times, "dtype", None)
    kind = getattr(dtype, "kind", "")
    if kind in ("M", "m") and str(dtype).endswith(_FINE):
        return times.astype(f"{kind}8[us]")
    return times


class Gaps:
    """Finds the gaps in the columns of one class.

    :param mapper: the mapper of the class.
    """

    def __init__(self, mapper: Mapper[Any]) -> None:
        self._types: dict[str, Any] = {
            prop.key: prop.columns[0].type for prop in mapper.column_attrs
        }

    def marked(self, key: str, values: Sequence[Any], source: Any) -> Sequence[Any]:
        """Return the values of a column with their gaps marked as missing, and with Python's times
        in place of numpy's.

        :param source: the column as it was given.
        """
        type_ = self._types.get(key)
        evaluates = getattr(type_, "should_evaluate_none", False)
        types = exact_types(values)
        if any(map(is_time_of_numpy, types)):
            values = [
                in_microseconds(value).item() if is_time_of_numpy(type(value)) else value
                for value in values
            ]
        is_marked = any(map(may_be_gap, types))
        if not is_marked and not (evaluates and _has_nulls(source)):
            return values
        nothing = Missing.MISSING if evaluates else None
        nulls = _has_nulls(source)
        keeps_nan = not evaluates and (
            isinstance(type_, _MAY_HOLD_NAN) or not type(type_).__module__.startswith("sqlalchemy.")
        )
        return [
            nothing
            if (value is None and nulls)
            or (is_gap(value) and not (keeps_nan and isinstance(value, float)))
            else value
            for value in values
        ]


def _has_nulls(column: Any) -> bool:
    """Whether a column is of pandas, polars, pyarrow or masked, where ``None`` means a gap too."""
    return any(hasattr(column, name) for name in ("isna", "mask", "to_list", "to_pylist"))
