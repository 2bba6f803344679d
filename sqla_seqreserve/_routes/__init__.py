"""What each way of sending a flush would cost, and the cheapest. Arithmetic; no database."""

from __future__ import annotations

from .choice import NO_WISHES, Costs, Pending, Route, Wishes, Work, choose, copy_crossover
from .distance import WORK, Distance

__all__ = [
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
