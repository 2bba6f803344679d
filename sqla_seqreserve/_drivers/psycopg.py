"""psycopg 3, synchronous and asynchronous: statements that go through a cursor, and messages that
this package makes itself (``_drivers.psycopg_messages``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any

from psycopg import Binary
from sqlalchemy import Dialect
from sqlalchemy.util import await_only

from .._reasons import Reason
from .._routes import Work
from .._sqlalchemy.engine import driver_cursor
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
from .locking import UNDO, LockRefusedError, OutdatedError
from .psycopg_along import begin_with_script, travel_along
from .psycopg_classes import ASYNC, SYNC, refused_cursor
from .psycopg_messages import (
    IDLE,
    asking_query,
    before_query,
    begin_of,
    is_idle,
    send_message,
    simple_query,
)
from .psycopg_prepared import time_first
from .row_counts import UNDO_COUNTING
from .text_format import bytea_text
from .wrapped import Wrappable, Wrapped


class _Psycopg(Wrappable):
    types: TypeTable = "psycopg"
    copy_round_trips = 2
    begins_along = True
    commits_along = True
    takes_scripts = True
    scripts_return = True
    sends_several = True
    returns_each = True
    gathers_from = 0.0
    times_begin = True
    lock_round_trips = 0
    executes_each = False
    work = Work(
        copy_start=300.0,
        copy_row=3.0,
        insert_row=26.0,
        numbered_row=46.0,
        executed_row=20.0,
        statement=150.0,
        reservation=300.0,
    )

    def __init__(self, own: Any) -> None:
        self._has = own.has
        self._client = own.client
        self._wrapped = Wrapped(self)

    def on(self, connection: Any) -> Driver:
        return self if self._has(self._own(connection)) else self._wrapped

    def refuses_wrapped(self, connection: Any) -> Reason | None:
        with closing(connection.cursor()) as cursor:
            return refused_cursor(self._below(cursor))

    def transaction_status(self, connection: Any) -> TransactionStatus:
        driver = self._own(connection)
        # Within pipeline() a message holds one statement, and its results come later.
        if driver.autocommit or getattr(driver, "_pipeline", None) is not None:
            return "autocommit"
        return "idle" if driver.pgconn.transaction_status == IDLE else "open"

    def setting(self, connection: Any, name: str) -> str | None:
        value: str | None = self._own(connection).info.parameter_status(name)
        return value

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        travel_along(self._below(cursor), commit)

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        time_first(self._below(cursor).connection, took)

    def refuses_copy(self, connection: Any) -> Reason | None:  # noqa: ARG002  # the protocol's
        return None

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:  # noqa: ARG002  # the protocol's
        return None

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),  # noqa: ARG002  # psycopg knows them
    ) -> list[Row]:
        own = self._below(cursor)
        connection = own.connection
        opens = is_idle(connection)
        if lock is None and not opens:
            self._done(own.execute(statement, parameters))
            return list(self._done(own.fetchall()))
        before, place = before_query(connection, lock, opens)
        asking = asking_query(connection, self._client, before, statement, parameters, place)
        try:
            return self._wait(connection, asking)  # type: ignore[no-any-return]  # as the generator
        except LockRefusedError:
            if opens or place != 1:
                self._undo(connection, opens=opens)
            raise

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        own = self._below(cursor)
        if is_idle(own.connection) and begin_with_script(own):
            statements = [begin_of(own.connection), *statements]
        self._done(own.execute(";".join(statements), prepare=False))
        while own.nextset():
            pass

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,
    ) -> list[Returned]:
        driver = self._own(connection)
        opens = is_idle(driver)
        try:
            return self._wait(driver, send_message(driver, inserts, first, commits=commits))  # type: ignore[no-any-return]  # as above
        except OutdatedError:
            is_counted = commits and any(insert.counts for insert in inserts)
            self._undo(driver, opens=opens, statements=UNDO_COUNTING if is_counted else UNDO)
            raise

    def _undo(self, driver: Any, *, opens: bool, statements: Sequence[str] = UNDO) -> None:
        """Put the transaction back to its state before a message that was refused.

        :param opens: there was no transaction before the message.
        :param statements: the statements that undo the message if there was one.
        """
        if opens:
            self._done(driver.rollback())
        else:
            self._wait(driver, simple_query(driver, ";".join(statements)))

    _own: Callable[[Any], Any]
    """The driver's connection below the pool's, even if it was detached from the pool."""

    def _below(self, cursor: Any) -> Any:
        """The driver's cursor below SQLAlchemy's."""
        raise NotImplementedError

    def _done(self, called: Any) -> Any:
        """The result of a call of one of the driver's methods, also if it is a coroutine."""
        raise NotImplementedError

    def _wait(self, driver: Any, generator: Any) -> Any:
        """Run a generator that sends and receives; return its result."""
        result, error = self._wait_for(driver, _outcome(generator))
        if error is None:
            return result
        try:
            raise error
        finally:
            del error

    def _wait_for(self, driver: Any, generator: Any) -> Any:
        """Run a generator that sends and receives, and raises nothing."""
        raise NotImplementedError


