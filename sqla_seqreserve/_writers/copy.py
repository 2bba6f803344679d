"""Writes a batch of rows with COPY, through SQLAlchemy's own execution path.

The COPY is a job of the connection (``_drivers.statements``), so that tracing tools see the
statement, its number of rows (as its one parameter) and the cursor's row count.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Dialect

from .._drivers import CopyRows, driver_of
from .._drivers.statements import run_on_driver
from .._ids.catalogue import quoted

__all__ = ["copy_rows", "no_copy_reason"]


def no_copy_reason(dialect: Dialect) -> str | None:
    """Why this driver cannot be given a COPY, ``None`` if it can."""
    if driver_of(dialect) is not None:
        return None
    return f"driver {dialect.driver} has no COPY that keeps values exact"


def copy_rows(connection: Connection, table: str, rows: CopyRows) -> int:
    """Write the rows into ``table`` (its name as SQL) and return how many the server took.

    :raises sqlalchemy.exc.DBAPIError: the server refused a row; nothing of the batch is written.
    """
    driver = driver_of(connection.dialect)
    assert driver is not None
    names = ", ".join(map(quoted, rows.columns))
    options = " (FORMAT BINARY)" if rows.binary else ""
    taken = 0

    def copy(cursor: Any, statement: str, parameters: Any) -> None:  # noqa: ARG001  # a job's
        nonlocal taken
        taken = driver.copy(cursor, statement, rows)

    run_on_driver(
        connection, f"COPY {table} ({names}) FROM STDIN{options}", {"rows": len(rows)}, copy
    )
    return taken
