"""The table of types: for each a type of the model, the columns that it may stand over, and values.

A new type is one line of :data:`SCALARS`; its arrays are added automatically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from fuzz import values as v
from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    REAL,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    Unicode,
    Uuid,
)
from sqlalchemy.dialects import postgresql as pg

__all__ = ["DDL", "KINDS", "Kind"]

DDL: Final = (
    "CREATE TYPE shade AS ENUM ('RED', 'BLUE')",
    "CREATE TYPE mood AS ENUM ('sad', 'glad')",
    "CREATE DOMAIN small AS integer CHECK (value < 100)",
    "CREATE DOMAIN word AS varchar(3)",
)


_SHORT: Final = {
    "float": "double precision",
    "varchar": "text",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time with time zone": "timetz",
    "time without time zone": "time",
}


@dataclass(frozen=True)
class Kind:
    """A type of the model, the columns that it may stand over, and the values for objects."""

    name: str
    type_: Any
    columns: Sequence[str]
    good: v.Make
    nasty: Sequence[Any]

    def __str__(self) -> str:
        return self.name

    @property
    def own(self) -> str:
        """The column's type in the DDL of the model."""
        compiled = self.type_.compile(dialect=pg.dialect()).lower()
        return _SHORT.get(compiled, compiled)

    def values(self, chance: Random, mood: str, count: int) -> list[Any]:
        """Values of a batch: ``good`` ones, ``nasty`` ones, or ``mixed``, a good batch with some
        nasty values. In a ``pair`` each value is good or nasty; in ``twins`` nasty values mostly
        have one type. Plain SQLAlchemy refuses fewer of these two, so that more values are
        compared.
        """
        share = {"good": 0.0, "nasty": 1.0, "mixed": 0.2, "pair": 0.5, "twins": 1.0}[mood]
        first = self._value(chance, nasty=chance.random() < share)
        values = [first]
        while len(values) < count:
            value = self._value(chance, nasty=chance.random() < share)
            if mood != "twins" or type(value) is type(first) or chance.random() < 1 / 20:
                values.append(value)
        return values

    def _value(self, chance: Random, *, nasty: bool) -> Any:
        if not nasty:
            return self.good(chance)
        # A value that is nasty for this type more often than a value of another type.
        return chance.choice(self.nasty if chance.random() < 2 / 3 else v.ANYTHING)


NUMBERS: Final = (
    *("smallint", "integer", "bigint", "numeric", "numeric(6,2)", "real", "double precision"),
    *("text", "small"),
)
STRINGS: Final = ("text", "varchar(3)", "char(3)", "citext", "name", "word", "mood", "json", "inet")
TIMES: Final = (
    "timestamp",
    "timestamptz",
    "timestamp(0)",
    "timestamptz(0)",
    "date",
    "text",
    "time",
)
CLOCKS: Final = ("time", "timetz", "time(0)", "timetz(0)", "interval")
SPANS: Final = ("interval", "interval(0)", "interval day", "time", "text")
DOCUMENTS: Final = ("json", "jsonb", "text")
NETS: Final = ("inet", "cidr", "text")
BITS: Final = ("bit(3)", "bit(5)", "varbit", "varbit(2)")
RANGES: Final = ("int4range", "int8range", "numrange", "text")
TIME_RANGES: Final = ("tsrange", "tstzrange", "daterange")
INTEGERS, DECIMALS, FLOATS = v.NASTY_INTEGERS, v.NASTY_NUMBERS, v.NASTY_NUMBERS

