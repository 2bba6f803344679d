"""Writes a batch of rows with COPY, through SQLAlchemy's own execution path.

The COPY runs as a job of the connection (``_drivers.execution``), so that tracing tools see the
statement, its number of rows (as its only parameter) and the cursor's row count.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, Dialect
from sqlalchemy.orm.exc import FlushError

from .. import _reasons as why
from .._database import is_first_time
from .._drivers import CopyRows, driver_of, driver_on
from .._drivers.execution import run_on_driver
from .._ids.table_names import quoted
from .._reasons import Reason
from .._rows.batches import Batch
from .._rows.plan import InsertPlan

log = logging.getLogger("sqla_seqreserve")

_WARNING: Final = "no driver of ours"


def no_copy_reason(connection: Connection) -> Reason | None:
    """Why COPY cannot run on this connection because of its driver or an object that replaces the
    driver's connection; ``None`` if it can.
    """
    driver = driver_on(connection)
    if driver is not None:
        return driver.refuses_copy(connection.connection)
    return why.no_fast_path(connection.dialect.driver)


def warn_of_driver(dialect: Dialect) -> None:
    """Log once for each engine that its driver has no fast path. Nothing else would show it,
    because everything works.
    """
    if dialect.name != "postgresql" or driver_of(dialect) is not None:
        return
    if is_first_time(dialect, _WARNING):
        reason = why.no_fast_path(dialect.driver)
        log.warning("nothing is gained by register() on this engine: %s", reason)


def refused_types(connection: Connection, plan: InsertPlan) -> Reason | None:
    """Why COPY cannot write by the plan on this connection because of its columns' types; ``None``
    if it can. The driver's settings may differ from connection to connection.
    """
    driver = driver_on(connection)
    assert driver is not None
    oids = (
        plan.facts.columns[column.column.name].type_oid
        for column in plan.columns
        # Other columns are written as text.
        if column.codec is not None and column.codec.binary and column.encoding is None
    )
    return driver.refuses_types(connection.connection, oids)


def encodes_keys_apart(connection: Connection, plan: InsertPlan) -> bool:
    """Whether an INSERT with known keys passes values to an encoder of the driver that accepts none
    of them, whereas in an INSERT that the database numbers the server reads their text.
    """
    driver = driver_on(connection)
    if driver is None:
        return False
    oids = (
        plan.facts.columns[column.column.name].type_oid
        for column in plan.columns
        if column.codec is not None and not column.codec.binary and not column.codec.casts_each
    )
    return driver.encodes(connection.connection, oids)


def copy_batch(
    connection: Connection,
    plan: InsertPlan,
    batch: Batch,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write a batch into its table.

    :param progress: called with a number of rows whenever the driver has taken them.
    :raises sqlalchemy.exc.DBAPIError: as :func:`copy_rows`.
    :raises sqlalchemy.orm.exc.FlushError: the server stored fewer rows.
    """
    rows = CopyRows(
        batch.columns, batch.copy_values, batch.oids, batch.binary, progress, facts=plan.facts
    )
    taken = copy_rows(connection, plan.facts.name, rows)
    if taken != len(rows):
        raise FlushError(
            f"COPY for {plan.mapper} sent {len(rows)} rows, of which {plan.table.name} took "
            f"{taken}. Ensure there are no triggers that discard rows"
        )


def copy_rows(connection: Connection, table: str, rows: CopyRows) -> int:
    """Write the rows into ``table`` (its name as SQL) and return how many the server stored.

    :raises sqlalchemy.exc.DBAPIError: the server refused a row; nothing of the batch is written.
    """
    driver = driver_on(connection)
    assert driver is not None
    taken = 0

    def copy(cursor: Any, statement: str, parameters: Any) -> None:  # noqa: ARG001  # a job's
        nonlocal taken
        taken = driver.copy(cursor, statement, rows)

    run_on_driver(connection, copy_statement(table, rows), {"rows": len(rows)}, copy)
    return taken


def copy_statement(table: str, rows: CopyRows) -> str:
    """The text of the COPY of the rows into ``table`` (its name as SQL)."""
    names = ", ".join(map(quoted, rows.columns))
    return f"COPY {table} ({names}) FROM STDIN{' (FORMAT BINARY)' if rows.binary else ''}"
