"""What it costs to write many rows with one statement, beside one statement for each row."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from .._database import known_of
from .._drivers import Driver
from .._routes import WORK, Distance

_FIXED: Final = 650.0
"""Microseconds that such a statement takes beside its rows, most of them for planning."""

_ARRAY_ROW: Final = 16.5
"""Microseconds that a row costs that travels in arrays and is locked first."""

COPIED_FROM: Final = 200
"""From this many new rows on, COPY is faster than arrays near the server."""

_SPARED_BY_COPY: Final = 3.0
"""Microseconds by which a new row costs less in COPY than in arrays."""


def pays(
    driver: Driver,
    rows: int,
    connection: Connection,
    fewest: int | None,
    *,
    gathered: bool = False,
) -> bool:
    """Whether this many rows are written as one statement.

    :param fewest: the smallest number of rows written this way; ``None``: from when it costs less.
    :param gathered: the alternative is a message of several statements.
    """
    if fewest is not None:
        return rows >= fewest
    round_trip = known_of(connection.dialect, Distance).round_trip
    return _costs_less(driver, rows, round_trip, gathered=gathered)


def copy_pays(driver: Driver, rows: int, connection: Connection, fewest: int | None) -> bool:
    """Whether COPY writes this many new rows for less than arrays, which take one round trip.

    :param fewest: as in :func:`pays`.
    """
    if fewest is not None:
        return True
    round_trip = known_of(connection.dialect, Distance).round_trip
    further = driver.copy_round_trips * max(round_trip - WORK, 0.0)
    return rows >= COPIED_FROM and rows * _SPARED_BY_COPY > further


def _costs_less(driver: Driver, rows: int, round_trip: float, *, gathered: bool = False) -> bool:
    spared = driver.work.executed_row - _ARRAY_ROW
    trips = 0
    if driver.executes_each:
        trips = -1 if gathered else rows - 1
    # The server's work in a round trip is already counted in the work of a row.
    return rows > 1 and trips * max(round_trip - WORK, 0.0) + rows * spared > _FIXED


def fewest_together(driver: Driver, round_trip: float) -> int | None:
    """From how many rows one statement for all costs less than one for each row; ``None``: never.

    :param round_trip: the round trip to the server, in microseconds.
    """
    return next((rows for rows in range(2, 1_000) if _costs_less(driver, rows, round_trip)), None)
