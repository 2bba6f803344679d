"""Writes a batch of rows with COPY, through SQLAlchemy's own execution path.

The COPY is executed as a statement of the connection, with the ``do_execute`` event in place of the
driver's ``execute()``: so engine events fire, echo logs, errors are wrapped and ``handle_error``
runs where SQLAlchemy does these things, and tracing tools see the statement, its number of rows (as
its one parameter) and the cursor's row count. The listener looks at the execution options and
leaves every other statement alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Connection, Dialect, event
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext

from .. import _host as host
from .._catalogue import quoted

__all__ = ["CopyJob", "copy_rows", "no_copy_reason"]

_OPTION: Final = "sqla_seqreserve_copy"
_BLOCK: Final = 8192
_DRIVERS: Final = frozenset({"psycopg", "psycopg_async"})

_listening: WeakSet[Dialect] = WeakSet()
_lock = threading.Lock()


@dataclass(slots=True, eq=False)
class CopyJob:
    """Column values of one COPY, as the driver takes them, with the type oid of each column;
    then how many rows were taken.
    """

    values: Sequence[Sequence[Any]]
    oids: Sequence[int]
    binary: bool
    progress: Callable[[int], object] | None = None
    taken: int = 0

    def run(self, cursor: Any, statement: str) -> None:
        """Send the rows through a psycopg cursor."""
        with cursor.copy(statement) as copy:
            if self.binary:
                copy.set_types(self.oids)
            write_row = copy.write_row
            for rows in self._blocks():
                for row in rows:
                    write_row(row)

    async def run_async(self, cursor: Any, statement: str) -> None:
        """Send the rows through a psycopg async cursor."""
        async with cursor.copy(statement) as copy:
            if self.binary:
                copy.set_types(self.oids)
            write_row = copy.write_row
            for rows in self._blocks():
                for row in rows:
                    await write_row(row)

    def _blocks(self) -> Iterator[Iterable[tuple[Any, ...]]]:
        """The rows, whole; or, where progress is reported, in blocks with a report after each."""
        rows = zip(*self.values, strict=True)
        if self.progress is None:
            yield rows
            return
        for start in range(0, len(self.values[0]), _BLOCK):
            yield islice(rows, _BLOCK)
            self.progress(min(_BLOCK, len(self.values[0]) - start))


def no_copy_reason(dialect: Dialect) -> str | None:
    """Why this driver cannot be given a COPY, ``None`` if it can."""
    if dialect.driver in _DRIVERS:
        return None
    return f"driver {dialect.driver} has no COPY that keeps values exact"


def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], job: CopyJob, rows: int
) -> int:
    """Write the rows into ``table`` (its name as SQL) and return how many the server took.

    :raises sqlalchemy.exc.DBAPIError: the server refused a row; nothing of the batch is written.
    """
    _listen(connection.dialect)
    names = ", ".join(map(quoted, columns))
    options = " (FORMAT BINARY)" if job.binary else ""
    connection.exec_driver_sql(
        f"COPY {table} ({names}) FROM STDIN{options}",
        {"rows": rows},
        # A server-side cursor, should the connection ask for one, has no copy().
        execution_options={_OPTION: job, "stream_results": False},
    )
    return job.taken


def _listen(dialect: Dialect) -> None:
    if dialect not in _listening:
        with _lock:
            if dialect not in _listening:
                event.listen(dialect, "do_execute", _do_execute)
                _listening.add(dialect)


def _do_execute(
    cursor: DBAPICursor,
    statement: str,
    parameters: Any,  # noqa: ARG001  # the event's signature
    context: ExecutionContext,
) -> bool | None:
    job = context.execution_options.get(_OPTION)
    if job is None:
        return None
    driver = host.driver_cursor(cursor)
    if context.dialect.is_async:
        host.await_driver(job.run_async(driver, statement))
    else:
        job.run(driver, statement)
    job.taken = driver.rowcount
    return True
