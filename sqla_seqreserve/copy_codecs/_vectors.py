"""pgvector's types: vector, halfvec and sparsevec, in binary format and as text.

pgvector sends the numbers of a list as text of doubles, those of an array as text in the array's
own type, and the server reads either into four bytes (and rounds those to two for halfvec). Here
the same is done for all rows at once. Numbers that the way through text might round differently (a
double half way between two floats, numbers near the ends of the type), and values that the server
refuses (NaN, infinity, no dimension), are refused here: then the text is sent as pgvector makes it.

It uses numpy if that is installed, and the standard library otherwise. Read in pgvector 0.3 to 0.5,
and pgvector for PostgreSQL 0.8.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import groupby, islice, pairwise
from typing import Any, Final

from ._bits import bits_encoder
from ._codec import CopyColumn, Encode

__all__ = ["CODEC"]

_BLOCK: Final = 256
"""The number of rows whose numbers are checked together: few enough for a processor's cache."""

_SMALLEST: Final = 1.2e-38
_LARGEST: Final = 3.4e38
"""Between these two sizes a four-byte float keeps all its digits and is not turned into another."""

_TIE_MASK: Final = 0x1FFFFFFF
_TIE: Final = 0x10000000
"""The bits of a double below those of a float, where it lies half way between two of them."""


class _Vectors:
    """The codec of vector, halfvec and sparsevec columns with pgvector's own types."""

    def binary(self, column: CopyColumn) -> Encode | None:
        return _encoder(column, is_text=False)

    def text(self, column: CopyColumn) -> Encode | None:
        return _encoder(column, is_text=True)


CODEC: Final = _Vectors()


def _encoder(column: CopyColumn, *, is_text: bool) -> Encode | None:
    from pgvector import sqlalchemy as models

    cls = getattr(models, column.stored.upper(), None)
    if column.stored == "bit" and cls is not None and type(column.type) is cls:
        bit: Any = column.type
        return bits_encoder(column, getattr(bit, "impl", bit)) if is_text else None
    if column.stored not in {"vector", "halfvec", "sparsevec"} or cls is None:
        return None
    kind = type(column.type)
    if not issubclass(kind, cls) or kind.bind_processor is not cls.bind_processor:
        # A derived type may convert values differently.
        return None
    given: Any = column.type
    dimensions = given.dim
    if column.stored == "sparsevec":
        each: Callable[[Any], Any] = partial(_sparse, dimensions=dimensions, is_text=is_text)
        return lambda values: _around_nulls(values, lambda given: map(each, given))
    is_half = column.stored == "halfvec"

    def encode(values: Sequence[Any]) -> Sequence[Any]:
        return _around_nulls(
            values, partial(_dense, dimensions=dimensions, is_half=is_half, is_text=is_text)
        )

    return encode


def _around_nulls(
    values: Sequence[Any], encode: Callable[[Sequence[Any]], Iterable[Any]]
) -> Sequence[Any]:
    given = [value for value in values if value is not None]
    if len(given) == len(values):
        return list(encode(given))
    encoded = iter(encode(given))
    return [None if value is None else next(encoded) for value in values]


# vector and halfvec


def _dense(
    values: Sequence[Any], *, dimensions: int | None, is_half: bool, is_text: bool
) -> Iterator[Any]:
    """Yield the vectors as the server reads them.

    :param dimensions: the number that all must have, as the type says.
    :raises ValueError: the server might not store what is sent.
    """
    numpy = _numpy()
    for kind, run in groupby(values, type):
        while block := list(islice(run, _BLOCK)):
            if numpy is not None:
                floats = _rounded(numpy, kind, block, is_half=is_half)
                width, rows = floats.shape[1], floats
            else:
                rows = [_rounded_alone(kind, value, is_half=is_half) for value in block]
                width = len(rows[0])
                if any(len(row) != width for row in rows):
                    raise ValueError("vectors of different dimensions")
            if not width or dimensions not in {None, width}:
                raise ValueError(f"expected {dimensions} dimensions, found {width}")
            if is_text:
                yield from _texts(rows if numpy is None else rows.tolist(), width)
            elif numpy is not None:
                yield from _packed(numpy, rows, width, is_half=is_half)
            else:
                form = f">HH{width}{'e' if is_half else 'f'}"
                yield from (struct.pack(form, width, 0, *row) for row in rows)


@cache
def _numpy() -> Any:
    try:
        import numpy
    except ModuleNotFoundError:
        return None
    return numpy


@cache
def _of_pgvector(kind: type) -> bool:
    """Whether it is a vector of pgvector's own."""
    from pgvector import HalfVector, Vector

    return kind is Vector or kind is HalfVector


@cache
def _is_list(kind: type) -> bool:
    """Whether pgvector accepts it as a list; for tuples this depends on its version."""
    if kind is not tuple:
        return kind is list
    from pgvector import Vector

    try:
        Vector((1.0,))
    except (TypeError, ValueError):
        return False
    return True


