"""Which Python values COPY writes exactly as INSERT would, for each type of a database column.

INSERT lets PostgreSQL cast: a parameter of one type is assigned to a column of another. COPY casts
nothing. In binary format a value is taken for what the column is, and psycopg's integer dumpers
wrap around silently (70000 in a smallint column becomes 4464), so a codec names the *exact* Python
types that mean the same either way, and checks ranges and time zones. Everything else is left to
INSERT: subclasses, mixtures, values that the server would cast or refuse. Measured with psycopg 3.3
on PostgreSQL 15 and 18.

A type without a binary dumper (hstore, inet from ``str``, bit strings, ...) goes as text: COPY then
calls the column's input function on the same text that an untyped parameter would have been.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import operator
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import NoneType
from typing import Any, Final, TypeAlias

from psycopg import Binary
from psycopg.types.json import Json, Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range
from sqlalchemy import Dialect, Enum
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeEngine

from .._ids.catalogue import ColumnFacts

__all__ = ["Codec", "codec_for", "exact_types"]

Check: TypeAlias = Callable[[Iterable[Any]], bool]
"""Whether every value (None excluded) is one that the column takes as it is."""

_TEXT_OID: Final = 25


@dataclass(frozen=True, slots=True)
class Codec:
    """What one column takes through COPY.

    ``binary`` and ``text`` are exact Python types; ``oid`` is the type that psycopg dumps for, in
    binary format; ``convert`` makes a value of a further type exact first. ``check`` is the binary
    format's alone, where ``text_is_unchecked``.
    """

    oid: int
    binary: frozenset[type] = frozenset()
    text: frozenset[type] = frozenset()
    check: Check | None = None
    convert: Mapping[type, Callable[[Any], Any]] = field(default_factory=dict)
    text_is_unchecked: bool = False

    def accepts(self, values: Sequence[Any], types: set[type]) -> bool:
        """Whether the values, which are of these types, are all ones that the column takes as they
        are. A ``str`` for a column that is not of text is the server's to read.
        """
        if self.check is None:
            return True
        passed_over = {NoneType} if str in self.binary else {NoneType, str}
        if not types.isdisjoint(passed_over):
            values = [value for value in values if type(value) not in passed_over]
        return self.check(values)


def exact_types(values: Iterable[Any]) -> set[type]:
    """The types of the values, ``None`` left out."""
    return set(map(type, values)) - {NoneType}


def _between(lowest: int, highest: int) -> Check:
    def check(values: Iterable[Any]) -> bool:
        present = values if isinstance(values, list) else list(values)
        return not present or (lowest <= min(present) and max(present) <= highest)

    return check


_zone = operator.attrgetter("tzinfo")


def _aware(values: Iterable[Any]) -> bool:
    return None not in set(map(_zone, values))


def _naive(values: Iterable[Any]) -> bool:
    return set(map(_zone, values)) <= {None}


def _single_precision(values: Iterable[float]) -> bool:
    """Neither overflowing nor vanishing in four bytes, which the server refuses and ``struct``
    lets pass.
    """
    return all(
        value == 0
        or 1.2e-38 <= abs(value) <= 3.4e38
        or value != value
        or abs(value) == float("inf")
        for value in values
    )


def _numeric_from_float(value: float) -> Decimal:
    """What PostgreSQL makes of a double precision value assigned to numeric: 15 significant
    digits (``float8_numeric``).
    """
    return Decimal(f"{value:.15g}")


def _exact_float(value: int) -> float | int:
    """The same number as double precision; the int where it is the server's to round."""
    return float(value) if -(2**53) <= value <= 2**53 else value


def _hstore_of_strings(values: Iterable[Any]) -> bool:
    """Whether all is strings or None: on other things INSERT fails in a way of its own."""
    return all(
        exact_types(value) <= {str} and exact_types(value.values()) <= {str}
        for value in values
        if type(value) is dict
    )


