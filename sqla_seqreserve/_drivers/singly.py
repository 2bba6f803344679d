"""A driver below an engine whose way to the server takes one statement in a message and no more, as
some poolers and proxies do: ``register(..., messages="single")``.

Each statement goes through the driver's own ``execute()``: BEGIN by itself, no pipeline, no several
statements in one text. COPY, which is one statement, stays. psycopg's ``executemany()`` sends its
rows in pipeline mode, so they are executed one by one (``_drivers.statements``), which the costs of
a row say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from .._reasons import Reason
from .driver import Comparison, CopyRows, Driver, InsertMessage, Returned, Row, State, TypeTable
from .locking import guarded
from .wrapped import take

__all__ = ["Singly"]

_ROUND_TRIP: Final = 300.0
"""Microseconds, at least, of a row that takes a round trip of its own."""


class Singly:
    """What is left of a driver if each statement is a message of its own."""

    begins_along = False
    takes_scripts = False
    sends_several = False
    returns_each = False
    lock_round_trips = 3

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.types: TypeTable = driver.types
        self.copy_round_trips = driver.copy_round_trips
        self.copy_start = driver.copy_start
        self.copy_row = driver.copy_row
        self.rows_apart = driver.types == "psycopg"
        """Whether the rows of an ``executemany()`` must be executed one by one."""
        self.insert_row = driver.insert_row + (_ROUND_TRIP if self.rows_apart else 0)
        self.numbered_row = driver.numbered_row
        self.executes_each = driver.executes_each or self.rows_apart
        self.executed_row = driver.executed_row
        self.statement = driver.statement
        self.reservation = driver.reservation
        self._twins: dict[Driver, Singly] = {driver: self}

    def on(self, connection: Any) -> Driver:
        below = self._driver.on(connection)
        if below not in self._twins:
            twin = self._twins[below] = Singly(below)
            twin._twins = self._twins
        return self._twins[below]

    @property
    def times_begin(self) -> bool:
        # psycopg sends its BEGIN within execute(), and only a pipeline shows its time.
        return not self.rows_apart and self._driver.times_begin

    def state(self, connection: Any) -> State:
        return self._driver.state(connection)

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        if self.times_begin:
            self._driver.time_begin(cursor, took)

    def setting(self, connection: Any, name: str) -> str | None:
        return self._driver.setting(connection, name)

    def refuses_copy(self, connection: Any) -> Reason | None:
        return self._driver.refuses_copy(connection)

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:
        return self._driver.refuses_types(connection, oids)

    def begin_along(self, cursor: Any) -> None:
        """BEGIN is a message of its own."""

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),  # noqa: ARG002  # executed as SQLAlchemy does, it knows them
    ) -> list[Row]:
        if lock is not None:
            take(cursor, guarded(lock))
        cursor.execute(statement, parameters)
        return [tuple(row) for row in cursor.fetchall()]

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        raise NotImplementedError("this engine takes one statement in a message")

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        return self._driver.copy(cursor, statement, rows)

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
    ) -> list[Returned]:
        raise NotImplementedError("this engine takes one statement in a message")
