"""Values that psycopg2 writes by COPY in text format exactly as it does by INSERT.

psycopg2 writes a literal: ``'..'::timestamptz``, ``ARRAY[1, 2]``, ``1.5``, or quoted text for the
server to parse. So a value is exact if the column's input function reads its text as the same value
that the assignment of its literal gives. Measured with psycopg2 2.9 on PostgreSQL 15 and 18.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any, Final

from psycopg2 import extensions, extras
from psycopg2.extensions import Binary
from psycopg2.extras import DateRange, DateTimeRange, DateTimeTZRange, NumericRange
from sqlalchemy import Connection
from sqlalchemy.ext.mutable import MutableDict

from .._drivers.binary_format import FRAMED
from .codecs import IN_DOMAINS, Codec
from .column_checks import (
    INTEGER_BOUNDS,
    Accepted,
    Check,
    bounds_of,
    contiguous,
    exact_types,
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
)
from .conversions import integer_of, whole_number
from .model_types import INTEGERS, RANGES, STRINGS, Modelled
from .optional_types import OF_TYPES

_EXACT: Final = 2**53
"""All whole numbers up to this one are exact as doubles."""


def _rounds_once(values: Sequence[float]) -> bool:
    """Whether the server rounds each to the same single, whether directly or through a double: no
    double lies half way between two singles.
    """
    if any(type(value) is int and abs(value) > _EXACT for value in values):
        return False
    return single_precision(values) and not any(
        struct.unpack("<Q", struct.pack("<d", value))[0] & 0x1FFFFFFF == 0x10000000
        for value in values
    )


def _is_numeric(values: Sequence[Any]) -> bool:
    """Whether psycopg2 writes no float as double precision; if it wrote one so, the server would
    read the others as that too.
    """
    return all(isfinite(value) for value in values if type(value) is float)


def _is_written_bare(values: Sequence[Any]) -> bool:
    """Whether psycopg2 writes each number without quotes: inside a range, which is quoted itself,
    it writes them unchanged.
    """
    return all(value.is_finite() for value in values if type(value) is Decimal)


_SCALARS: Final[Accepted] = {
    "bool": (frozenset({bool}), None),
    "bytea": (frozenset({bytes, bytearray, memoryview, Binary}), contiguous),
    "date": (frozenset({dt.date}), None),
    "float4": (frozenset({float, int}), _rounds_once),
    "float8": (frozenset({float, int}), None),
    "interval": (frozenset({dt.timedelta}), None),
    "numeric": (frozenset({Decimal, int}), _is_numeric),
    "time": (frozenset({dt.time}), is_naive),
    "timestamp": (frozenset({dt.datetime}), is_naive),
    "timestamptz": (frozenset({dt.datetime}), naive_or_has_offset),
    "timetz": (frozenset({dt.time}), has_steady_offset),
    "uuid": (frozenset({uuid.UUID}), None),
}

_BOUNDS: Final[Accepted] = {
    **_SCALARS,
    **INTEGER_BOUNDS,
    "numeric": (frozenset({Decimal, int}), _is_written_bare),
}

_RANGE_CLASSES: Final[Mapping[str, type]] = {
    "daterange": DateRange,
    "tsrange": DateTimeRange,
    "tstzrange": DateTimeTZRange,
}


class _Psycopg2:
    in_domains = IN_DOMAINS

    def scalar(self, modelled: Modelled) -> Codec:
        """Return the codec of a column that is not an array."""
        column, name = modelled.column, modelled.column.type_name
        if column.is_enum:
            return Codec(column.type_oid, text=frozenset({str}))
        if name in INTEGERS:
            return Codec(
                column.type_oid,
                text=frozenset({int}),
                check=whole_numbers(modelled, name),
                convert={str: integer_of, float: whole_number, Decimal: whole_number},
                kinds=((int, int.__int__), (str, lambda value: integer_of(str.__str__(value)))),
            )
        if name in STRINGS:
            return Codec(column.type_oid, text=frozenset({str}), kinds=((str, str.__str__),))
        if name in _SCALARS:
            exact, check = _SCALARS[name]
            # A float is written as a number with a point, which is numeric.
            further = {float, str} if name == "numeric" else {str}
            return Codec(
                column.type_oid,
                text=exact | further,
                check=check,
                kinds=OF_TYPES.get(name, ()),
                as_utc=name == "timestamp",
            )
        if name in RANGES:
            return Codec(
                column.type_oid,
                text=frozenset({_RANGE_CLASSES.get(name, NumericRange), str}),
                check=ranges_of(name, _BOUNDS),
                inner=lambda values: exact_types(bounds_of(values)),
            )
        if name == "hstore":
            return Codec(
                column.type_oid,
                text=frozenset({str, dict}),
                check=strings_alone,
                convert={MutableDict: dict},
            )
        return Codec(column.type_oid, text=frozenset({str}))

    def array(self, modelled: Modelled) -> Codec:
        """Return the codec of an array, which INSERT writes as ``ARRAY[..]`` of literals and
        casts.
        """
        column, element = modelled.column, modelled.column.element_type
        assert element is not None
        allowed: frozenset[type] = frozenset({str})
        item_check: Check | None = None
        if element in INTEGERS and not column.element_is_enum:
            allowed, item_check = frozenset({int}), whole_numbers(modelled, element)
        elif element in _SCALARS:
            allowed, item_check = _SCALARS[element]
            allowed = allowed - ({Binary, int} if element.startswith("float") else {Binary})
        elif element in RANGES or element.endswith("multirange") or element == "hstore":
            allowed = frozenset()

        def check(items: Sequence[Any]) -> bool:
            return (
                exact_types(items) <= allowed
                and (item_check is None or item_check(items))
                and (element != "timestamptz" or len({item.tzinfo is None for item in items}) < 2)
            )

        return Codec(
            column.type_oid,
            text=frozenset({list}),
            check=items_that(check, modelled),
            inner=lambda values: exact_types(items_of(values)),
        )

    def sends_bytes(self, connection: Connection) -> bool:  # noqa: ARG002  # the protocol's
        return True

    def frames(self, codec: Codec, values: Sequence[Any]) -> bool:
        kind = FRAMED.get(codec.oid)
        return kind is not None and exact_types(values) <= {kind}

    def writes_as_text(self, codec: Codec, values: Sequence[Any]) -> bool:  # noqa: ARG002  # the protocol's
        return True

    def adapted_otherwise(
        self,
        connection: Connection,  # noqa: ARG002  # psycopg2's adapters are global
        codec: Codec,  # noqa: ARG002  # as above
        types: Iterable[type],
    ) -> type | None:
        """Return a type with a registered adapter that is not psycopg2's own."""
        own = _own_adapters()
        for type_ in types:
            found = _adapter(extensions.adapters, type_)
            if issubclass(type_, dict):
                if found is not extras.HstoreAdapter:
                    return type_
            elif type_ in _RANGE_NAMES:
                if (
                    getattr(found, "name", None) != _RANGE_NAMES[type_]
                    or found.__module__ != "psycopg2._range"
                ):
                    return type_
            elif found is not _adapter(own, type_):
                return type_
        return None

    def unwrapped(
        self,
        connection: Connection,  # noqa: ARG002  # the protocol's
        values: Sequence[Any],
        cast: str | None,  # noqa: ARG002  # the protocol's
    ) -> Sequence[Any]:
        return unwrapped_bytes(values, Binary, "adapted")


