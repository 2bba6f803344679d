"""Values that stand for none: NaN, NaT and NA of numpy and pandas.

Within a column of a frame they are gaps, so NULL is written; and pandas makes a float column
of whole numbers with gaps. In a row of its own such a value is no number or time that the column
could hold, and is refused: drivers make of NaT whatever its bytes happen to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, Final, Literal, TypeAlias

from .._ids.catalogue import stored_name
from .._rows.checks import exact_types
from .._rows.plan import InsertPlan
from .._rows.table import ColumnRows

Kind: TypeAlias = Literal["integer", "time"]

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("int2", "int4", "int8"), "integer"),
    **dict.fromkeys(("date", "time", "timetz", "timestamp", "timestamptz"), "time"),
}

_MISSING: Final = frozenset({"NaTType", "NAType"})
"""Names of pandas' classes, which need not be installed."""


def kinds_of(plans: Iterable[InsertPlan | None]) -> dict[str, Kind]:
    """The attributes whose values go as they are into a column that could not hold these."""
    found: dict[str, Kind] = {}
    for plan in plans:
        for item in plan.columns if plan is not None else ():
            if item.attribute is None or item.is_made_ready or item.evaluates_none:
                continue
            facts = plan and plan.facts.columns.get(stored_name(item.column.name))
            kind = _KINDS.get(facts.type_name) if facts and item.codec is not None else None
            if kind is not None:
                found[item.attribute] = kind
    return found


def filled(rows: ColumnRows, kinds: Mapping[str, Kind]) -> ColumnRows:
    """The rows with ``None`` in their gaps, and whole numbers where a column has no other."""
    changed: dict[str, Sequence[Any]] = {}
    for attribute, kind in kinds.items():
        values = rows.columns.get(attribute)
        if values is not None and any(map(_may_lack, exact_types(values))):
            changed[attribute] = _filled(values, kind)
    return ColumnRows({**rows.columns, **changed}, len(rows)) if changed else rows


def _filled(values: Sequence[Any], kind: Kind) -> list[Any]:
    found = [None if _is_missing(value) else value for value in values]
    floats = [value for value in found if isinstance(value, float)]
    if kind == "integer" and all(value.is_integer() for value in floats):
        return [int(value) if isinstance(value, float) else value for value in found]
    return found


def _is_missing(value: Any) -> bool:
    # NaN, in whatever class, and NaT are what is not equal to itself; NA says neither.
    return type(value).__name__ in _MISSING or (isinstance(value, float) and value != value)


def _may_lack(type_: type) -> bool:
    return issubclass(type_, float) or type_.__name__ in _MISSING


def what_is_missing(values: Sequence[Any], kind: Kind) -> dict[int, str]:
    """What is wrong with values of rows that the column cannot hold, by position."""
    suspect = {
        type_
        for type_ in exact_types(values)
        if _may_lack(type_) or (kind == "integer" and type_ is Decimal)
    }
    if not suspect:
        return {}
    what = "whole number" if kind == "integer" else "date or time"
    return {
        index: f"is {value!r}, and the column holds a {what} or NULL: give None for no value"
        for index, value in enumerate(values)
        if type(value) in suspect and not _is_held(value, kind)
    }


def _is_held(value: Any, kind: Kind) -> bool:
    if type(value).__name__ in _MISSING:
        return False
    if kind != "integer":
        # To be a time is another question, which the server answers.
        return True
    return value.is_finite() if isinstance(value, Decimal) else isfinite(value)
