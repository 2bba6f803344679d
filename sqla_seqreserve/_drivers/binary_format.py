"""Writes rows in COPY's binary format, for a driver that cannot: columns that are encoded already,
and columns of a few plain types.

Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from .driver import CopyRows

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_ROWS: Final = 64


def _packed(form: str) -> Callable[[Any], bytes]:
    whole = struct.Struct(f">i{form}")
    length = whole.size - 4
    return lambda value: whole.pack(length, value)


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


# In SQL the literal -0.0 is the numeric 0.0 without a sign. Adding 0.0 removes the sign here too.
_double: Final = _packed("d")

_FIELDS: Final[Mapping[int, Callable[[Any], bytes]]] = {
    16: _packed("?"),
    17: _field,
    20: _packed("q"),
    21: _packed("h"),
    23: _packed("i"),
    701: lambda value: _double(value + 0.0),
    2950: lambda value: _field(value.bytes),
}
_TEXTS: Final = frozenset({25, 1042, 1043})

FRAMED: Final[Mapping[int, type]] = {
    **dict.fromkeys(_TEXTS, str),
    16: bool,
    17: bytes,
    20: int,
    21: int,
    23: int,
    701: float,
    2950: uuid.UUID,
}
"""The oids of types that can be written in binary format, and the Python type of their values."""


def binary_blocks(rows: CopyRows, encoding: str) -> Iterator[bytes]:
    """The rows in binary format, some at a time.

    :param encoding: Python's name of the connection's client encoding.
    :raises ValueError: a text holds NUL; with psycopg2's message.
    :raises UnicodeEncodeError: a text has characters that the client encoding does not have.
    """

    def text(value: str) -> bytes:
        if "\0" in value:
            raise ValueError("A string literal cannot contain NUL (0x00) characters.")
        return _field(value.encode(encoding))

    fields = [text if oid in _TEXTS else _FIELDS[oid] for oid in rows.oids]
    start = len(fields).to_bytes(2, "big")
    yield _HEADER
    for first in range(0, len(rows), _ROWS):
        last = min(first + _ROWS, len(rows))
        columns = [
            _column(values[first:last], field)
            for values, field in zip(rows.values, fields, strict=True)
        ]
        yield b"".join(part for row in zip(*columns, strict=True) for part in (start, *row))
        if rows.progress is not None:
            rows.progress(last - first)
    yield _END


def _column(values: Sequence[Any], field: Callable[[Any], bytes]) -> list[bytes]:
    return [_NULL if value is None else field(value) for value in values]