_INTEGERS: Final = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_MODEL_INTEGERS: Final = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
_STRINGS: Final = frozenset({"text", "varchar", "bpchar", "citext"})
_ADDRESSES: Final = frozenset(
    {ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Interface, ipaddress.IPv6Interface}
)

_SCALARS: Final[Mapping[str, tuple[frozenset[type], Check | None]]] = {
    "bool": (frozenset({bool}), None),
    "bytea": (frozenset({bytes, bytearray, Binary}), None),
    "date": (frozenset({dt.date}), None),
    "float4": (frozenset({float}), _single_precision),
    "float8": (frozenset({float}), None),
    "inet": (_ADDRESSES, None),
    "cidr": (frozenset({ipaddress.IPv4Network, ipaddress.IPv6Network}), None),
    "interval": (frozenset({dt.timedelta}), None),
    "json": (frozenset({Json, Jsonb}), None),
    "jsonb": (frozenset({Json, Jsonb}), None),
    "numeric": (frozenset({Decimal, int}), None),
    "time": (frozenset({dt.time}), _naive),
    "timestamp": (frozenset({dt.datetime}), _naive),
    "timestamptz": (frozenset({dt.datetime}), _aware),
    "timetz": (frozenset({dt.time}), _aware),
    "uuid": (frozenset({uuid.UUID}), None),
}

_RANGES: Final = {
    "int4range": "int4",
    "int8range": "int8",
    "numrange": "numeric",
    "daterange": "date",
    "tsrange": "timestamp",
    "tstzrange": "timestamptz",
}

# INSERT casts to these with the model's length or precision, which truncates, and COPY does not.
_CAST_TO_SIZE: Final = frozenset({"bit", "varbit", "interval"})

# The database types that a type of the model may stand for. Others must bear the same name.
_FAMILIES: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), frozenset(_INTEGERS)),
    **dict.fromkeys(("numeric", "decimal"), frozenset({"numeric"})),
    **dict.fromkeys(("float", "real", "double precision"), frozenset({"float4", "float8"})),
    **dict.fromkeys(("varchar", "char", "text", "citext", "nvarchar", "nchar"), _STRINGS),
    **dict.fromkeys(("json", "jsonb"), frozenset({"json", "jsonb"})),
    "boolean": frozenset({"bool"}),
    "time with time zone": frozenset({"timetz"}),
    "time without time zone": frozenset({"time"}),
    "timestamp with time zone": frozenset({"timestamptz"}),
    "timestamp without time zone": frozenset({"timestamp"}),
}


def codec_for(type_: TypeEngine[Any], column: ColumnFacts, dialect: Dialect) -> Codec | str:
    """The codec of a column, from its type in the model and in the database; or the reason why
    COPY cannot write it.
    """
    if column.is_unknown_domain:
        return f"column {column.name} is a domain over a domain"
    if column.is_enum:
        if isinstance(_implementation(type_, dialect), Enum):
            return Codec(_TEXT_OID, frozenset({str}), frozenset({str}))
        return f"column {column.name} is an enum in the database, not in the model"
    try:
        model = _model_name(type_, dialect)
    except SQLAlchemyError:
        return f"column {column.name} has no type in the model"
    size = _model_size(type_, dialect)
    if column.element_type is not None:
        return _array_codec(model, size, column)
    if size and column.type_name in _CAST_TO_SIZE:
        return f"column {column.name} is {model}({size}) in the model, to which INSERT casts"
    if column.type_name not in _FAMILIES.get(model, {model}):
        return f"column {column.name} is {model} in the model, {column.type_name} in the database"
    return _scalar_codec(model, column.type_name, column.type_oid)


