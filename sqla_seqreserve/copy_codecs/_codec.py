"""The interface of a codec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from sqlalchemy import Dialect
from sqlalchemy.types import TypeEngine

Encode: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
"""A function that converts all values of a column into what COPY sends: ``bytes`` in binary format,
``str`` in text format, and ``None`` for ``None``; as many results as values, in their order. The
values are those of the objects or rows, before the type's ``bind_processor``.

If it raises any exception, INSERT writes the rows, with the type's ``bind_processor`` and
``bind_expression``, and their errors.
"""


@dataclass(frozen=True, slots=True)
class CopyColumn:
    """A column that COPY is to write.

    :param name: the name in the database.
    :param type: the type in the model; for a type with variants, the dialect's.
    :param stored: the name of the type in the database: ``vector``. For a domain, the type below.
    :param stored_as: the same as SQL, with its length or precision: ``vector(768)``.
    :param dialect: its ``driver`` is ``psycopg``, ``psycopg2`` or ``asyncpg``.
    """

    name: str
    type: TypeEngine[Any]
    stored: str
    stored_as: str
    dialect: Dialect


@runtime_checkable
class CopyCodec(Protocol):
    """Defines how COPY writes the values of a type. It is asked once for a column in a database.

    For every value that it accepts, it must write what INSERT would have stored. If it offers both
    formats, binary is used, unless another column of the rows needs text: then all columns use
    text. On psycopg2 all values except numbers, texts, bytes and UUIDs need text.
    """

    def binary(self, column: CopyColumn) -> Encode | None:
        """Return a function that makes the bytes that the ``recv`` function of the column's type
        reads; ``None`` if it does not handle the column, or not in binary format.
        """

    def text(self, column: CopyColumn) -> Encode | None:
        """Return a function that makes the text that the input function of the column's type reads,
        not escaped; ``None`` if it does not handle the column, or not as text.
        """


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a codec writes one column; one of the two may be missing."""

    binary: Encode | None
    text: Encode | None
