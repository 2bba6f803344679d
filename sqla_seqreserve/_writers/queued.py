"""Statements that wait for the message that they travel in, and the steps after each is executed.

SQLAlchemy's own steps decide how a row is written, its ``_postfetch`` gets the returned values, and
its rules check the number of rows that an UPDATE or DELETE found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar, cast

from sqlalchemy import Connection, Insert, Table, Update
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import FlushError

from .._drivers import Returned
from .._sqlalchemy.changes import (
    LinkKind,
    check_deleted,
    check_links,
    check_updated,
    delete_statement,
    has_version,
    link_statement,
    postfetch_update,
    update_statement,
    updated_columns,
)
from .._sqlalchemy.engine import StatementContext, statement_context
from .._sqlalchemy.made_values import MadeValues
from .._sqlalchemy.mapping import (
    key_columns,
    prefers_eager_defaults,
    returns_every_column,
    server_default_columns,
)
from .._sqlalchemy.persistence import insert_statement, postfetch
from .._sqlalchemy.unit_of_work import State

Command: TypeAlias = tuple[Any, ...]
"""What ``_collect_insert_commands`` or ``_collect_update_commands`` yields for a row."""

_Statement = TypeVar("_Statement", Insert, Update)

Keep: TypeAlias = Callable[["QueuedStatement"], None]


@dataclass(slots=True, eq=False)
class QueuedStatement:
    """One statement: its context, the objects of its rows, and its results.

    :param keep: sets the results on the objects as SQLAlchemy does, and checks them.
    :param mark: how far the flush had come when the statement was made.
    :param fills: the objects get values from it, such as keys, when it is executed.
    :param mapper: set for an INSERT or UPDATE of objects.
    :param is_counted: SQLAlchemy raises an error if the number of rows is not the expected one.
    """

    statement: StatementContext
    table: Table
    states: Sequence[State]
    keep: Keep
    mark: int
    fills: bool = True
    mapper: Mapper[Any] | None = None
    is_counted: bool = True
    end: int = 0
    """The length of the queue after all rows that SQLAlchemy would send as one statement."""
    returned: list[Returned] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of the table's rows that the statement wrote or matched."""
        return sum(back.count for back in self.returned)


# INSERT


def is_plain(connection: Connection, mapper: Mapper[Any], table: Table, command: Command) -> bool:
    """Whether nothing comes back: SQLAlchemy's "we don't need newly generated values back" case."""
    _, _, _, _, _, expressions, has_keys, has_defaults = command
    return (
        has_keys
        and not expressions
        and (has_defaults or not prefers_eager_defaults(mapper, connection.dialect, table))
    )


def inserts(
    connection: Connection,
    uow: Any,
    base_mapper: Mapper[Any],
    mapper: Mapper[Any],
    table: Table,
    commands: Sequence[Command],
    made: MadeValues | None,
    mark: int,
) -> list[QueuedStatement]:
    """The INSERTs that SQLAlchemy makes for rows of a kind.

    :param made: values of these rows that the types' bind processors have already processed.
    """
    returned: list[Any] = []
    plain, several = is_plain(connection, mapper, table, commands[0]), False
    if not plain:
        _, _, _, _, _, expressions, _, has_defaults = commands[0]
        if not has_defaults and prefers_eager_defaults(mapper, connection.dialect, table):
            every = returns_every_column(mapper, table)
            returned += table.columns if every else server_default_columns(mapper, table)
        if mapper.version_id_col is not None:
            returned.append(mapper.version_id_col)
        several = len(commands) > 1 and not expressions
    statement = insert_statement(base_mapper, table, tuple(returned), several=several)
    of_several = len(commands) > 1
    groups = [commands] if plain or several else [[command] for command in commands]
    return [
        QueuedStatement(
            statement_context(
                connection,
                base_mapper,
                _with(statement, _expressions(some)),
                [command[2] for command in some],
                made=made,
            ),
            table,
            [command[0] for command in some],
            partial(_keep_inserted, uow, mapper, some, of_several),
            mark,
            fills=not plain,
            mapper=mapper,
            is_counted=False,
        )
        for some in groups
    ]


def _expressions(commands: Sequence[Command]) -> Mapping[Any, Any]:
    """The SQL expressions of rows of a kind: rows that have any are written one by one."""
    _, _, _, _, _, expressions, _, _ = commands[0]
    return cast("Mapping[Any, Any]", expressions)


def _with(statement: _Statement, expressions: Mapping[Any, Any]) -> _Statement:
    return statement.values(expressions) if expressions else statement


def _keep_inserted(
    uow: Any,
    mapper: Mapper[Any],
    commands: Sequence[Command],
    of_several: bool,
    entry: QueuedStatement,
) -> None:
    """Set the results of an INSERT on its objects as SQLAlchemy does."""
    insert, table = entry.statement, entry.table
    if not insert.returning:
        for position, (state, row, *_) in enumerate(commands):
            postfetch(uow, table, state, row, insert, position, {}, None)
        return
    # The rows of one statement come back in any order; their last value is their sort key.
    rows = [row for back in entry.returned for row in _in_order(back.rows)]
    if len(rows) != len(commands):
        found = commands[0][3]
        raise FlushError((_MANY_LOST if of_several else _ONE_LOST).format(found))
    for position, (command, came_back) in enumerate(zip(commands, rows, strict=True)):
        state, row, _, found, _, expressions, *_ = command
        values = _processed(entry, came_back)
        came = dict(zip(insert.returning, values, strict=True))
        given = insert.compiled_parameters(position)
        for column in key_columns(mapper, table):
            attribute = found.get_property_by_column(column).key
            if column in expressions or row.get(attribute) is None:
                row[attribute] = came[column] if column in came else given.get(str(column.key))
        postfetch(uow, table, state, row, insert, position, expressions, values)


