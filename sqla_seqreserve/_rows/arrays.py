"""Sends a column of values as one parameter: the text of an array, which the server reads as it
would read each value by itself.

SQLAlchemy casts most parameters (``%(a)s::INTEGER``). In an array cast to ``INTEGER[]``, the input
function of the same type reads each element. So both give the same result if the text of a value
means the same to that cast as the driver's parameter; :data:`_KINDS` lists where that is certain,
by the *exact* type of the values. Where there is no cast (psycopg2 writes literals), the array has
the type that the literal has, and an untyped string has the type of its column.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from types import NoneType
from typing import Any, Final

from .._drivers.driver import TypeTable
from .._drivers.text_format import bytea_text, interval_literal, interval_text, quoted
from .column_checks import has_offset, has_steady_offset, is_naive

_TEXTS: Final = frozenset({"text", "varchar", "bpchar", "name"})
"""Types for which different strings are different values."""

_LIMITS: Final[Mapping[str, int]] = {"SMALLINT": 2**15, "INTEGER": 2**31, "BIGINT": 2**63}
_ZONED: Final = "TIMESTAMP WITH TIME ZONE"
_NAIVE: Final = "TIMESTAMP WITHOUT TIME ZONE"


@dataclass(frozen=True, slots=True)
class ArrayText:
    """The text of an array, and the type of its elements as SQL.

    :param read_as: the type to which each element is cast after it is taken out: ``unnest()`` would
        flatten arrays in an array.
    """

    text: str
    element: str
    read_as: str | None = None


def array_text(
    values: Sequence[Any],
    cast: str | None,
    driver: TypeTable,
    stored: str | None,
    *,
    is_alone: bool,
) -> ArrayText | None:
    """Return the values as an array; ``None`` if they might not mean the same as one by one.

    :param values: the values without the driver's wrappers.
    :param cast: the type to which SQLAlchemy casts each value, as SQL.
    :param driver: the driver that sends the values.
    :param stored: the type of the column, as SQL, where there is no cast: for a text, an enum or a
        numeric.
    :param is_alone: whether a value is assigned to a column, or compared with it, as it is.
    """
    if cast is not None and " COLLATE " in cast:
        # An explicit collation affects comparisons and is not part of a type.
        return None
    if cast is not None and cast.endswith("[]"):
        return _of_lists(values, cast, driver)
    found = _texts(values, cast, driver, stored, is_alone=is_alone)
    if found is None:
        return None
    texts, element = found
    return ArrayText(_braced(texts), element)


def _of_lists(values: Sequence[Any], cast: str, driver: TypeTable) -> ArrayText | None:
    """Return lists without nested lists, each as the text of an array of its own.

    Two cases are left out: asyncpg, which refuses items by rules of its own, and floats in a list
    on psycopg2, which makes them numeric, where -0.0 is 0.0.
    """
    if driver == "asyncpg" or not set(map(type, values)) <= {list, NoneType}:
        return None
    items = [item for value in values if value is not None for item in value]
    if driver == "psycopg2" and float in map(type, items):
        return None
    found = _texts(items, cast.removesuffix("[]"), driver, None, is_alone=False)
    if found is None:
        return None
    written = iter(found[0])
    texts = [
        "NULL" if value is None else quoted(_braced(list(islice(written, len(value)))))
        for value in values
    ]
    return ArrayText(_braced(texts), "TEXT", read_as=cast)


def _braced(texts: Sequence[str]) -> str:
    return "{" + ",".join(texts) + "}"


def _texts(
    values: Sequence[Any],
    cast: str | None,
    driver: TypeTable,
    stored: str | None,
    *,
    is_alone: bool,
) -> tuple[list[str], str] | None:
    """Return the texts of the values inside an array, and the type of its elements; ``None`` and
    the parameters as for :func:`array_text`.
    """
    kinds = set(map(type, values))
    has_null = NoneType in kinds
    kinds.discard(NoneType)
    if len(kinds) > 1:
        return None
    if cast is None and driver != "psycopg2" and kinds:
        cast = _sent_as(next(iter(kinds)), driver, stored, is_alone=is_alone)
        if cast is None:
            return None
    if not kinds:
        element = cast or (stored if is_alone else None)
        if element is None or element.endswith("]"):
            return None
        return ["NULL"] * len(values), element
    [kind] = kinds
    known = _KINDS.get(kind)
    if known is None:
        return None
    given = [value for value in values if value is not None] if has_null else values
    if driver == "asyncpg" and issubclass(kind, dt.date) and not _ENDS.isdisjoint(map(_day, given)):
        # asyncpg turns Python's first and last day into infinity.
        return None
    if kind is str:
        together = "".join(given)
        if "\0" in together or not _is_text(together):
            return None
        if driver == "asyncpg" and not _takes_text(cast, known, stored):
            return None
        element = cast or (stored if stored == "TEXT" or is_alone else None)
        if element == "NUMERIC":
            return None
    elif cast is None and not is_alone and kind in _LITERALS:
        element = _LITERALS[kind](given)
    else:
        element = known.element(cast, given)
    if element is None or element.endswith("]"):
        return None
    write = known.write
    if kind is dt.timedelta and driver == "psycopg2":
        write = interval_literal
    if has_null:
        return ["NULL" if value is None else write(value) for value in values], element
    return list(map(write, values)), element


def _takes_text(cast: str | None, known: _Kind, stored: str | None) -> bool:
    """Whether asyncpg, which encodes by the type that a parameter is cast to, accepts a text for
    it: it refuses one for other built-in types of PostgreSQL, whose names SQLAlchemy writes in
    capitals.

    :param stored: as for :func:`array_text`.
    """
    is_enum = stored not in {None, *_STORED_TEXTS}
    return known.element(cast, ()) is not None or (
        cast is not None and is_enum and not cast.isupper()
    )


_STORED_TEXTS: Final = ("NUMERIC", "TEXT")

_TYPED: Final[Mapping[type, str]] = {
    bool: "BOOLEAN",
    bytes: "BYTEA",
    dt.timedelta: "INTERVAL",
    float: "DOUBLE PRECISION",
}
"""The type that psycopg declares for a parameter."""


def _sent_as(kind: type, driver: TypeTable, stored: str | None, *, is_alone: bool) -> str | None:
    """Return the type of a parameter that SQLAlchemy does not cast: the type that the driver
    declares, or the one that the server infers from its column; ``None``: it is not known.
    """
    if driver == "psycopg" and kind in _TYPED:
        return _TYPED[kind]
    if not is_alone or (kind is str) is (stored == "NUMERIC"):
        return None
    return stored if kind in {str, Decimal, int} else None


def distinguished(
    values: Sequence[Any], element: str, column: str | None
) -> Sequence[Hashable] | None:
    """Return values that differ if the server finds different rows by them; ``None`` if that is not
    certain.

    :param element: the type of the parameter, as SQL.
    :param column: the name of the type of the column that it is compared with.
    """
    kind = next((type(value) for value in values if value is not None), None)
    if kind is list:
        return None
    if "(" in element and not (kind is str and column in _TEXTS):
        # Two values may be rounded to the same one.
        return None
    if kind is float and any(value != value for value in values):
        return None
    if kind is str:
        if column == "uuid" and element == "UUID":
            try:
                return [value and uuid.UUID(value) for value in values]
            except ValueError:
                return None
        if column not in _TEXTS:
            return None
    return values


def _is_text(value: str) -> bool:
    """Whether it has no lone surrogate, because of which asyncpg abandons a connection."""
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def _day(value: dt.date) -> tuple[int, int, int]:
    return value.year, value.month, value.day


_ENDS: Final = {_day(dt.date.min), _day(dt.date.max)}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How values of one Python type are written.

    :param element: returns the type of the elements, from SQLAlchemy's cast and the values;
        ``None`` if that type might read their text differently.
    """

    write: Callable[[Any], str]
    element: Callable[[str | None, Sequence[Any]], str | None]


