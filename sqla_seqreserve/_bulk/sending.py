"""Rows on their way to a statement that reads them: few as arrays of that statement, many by COPY
into a temporary table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

from .._reasons import Reason
from .._rows.division import divide
from .._rows.plan import InsertPlan
from .._writers.copy import no_copy_reason, refused_types
from .few import FEW, few_rows
from .given import Source
from .inserting import Inserting
from .rows import Chunk
from .staging import are_cast, staging

_T = TypeVar("_T")

_NOTHING: Mapping[str, str] = {}


def may_copy(whole: Inserting, plan: InsertPlan, *, pinned: bool, reason: Reason | None) -> bool:
    """Whether rows may be staged by COPY, or sent as arrays.

    :param pinned: whether what is known of the table was compared and holds.
    :param reason: why statements must be SQLAlchemy's own, row by row.
    """
    connection = whole.connection
    return (
        pinned
        and reason is None
        and no_copy_reason(connection) is None
        and refused_types(connection, plan) is None
    )


def send(
    whole: Inserting,
    plan: InsertPlan,
    first: Chunk,
    stream: Iterator[Chunk],
    write: Callable[[Source, int], _T],
    *,
    by_copy: bool,
    check: Callable[[Chunk, int], object],
    few: bool = True,
    computed: Mapping[str, str] = _NOTHING,
    kept: list[Mapping[str, Any]] | None = None,
) -> _T:
    """Call ``write`` with the rows as something that a statement can read, and how many there are.

    :param plan: the columns that the rows give.
    :param first: the first chunk, which is checked already.
    :param stream: those behind it.
    :param by_copy: :func:`may_copy`.
    :param check: refuses a chunk that cannot be written, given the position of its first row.
    :param few: whether few rows may be sent as arrays.
    :param computed: columns that the database computes and that are wanted: name -> expression.
    :param kept: takes the rows, column name -> value, where they are not staged by COPY.
    """
    connection, division = whole.connection, None
    if by_copy and few and len(first) <= FEW:
        division = divide(plan, first, connection)
        following = next(stream, None)
        found = None
        if following is None and not are_cast(plan, division):
            found = few_rows(plan, division)
        if found is not None:
            if whole.progress is not None:
                whole.progress.sent(len(first))
            return write(Source(connection, found, plan, is_table=False), len(first))
        stream = chain([following] if following is not None else [], stream)
    with staging(connection, plan, computed, by_copy=by_copy) as table:
        if kept is not None:
            table.kept = kept
        table.add(first, 0, whole.progress, division)
        total = len(first)
        for chunk in map(whole.filled, stream):
            check(chunk, total)
            table.add(chunk, total, whole.progress)
            total += len(chunk)
        return write(table.source, total)
