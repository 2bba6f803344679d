"""Sorts changed rows by kind. The rows of a kind set the same columns.

SQLAlchemy begins a new UPDATE with each object that changes other columns than the object before
it, so an import that changes different columns of its objects needs almost one statement for each
object. If the order in which the rows of a table are changed has no visible effect (no trigger, no
rule, no column of a unique index), the rows are sorted and need one statement for each kind. Before
that they are locked in the order in which SQLAlchemy would change them, so that two flushes of the
same objects do not deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Integer, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.functions import current_timestamp, now

from .._database import known_of
from .._drivers import Driver, may_compare
from .._drivers.execution import run_on_driver
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.server import server_of
from .._ids.table_names import quoted, table_name
from .._routes import WORK, Distance
from .._sqlalchemy.changes import (
    has_version,
    key_parameters,
    update_kind,
    updated_columns,
)
from .._sqlalchemy.engine import sends_as_it_is
from .._sqlstate import LOCK_NOT_AVAILABLE, sqlstate_of
from .executemany import runs, table_reason, undo_comparison
from .many_sql import UNDO, comparison
from .queued import Command

_FEWEST: Final = 12
"""The smallest number of saved statements for which sorting is considered."""

_STATEMENT: Final = 40.0
"""Microseconds that one statement of a message costs."""

_FIXED: Final = 800.0
"""Microseconds that the statement that locks the rows costs beside its round trip."""


def in_kinds(
    connection: Connection,
    driver: Driver | None,
    mapper: Mapper[Any],
    table: Table,
    commands: Sequence[Command],
    *,
    gathers: bool,
    send_waiting: Callable[[], object],
) -> Sequence[Command]:
    """The commands sorted by kind, with their rows locked, if that costs less; otherwise the
    commands as given.

    :param gathers: without sorting, their statements would travel in one message.
    :param send_waiting: called before anything is sent.
    """
    if driver is None:
        return commands
    shapes = [frozenset(command[2]) for command in commands]
    kinds = dict.fromkeys(shapes)
    spared = runs(shapes) - len(kinds)
    if spared < _FEWEST or not _pays(connection, spared, gathers=gathers):
        return commands
    if not all(map(_is_simple, commands)) or updated_columns(mapper, table, has_defaults=False):
        return commands
    if _fills_by_query(table):
        return commands
    (column, key), *others = key_parameters(mapper, table)
    if (others and not has_version(mapper, table)) or not isinstance(column.type, Integer):
        return commands
    numbers = [command[2].get(key) for command in commands]
    if set(map(type, numbers)) != {int} or len(set(numbers)) < len(numbers):
        return commands
    if not _may_be_held(connection, driver):
        return commands
    send_waiting()
    name = table_name(connection, table)
    facts = catalogue.table_facts(connection, [name])[name]
    if facts is None or _order_matters(facts, table, kinds):
        return commands
    if not _locked(connection, driver, facts, column.name, numbers):
        return commands
    rows: dict[frozenset[str], list[Command]] = {shape: [] for shape in kinds}
    for shape, command in zip(shapes, commands, strict=True):
        rows[shape].append(command)
    return [command for each in rows.values() for command in each]


def _pays(connection: Connection, spared: int, *, gathers: bool) -> bool:
    round_trip = known_of(connection.dialect, Distance).round_trip
    each = _STATEMENT + (0.0 if gathers else max(round_trip - WORK, 0.0))
    return spared * each > round_trip + _FIXED


def _is_simple(command: Command) -> bool:
    """Whether a row is changed to plain values, and its key need not come back."""
    _, _, has_expressions, _, has_keys = update_kind(command)
    return has_keys and not has_expressions


def _fills_by_query(table: Table) -> bool:
    """Whether an SQL expression fills a column of each changed row, and may read rows that were
    changed before.
    """
    found: list[Any] = [column.onupdate for column in table.columns if column.onupdate is not None]
    return any(
        default.is_clause_element and not isinstance(default.arg, now | current_timestamp)
        for default in found
    )


def _may_be_held(connection: Connection, driver: Driver) -> bool:
    """Whether the known facts of a table can be compared, and whether no listener changes the
    statements.
    """
    return (
        connection.dialect.name == "postgresql"
        and server_of(connection).reason is None
        and may_compare(connection, driver)
        and sends_as_it_is(connection)
    )


def _order_matters(facts: TableFacts, table: Table, kinds: Iterable[frozenset[str]]) -> bool:
    """Whether the order in which rows of these kinds are changed may have a visible effect."""
    if table_reason(facts, "update") is not None:
        return True
    assigned = {
        column.name for column in table.columns if column.onupdate or column.server_onupdate
    }
    for kind in kinds:
        assigned.update(table.columns[key].name for key in kind if key in table.columns)
    return bool(facts.unique_columns_set_by(assigned))


def _locked(
    connection: Connection, driver: Driver, facts: TableFacts, column: str, numbers: Sequence[int]
) -> bool:
    """Lock the rows with these keys, in key order. Return False if a row is gone, if the lock is
    not available in time, or if the table's facts have changed.
    """
    name, failure = quoted(column), connection.dialect.loaded_dbapi.Error
    wanted = ",".join(map(str, numbers))
    counted = (
        f"SELECT 1 / (count(*) = {len(numbers)})::int FROM (SELECT FROM {facts.name} "  # noqa: S608  # quoted names, and numbers
        f"WHERE {name} = ANY ('{{{wanted}}}'::bigint[]) ORDER BY {name} FOR NO KEY UPDATE) AS found"
    )
    held = True

    def lock(cursor: Any, statement: str, _: Any) -> None:
        nonlocal held
        *compared, release = comparison(facts, "update")
        try:
            driver.script(cursor, [*compared, statement, release])
        except failure as error:
            if sqlstate_of(error) == LOCK_NOT_AVAILABLE:
                # The UPDATE will wait for the lock itself, and raise the error.
                driver.script(cursor, UNDO)
            elif not undo_comparison(driver, cursor, error, failure):
                raise
            held = False

    run_on_driver(connection, counted, {}, lock)
    if not held:
        catalogue.forget(connection, [facts.name])
    return held