TABLE: Final = _Psycopg2()

_RANGE_NAMES: Final = {class_: name for name, class_ in _RANGE_CLASSES.items()}


@cache
def _own_adapters() -> Mapping[Any, Any]:
    """The adapters that psycopg2 and SQLAlchemy register themselves, whatever was registered
    since.
    """
    from psycopg2._psycopg import Decimal as DecimalAdapter
    from psycopg2._psycopg import List
    from psycopg2._range import NumberRangeAdapter

    adapters = {
        bool: extensions.Boolean,
        bytearray: extensions.Binary,
        bytes: extensions.Binary,
        Decimal: DecimalAdapter,
        dt.date: extensions.DateFromPy,
        dt.datetime: extensions.TimestampFromPy,
        dt.time: extensions.TimeFromPy,
        dt.timedelta: extensions.IntervalFromPy,
        float: extensions.Float,
        int: extensions.Int,
        list: List,
        memoryview: extensions.Binary,
        NumericRange: NumberRangeAdapter,
        str: extensions.QuotedString,
        uuid.UUID: extras.UUID_adapter,
    }
    return {(type_, extensions.ISQLQuote): adapter for type_, adapter in adapters.items()}


def _adapter(adapters: Mapping[Any, Any], type_: type) -> Any:
    for base in type_.__mro__:
        found = adapters.get((base, extensions.ISQLQuote))
        if found is not None:
            return found
    return None
