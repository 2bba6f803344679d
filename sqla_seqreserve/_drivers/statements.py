"""Runs what a driver can do beyond ``execute()`` as a statement of SQLAlchemy's connection.

The statement is executed by SQLAlchemy, with the ``do_execute`` event in place of the driver's
``execute()``: so engine events fire, echo logs, errors are wrapped and ``handle_error`` runs where
SQLAlchemy does these things. The listener looks at the execution options and leaves every other
statement alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, TextClause, event
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext

from .. import _host as host
from .._database import database_of
from . import driver_on

__all__ = ["Job", "begin_along", "listen", "run_on_driver", "write_many_by"]

_OPTION: Final = "sqla_seqreserve_job"

Job: TypeAlias = Callable[[Any, str, Any], None]
"""What is done with SQLAlchemy's cursor, the statement and its parameters in place of
``execute()``.
"""

Took: TypeAlias = Callable[[float], object] | None
"""Is called with the seconds that a round trip took, if anybody asks."""

WriteMany: TypeAlias = Callable[[Any, str, Any, ExecutionContext], bool]
"""Is asked to execute a statement for many rows; says whether it did."""

_beginning: WeakKeyDictionary[Connection, tuple[Took, bool]] = WeakKeyDictionary()
_writing: WeakKeyDictionary[Connection, WriteMany] = WeakKeyDictionary()
_lock = threading.Lock()


def run_on_driver(
    connection: Connection,
    statement: str | TextClause,
    parameters: Mapping[str, Any],
    job: Job,
) -> None:
    """Execute ``statement`` with ``job`` in place of the driver's ``execute()``.

    :param statement: SQL as the driver takes it, or a ``text()``.
    :raises sqlalchemy.exc.DBAPIError: what the driver raised, wrapped as SQLAlchemy wraps it.
    """
    listen(connection.dialect)
    # A server-side cursor, should the connection ask for one, can do less.
    options = {_OPTION: job, "stream_results": False}
    if isinstance(statement, str):
        connection.exec_driver_sql(statement, dict(parameters), execution_options=options)
    else:
        connection.execute(statement, parameters, execution_options=options)


def write_many_by(connection: Connection, write: WriteMany) -> None:
    """Have ``write`` asked to execute what the connection executes for many rows."""
    listen(connection.dialect)
    _writing[connection] = write


def begin_along(connection: Connection, took: Took, *, whole: bool = False) -> None:
    """Have the BEGIN of a transaction travel with the next statement of the connection, where its
    driver can.

    :param took: is called with the time of the BEGIN.
    :param whole: or with that of the statement, locks that it waits for included.
    """
    listen(connection.dialect)
    if len(connection.dialect.dispatch.do_execute) > 1:
        # Somebody else's listener may execute it, and ours would not be called.
        return
    _beginning[connection] = took, whole


def listen(dialect: Dialect) -> None:
    """Have the dialect ask us before it sends a statement."""
    database = database_of(dialect)
    if not database.listens:
        with _lock:
            if not database.listens:
                host.OURS.update((_do_execute, _do_executemany))
                event.listen(dialect, "do_execute", _do_execute)
                event.listen(dialect, "do_executemany", _do_executemany)
                database.listens = True


def _do_executemany(
    cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext
) -> bool | None:
    write = _writing.get(context.root_connection)
    if write is not None and write(cursor, statement, parameters, context):
        return True
    return None


def _begin_along(
    cursor: DBAPICursor,
    statement: str,
    parameters: Any,
    context: ExecutionContext,
) -> bool | None:
    took, whole = _beginning.pop(context.root_connection)
    driver = driver_on(context.root_connection)
    if driver is not None:
        driver.begin_along(cursor)
        if took is not None and not whole:
            driver.time_begin(cursor, took)
    if took is None or not whole or len(context.dialect.dispatch.do_execute) > 1:
        # Nobody asks how long it takes, or somebody else's listener may want to see it.
        return None
    started = time.perf_counter()
    context.dialect.do_execute(cursor, statement, parameters, context)
    took(time.perf_counter() - started)
    return True


def _do_execute(
    cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext
) -> bool | None:
    job: Job | None = context.execution_options.get(_OPTION)
    if job is None:
        if _beginning and context.root_connection in _beginning:
            return _begin_along(cursor, statement, parameters, context)
        return None
    job(cursor, statement, parameters)
    return True
