"""psycopg 3, synchronous and not: what goes through a cursor, and what is a message of its own
(``_drivers.psycopg_messages``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Dialect

from .._reasons import Reason
from .._sqlalchemy.engine import await_driver, driver_cursor
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
from .psycopg_messages import asking_query, before_query, is_idle, send_message, simple_query
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
    times_begin = True
    lock_round_trips = 0

    copy_start = 300.0
    copy_row = 3.0
    insert_row = 26.0
    numbered_row = 46.0
    executes_each = False
    executed_row = 20.0
    statement = 150.0
    reservation = 230.0

    def __init__(self, own: Any) -> None:
        self._has = own.has
        self._wrapped = Wrapped(self)

    def on(self, connection: Any) -> Driver:
        return self if self._has(connection.driver_connection) else self._wrapped

    def refuses_wrapped(self, connection: Any) -> Reason | None:
        from .psycopg_classes import refused_cursor

        with closing(connection.cursor()) as cursor:
            return refused_cursor(self._below(cursor))

    def transaction_status(self, connection: Any) -> TransactionStatus:
        driver = connection.driver_connection
        # Within pipeline() a message holds one statement, and what it brings comes later.
        if driver.autocommit or getattr(driver, "_pipeline", None) is not None:
            return "autocommit"
        return "idle" if is_idle(driver) else "open"

    def setting(self, connection: Any, name: str) -> str | None:
        value: str | None = connection.driver_connection.info.parameter_status(name)
        return value

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        from .psycopg_along import travel_along

        travel_along(self._below(cursor), commit)

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        from .psycopg_prepared import time_first

        time_first(self._below(cursor).connection, took)

    def _below(self, cursor: Any) -> Any:
        """The driver's cursor below SQLAlchemy's."""
        raise NotImplementedError

    def refuses_copy(self, connection: Any) -> Reason | None:  # noqa: ARG002  # the protocol's
        return None

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:  # noqa: ARG002  # the protocol's
        return None


class _SyncPsycopg(_Psycopg):
    def _below(self, cursor: Any) -> Any:
        return cursor

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),  # noqa: ARG002  # psycopg knows them
    ) -> list[Row]:
        from psycopg import ClientCursor

        connection = cursor.connection
        opens = is_idle(connection)
        if lock is None and not opens:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())
        before, place = before_query(connection, lock, opens)
        asking = asking_query(connection, ClientCursor, before, statement, parameters, place)
        try:
            with connection.lock:
                return connection.wait(asking)  # type: ignore[no-any-return]  # psycopg's wait() takes any generator
        except LockRefusedError:
            if opens:
                connection.rollback()
            elif place != 1:
                with connection.lock:
                    connection.wait(simple_query(connection, ";".join(UNDO)))
            raise

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        cursor.execute(";".join(statements), prepare=False)
        while cursor.nextset():
            pass

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        with _refused_as_by_insert(rows), cursor.copy(statement) as copy:
            if rows.binary:
                copy.set_types(rows.oids)
            write_row = copy.write_row
            for block in rows.blocks():
                for row in block:
                    write_row(row)
        return int(cursor.rowcount)

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,
    ) -> list[Returned]:
        driver = connection.driver_connection
        opens = is_idle(driver)
        try:
            with driver.lock:
                return driver.wait(send_message(driver, inserts, first, commits=commits))  # type: ignore[no-any-return]  # as above
        except OutdatedError:
            if opens:
                driver.rollback()
            else:
                with driver.lock:
                    driver.wait(simple_query(driver, ";".join(UNDO)))
            raise


class _AsyncPsycopg(_Psycopg):
    def _below(self, cursor: Any) -> Any:
        return driver_cursor(cursor)

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),  # noqa: ARG002  # psycopg knows them
    ) -> list[Row]:
        return await_driver(  # type: ignore[no-any-return]  # whatever the coroutine returns
            self._query(driver_cursor(cursor), lock, statement, parameters)
        )

    async def _query(
        self, cursor: Any, lock: str | None, statement: str, parameters: Any
    ) -> list[Row]:
        from psycopg import AsyncClientCursor

        connection = cursor.connection
        opens = is_idle(connection)
        if lock is None and not opens:
            await cursor.execute(statement, parameters)
            return list(await cursor.fetchall())
        before, place = before_query(connection, lock, opens)
        asking = asking_query(connection, AsyncClientCursor, before, statement, parameters, place)
        try:
            async with connection.lock:
                return await connection.wait(asking)  # type: ignore[no-any-return]  # as above
        except LockRefusedError:
            if opens:
                await connection.rollback()
            elif place != 1:
                async with connection.lock:
                    await connection.wait(simple_query(connection, ";".join(UNDO)))
            raise

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        own = driver_cursor(cursor)
        await_driver(own.execute(";".join(statements), prepare=False))
        while own.nextset():
            pass

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        return int(await_driver(self._copy(driver_cursor(cursor), statement, rows)))

    async def _copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        with _refused_as_by_insert(rows):
            async with cursor.copy(statement) as copy:
                if rows.binary:
                    copy.set_types(rows.oids)
                write_row = copy.write_row
                for block in rows.blocks():
                    for row in block:
                        await write_row(row)
        return int(cursor.rowcount)

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,
    ) -> list[Returned]:
        driver = connection.driver_connection
        return await_driver(self._send(driver, inserts, first, commits=commits))  # type: ignore[no-any-return]  # as above

    async def _send(
        self,
        driver: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None,
        *,
        commits: bool,
    ) -> list[Returned]:
        opens = is_idle(driver)
        try:
            async with driver.lock:
                return await driver.wait(send_message(driver, inserts, first, commits=commits))  # type: ignore[no-any-return]  # as above
        except OutdatedError:
            if opens:
                await driver.rollback()
            else:
                async with driver.lock:
                    await driver.wait(simple_query(driver, ";".join(UNDO)))
            raise


def make_driver(dialect: Dialect) -> Driver:
    """What psycopg can do, below an engine or an async engine."""
    from .psycopg_classes import ASYNC, SYNC

    return _AsyncPsycopg(ASYNC) if dialect.is_async else _SyncPsycopg(SYNC)


@contextmanager
def _refused_as_by_insert(rows: CopyRows) -> Iterator[None]:
    """Refuse text with NUL as psycopg does by itself, but for binary COPY."""
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