def _scalar_codec(model: str, name: str, oid: int) -> Codec:
    if name in _INTEGERS:
        limit = min(_INTEGERS[name], _MODEL_INTEGERS[model])
        return Codec(oid, frozenset({int}), frozenset({int}), _between(-limit, limit - 1))
    if name in _STRINGS:
        return Codec(_TEXT_OID, frozenset({str}), frozenset({str}))
    if name == "numeric":
        exact, _ = _SCALARS[name]
        return Codec(oid, exact, exact, convert={float: _numeric_from_float})
    if name == "float8":
        exact, _ = _SCALARS[name]
        return Codec(oid, exact, exact | {str}, convert={int: _exact_float})
    if name in _SCALARS:
        exact, check = _SCALARS[name]
        # Naive values are of the connection's time zone, which the server knows.
        return Codec(
            oid,
            exact,
            exact | {str},
            check,
            text_is_unchecked=name == "timestamptz",
        )
    if name in _RANGES:
        return Codec(oid, frozenset({Range}), frozenset({Range, str}), _range_check(_RANGES[name]))
    if name.endswith("multirange") and name.replace("multirange", "range") in _RANGES:
        return Codec(
            oid, frozenset({Multirange}), frozenset({Multirange, str}), _multirange_check(name)
        )
    if name == "hstore":
        return Codec(oid, text=frozenset({str, dict}), check=_hstore_of_strings)
    return Codec(oid, text=frozenset({str}))


def _array_codec(model: str, size: str, column: ColumnFacts) -> Codec | str:
    element = column.element_type
    assert element is not None
    if not model.endswith("[]") or element not in _FAMILIES.get(
        model.rstrip("[]"), {model.rstrip("[]")}
    ):
        return f"column {column.name} is {model} in the model, {element}[] in the database"
    inner = _scalar_codec(model.rstrip("[]"), element, 0)
    if not inner.binary or element in _RANGES:
        return f"column {column.name} is an array of {element}"
    if size and element not in _STRINGS:
        return f"column {column.name} is {model} of ({size}) in the model, to which INSERT casts"
    longest = int(size) if size else None

    def check(values: Iterable[Any]) -> bool:
        items = list(_flatten(values))
        return (
            exact_types(items) <= inner.binary
            and (inner.check is None or inner.check(items))
            and (longest is None or max(map(len, items), default=0) <= longest)
        )

    return Codec(column.type_oid, frozenset({list}), frozenset({list}), check)


def _flatten(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if type(value) is list:
            yield from _flatten(value)
        elif value is not None:
            yield value


def _range_check(bound: str) -> Check:
    exact = frozenset({int}) if bound in _INTEGERS else _SCALARS[bound][0]
    limit = _INTEGERS.get(bound)
    check = _between(-limit, limit - 1) if limit else _SCALARS[bound][1]

    def ranges(values: Iterable[Any]) -> bool:
        bounds = [
            end
            for value in values
            if type(value) is Range and not value.isempty
            for end in (value.lower, value.upper)
            if end is not None
        ]
        return exact_types(bounds) <= exact and (check is None or check(bounds))

    return ranges


def _multirange_check(name: str) -> Check:
    ranges = _range_check(_RANGES[name.replace("multirange", "range")])
    return lambda values: ranges(
        [item for value in values if type(value) is Multirange for item in value]
    )


def _implementation(type_: TypeEngine[Any], dialect: Dialect) -> Any:
    implementation = type_.dialect_impl(dialect)
    return getattr(implementation, "impl_instance", implementation)


def _model_name(type_: TypeEngine[Any], dialect: Dialect) -> str:
    """The type as DDL writes it, without length, precision and collation: ``timestamp with time
    zone``.
    """
    ddl: str = dialect.type_compiler_instance.process(type_).lower().split(" collate ")[0]
    return re.sub(r"\([^)]*\)", "", ddl).strip()


def _model_size(type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Length or precision and scale as DDL writes them, "" where it writes none."""
    found = re.search(r"\(([^)]*)\)", dialect.type_compiler_instance.process(type_))
    return found[1] if found else ""
