"""Makes rows of ``insert(M)`` alike if some of them have no value for a column.

SQLAlchemy leaves NULL out of an INSERT of rows, so that a default of the database applies, and
begins a new statement with each row whose columns differ from those of the row before. Rows with
NULL in different columns need almost one statement each. If neither the model nor the database
fills a column, an explicit NULL means the same as no value, and the rows can be one statement. The
lock of an INSERT is taken first, so that nobody adds a default in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

from sqlalchemy import Column, Connection, Table
from sqlalchemy.orm import Mapper, Session

from .._drivers import driver_on, transaction_status
from .._ids import catalogue
from .._ids.catalogue import ColumnFacts, TableFacts
from .._ids.fetch import Wanted
from .._ids.reserve import hindrance, take_until_held
from .._ids.server import server_of
from .._ids.table_names import stored_name, table_name
from .._rows.plan import insert_plan
from .._rows.refusals import cast_reason, is_own
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import (
    attributes_to_columns,
    has_bind_expression,
    is_attribute,
    is_filled_by_mapper,
    is_sentinel,
    of_dialect,
    renders_none,
)
from .._sqlalchemy.session import connection_of_rows
from .._sqlalchemy.statement_classes import Rows
from .executemany import runs, table_reason

_SAMPLE: Final = 128
"""About this many rows are compared to find out whether rows differ in their columns."""

_SPARED: Final = 10
"""The smallest number of saved statements that is worth the lock and the comparison."""


def rows_alike(
    session: Session, connection: Connection, mapper: Mapper[Any], rows: Rows, *, returns: bool
) -> Rows | None:
    """The rows with NULL for the values that they do not give; ``None`` if that would change their
    meaning, or save too little.

    :param connection: the connection that the statement will be executed on.
    :param returns: values come back. SQLAlchemy then casts the values of several rows to the
        model's types, but not those of a single row.
    """
    if len(rows) <= _SPARED or not all(issubclass(cls, dict) for cls in set(map(type, rows))):
        return None
    if not _differ(rows):
        return None
    statements = runs(map(_given, rows))
    if statements <= _SPARED or not _is_ours(connection):
        return None
    if connection_of_rows(session, mapper) is not connection:
        return None
    tables = mapper.tables
    if len(tables) != 1 or not isinstance(tables[0], Table) or _looks_at_rows(mapper, tables[0]):
        return None
    facts = _held(connection, tables[0])
    # Only within one statement may a row refer to a later row.
    if facts is None or facts.references_itself or table_reason(facts, "insert") is not None:
        return None
    plan = insert_plan(mapper, tables[0], facts, connection.dialect)
    # A default with a context may read the values that its row gives.
    if plan.context_default is not None or (returns and cast_reason(plan, rows) is not None):
        return None
    columns = attributes_to_columns(mapper, tables[0])
    given = {key for row in rows for key in row}
    if any(map(_may_look_at_rows, facts.columns.values())):
        return None
    if any(key not in columns and is_attribute(mapper, key) for key in given):
        # A composite or a hybrid: the columns that it sets, and their NULLs, are not known here.
        return None
    null = {key for row in rows for key, value in row.items() if value is None}
    blank: dict[str, None] = {}
    for key in given:
        column = columns.get(key)
        if column is None or renders_none(mapper, column):
            null.discard(key)
        elif _is_blank_without(connection, mapper, column, facts):
            blank[key] = None
    # From here on a given NULL is sent. Remove those that would replace a default.
    alike = _without(rows, null.difference(blank))
    if any(len(row) < len(given) for row in alike):
        alike = [{**blank, **row} for row in alike]
    return alike if statements - runs(map(frozenset[str], alike)) >= _SPARED else None


def _without(rows: Rows, null: set[str]) -> Rows:
    """The rows without these keys where the value is NULL."""
    if not null:
        return rows
    return [
        {key: value for key, value in row.items() if value is not None or key not in null}
        for row in rows
    ]


def _looks_at_rows(mapper: Mapper[Any], table: Table) -> bool:
    """Whether an SQL expression, of a default or an attribute, may read earlier rows."""
    return any(
        column.default is not None and column.default.is_clause_element for column in table.columns
    ) or not all(
        isinstance(column, Column) for prop in mapper.column_attrs for column in prop.columns
    )


def _may_look_at_rows(column: ColumnFacts) -> bool:
    """Whether the database default of a column may call a function that reads earlier rows."""
    is_known = column.sequence is not None or column.surely_read or column.type_name == "uuid"
    return column.fills_itself and not is_known


def _differ(rows: Rows) -> bool:
    """Whether rows differ in the columns that they give, judged by a sample."""
    here_and_there = rows[:: len(rows) // _SAMPLE or 1]
    return len(set(map(_given, chain(rows[:_SAMPLE], here_and_there)))) > 1


def _given(row: Mapping[str, Any]) -> frozenset[str]:
    """The keys with a value. SQLAlchemy begins a new statement when they change."""
    return frozenset([key for key, value in row.items() if value is not None])


def _is_ours(connection: Connection) -> bool:
    """Whether a table can be locked, and whether no listener changes the statements."""
    return (
        connection.dialect.name == "postgresql"
        and driver_on(connection) is not None
        and server_of(connection).reason is None
        and hindrance(connection, transaction_status(connection)) is None
        and interference_on(connection) is None
    )


def _held(connection: Connection, table: Table) -> TableFacts | None:
    """Lock a table, and return its facts, compared under the lock; ``None`` if that fails."""
    name = table_name(connection, table)

    def look() -> Wanted | None:
        facts = catalogue.table_facts(connection, [name])[name]
        return None if facts is None or not facts.lockable else Wanted((), [facts])

    found = take_until_held(connection, look)
    return found[0].tables[0] if found is not None else None


def _is_blank_without(
    connection: Connection, mapper: Mapper[Any], column: Any, facts: TableFacts
) -> bool:
    """Whether a row without a value for the column is stored like a row that gives NULL."""
    if not isinstance(column, Column) or column.primary_key or is_sentinel(column):
        return False
    if column.default is not None or column.server_default is not None:
        return False
    if is_filled_by_mapper(mapper, column):
        return False
    # A type of the application's own may convert None to something else.
    if not is_own(column.type) or has_bind_expression(column.type, connection.dialect):
        return False
    # So may the type's variant for this database, and JSON.
    variant = of_dialect(column.type, connection.dialect)
    if not is_own(variant) or variant.should_evaluate_none:
        return False
    stored = facts.columns.get(stored_name(column.name))
    return stored is not None and not (
        stored.fills_itself or stored.generated or stored.domain is not None
    )
