"""The connections behind a session or connection, and what the database's refusals mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session

from sqla_seqreserve.errors import ConfigurationError, UnsupportedDatabaseError

from ._source import Target

__all__ = ["Bind", "group_by_connection", "plain_connection", "sqlstate"]

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


def _checked(connection: Connection) -> Connection:
    if connection.dialect.name != "postgresql":
        raise UnsupportedDatabaseError(
            f"sequences are checked on PostgreSQL, and this connection is to {connection.dialect.name}"
        )
    return connection
