"""Refuses rows that no INSERT could take, all of a chunk at once, before anything is reserved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from types import NoneType
from typing import Any

from sqlalchemy.orm import Mapper

from .._mistakes import no_such_attribute
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
    raise refused(mapper, rows, start, _problems(mapper, rows, start, required, why, kinds))


def refused(
    mapper: Mapper[Any], rows: Chunk, start: int, problems: Iterable[RowProblem]
) -> InvalidRowsError:
    """The error of a chunk with all that is wrong with its rows.

    :param start: the position of the first row in the whole input.
    """
    found = sorted(problems, key=lambda problem: problem.index)
    bad = len({problem.index for problem in found})
    # Of the rows before it some were sent; they go with the savepoint that holds them.
    place = f" from row {start} on" if start else ""
    done = "" if start else "; nothing was reserved or written"
    return InvalidRowsError(
        f"{mapper.class_.__name__}: {bad} of {len(rows)} rows{place} cannot be written{done}",
        found,
    )


def same_row(index: int, attributes: str, first: int) -> RowProblem:
    """What is wrong with a row that is for the same row of the table as one before it."""
    what = "is the same row as"
    return RowProblem(index, attributes, f"{what} row {first}", f"{what} another")


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
    return problems + _missing(rows, start, kinds)


def _missing(rows: Sequence[Any], start: int, kinds: Mapping[str, Kind]) -> list[RowProblem]:
    """What stands for a missing value in a column that cannot hold it."""
    readable = [index for index, row in enumerate(rows) if isinstance(row, Mapping)]
    problems = []
    for key, kind in kinds.items():
        found = what_is_missing([rows[index].get(key) for index in readable], kind)
        problems += [
            RowProblem(start + readable[at], key, what, kind) for at, what in found.items()
        ]
    return problems
