"""The connections behind a session or connection, and what the database's refusals mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session

from sqla_seqreserve.errors import ConfigurationError, UnsupportedDatabaseError

from ._source import Target

__all__ = [
    "Bind",
    "group_by_connection",
    "in_autocommit",
    "locks_released",
    "plain_connection",
    "sqlstate",
]

Bind: TypeAlias = Session | scoped_session[Session] | Connection


def plain_connection(bind: Bind) -> Connection:
    """Return the connection of a whole-database call."""
    if isinstance(bind, Connection):
        return _checked(bind)
    if isinstance(bind, Session | scoped_session):
        return _checked(bind.connection())
    raise ConfigurationError(
        f"expected a Session or Connection, got {type(bind).__name__}; for an AsyncSession use "
        "its run_sync(), for an Engine its connect()"
    )


def group_by_connection(
    bind: Bind, targets: Iterable[Target]
) -> list[tuple[Connection, list[Target]]]:
    """Group the targets by the connection that the session uses for them."""
    if not isinstance(bind, Session | scoped_session):
        return [(plain_connection(bind), list(targets))]
    groups: dict[int, tuple[Connection, list[Target]]] = {}
    for target in targets:
        # The table too: with a bind of its own it overrules the mapper's.
        arguments = {"clause": target.table} | (
            {"mapper": target.mapper} if target.mapper is not None else {}
        )
        connection = _checked(bind.connection(bind_arguments=arguments))
        groups.setdefault(id(connection), (connection, []))[1].append(target)
    return list(groups.values())


def sqlstate(error: DBAPIError) -> str | None:
    """Return the five characters by which PostgreSQL names an error, on any driver."""
    for attribute in ("sqlstate", "pgcode"):
        value = getattr(error.orig, attribute, None)
        if isinstance(value, str):
            return value
    return None


def in_autocommit(connection: Connection) -> bool:
    """Return whether each statement is a transaction of its own."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


@contextmanager
def locks_released(connection: Connection) -> Iterator[None]:
    """Give back the locks taken inside when it ends, not with the transaction.

    A sequence that was only read stays locked like a table that was, and no repair could move it
    while some dashboard's transaction sits idle.
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
