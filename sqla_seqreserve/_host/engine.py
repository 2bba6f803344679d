"""What lies below a connection: the driver's own cursor and its coroutines."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.util import await_only


def driver_cursor(cursor: DBAPICursor) -> Any:
    """The driver's own cursor below the one that SQLAlchemy adapts for async drivers."""
    return getattr(cursor, "_cursor", cursor)


def await_driver(awaitable: Any) -> Any:
    """Wait for a driver's coroutine from the synchronous code that SQLAlchemy runs in a
    greenlet.
    """
    return await_only(awaitable)
