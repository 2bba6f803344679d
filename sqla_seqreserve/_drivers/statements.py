"""Runs what a driver can do beyond ``execute()`` as a statement of SQLAlchemy's connection.

The statement is executed by SQLAlchemy, with the ``do_execute`` event in place of the driver's
``execute()``: so engine events fire, echo logs, errors are wrapped and ``handle_error`` runs where
SQLAlchemy does these things. The listener looks at the execution options and leaves every other
statement alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias
from weakref import WeakSet

from sqlalchemy import Connection, Dialect, TextClause, event
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext

__all__ = ["Job", "run_on_driver"]

_OPTION: Final = "sqla_seqreserve_job"

Job: TypeAlias = Callable[[Any, str, Any], None]
"""What is done with SQLAlchemy's cursor, the statement and its parameters in place of
``execute()``.
"""

_listening: WeakSet[Dialect] = WeakSet()
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
    _listen(connection.dialect)
    # A server-side cursor, should the connection ask for one, can do less.
    options = {_OPTION: job, "stream_results": False}
    if isinstance(statement, str):
        connection.exec_driver_sql(statement, dict(parameters), execution_options=options)
    else:
        connection.execute(statement, parameters, execution_options=options)


def _listen(dialect: Dialect) -> None:
    if dialect not in _listening:
        with _lock:
            if dialect not in _listening:
                event.listen(dialect, "do_execute", _do_execute)
                _listening.add(dialect)


def _do_execute(
    cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext
) -> bool | None:
    job: Job | None = context.execution_options.get(_OPTION)
    if job is None:
        return None
    job(cursor, statement, parameters)
    return True
