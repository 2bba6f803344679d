"""Stores what this process knows of the database of one engine.

SQLAlchemy has one dialect for each ``create_engine()``, and engines derived by
``execution_options()`` share it. So a database is found by its dialect, and what is known of it is
deleted with the dialect. It has several parts. Each part is a class in the module that fills it,
made without arguments: the facts of its tables are ``Tables`` in ``_ids.catalogue``, the time of a
round trip is ``Distance`` in ``_routes``.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from sqlalchemy import Dialect

_Part = TypeVar("_Part")

# Stored in the dialect's own __dict__, and so for as long as the dialect exists. A flush looks its
# database up many times, and a weak reference would take three calls each time.
_KEPT: Final = "sqla_seqreserve_database"


def known_of(dialect: Dialect, part: type[_Part]) -> _Part:
    """Return one part of what is known of the database of the engine that has this dialect; at
    first it is what ``part()`` makes.
    """
    try:
        found = dialect.__dict__[_KEPT][part]
    except KeyError:
        parts: dict[type[Any], Any] = dialect.__dict__.setdefault(_KEPT, {})
        # Of two threads that ask at once, one's part is stored and both get it.
        found = parts.setdefault(part, part())
    known: _Part = found
    return known


class _Warned(set[str]):
    """The warnings that were logged for an engine."""


def is_first_time(dialect: Dialect, warning: str) -> bool:
    """Whether this warning is asked about for the first time for this engine. A warning is logged
    once.
    """
    warned = known_of(dialect, _Warned)
    is_first = warning not in warned
    warned.add(warning)
    return is_first
