"""What a driver can do beyond what SQLAlchemy asks of it: one Protocol, one file a driver.

Nothing above this floor knows a driver's name, and nothing on it knows the ORM. A driver without a
file here is written to by SQLAlchemy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect

from .driver import CopyRows, Driver, InsertMessage, LockRefusedError, MessageError, Returned, Row

__all__ = [
    "CopyRows",
    "Driver",
    "InsertMessage",
    "LockRefusedError",
    "MessageError",
    "Returned",
    "Row",
    "driver_of",
]

# SQLAlchemy's name of a driver -> the file that knows it, which has a function make_driver().
_FILES: Final = {
    "asyncpg": "asyncpg",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "psycopg_async": "psycopg",
}

_drivers: WeakKeyDictionary[Dialect, Driver | None] = WeakKeyDictionary()


def driver_of(dialect: Dialect) -> Driver | None:
    """What is known of the driver below ``dialect``; ``None``: nothing beyond SQLAlchemy's own use
    of it.
    """
    try:
        return _drivers[dialect]
    except KeyError:
        pass
    driver: Driver | None = None
    if dialect.name == "postgresql" and dialect.driver in _FILES:
        driver = import_module(f".{_FILES[dialect.driver]}", __name__).make_driver(dialect)
    _drivers[dialect] = driver
    return driver
