"""Names of tables, schemas and columns, as SQL and as the catalogue stores them."""

from __future__ import annotations

import functools
from typing import Final, TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql import quoted_name

TableName: TypeAlias = str
"""A table's name as SQL, quoted where needed, with its schema if it has one."""


def table_name(connection: Connection, table: Table) -> TableName:
    """Return the name of ``table`` as SQL on this connection, with its ``schema_translate_map``
    applied.
    """
    return qualified_name(connection, table.schema, table.name)


def qualified_name(connection: Connection, schema: str | None, name: str) -> str:
    """Return ``name`` as SQL, quoted where needed, in the schema to which the connection's
    ``schema_translate_map`` maps ``schema``.
    """
    schema = effective_schema(connection, schema)
    return f"{quoted(schema)}.{quoted(name)}" if schema else quoted(name)


def effective_schema(connection: Connection, schema: str | None) -> str | None:
    """Return the schema to which the connection's ``schema_translate_map`` maps ``schema``;
    ``None``: the one that ``search_path`` finds.
    """
    translate = connection.get_execution_options().get("schema_translate_map")
    translated: str | None = translate.get(schema, schema) if translate else schema
    return translated


# A driver's own preparer doubles percent signs for statements with parameters. These names are
# themselves parameters, or part of a COPY, which has none.
_preparer: Final = PGDialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]  # SQLAlchemy's


def quoted(name: str) -> str:
    """Return one identifier as SQL, quoted where needed or where a ``quoted_name`` demands it."""
    return _quoted(name, getattr(name, "quote", None))


@functools.lru_cache(maxsize=4096)
def _quoted(name: str, quote: bool | None) -> str:
    # A quoted_name equals its text, so the cache key must contain its quoting too.
    return _preparer.quote(quoted_name(name, quote))


def stored_name(name: str) -> str:
    """Return an identifier as the catalogue stores it: one that is never quoted is folded to lower
    case.
    """
    return name.lower() if getattr(name, "quote", None) is False else str(name)
