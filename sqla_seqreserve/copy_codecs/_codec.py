"""What a codec is, and which one a column has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from sqlalchemy import Dialect
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.types import TypeEngine

if TYPE_CHECKING:  # importing it takes longer than all that is here
    from importlib.metadata import EntryPoint

__all__ = [
    "CopyCodec",
    "CopyColumn",
    "Encode",
    "Encoding",
    "encoding_of",
    "generation",
    "has_codec",
    "register_codec",
]

log = logging.getLogger("sqla_seqreserve")

_GROUP: Final = "sqla_seqreserve.copy_codecs"

_SHIPPED: Final = {"pgvector": "_vectors", "geoalchemy2": "_geometries"}
"""The package that types are of, and the module here that has their codec."""


Encode: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
"""Makes of all values of a column what COPY sends: ``bytes`` in binary format, ``str`` in text
format, and ``None`` for ``None``; as many as there are values, in their order. The values are those
that objects or rows hold: the type's ``bind_processor`` has not seen them.

Whatever it raises has INSERT write the rows, with the type's ``bind_processor`` and
``bind_expression``, and their errors.
"""


@dataclass(frozen=True, slots=True)
class CopyColumn:
    """A column that COPY is to write.

    :param name: in the database.
    :param type: in the model; of a type with variants, the dialect's.
    :param stored: the name of the type in the database: ``vector``. Of a domain, the type below.
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
    """How values of a type go by COPY. It is asked once for a column in a database.

    What it writes must be what INSERT would have stored, of every value that it takes. Where it
    offers both formats, binary is used, unless another column of the rows needs text: then all
    columns do. On psycopg2 all but numbers, texts, bytes and UUIDs need it.
    """

    def binary(self, column: CopyColumn) -> Encode | None:
        """What makes the bytes that the ``recv`` function of the column's type reads; ``None``: not
        this column, or not in binary format.
        """

    def text(self, column: CopyColumn) -> Encode | None:
        """What makes the text that the input function of the column's type reads, not escaped;
        ``None``: not this column, or not as text.
        """


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a codec writes one column; one of the two may be missing."""

    binary: Encode | None
    text: Encode | None


@dataclass(slots=True)
class _Registered:
    """The codecs that were registered, the last one first. Another tuple each time, so that who
    reads it needs no lock.
    """

    codecs: tuple[CopyCodec, ...] = ()
    generation: int = 0


_registered: Final = _Registered()
_lock: Final = Lock()


def register_codec(codec: CopyCodec) -> Callable[[], None]:
    """Have a codec asked about every column from now on, before all that are there; return a
    function that takes it away. It is the process's, for all engines and sessions.

    :raises TypeError: it has not the methods of a :class:`CopyCodec`.
    """
    found: object = codec
    if isinstance(found, type) or not isinstance(found, CopyCodec):
        raise TypeError(f"expected an object with the methods of CopyCodec, found {codec!r}")
    with _lock:
        _registered.codecs = (codec, *_registered.codecs)
        _registered.generation += 1

    def remove() -> None:
        with _lock:
            _registered.codecs = tuple(one for one in _registered.codecs if one is not codec)
            _registered.generation += 1

    return remove


def generation() -> int:
    """A number that changes whenever a codec is registered or taken away."""
    return _registered.generation


def encoding_of(column: CopyColumn) -> Encoding | None:
    """How the first codec that knows the column writes it; ``None``: none does."""
    for codec in _asked(column.type):
        binary, text = codec.binary(column), codec.text(column)
        if binary is not None or text is not None:
            return Encoding(binary, text)
    return None


def has_codec(type_: TypeEngine[Any]) -> bool:
    """Whether a type is one of those that a codec of this package may be for. Nothing is loaded."""
    return not _SHIPPED.keys().isdisjoint(_packages(type_))


def _asked(type_: TypeEngine[Any]) -> Iterator[CopyCodec]:
    yield from _registered.codecs
    packages = _packages(type_)
    if packages[0] == "sqlalchemy":
        if isinstance(type_, BIT):
            yield import_module("._bits", __package__).CODEC
        return
    yield from _installed()
    for package in packages:
        if package in _SHIPPED:
            yield import_module(f".{_SHIPPED[package]}", __package__).CODEC


def _packages(type_: TypeEngine[Any]) -> list[str]:
    """The packages of a type's class and of those that it derives from."""
    return list(dict.fromkeys(cls.__module__.partition(".")[0] for cls in type(type_).__mro__[:-1]))


@cache
def _installed() -> tuple[CopyCodec, ...]:
    """The codecs of entry points, in the order of their names."""
    from importlib.metadata import entry_points

    found = sorted(entry_points(group=_GROUP), key=lambda entry: entry.name)
    return tuple(codec for entry in found if (codec := _loaded(entry)) is not None)


def _loaded(entry: EntryPoint) -> CopyCodec | None:
    try:
        found = entry.load()
        codec = found() if isinstance(found, type) else found
    except Exception:
        # A package that is broken must not keep others from saving.
        log.warning("entry point %s of %s cannot be loaded", entry.name, _GROUP, exc_info=True)
        return None
    if not isinstance(codec, CopyCodec):
        log.warning("entry point %s of %s is no CopyCodec: %r", entry.name, _GROUP, codec)
        return None
    return codec
