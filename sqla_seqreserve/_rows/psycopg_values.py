"""Values that psycopg 3 writes by COPY exactly as it does by INSERT.

In binary format the server reads a value as the column's type, and psycopg's integer dumpers wrap
around silently (70000 in a smallint column becomes 4464); hence exact types and ranges. A type
without a binary dumper (hstore, inet from ``str``, citext[], ...) goes as text: COPY then calls the
column's input function on the same text that an untyped parameter would have. Measured with psycopg
3.3 on PostgreSQL 15 and 18.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final

from psycopg import Binary, ProgrammingError, pq
from psycopg.adapt import AdaptersMap, PyFormat
from psycopg.types.array import ListBinaryDumper
from psycopg.types.json import Json, Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range
from sqlalchemy import Connection
from sqlalchemy.ext.mutable import MutableDict

from .._sqlalchemy.engine import driver_connection
from .codecs import BYTES, IN_DOMAINS, Codec
from .column_checks import (
    INTEGER_BOUNDS,
    Accepted,
    Check,
    bounds_of,
    exact_types,
    has_offset,
    has_steady_offset,
    is_naive,
    items_of,
    items_that,
    naive_or_has_offset,
    ranges_of,
    single_precision,
    strings_alone,
    unwrapped_bytes,
    whole_numbers,
    without_scope,
    without_signed_nan,
)
from .conversions import integer_of, name_of, whole_number
from .model_types import INTEGERS, RANGES, STRINGS, Modelled
from .optional_types import OF_TYPES, numpy_bool, numpy_float, numpy_integers

_TEXT_OID: Final = 25

_RAW: Final = Codec(BYTES, frozenset({bytes}))

_ADDRESSES: Final = frozenset(
    {ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Interface, ipaddress.IPv6Interface}
)

_SCALARS: Final[Accepted] = {
    "bool": (frozenset({bool}), None),
    "bytea": (frozenset({bytes, bytearray, Binary}), None),
    "date": (frozenset({dt.date}), None),
    "float4": (frozenset({float}), single_precision),
    "float8": (frozenset({float}), None),
    "inet": (_ADDRESSES, without_scope),
    "cidr": (frozenset({ipaddress.IPv4Network, ipaddress.IPv6Network}), None),
    "interval": (frozenset({dt.timedelta}), None),
    "json": (frozenset({Json, Jsonb}), None),
    "jsonb": (frozenset({Json, Jsonb}), None),
    "numeric": (frozenset({Decimal, int}), without_signed_nan),
    "time": (frozenset({dt.time}), is_naive),
    "timestamp": (frozenset({dt.datetime}), is_naive),
    "timestamptz": (frozenset({dt.datetime}), has_offset),
    "timetz": (frozenset({dt.time}), has_steady_offset),
    "uuid": (frozenset({uuid.UUID}), None),
}

_BOUNDS: Final[Accepted] = {**_SCALARS, **INTEGER_BOUNDS}

# Arrays for which psycopg's binary and text formats give the same result; others go as text.
_BINARY_ARRAYS: Final = frozenset({*_SCALARS, *INTEGERS, "text", "varchar"}) - {
    "inet",
    "cidr",
    "json",
    "jsonb",
    "interval",
}

# psycopg treats an IntEnum as an int.
_TEXT_KINDS: Final = ((str, str.__str__), (int, None), (float, None), (enum.Enum, name_of))


def _numeric_from_float(value: float) -> Decimal:
    """Convert as PostgreSQL does when it assigns a double precision value to numeric: 15
    significant digits (``float8_numeric``).
    """
    return Decimal(f"{value:.15g}")


def _exact_float(value: int) -> float | int:
    """Return the same number as double precision; the int itself if the server would round it."""
    return float(value) if -(2**53) <= value <= 2**53 else value


def _exact_single(value: int) -> float | int:
    """The same for four bytes."""
    return float(value) if -(2**24) <= value <= 2**24 else value


class _Psycopg:
    in_domains = IN_DOMAINS

    def scalar(self, modelled: Modelled) -> Codec:
        """Return the codec of a column that is not an array."""
        return _scalar(modelled, modelled.column.type_name)

    def array(self, modelled: Modelled) -> Codec:
        """Return the codec of an array. INSERT sends its text, and casts that."""
        column = modelled.column
        assert column.element_type is not None
        inner = _scalar(modelled, column.element_type)
        allowed = inner.binary | inner.text

        def check_items(items: Sequence[Any]) -> bool:
            types = exact_types(items)
            return (
                types <= allowed
                and (str not in types or types == {str})
                and inner.accepts(items, types)
            )

        check = items_that(check_items, modelled)
        array = frozenset({list})
        in_binary = column.element_type in _BINARY_ARRAYS

        def check_binary(values: Sequence[Any]) -> bool:
            # A text that the server must parse has no binary form.
            return check(values) and exact_types(items_of(values)) <= inner.binary

        return Codec(
            column.type_oid,
            array if in_binary else frozenset(),
            array,
            check_binary if in_binary else check,
            inner=lambda values: _inner(values, inner),
            text_check=check if in_binary else None,
        )

    def sends_bytes(self, connection: Connection) -> bool:
        return self.adapted_otherwise(connection, _RAW, {bytes}) is None

    def frames(self, codec: Codec, values: Sequence[Any]) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def writes_as_text(self, codec: Codec, values: Sequence[Any]) -> bool:  # noqa: ARG002  # the protocol's
        # Each value also has a text dumper.
        return True

    def adapted_otherwise(
        self, connection: Connection, codec: Codec, types: Iterable[type]
    ) -> type | None:
        """Return a type with a registered dumper that is not psycopg's own."""
        adapters = driver_connection(connection).adapters
        own = _own_adapters()
        for type_ in types:
            for format_ in (PyFormat.AUTO, PyFormat.TEXT):
                found = _dumper(adapters, type_, format_)
                usual = _dumper(own, type_, format_)
                if found is not usual and not _is_usual(found, usual, type_):
                    return type_
        if codec.binary:
            found = _dumper_by_oid(adapters, codec.oid)
            usual = _dumper_by_oid(own, codec.oid)
            if found is not usual and not _is_usual(found, usual, Json):
                return next(iter(codec.binary))
        return None

    def unwrapped(
        self, connection: Connection, values: Sequence[Any], cast: str | None
    ) -> Sequence[Any]:
        kinds = exact_types(values)
        if kinds == {Binary}:
            return unwrapped_bytes(values, Binary, "obj")
        # The text of a JSON value may differ although the value means the same.
        if kinds != {Jsonb if cast == "JSONB" else Json}:
            return values
        [kind] = kinds
        raw = driver_connection(connection)
        dump = raw.adapters.get_dumper(kind, PyFormat.TEXT)(kind, raw).dump
        try:
            return [value and bytes(dump(value)).decode() for value in values]
        except Exception:
            # The application's own function failed: psycopg calls it again, and raises this error.
            return values


