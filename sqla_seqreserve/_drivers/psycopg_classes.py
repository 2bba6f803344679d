"""Checks whether a connection of psycopg and its cursors are of psycopg's own, unchanged classes.

An agent replaces a connection by a proxy, gives it its own class of cursors, or wraps the methods
of psycopg's class. An application may use its own class, or one that binds parameters on the
client's side.
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
    """A class of connections and the class of their cursors.

    :param client: the class of cursors that bind parameters on the client's side.
    """

    __slots__ = ("_connection", "_cursor", "_methods", "client")

    def __init__(self, connection: Any, cursor: Any, client: Any) -> None:
        self.client = client
        self._connection = connection
        self._cursor = cursor
        methods = (cursor.execute, cursor.executemany)
        self._methods = methods if all(map(_is_psycopgs, methods)) else None

    def has(self, connection: Any) -> bool:
        """Whether psycopg's ``connection`` is of these classes, and none of their methods was
        replaced.
        """
        cursor = self._cursor
        return (
            type(connection) is self._connection
            and connection.cursor_factory is cursor
            and (cursor.execute, cursor.executemany) == self._methods
        )


def _is_psycopgs(method: Any) -> bool:
    """Whether a method is psycopg's own: a wrapper is no function, or not of psycopg's package."""
    return type(method) is FunctionType and method.__globals__["__package__"] == "psycopg"


SYNC: Final = OwnClasses(Connection, Cursor, ClientCursor)
ASYNC: Final = OwnClasses(AsyncConnection, AsyncCursor, AsyncClientCursor)


def refused_cursor(cursor: Any) -> Reason | None:
    """Why COPY cannot run on a cursor of another class; ``None`` if it can."""
    if isinstance(cursor, ClientCursor | AsyncClientCursor):
        return CLIENT_CURSOR
    return None if hasattr(cursor, "copy") else no_copy_through(type(cursor))
