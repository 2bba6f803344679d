"""Rows of which each must give the same attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._rows.table import ColumnRows
from ..errors import InvalidRowsError, RowProblem
from .checks import refused
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

    :raises InvalidRowsError: with every row that is wrong, for whatever reason.
    """
    problems = list(_unlike(rows, start, given))
    try:
        whole.check(rows, start, required, why)
    except InvalidRowsError as error:
        named = {(problem.index, problem.attribute) for problem in error.problems}
        problems = [
            problem for problem in problems if (problem.index, problem.attribute) not in named
        ]
        raise refused(whole.mapper, rows, start, [*error.problems, *problems]) from None
    if problems:
        bad = len({problem.index for problem in problems})
        raise InvalidRowsError(
            f"{whole.mapper.class_.__name__}: {bad} of {len(rows)} rows give other attributes than "
            "row 0, and all must give the same; nothing was written",
            problems,
        )


def _unlike(rows: Chunk, start: int, given: frozenset[str]) -> Iterator[RowProblem]:
    """What the rows give and the first does not, and the other way round."""
    try:
        if isinstance(rows, ColumnRows):
            alike = rows.columns.keys() == given
        else:
            alike = all(map(given.__eq__, map(frozenset, rows)))
    except TypeError:
        # One of them is no mapping, and so has another problem.
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
