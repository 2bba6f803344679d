"""Writes rows into a temporary table with the same columns as their target.

The table belongs to the transaction (``ON COMMIT DROP``), and is dropped after use. Its columns are
made from the target's, so they have its types. A column that the database computes is computed here
too, if it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final
from zlib import crc32

from sqlalchemy import BigInteger, Connection, TableClause, column, insert, null, table, text
from sqlalchemy.exc import DBAPIError

from .._drivers import CopyRows
from .._ids.table_names import quoted
from .._rows.batches import Division
from .._rows.division import divide, is_plain, values_of
from .._rows.plan import Absent, ColumnPlan, InsertPlan
from .._rows.python_defaults import DefaultContext
from .._rows.suspects import suspect_rows_noted
from .._rows.table import Missing
from .._sqlalchemy.engine import autocommits
from .._writers.copy import copy_rows
from .._writers.refused_row import refused_row_noted
from .input import Chunk
from .progress import Progress
from .staged_rows import NUMBER, Source

_INT8: Final = 20
_DEPTH: Final = "sqla_seqreserve_staged"


class Staging:
    """The temporary table of one call: its rows on their way to an upsert, UPDATE or DELETE.

    :param plan: the columns that the rows give (:func:`staged_plan`).
    :param computed: columns that the database computes and that are wanted: name -> expression.
    :param by_copy: whether COPY may be used, because the known facts of the target were compared.
    :param kept: if the caller wants them, it gets the rows that INSERT puts into the table, column
        name -> value.
    """

    def __init__(
        self,
        connection: Connection,
        plan: InsertPlan,
        computed: Mapping[str, str],
        *,
        by_copy: bool,
        kept: list[Mapping[str, Any]] | None,
        depth: int,
    ) -> None:
        self.connection = connection
        self.by_copy = by_copy
        self.kept = kept
        # Drivers prepare statements and cache them by text, with the column types that a table of
        # this name had. So a name always stands for the same structure.
        structure = crc32(plan.facts.fingerprint.encode())
        self.name = f"{_DEPTH}_{depth}_{structure:08x}"
        self.plan = plan
        self.columns = [item.column.name for item in self.plan.columns]
        self.table: TableClause = table(
            self.name,
            column(NUMBER, BigInteger),
            *(column(item.column.name, item.column.type) for item in self.plan.columns),
            *(column(name, plan.table.c[name].type) for name in computed),
        )
        names = ", ".join([f"CAST(NULL AS bigint) AS {NUMBER}", *map(quoted, self.columns)])
        ends = "" if autocommits(connection) else "ON COMMIT DROP "
        source = f"SELECT {names} FROM {plan.facts.name}"  # noqa: S608  # quoted names
        self._run(f"CREATE TEMPORARY TABLE {self.name} {ends}AS {source} WITH NO DATA")
        if computed:
            added = ", ".join(
                f"ADD {quoted(name)} {kind} STORED" for name, kind in computed.items()
            )
            self._run(f"ALTER TABLE pg_temp.{self.name} {added}")

    def _run(self, statement: str) -> None:
        self.connection.execute(text(statement.replace(":", "\\:").replace("\\:\\:", "::")))

    @property
    def source(self) -> Source:
        """The rows that were put into the table."""
        return Source(self.connection, self.table, self.plan, is_table=True)

    def drop(self) -> None:
        """Drop the table."""
        self._run(f"DROP TABLE pg_temp.{self.name}")

    def add(
        self,
        rows: Chunk,
        start: int,
        values: Mapping[str, Sequence[Any]],
        progress: Progress | None,
        division: Division | None = None,
    ) -> None:
        """Put rows into the table.

        :param start: the position of the first in the whole input.
        :param values: attribute -> one value per row, where they are collected already.
        :param division: the division of these rows, if it is known already.
        """
        with suspect_rows_noted(self.plan.columns, rows, start):
            if self.by_copy and division is None:
                division = divide(self.plan, rows, self.connection, values)
            self._add(rows, start, progress, division)

    def _add(
        self, rows: Chunk, start: int, progress: Progress | None, division: Division | None
    ) -> None:
        rest: Sequence[int] = range(len(rows))
        made: dict[int, Mapping[str, Any]] = {}
        if division is not None:
            casts = are_cast(self.plan, division)
            for batch in () if casts else division.batches:
                if batch.copy_reason is not None:
                    continue
                self._copy(
                    CopyRows(
                        [NUMBER, *batch.columns],
                        [[start + position for position in batch.positions], *batch.copy_values],
                        [_INT8, *batch.oids],
                        batch.binary,
                        progress.in_copy if progress is not None else None,
                    )
                )
            rest = rest if casts else sorted(division.by_insert())
            made = _made(division, frozenset(rest)) if rest else {}
        if rest:
            numbered = {start + p: made[p] for p in rest if p in made}
            others = [p for p in rest if p not in made]
            self._insert([rows[p] for p in others], [start + p for p in others], numbered)
            if progress is not None:
                progress.sent(len(rest))

    def _copy(self, rows: CopyRows) -> None:
        with refused_row_noted(self.name, self.plan.table.name, rows.values[0]):
            copy_rows(self.connection, f"pg_temp.{self.name}", rows)

    def _insert(
        self,
        rows: Sequence[Mapping[str, Any]],
        numbers: Sequence[int],
        made: Mapping[int, Mapping[str, Any]],
    ) -> None:
        """Insert rows with values that COPY does not accept, or where nothing could be compared.

        :param rows: the rows whose defaults are still to be called.
        :param numbers: their numbers in the whole input.
        :param made: number -> the row, column name -> value, of the other rows.
        """
        ready: list[tuple[ColumnPlan, Sequence[Any]]] = [
            (
                item,
                [None] * len(rows)
                if item.attribute is None or item.is_version
                else values_of(rows, item.attribute, item.nothing),
            )
            for item in self.plan.columns
        ]
        ready = DefaultContext(self.connection, ready).filled()
        records = [
            {NUMBER: number, **dict(zip(self.columns, values, strict=True))}
            for number, values in zip(
                numbers, zip(*(values for _, values in ready), strict=True), strict=True
            )
        ]
        records += [{NUMBER: number, **row} for number, row in made.items()]
        if self.kept is not None:
            self.kept += records
        plain = []
        for record in records:
            # A type that makes a value of None needs the expression.
            record.update((k, null()) for k, v in record.items() if v is Missing.MISSING)
            if all(map(is_plain, record.values())):
                plain.append(record)
            else:
                self.connection.execute(insert(self.table).values(record))
        if plain:
            self.connection.execute(insert(self.table), plain)


def _made(division: Division, positions: Container[int]) -> dict[int, Mapping[str, Any]]:
    """Return the rows of the batches at these positions, column name -> value, with the values that
    their defaults gave. A default is not called twice.
    """
    return {
        position: dict(zip(batch.columns, values, strict=True))
        for batch in division.batches
        for position, values in zip(batch.positions, zip(*batch.given, strict=True), strict=True)
        if position in positions
    }


def are_cast(plan: InsertPlan, division: Division) -> bool:
    """Whether an INSERT may cast values of these rows depending on the other values."""
    return plan.cast_reason is not None or any(batch.casts for batch in division.batches)


def staged_plan(
    plan: InsertPlan, given: Collection[str], constants: Mapping[str, Any]
) -> InsertPlan:
    """Return the plan for staging the rows of an upsert.

    :param plan: the target's plan.
    :param given: the attributes that every row gives.
    :param constants: attributes that have one value in every row.
    """
    return staged_columns(plan, _of_upsert(plan, given, constants))


def staged_columns(plan: InsertPlan, columns: Iterable[ColumnPlan]) -> InsertPlan:
    """Return the plan of a table, restricted to these columns, for the rows on their way to it."""
    return replace(plan, reason=None, columns=tuple(columns), context_default=None, sentinel=None)


def as_given(item: ColumnPlan) -> ColumnPlan:
    """Return the plan of a column that rows give, in which ``None`` is NULL."""
    return replace(item, absent=Absent.NULL, default=None, plain_default=None, is_version=False)


def as_made(item: ColumnPlan, make: Callable[[], Any]) -> ColumnPlan:
    """Return the plan of a column for which a function makes the value of each row."""
    return replace(
        item,
        absent=Absent.DEFAULT,
        default=lambda _: make(),
        plain_default=None,
        is_version=False,
        is_of_class=True,
    )


def _of_upsert(
    plan: InsertPlan, given: Collection[str], constants: Mapping[str, Any]
) -> Iterator[ColumnPlan]:
    """Yield the columns that rows give, in which ``None`` is NULL; and those with a default in
    Python. A version that the rows give is among them, as in ``insert().on_conflict_do_update()``.
    """
    for item in plan.columns:
        if item.attribute in given:
            yield as_given(item)
        elif item.is_version and plan.mapper.version_id_generator is False:
            # The database generates it.
            continue
        elif item.attribute is not None and item.attribute in constants:
            yield as_made(item, partial(constants.get, item.attribute))
        elif item.absent is Absent.DEFAULT:
            yield item


@contextmanager
def staging(
    connection: Connection,
    plan: InsertPlan,
    computed: Mapping[str, str],
    *,
    by_copy: bool,
    kept: list[Mapping[str, Any]] | None,
) -> Iterator[Staging]:
    """Create a temporary table for the block. An upsert may run inside another (for example when
    its rows come from a generator that upserts), so each table has a name of its own.
    """
    info = connection.info
    depth = info.get(_DEPTH, 0) + 1
    info[_DEPTH] = depth
    try:
        staged = Staging(connection, plan, computed, by_copy=by_copy, kept=kept, depth=depth)
        try:
            yield staged
        except BaseException as error:
            # A failed transaction removes the table; and it may have failed although the error
            # raised here is not the database's. A cancelled task has lost its connection.
            lost = connection.closed or connection.invalidated
            lives = not lost and connection.in_transaction()
            if lives and (not isinstance(error, DBAPIError) or autocommits(connection)):
                with suppress(DBAPIError):
                    staged.drop()
            raise
        staged.drop()
    finally:
        info[_DEPTH] = depth - 1
