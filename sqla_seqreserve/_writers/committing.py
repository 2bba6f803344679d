"""Whether a message may carry its COMMIT: whether nothing that comes back of its statements could
make SQLAlchemy, or a listener, refuse what is committed by then.

An INSERT whose keys are known brings nothing back. One that brings back a key is refused by
SQLAlchemy where that does not come, which a trigger or a rule may cause: so what is known of its
table is compared under the table's lock, in the same message. Rows of an UPDATE or DELETE are
counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from .. import _reasons as why
from .._drivers import driver_on
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.server import server_of
from .._reasons import Reason
from .._sqlalchemy.committing import acts_after_insert
from .._sqlalchemy.engine import sees_the_present
from .._sqlalchemy.listeners import refusal_between
from .._sqlalchemy.mapping import result_processor
from .letters import Letter

UNKNOWN: Final = (
    "The COMMIT travelled with the flush, and no answer came: it is not known whether the "
    "transaction was committed"
)
"""The note of an error."""

Numbered: TypeAlias = tuple[TableFacts, str]
"""A table whose INSERT brings back a key, and the column that is numbered."""

_WHOLE_NUMBERS: Final = frozenset({"int2", "int4", "int8"})


def compared_for_commit(
    connection: Connection, letters: Sequence[Letter]
) -> Sequence[Numbered] | Reason:
    """What is to be compared before these statements, so that the COMMIT may go behind them; or why
    it may not. No I/O happens.
    """
    if any(letter.is_counted for letter in letters):
        return why.COUNTED
    reason = refusal_between(connection, several=len(letters) > 1)
    if reason is not None:
        return reason
    found: dict[str, Numbered] = {}
    for letter in letters:
        mapper, table = letter.mapper, letter.table
        if mapper is not None and acts_after_insert(mapper, table):
            return why.ACTS_AFTER_INSERT
        if not letter.statement.returning:
            continue
        name = catalogue.table_name(connection, table)
        for facts in catalogue.cached_facts(connection, [name]):
            column = numbered_column(connection, letter.statement.returning, facts)
            if column is None:
                return why.may_come_back_otherwise(name)
            found[name] = facts, column
        if name not in found:
            return why.NOT_LOOKED_AT
    if found and not can_compare(connection):
        return why.OLD_SNAPSHOT
    return list(found.values())


def can_compare(connection: Connection) -> bool:
    """Whether a comparison under a lock sees the present."""
    driver = driver_on(connection)
    return server_of(connection).reason is None and (
        sees_the_present(connection)
        or (driver is not None and driver.transaction_status(connection.connection) == "idle")
    )


def numbered_column(
    connection: Connection, returning: Sequence[Any], facts: TableFacts
) -> str | None:
    """The column that a sequence numbers, where it is the only one that comes back, and certainly
    does.
    """
    if len(returning) != 1 or not facts.lockable or facts.distributed:
        return None
    if facts.before_insert_triggers or facts.insert_rules:
        return None
    [column] = returning
    known = facts.columns.get(catalogue.stored_name(column.name))
    if known is None or known.sequence is None or known.type_name not in _WHOLE_NUMBERS:
        return None
    if result_processor(column.type, connection.dialect) is not None:
        return None
    return known.name
