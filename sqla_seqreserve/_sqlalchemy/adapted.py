"""SQLAlchemy's adapters for asynchronous drivers: asyncpg's connection and cursor, and the rows
that a cursor of psycopg holds.

Read in 2.0.58 and 2.1.9: ``_adapt_connection`` and ``_rows`` of a cursor; of the connection
``_connection``, ``_execute_mutex``, ``_start_transaction``, ``_handle_exception``,
``_check_type_cache_invalidation`` and ``_prepared_statement_name_func``. The oldest releases of 2.0
have no ``_prepared_statement_name_func``: there, applications cannot choose names. Whether a
transaction was begun is ``_started`` in 2.0 and ``_transaction`` in 2.1; a cursor's row count can
be set under ``rowcount`` in 2.0 and ``_rowcount`` in 2.1; 2.0 waits with ``await_`` of the
connection, which differs under ``async_fallback``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.util import await_only


def await_adapted(cursor: Any, awaitable: Any) -> Any:
    """Wait for a coroutine as the cursor, adapted from asyncpg's, waits for its own."""
    wait = getattr(cursor._adapt_connection, "await_", await_only)
    return wait(awaitable)


@asynccontextmanager
async def adapted_statement(cursor: Any) -> AsyncIterator[Any]:
    """Yield asyncpg's own connection for one statement of the adapted ``cursor``: one statement at
    a time, in a transaction, and with errors translated, as in the cursor's ``execute()``.
    """
    adapted = cursor._adapt_connection
    async with adapted._execute_mutex:
        if not _is_begun(adapted):
            await adapted._start_transaction()
        try:
            yield adapted._connection
        except Exception as error:
            adapted._handle_exception(error)


def begins_adapted(cursor: Any) -> bool:
    """Whether the adapted ``cursor`` would begin a transaction before its next statement."""
    adapted = cursor._adapt_connection
    return not (_is_begun(adapted) or adapted.autocommit)


def begin_adapted(cursor: Any) -> None:
    """Begin the transaction that the adapted ``cursor`` would begin before its next statement."""
    await_adapted(cursor, _begin(cursor._adapt_connection))


async def _begin(adapted: Any) -> None:
    async with adapted._execute_mutex:
        if not _is_begun(adapted):
            await adapted._start_transaction()


def rollback_adapted(cursor: Any) -> None:
    """End the transaction of the adapted ``cursor``; its next statement begins another."""
    cursor._adapt_connection.rollback()


async def prepare_adapted(cursor: Any, statement: str) -> Any:
    """Prepare a statement that SQLAlchemy does not cache: the application chooses its name, and
    asyncpg's knowledge of types is newer than the last DDL that SQLAlchemy saw.
    """
    adapted = cursor._adapt_connection
    await adapted._check_type_cache_invalidation(cursor._invalidate_schema_cache_asof)
    name_of = getattr(adapted, "_prepared_statement_name_func", None)
    if name_of is None:
        return await adapted._connection.prepare(statement)
    return await adapted._connection.prepare(statement, name=name_of())


def set_adapted_rowcount(cursor: Any, count: int) -> None:
    """Set the row count that the adapted ``cursor`` reports."""
    setattr(cursor, "_rowcount" if hasattr(cursor, "_rowcount") else "rowcount", count)


def adapted_rows(cursor: Any) -> list[Any]:
    """Return the rows that the adapted ``cursor`` holds, which it keeps."""
    return list(cursor._rows)


def _is_begun(adapted: Any) -> bool:
    begun: bool = getattr(adapted, "_started", adapted._transaction is not None)
    return begun