TABLE: Final = _Psycopg()


@cache
def _own_adapters() -> AdaptersMap:
    """The dumpers that psycopg registers itself, whatever was registered since."""
    from psycopg import dbapi20, postgres

    adapters = AdaptersMap()
    postgres.register_default_types(adapters.types)
    postgres.register_default_adapters(adapters)
    dbapi20.register_dbapi20_adapters(adapters)
    return adapters


def _dumper(adapters: AdaptersMap, type_: type, format_: PyFormat) -> Any:
    try:
        return adapters.get_dumper(type_, format_)
    except ProgrammingError:
        return None


def _dumper_by_oid(adapters: AdaptersMap, oid: int) -> Any:
    try:
        return adapters.get_dumper_by_oid(oid, pq.Format.BINARY)
    except ProgrammingError:
        return None


def _is_usual(found: Any, usual: Any, type_: type) -> bool:
    """Whether a dumper other than psycopg's own does the same: that of hstore, which is made for a
    database, and those of JSON with another function, which is used in every format.
    """
    # Each adapters map has its own dumpers of arrays.
    if found is not None and found.__bases__ == (ListBinaryDumper,):
        return bool(found.dump is ListBinaryDumper.dump)
    if issubclass(type_, dict):
        return found is not None and found.__module__ == "psycopg.types.hstore"
    if type_ in {Json, Jsonb} and found is not None and usual is not None:
        return issubclass(found, usual) and found.dump is usual.dump
    return False


