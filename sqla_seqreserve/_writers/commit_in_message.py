"""Decides whether a message may carry its COMMIT: whether no result of its statements can make
SQLAlchemy, or a listener, raise an error after the rows are committed.

An INSERT whose keys are known returns nothing. If an INSERT should return a key and does not,
which a trigger or a rule may cause, SQLAlchemy raises an error. So the same message compares the
known facts of the table, under the table's lock. The server counts the rows that an UPDATE or
DELETE matches, before the COMMIT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import Boolean, Connection, Date, DateTime, Integer, String, Uuid

from .. import _reasons as why
from .._database import known_of
from .._drivers import reading_before_lock, transaction_status
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.server import server_of
from .._ids.table_names import TableName, stored_name, table_name
from .._reasons import Reason
from .._routes import Distance
from .._sqlalchemy.committing import acts_after_insert
from .._sqlalchemy.engine import sees_the_present
from .._sqlalchemy.listeners import refusal_between
from .._sqlalchemy.mapping import result_processor

if TYPE_CHECKING:
    from .queued import QueuedStatement

UNKNOWN: Final = (
    "The COMMIT travelled with the flush, and no answer came: it is not known whether the "
    "transaction was committed"
)
"""The note that is added to an error."""

Numbered: TypeAlias = tuple[TableFacts, str | None]
"""A table whose INSERT returns a key, and the column that a sequence numbers; ``None`` if not
exactly that one column comes back.
"""

_WHOLE_NUMBERS: Final = frozenset({"int2", "int4", "int8"})
_READ: Final = _WHOLE_NUMBERS | {
    *("bool", "text", "varchar", "uuid"),
    *("date", "timestamp", "timestamptz"),
}
"""Types whose values a driver can always read, except times outside Python's range."""

_PLAIN: Final = (Boolean, Date, DateTime, Integer, String, Uuid)


def compared_for_commit(
    connection: Connection, queued: Sequence[QueuedStatement]
) -> Sequence[Numbered] | Reason:
    """The tables to compare before these statements, so that the COMMIT may follow them in their
    message; or why it may not.
    """
    counted = [entry for entry in queued if entry.is_counted]
    if counted and not _may_be_counted(connection, counted):
        return why.COUNTED
    distance = known_of(connection.dialect, Distance)
    if not distance.commit_pays() and any(entry.statement.returning for entry in queued):
        return why.NEAR
    reason = refusal_between(connection, several=len(queued) > 1)
    if reason is not None:
        return reason
    found: dict[str, Numbered] = {}
    for entry in queued:
        mapper, table = entry.mapper, entry.table
        if mapper is not None and acts_after_insert(mapper, table):
            return why.ACTS_AFTER_INSERT
        if not entry.statement.returning:
            continue
        name = table_name(connection, table)
        if catalogue.cached(connection, name) is None:
            read_if_met_before(connection, name)
        for facts in catalogue.cached_facts(connection, [name]):
            compared = compared_by(connection, entry.statement.returning, facts)
            if compared is None:
                return why.may_come_back_otherwise(name)
            found[name] = compared
        if name not in found:
            return why.NOT_LOOKED_AT
    if found and not can_compare(
        connection, before_snapshot=transaction_status(connection) == "idle"
    ):
        return why.OLD_SNAPSHOT
    return list(found.values())


class _Met(set[TableName]):
    """Tables whose facts were unknown when a COMMIT might have travelled with an INSERT into
    them.
    """


class Uncounted(set[TableName]):
    """Tables for which the server cannot check in a message of several statements how many rows an
    UPDATE or DELETE matches.
    """


def read_if_met_before(connection: Connection, name: TableName) -> bool:
    """Read the facts of a table that is not known yet; return whether it is known now. The first
    call for a table reads nothing, because that would cost more than it saves.
    """
    met = known_of(connection.dialect, _Met)
    if name not in met:
        met.add(name)
        return False
    with reading_before_lock(connection):
        # Listeners do not see this query: they see only the statements that SQLAlchemy would send.
        catalogue.table_facts(connection, [name], unheard=True)
    return catalogue.cached(connection, name) is not None


def _may_be_counted(connection: Connection, queued: Sequence[QueuedStatement]) -> bool:
    """Whether the server can check how many rows these statements match, and whether that costs
    less than a separate round trip for the COMMIT.
    """
    server, uncounted = server_of(connection), known_of(connection.dialect, Uncounted)
    rows = sum(len(parameters) for entry in queued for _, parameters in entry.statement.messages())
    return (
        server.reason is None
        and server.kind != "citus"
        and known_of(connection.dialect, Distance).commit_pays(rows)
        and not any(
            entry.statement.returning or table_name(connection, entry.table) in uncounted
            for entry in queued
        )
    )


def can_compare(connection: Connection, *, before_snapshot: bool) -> bool:
    """Whether a comparison under a lock sees the current state of the tables.

    :param before_snapshot: the lock is taken before the transaction has a snapshot.
    """
    return server_of(connection).reason is None and (
        before_snapshot or sees_the_present(connection)
    )


def compared_by(
    connection: Connection, returning: Sequence[Any], facts: TableFacts
) -> Numbered | None:
    """The facts of a table to compare, which ensure that a row with all these columns comes back
    and can be read; ``None`` if nothing can ensure it.
    """
    if not facts.lockable or facts.distributed:
        return None
    if facts.before_insert_triggers or facts.insert_rules:
        return None
    names = []
    for column in returning:
        known = facts.columns.get(stored_name(column.name))
        if (
            known is None
            or not isinstance(column.type, _PLAIN)
            or result_processor(column.type, connection.dialect) is not None
        ):
            return None
        if known.sequence is not None and known.type_name in _WHOLE_NUMBERS:
            names.append(known.name)
        elif column.primary_key or not (known.surely_read and known.type_name in _READ):
            return None
    return facts, names[0] if len(names) == len(returning) == 1 else None
