"""asyncpg's COPY: in binary format through its own codecs, or in text format.

asyncpg encodes the fields of a COPY by the columns of a prepared query on the same table, and does
not check them again. Its ``copy_records_to_table()`` finds that query in a cache by its text. After
an ALTER TYPE it sends bytes of the column's old type, and the server accepts them if the length is
right. So this module prepares its own query, prepares it again as soon as the table has changed,
and never executes it. Otherwise nothing but the COPY is sent, in one round trip: asyncpg does not
wait for the server's "go on".

The private ``_protocol`` of a connection and its ``copy_in()``, and ``_state`` of a prepared
statement, were read in asyncpg 0.30 and 0.32.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from typing import Any, Final
from weakref import WeakKeyDictionary

from .._sql_names import NAME
from .._sqlalchemy.adapted import prepare_adapted
from .driver import CopyRows, Row
from .text_format import FORMATS, TextFormat, interval_text, text_blocks, with_arrays

_MOST_TABLES: Final = 100
_TURN: Final = 5000
"""Rows that may be encoded before other tasks get their turn; this takes about 20 ms."""

_BYTES: Final = 17
"""The oid of ``bytea``."""

_COLUMN: Final = re.compile(NAME)
_COPY: Final = re.compile(
    rf"COPY (?P<table>{NAME}(?:\.{NAME})?) \((?P<columns>.+)\) FROM STDIN", re.DOTALL
)


async def copy_in(cursor: Any, connection: Any, statement: str, rows: CopyRows) -> int:
    """Send the rows on asyncpg's ``connection``, below SQLAlchemy's ``cursor``; return how many the
    server stored.
    """
    send = connection._protocol.copy_in
    records = _Records(rows)
    try:
        if rows.binary:
            columns = await _columns(cursor, connection, statement, rows)
            status = await send(statement, None, None, records.given(), columns._state, None)
        else:
            status = await send(statement, records.lines(), None, None, None, None)
    except _internal_error() as error:
        if str(error).startswith("cannot switch to state"):
            # The server has ended the session. asyncpg would wait for this COPY's answer for ever,
            # and refuse the ROLLBACK because of it.
            connection.terminate()
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        if records.failure is not None:
            raise
        # asyncpg raises the same error for an argument that it cannot encode.
        raise _data_error()(f"invalid input for COPY: {error}") from error
    return int(status.rpartition(" ")[2])


def _internal_error() -> type[Exception]:
    from asyncpg.exceptions import InternalClientError

    error: type[Exception] = InternalClientError
    return error


def _data_error() -> type[Exception]:
    from asyncpg.exceptions import DataError

    error: type[Exception] = DataError
    return error


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """A prepared query of the columns that a COPY writes, the known facts of the table at that
    time, and asyncpg's codecs, which a user may set at any time.
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
    # asyncpg's pool lends a proxy, a new one each time.
    known = _columns_of.setdefault(getattr(connection, "_con", connection), OrderedDict())
    codec_of = connection.get_settings().get_data_codec
    # The key is not the whole text, because a listener may have added a comment to it.
    parts = _COPY.search(statement)
    assert parts is not None
    if _BYTES in rows.oids:
        # Values that are encoded already are sent unchanged, as bytea.
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
    """The text formats of the types that asyncpg can write in binary format."""
    from asyncpg.pgproto import pgproto

    return with_arrays(
        {
            **FORMATS,
            float: TextFormat(_float, plain=True),
            dt.timedelta: TextFormat(interval_text, plain=True),
            pgproto.UUID: TextFormat(str, plain=True),
        }
    )


def _float(value: float) -> str:
    if isfinite(value):
        return repr(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


class _Records:
    """The rows of a COPY in the form that asyncpg reads, and the exception that reading raised."""

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
        """The rows in text format. Other tasks get their turn between two blocks."""
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
        """The rows; other tasks get their turn after each block, because asyncpg itself waits only
        for a slow server.
        """
        try:
            for block in self._rows.blocks():
                for row in block:
                    yield row
                await asyncio.sleep(0)
        except Exception as error:
            self.failure = error
            raise
