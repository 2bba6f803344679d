"""Sends rows to a statement that reads them: many by COPY into a temporary table, few within the
statement, as one array per column that ``unnest()`` reads.

A temporary table costs round trips and rows of the catalogue, however few rows it holds. With
arrays, the text of the statement is the same for any number of rows, so it is compiled, and
prepared, once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import NoneType
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    FromClause,
    bindparam,
    cast,
    column,
    func,
    select,
    text,
)
from sqlalchemy.types import UserDefinedType

from .._ids.catalogue import ColumnFacts
from .._ids.table_names import stored_name
from .._reasons import Reason
from .._rows.batches import Division
from .._rows.division import divide
from .._rows.plan import InsertPlan
from .._rows.suspects import suspect_rows_noted
from .._writers.copy import no_copy_reason, refused_types
from ..reports import Writer
from .class_tables import ClassTables
from .input import Chunk
from .staged_rows import NUMBER, Source, named
from .staging import are_cast, staging

_NOTHING: Final[Mapping[str, str]] = {}

_READ_ONLY: Final = text("SHOW transaction_read_only")

FEW: Final = 200
"""The largest number of rows sent as arrays: for more, COPY is faster than making the arrays."""

_TYPES: Final = frozenset(
    {
        *("bool", "date", "float4", "float8", "int2", "int4", "int8", "numeric"),
        *("text", "timestamp", "timestamptz", "uuid", "varchar"),
    }
)
"""Types whose arrays every driver sends, and for which a cast gives the same value as INSERT. Other
types do not qualify: ``unnest()`` flattens arrays of arrays; a cast pads or cuts types of a fixed
length.
"""

_LENGTH: Final = re.compile(r"character varying\((\d+)\)")


class Sent(Protocol):
    """The part of a result that says how the rows were sent."""

    writer: Writer
    reason: Reason | None


_T = TypeVar("_T", bound=Sent)


def send(
    class_tables: ClassTables,
    plan: InsertPlan,
    first: Chunk,
    values: Mapping[str, Sequence[Any]],
    stream: Iterator[Chunk],
    write: Callable[[Source, int, Sequence[Mapping[str, Any]]], _T],
    *,
    pinned: bool,
    reason: Reason | None,
    check: Callable[[Chunk, int], Mapping[str, Sequence[Any]]],
    few: bool = True,
    dry: bool = False,
    computed: Mapping[str, str] = _NOTHING,
) -> _T:
    """Call ``write`` with the source that a statement can read, the number of rows and, where
    SQLAlchemy must write row by row, the rows themselves: column name -> value.

    :param plan: the columns that the rows give.
    :param first: the first chunk, which is checked already.
    :param values: what its check returned.
    :param stream: the chunks that follow.
    :param pinned: whether the known facts of the table were compared and are still true.
    :param reason: why SQLAlchemy must write each row by its own statement.
    :param check: refuses a chunk that cannot be written; gets the position of its first row, and
        returns the values that it has collected: attribute -> one per row.
    :param few: whether few rows may be sent as arrays.
    :param dry: whether ``write`` writes nothing, and so may be called in a READ ONLY transaction.
    :param computed: columns that the database computes and that are wanted: name -> expression.
    """
    connection, division = class_tables.connection, None
    by_copy = (
        pinned
        and reason is None
        and no_copy_reason(connection) is None
        and refused_types(connection, plan) is None
    )
    kept: list[Mapping[str, Any]] | None = None if reason is None else []

    def written(source: Source, total: int) -> _T:
        outcome = write(source, total, kept or ())
        outcome.writer = "copy" if by_copy else "insert"
        outcome.reason = reason
        return outcome

    # A READ ONLY transaction may not have a temporary table.
    if by_copy and few and (len(first) <= FEW or (dry and _is_read_only(connection))):
        division = divide(plan, first, connection, values)
        following = next(stream, None)
        found = None
        if following is None and not are_cast(plan, division):
            found = _as_arrays(plan, division)
        if found is not None:
            if class_tables.progress is not None:
                class_tables.progress.sent(len(first))
            with suspect_rows_noted(plan.columns, first):
                return written(Source(connection, found, plan, is_table=False), len(first))
        stream = chain([following] if following is not None else [], stream)
    with staging(connection, plan, computed, by_copy=by_copy, kept=kept) as table:
        table.add(first, 0, values, class_tables.progress, division)
        total = len(first)
        for chunk in map(class_tables.filled, stream):
            table.add(chunk, total, check(chunk, total), class_tables.progress)
            total += len(chunk)
        return written(table.source, total)


def _is_read_only(connection: Connection) -> bool:
    return str(connection.scalar(_READ_ONLY)) == "on"


# Few rows


class _AsItIs(UserDefinedType[Any]):
    """The type of values that are processed already; with a name, a type of the database."""

    cache_ok = True

    def __init__(self, name: str = "") -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def _as_arrays(plan: InsertPlan, division: Division) -> FromClause | None:
    """Return the rows as a FROM clause; ``None`` where an array might not hold what INSERT would
    write.

    :param plan: the columns that the rows give.
    """
    if len(division.batches) != 1 or division.elsewhere or division.batches[0].copy_reason:
        return None
    batch = division.batches[0]
    if any(item.encoding is not None for item in batch.plans):
        return None
    numbers = bindparam("rows", list(batch.positions), type_=_AsItIs())
    arrays: list[Any] = [cast(numbers, _AsItIs("bigint[]"))]
    columns: list[Any] = [column(NUMBER, BigInteger)]
    for index, (item, values) in enumerate(zip(batch.plans, batch.values, strict=True)):
        facts = plan.facts.columns[stored_name(item.column.name)]
        if not _is_exact(facts, values):
            return None
        # The database's type, not the model's, because it decides which values are equal.
        given = bindparam(f"column_{index}", list(values), type_=_AsItIs())
        arrays.append(cast(given, _AsItIs(f"{facts.type_text}[]")))
        columns.append(column(item.column.name, item.column.type))
    rows = func.unnest(*arrays).table_valued(*columns).render_derived(name=named("sent"))
    return select(*rows.c).subquery(named("few"))


def _is_exact(facts: ColumnFacts, values: Sequence[Any]) -> bool:
    """Whether an array of the values, cast to the column's type, holds what INSERT would write."""
    if facts.is_unknown_domain or not (facts.type_name in _TYPES or facts.is_enum):
        return False
    if "%" in facts.type_text or ":" in facts.type_text:
        return False
    if len({type(value) for value in values} - {NoneType}) > 1:
        return False
    length = _LENGTH.fullmatch(facts.type_text)
    # A cast cuts a text that INSERT would refuse.
    return length is None or all(value is None or len(value) <= int(length[1]) for value in values)
