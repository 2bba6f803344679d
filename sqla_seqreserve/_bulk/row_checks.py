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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
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
from .gaps import MARKERS, is_gap, is_time_of_numpy, may_be_gap
from .input import Chunk

Kind: TypeAlias = Literal["integer", "time", "other", "key", "integer key"]
"""What a checked column holds; a key finds rows."""

_KINDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("int2", "int4", "int8"), "integer"),
    **dict.fromkeys(("date", "time", "timetz", "timestamp", "timestamptz", "interval"), "time"),
}

_NAMES: Final[Mapping[Kind, str]] = {
    "integer": "a whole number",
    "time": "a date, time or interval",
    "other": "a value",
    "key": "a single value",
    "integer key": "a whole number",
}

NO_VALUE: Final = "has no value, and the column takes no NULL and has no default"

_SCALARS: Final = (Boolean, Date, DateTime, Integer, Numeric, String, Time, Uuid)


def check_rows(
    mapper: Mapper[Any],
    rows: Chunk,
    start: int,
    required: Mapping[str, str],
    kinds: Mapping[str, Kind],
    adapts: Callable[[type], bool],
) -> tuple[set[str], dict[str, list[Any]]]:
    """Check the rows of a chunk; return the attributes that they use, and the values of the
    attributes that were checked.

    :param start: the position of the first row in the whole input.
    :param required: attribute for which every row must give a value -> what is wrong with a row
        without it.
    :param kinds: attributes whose values are checked, with what their columns hold.
    :param adapts: whether the application has registered a type with the driver, which then decides
        what is written for its values.
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
                lacking = lacking or bool(what_is_wrong(values[key], kinds[key], adapts))
            if not lacking:
                return used, values
    except (TypeError, AttributeError):
        pass
    raise refused(mapper, rows, start, _problems(mapper, rows, start, required, kinds, adapts))


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
            # Quicker than a set of each row's keys.
            alike = set(map(len, rows)) == {len(given)} and given.union(*rows) == given
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
    required: Mapping[str, str],
    kinds: Mapping[str, Kind],
    adapts: Callable[[type], bool],
) -> list[RowProblem]:
    problems: list[RowProblem] = []
    allowed = {column.key for column in mapper.column_attrs}
    unknown = cache(partial(no_such_attribute, mapper))
    for index, row in enumerate(rows, start):
        if not isinstance(row, Mapping):
            problems.append(
                RowProblem(index, "", f"expected a mapping, found {type(row).__name__}")
            )
            continue
        problems += [RowProblem(index, str(key), unknown(key)) for key in row if key not in allowed]
        problems += [
            RowProblem(index, key, message)
            for key, message in required.items()
            if row.get(key) is None
        ]
    return problems + _wrong_values(rows, start, kinds, adapts)


def _wrong_values(
    rows: Sequence[Any], start: int, kinds: Mapping[str, Kind], adapts: Callable[[type], bool]
) -> list[RowProblem]:
    """Find values that their columns cannot hold."""
    readable = [index for index, row in enumerate(rows) if isinstance(row, Mapping)]
    problems = []
    for key, kind in kinds.items():
        found = what_is_wrong([rows[index].get(key) for index in readable], kind, adapts)
        problems += [
            RowProblem(start + readable[at], key, what, kind) for at, what in found.items()
        ]
    return problems


# Values that stand for none, and values that are no single value


def kinds_of(plans: Iterable[InsertPlan | None]) -> dict[str, Kind]:
    """Return the attributes whose values reach, unchanged, a column, with what the column
    holds.
    """
    found: dict[str, Kind] = {}
    for plan in plans:
        for item in plan.columns if plan is not None else ():
            if item.attribute is None or item.is_made_ready or item.evaluates_none:
                continue
            facts = plan and plan.facts.columns.get(stored_name(item.column.name))
            if facts and item.codec is not None:
                found[item.attribute] = _KINDS.get(facts.type_name, "other")
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
        kind = kinds.get(key, "other")
        if kind == "integer":
            found[key] = "integer key"
        elif isinstance(type_, _SCALARS) and type(type_).__module__.startswith("sqlalchemy."):
            found[key] = "key" if kind == "other" else kind
    return found


def filled(rows: ColumnRows, kinds: Mapping[str, Kind]) -> ColumnRows:
    """Return the rows with ``None`` in their gaps, and with whole numbers where a column holds no
    others.
    """
    changed: dict[str, Sequence[Any]] = {}
    for attribute, kind in kinds.items():
        values = None if kind == "other" else rows.columns.get(attribute)
        if values is not None and any(map(may_be_gap, exact_types(values))):
            changed[attribute] = _filled(values, kind)
    return ColumnRows({**rows.columns, **changed}, len(rows)) if changed else rows


def _filled(values: Sequence[Any], kind: Kind) -> list[Any]:
    found = [None if is_gap(value) else value for value in values]
    floats = [value for value in found if isinstance(value, float)]
    if kind == "integer" and all(value.is_integer() for value in floats):
        return [int(value) if isinstance(value, float) else value for value in found]
    return found


def what_is_wrong(
    values: Sequence[Any], kind: Kind, adapts: Callable[[type], bool]
) -> dict[int, str]:
    """Say what is wrong with values that the column cannot hold, by position."""
    suspect = {type_ for type_ in exact_types(values) if _is_suspect(type_, kind, adapts)}
    if not suspect:
        return {}
    return {
        index: _wrong(value, kind)
        for index, value in enumerate(values)
        if type(value) in suspect and not _is_held(value, kind)
    }


def _is_suspect(type_: type, kind: Kind, adapts: Callable[[type], bool]) -> bool:
    if type_.__name__ in MARKERS or is_time_of_numpy(type_):
        return not adapts(type_)
    if kind == "other":
        return False
    return may_be_gap(type_) or _is_no_scalar(type_) or (_is_integer(kind) and type_ is Decimal)


def _wrong(value: Any, kind: Kind) -> str:
    if _is_no_scalar(type(value)):
        return f"is an object of type {type(value).__name__}, and the column holds {_NAMES[kind]}"
    if is_time_of_numpy(type(value)):
        return (
            f"is {value!r}, which the driver does not take: give Python's own, "
            f"value.astype('{value.dtype.kind}8[us]').item()"
        )
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
    type_ = type(value)
    if type_.__name__ in MARKERS or is_time_of_numpy(type_) or _is_no_scalar(type_):
        return False
    if not _is_integer(kind):
        # Whether it is a valid time is another question, which the server answers.
        return True
    is_finite = value.is_finite() if isinstance(value, Decimal) else isfinite(value)
    return is_finite and (kind == "integer" or value == int(value))