SCALARS: Final = (
    Kind("smallint", SmallInteger(), NUMBERS, v.integers(2**15), INTEGERS),
    Kind("integer", Integer(), NUMBERS, v.integers(2**31), INTEGERS),
    Kind("bigint", BigInteger(), NUMBERS, v.integers(2**63), INTEGERS),
    Kind("oid", pg.OID(), ("oid",), v.integers(2**31), INTEGERS),
    Kind("numeric", Numeric(), NUMBERS, v.decimals(20, 6), DECIMALS),
    Kind("numeric(6,2)", Numeric(6, 2), NUMBERS, v.decimals(6, 2), DECIMALS),
    Kind("numeric as float", Numeric(asdecimal=False), NUMBERS, v.floats, DECIMALS),
    Kind("float", Float(), NUMBERS, v.floats, FLOATS),
    Kind("double", Double(), NUMBERS, v.floats, FLOATS),
    Kind("real", REAL(), NUMBERS, v.floats, FLOATS),
    Kind("boolean", Boolean(), ("boolean", "text"), v.booleans, (1, 0, "true", 2, "x")),
    Kind("string", String(), STRINGS, v.words(3), v.NASTY_STRINGS),
    Kind("varchar(3)", String(3), STRINGS, v.words(3), v.NASTY_STRINGS),
    Kind("char(3)", CHAR(3), STRINGS, v.words(3), v.NASTY_STRINGS),
    Kind("text", Text(), STRINGS, v.words(9), v.NASTY_STRINGS),
    Kind("unicode", Unicode(10), STRINGS, v.words(9), v.NASTY_STRINGS),
    Kind("collated", String(collation="C"), STRINGS, v.words(3), v.NASTY_STRINGS),
    Kind("citext", pg.CITEXT(), STRINGS, v.words(3), v.NASTY_STRINGS),
    Kind("bytea", LargeBinary(), ("bytea", "text"), v.octets, v.NASTY_OCTETS),
    Kind("date", Date(), TIMES, v.days, v.NASTY_TIMES),
    Kind("timestamp", DateTime(), TIMES, v.moments(aware=False), v.NASTY_TIMES),
    Kind("timestamptz", DateTime(timezone=True), TIMES, v.moments(aware=True), v.NASTY_TIMES),
    Kind("timestamp, aware", DateTime(), TIMES, v.moments(aware=True), v.NASTY_TIMES),
    Kind("timestamp(0)", pg.TIMESTAMP(precision=0), TIMES, v.moments(aware=False), v.NASTY_TIMES),
    Kind("time", Time(), CLOCKS, v.clocks(aware=False), v.NASTY_CLOCKS),
    Kind("timetz", Time(timezone=True), CLOCKS, v.clocks(aware=True), v.NASTY_CLOCKS),
    Kind("time(0)", pg.TIME(precision=0), CLOCKS, v.clocks(aware=False), v.NASTY_CLOCKS),
    Kind("interval", Interval(), SPANS, v.spans, v.NASTY_SPANS),
    Kind("interval(0)", pg.INTERVAL(precision=0), SPANS, v.spans, v.NASTY_SPANS),
    Kind("uuid", Uuid(), ("uuid", "text"), v.uuids, v.NASTY_UUIDS),
    Kind(
        "enum", Enum(v.Shade, name="shade"), ("shade", "text"), v.one_of(*v.Shade), v.NASTY_STRINGS
    ),
    Kind(
        "letters", Enum("sad", "glad", name="mood"), ("mood", "text"), v.one_of("sad"), ("x", "RED")
    ),
    Kind(
        "enum, not native", Enum(v.Shade, native_enum=False), STRINGS, v.one_of(*v.Shade), ("RED",)
    ),
    Kind("json", JSON(), DOCUMENTS, v.documents, v.NASTY_DOCUMENTS),
    Kind("json, none as null", JSON(none_as_null=True), DOCUMENTS, v.documents, v.NASTY_DOCUMENTS),
    Kind("jsonb", pg.JSONB(), DOCUMENTS, v.documents, v.NASTY_DOCUMENTS),
    Kind("inet", pg.INET(), NETS, v.addresses, v.NASTY_ADDRESSES),
    Kind("cidr", pg.CIDR(), NETS, v.networks, v.NASTY_ADDRESSES),
    Kind("macaddr", pg.MACADDR(), ("macaddr", "text"), v.one_of("08:00:2b:01:02:03"), ("x", "")),
    Kind("bit(3)", pg.BIT(3), BITS, v.bits(3), ("", "1", "10101", "x")),
    Kind("varbit", pg.BIT(varying=True), BITS, v.bits(2), ("", "1", "10101", "x")),
    Kind("money", pg.MONEY(), ("money",), v.one_of("12.34", "$5.00"), ("x", 5, 2.5)),
    Kind("hstore", pg.HSTORE(), ("hstore", "text"), v.hstores, ({"a": 1}, "a=>1", {}, {1: "b"})),
    Kind("tsvector", pg.TSVECTOR(), ("tsvector",), v.one_of("a fat cat", ""), ("'", 5)),
    Kind("int4range", pg.INT4RANGE(), RANGES, v.ranges(v.integers(2**31)), v.NASTY_RANGES),
    Kind("int8range", pg.INT8RANGE(), RANGES, v.ranges(v.integers(2**40)), v.NASTY_RANGES),
    Kind("numrange", pg.NUMRANGE(), RANGES, v.ranges(v.decimals(9, 2)), v.NASTY_RANGES),
    Kind("daterange", pg.DATERANGE(), TIME_RANGES, v.ranges(v.days), v.NASTY_RANGES),
    Kind("tsrange", pg.TSRANGE(), TIME_RANGES, v.ranges(v.moments(aware=False)), v.NASTY_RANGES),
    Kind("tstzrange", pg.TSTZRANGE(), TIME_RANGES, v.ranges(v.moments(aware=True)), v.NASTY_RANGES),
)
_RANGE_OF: Final = {kind.name: kind for kind in SCALARS if kind.name.endswith("range")}
MULTIRANGES: Final = tuple(
    Kind(
        name.replace("range", "multirange"),
        getattr(pg, name.upper().replace("RANGE", "MULTIRANGE"))(),
        (name.replace("range", "multirange"),),
        lambda chance, make=kind.good: [make(chance) for _ in range(chance.randint(0, 3))],
        ([], None, *([value] for value in kind.nasty), "{}", pg.MultiRange([])),
    )
    for name, kind in _RANGE_OF.items()
)


def _array_of(kind: Kind) -> Kind:
    return Kind(
        f"{kind.name}[]",
        ARRAY(kind.type_),
        [f"{column}[]" for column in kind.columns if column != "interval day"],
        v.lists(kind.good),
        (
            *v.NASTY_LISTS,
            *([value] for value in kind.nasty),
            *([kind.nasty[0], x] for x in kind.nasty),
        ),
    )


ARRAYS: Final = tuple(_array_of(kind) for kind in SCALARS)
KINDS: Final = (*SCALARS, *MULTIRANGES, *ARRAYS)
