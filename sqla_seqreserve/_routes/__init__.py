"""What each way of sending a flush would cost, and the cheapest. Arithmetic; no database."""

from __future__ import annotations

from .choice import Pending, Route, Wishes, choose, copy_crossover
from .distance import Distance
from .wire import Wire

__all__ = ["Distance", "Pending", "Route", "Wire", "Wishes", "choose", "copy_crossover"]
