"""What a driver can do beyond SQLAlchemy's use of it: one Protocol, and one file for each driver.

The layers above do not depend on a driver's name, and the drivers' files do not use the ORM. With a
driver that has no file here, SQLAlchemy writes everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from sqlalchemy import Connection, Dialect

from .._database import known_of
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
    "may_compare",
    "reading_before_lock",
    "transaction_status",
]

# SQLAlchemy's name of a driver -> its file here, which has a function make_driver().
_FILES: Final = {
    "asyncpg": "asyncpg",
    "psycopg": "psycopg",
    "psycopg2": "psycopg2",
    "psycopg_async": "psycopg",
}


class _Below:
    """The driver as it was found below the last connection of an engine that was examined."""

    driver: Driver | None = None
    is_known = False


def driver_of(dialect: Dialect) -> Driver | None:
    """The driver below ``dialect``, as it was found below the last connection that was examined;
    ``None``: it has no file here.
    """
    below = known_of(dialect, _Below)
    if not below.is_known:
        if dialect.name == "postgresql" and dialect.driver in _FILES:
            file = import_module(f".{_FILES[dialect.driver]}", __name__)
            below.driver = file.make_driver(dialect)
        below.is_known = True
    return below.driver


def driver_on(connection: Connection) -> Driver | None:
    """The driver below ``connection``. The class of the connection, or of its cursors, may be an
    agent's or the application's. Code that sends a statement, or chooses a way, must call this.
    """
    below = known_of(connection.dialect, _Below)
    driver = below.driver if below.is_known else driver_of(connection.dialect)
    if driver is None:
        return None
    below.driver = found = driver.on(connection.connection)
    return found


def transaction_status(connection: Connection) -> TransactionStatus:
    """Whether the connection's next statement begins a transaction; "open" for other drivers."""
    driver = driver_of(connection.dialect)
    return driver.transaction_status(connection.connection) if driver is not None else "open"


def may_compare(connection: Connection, driver: Driver) -> bool:
    """Whether a message can compare the known facts of a table under its lock, and then go on with
    statements.
    """
    autocommits = driver.transaction_status(connection.connection) == "autocommit"
    return not autocommits and sees_the_present(connection)


@contextmanager
def reading_before_lock(connection: Connection) -> Iterator[None]:
    """Read the catalogue within this, before tables are locked. If the reading has begun the
    driver's transaction, and its snapshot would be older than the lock, that transaction ends
    here; the next statement begins a new one.
    """
    was_idle = transaction_status(connection) == "idle"
    yield
    if was_idle and transaction_status(connection) == "open" and not sees_the_present(connection):
        connection.connection.rollback()
