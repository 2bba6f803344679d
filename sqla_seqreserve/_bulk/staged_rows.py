"""Rows that are sent to the server as those of a table: how a statement names and reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, FromClause, func, select
from sqlalchemy.orm import Mapper

from .._rows.plan import InsertPlan
from ..errors import InvalidRowsError
from .row_checks import same_row

NUMBER: Final = "sqla_seqreserve_row"
"""Name of the column that holds a row's position in the input."""


def key_label(index: int) -> str:
    """Return the label of a key column where it stands next to the table's own columns."""
    return f"sqla_seqreserve_key_{index}"


def labelled_keys(keys: Iterable[Any]) -> list[Any]:
    """Return key columns, each with its label."""
    return [key.label(key_label(index)) for index, key in enumerate(keys)]


def keys_in(rows: Any, keys: Sequence[Any]) -> list[Any]:
    """Return the key columns of rows that were selected with :func:`labelled_keys`."""
    return [rows.c[key_label(index)] for index in range(len(keys))]


def named(name: str) -> str:
    """Return a name used inside our statements that hides no table of the user's."""
    return f"sqla_seqreserve_{name}"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Rows that a statement can read.

    :param table: their columns by name, with the types of the target's, and :data:`NUMBER`.
    :param plan: the columns that the rows give.
    :param is_table: whether they are stored in a table; if not, each mention sends them again.
    """

    connection: Connection
    table: FromClause
    plan: InsertPlan
    is_table: bool


def same_rows(
    rows: Any, columns: Iterable[Any], by: Iterable[Any], where: Iterable[Any] = ()
) -> Any:
    """Select these columns for each group of several rows that have the same values of ``by``."""
    groups = select(*columns).select_from(rows).where(*where).group_by(*by)
    return groups.having(func.count() > 1)


def refuse_same_rows(
    groups: Iterable[Any], mapper: Mapper[Any], total: int, attributes: str, by: str
) -> None:
    """Refuse given rows that match the same row of the table.

    :param groups: the first number of each group, and all of its numbers.
    :param attributes: the attributes that are equal; ``by``: the index or key that decides so.
    :raises InvalidRowsError: naming each row with the first of its group.
    """
    problems = [
        same_row(number, attributes, first)
        for first, numbers in groups
        for number in sorted(numbers)[1:]
    ]
    if problems:
        problems.sort(key=lambda problem: problem.index)
        raise InvalidRowsError(
            f"{mapper.class_.__name__}: {len(problems)} of {total} rows are for a row that another "
            f"one is for, by {by}; nothing was written",
            problems,
        )
