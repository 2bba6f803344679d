"""Calculates the cost of each way to send a flush, and chooses the cheapest, without a database."""

from __future__ import annotations

from .choice import (
    FEWEST_RETURNING,
    NO_WISHES,
    Costs,
    Pending,
    Route,
    Wishes,
    Work,
    choose,
    copy_crossover,
)
from .distance import MOST_TIMED, WORK, Distance

__all__ = [
    "FEWEST_RETURNING",
    "MOST_TIMED",
    "NO_WISHES",
    "WORK",
    "Costs",
    "Distance",
    "Pending",
    "Route",
    "Wishes",
    "Work",
    "choose",
    "copy_crossover",
]
