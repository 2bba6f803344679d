"""asyncpg below SQLAlchemy's adaption of it: COPY in binary format, through asyncpg's own codecs.

asyncpg encodes the fields of a COPY by the columns of a prepared query on the same table, and does
not look again: after an ALTER TYPE its ``copy_records_to_table()``, which finds that query in a
cache by its text, sends bytes of the type that a column had before, and the server takes what has
the right length. So the query is ours here, is prepared anew as soon as the table is another than
it was prepared for, and is never executed. In the steady state nothing else is sent than the COPY,
and that in one round trip: asyncpg does not wait for the server's "go on".

What SQLAlchemy sends is prepared, so a message holds one statement. A lock is to travel with the
query that it is taken for, and a savepoint with the lock; so that query is the source of a
``COPY .. TO STDOUT``, which asyncpg sends as a simple query: there the three may stand before it.
The private ``_protocol`` of a connection, its ``copy_in()`` and ``copy_out()``, and ``_state`` of a
prepared statement were read in asyncpg 0.30 and 0.32.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect

from .._reasons import Reason, no_binary_codec, no_copy_through
from .._sqlalchemy.adapted import (
    adapted_statement,
    await_adapted,
    begin_adapted,
    begins_adapted,
    prepare_adapted,
    rollback_adapted,
    set_adapted_rowcount,
)
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
from .text_format import FORMATS, TextFormat, literal, text_blocks, with_arrays
from .wrapped import Wrapped

_MOST_TABLES: Final = 100
_TURN: Final = 5000
"""Rows that may be encoded without another task's turn: some 20 ms."""

_BINARY: Final = 1
"""The format's number in PostgreSQL's protocol."""

_BYTES: Final = 17
"""The oid of ``bytea``."""

_NAME: Final = r'(?:[^\s".(]+|"(?:[^"]|"")+")'
_COLUMN: Final = re.compile(r'"(?:[^"]|"")+"|[^\s",]+')
_COPY: Final = re.compile(
    rf"COPY (?P<table>{_NAME}(?:\.{_NAME})?) \((?P<columns>.+)\) FROM STDIN", re.DOTALL
)


