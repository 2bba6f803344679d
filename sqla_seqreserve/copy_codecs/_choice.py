"""The known codecs, and the choice of one for a column."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.types import TypeEngine

from ._codec import CopyCodec, CopyColumn, Encoding

if TYPE_CHECKING:  # importing it takes longer than all that is here
    from importlib.metadata import EntryPoint

log = logging.getLogger("sqla_seqreserve")

_GROUP: Final = "sqla_seqreserve.copy_codecs"

_SHIPPED: Final = {"pgvector": "_vectors", "geoalchemy2": "_geometries"}
"""The package that defines the types, and the module here that has their codec."""


@dataclass(slots=True)
class _Registered:
    """The registered codecs, the last one first. Each change makes a new tuple, so readers need no
    lock.
    """

    codecs: tuple[CopyCodec, ...] = ()
    generation: int = 0


_registered: Final = _Registered()
_lock: Final = Lock()


def register_codec(codec: CopyCodec) -> Callable[[], None]:
    """Register a codec that is asked about every column from now on, before all present ones;
    return a function that removes it. It applies to all engines and sessions of the process.

    :raises TypeError: it lacks the methods of a :class:`CopyCodec`.
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
    """Return a number that changes whenever a codec is registered or removed."""
    return _registered.generation


def encoding_of(column: CopyColumn) -> Encoding | None:
    """Return how the first codec that handles the column writes it; ``None`` if none does."""
    for codec in _asked(column.type):
        binary, text = codec.binary(column), codec.text(column)
        if binary is not None or text is not None:
            return Encoding(binary, text)
    return None


def has_codec(type_: TypeEngine[Any]) -> bool:
    """Whether a codec of this package may exist for a type. Nothing is loaded."""
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
    """Return the packages of a type's class and of its base classes."""
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
        # A broken package must not prevent others from saving.
        log.warning("entry point %s of %s cannot be loaded", entry.name, _GROUP, exc_info=True)
        return None
    if not isinstance(codec, CopyCodec):
        log.warning("entry point %s of %s is no CopyCodec: %r", entry.name, _GROUP, codec)
        return None
    return codec
