"""psycopg2: COPY in binary or text format, and several statements in one ``execute()``.

psycopg2 sends BEGIN in a round trip of its own, and writes parameters into the text, so a message
is a text (:mod:`.psycopg2_messages`). psycopg2's code was read in version 2.9.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from typing import Any

from psycopg2 import extensions
from sqlalchemy import Dialect

from .._reasons import WAIT_CALLBACK, Reason, no_copy_through
from .._routes import Work
from .binary_format import binary_blocks
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
from .locking import LOCK_REFUSED, LockRefusedError, guarded
from .psycopg2_messages import is_idle, send_message, was_locked
from .text_format import FORMATS, TextFormat, bytea_text, range_text, text_blocks, with_arrays
from .wrapped import Wrapped


class _Psycopg2:
    types: TypeTable = "psycopg2"
    copy_round_trips = 2
    begins_along = False
    commits_along = False
    takes_scripts = True
    scripts_return = True
    sends_several = True
    lock_round_trips = 0
    returns_each = False
    # With a nearer server, the savepoint and the comparison cost more time than they save.
    gathers_from = 800.0
    executes_each = True
    work = Work(
        copy_start=330.0,
        copy_row=7.0,
        insert_row=40.0,
        numbered_row=42.0,
        executed_row=25.0,
        statement=150.0,
        reservation=370.0,
    )

    def __init__(self) -> None:
        self._wrapped = Wrapped(self)
        self._alone = set[str]()
        """Statements that the server refuses together with others, but not by themselves."""

    def on(self, connection: Any) -> Driver:
        driver = connection.dbapi_connection
        if type(driver) is extensions.connection and (
            driver.cursor_factory is None or driver.cursor_factory is extensions.cursor
        ):
            return self
        return self._wrapped

    def refuses_wrapped(self, connection: Any) -> Reason | None:
        with closing(connection.cursor()) as cursor:
            return None if hasattr(cursor, "copy_expert") else no_copy_through(type(cursor))

    def transaction_status(self, connection: Any) -> TransactionStatus:
        driver = connection.dbapi_connection
        if driver.autocommit:
            return "autocommit"
        return "idle" if is_idle(driver) else "open"

    def setting(self, connection: Any, name: str) -> str | None:
        value: str | None = connection.dbapi_connection.get_parameter_status(name)
        return value

    def refuses_copy(self, connection: Any) -> Reason | None:  # noqa: ARG002  # the protocol's
        if extensions.get_wait_callback() is not None:
            return WAIT_CALLBACK
        return None

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:  # noqa: ARG002  # the protocol's
        return None

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        """Does nothing: psycopg2 sends BEGIN by itself, before anything else."""

    @property
    def times_begin(self) -> bool:
        # psycopg2 does not support large objects while a wait callback is set.
        return extensions.get_wait_callback() is None

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        connection = cursor.connection
        if not (self.times_begin and is_idle(connection)):
            return
        started = time.perf_counter()
        # A large object that is neither opened nor created: psycopg2 sends only the BEGIN.
        connection.lobject(1, "n")
        seconds = time.perf_counter() - started
        if not is_idle(connection):
            took(seconds)

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),  # noqa: ARG002  # psycopg2 knows them
    ) -> list[Row]:
        if lock is None:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())
        connection = cursor.connection
        opens, autocommit = is_idle(connection), connection.autocommit
        # In autocommit the message itself is a transaction, in which no savepoint can be set.
        before = lock if autocommit else ";".join(guarded(lock))
        query = cursor.mogrify(statement, parameters)
        try:
            cursor.execute(cursor.mogrify(before) + b";" + query)
        except connection.Error as error:
            if error.pgcode not in LOCK_REFUSED:
                raise
            if was_locked(cursor, lock, autocommit=autocommit):
                raise
            if opens:
                connection.rollback()
            raise LockRefusedError from error
        return list(cursor.fetchall())

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        cursor.execute(";".join(statements))

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        encoding = extensions.encodings[cursor.connection.encoding]
        blocks = (
            binary_blocks(rows, encoding)
            if rows.binary
            else text_blocks(rows, _formats(), encoding)
        )
        source = _Blocks(blocks)
        try:
            cursor.copy_expert(statement, source)
        except cursor.connection.Error:
            # The value that could not be written is the cause, not the COPY that was aborted then.
            if source.failure is not None:
                raise source.failure from None
            raise
        return int(cursor.rowcount)

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,  # noqa: ARG002  # it takes a round trip of its own here
    ) -> list[Returned]:
        return send_message(connection.dbapi_connection, inserts, first, self._alone)


def make_driver(dialect: Dialect) -> Driver:  # noqa: ARG001  # the registry's
    """The driver psycopg2."""
    return _Psycopg2()


# Copying


class _Blocks:
    """A file for ``copy_expert()`` to read from. It keeps the exception that a read raised, of
    which psycopg2 keeps only the text.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.failure: BaseException | None = None

    def read(self, size: int) -> bytes:  # noqa: ARG002  # a hint; psycopg2 takes any length
        try:
            return next(self._blocks, b"")
        except BaseException as error:
            self.failure = error
            raise


@cache
def _formats() -> Mapping[type, TextFormat]:
    """The formats of the types that psycopg2 can write: its own and Python's."""
    from psycopg2 import extras

    ranges = (
        extras.DateRange,
        extras.DateTimeRange,
        extras.DateTimeTZRange,
        extras.NumericRange,
    )
    return with_arrays(
        {
            **FORMATS,
            **dict.fromkeys(ranges, TextFormat(range_text)),
            extensions.Binary: TextFormat(lambda value: bytea_text(memoryview(value.adapted))),
            extras.Json: TextFormat(lambda value: value.dumps(value.adapted)),
        }
    )
