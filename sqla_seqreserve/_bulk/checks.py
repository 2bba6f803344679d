"""Refuses rows that no INSERT could take, all of a chunk at once, before anything is reserved."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import NoneType
from typing import Any

from sqlalchemy.orm import Mapper

from .._rows.division import values_of
from .._rows.table import ColumnRows
from ..errors import InvalidRowsError, RowProblem
from .missing import Kind, what_is_missing
from .rows import Chunk


def check_rows(
    mapper: Mapper[Any],
    rows: Chunk,
    start: int,
    required: Sequence[str],
    why: Mapping[str, str],
    kinds: Mapping[str, Kind],
) -> tuple[set[str], dict[str, list[Any]]]:
    """Check the rows of a chunk; return the attributes that they use, and the values of those that
    were looked at.

    :param start: the position of the first row in the whole input.
    :param required: the attributes that every row must give a value.
    :param why: attribute -> what is wrong with a row that does not, if not the usual.
    :param kinds: attributes that cannot hold what stands for a missing value.
    :raises InvalidRowsError: with every row that is wrong.
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
                lacking = lacking or bool(what_is_missing(values[key], kinds[key]))
            if not lacking:
                return used, values
    except (TypeError, AttributeError):
        pass
    problems = _problems(mapper.class_.__name__, rows, start, allowed, required, why)
    problems += _missing(rows, start, kinds)
    problems.sort(key=lambda problem: problem.index)
    raise InvalidRowsError(
        f"{mapper.class_.__name__}: {len({p.index for p in problems})} of "
        f"{len(rows)} rows cannot be written; nothing was reserved or written",
        problems,
    )


def _problems(
    name: str,
    rows: Chunk,
    start: int,
    allowed: Collection[str],
    required: Sequence[str],
    why: Mapping[str, str],
) -> list[RowProblem]:
    problems: list[RowProblem] = []
    usual = "has no value, and the column takes no NULL and has no default"
    for index, row in enumerate(rows, start):
        if not isinstance(row, Mapping):
            problems.append(
                RowProblem(index, "", f"expected a mapping, found {type(row).__name__}")
            )
            continue
        problems += [
            RowProblem(index, str(key), f"{name} has no such column")
            for key in row
            if key not in allowed
        ]
        problems += [
            RowProblem(index, key, why.get(key, usual)) for key in required if row.get(key) is None
        ]
    return problems


def _missing(rows: Sequence[Any], start: int, kinds: Mapping[str, Kind]) -> list[RowProblem]:
    """What stands for a missing value in a column that cannot hold it."""
    readable = [index for index, row in enumerate(rows) if isinstance(row, Mapping)]
    problems = []
    for key, kind in kinds.items():
        found = what_is_missing([rows[index].get(key) for index in readable], kind)
        problems += [RowProblem(start + readable[at], key, what) for at, what in found.items()]
    return problems
