"""Sends a statement that SQLAlchemy would execute once a row as one statement over all rows.

A flush's UPDATEs, DELETEs and link rows, the bulk statements of a session and the legacy ``bulk_*``
methods all end in an ``executemany()``. What psycopg2 makes of one is a round trip a row. Here the
rows travel as an array a column, and the statement that SQLAlchemy compiled reads from them
(``_writers.many_sql``). It is executed on SQLAlchemy's own cursor within its own ``do_executemany``
event, so the row count that it checks, its events, its log and its errors are as ever.

What is known of the table is compared in the same message, under the lock that the statement takes
of the table anyway, before the statement is begun: a trigger of the statement would be called even
by one that finds no row. Where it no longer holds nothing is done, and SQLAlchemy executes row by
row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from .. import _host as host
from .._drivers import CopyRows, Driver, driver_on
from .._drivers.locking import LOCK_REFUSED
from .._host.statements import Kind
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.distances import distance_to
from .._rows.arrays import ArrayText, array_text
from .._rows.codecs import Codec, Refusal, codec_for, value_table
from .._rows.division import for_copy
from .copy import copy_statement, no_copy_reason
from .many_sql import (
    FAILED_COMPARISON,
    UNDO,
    Rewriting,
    comparison,
    many_statement,
    rewriting_of,
)

__all__ = ["pays", "write_many"]

_FIXED: Final = 350.0
"""Microseconds that the server takes to plan such a statement, beside its rows."""

_ARRAY_ROW: Final = 8.0
"""Microseconds of a row that travels in arrays."""

_COPIED: Final = 200
"""So many new rows are written faster by COPY than from arrays."""

_UNTYPED: Final = frozenset({"text", "varchar"})
"""Types of a column to which an untyped string and a text are the same."""

_ANYTHING: Final = Codec(oid=0)


def write_many(
    cursor: Any, statement: str, parameters: Sequence[Any], context: Any, fewest: int | None
) -> str | None:
    """Execute the statement for all rows at once; or say why it must be executed row by row.

    :param parameters: of each row, as the driver takes them.
    :param fewest: the smallest number of rows to do so for; ``None``: where it pays.
    """
    connection = context.root_connection
    driver = driver_on(connection)
    if driver is None or not driver.takes_scripts:
        return f"driver {context.dialect.driver} has no fast path here"
    elsewhere = host.execution_elsewhere(context.dialect)
    if elsewhere is not None:
        return elsewhere
    rows = len(parameters)
    if not pays(driver, rows, connection, fewest):
        return "few rows"
    if statement is not context.statement or parameters is not context.parameters:
        return "a listener of the engine changed the statement"
    rewriting = rewriting_of(context, statement)
    if rewriting is None:
        return "the statement is more than its table, its values and its key"
    if driver.state(connection.connection) == "autocommit" or not host.sees_the_present(connection):
        return "nothing can be compared in this transaction"
    name = catalogue.table_name(connection, rewriting.many.table)
    facts = catalogue.table_facts(connection, [name])[name]
    if facts is None:
        return "the database has no such table"
    reason = _table_reason(facts, rewriting.many.kind)
    if reason is not None:
        return reason
    copied: CopyRows | None = None
    if rewriting.is_row and (fewest is not None or rows >= _COPIED):
        copied = _copy_rows(connection, rewriting, parameters, facts)
    arrays: Mapping[str | int, ArrayText] | str = {}
    if copied is None:
        arrays = _arrays(connection, rewriting, parameters, facts, driver)
    if isinstance(arrays, str):
        return arrays
    failure = context.dialect.loaded_dbapi.Error
    try:
        if copied is None:
            driver.script(cursor, [*comparison(facts), many_statement(rewriting, arrays, facts)])
        else:
            driver.script(cursor, comparison(facts))
            driver.copy(cursor, copy_statement(facts.name, copied), copied)
    except failure as error:
        if not _was_compared(driver, cursor, error, failure):
            raise
        catalogue.forget(connection, [name])
        return "the table was altered meanwhile, or cannot be locked"
    return None


def _copy_rows(
    connection: Connection, rewriting: Rewriting, parameters: Sequence[Any], facts: TableFacts
) -> CopyRows | None:
    """The rows of an INSERT as COPY writes them; ``None``: it might not write them exactly."""
    if no_copy_reason(connection) is not None or facts.before_insert_triggers:
        return None
    names, oids, columns, binary = [], [], [], True
    by_name = {column.name: column for column in rewriting.many.table.columns}
    for each in rewriting.many.placeholders:
        name = rewriting.columns[each.key]
        stored = facts.columns.get(name)
        if stored is None or stored.generated or stored.always_identity or name not in by_name:
            return None
        codec = codec_for(each.type, stored, connection.dialect)
        if isinstance(codec, Refusal):
            return None
        values = [row[each.key] for row in parameters]
        ready = for_copy(codec, by_name[name], values, connection, {})
        if isinstance(ready, str):
            return None
        converted, is_text = ready
        binary = binary and not is_text
        names.append(name)
        oids.append(codec.oid)
        columns.append(converted)
    driver = driver_on(connection)
    assert driver is not None
    if driver.refuses_types(connection.connection, oids) is not None:
        return None
    if driver.types != "psycopg":
        binary = driver.types == "asyncpg"
    return CopyRows(names, columns, oids, binary, facts=facts)


def pays(driver: Driver, rows: int, connection: Connection, fewest: int | None) -> bool:
    """Whether so many rows are written as one statement.

    :param fewest: the smallest number of rows to do so for; ``None``: where it costs less.
    """
    if fewest is not None:
        return rows >= fewest
    round_trip = distance_to(connection.dialect).round_trip
    spared = driver.executed_row - _ARRAY_ROW
    trips = rows - 1 if driver.executes_each else 0
    return rows > 1 and trips * round_trip + rows * spared > _FIXED


def _table_reason(facts: TableFacts, kind: Kind) -> str | None:
    if facts.kind not in {"r", "p"}:
        return f"{facts.name} is not a table"
    if facts.row_security:
        return f"{facts.name} has row-level security"
    if facts.distributed:
        return "Citus distributes the table"
    if kind in facts.watched:
        return f"{facts.name} has a rule or a statement trigger on {kind.upper()}"
    return None


def _arrays(
    connection: Connection,
    rewriting: Rewriting,
    parameters: Sequence[Any],
    facts: TableFacts,
    driver: Driver,
) -> Mapping[str | int, ArrayText] | str:
    """A column of values for each placeholder; or why there is none."""
    arrays = {}
    values_of: dict[str | int, list[Any]] = {}
    table = value_table(connection.dialect)
    assert table is not None
    for each in rewriting.many.placeholders:
        values = values_of[each.key] = [row[each.key] for row in parameters]
        types = set(map(type, values)) - {type(None)}
        other = table.adapted_otherwise(connection, _ANYTHING, types)
        if other is not None:
            return f"the driver has an adapter of its user's for {other.__name__}"
        stored = None
        if each.cast is None and driver.types == "text":
            column = facts.columns.get(rewriting.columns.get(each.key, ""))
            if column is not None and column.type_name in _UNTYPED:
                stored = "TEXT"
        array = array_text(values, each.cast, stored, has_ends=driver.types == "asyncpg")
        if array is None:
            return "a parameter holds values that an array might not hold exactly"
        arrays[each.key] = array
    keys = [values_of[key] for key in rewriting.keys]
    if rewriting.many.kind != "insert" and (
        not keys or len(set(zip(*keys, strict=True))) < len(parameters)
    ):
        # One statement a row lets the last win.
        return "two rows are for the same key"
    return arrays


def _was_compared(driver: Driver, cursor: Any, error: Any, failure: type[Exception]) -> bool:
    """Whether it was the lock or the comparison that failed; if so, undo that.

    :param failure: the class of the driver's errors.
    """
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state != FAILED_COMPARISON and state not in LOCK_REFUSED:
        return False
    try:
        driver.script(cursor, UNDO)
    except failure:
        # The savepoint is gone, so it was the statement behind it.
        return False
    return True
