"""Whether a connection of psycopg and its cursors are of psycopg's own classes, as it defined them.

An agent puts a proxy in the place of a connection, gives it a class of cursors of its own, or wraps
the methods of psycopg's class. An application names a class of its own, or one that binds
parameters on the client's side.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any, Final

from psycopg import (
    AsyncClientCursor,
    AsyncConnection,
    AsyncCursor,
    ClientCursor,
    Connection,
    Cursor,
)

from .._reasons import CLIENT_CURSOR, Reason, no_copy_through


class OwnClasses:
    """A class of connections and that of their cursors.

    :param client: the class of cursors that bind by themselves.
    """

    __slots__ = ("_connection", "_cursor", "_methods", "client")

    def __init__(self, connection: Any, cursor: Any, client: Any) -> None:
        self.client = client
        self._connection = connection
        self._cursor = cursor
        methods = (cursor.execute, cursor.executemany)
        self._methods = methods if all(map(_is_psycopgs, methods)) else None

    def has(self, connection: Any) -> bool:
        """Whether psycopg's ``connection`` is of them, and no method was put in place of theirs."""
        cursor = self._cursor
        return (
            type(connection) is self._connection
            and connection.cursor_factory is cursor
            and (cursor.execute, cursor.executemany) == self._methods
        )


def _is_psycopgs(method: Any) -> bool:
    """Whether a method is psycopg's own: what wraps it is no function, or not of its module."""
    return type(method) is FunctionType and method.__globals__["__package__"] == "psycopg"


SYNC: Final = OwnClasses(Connection, Cursor, ClientCursor)
ASYNC: Final = OwnClasses(AsyncConnection, AsyncCursor, AsyncClientCursor)


def refused_cursor(cursor: Any) -> Reason | None:
    """Why a cursor of another class cannot be given a COPY; ``None`` if it can."""
    if isinstance(cursor, ClientCursor | AsyncClientCursor):
        return CLIENT_CURSOR
    return None if hasattr(cursor, "copy") else no_copy_through(type(cursor))