def _processed(entry: QueuedStatement, row: Sequence[Any]) -> list[Any]:
    """The returned values, converted to attribute values."""
    processors = entry.statement.processors(entry.returned[0].oids)
    return [
        processor(value) if processor is not None else value
        for value, processor in zip(row, processors, strict=False)
    ]


_ONE_LOST: Final = (
    "Single-row INSERT statement for {} did not produce a new primary key result being invoked.  "
    "Ensure there are no triggers or special driver issues preventing INSERT from functioning "
    "properly."
)
_MANY_LOST: Final = (
    "Multi-row INSERT statement for {} did not produce the correct number of INSERTed rows for "
    "RETURNING.  Ensure there are no triggers or special driver issues preventing INSERT from "
    "functioning properly."
)


def _in_order(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    return rows if len(rows) < 2 else sorted(rows, key=itemgetter(-1))


# UPDATE, DELETE and link rows


@dataclass(slots=True, eq=False)
class _Count:
    """The rows that SQLAlchemy counts together: how many are expected, and how many the executed
    statements found.

    :param check: called with both numbers after all statements are executed.
    """

    expected: int
    check: Callable[[int, int], None] | None
    executed: int = 0
    found: int = 0

    def add(self, entry: QueuedStatement, rows: int) -> None:
        self.executed += rows
        self.found += entry.count
        if self.executed == self.expected and self.check is not None:
            self.check(self.expected, self.found)


def updates(
    connection: Connection,
    uow: Any,
    base_mapper: Mapper[Any],
    mapper: Mapper[Any],
    table: Table,
    commands: Sequence[Command],
    mark: int,
) -> Iterator[QueuedStatement]:
    """The UPDATEs that SQLAlchemy makes for rows of a kind."""
    _, _, _, _, _, expressions, has_defaults, _ = commands[0]
    returned = updated_columns(mapper, table, has_defaults=has_defaults)
    statement = update_statement(base_mapper, mapper, table, returned)
    apart = bool(expressions or returned) or has_version(mapper, table)
    groups = [[command] for command in commands] if apart else [commands]
    is_counted = apart or len(commands) == 1 or connection.dialect.supports_sane_multi_rowcount
    count = _Count(len(commands), partial(check_updated, table) if is_counted else None)

    def keep(some: Sequence[Command], entry: QueuedStatement) -> None:
        rows = [row for back in entry.returned for row in back.rows]
        for command in some:
            values = None
            if rows:
                values = _processed(entry, rows[0])
            postfetch_update(uow, table, command, entry.statement, values)
        count.add(entry, len(some))

    for some in groups:
        yield QueuedStatement(
            statement_context(
                connection,
                base_mapper,
                _with(statement, _expressions(some)),
                [command[2] for command in some],
            ),
            table,
            [command[0] for command in some],
            partial(keep, some),
            mark,
            mapper=mapper,
        )


def deletes(
    connection: Connection,
    base_mapper: Mapper[Any],
    mapper: Mapper[Any],
    table: Table,
    rows: Sequence[dict[str, Any]],
    states: Sequence[State],
    mark: int,
) -> Iterator[QueuedStatement]:
    """The DELETEs that SQLAlchemy makes for rows of a class."""
    statement = delete_statement(base_mapper, mapper, table)
    is_sane = connection.dialect.supports_sane_multi_rowcount
    apart = has_version(mapper, table) and not is_sane
    groups = [[row] for row in rows] if apart else [rows]
    is_counted = (is_sane or len(rows) == 1) and base_mapper.confirm_deleted_rows
    check = partial(check_deleted, base_mapper, mapper, table) if is_counted else None
    count = _Count(len(rows), check)
    for some in groups:
        yield QueuedStatement(
            statement_context(connection, base_mapper, statement, some),
            table,
            states,
            partial(_counted, count, len(some)),
            mark,
            fills=False,
            is_counted=is_counted,
        )


def links(
    connection: Connection,
    secondary: Table,
    kind: LinkKind,
    rows: Sequence[dict[str, Any]],
    mark: int,
) -> QueuedStatement:
    """The statement that SQLAlchemy makes for link rows."""
    is_counted = connection.dialect.supports_sane_multi_rowcount
    count = _Count(len(rows), partial(check_links, secondary, kind) if is_counted else None)
    return QueuedStatement(
        statement_context(connection, connection, link_statement(secondary, kind, rows[0]), rows),
        secondary,
        [],
        partial(_counted, count, len(rows)),
        mark,
        fills=False,
        is_counted=kind != "insert",
    )


def _counted(count: _Count, rows: int, entry: QueuedStatement) -> None:
    count.add(entry, rows)