def _one_of(default: str, *casts: str) -> Callable[[str | None, Sequence[Any]], str | None]:
    allowed = {default, *casts}

    def element(cast: str | None, values: Sequence[Any]) -> str | None:  # noqa: ARG001  # a kind's
        return default if cast is None else cast if _name(cast) in allowed else None

    return element


def _name(cast: str) -> str:
    """Return a type without its length or precision."""
    before, bracket, behind = cast.partition("(")
    return before + behind.partition(")")[2] if bracket else before


def _integers(cast: str | None, values: Sequence[int]) -> str | None:
    name = "BIGINT" if cast is None else _name(cast)
    # A value that does not fit is refused, in the driver's or the server's own words.
    limit = _LIMITS.get(name, 2**63)
    if not (-limit <= min(values) and max(values) < limit):
        return None
    return name if name in _LIMITS else cast if name == "NUMERIC" else None


def _floats(cast: str | None, values: Sequence[float]) -> str | None:
    if cast is None:
        # psycopg2 writes a number, which SQL reads as a numeric; other drivers send a type.
        return "NUMERIC" if all(map(math.isfinite, values)) else None
    return cast if cast in {"FLOAT", "DOUBLE PRECISION"} else None


def _decimals(cast: str | None, values: Sequence[Decimal]) -> str | None:
    if not all(value.is_finite() for value in values):
        return None
    return "NUMERIC" if cast is None else cast if _name(cast) == "NUMERIC" else None