class _Asyncpg:
    types: TypeTable = "asyncpg"
    copy_round_trips = 1
    begins_along = False
    commits_along = False
    takes_scripts = True
    scripts_return = False
    sends_several = False
    lock_round_trips = 0

    returns_each = False
    times_begin = True
    copy_start = 150.0
    copy_row = 4.5
    insert_row = 12.0
    numbered_row = 24.5
    executes_each = False
    executed_row = 14.0
    statement = 200.0
    reservation = 280.0

    def __init__(self) -> None:
        self._wrapped = Wrapped(self)

    def on(self, connection: Any) -> Driver:
        from asyncpg import Connection
        from asyncpg.pool import PoolConnectionProxy

        cls = type(connection.driver_connection)
        return self if cls is Connection or cls is PoolConnectionProxy else self._wrapped

    def refuses_wrapped(self, connection: Any) -> Reason | None:
        driver = connection.driver_connection
        return None if hasattr(driver, "_protocol") else no_copy_through(type(driver))

    def transaction_status(self, connection: Any) -> TransactionStatus:
        if connection.dbapi_connection.autocommit:
            return "autocommit"
        return "open" if connection.driver_connection.is_in_transaction() else "idle"

    def setting(self, connection: Any, name: str) -> str | None:
        value: str | None = getattr(connection.driver_connection.get_settings(), name, None)
        return value

    def refuses_copy(self, connection: Any) -> Reason | None:  # noqa: ARG002  # the protocol's
        return None

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:
        codec_of = connection.driver_connection.get_settings().get_data_codec
        for oid in oids:
            if codec_of(oid, _BINARY) is None and codec_of(oid) is not None:
                return no_binary_codec(oid)
        return None

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:
        codec_of = connection.driver_connection.get_settings().get_data_codec
        return any(
            codec_of(oid, _BINARY) is not None or codec_of(oid) is not codec_of(oid, 0, True)
            for oid in oids
        )

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        """asyncpg takes one statement at a time, BEGIN too."""

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        if begins_adapted(cursor):
            started = time.perf_counter()
            begin_adapted(cursor)
            took(time.perf_counter() - started)

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),
    ) -> list[Row]:
        if lock is None:
            cursor.execute(statement, parameters)
            return [tuple(row) for row in cursor.fetchall()]
        opens = begins_adapted(cursor)
        # A listener may have put a comment behind the statement: "-- ...", up to the line's end.
        text = f"COPY ({_with_values(statement, parameters)}\n) TO STDOUT"
        copied = await_adapted(cursor, self._query(cursor, lock, text))
        if copied is None:
            if opens:
                rollback_adapted(cursor)
            raise LockRefusedError
        return _rows(copied, types)

    async def _query(self, cursor: Any, lock: str, text: str) -> bytes | None:
        """What the query's COPY brought; ``None``: the lock was refused."""
        copied: list[bytes] = []

        async def keep(data: bytes) -> None:
            copied.append(data)

        async with adapted_statement(cursor) as connection:
            # Without a transaction the message is one, in which no savepoint can be set.
            before = ";".join(guarded(lock)) if connection.is_in_transaction() else lock
            try:
                await connection._protocol.copy_out(f"{before};{text}", keep, None)
            except Exception as error:
                if getattr(error, "sqlstate", None) not in LOCK_REFUSED:
                    raise
                if await _was_locked(connection, lock):
                    raise
                return None
        return b"".join(copied)

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        await_adapted(cursor, self._script(cursor, ";".join(statements)))

    async def _script(self, cursor: Any, text: str) -> None:
        async with adapted_statement(cursor) as connection:
            status = await connection.execute(text)
            count = status.rpartition(" ")[2]
            set_adapted_rowcount(cursor, int(count) if count.isdigit() else -1)

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        return int(await_adapted(cursor, self._copy(cursor, statement, rows)))

    async def _copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        async with adapted_statement(cursor) as connection:
            copy_in = connection._protocol.copy_in
            records = _Records(rows)
            try:
                if rows.binary:
                    columns = await _columns(cursor, connection, statement, rows)
                    status = await copy_in(
                        statement, None, None, records.given(), columns._state, None
                    )
                else:
                    status = await copy_in(statement, records.lines(), None, None, None, None)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                if records.failure is not None:
                    raise
                # So asyncpg says it of an argument that it cannot encode.
                raise _data_error()(f"invalid input for COPY: {error}") from error
            taken = int(status.rpartition(" ")[2])
            set_adapted_rowcount(cursor, taken)
            return taken

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,  # it takes a round trip of its own here
    ) -> list[Returned]:
        raise NotImplementedError("asyncpg prepares statements, and sends one in a message")


def make_driver(dialect: Dialect) -> Driver:  # noqa: ARG001  # the registry's
    """What asyncpg can do."""
    return _Asyncpg()


_PARAMETER: Final = re.compile(r"\$([0-9]+)")


def _with_values(statement: str, parameters: Sequence[Any]) -> str:
    """A statement of ours, which names nothing but parameters, with their values in their places:
    a simple query takes none.
    """
    values = [repr(value) if type(value) is int else literal(value) for value in parameters]
    return _PARAMETER.sub(lambda found: values[int(found[1]) - 1], statement)


def _rows(copied: bytes, types: Sequence[str]) -> list[Row]:
    """The rows that a COPY in text format holds: whole numbers, and columns of these types."""
    if types:
        readers: list[Callable[[bytes], Any]] = [int, int]
        readers += [_READERS.get(name, int) for name in types]
        return [
            tuple(
                None if field == b"\\N" else read(field)
                for read, field in zip(readers, line.split(b"\t"), strict=True)
            )
            for line in copied.splitlines()
        ]
    width = copied.partition(b"\n")[0].count(b"\t") + 1
    values = [None if field == b"\\N" else int(field) for field in copied.split()]
    return list(zip(*[iter(values)] * width, strict=True))


_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def _text(field: bytes) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), field).decode()


_READERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "uuid": lambda field: UUID(field.decode()),
    "text": _text,
    "varchar": _text,
}


async def _was_locked(connection: Any, lock: str) -> bool:
    """Whether it was the query behind the lock that failed; if not, undo the lock's failure."""
    from asyncpg import PostgresError

    within = connection.is_in_transaction()
    try:
        await connection.execute(";".join(UNDO) if within else f"{lock};SELECT 1")
    except PostgresError:
        # The savepoint is gone if the lock was granted, and the transaction stays failed.
        return bool(within)
    return not within


