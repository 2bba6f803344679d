"""asyncpg's COPY: in binary format through its own codecs, or in text format.

asyncpg encodes the fields of a COPY by the columns of a prepared query on the same table, and does
not look again: after an ALTER TYPE its ``copy_records_to_table()``, which finds that query in a
cache by its text, sends bytes of the type that a column had before, and the server takes what has
the right length. So the query is ours here, is prepared anew as soon as the table is another than
it was prepared for, and is never executed. In the steady state nothing else is sent than the COPY,
and that in one round trip: asyncpg does not wait for the server's "go on".

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

from .._sqlalchemy.adapted import prepare_adapted
from .driver import CopyRows, Row
from .text_format import FORMATS, TextFormat, text_blocks, with_arrays

_MOST_TABLES: Final = 100
_TURN: Final = 5000
"""Rows that may be encoded without another task's turn: some 20 ms."""

_BYTES: Final = 17
"""The oid of ``bytea``."""

_NAME: Final = r'(?:[^\s".(]+|"(?:[^"]|"")+")'
_COLUMN: Final = re.compile(r'"(?:[^"]|"")+"|[^\s",]+')
_COPY: Final = re.compile(
    rf"COPY (?P<table>{_NAME}(?:\.{_NAME})?) \((?P<columns>.+)\) FROM STDIN", re.DOTALL
)


async def copy_in(cursor: Any, connection: Any, statement: str, rows: CopyRows) -> int:
    """Send the rows on asyncpg's ``connection``, below SQLAlchemy's ``cursor``; return how many the
    server took.
    """
    send = connection._protocol.copy_in
    records = _Records(rows)
    try:
        if rows.binary:
            columns = await _columns(cursor, connection, statement, rows)
            status = await send(statement, None, None, records.given(), columns._state, None)
        else:
            status = await send(statement, records.lines(), None, None, None, None)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        if records.failure is not None:
            raise
        # So asyncpg says it of an argument that it cannot encode.
        raise _data_error()(f"invalid input for COPY: {error}") from error
    return int(status.rpartition(" ")[2])


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
