"""The distance to each engine's server, for the choice of a route."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from sqlalchemy import Dialect

from .._routes import Distance

__all__ = ["distance_to"]

_distances: WeakKeyDictionary[Dialect, Distance] = WeakKeyDictionary()


def distance_to(dialect: Dialect) -> Distance:
    """The distance to the server of an engine; there is one dialect for each."""
    distance = _distances.get(dialect)
    if distance is None:
        distance = _distances.setdefault(dialect, Distance())
    return distance
