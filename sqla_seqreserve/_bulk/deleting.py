"""Implements ``bulk_delete``: the keys are staged, their rows are found and locked in order, then
deleted from each table, subclasses first, all within one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, and_, func, select
from sqlalchemy import delete as core_delete
from sqlalchemy.orm import Mapper, Session

from .._ids import catalogue
from .._ids.table_names import table_name
from .._mistakes import no_such_table
from .._reasons import Reason
from .._rows.plan import InsertPlan, insert_plan
from .._rows.table import ColumnRows
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import key_columns, tables_in_order, writes_to
from ..errors import ConfigurationError, InvalidRowsError, RowProblem
from ..reports import Writer
from .class_tables import ClassTables
from .input import STREAMED, Chunk, check_chunk_rows, within
from .matching import Matching
from .row_by_row import execute_singly
from .sending import send
from .staged_rows import Source, named
from .target import Target, row_by_row_reason


@dataclass(slots=True, eq=False)
class Deleted:
    """How many rows were deleted, and their ``keys`` if the caller wants them."""

    rows: int = 0
    writer: Writer = "insert"
    reason: Reason | None = None
    keys: list[tuple[Any, ...]] = field(default_factory=list)


def delete_rows(
    session: Session,
    connection: Connection,
    mapper: Mapper[Any],
    keys: Any,
    *,
    wants_keys: Callable[[], bool],
    progress: Callable[[int], object] | None,
    chunk_rows: int | None,
) -> Deleted:
    """Delete the rows with these keys.

    :param wants_keys: whether the caller wants the keys of the deleted rows; asked when all keys
        are there.
    """
    class_tables = ClassTables(session, connection, mapper, progress)
    stream = within(session, keys, _chunks(keys, chunk_rows, class_tables))
    first = next(stream, None)
    if first is None:
        return Deleted()
    pinned = class_tables.pin() is not None
    target = Target(class_tables, "bulk_delete()")
    tables = tables_of(connection, target)
    attributes = class_tables.attributes
    required = dict.fromkeys(attributes, "is None, which is no key of a row")
    _, values = class_tables.check(first, 0, required, attributes)
    staged = target.staged(attributes, {})
    interference = interference_on(connection)
    reason = interference or row_by_row_reason(tables.values(), "delete")

    def write(source: Source, total: int, _: object) -> Deleted:
        plans = {item.attribute: item for item in source.plan.columns}
        matching = Matching(source, target, [plans[name] for name in attributes], total)
        # A single row needs no order of locks.
        found = matching.found(locked=target.lockable(connection) if total > 1 else ())
        return delete_found(
            connection,
            list(tables.items()),
            matching.keys_of(found),
            wants_keys=wants_keys(),
            singly=bool(reason),
        )

    return send(
        class_tables,
        staged,
        first,
        values,
        stream,
        write,
        pinned=pinned,
        reason=reason,
        check=lambda chunk, start: class_tables.check(chunk, start, required, attributes)[1],
    )


def _chunks(keys: Any, chunk_rows: int | None, class_tables: ClassTables) -> Iterator[Chunk]:
    """Turn the keys into rows of the key's attributes, chunk by chunk."""
    check_chunk_rows(chunk_rows)
    if isinstance(keys, str | bytes | Mapping) or not isinstance(keys, Iterable):
        raise ConfigurationError(
            "keys must be an iterable of keys, a tuple for one of several columns, found "
            f"{type(keys).__name__}"
        )
    most = chunk_rows or (len(keys) if isinstance(keys, Sequence) else STREAMED)
    return _by_column(iter(keys), max(most, 1), class_tables)


def _by_column(keys: Iterator[Any], most: int, class_tables: ClassTables) -> Iterator[Chunk]:
    attributes, start = class_tables.attributes, 0
    while chunk := list(islice(keys, most)):
        if len(attributes) == 1:
            columns: list[Sequence[Any]] = [chunk]
        else:
            _check_tuples(chunk, start, class_tables)
            columns = list(zip(*chunk, strict=True))
        yield ColumnRows(dict(zip(attributes, columns, strict=True)), len(chunk))
        start += len(chunk)


def _check_tuples(keys: Sequence[Any], start: int, class_tables: ClassTables) -> None:
    width, name = len(class_tables.attributes), ", ".join(class_tables.attributes)
    problems = [
        RowProblem(index, name, f"expected a tuple of {width} values, found {key!r}", "no tuple")
        for index, key in enumerate(keys, start)
        if isinstance(key, str | bytes) or not isinstance(key, Sequence) or len(key) != width
    ]
    if problems:
        raise InvalidRowsError(
            f"{class_tables.mapper.class_.__name__}: {len(problems)} keys are none of its; nothing "
            "was deleted",
            problems,
        )


def tables_of(connection: Connection, target: Target) -> dict[Table, InsertPlan]:
    """Return the tables that store rows of the class, subclasses first."""
    mapper = target.mapper
    classes = list(_storing(mapper))
    found: dict[Table, InsertPlan] = {}
    for table, _ in tables_in_order(mapper.base_mapper):
        owner = next((each for each in classes if writes_to(each, table)), None)
        if owner is None:
            continue
        name = table_name(connection, table)
        facts = catalogue.table_facts(connection, [name])[name]
        if facts is None:
            raise no_such_table(name)
        found[table] = insert_plan(owner, table, facts, connection.dialect)
    return dict(reversed(found.items()))


def _storing(mapper: Mapper[Any]) -> Iterator[Mapper[Any]]:
    """Yield the class, and the subclasses whose objects have a row in its table. A concrete
    subclass has tables of its own, in which equal keys are those of other rows.
    """
    yield mapper
    for each in mapper.self_and_descendants:
        if each.inherits is mapper and not each.concrete:
            yield from _storing(each)


def delete_found(
    connection: Connection,
    plans: Sequence[tuple[Table, InsertPlan]],
    keys: Sequence[Any],
    *,
    wants_keys: bool,
    singly: bool,
) -> Deleted:
    """Delete the rows that a statement finds.

    :param plans: the tables, subclasses first.
    :param keys: the key columns of a CTE that finds the rows and locks them.
    :param wants_keys: whether the caller wants the keys of the deleted rows.
    :param singly: whether to send one statement per row.
    """
    if singly:
        rows = [tuple(row) for row in connection.execute(select(*keys).distinct())]
        count = len(rows)
        for table, plan in plans:
            stored = key_columns(plan.mapper, table)
            count = execute_singly(connection, core_delete(table), stored, rows)
        return Deleted(count, keys=rows)
    written: list[Any] = []
    for index, (table, plan) in enumerate(plans):
        stored = key_columns(plan.mapper, table)
        same = and_(*(a == b for a, b in zip(stored, keys, strict=True)))
        statement = core_delete(table).where(same).returning(*stored)
        written.append(statement.cte(named(f"deleted_{index}")))
    *others, last = written
    if not wants_keys:
        counted = select(func.count()).select_from(last).add_cte(*others)
        return Deleted(connection.execute(counted).scalar_one())
    rows = [tuple(row) for row in connection.execute(select(*last.c).add_cte(*others))]
    return Deleted(len(rows), keys=rows)
