"""asyncpg below SQLAlchemy's adapter for it; its COPY is in :mod:`.asyncpg_copy`.

SQLAlchemy's statements are prepared, so a message holds one statement. A lock must travel with the
query that it is taken for, and a savepoint with the lock. So that query becomes the source of a
``COPY .. TO STDOUT``, which asyncpg sends as a simple query: other statements may precede it there.
The private ``_protocol`` of a connection and its ``copy_out()`` were read in asyncpg 0.30 and 0.32.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterable, Sequence
from math import inf
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from asyncpg import Connection
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy import Dialect

from .._reasons import Reason, no_binary_codec, no_copy_through
from .._routes import Work
from .._sqlalchemy.adapted import (
    adapted_statement,
    await_adapted,
    begin_adapted,
    begins_adapted,
    rollback_adapted,
    set_adapted_rowcount,
)
from .._sqlstate import sqlstate_of
from .asyncpg_copy import copy_in
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
from .text_format import literal
from .wrapped import Wrapped

_BINARY: Final = 1
"""The format's number in PostgreSQL's protocol."""
_ANY_FORMAT: Final = -1

_CLASSES: Final = frozenset({Connection, PoolConnectionProxy})

_own: Final[Callable[[Any], Any]] = attrgetter("dbapi_connection.driver_connection")
"""The driver's connection below the pool's, even if it was detached from the pool."""


def is_set_by_user(codec_of: Callable[..., Any], oid: int) -> bool:
    """Whether the connection's user has set the codec of a type. asyncpg itself sets a codec, which
    passes text on, at the first parameter of a type that it does not know.

    :param codec_of: the ``get_data_codec`` of the connection's settings.
    """
    found = codec_of(oid, _ANY_FORMAT)
    if found is codec_of(oid, _ANY_FORMAT, True):
        return False
    # No attribute distinguishes the two, but the user's codec refers to Python functions.
    functions = (held for held in gc.get_referents(found) if held is not type(found))
    return codec_of(oid, _BINARY) is not None or any(map(callable, functions))


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
    gathers_from = inf
    times_begin = True
    executes_each = False
    work = Work(
        copy_start=600.0,
        copy_row=4.5,
        insert_row=12.0,
        numbered_row=18.5,
        executed_row=18.5,
        statement=200.0,
        reservation=280.0,
    )

    def __init__(self) -> None:
        self._wrapped = Wrapped(self)

    def on(self, connection: Any) -> Driver:
        return self if type(_own(connection)) in _CLASSES else self._wrapped

    def refuses_wrapped(self, connection: Any) -> Reason | None:
        driver = _own(connection)
        return None if hasattr(driver, "_protocol") else no_copy_through(type(driver))

    def transaction_status(self, connection: Any) -> TransactionStatus:
        if connection.dbapi_connection.autocommit:
            return "autocommit"
        return "open" if _own(connection).is_in_transaction() else "idle"

    def setting(self, connection: Any, name: str) -> str | None:
        value: str | None = getattr(_own(connection).get_settings(), name, None)
        return value

    def refuses_copy(self, connection: Any) -> Reason | None:  # noqa: ARG002  # the protocol's
        return None

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:
        codec_of = _own(connection).get_settings().get_data_codec
        for oid in oids:
            if codec_of(oid, _BINARY) is None and codec_of(oid) is not None:
                return no_binary_codec(oid)
        return None

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:
        codec_of = _own(connection).get_settings().get_data_codec
        return any(
            codec_of(oid, _BINARY) is not None or is_set_by_user(codec_of, oid) for oid in oids
        )

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        """Does nothing: asyncpg sends one statement at a time, and BEGIN is one."""

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
        # A listener may have added a comment ("-- ...") to the statement; the line break ends it.
        text = f"COPY ({_with_values(statement, parameters)}\n) TO STDOUT"
        copied = await_adapted(cursor, self._query(cursor, lock, text))
        if copied is None:
            if opens:
                rollback_adapted(cursor)
            raise LockRefusedError
        return _rows(copied, types)

    async def _query(self, cursor: Any, lock: str, text: str) -> bytes | None:
        """The output of the query's COPY; ``None``: the lock was refused."""
        copied: list[bytes] = []

        async def keep(data: bytes) -> None:
            copied.append(data)

        async with adapted_statement(cursor) as connection:
            # Without a transaction the message itself is one, in which no savepoint can be set.
            before = ";".join(guarded(lock)) if connection.is_in_transaction() else lock
            try:
                await connection._protocol.copy_out(f"{before};{text}", keep, None)
            except Exception as error:
                if sqlstate_of(error) not in LOCK_REFUSED:
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
            taken = await copy_in(cursor, connection, statement, rows)
            set_adapted_rowcount(cursor, taken)
            return taken

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,
    ) -> list[Returned]:
        raise NotImplementedError("asyncpg prepares statements, and sends one in a message")


def make_driver(dialect: Dialect) -> Driver:  # noqa: ARG001  # the registry's
    """The driver asyncpg."""
    return _Asyncpg()


_PARAMETER: Final = re.compile(r"\$([0-9]+)")


def _with_values(statement: str, parameters: Sequence[Any]) -> str:
    """One of this package's statements with its parameters replaced by their values, because a
    simple query takes no parameters. It has no other text of the form ``$1``.
    """
    values = [repr(value) if type(value) is int else literal(value) for value in parameters]
    return _PARAMETER.sub(lambda found: values[int(found[1]) - 1], statement)


def _rows(copied: bytes, types: Sequence[str]) -> list[Row]:
    """The rows of a COPY in text format: integers, and columns of these types."""
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
    """Whether the query after the lock failed; if the lock failed instead, undo its failure."""
    from asyncpg import PostgresError

    within = connection.is_in_transaction()
    try:
        await connection.execute(";".join(UNDO) if within else f"{lock};SELECT 1")
    except PostgresError:
        # The savepoint is gone if the lock was granted, and the transaction stays failed.
        return bool(within)
    return not within
