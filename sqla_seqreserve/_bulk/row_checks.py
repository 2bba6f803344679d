"""Refuses rows that no INSERT could take: all wrong rows of a chunk at once, before anything is
reserved.

NaN, NaT and NA of numpy and pandas mark a missing value. In a column of a frame they are gaps, so
NULL is written; and pandas turns whole numbers with gaps into a float column. In a row given as a
mapping, such a marker is refused, because it is not a number or time that the column could hold:
from the bytes of a NaT a driver makes an arbitrary value.

A mapping, a list or an object of a mapped class is refused where the column holds one number, time
or key: a row or an object was given in place of its key. In a key that finds rows a fraction is
refused, too: the server would round it to the key of another row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from functools import cache, partial
from math import isfinite
from types import NoneType
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Boolean, Date, DateTime, Integer, Numeric, Row, String, Time, Uuid, inspect
from sqlalchemy.orm import Mapper

from .._ids.table_names import stored_name
from .._mistakes import no_such_attribute
from .._rows.column_checks import exact_types
from .._rows.division import values_of
from .._rows.plan import InsertPlan
from .._rows.table import ColumnRows
from ..errors import InvalidRowsError, RowProblem
from .input import Chunk

Kind: TypeAlias = Literal["integer", "time", "key", "integer key"]
"""What a checked column holds; a key finds rows."""

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("int2", "int4", "int8"), "integer"),
    **dict.fromkeys(("date", "time", "timetz", "timestamp", "timestamptz", "interval"), "time"),
}

_NAMES: Final[Mapping[Kind, str]] = {
    "integer": "a whole number",
    "time": "a date, time or interval",
    "key": "a single value",
    "integer key": "a whole number",
}

_SCALARS: Final = (Boolean, Date, DateTime, Integer, Numeric, String, Time, Uuid)

_MISSING: Final = frozenset({"NaTType", "NAType"})
"""Class names of pandas' markers; pandas need not be installed."""


def check_rows(
    mapper: Mapper[Any],
    rows: Chunk,
    start: int,
    required: Sequence[str],
    why: Mapping[str, str],
    kinds: Mapping[str, Kind],
) -> tuple[set[str], dict[str, list[Any]]]:
    """Check the rows of a chunk; return the attributes that they use, and the values of the
    attributes that were checked.

    :param start: the position of the first row in the whole input.
    :param required: the attributes for which every row must give a value.
    :param why: attribute -> what is wrong with a row without it, if not the usual text.
    :param kinds: attributes whose values are checked, with what their columns hold.
    :raises InvalidRowsError: listing every row that is wrong.
    """
    allowed = {column.key for column in mapper.column_attrs}
    try:
        used = set(rows.columns) if isinstance(rows, ColumnRows) else set().union(*rows)
        if used <= allowed:
            values = {key: values_of(rows, key) for key in required}
            lacking = any(NoneType in set(map(type, found)) for found in values.values())
            for key in used.intersection(kinds):
                if key not in values:
                    values[key] = values_of(rows, key)
                lacking = lacking or bool(what_is_wrong(values[key], kinds[key]))
            if not lacking:
                return used, values
    except (TypeError, AttributeError):
        pass
    raise refused(mapper, rows, start, _problems(mapper, rows, start, required, why, kinds))


def refused(
    mapper: Mapper[Any], rows: Chunk, start: int, problems: Iterable[RowProblem]
) -> InvalidRowsError:
    """Return the error that lists everything wrong with the rows of a chunk.

    :param start: the position of the first row in the whole input.
    """
    found = sorted(problems, key=lambda problem: problem.index)
    bad = len({problem.index for problem in found})
    # Some of the rows before it were sent; the rollback of their savepoint removes them.
    place = f" from row {start} on" if start else ""
    done = "" if start else "; nothing was reserved or written"
    return InvalidRowsError(
        f"{mapper.class_.__name__}: {bad} of {len(rows)} rows{place} cannot be written{done}",
        found,
    )


def same_row(index: int, attributes: str, first: int) -> RowProblem:
    """Describe a row that matches the same row of the table as an earlier one."""
    what = "is the same row as"
    return RowProblem(index, attributes, f"{what} row {first}", f"{what} another")


def unlike(rows: Chunk, start: int, given: frozenset[str]) -> Iterator[RowProblem]:
    """Find attributes that a row gives and the first row does not, and the reverse. An upsert could
    not know what to do with them in an existing row.

    :param given: the attributes that the first row of the whole input gives.
    """
    try:
        if isinstance(rows, ColumnRows):
            alike = rows.columns.keys() == given
        else:
            alike = all(map(given.__eq__, map(frozenset, rows)))
    except TypeError:
        # One of them is not a mapping, which another check reports.
        alike = False
    first: Any = rows[0]
    if alike or not (start or isinstance(first, Mapping)):
        return
    for index, row in enumerate(rows, start):
        if isinstance(row, Mapping):
            for key in given - row.keys():
                yield RowProblem(index, key, "is not given, and row 0 gives it")
            for key in row.keys() - given:
                yield RowProblem(index, str(key), "is given, and row 0 does not give it")


