"""Statements for many rows that a registered session executes, inside a flush or outside one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper, Session

from .._database import known_of
from .._drivers import driver_of, driver_on
from .._drivers.execution import Many, begin_along, write_many_by
from .._reasons import FEW, Reason
from .._routes import FEWEST_RETURNING, Distance
from .._sqlalchemy.adapted import set_adapted_rowcount
from .._sqlalchemy.changes import ROWS_COUNTED
from .._sqlalchemy.pages import Whole
from .._sqlalchemy.persistence import WAY_CHOSEN
from .._sqlalchemy.statement_classes import Rows
from .settings import Settings


def follow(connection: Connection, writer: ManyWriter) -> None:
    """Send the statements for many rows of a session's connection through ``writer``, and the BEGIN
    of its transaction with its first statement. On a near server the BEGIN costs less by itself.
    Now and then its time is measured: sessions that insert nothing need the distance, too.
    """
    driver = driver_of(connection.dialect)
    if driver is None:
        return
    distance = known_of(connection.dialect, Distance)
    is_due = distance.is_due()
    if is_due or distance.begin_pays():
        driver = driver_on(connection) or driver
        took = distance.note if is_due and driver.times_begin else None
        if (took is not None or driver.begins_along) and (
            driver.transaction_status(connection.connection) == "idle"
        ):
            begin_along(connection, took)
    write_many_by(connection, writer)


class ManyWriter:
    """Writes the statements for many rows on a session's connection, by its current settings."""

    def __init__(self, current: Callable[[], Settings]) -> None:
        self._current = current

    def __call__(
        self, cursor: Any, statement: str, parameters: Sequence[Any], context: Any
    ) -> Many:
        settings = self._current()
        if settings.mode_reason is not None:
            return Many(0, settings.mode_reason)
        counted = context.execution_options.get(ROWS_COUNTED)
        if not counted and settings.copy_min_rows is None and _are_few(parameters, context):
            return _TOO_FEW
        # Imported here so that starting an application does not pay for it.
        from .._writers.executemany import write_many

        found = write_many(cursor, statement, parameters, context, settings.copy_min_rows)
        if not isinstance(found, Reason):
            return Many(found)
        if not (counted and _count(cursor, statement, parameters, context)):
            return Many(0, found)
        return Many(len(parameters), found)

    def takes_whole(self, context: Any) -> bool:
        settings = self._current()
        if settings.mode != "bulk" or context.execution_options.get(WAY_CHOSEN):
            return False
        if settings.copy_min_rows is None and len(context.parameters) < FEWEST_RETURNING:
            return False
        from .._writers.executemany import pays_whole

        return pays_whole(context, settings.copy_min_rows)

    def alike(
        self,
        session: Session,
        connection: Connection,
        mapper: Mapper[Any],
        rows: Rows,
        *,
        returns: bool,
    ) -> Rows | None:
        if self._current().mode != "bulk":
            return None
        from .._writers.nulls import rows_alike

        return rows_alike(session, connection, mapper, rows, returns=returns)


_TOO_FEW: Final = Many(0, FEW)

_ROWS_TOGETHER: Final = "rows together"
"""The key under which the distance stores from how many rows one statement for all costs less."""


def _are_few(parameters: Sequence[Any], context: Any) -> bool:
    """Whether this number of rows is known to cost less one by one. The check must be cheap: it
    runs for each statement, and most statements have few rows.
    """
    distance = known_of(context.dialect, Distance)
    fewest: float | None = distance.chosen.get(_ROWS_TOGETHER)
    if fewest is None:
        driver = driver_on(context.root_connection)
        if driver is None:
            return False
        from .._writers.many_costs import fewest_together

        found = fewest_together(driver, distance.round_trip)
        fewest = distance.keep(_ROWS_TOGETHER, inf if found is None else found)
    return len(parameters) < fewest and type(parameters) is not Whole


def _count(cursor: Any, statement: str, parameters: Sequence[Any], context: Any) -> bool:
    """Execute a statement row by row if the driver's ``executemany()`` does not count rows.

    :return: whether it was executed
    """
    if context.dialect.supports_sane_multi_rowcount:
        return False
    count = 0
    for row in parameters:
        cursor.execute(statement, row)
        count += cursor.rowcount
    set_adapted_rowcount(cursor, count)
    return True