def _data_error() -> type[Exception]:
    from asyncpg.exceptions import DataError

    error: type[Exception] = DataError
    return error


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """A prepared query of the columns that a COPY writes, what was known of the table then, and
    asyncpg's codecs, which a user may set at any time.
    """

    prepared: Any
    facts: object
    codecs: list[tuple[int, Any]]

    def holds(self, facts: object, codec_of: Callable[[int], Any]) -> bool:
        return (self.facts is facts or self.facts == facts) and all(
            codec_of(oid) is codec for oid, codec in self.codecs
        )


_columns_of: WeakKeyDictionary[Any, OrderedDict[str, _Columns]] = WeakKeyDictionary()


async def _columns(cursor: Any, connection: Any, statement: str, rows: CopyRows) -> Any:
    """The prepared query by which the fields of this COPY are encoded."""
    facts = rows.facts
    # What asyncpg's pool lends is a proxy, another one each time.
    known = _columns_of.setdefault(getattr(connection, "_con", connection), OrderedDict())
    codec_of = connection.get_settings().get_data_codec
    # Not by the whole text, to which a listener may have added a comment of its own.
    parts = _COPY.search(statement)
    assert parts is not None
    if _BYTES in rows.oids:
        # What is encoded already passes as it is.
        names = ", ".join(
            "NULL::pg_catalog.bytea" if oid == _BYTES else quoted
            for quoted, oid in zip(_names(parts["columns"]), rows.oids, strict=True)
        )
    else:
        names = parts["columns"]
    query = f"SELECT {names} FROM {parts['table']} LIMIT 0"  # noqa: S608  # quoted names
    found = known.get(query)
    if found is not None and facts is not None and found.holds(facts, codec_of):
        known.move_to_end(query)
        return found.prepared
    prepared = await prepare_adapted(cursor, query)
    oids = [attribute.type.oid for attribute in prepared.get_attributes()]
    known[query] = _Columns(prepared, facts, [(oid, codec_of(oid)) for oid in oids])
    known.move_to_end(query)
    if len(known) > _MOST_TABLES:
        known.popitem(last=False)
    return prepared


def _names(columns: str) -> list[str]:
    """The columns of a COPY, as SQL."""
    return re.findall(_COLUMN, columns)


@cache
def _formats() -> Mapping[type, TextFormat]:
    """What asyncpg can write in binary format, as text."""
    from asyncpg.pgproto import pgproto

    return with_arrays(
        {
            **FORMATS,
            float: TextFormat(_float, plain=True),
            dt.timedelta: TextFormat(_interval, plain=True),
            pgproto.UUID: TextFormat(str, plain=True),
        }
    )


def _float(value: float) -> str:
    if isfinite(value):
        return repr(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _interval(value: dt.timedelta) -> str:
    # Without a sign of its own, the sign of the days is that of the seconds to IntervalStyle
    # sql_standard.
    return f"{value.days} days +{value.seconds}.{value.microseconds:06d} seconds"


class _Records:
    """The rows of a COPY, as asyncpg asks for them, and what failed in asking."""

    def __init__(self, rows: CopyRows) -> None:
        self._rows = rows
        self.failure: Exception | None = None

    def given(self) -> Iterator[Row] | AsyncIterator[Row]:
        return self._few() if len(self._rows) <= _TURN else self._many()

    def _few(self) -> Iterator[Row]:
        try:
            for block in self._rows.blocks():
                yield from block
        except Exception as error:
            self.failure = error
            raise

    async def lines(self) -> AsyncIterator[bytes]:
        """The rows in text format. Between two blocks other tasks have their turn."""
        rows = replace(self._rows, progress=self._progress if self._rows.progress else None)
        for block in text_blocks(rows, _formats(), "utf-8", refuses_nul=False):
            yield block
            await asyncio.sleep(0)

    def _progress(self, count: int) -> None:
        assert self._rows.progress is not None
        try:
            self._rows.progress(count)
        except Exception as error:
            self.failure = error
            raise

    async def _many(self) -> AsyncIterator[Row]:
        """Other tasks have their turn now and then; asyncpg itself waits only for a slow server."""
        try:
            for block in self._rows.blocks():
                for row in block:
                    yield row
                await asyncio.sleep(0)
        except Exception as error:
            self.failure = error
            raise
