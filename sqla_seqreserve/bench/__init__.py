"""Measures the speed of this package, of plain SQLAlchemy and of other ways to write the same rows.

``sqla-seqreserve bench`` runs it. :data:`WORKS` lists what is measured, each :class:`Work` in
several :class:`Way`\\ s, ours one of them, and with what is required of ours. :func:`run_work` does
one of them in a database that :func:`open_place` makes. A way is run once in every round, and
speeds are compared as ratios of medians: what the machine did meanwhile falls out of a ratio, but
not out of a time.

The functions that write are in ``ways`` (for payments) and ``workloads``. :func:`run_grid` compares
this package with plain SQLAlchemy alone, over many sizes, distances and drivers.
"""

from __future__ import annotations

from .drivers import DRIVERS, check_driver, driver_of
from .grid import Grid, GridCell, GridPoint, grid_points, run_grid
from .machine import describe_machine
from .place import Place, open_place
from .results import Requirement, Result
from .runner import WrongRowsError, run_work
from .work import OURS, PLAIN, Measure, Required, Way, Work
from .workloads import WORKS

__all__ = [
    "DRIVERS",
    "OURS",
    "PLAIN",
    "WORKS",
    "Grid",
    "GridCell",
    "GridPoint",
    "Measure",
    "Place",
    "Required",
    "Requirement",
    "Result",
    "Way",
    "Work",
    "WrongRowsError",
    "check_driver",
    "describe_machine",
    "driver_of",
    "grid_points",
    "open_place",
    "run_grid",
    "run_work",
]
