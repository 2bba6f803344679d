"""A driver below a connection, or cursors, that are not of the driver's own classes.

Agents (Datadog, New Relic, Elastic APM, OpenTelemetry) replace these by proxies or subclasses, and
an application may do so with ``connect_args={"cursor_factory": ..}`` or ``creator=``. Such a class
may do anything in ``execute()``: record statements, bind parameters on the client's side, write to
a log. So SQLAlchemy's own cursor executes each statement, one at a time, and the class sees what it
would see with plain SQLAlchemy. COPY goes through the same cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, Final, Protocol

from .._reasons import Reason
from .._sqlstate import sqlstate_of
from .driver import (
    CommitAlong,
    Comparison,
    CopyRows,
    Driver,
    InsertMessage,
    Returned,
    Row,
    TransactionStatus,
    TypeTable,
)
from .locking import LOCK_REFUSED, UNDO, LockRefusedError, guarded

_INFO: Final = "sqla_seqreserve_no_copy"


class Wrappable(Driver, Protocol):
    """A driver that can also be used, with fewer abilities, below classes that are not its own."""

    def refuses_wrapped(self, connection: Any) -> Reason | None:
        """Why COPY cannot run on the pool's ``connection``, whose class or cursors are not the
        driver's own; ``None`` if it can. Does no I/O.
        """


class Wrapped:
    """What a driver can still do if every statement goes through the cursor's ``execute()``."""

    begins_along = False
    commits_along = False
    takes_scripts = False
    scripts_return = False
    sends_several = False
    returns_each = False
    gathers_from = inf
    times_begin = False

    def __init__(self, driver: Wrappable) -> None:
        self._driver = driver
        self.types: TypeTable = driver.types
        self.copy_round_trips = driver.copy_round_trips
        self.executes_each = driver.executes_each
        self.work = driver.work
        self._takes_several = driver.types != "asyncpg"
        """Whether ``execute()`` takes several statements without parameters."""
        self.lock_round_trips = 1 if self._takes_several else 3

    def on(self, connection: Any) -> Driver:
        return self._driver.on(connection)

    def transaction_status(self, connection: Any) -> TransactionStatus:
        return self._driver.transaction_status(connection)

    def setting(self, connection: Any, name: str) -> str | None:
        return self._driver.setting(connection, name)

    def refuses_copy(self, connection: Any) -> Reason | None:
        reason = self._driver.refuses_copy(connection)
        if reason is not None:
            return reason
        known: dict[str, Reason | None] = connection.info
        if _INFO not in known:
            known[_INFO] = self._driver.refuses_wrapped(connection)
        return known[_INFO]

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:
        return self._driver.refuses_types(connection, oids)

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:
        return self._driver.encodes(connection, oids)

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        """Does nothing: the BEGIN of such a cursor cannot be timed by itself."""

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        """Does nothing: the cursor begins the transaction as its class does."""

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),  # noqa: ARG002  # executed as SQLAlchemy does, it knows them
    ) -> list[Row]:
        if lock is not None:
            locking = guarded(lock)
            _take_lock(cursor, [";".join(locking)] if self._takes_several else locking)
        cursor.execute(statement, parameters)
        return [tuple(row) for row in cursor.fetchall()]

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        raise NotImplementedError("each statement is executed by the cursor below SQLAlchemy's")

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        return self._driver.copy(cursor, statement, rows)

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,
    ) -> list[Returned]:
        raise NotImplementedError("each statement is executed by the cursor below SQLAlchemy's")


def _take_lock(cursor: Any, locking: Sequence[str]) -> None:
    """Take a lock with these statements, the first of which sets a savepoint. Each is executed by
    itself.

    :raises LockRefusedError: the server refused the lock; the transaction is as it was before.
    """
    for statement in locking:
        try:
            cursor.execute(statement)
        except Exception as error:
            if sqlstate_of(error) not in LOCK_REFUSED:
                raise
            for undoing in UNDO:
                cursor.execute(undoing)
            raise LockRefusedError from error
