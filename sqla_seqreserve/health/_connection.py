"""The connections behind a session or connection, and the meaning of errors that the database
raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import Connection, insert, table, text
from sqlalchemy.orm import Session, scoped_session

from sqla_seqreserve._sqlalchemy.session import is_sharded
from sqla_seqreserve.errors import (
    ConfigurationError,
    SeqReserveError,
    UnsupportedDatabaseError,
)

from ._source import Target

_MODIFY_MODE = text("SELECT current_setting('citus.multi_shard_modify_mode')")
_SET_MODIFY_MODE = text("SELECT set_config('citus.multi_shard_modify_mode', :mode, true)")

_A_WRITE = insert(table("pg_sequence"))

Bind: TypeAlias = Session | scoped_session[Session] | Connection


def plain_connection(bind: Bind, *, to_write: bool = False) -> Connection:
    """Return the connection for a call that concerns a whole database."""
    if isinstance(bind, Connection):
        return _checked(bind)
    if isinstance(bind, Session | scoped_session):
        refuse_sharded(bind)
        # A session that sends reads to a replica decides by the statement.
        arguments = {"clause": _A_WRITE} if to_write else None
        return _checked(bind.connection(bind_arguments=arguments))
    raise ConfigurationError(
        f"expected a Session or Connection, got {type(bind).__name__}; for an AsyncSession use "
        "its run_sync(), for an Engine its connect()"
    )


def group_by_connection(
    bind: Bind, targets: Iterable[Target], *, to_write: bool = False
) -> list[tuple[Connection, list[Target]]]:
    """Group the targets by the connection that the session uses for them, or for their INSERTs."""
    if not isinstance(bind, Session | scoped_session):
        return [(plain_connection(bind), list(targets))]
    refuse_sharded(bind)
    groups: dict[int, tuple[Connection, list[Target]]] = {}
    for target in targets:
        # The table too: with a bind of its own it overrules the mapper's.
        arguments: dict[str, Any] = {"clause": insert(target.table) if to_write else target.table}
        if target.mapper is not None:
            arguments["mapper"] = target.mapper
        connection = _checked(bind.connection(bind_arguments=arguments))
        groups.setdefault(id(connection), (connection, []))[1].append(target)
    return list(groups.values())


def refuse_sharded(bind: Session | scoped_session[Session]) -> None:
    """Refuse a session that chooses a database for each row, because it has no single database.

    :raises ConfigurationError: the session is a ``ShardedSession``.
    """
    session = bind() if isinstance(bind, scoped_session) else bind
    if is_sharded(session):
        raise ConfigurationError(
            f"{type(session).__name__} picks a database for each object, and sequences are checked "
            "and repaired one database at a time: give the connection of each shard, "
            "session.connection(bind_arguments={'shard_id': ...})"
        )


def in_autocommit(connection: Connection) -> bool:
    """Return whether each statement is a transaction of its own."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


@contextmanager
def one_connection_per_node(connection: Connection, *, is_citus: bool) -> Iterator[None]:
    """On Citus, read shards one after the other for the block.

    A transaction that has read them in parallel may no longer write to reference tables, so a check
    would make the caller's next flush fail.
    """
    if not is_citus or in_autocommit(connection):
        yield
        return
    before = connection.scalar(_MODIFY_MODE)
    connection.execute(_SET_MODIFY_MODE, {"mode": "sequential"})
    try:
        yield
    except SeqReserveError:
        # After an error of the database the transaction is aborted, and its settings end with it.
        connection.execute(_SET_MODIFY_MODE, {"mode": before})
        raise
    connection.execute(_SET_MODIFY_MODE, {"mode": before})


@contextmanager
def locks_released(connection: Connection) -> Iterator[None]:
    """Release the locks taken in the block at its end, and not at the end of the transaction.

    Otherwise a sequence stays locked like a table, even if it was only read, and no repair could
    move it while, for example, a dashboard's transaction is idle.
    """
    if in_autocommit(connection):
        yield
        return
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        savepoint.rollback()


def _checked(connection: Connection) -> Connection:
    if connection.dialect.name != "postgresql":
        raise UnsupportedDatabaseError(
            "sequences are checked on PostgreSQL, and this connection is to "
            f"{connection.dialect.name}"
        )
    return connection