def _outcome(generator: Any) -> Generator[Any, Any, tuple[Any, Exception | None]]:
    """A generator that returns the result of another one, or the error that it raised. While
    psycopg cancels a statement, it expects ``QueryCanceled``, and takes any other error for a
    failure.
    """
    try:
        return (yield from generator), None
    except Exception as error:
        return None, error


class _SyncPsycopg(_Psycopg):
    _own = attrgetter("dbapi_connection")

    def _below(self, cursor: Any) -> Any:
        return cursor

    def _done(self, called: Any) -> Any:
        return called

    def _wait_for(self, driver: Any, generator: Any) -> Any:
        with driver.lock:
            return driver.wait(generator)

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        rows = _as_copied(cursor.connection, rows)
        with _refused_as_by_insert(rows), cursor.copy(statement) as copy:
            if rows.binary:
                copy.set_types(rows.oids)
            write_row = copy.write_row
            for block in rows.blocks():
                for row in block:
                    write_row(row)
        return int(cursor.rowcount)


class _AsyncPsycopg(_Psycopg):
    # SQLAlchemy's asynchronous cursor has the rows only of a statement that it executes itself.
    scripts_return = False
    _own = attrgetter("dbapi_connection.driver_connection")

    def _below(self, cursor: Any) -> Any:
        return driver_cursor(cursor)

    def _done(self, called: Any) -> Any:
        return await_only(called)

    def _wait_for(self, driver: Any, generator: Any) -> Any:
        async def wait() -> Any:
            async with driver.lock:
                return await driver.wait(generator)

        return await_only(wait())

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        return int(await_only(self._copy(driver_cursor(cursor), statement, rows)))

    async def _copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        rows = _as_copied(cursor.connection, rows)
        with _refused_as_by_insert(rows):
            async with cursor.copy(statement) as copy:
                if rows.binary:
                    copy.set_types(rows.oids)
                write_row = copy.write_row
                for block in rows.blocks():
                    for row in block:
                        await write_row(row)
        return int(cursor.rowcount)


def make_driver(dialect: Dialect) -> Driver:
    """The driver psycopg, for an engine or an async engine."""
    return _AsyncPsycopg(ASYNC) if dialect.is_async else _SyncPsycopg(SYNC)


def _as_copied(driver: Any, rows: CopyRows) -> CopyRows:
    """The rows as COPY must get them. In text format, with ``standard_conforming_strings = off``,
    psycopg writes bytes as in a literal, whose backslashes are doubled. It writes those in a list
    so in an INSERT, too.
    """
    status = driver.pgconn.parameter_status
    if rows.binary or status(b"standard_conforming_strings") != b"off":
        return rows
    return replace(rows, values=[list(map(_without_bytes, values)) for values in rows.values])


def _without_bytes(value: Any) -> Any:
    if isinstance(value, Binary):
        value = value.obj
    return bytea_text(value) if isinstance(value, bytes | bytearray | memoryview) else value


@contextmanager
def _refused_as_by_insert(rows: CopyRows) -> Iterator[None]:
    """Raise psycopg's own error for text with NUL, which psycopg does not check in binary COPY."""
    from psycopg import DataError
    from psycopg.errors import CharacterNotInRepertoire

    try:
        yield
    except CharacterNotInRepertoire as error:
        if any(_has_nul(value) for values in rows.values for value in values):
            raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes") from error
        raise


def _has_nul(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value