def _rounded(numpy: Any, kind: type, values: Sequence[Any], *, is_half: bool) -> Any:
    """Vectors of one Python type as an array, a row each, of the numbers that the server stores."""
    stored = numpy.float16 if is_half else numpy.float32
    with numpy.errstate(all="ignore"):
        if _is_list(kind):
            doubles = _doubles(numpy, values)
            if ((doubles.view(numpy.uint64) & _TIE_MASK) == _TIE).any():
                raise ValueError("a number between two floats")
            floats = doubles.astype(numpy.float32)
            if is_half:
                # Some versions of pgvector round doubles to halves; the server rounds floats to
                # halves.
                _check(numpy, floats)
                floats = floats.astype(stored)
                if (floats != doubles.astype(stored)).any():
                    raise ValueError("a number between two halves")
        else:
            arrays = [value.to_numpy() for value in values] if _of_pgvector(kind) else values
            if not all(
                type(each) is numpy.ndarray and each.ndim == 1 and each.dtype.kind in "fiu"
                for each in arrays
            ):
                raise ValueError(f"expected vectors, found {kind.__name__}")
            if len({each.dtype for each in arrays}) > 1:
                raise ValueError("arrays of different types")
            floats = numpy.stack(arrays).astype(stored)
        _check(numpy, floats)
    return floats


def _doubles(numpy: Any, values: Sequence[Sequence[float]]) -> Any:
    """Return lists of numbers as an array, a row each. struct reads a list in a third of numpy's
    time, and does not accept text as a number.
    """
    pack = struct.Struct(f"={len(values[0])}d").pack
    try:
        data = b"".join([pack(*value) for value in values])
    except (struct.error, OverflowError, TypeError) as error:
        raise ValueError("expected lists of numbers, of one length") from error
    return numpy.frombuffer(data, dtype=numpy.float64).reshape(len(values), -1)


def _check(numpy: Any, floats: Any) -> None:
    """Raise an error for numbers that the server refuses, and for others near zero."""
    sizes = numpy.abs(floats)
    if floats.dtype == numpy.float16:
        if not numpy.isfinite(sizes).all():
            raise ValueError("a number that is not finite")
    elif not (((sizes >= _SMALLEST) & (sizes <= _LARGEST)) | (sizes == 0)).all():
        raise ValueError("a number that is not finite, or too small")


def _packed(numpy: Any, floats: Any, width: int, *, is_half: bool) -> list[bytes]:
    order = ">f2" if is_half else ">f4"
    step = 4 + width * (2 if is_half else 4)
    lines = numpy.empty((len(floats), step), dtype=numpy.uint8)
    lines[:, :4] = numpy.frombuffer(struct.pack(">HH", width, 0), dtype=numpy.uint8)
    lines[:, 4:] = numpy.ascontiguousarray(floats.astype(order)).view(numpy.uint8)
    data = lines.tobytes()
    return [data[start : start + step] for start in range(0, len(data), step)]


def _texts(rows: Iterable[Sequence[float]], width: int) -> Iterator[str]:
    # Nine digits identify a four-byte float; pgvector's own text has up to seventeen.
    form = "[" + ",".join(["%.9g"] * width) + "]"
    return (form % tuple(row) for row in rows)


def _rounded_alone(kind: type, value: Any, *, is_half: bool) -> Sequence[float]:
    """The same for one vector, with the standard library."""
    if not (_is_list(kind) or _of_pgvector(kind)):
        raise ValueError(f"expected vectors, found {kind.__name__}")
    doubles = array("d", value if _is_list(kind) else value.to_list())
    if not all(map(_is_read_alike, doubles)):
        raise ValueError("a number that is not finite, too small, or between two floats")
    if not is_half:
        return array("f", doubles)
    form = f"{len(doubles)}e"
    halves = struct.pack(form, *array("f", doubles))
    if halves != struct.pack(form, *doubles):
        raise ValueError("a number between two halves")
    return struct.unpack(form, halves)


def _is_read_alike(number: float) -> bool:
    """Whether the server reads a number's text as the same value that is computed here."""
    if number == 0:
        return True
    [bits] = struct.unpack("<Q", struct.pack("<d", number))
    return _SMALLEST <= abs(number) <= _LARGEST and bits & _TIE_MASK != _TIE


# sparsevec


def _sparse(value: Any, *, dimensions: int | None, is_text: bool) -> Any:
    """Return one sparse vector as the server reads it.

    :raises ValueError: the server might not store what is sent.
    """
    from pgvector import SparseVector

    vector = value if type(value) is SparseVector else SparseVector(value)
    indices, numbers = vector.indices(), vector.values()
    if dimensions not in {None, vector.dimensions()}:
        raise ValueError(f"expected {dimensions} dimensions, found {vector.dimensions()}")
    if not all(number and _is_read_alike(number) for number in numbers):
        raise ValueError("a number that is zero, not finite, too small, or between two floats")
    if any(second <= first for first, second in pairwise(indices)):
        raise ValueError("indices that do not ascend")
    return vector.to_text() if is_text else vector.to_binary()
