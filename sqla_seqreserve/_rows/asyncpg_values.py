"""Values that asyncpg writes by COPY exactly as it does by INSERT.

asyncpg encodes a parameter by the type that INSERT casts it to, and a field of a COPY by the
column's type. Both use the codec that the connection has for the type, also one set by the user.
The two types are the same here, except integers and floats of another size. Read in asyncpg 0.30
and 0.32.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from asyncpg import Range
from asyncpg.pgproto import pgproto
from sqlalchemy import Connection

from .._drivers.asyncpg import is_set_by_user
from .._sqlalchemy.engine import driver_connection
from .codecs import BYTES, Codec
from .column_checks import (
    Accepted,
    Check,
    between,
    contiguous,
    exact_types,
    has_offset,
    has_steady_offset,
    is_naive,
    items_that,
    ranges_of,
    single_precision,
    whole_numbers,
)
from .model_types import INTEGERS, RANGES, STRINGS, Modelled
from .optional_types import OF_TYPES, Kinds, numpy_float, numpy_integers

_FIRST_OWN_OID: Final = 16384
"""PostgreSQL's built-in types have lower oids. asyncpg treats others, except enums, as text
(citext, hstore).
"""

_TEXT_ALONE: Final = frozenset(
    {
        *("box", "circle", "line", "lseg", "path", "point", "polygon"),
        *("cid", "pg_lsn", "pg_snapshot", "tid", "txid_snapshot", "xid", "xid8"),
        *("jsonpath", "macaddr", "macaddr8", "money", "refcursor", "tsquery", "tsvector", "xml"),
    }
)
"""Built-in types of PostgreSQL for which asyncpg has no binary format, or one for values that are
not text. SQLAlchemy has no type that makes such values, so the values are text, which the server
reads.
"""

_UNLIKE: Final = frozenset({dt.date.min, dt.date.max})
"""Days that asyncpg turns into infinity."""


def _is_day(values: Sequence[Any]) -> bool:
    return _UNLIKE.isdisjoint(
        value.date() if isinstance(value, dt.datetime) else value for value in values
    )


def _has_days_and_offsets(values: Sequence[Any]) -> bool:
    return has_offset(values) and _is_day(values)


_WRITTEN_ALIKE: Final[Mapping[int, tuple[frozenset[type], Check | None]]] = {
    16: (frozenset({bool}), None),
    17: (frozenset({bytes, bytearray}), None),
    20: (frozenset({int}), None),
    21: (frozenset({int}), None),
    23: (frozenset({int}), None),
    25: (frozenset({str}), None),
    26: (frozenset({int}), None),
    114: (frozenset({str}), None),
    701: (frozenset({float}), None),
    1042: (frozenset({str}), None),
    1043: (frozenset({str}), None),
    1082: (frozenset({dt.date}), _is_day),
    1083: (frozenset({dt.time}), None),
    1114: (frozenset({dt.datetime}), _is_day),
    1184: (frozenset({dt.datetime}), _has_days_and_offsets),
    1186: (frozenset({dt.timedelta}), None),
    1266: (frozenset({dt.time}), None),
    1700: (
        frozenset({Decimal, int}),
        lambda values: all(value.is_finite() for value in values if type(value) is Decimal),
    ),
    2950: (frozenset({uuid.UUID, pgproto.UUID}), None),
    3802: (frozenset({str}), None),
}
"""By the oid of a type: values whose text the server reads as the same value that asyncpg sends in
binary.
"""

_SCALARS: Final[Accepted] = {
    "bool": (frozenset({bool}), None),
    "bytea": (frozenset({bytes, bytearray, memoryview}), contiguous),
    "cidr": (frozenset({str}), None),
    "date": (frozenset({dt.date}), None),
    "float4": (frozenset({float}), single_precision),
    "float8": (frozenset({float, int}), None),
    # INSERT of several rows sends it as text.
    "inet": (frozenset({str}), None),
    "interval": (frozenset({dt.timedelta}), None),
    "json": (frozenset({str}), None),
    "jsonb": (frozenset({str}), None),
    "numeric": (frozenset({Decimal, float, int}), None),
    "oid": (frozenset({int}), between(0, 2**32 - 1)),
    "time": (frozenset({dt.time}), is_naive),
    "timestamp": (frozenset({dt.datetime}), is_naive),
    "timestamptz": (frozenset({dt.datetime}), None),
    "timetz": (frozenset({dt.time}), has_steady_offset),
    "uuid": (frozenset({str, uuid.UUID, pgproto.UUID}), None),
}


_KINDS: Final[Mapping[str, Kinds]] = {"bytea": ((bytes, bytes),), "float8": numpy_float}

# For others asyncpg may have no binary format, and fails on their arrays (macaddr, money).
_IN_ARRAYS: Final = {*_SCALARS, *INTEGERS, *STRINGS, "bit", "varbit"} - {"citext"}


_BOUNDS: Final[Accepted] = {
    **_SCALARS,
    "int4": (frozenset({int}), None),
    "int8": (frozenset({int}), None),
    "numeric": (frozenset({Decimal, int}), None),
}
"""Bounds that COPY encodes without an error of Python's own."""


