"""Writes rows in COPY's text format, column by column. For a value it writes the text that the
input function of the column's type would read from psycopg2's literal in an INSERT.

Each column is examined once for the types that it holds, and each block for characters to escape.
So most values cost one call of a C function. A block of rows is one ``bytes``, small enough that a
copy of any size needs limited memory.

Format: https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType
from typing import Any, Final

from .driver import CopyRows

_NULL: Final = "\\N"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

_FEWEST: Final = 64
_MOST: Final = 4096
_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class TextFormat:
    """How the values of one Python type are written.

    :param write: returns a value as the input function of its type reads it, not escaped for COPY.
    :param plain: whether that text never holds a character that COPY or an array would escape.
    """

    write: Callable[[Any], str]
    plain: bool = False


def literal(text: str) -> str:
    """Text as an SQL literal, valid for any ``standard_conforming_strings``."""
    quoted = text.replace("'", "''")
    return f" E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in quoted else f"'{quoted}'"


def bytea_text(value: bytes | bytearray | memoryview) -> str:
    """Bytes in PostgreSQL's hex format."""
    return "\\x" + value.hex()


def with_arrays(formats: Mapping[type, TextFormat]) -> Mapping[type, TextFormat]:
    """These formats, and one for lists, of any depth, of the values that they write."""

    def array(value: list[Any]) -> str:
        items = []
        for item in value:
            if item is None:
                items.append("NULL")
            elif type(item) is list:
                items.append(array(item))
            else:
                format_ = formats[type(item)]
                text = format_.write(item)
                items.append(text if format_.plain else quoted(text))
        return "{" + ",".join(items) + "}"

    return {**formats, list: TextFormat(array)}


def range_text(value: Any) -> str:
    """The text of one of psycopg2's ranges, whose bounds are numbers, dates or times."""
    if value.isempty:
        return "empty"
    lower, upper = ("" if end is None else _bound(end) for end in (value.lower, value.upper))
    bounds = value._bounds
    return f"{bounds[0]}{lower},{upper}{bounds[1]}"


def _bound(value: Any) -> str:
    return f'"{FORMATS[type(value)].write(value)}"'


def _bool(value: bool) -> str:
    return "t" if value else "f"


def _float(value: float) -> str:
    if math.isfinite(value):
        # In SQL the literal -0.0 is the numeric 0.0 without a sign. Adding 0.0 removes it here too.
        return repr(value + 0.0)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Decimal) -> str:
    # psycopg2 writes an infinite Decimal as NaN.
    return str(value) if value.is_finite() else "NaN"


def interval_literal(value: dt.timedelta) -> str:
    """An interval as in psycopg2's literal. Its seconds have no sign, so under IntervalStyle
    ``sql_standard`` they take the sign of the days.
    """
    return f"{value.days} days {value.seconds}.{value.microseconds:06d} seconds"


def interval_text(value: dt.timedelta) -> str:
    """An interval whose seconds keep their sign under each IntervalStyle."""
    return f"{value.days} days +{value.seconds}.{value.microseconds:06d} seconds"


def quoted(text: str) -> str:
    """Text as an item of an array, or as a key or value of an hstore."""
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _hstore(value: dict[str, str | None]) -> str:
    return ",".join(
        f"{quoted(key)}=>{'NULL' if item is None else quoted(item)}" for key, item in value.items()
    )


