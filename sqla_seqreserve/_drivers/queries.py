"""Queries that this package sends without SQLAlchemy's execution, so that no listener sees them."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Dialect, TextClause


def query_unheard(
    connection: Connection, statement: TextClause, parameters: Mapping[str, Any]
) -> list[Any]:
    """The rows of a query, as named tuples. No listener of the engine sees the query: it is for
    facts that are needed in the middle of another statement's events.
    """
    query, bound = bound_query(connection.dialect, statement, parameters)
    cursor = connection.connection.cursor()
    try:
        connection.dialect.do_execute(cursor, query, bound)
        row = namedtuple("row", [column[0] for column in cursor.description])  # type: ignore[misc]  # the query's columns
        return [row(*found) for found in cursor.fetchall()]
    finally:
        cursor.close()


def bound_query(
    dialect: Dialect, statement: TextClause, parameters: Mapping[str, Any]
) -> tuple[str, Any]:
    """Return a query and its parameters as the driver takes them."""
    compiled = statement.compile(dialect=dialect)
    values = compiled.construct_params(dict(parameters))
    names: Any = getattr(compiled, "positiontup", None)
    return str(compiled), values if names is None else tuple(values[name] for name in names)