def _problems(
    mapper: Mapper[Any],
    rows: Chunk,
    start: int,
    required: Sequence[str],
    why: Mapping[str, str],
    kinds: Mapping[str, Kind],
) -> list[RowProblem]:
    problems: list[RowProblem] = []
    allowed = {column.key for column in mapper.column_attrs}
    usual = "has no value, and the column takes no NULL and has no default"
    unknown = cache(partial(no_such_attribute, mapper))
    for index, row in enumerate(rows, start):
        if not isinstance(row, Mapping):
            problems.append(
                RowProblem(index, "", f"expected a mapping, found {type(row).__name__}")
            )
            continue
        problems += [RowProblem(index, str(key), unknown(key)) for key in row if key not in allowed]
        problems += [
            RowProblem(index, key, why.get(key, usual)) for key in required if row.get(key) is None
        ]
    return problems + _wrong_values(rows, start, kinds)


def _wrong_values(rows: Sequence[Any], start: int, kinds: Mapping[str, Kind]) -> list[RowProblem]:
    """Find values that their columns cannot hold."""
    readable = [index for index, row in enumerate(rows) if isinstance(row, Mapping)]
    problems = []
    for key, kind in kinds.items():
        found = what_is_wrong([rows[index].get(key) for index in readable], kind)
        problems += [
            RowProblem(start + readable[at], key, what, kind) for at, what in found.items()
        ]
    return problems


# Values that stand for none, and values that are no single value


def kinds_of(plans: Iterable[InsertPlan | None]) -> dict[str, Kind]:
    """Return the attributes whose values reach, unchanged, a column that cannot hold such
    markers.
    """
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


def kinds_of_keys(
    mapper: Mapper[Any], keys: Iterable[str], kinds: Mapping[str, Kind]
) -> dict[str, Kind]:
    """Return the kinds of attributes that find rows.

    :param kinds: the kinds of the class's attributes.
    """
    found: dict[str, Kind] = {}
    for key in keys:
        type_ = mapper.column_attrs[key].columns[0].type
        if kinds.get(key) == "integer":
            found[key] = "integer key"
        elif isinstance(type_, _SCALARS) and type(type_).__module__.startswith("sqlalchemy."):
            found[key] = kinds.get(key, "key")
    return found


def filled(rows: ColumnRows, kinds: Mapping[str, Kind]) -> ColumnRows:
    """Return the rows with ``None`` in their gaps, and with whole numbers where a column holds no
    others.
    """
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
    # NaN, of any class, and NaT are not equal to themselves; NA gives neither answer.
    return type(value).__name__ in _MISSING or (isinstance(value, float) and value != value)


def _may_lack(type_: type) -> bool:
    return issubclass(type_, float) or type_.__name__ in _MISSING


def what_is_wrong(values: Sequence[Any], kind: Kind) -> dict[int, str]:
    """Say what is wrong with values that the column cannot hold, by position."""
    suspect = {
        type_
        for type_ in exact_types(values)
        if _may_lack(type_) or _is_no_scalar(type_) or (_is_integer(kind) and type_ is Decimal)
    }
    if not suspect:
        return {}
    return {
        index: _wrong(value, kind)
        for index, value in enumerate(values)
        if type(value) in suspect and not _is_held(value, kind)
    }


def _wrong(value: Any, kind: Kind) -> str:
    if _is_no_scalar(type(value)):
        return f"is an object of type {type(value).__name__}, and the column holds {_NAMES[kind]}"
    if kind.endswith("key"):
        return f"is {value!r}, which is no key of a row"
    return f"is {value!r}, and the column holds {_NAMES[kind]} or NULL: give None for no value"


def _is_integer(kind: Kind) -> bool:
    return kind in ("integer", "integer key")


def _is_no_scalar(type_: type) -> bool:
    """Whether values of a type are collections or objects of a mapped class."""
    return issubclass(type_, Mapping | Set | list | tuple | Row) or isinstance(
        inspect(type_, raiseerr=False), Mapper
    )


def _is_held(value: Any, kind: Kind) -> bool:
    if type(value).__name__ in _MISSING or _is_no_scalar(type(value)):
        return False
    if not _is_integer(kind):
        # Whether it is a valid time is another question, which the server answers.
        return True
    is_finite = value.is_finite() if isinstance(value, Decimal) else isfinite(value)
    return is_finite and (kind == "integer" or value == int(value))