def _datetimes(cast: str | None, values: Sequence[dt.datetime]) -> str | None:
    meant = _NAIVE if is_naive(values) else _ZONED if has_offset(values) else None
    return meant if cast is None else cast if _name(cast) == meant else None


def _times(cast: str | None, values: Sequence[dt.time]) -> str | None:
    meant = "TIME WITHOUT TIME ZONE" if is_naive(values) else None
    if meant is None and has_steady_offset(values):
        meant = "TIME WITH TIME ZONE"
    return meant if cast is None else cast if _name(cast) == meant else None


def _bytes(value: bytes) -> str:
    return quoted(bytea_text(value))


def _whole_literal(values: Sequence[int]) -> str | None:
    """Return the SQL type of whole-number literals, if it is integer for all of them."""
    limit = _LIMITS["INTEGER"]
    return "INTEGER" if all(-limit < value < limit for value in values) else None


def _nothing(values: Sequence[Any]) -> None:
    """Return ``None``: SQL reads 5 as an integer, and 5.0 as a numeric."""


_LITERALS: Final[Mapping[type, Callable[[Sequence[Any]], str | None]]] = {
    int: _whole_literal,
    Decimal: _nothing,
}
"""The type of a number inside an expression, where the driver sends a literal."""

_KINDS: Final[Mapping[type, _Kind]] = {
    bool: _Kind({True: "t", False: "f"}.__getitem__, _one_of("BOOLEAN")),
    bytes: _Kind(_bytes, _one_of("BYTEA")),
    Decimal: _Kind(str, _decimals),
    dt.date: _Kind(dt.date.isoformat, _one_of("DATE")),
    dt.datetime: _Kind(dt.datetime.isoformat, _datetimes),
    dt.time: _Kind(dt.time.isoformat, _times),
    dt.timedelta: _Kind(interval_text, _one_of("INTERVAL")),
    # -0.0 keeps its sign as a parameter, and loses it as a literal, which is a numeric.
    float: _Kind(float.__repr__, _floats),
    int: _Kind(int.__repr__, _integers),
    str: _Kind(quoted, _one_of("VARCHAR", "TEXT", "CITEXT", "JSON", "JSONB", "UUID")),
    uuid.UUID: _Kind(str, _one_of("UUID")),
}
