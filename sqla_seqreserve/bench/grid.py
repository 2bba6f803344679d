"""Compares this package with plain SQLAlchemy at all combinations of rows, tables, distance and
driver.

A save is a new session, ``add_all()`` of objects that are made already, and ``commit()``; or the
flush of objects that were loaded and changed, without the loading. It is done on a pooled
connection that has saved similar objects before. The two take turns at every point of the
grid in every round, each on an engine of its own. At some points SQLAlchemy's own bulk INSERT
(``session.execute(insert(Payment), rows)``) takes part, too: it is SQLAlchemy's fastest way, and
makes no objects and returns no keys.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import geometric_mean, median
from typing import Any, Final

from .place import Place
from .runner import WrongRowsError
from .saves import SAVES, Kind, Save, Saves, insert_rows
from .sessions import Sessions

__all__ = [
    "DISTANCES",
    "ROWS",
    "TABLES",
    "Grid",
    "GridCell",
    "GridPoint",
    "grid_points",
    "run_grid",
]

ROWS: Final = (1, 2, 5, 10, 50, 500, 5000)
TABLES: Final = (1, 3)
DISTANCES: Final = (0.0, 1.0, 5.0)

# Consecutive saves by either side: a single save of few rows is too short to be measured reliably.
_BURSTS: Final = ((50, 5), (500, 2))

_WARM_UP_ROWS: Final = 1500


@dataclass(frozen=True, slots=True, order=True)
class GridPoint:
    """What is saved, by which driver, at which distance: :attr:`rows` in all, spread over up to
    :attr:`tables` tables, with :attr:`round_trip_ms` added to each round trip.
    """

    driver: str
    tables: int
    round_trip_ms: float
    rows: int

    def __str__(self) -> str:
        tables = "1 table" if self.tables == 1 else f"{self.tables} tables"
        return f"{self.driver}, {self.rows:,} rows, {tables}, {self.round_trip_ms:g} ms"


@dataclass(frozen=True, slots=True)
class GridCell:
    """One point with its measurements: seconds per save, with as many samples on either side; and
    those of the bulk INSERT, if it took part.
    """

    point: GridPoint
    ours: Sequence[float]
    plain: Sequence[float]
    bulk: Sequence[float] = ()

    @property
    def ratio(self) -> float:
        """The ratio of the medians: how many times as long plain SQLAlchemy takes."""
        return median(self.plain) / median(self.ours)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in milliseconds."""
        return {
            "driver": self.point.driver,
            "tables": self.point.tables,
            "round_trip_ms": self.point.round_trip_ms,
            "rows": self.point.rows,
            "ours_ms": median(self.ours) * 1000,
            "plain_ms": median(self.plain) * 1000,
            "ratio": self.ratio,
            "samples": {
                "ours_ms": [seconds * 1000 for seconds in self.ours],
                "plain_ms": [seconds * 1000 for seconds in self.plain],
                "bulk_ms": [seconds * 1000 for seconds in self.bulk],
            },
        }


@dataclass(frozen=True, slots=True)
class Grid:
    """All points of one kind of save."""

    cells: Sequence[GridCell]
    rounds: int
    kind: Kind

    @property
    def drivers(self) -> list[str]:
        """The drivers, in their order."""
        return list(dict.fromkeys(cell.point.driver for cell in self.cells))

    def of(self, driver: str) -> list[GridCell]:
        """The points of one driver."""
        return [cell for cell in self.cells if cell.point.driver == driver]

    def mean(self, driver: str) -> float:
        """The geometric mean of the ratios of one driver."""
        return geometric_mean(cell.ratio for cell in self.of(driver))

    def worst(self, driver: str) -> GridCell:
        """The point where this package is slowest compared with plain SQLAlchemy."""
        return min(self.of(driver), key=lambda cell: cell.ratio)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rounds": self.rounds,
            "kind": self.kind,
            "drivers": {
                driver: {"geometric_mean": self.mean(driver), "worst": self.worst(driver).ratio}
                for driver in self.drivers
            },
            "cells": [cell.to_dict() for cell in self.cells],
        }


def grid_points(
    drivers: Sequence[str],
    *,
    rows: Sequence[int] = ROWS,
    tables: Sequence[int] = TABLES,
    distances: Sequence[float] = DISTANCES,
) -> list[GridPoint]:
    """All combinations that are possible: one row cannot be in several tables."""
    return [
        GridPoint(driver, table, distance, row)
        for driver in drivers
        for table in tables
        for distance in distances
        for row in rows
        if table == 1 or row > 1
    ]


def run_grid(
    place: Place,
    points: Sequence[GridPoint],
    *,
    rounds: int,
    kind: Kind = "new",
    with_bulk: Collection[GridPoint] = (),
    step: Callable[[str], object] | None = None,
) -> Grid:
    """Measure every point in every round, after a round that is not counted.

    :param with_bulk: points of one table at which the bulk INSERT takes part.
    :param step: called with the point's name after each, ``len(points) * (rounds + 1)`` times.
    :raises WrongRowsError: a save did not write all of its rows.
    """
    saves = SAVES[kind]
    ours: dict[GridPoint, list[float]] = {point: [] for point in points}
    plain: dict[GridPoint, list[float]] = {point: [] for point in points}
    bulk: dict[GridPoint, list[float]] = {point: [] for point in points}
    with _steady_collector() as settled:
        for round_ in range(rounds + 1):
            _start_afresh(place, points, saves)
            for point in points:
                there = place.on(point.driver).at(point.round_trip_ms)
                turns = [
                    (there.ours, saves.save, ours[point]),
                    (there.plain, saves.save, plain[point]),
                    *([(there.plain, insert_rows, bulk[point])] if point in with_bulk else []),
                ]
                first = round_ % len(turns)
                for sessions, save, samples in turns[first:] + turns[:first]:
                    if round_:
                        gc.collect()
                        models = saves.models[: point.tables]
                        samples += [
                            save(sessions, point.rows, models) for _ in range(_burst(point.rows))
                        ]
                    else:
                        _check(place, sessions, point, saves, save)
                if step is not None:
                    step(str(point))
            settled()
    cells = [GridCell(point, ours[point], plain[point], bulk[point]) for point in points]
    return Grid(cells, rounds, kind)


def _burst(rows: int) -> int:
    return next((saves for most, saves in _BURSTS if rows <= most), 1)


@contextmanager
def _steady_collector() -> Iterator[Callable[[], None]]:
    """Exclude permanent objects from garbage collection, so that the collection before each sample
    is short.
    """

    def settle() -> None:
        gc.collect()
        gc.freeze()

    try:
        yield settle
    finally:
        gc.unfreeze()


def _start_afresh(place: Place, points: Sequence[GridPoint], saves: Saves) -> None:
    """Empty the tables, then save few and many rows in each session that will be measured: an
    emptied table is a new one to code that remembers facts about tables.
    """
    most = max(point.rows for point in points)
    saves.empty(place, most)
    for driver, distance in dict.fromkeys((one.driver, one.round_trip_ms) for one in points):
        there = place.on(driver).at(distance)
        for sessions in (there.ours, there.plain):
            for rows in (len(saves.models), min(most, _WARM_UP_ROWS)):
                saves.save(sessions, rows, saves.models)


def _check(place: Place, sessions: Sessions, point: GridPoint, saves: Saves, save: Save) -> None:
    before = saves.written(place)
    save(sessions, point.rows, saves.models[: point.tables])
    written = saves.written(place) - before
    if written != point.rows:
        raise WrongRowsError(f"{point}: a save wrote {written} rows")
