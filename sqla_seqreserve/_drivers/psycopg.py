"""psycopg 3, synchronous and not.

Messages are put together below ``psycopg.Connection``, through its ``pgconn`` and the generators
that it runs itself: entering and leaving ``connection.pipeline()`` costs more than what it saves
locally. Read in psycopg 3.2.0 and 3.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from sqlalchemy import Dialect

from .._reasons import Reason
from .._sqlalchemy.engine import await_driver, driver_cursor
from .driver import (
    Comparison,
    CopyRows,
    Driver,
    InsertMessage,
    MessageError,
    Returned,
    Row,
    TransactionStatus,
    TypeTable,
)
from .locking import LOCK_REFUSED, OUTDATED, UNDO, LockRefusedError, OutdatedError, guarded
from .wrapped import Wrappable, Wrapped

__all__ = ["make_driver"]


class _Psycopg(Wrappable):
    types: TypeTable = "psycopg"
    copy_round_trips = 2
    begins_along = True
    takes_scripts = True
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
        return "idle" if _is_idle(driver) else "open"

    def setting(self, connection: Any, name: str) -> str | None:
        value: str | None = connection.driver_connection.info.parameter_status(name)
        return value

    def begin_along(self, cursor: Any) -> None:
        from .psycopg_prepared import begin_along

        begin_along(self._below(cursor))

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
        opens = _is_idle(connection)
        if lock is None and not opens:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())
        before, place = _before(connection, lock, opens)
        asking = _asking(connection, ClientCursor, before, statement, parameters, place)
        try:
            with connection.lock:
                return connection.wait(asking)  # type: ignore[no-any-return]  # psycopg's wait() takes any generator
        except LockRefusedError:
            if opens:
                connection.rollback()
            elif place != 1:
                with connection.lock:
                    connection.wait(_query(connection, ";".join(UNDO)))
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
    ) -> list[Returned]:
        driver = connection.driver_connection
        opens = _is_idle(driver)
        try:
            with driver.lock:
                return driver.wait(_send(driver, inserts, first))  # type: ignore[no-any-return]  # as above
        except OutdatedError:
            if opens:
                driver.rollback()
            else:
                with driver.lock:
                    driver.wait(_query(driver, ";".join(UNDO)))
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
        opens = _is_idle(connection)
        if lock is None and not opens:
            await cursor.execute(statement, parameters)
            return list(await cursor.fetchall())
        before, place = _before(connection, lock, opens)
        asking = _asking(connection, AsyncClientCursor, before, statement, parameters, place)
        try:
            async with connection.lock:
                return await connection.wait(asking)  # type: ignore[no-any-return]  # as above
        except LockRefusedError:
            if opens:
                await connection.rollback()
            elif place != 1:
                async with connection.lock:
                    await connection.wait(_query(connection, ";".join(UNDO)))
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
    ) -> list[Returned]:
        return await_driver(self._send(connection.driver_connection, inserts, first))  # type: ignore[no-any-return]  # as above

    async def _send(
        self, driver: Any, inserts: Sequence[InsertMessage], first: Comparison | None
    ) -> list[Returned]:
        opens = _is_idle(driver)
        try:
            async with driver.lock:
                return await driver.wait(_send(driver, inserts, first))  # type: ignore[no-any-return]  # as above
        except OutdatedError:
            if opens:
                await driver.rollback()
            else:
                async with driver.lock:
                    await driver.wait(_query(driver, ";".join(UNDO)))
            raise


def make_driver(dialect: Dialect) -> Driver:
    """What psycopg can do, below an engine or an async engine."""
    from .psycopg_classes import ASYNC, SYNC

    return _AsyncPsycopg(ASYNC) if dialect.is_async else _SyncPsycopg(SYNC)


def _is_idle(driver: Any) -> bool:
    """Whether psycopg would begin a transaction before the next statement."""
    from psycopg import pq

    return not driver.autocommit and driver.pgconn.transaction_status == pq.TransactionStatus.IDLE


def _begin(driver: Any) -> str:
    """What psycopg begins a transaction of this connection with."""
    words = ["BEGIN"]
    if driver.isolation_level is not None:
        words.append(f"ISOLATION LEVEL {driver.isolation_level.name.replace('_', ' ')}")
    if driver.read_only is not None:
        words.append("READ ONLY" if driver.read_only else "READ WRITE")
    if driver.deferrable is not None:
        words.append("DEFERRABLE" if driver.deferrable else "NOT DEFERRABLE")
    return " ".join(words)


def _is_alone(driver: Any) -> bool:
    """Whether each message is a transaction of its own."""
    from psycopg import pq

    return bool(driver.autocommit) and (
        driver.pgconn.transaction_status == pq.TransactionStatus.IDLE
    )


def _before(driver: Any, lock: str | None, opens: bool) -> tuple[list[str], int | None]:
    """What is sent before the query, and how many of the message's statements have run, or failed,
    by the time the lock is taken. In an open transaction a savepoint around the lock alone keeps
    a refused lock from failing the transaction; in autocommit the message is a transaction.
    """
    if _is_alone(driver):
        assert lock is not None
        return [lock], 1
    if lock is None:
        return [_begin(driver)], None
    # A lock of several statements is one text.
    place = 2 + lock.count(";")
    return ([_begin(driver), lock] if opens else [*guarded(lock)]), place


def _asking(
    driver: Any,
    client: Any,
    before: Sequence[str],
    statement: str,
    parameters: Any,
    locked: int | None,
) -> Generator[Any, Any, list[Row]]:
    """What sends a query behind other statements in one message, and loads its rows.

    :param client: the class of a cursor that binds by itself, for a query that is not prepared.
    """
    if _prepares(driver, before):
        from .psycopg_prepared import query_prepared

        return query_prepared(driver, before, statement, parameters, locked)
    query = client(driver).mogrify(statement, parameters)
    return _query(driver, ";".join([*before, query]), locked)


def _prepares(driver: Any, before: Sequence[str]) -> bool:
    """Whether a query that comes again may be prepared, and what is sent before it are statements
    of a transaction, one by one.
    """
    return (
        driver.prepare_threshold is not None
        and not _is_alone(driver)
        and not any(";" in one for one in before)
    )


def _query(driver: Any, text: str, locked: int | None = None) -> Generator[Any, Any, list[Row]]:
    """Send one simple query and load the rows of its last statement."""
    from psycopg import generators
    from psycopg.adapt import Transformer
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    pgconn, encoding = driver.pgconn, driver.info.encoding
    pgconn.send_query(text.encode(encoding))
    results = yield from generators.execute(pgconn)
    result = results[-1]
    if result.status == ExecStatus.TUPLES_OK:
        loading = Transformer(driver)
        loading.set_pgresult(result)
        return loading.load_rows(0, result.ntuples, tuple)
    if result.status == ExecStatus.COMMAND_OK:
        return []
    error = error_from_result(result, encoding)
    # A result for each statement that succeeded and one for that which failed.
    if locked is not None and len(results) <= locked and error.sqlstate in LOCK_REFUSED:
        raise LockRefusedError from error
    raise error


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


_FIRST: Final = (-1, 0)  # the place of what goes before the INSERTs of a message


def _send(
    driver: Any, inserts: Sequence[InsertMessage], first: Comparison | None
) -> Generator[Any, Any, list[Returned]]:
    """Send every INSERT, the BEGIN before them if there is none, and one sync; then read what came
    back.
    """
    from psycopg import generators
    from psycopg.adapt import PyFormat, Transformer
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    from .psycopg_prepared import Statements, finish_queued, leave_pipeline, numbered

    pgconn, encoding = driver.pgconn, driver.info.encoding
    places: list[tuple[int, int] | None] = []
    commands: list[tuple[Any, ...]] = []
    opens = _is_idle(driver)
    if opens:
        commands.append((pgconn.send_query_params, _begin(driver).encode(), None))
        places.append(None)
    often = Counter[str]()
    for insert in inserts:
        often[insert.statement] += len(insert.parameters)
    statements = Statements(driver)
    dumping = Transformer(driver)
    if first is not None:
        calls = statements.comparing(first, opens=opens)
        commands += calls
        places += [_FIRST] * len(calls)
    # Everything is in its bytes before anything is sent: what cannot be dumped is refused here, and
    # what stands before it is sent, as by itself.
    refused: tuple[int, int, Exception] | None = None
    for position, insert in enumerate(inserts):
        text, names = numbered(insert.statement, encoding)
        formats = [PyFormat.AUTO] * len(names)
        many = often[insert.statement] > 1
        for row, parameters in enumerate(insert.parameters):
            try:
                values = dumping.dump_sequence([parameters[name] for name in names], formats)
            except Exception as error:
                refused = position, row, error
                break
            types = dumping.types or ()
            calls = statements.commands(text, values, types, dumping.formats, many=many)
            commands += calls
            places += [(position, row)] * len(calls)
        if refused is not None:
            break
    if refused is not None and refused[:2] == (0, 0):
        raise MessageError(0, 0) from refused[2]
    back = [Returned([]) for _ in inserts]
    failure: tuple[tuple[int, int] | None, Any] | None = None
    loading = Transformer(driver)
    pgconn.enter_pipeline_mode()
    try:
        for queued, (send, *arguments) in enumerate(commands):
            try:
                send(*arguments)
            except Exception as error:
                done = yield from finish_queued(pgconn, queued)
                for place, result in zip(places, done, strict=False):
                    if result.status == ExecStatus.FATAL_ERROR:
                        refusal = error_from_result(result, encoding)
                        raise MessageError(*(place or (0, 0))) from refusal
                raise MessageError(*(places[queued] or (0, 0))) from error
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        for place in places:
            for result in (yield from generators.fetch_many(pgconn)):
                if result.status == ExecStatus.TUPLES_OK and place is not _FIRST:
                    assert place is not None
                    loading.set_pgresult(result)
                    found = back[place[0]]
                    if not found.oids:
                        found.oids = [result.ftype(column) for column in range(result.nfields)]
                    found.rows.extend(loading.load_rows(0, result.ntuples, tuple))
                    found.count += result.ntuples
                elif result.status == ExecStatus.COMMAND_OK and place and place is not _FIRST:
                    back[place[0]].count += result.command_tuples or 0
                elif result.status == ExecStatus.FATAL_ERROR and failure is None:
                    failure = place, error_from_result(result, encoding)
        yield from generators.fetch_many(pgconn)
    finally:
        leave_pipeline(pgconn)
    if failure is None:
        yield from statements.keep()
        if refused is not None:
            raise MessageError(*refused[:2], back) from refused[2]
    else:
        place, refusal = failure
        if place is _FIRST and refusal.sqlstate in OUTDATED:
            raise OutdatedError from refusal
        raise MessageError(*(place if place and place is not _FIRST else (0, 0)), back) from refusal
    return back
