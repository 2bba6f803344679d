"""Runs a job on the driver's own cursor, as a statement of SQLAlchemy's connection.

The statement is executed by SQLAlchemy, with the ``do_execute`` event in place of the driver's
``execute()``: so engine events fire, echo logs, errors are wrapped and ``handle_error`` runs where
SQLAlchemy does these things. The listener looks at the execution
options and leaves every other statement alone. Jobs are written for psycopg.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, Protocol
from weakref import WeakSet

from sqlalchemy import Connection, Dialect, TextClause, event
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext

from .. import _host as host

__all__ = ["DriverJob", "has_jobs", "query_integers", "reported_setting", "run_on_driver"]

_OPTION: Final = "sqla_seqreserve_job"
_DRIVERS: Final = frozenset({"psycopg", "psycopg_async"})

_listening: WeakSet[Dialect] = WeakSet()
_lock = threading.Lock()


class DriverJob(Protocol):
    """What is done with a psycopg cursor in place of its ``execute()``."""

    def run(self, cursor: Any, statement: str, parameters: Any) -> None: ...
    async def run_async(self, cursor: Any, statement: str, parameters: Any) -> None: ...


def has_jobs(dialect: Dialect) -> bool:
    """Whether the driver is one that jobs are written for."""
    return dialect.driver in _DRIVERS


def run_on_driver(
    connection: Connection,
    statement: str | TextClause,
    parameters: Mapping[str, Any],
    job: DriverJob,
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
    job: DriverJob | None = context.execution_options.get(_OPTION)
    if job is None:
        return None
    driver = host.driver_cursor(cursor)
    if context.dialect.is_async:
        host.await_driver(job.run_async(driver, statement, parameters))
    else:
        job.run(driver, statement, parameters)
    return True


def reported_setting(connection: Connection, name: str) -> str | None:
    """The current value of a setting that the server reports whenever it changes; ``None`` where it
    does not, or where the driver keeps it to itself. No I/O happens.
    """
    if not has_jobs(connection.dialect):
        return None
    driver: Any = connection.connection.driver_connection
    value: str | None = driver.info.parameter_status(name)
    return value


def query_integers(
    connection: Connection, statement: TextClause, parameters: Mapping[str, Any]
) -> list[list[int | None]]:
    """Run a query whose columns are all integers, in one round trip even where it opens the
    transaction.

    :return: the columns, each with one value a row.
    """
    if has_jobs(connection.dialect):
        job = _IntegerQuery()
        run_on_driver(connection, statement, parameters, job)
        return job.columns
    result = connection.execute(statement, parameters)
    width = len(result.keys())
    rows = result.all()
    return [[row[column] for row in rows] for column in range(width)]


class _IntegerQuery:
    """The query, sent in one message with the ``BEGIN`` of a transaction that psycopg would open
    in a round trip of its own.

    Several statements in one message take the simple query protocol, so the parameters are bound
    by psycopg's ``ClientCursor``. In a transaction that is open psycopg executes it as any other,
    and prepares it when it recurs.
    """

    __slots__ = ("columns",)

    def __init__(self) -> None:
        self.columns: list[list[int | None]] = []

    def run(self, cursor: Any, statement: str, parameters: Any) -> None:
        from psycopg import ClientCursor

        driver = cursor.connection
        if _opens_transaction(driver):
            query = ClientCursor(driver).mogrify(statement, parameters)
            with driver.lock:
                driver.wait(self._begin_and_query(driver, query))
        else:
            cursor.execute(statement, parameters)
            self._keep(cursor.fetchall(), len(cursor.description))

    async def run_async(self, cursor: Any, statement: str, parameters: Any) -> None:
        from psycopg import AsyncClientCursor

        driver = cursor.connection
        if _opens_transaction(driver):
            query = AsyncClientCursor(driver).mogrify(statement, parameters)
            async with driver.lock:
                await driver.wait(self._begin_and_query(driver, query))
        else:
            await cursor.execute(statement, parameters)
            self._keep(await cursor.fetchall(), len(cursor.description))

    def _begin_and_query(self, driver: Any, query: str) -> Generator[Any, Any, None]:
        from psycopg import generators
        from psycopg.errors import error_from_result
        from psycopg.pq import ExecStatus

        pgconn, encoding = driver.pgconn, driver.info.encoding
        pgconn.send_query(f"{_begin(driver)};{query}".encode(encoding))
        result = (yield from generators.execute(pgconn))[-1]
        if result.status != ExecStatus.TUPLES_OK:
            raise error_from_result(result, encoding)
        value = result.get_value
        self.columns = [
            [
                None if (item := value(row, column)) is None else int(item)
                for row in range(result.ntuples)
            ]
            for column in range(result.nfields)
        ]

    def _keep(self, rows: Sequence[Any], width: int) -> None:
        self.columns = [[row[column] for row in rows] for column in range(width)]


def _opens_transaction(driver: Any) -> bool:
    """Whether psycopg would begin a transaction before the next statement."""
    from psycopg.pq import TransactionStatus

    return not driver.autocommit and driver.pgconn.transaction_status == TransactionStatus.IDLE


def _begin(driver: Any) -> str:
    """What psycopg begins a transaction of this connection with."""
    words = ["BEGIN"]
    if driver.isolation_level is not None:
        words.append(f"ISOLATION LEVEL {driver.isolation_level.name.replace('_', ' ')}")
    if driver.read_only is not None:
        words.append("READ ONLY" if driver.read_only else "READ WRITE")
    if driver.deferrable is not None:
        words.append("DEFERRABLE" if driver.deferrable else "NOT DEFERRABLE")
    return " ".join(words)