def _multiranges(name: str) -> Check:
    ranges = ranges_of(name.replace("multirange", "range"), _BOUNDS)

    def check(values: Sequence[Any]) -> bool:
        items = [item for value in values for item in value]
        return exact_types(items) <= {Range} and None not in items and ranges(items)

    return check


_ANY_FORMAT: Final = -1

_PARAMETERS: Final[Mapping[type, Sequence[int]]] = {
    bool: [16],
    bytes: [17],
    Decimal: [1700],
    dt.date: [1082],
    dt.datetime: [1114, 1184],
    dt.time: [1083, 1266],
    dt.timedelta: [1186],
    float: [700, 701],
    int: [20, 21, 23, 1700],
    str: [25, 1043],
    uuid.UUID: [2950],
}
"""The oids of the types to which SQLAlchemy casts parameters of a Python type."""


class _Asyncpg:
    # asyncpg sends a parameter as text if INSERT of several rows casts it to a domain.
    in_domains = STRINGS - {"citext"}

    def scalar(self, modelled: Modelled) -> Codec:
        """Return the codec of a column that is not an array."""
        column, name = modelled.column, modelled.column.type_name
        if column.is_enum:
            return Codec(column.type_oid, frozenset({str}))
        if name in INTEGERS:
            return Codec(
                column.type_oid,
                frozenset({int}),
                check=whole_numbers(modelled, name),
                convert={bool: int},
                kinds=((int, int.__int__), *numpy_integers),
            )
        if name in STRINGS - {"citext"}:
            return Codec(column.type_oid, frozenset({str}), kinds=((str, str.__str__),))
        if name in _SCALARS:
            exact, check = _SCALARS[name]
            kinds = _KINDS.get(name) or OF_TYPES.get(name, ())
            return Codec(column.type_oid, exact, check=check, kinds=kinds)
        if column.type_oid >= _FIRST_OWN_OID or name in _TEXT_ALONE:
            return Codec(column.type_oid, text=frozenset({str}), kinds=((str, str.__str__),))
        if name in RANGES:
            return Codec(column.type_oid, frozenset({Range}), check=ranges_of(name, _BOUNDS))
        if name.endswith("multirange"):
            return Codec(column.type_oid, frozenset({list}), check=_multiranges(name))
        return Codec(column.type_oid, frozenset({str}))

    def array(self, modelled: Modelled) -> Codec:
        """Return the codec of an array, for items that the item's codec accepts."""
        column, element = modelled.column, modelled.column.element_type
        assert element is not None
        if not column.element_is_enum and (
            column.type_oid >= _FIRST_OWN_OID or element not in _IN_ARRAYS
        ):
            return Codec(column.type_oid)
        exact, item_check = _SCALARS.get(element, (frozenset({str}), None))
        if element in INTEGERS and not column.element_is_enum:
            exact, item_check = frozenset({int}), whole_numbers(modelled, element)

        def check(items: Sequence[Any]) -> bool:
            return exact_types(items) <= exact and (item_check is None or item_check(items))

        return Codec(column.type_oid, frozenset({list}), check=items_that(check, modelled))

    def sends_bytes(self, connection: Connection) -> bool:
        return not _is_users(connection, BYTES)

    def frames(self, codec: Codec, values: Sequence[Any]) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def writes_as_text(self, codec: Codec, values: Sequence[Any]) -> bool:
        types = exact_types(values)
        if not codec.binary:
            return True
        if codec.oid >= _FIRST_OWN_OID:
            return types <= {str}
        known, check = _WRITTEN_ALIKE.get(codec.oid, (frozenset(), None))
        if not types <= known:
            return False
        return check is None or check([value for value in values if value is not None])

    def adapted_otherwise(
        self, connection: Connection, codec: Codec, types: Iterable[type]
    ) -> type | None:
        """Return a type for which the user set an encoding on the connection that affects
        parameters only. COPY and INSERT share the connection's codecs, except text codecs, which
        COPY does not use.
        """
        if codec.oid:
            if not codec.binary and _is_users(connection, codec.oid):
                return next(iter(types), None)
            return None
        driver = driver_connection(connection)
        codec_of = driver.get_settings().get_data_codec
        for type_ in types:
            for oid in _PARAMETERS.get(type_, ()):
                if codec_of(oid, _ANY_FORMAT) is not codec_of(oid, _ANY_FORMAT, True):
                    return type_
        return None

    def unwrapped(
        self,
        connection: Connection,  # noqa: ARG002  # the protocol's
        values: Sequence[Any],
        cast: str | None,  # noqa: ARG002  # the protocol's
    ) -> Sequence[Any]:
        return values


TABLE: Final = _Asyncpg()


def _is_users(connection: Connection, oid: int) -> bool:
    driver = driver_connection(connection)
    return is_set_by_user(driver.get_settings().get_data_codec, oid)
