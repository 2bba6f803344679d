"""What a driver can do beyond what SQLAlchemy asks of it: one Protocol, one file a driver.

Nothing above this floor knows a driver's name, and nothing on it knows the ORM. A driver without a
file here is written to by SQLAlchemy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from sqlalchemy import Connection, Dialect

from .._database import database_of
from .._sqlalchemy.engine import sees_the_present
from .driver import (
    CommitAlong,
    CommitRefusedError,
    Comparison,
    CopyRows,
    Driver,
    InsertMessage,
    LostCommitError,
    MessageError,
    Returned,
    Row,
    TransactionStatus,
)
from .locking import LockRefusedError, MiscountedError, OutdatedError

__all__ = [
    "CommitAlong",
    "CommitRefusedError",
    "Comparison",
    "CopyRows",
    "Driver",
    "InsertMessage",
    "LockRefusedError",
    "LostCommitError",
    "MessageError",
    "MiscountedError",
    "OutdatedError",
    "Returned",
    "Row",
    "TransactionStatus",
    "driver_of",
    "driver_on",
    "drop_snapshot",
    "transaction_status",
]

# SQLAlchemy's name of a driver -> the file that knows it, which has a function make_driver().
_FILES: Final = {
    "asyncpg": "asyncpg",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "psycopg_async": "psycopg",
}


def driver_of(dialect: Dialect) -> Driver | None:
    """What is known of the driver below ``dialect``; ``None``: nothing beyond SQLAlchemy's own use
    of it. It is the driver as it was below the connection that was looked at last.
    """
    database = database_of(dialect)
    if not database.driver_is_known:
        if dialect.name == "postgresql" and dialect.driver in _FILES:
            file = import_module(f".{_FILES[dialect.driver]}", __name__)
            database.driver = file.make_driver(dialect)
        database.driver_is_known = True
    return database.driver


def driver_on(connection: Connection) -> Driver | None:
    """What is known of the driver below ``connection``, whose class, or that of its cursors, may be
    an agent's or the application's. Whoever sends something, or chooses a way, asks here.
    """
    database = database_of(connection.dialect)
    driver = database.driver if database.driver_is_known else driver_of(connection.dialect)
    if driver is None:
        return None
    database.driver = found = driver.on(connection.connection)
    return found


def transaction_status(connection: Connection) -> TransactionStatus:
    """Whether the connection's next statement begins a transaction, as far as its driver tells."""
    driver = driver_of(connection.dialect)
    return driver.transaction_status(connection.connection) if driver is not None else "open"


def drop_snapshot(connection: Connection) -> None:
    """End the driver's transaction that reading the catalogue has begun, where its snapshot would
    be older than the lock; the next statement begins it anew. To be called if it was idle before.
    """
    driver = driver_of(connection.dialect)
    if (
        driver is not None
        and driver.transaction_status(connection.connection) == "open"
        and not sees_the_present(connection)
    ):
        connection.connection.rollback()