FORMATS: Final[Mapping[type, TextFormat]] = {
    bool: TextFormat(_bool, plain=True),
    bytearray: TextFormat(bytea_text),
    bytes: TextFormat(bytea_text),
    Decimal: TextFormat(_decimal, plain=True),
    dict: TextFormat(_hstore),
    dt.date: TextFormat(dt.date.isoformat, plain=True),
    dt.datetime: TextFormat(dt.datetime.isoformat, plain=True),
    dt.time: TextFormat(dt.time.isoformat, plain=True),
    dt.timedelta: TextFormat(interval_literal, plain=True),
    float: TextFormat(_float, plain=True),
    int: TextFormat(int.__repr__, plain=True),
    ipaddress.IPv4Address: TextFormat(str, plain=True),
    ipaddress.IPv4Interface: TextFormat(str, plain=True),
    ipaddress.IPv4Network: TextFormat(str, plain=True),
    ipaddress.IPv6Address: TextFormat(str, plain=True),
    ipaddress.IPv6Interface: TextFormat(str, plain=True),
    ipaddress.IPv6Network: TextFormat(str, plain=True),
    memoryview: TextFormat(bytea_text),
    str: TextFormat(str),
    uuid.UUID: TextFormat(str, plain=True),
}
"""The formats of Python types that need no driver. Blanks, as in an interval, need no quotes in an
array.
"""


def text_blocks(
    rows: CopyRows,
    formats: Mapping[type, TextFormat],
    encoding: str,
    *,
    refuses_nul: bool = True,
) -> Iterator[bytes]:
    """The rows in COPY's text format, in blocks of about a quarter of a megabyte.

    :param formats: how each type that a column holds is written.
    :param encoding: Python's name of the connection's client encoding.
    :param refuses_nul: the driver, and not the server, refuses text with NUL.
    :raises ValueError: a text holds NUL; with psycopg2's message.
    :raises UnicodeEncodeError: a text has characters that the client encoding does not have.
    """
    columns = [_Column(values, formats, refuses_nul) for values in rows.values]
    total, start, size = len(rows), 0, _FEWEST
    while start < total:
        stop = min(start + size, total)
        texts = [column.texts(start, stop) for column in columns]
        lines = "\n".join(map("\t".join, zip(*texts, strict=True))) + "\n"
        try:
            block = lines.encode(encoding)
        except UnicodeEncodeError:
            _encode_each(texts, encoding)
            raise
        yield block
        if rows.progress is not None:
            rows.progress(stop - start)
        a_row = len(block) // (stop - start) + 1
        start, size = stop, max(1, min(_MOST, _BYTES // a_row))


class _Column:
    """The values of one column, and the format of all of them if they have one type."""

    __slots__ = ("_format", "_formats", "_has_null", "_refuses_nul", "_values")

    def __init__(
        self, values: Sequence[Any], formats: Mapping[type, TextFormat], refuses_nul: bool
    ) -> None:
        self._refuses_nul = refuses_nul
        types = set(map(type, values))
        self._values = values
        self._formats = formats
        self._has_null = NoneType in types
        types.discard(NoneType)
        self._format = formats[types.pop()] if len(types) == 1 else None

    def texts(self, start: int, stop: int) -> Sequence[str]:
        """The fields of these rows, escaped."""
        values = self._values[start:stop]
        format_ = self._format
        if format_ is None:
            return self._mixed(values)
        if format_.write is not str or format_.plain:
            write = format_.write
            if self._has_null:
                values = [None if value is None else write(value) for value in values]
            else:
                values = list(map(write, values))
        if format_.plain:
            return (
                [_NULL if text is None else text for text in values] if self._has_null else values
            )
        return self._escaped(values, self._has_null)

    def _mixed(self, values: Sequence[Any]) -> Sequence[str]:
        formats = self._formats
        texts = [None if value is None else formats[type(value)].write(value) for value in values]
        return self._escaped(texts, True)

    def _escaped(self, texts: Sequence[Any], has_null: bool) -> Sequence[str]:
        """The texts as fields of a line. Most columns have nothing to escape, which one search
        shows.
        """
        together = "".join(filter(None, texts)) if has_null else "".join(texts)
        if self._refuses_nul and "\0" in together:
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        if "\\" in together or "\t" in together or "\n" in together or "\r" in together:
            return [_NULL if text is None else text.translate(_ESCAPES) for text in texts]
        return [_NULL if text is None else text for text in texts] if has_null else texts


def _encode_each(columns: Sequence[Sequence[str]], encoding: str) -> None:
    """Raise the driver's error for the first value that cannot be encoded."""
    for row in zip(*columns, strict=True):
        for text in row:
            text.encode(encoding)
