"""Rows of which each must give the same attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._rows.table import ColumnRows
from ..errors import InvalidRowsError, RowProblem
from .inserting import Inserting
from .rows import Chunk


def given_by(rows: Chunk) -> frozenset[str]:
    """The attributes that the first row gives, and so each of the others must."""
    if isinstance(rows, ColumnRows):
        return frozenset(rows.columns)
    found: Any = rows[0]
    return frozenset(found) if isinstance(found, Mapping) else frozenset()


def check_alike(
    whole: Inserting,
    rows: Chunk,
    start: int,
    given: frozenset[str],
    required: Sequence[str],
    why: Mapping[str, str],
) -> None:
    """Refuse rows that no INSERT could take, and those that give other attributes than the first:
    what would become of the others in a row that is there?
    """
    whole.check(rows, start, required, why)
    if isinstance(rows, ColumnRows):
        alike = rows.columns.keys() == given
    else:
        alike = all(map(given.__eq__, map(frozenset, rows)))
    if alike:
        return
    problems = [
        RowProblem(index, key, "is given by some rows and not by others: expected all or none")
        for index, row in enumerate(rows, start)
        for key in sorted(given.symmetric_difference(row))
    ]
    raise InvalidRowsError(
        f"{whole.mapper.class_.__name__}: rows must give the same attributes as row 0 "
        "does; nothing was written",
        problems,
    )
