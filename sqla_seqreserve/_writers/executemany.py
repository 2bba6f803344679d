"""Sends a statement that SQLAlchemy would execute once for each row as one statement for all rows.

A flush's UPDATEs, DELETEs and link rows, the bulk statements of a session and the legacy ``bulk_*``
methods all end in an ``executemany()``. psycopg2 makes one round trip for each row of it. Here the
rows travel as one array for each column, and the statement that SQLAlchemy compiled reads from the
arrays (``_writers.many_sql``). It is executed on SQLAlchemy's own cursor within its own
``do_executemany`` event, so the row count that SQLAlchemy checks, its events, its log and its
errors do not change.

The same message compares the known facts of the table, under the table lock that the statement
takes anyway. This happens before the statement begins, because a statement trigger is called even
if the statement finds no row. If the facts no longer hold, nothing is written, and SQLAlchemy
executes row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from .. import _reasons as why
from .._drivers import CopyRows, Driver, driver_on, may_compare
from .._drivers.locking import LOCK_REFUSED
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.server import server_of
from .._ids.table_names import table_name
from .._reasons import Reason
from .._routes import FEWEST_RETURNING
from .._rows.arrays import ArrayText, array_text, distinguished
from .._rows.codecs import Codec, codec_for, value_table
from .._rows.copy_values import for_copy
from .._rows.model_types import Refusal
from .._sqlalchemy.executed import streams
from .._sqlalchemy.listeners import execution_elsewhere
from .._sqlalchemy.pages import Whole
from .._sqlalchemy.statements import StatementKind, is_in_schemas_of
from .._sqlstate import sqlstate_of
from .copy import copy_statement, no_copy_reason
from .many_costs import COPIED_FROM, copy_pays, pays
from .many_sql import (
    FAILED_COMPARISON,
    UNDO,
    Rewriting,
    comparison,
    many_statement,
    rewriting_of,
)
from .returned_keys import ReturnedKeys, may_be_taken, returned_keys

_STORED: Final[Mapping[str, str]] = {"numeric": "NUMERIC", "text": "TEXT", "varchar": "TEXT"}
"""The type that a value has for a column of these types if SQLAlchemy does not cast it: an untyped
string is a text, and a ``Decimal`` is numeric.
"""

_READ: Final = frozenset({"cidr", "inet", "macaddr", "macaddr8", "tsquery", "tsvector"})
"""Types without a length whose columns read an untyped string as arrays of the type do. Not used on
asyncpg, which converts most of these itself.
"""

_ANYTHING: Final = Codec(oid=0)


def write_many(
    cursor: Any, statement: str, parameters: Sequence[Any], context: Any, fewest: int | None
) -> int | Reason:
    """Execute the statement for all rows at once. Return the number of round trips, or why the
    statement must be executed row by row.

    :param parameters: the parameters of each row, as the driver takes them.
    :param fewest: the smallest number of rows written this way; ``None``: from when it costs less.
    """
    connection = context.root_connection
    driver = driver_on(connection)
    if driver is None or not driver.takes_scripts:
        return why.no_fast_path(context.dialect.driver)
    rows = len(parameters)
    is_whole = False
    if isinstance(parameters, Whole):
        is_whole, parameters = True, parameters.given
    elif not pays(driver, rows, connection, fewest):
        return why.FEW
    elsewhere = execution_elsewhere(context.dialect) or server_of(connection).reason
    if elsewhere is not None:
        return elsewhere
    if statement is not context.statement or parameters is not context.parameters:
        return why.STATEMENT_CHANGED
    if streams(context):
        # asyncpg streams the result; on other drivers, the server refuses the cursor.
        return why.NOT_PLAIN
    rewriting = rewriting_of(context, statement)
    if rewriting is None or (rewriting.returning and not is_whole):
        return why.NOT_PLAIN
    if not may_compare(connection, driver):
        return why.NOT_COMPARABLE
    if not is_in_schemas_of(connection, context):
        return why.OWN_SCHEMAS
    name = table_name(connection, rewriting.many.table)
    # Listeners do not see this query: they are in the middle of the statement's own events.
    facts = catalogue.table_facts(connection, [name], unheard=True)[name]
    if facts is None:
        return why.NO_TABLE
    kind = rewriting.many.kind
    reason = table_reason(facts, kind) or _order_reason(facts, rewriting)
    if reason is not None:
        if catalogue.is_in_doubt(connection, facts, rows):
            catalogue.forget(connection, [name])
        return reason
    prepared = _prepare(context, driver, rewriting, parameters, facts, fewest)
    if isinstance(prepared, Reason):
        return prepared
    failure = context.dialect.loaded_dbapi.Error
    try:
        return _send(connection, driver, cursor, rewriting, facts, prepared)
    except failure as error:
        if not undo_comparison(driver, cursor, error, failure):
            raise
        catalogue.forget(connection, [name])
        return why.ALTERED


@dataclass(frozen=True, slots=True)
class _Copied:
    """Rows that COPY writes. ``keys``: how their keys are taken first, if these come back."""

    rows: CopyRows
    keys: ReturnedKeys | None


_Arrays: TypeAlias = Mapping[str | int, ArrayText]
"""An array of values for each placeholder."""


def _prepare(
    context: Any,
    driver: Driver,
    rewriting: Rewriting,
    parameters: Sequence[Any],
    facts: TableFacts,
    fewest: int | None,
) -> _Copied | _Arrays | Reason:
    """Prepare the rows for COPY, or as arrays; or return why neither is possible."""
    connection = context.root_connection
    if rewriting.is_row and copy_pays(driver, len(parameters), connection, fewest):
        keys = None
        if rewriting.returning:
            given = rewriting.columns.values()
            keys = returned_keys(rewriting.returning, rewriting.many.table, facts, given)
        if keys is not None or not rewriting.returning:
            copied = _copy_rows(connection, rewriting, parameters, facts)
            if copied is not None:
                return _Copied(copied, keys)
    if rewriting.returning and not driver.scripts_return:
        return why.IN_PAGES
    return _arrays(connection, rewriting, parameters, facts, driver)


def _send(
    connection: Connection,
    driver: Driver,
    cursor: Any,
    rewriting: Rewriting,
    facts: TableFacts,
    prepared: _Copied | _Arrays,
) -> int:
    """Compare the facts of the table, and write the rows. Return the number of round trips."""
    compared = comparison(facts, rewriting.many.kind)
    if not isinstance(prepared, _Copied):
        driver.script(cursor, [*compared, many_statement(rewriting, prepared, facts)])
        return 1
    rows, keys = prepared.rows, prepared.keys
    if keys is None:
        driver.script(cursor, compared)
        driver.copy(cursor, copy_statement(facts.name, rows), rows)
    else:
        rows = keys.added(rows, keys.take(connection, driver, cursor, compared, len(rows)))
        # The result of the INSERT is read from the first cursor.
        beside = connection.connection.cursor()
        try:
            driver.copy(beside, copy_statement(facts.name, rows), rows)
        finally:
            beside.close()
    return 1 + driver.copy_round_trips


def _copy_rows(
    connection: Connection, rewriting: Rewriting, parameters: Sequence[Any], facts: TableFacts
) -> CopyRows | None:
    """The rows of an INSERT for COPY; ``None`` if COPY might not write them exactly."""
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
        if isinstance(ready, Reason):
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
    if driver.types == "asyncpg" and not binary:
        return None
    return CopyRows(names, columns, oids, binary, facts=facts)


def pays_whole(context: Any, fewest: int | None) -> bool:
    """Whether the rows of an INSERT that SQLAlchemy would divide into pages are written at once, as
    far as can be decided before anything is known of the table.

    :param fewest: as in :func:`pays`.
    """
    returned = context.compiled.effective_returning
    if fewest is None:
        fewest = FEWEST_RETURNING if returned else COPIED_FROM
    # Checked first, because most flushes have fewer rows.
    if len(context.parameters) < fewest:
        return False
    driver = driver_on(context.root_connection)
    if driver is None or not driver.takes_scripts:
        return False
    if returned and not driver.scripts_return and not may_be_taken(returned):
        return False
    return server_of(context.root_connection).reason is None


def runs(shapes: Iterable[frozenset[str]]) -> int:
    """How many statements SQLAlchemy makes for rows with these columns: it begins a new one with
    each row whose columns differ from those of the row before.
    """
    return 1 + sum(before != after for before, after in pairwise(shapes))


def table_reason(facts: TableFacts, kind: StatementKind) -> Reason | None:
    """Why the rows of a statement must be executed one by one because of their table; ``None`` if
    the table allows one statement.
    """
    if facts.kind not in {"r", "p"}:
        return why.not_a_table(facts.name, "not a table")
    if facts.row_security:
        return why.row_security(facts.name)
    if facts.distributed:
        return why.DISTRIBUTED_STATEMENT
    if kind in facts.watched:
        return why.watched_statement(facts.name, kind.upper())
    if facts.inherited:
        return why.inherited(facts.name)
    if not (facts.lockable if kind == "insert" else facts.row_lockable):
        return why.not_lockable(facts.name)
    return None


def _order_reason(facts: TableFacts, rewriting: Rewriting) -> Reason | None:
    """Why the order of the rows, or a check between two of them, may matter; ``None`` if not."""
    if rewriting.many.kind != "update":
        return why.rows_refer(facts.name) if facts.references_itself else None
    unique = facts.unique_columns_set_by(rewriting.assigned)
    if unique:
        return why.unique_columns(", ".join(unique))
    return None


def _arrays(
    connection: Connection,
    rewriting: Rewriting,
    parameters: Sequence[Any],
    facts: TableFacts,
    driver: Driver,
) -> _Arrays | Reason:
    """An array of values for each placeholder; or why there is none."""
    arrays = {}
    values_of: dict[str | int, Sequence[Any]] = {}
    table = value_table(connection.dialect)
    assert table is not None
    for each in rewriting.many.placeholders:
        values: Sequence[Any] = [row[each.key] for row in parameters]
        types = set(map(type, values))
        if list in types:
            types |= {type(item) for value in values if type(value) is list for item in value}
        types.discard(type(None))
        other = table.adapted_otherwise(connection, _ANYTHING, types)
        if other is not None:
            return why.adapted(str(each.key), other.__name__)
        values = values_of[each.key] = table.unwrapped(connection, values, each.cast)
        column = facts.columns.get(rewriting.columns.get(each.key, ""))
        stored = None
        if column is not None:
            is_read = driver.types != "asyncpg" and column.type_name in _READ
            as_it_is = not types or is_read or column.is_enum
            stored = column.type_text if as_it_is else _STORED.get(column.type_name)
        # How these types convert a number depends on the number's own type.
        is_alone = column is not None and not column.type_name.startswith(("oid", "reg"))
        array = array_text(values, each.cast, driver.types, stored, is_alone=is_alone)
        if array is None:
            return why.NOT_AN_ARRAY
        arrays[each.key] = array
    if rewriting.many.kind == "insert":
        return arrays
    keys = []
    for key in rewriting.keys:
        column = facts.columns.get(rewriting.columns.get(key, ""))
        named = None if column is None else column.type_name
        keys.append(distinguished(values_of[key], arrays[key].element, named))
    if not keys or None in keys or len(set(zip(*keys, strict=True))) < len(parameters):
        # With one statement for each row, the last one wins.
        return why.SAME_KEY
    return arrays


def undo_comparison(driver: Driver, cursor: Any, error: Any, failure: type[Exception]) -> bool:
    """Undo the lock and the comparison if one of them failed, and not the statement; return whether
    it did.

    :param failure: the class of the driver's errors.
    """
    state = sqlstate_of(error)
    if state != FAILED_COMPARISON and state not in LOCK_REFUSED:
        return False
    try:
        driver.script(cursor, UNDO)
    except failure:
        # The savepoint is gone, so the statement after it failed.
        return False
    return True