def _scalar(modelled: Modelled, name: str) -> Codec:
    column = modelled.column
    oid = column.type_oid
    if column.is_enum or column.element_is_enum:
        return Codec(_TEXT_OID, frozenset({str}), frozenset({str}))
    if name in INTEGERS:
        return _integer(modelled, name)
    if name in STRINGS:
        return Codec(_TEXT_OID, frozenset({str}), frozenset({str}), kinds=_TEXT_KINDS)
    if name == "numeric":
        exact, check = _SCALARS[name]
        return Codec(oid, exact, exact, check, convert={float: _numeric_from_float})
    if name == "float8":
        exact, _ = _SCALARS[name]
        return Codec(
            oid,
            exact,
            exact | {str},
            convert={int: _exact_float},
            kinds=numpy_float,
            beside=frozenset({float, int}),
        )
    if name in _SCALARS:
        exact, check = _SCALARS[name]
        # Naive values are in the connection's time zone, which the server knows.
        return Codec(
            oid,
            exact,
            exact | {str},
            check,
            convert={int: _exact_single} if name == "float4" else {},
            kinds=numpy_bool if name == "bool" else OF_TYPES.get(name, ()),
            text_check=naive_or_has_offset if name == "timestamptz" else None,
            as_utc=name == "timestamp",
        )
    if name in RANGES:
        return _range(oid, name)
    if name.endswith("multirange") and name.replace("multirange", "range") in RANGES:
        return _multirange(oid, name)
    if name == "hstore":
        return Codec(
            oid, text=frozenset({str, dict}), check=strings_alone, convert={MutableDict: dict}
        )
    return Codec(oid, text=frozenset({str}))


def _integer(modelled: Modelled, name: str) -> Codec:
    # INSERT casts to the model's type, and only int4 has a cast from boolean.
    booleans: dict[type, Callable[[Any], Any]] = {bool: int} if modelled.name == "integer" else {}
    return Codec(
        modelled.column.type_oid,
        frozenset({int}),
        frozenset({int}),
        whole_numbers(modelled, name),
        convert={str: integer_of, float: whole_number, Decimal: whole_number, **booleans},
        kinds=(
            (int, int.__int__),
            *numpy_integers,
            (numpy_float[0][0], whole_number),
            (str, lambda value: integer_of(str.__str__(value))),
        ),
    )


def _range(oid: int, name: str) -> Codec:
    return Codec(
        oid,
        frozenset({Range}),
        frozenset({Range, str}),
        _range_check(name),
        inner=lambda values: exact_types(bounds_of(values)),
    )


def _multirange(oid: int, name: str) -> Codec:
    check = _range_check(name.replace("multirange", "range"))
    return Codec(
        oid,
        frozenset({Multirange}),
        frozenset({Multirange, str}),
        lambda values: check(_ranges(values)),
        inner=lambda values: {Range} | exact_types(bounds_of(_ranges(values))),
    )


def _inner(values: Sequence[Any], codec: Codec) -> set[type]:
    items = list(items_of(values))
    return exact_types(items) | (codec.inner(items) if codec.inner is not None else set())


def _ranges(values: Iterable[Any]) -> list[Any]:
    return [item for value in values if type(value) is Multirange for item in value]


def _range_check(name: str) -> Check:
    check = ranges_of(name, _BOUNDS)
    if name != "numrange":
        return check

    def ranges(values: Sequence[Any]) -> bool:
        # A range may not have bounds of two types.
        return check(values) and all(len(exact_types(bounds_of([value]))) < 2 for value in values)

    return ranges
