"""Every type, value by value: what COPY leaves in the database is what INSERT leaves there.

Each value is flushed alone, stock and ours, in a savepoint: the row as text or the error must be
the same, and so must the attribute after the flush and after it is loaded again. Then the values
that stock took are flushed together.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fixtures.twins import Twins, differences
from fixtures.type_cases import (
    Case,
    Cents,
    Side,
    case,
    differences_as_text,
    differences_on,
)
from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    REAL,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Text,
    Time,
    TypeDecorator,
    Unicode,
    Uuid,
    create_engine,
    func,
    null,
    type_coerce,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.ext.mutable import MutableDict


class Colour(enum.Enum):
    RED = 1
    GREEN = 2
    ODD = "it's \\ odd,\t{}"


class Lower(TypeDecorator[str]):
    """Changes values on their way in and out."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else value.lower()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else f"<{value}>"


class NeverNull(TypeDecorator[str]):
    """Writes something for None."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value or "(none)"


class Scribbled(TypeDecorator[str]):
    """Wraps its values in SQL."""

    impl = String
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return func.reverse(type_coerce(bindvalue, String))


class JsonText(TypeDecorator[Any]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return json.dumps(value, sort_keys=True)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return json.loads(value)


class Text2(str):
    """A str by another name."""

    __slots__ = ()


class Word(enum.StrEnum):
    ONE = "first"


class Label(str, enum.Enum):  # noqa: UP042  # its str() is another than that of a StrEnum
    ONE = "first"


class Level(enum.IntEnum):
    HIGH = 3


class Count(int):
    pass


class Nowhere(dt.tzinfo):
    """A time zone that tells no offset."""

    def utcoffset(self, moment: dt.datetime | None) -> None:
        return None

    def tzname(self, moment: dt.datetime | None) -> None:
        return None

    def dst(self, moment: dt.datetime | None) -> None:
        return None


UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
ODD_ZONE = dt.timezone(dt.timedelta(hours=-3, minutes=-17, seconds=-5))
NAN, INFINITY = float("nan"), float("inf")
STRINGS = [
    "",
    "a",
    " a ",
    "ü€😀",
    "tab\tnewline\nback\\slash",
    "\\N",
    "NULL",
    "'\"",
    "a\x00b",
    "\ud800",
]
INTS = [0, 1, -1, True, 2.0, 2.5, Decimal(3), "4", "x", -0.0, NAN, INFINITY, 1e30, Decimal("NaN")]
CAST_INTS = [2.5, np.float32(2.0)]
NUMPY = [np.int8(-3), np.int64(5), np.uint16(7), np.int64(2**40), np.float64(2.0), np.float32(2.0)]
NOON = dt.datetime(2024, 1, 1, 12)  # noqa: DTZ001  # naive on purpose
DAYS = [dt.date.min, dt.date(1, 1, 1), dt.date(1582, 10, 10), dt.date(2000, 2, 29), dt.date.max]
TIMES = [
    dt.datetime.min,  # noqa: DTZ901  # naive on purpose
    dt.datetime(1999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001  # naive on purpose
    dt.datetime(2024, 3, 31, 2, 30),  # noqa: DTZ001  # naive on purpose
    dt.datetime.max,  # noqa: DTZ901  # naive on purpose
    dt.datetime(2024, 1, 1, tzinfo=UTC),
    dt.datetime(2024, 1, 1, 12, tzinfo=EAST),
    dt.datetime(2024, 1, 1, 12, tzinfo=ODD_ZONE),
    dt.datetime(1, 1, 1, tzinfo=UTC),
    dt.date(2024, 1, 1),
    "2024-01-01 10:00",
    "infinity",
    "nonsense",
]
SPANS = [
    dt.timedelta(0),
    dt.timedelta(days=-1, microseconds=1),
    dt.timedelta(days=400, hours=30, microseconds=5),
    dt.timedelta(microseconds=-1),
    dt.timedelta.max,
    dt.timedelta.min,
    "1 month 2 days",
    5,
]
CLOCKS = [dt.time(0), dt.time(23, 59, 59, 999999), dt.time(12, tzinfo=EAST), "13:00", "25:00"]
DOCUMENTS: list[Any] = [
    None,
    null(),
    JSON.NULL,
    {},
    [],
    "",
    "text",
    0,
    1.5,
    1e400,
    True,
    {"b": [1, {"a": None}], "a": 'ü€\\ "quoted" \u2028'},
    {"nul": "\x00"},
    {"nan": NAN},
    {"not json": {1, 2}},
    10**30,
]


def _multirange(*ranges: Range[int]) -> Any:
    # MultiRange is of SQLAlchemy 2.0.26 and later; before, a list is one.
    return getattr(pg, "MultiRange", list)(ranges)


DAY = dt.date(2024, 1, 31)


def domain(name: str, type_: Any, values: list[Any], elsewhere: list[Any], **options: Any) -> Any:
    """A domain has no processor of its own: its values are the driver's."""
    type_ = pg.DOMAIN(f"{name}_d", type_)
    return case(f"postgresql domain of {name}", type_, values, elsewhere=elsewhere, **options)


CASES = [
    case(
        "smallint",
        SmallInteger,
        [*INTS, *NUMPY, -(2**15), 2**15 - 1, 2**15, 70000, -(2**63) - 1],
        elsewhere=CAST_INTS,
    ),
    case(
        "integer",
        Integer,
        [*INTS, *NUMPY, -(2**31), 2**31 - 1, 2**31, 2**63, 2**70],
        elsewhere=CAST_INTS,
    ),
    case(
        "bigint",
        BigInteger,
        [*INTS, *NUMPY, -(2**63), 2**63 - 1, 2**63, 10**30],
        elsewhere=CAST_INTS,
    ),
    case("bigint column of an integer", Integer, [2**31, 2**40, 2**63], column="bigint"),
    case("smallint column of an integer", Integer, [0, 2**15 - 1, 2**15], column="smallint"),
    case(
        "integer column of a numeric",
        Numeric,
        [1, Decimal("1.5")],
        column="integer",
        never_copy=True,
    ),
    case("boolean", Boolean, [True, False, 1, 0, "true", 2, None, np.bool_(True), np.False_]),
    case(
        "numeric",
        Numeric,
        [
            *(Decimal(v) for v in ("0", "-0", "1.10", "NaN", "Infinity", "-Infinity", "1e-30")),
            Decimal("123456789012345678901234567890.123456789"),
            Decimal("1E+50"),
            Decimal("1E+140000"),
            Decimal("sNaN"),
            *(0.1, 1 / 3, 2.675, 1e22, 1e-7, 123456789.123456789, NAN, INFINITY, -INFINITY),
            *(5, 10**40, "1.5", "x"),
        ],
        elsewhere=[Decimal("sNaN"), "1.5"],
    ),
    case(
        "numeric(6,2)",
        Numeric(6, 2),
        [
            *(Decimal(v) for v in ("1.005", "9999.994", "9999.995", "-1.015", "NaN", "Infinity")),
            *(1.005, 2.675, 0.125, 0.135, 1 / 3, 9999.995, 12345.0, 7, 10000),
        ],
    ),
    case(
        "numeric column of a numeric(6,2)",
        Numeric(6, 2),
        [Decimal("1.005"), Decimal("2.345"), 1.005, 3],
        column="numeric",
        never_copy=True,
    ),
    case(
        "timestamp column of a timestamp(0)",
        pg.TIMESTAMP(precision=0),
        TIMES[1:3],
        column="timestamp",
    ),
    case("time column of a time(0)", pg.TIME(precision=0), CLOCKS[:2], column="time"),
    case(
        "interval column of an interval(0)",
        pg.INTERVAL(precision=0),
        [SPANS[1], SPANS[2]],
        column="interval",
        never_copy=True,
    ),
    case(
        "numeric[] column of a numeric(6,2)[]",
        ARRAY(Numeric(6, 2)),
        [[Decimal("1.005")]],
        column="numeric[]",
        never_copy=True,
    ),
    case("varchar column of a char(3)", CHAR(3), ["a", "abcd"], column="varchar(5)"),
    case("char column of a varchar", String(3), ["a", "abcd"], column="char(5)"),
    case("numeric as float", Numeric(asdecimal=False), [0.1, 2.5, Decimal("1.25"), 3]),
    case(
        "double precision",
        Float,
        [
            *(0.1, 1e308, 5e-324, NAN, INFINITY, -0.0, 3, 2**60 + 1, 10**400, Decimal("0.1"), "x"),
            *(np.float64(0.1), np.float64("nan"), np.float32(0.1), np.int64(3)),
        ],
        elsewhere=[2**60 + 1, Decimal("0.1"), np.float32(0.1), np.int64(3)],
    ),
    case(
        "real",
        REAL,
        [0.1, 1.5, 1e38, 1e39, 1e-40, 1e-46, NAN, INFINITY, 3, 2**24 + 1, Decimal("0.1")],
        elsewhere=[1e-40, 2**24 + 1, Decimal("0.1")],
    ),
    case("double precision column of a real", REAL, [0.1, 1e39], column="double precision"),
    case(
        "text",
        Text,
        [*STRINGS, Text2("sub"), 5, b"bytes", "x" * 100_000],
        elsewhere=[5, b"bytes"],
    ),
    case("varchar(3)", String(3), ["", "abc", "ab   ", "abcd", "ü€😀", "üü€😀"]),
    case("char(3)", CHAR(3), ["", "a", "abc", "ab    ", "abcd", " a"]),
    case("unicode", Unicode(10), STRINGS),
    case("collated", String(collation="C"), ["a", "Z"]),
    case("citext", pg.CITEXT, STRINGS),
    case("text column of a varchar", String(2), ["abc"], column="text"),
    case("name column of a text", Text, ["a", "x" * 63, "x" * 64], column="name", never_copy=True),
    case(
        "bytea", LargeBinary, [b"", b"\x00\xff\\x", bytearray(b"ab"), memoryview(b"cd"), "text", 5]
    ),
    case("pickle", PickleType, [{"a": [1, 2]}, None, "text"]),
    case(
        "date",
        Date,
        [*DAYS, NOON, "2024-01-01", "infinity", "x"],
        elsewhere=[NOON],
    ),
    case("timestamp", DateTime, TIMES, elsewhere=TIMES[8:9]),
    case("timestamptz", DateTime(timezone=True), TIMES, elsewhere=[TIMES[8]]),
    case("timestamp(0)", pg.TIMESTAMP(precision=0), TIMES[:4]),
    case(
        "timestamptz column of a timestamp",
        TIMESTAMP,
        TIMES[:6],
        column="timestamptz",
        never_copy=True,
    ),
    case(
        "timestamp column of a timestamptz",
        TIMESTAMP(timezone=True),
        TIMES[:6],
        column="timestamp",
        never_copy=True,
    ),
    case("time", Time, CLOCKS, elsewhere=[CLOCKS[2]]),
    case("timetz", Time(timezone=True), CLOCKS, elsewhere=CLOCKS[:2]),
    case("interval", Interval, SPANS),
    case("interval day", pg.INTERVAL(fields="DAY TO SECOND", precision=2), SPANS),
    case("interval hour", pg.INTERVAL(fields="HOUR"), SPANS),
    case(
        "interval of other fields",
        pg.INTERVAL(fields="HOUR"),
        SPANS[:2],
        column="interval minute",
        never_copy=True,
    ),
    case("uuid", Uuid, [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), None, "x"]),
    case("uuid as text", Uuid(as_uuid=False), [str(uuid.UUID(int=7)), "A" * 32, "x"]),
    case("postgresql uuid", pg.UUID(as_uuid=True), [uuid.UUID(int=5)]),
    case("enum", Enum(Colour, name="colour"), [Colour.RED, "GREEN", "BLUE", Colour.ODD, 1]),
    case("enum of strings", Enum("a", "b c", "d'", name="letters"), ["a", "b c", "d'", "z"]),
    case(
        "enum by value",
        Enum(Colour, name="colour2", values_callable=lambda e: [str(m.value) for m in e]),
        [Colour.RED, Colour.ODD],
    ),
    case("enum not native", Enum(Colour, native_enum=False), [Colour.RED, "GREEN", "BLUE"]),
    case(
        "enum checked",
        Enum(Colour, native_enum=False, create_constraint=True, name="chk"),
        [Colour.RED],
    ),
    case(
        "enum in the database alone",
        Text,
        ["a", "z"],
        ddl=["CREATE TYPE mood AS ENUM ('a')"],
        column="mood",
        never_copy=True,
    ),
    case("json", JSON, DOCUMENTS, elsewhere=[DOCUMENTS[1]]),
    case("json none as null", JSON(none_as_null=True), DOCUMENTS, elsewhere=[DOCUMENTS[1]]),
    case("jsonb", pg.JSONB, DOCUMENTS, elsewhere=[DOCUMENTS[1]]),
    case("jsonb none as null", pg.JSONB(none_as_null=True), DOCUMENTS, elsewhere=[DOCUMENTS[1]]),
    case("jsonb column of a json", JSON, DOCUMENTS[3:9], column="jsonb"),
    case(
        "integer[]",
        ARRAY(Integer),
        [[], [1, None, 3], [[1, 2], [3, 4]], [[1], [2, 3]], None, [2**31], (1, 2), ["5"], [1.5]],
        elsewhere=[["5"], [1.5]],
    ),
    case("smallint[]", ARRAY(SmallInteger), [[1, 2**15 - 1], [2**15]]),
    case(
        "text[]",
        ARRAY(Text),
        [[], [""], ["a,b", '"q"', "NULL", None, "\\", "{}"], [["a"], ["b"]], [None], ["\x00"]],
    ),
    case("varchar(2)[]", pg.ARRAY(String(2)), [["ab"], ["abc"]], elsewhere=[["abc"]]),
    case(
        "numeric[]",
        ARRAY(Numeric),
        [[Decimal("1.005"), None], [Decimal("NaN")], [1.5], [2]],
        elsewhere=[[1.5]],
    ),
    case(
        "timestamptz[]",
        ARRAY(DateTime(timezone=True)),
        [[TIMES[4], TIMES[5]], [TIMES[1]]],
        elsewhere=[[TIMES[1]]],
    ),
    case("uuid[]", ARRAY(Uuid), [[uuid.UUID(int=5)], []]),
    case("enum[]", pg.ARRAY(Enum(Colour, name="colours")), [[Colour.RED, None], []]),
    case("jsonb[]", ARRAY(pg.JSONB), [[{"a": 1}, None], []]),
    case("citext[]", ARRAY(pg.CITEXT), [["a", None, 'B "q"'], [], [["a"], ["b"]]]),
    case("char(3)[]", ARRAY(CHAR(3)), [["a", "abc", None], []]),
    case("char(3)[] column of a text[]", ARRAY(Text), [["a", None], []], column="char(3)[]"),
    case("inet[]", ARRAY(pg.INET), [["10.0.0.1", None], ["::1/64"], []]),
    case("interval[]", ARRAY(Interval), [SPANS[1:4], []]),
    case("bytea[]", ARRAY(LargeBinary), [[b"", b"a\\\x00"], []]),
    case("boolean[]", ARRAY(Boolean), [[True, None, False]]),
    case("date[]", ARRAY(Date), [DAYS]),
    case("double precision[]", ARRAY(Float), [[0.1, NAN, -INFINITY]]),
    case("json[]", ARRAY(JSON), [[{"b": 1, "a": 2}, [1]]]),
    case(
        "unlike depths",
        ARRAY(Integer),
        [[1, [2]], [[1], None], [[1, 2], [3]], [[]]],
        elsewhere=[[[]]],
    ),
    case(
        "members in text",
        Text,
        [Word.ONE, Label.ONE, Colour.RED],
    ),
    case("members in varchar", String(20), [Word.ONE, Label.ONE, Colour.RED]),
    case("members in integer", Integer, [Level.HIGH, Count(7)]),
    case("json column of a jsonb", pg.JSONB, [{"b": 1, "a": 2}], column="json", never_copy=True),
    case("cidr column of an inet", pg.INET, ["10.0.0.0/8"], column="cidr", never_copy=True),
    case("interval column of a time", Time, CLOCKS[:2], column="interval", never_copy=True),
    case("numeric oddities", Numeric, [Decimal("-NaN")]),
    case(
        "numrange of unlike bounds",
        pg.NUMRANGE,
        [Range(1, Decimal("2.5"))],
    ),
    case(
        "scoped address",
        pg.INET,
        [ipaddress.ip_address("fe80::1%eth0")],
        elsewhere=[ipaddress.ip_address("fe80::1%eth0")],
    ),
    case(
        "offset of microseconds",
        DateTime(timezone=True),
        [NOON.replace(tzinfo=dt.timezone(dt.timedelta(microseconds=5)))],
        elsewhere=[NOON.replace(tzinfo=dt.timezone(dt.timedelta(microseconds=5)))],
    ),
    case("time zone without an offset", DateTime(timezone=True), [NOON.replace(tzinfo=Nowhere())]),
    case("tuples", ARRAY(Integer, as_tuple=True), [(1, 2), [3]]),
    case(
        "int4range",
        pg.INT4RANGE,
        [
            Range(1, 5),
            Range(1, 5, bounds="[]"),
            Range(None, 5),
            Range(empty=True),
            Range(),
            Range(5, 1),
            Range(1, 2**31),
            "[1,3)",
        ],
    ),
    case("int8range", pg.INT8RANGE, [Range(2**40, 2**41), Range(1, None)]),
    case(
        "numrange",
        pg.NUMRANGE,
        [Range(Decimal("1.1"), Decimal("2.20"), bounds="(]"), Range(1, 2), Range(0.1, 0.5)],
        elsewhere=[Range(0.1, 0.5)],
    ),
    case(
        "daterange",
        pg.DATERANGE,
        [
            Range(dt.date(2024, 1, 1), dt.date(2024, 1, 5), bounds="[]"),
            Range(dt.date.min, dt.date.max),
        ],
    ),
    case("tsrange", pg.TSRANGE, [Range(TIMES[1], TIMES[2]), Range(TIMES[4], None)]),
    case(
        "tstzrange", pg.TSTZRANGE, [Range(TIMES[4], TIMES[5], bounds="[]"), Range(TIMES[1], None)]
    ),
    case(
        "int4multirange",
        pg.INT4MULTIRANGE,
        [[], [Range(1, 3), Range(2, 7)], _multirange(Range(5, 6)), None],
    ),
    case("datemultirange", pg.DATEMULTIRANGE, [[Range(dt.date(2024, 1, 1), dt.date(2024, 1, 5))]]),
    case(
        "hstore",
        pg.HSTORE,
        [
            *({}, {"a": "1", "b": None}, {'"': "=>", "ü": "\\"}, {"a": 1}, None, "a=>1"),
            MutableDict({"a": "1", "b": None}),
        ],
    ),
    case(
        "inet",
        pg.INET,
        [
            *("10.0.0.1", "10.0.0.1/8", "::1", "::ffff:1.2.3.4/128", "x", ""),
            ipaddress.ip_address("10.0.0.1"),
            ipaddress.ip_address("::1"),
            ipaddress.ip_interface("10.0.0.1/8"),
            ipaddress.ip_interface("::1/64"),
            ipaddress.ip_network("10.0.0.0/8"),
        ],
        elsewhere=[ipaddress.ip_network("10.0.0.0/8")],
    ),
    case(
        "cidr",
        pg.CIDR,
        [
            "10.0.0.0/8",
            "10.0.0.1/8",
            ipaddress.ip_network("10.0.0.0/8"),
            ipaddress.ip_address("10.0.0.1"),
        ],
        elsewhere=[ipaddress.ip_address("10.0.0.1")],
    ),
    case("macaddr", pg.MACADDR, ["08:00:2b:01:02:03", "08002b010203", "x"]),
    case("bit", pg.BIT(), ["1", "0", "101", ""], elsewhere=["101", ""]),
    case("bit(3)", pg.BIT(3), ["101", "1", "1011", "x5", None], elsewhere=["1", "1011", "x5"]),
    case("bit varying", pg.BIT(varying=True), ["", "101"]),
    case("bit varying(3)", pg.BIT(3, varying=True), ["", "101", "1010"], elsewhere=["1010"]),
    case("bit(5) column of a bit(3)", pg.BIT(3), ["101"], column="bit(5)", never_copy=True),
    case("money", pg.MONEY, ["12.34", "$5.00", "x"]),
    case("tsvector", pg.TSVECTOR, ["a fat cat", ""]),
    case("oid", pg.OID, [0, 5, 2**32 - 1, 2**32], never_copy=True),
    case("type decorator", Lower, ["ABC", None, "Ü", 5]),
    case("type decorator on an integer", Cents, [Decimal("1.23"), Decimal(10**9), None]),
    case("type decorator that writes for None", NeverNull, ["a", None, ""]),
    case("type decorator that dumps json", JsonText, [{"a": 1}, None, [1], {1}]),
    case("bind_expression", Scribbled, ["abc", "", None], never_copy=True),
    case("with_variant", String().with_variant(pg.CITEXT(), "postgresql"), ["a", "B"]),
    case(
        "domain",
        Integer,
        [1, 0, None, 2**31],
        ddl=["CREATE DOMAIN positive AS integer CHECK (value > 0)"],
        column="positive",
    ),
    case(
        "postgresql domain",
        pg.DOMAIN("small_text", String(3), check="value <> 'no'"),
        ["abc", "no", "abcd", "ab   ", None, Text2("abc"), 5],
        elsewhere=["ab   ", Text2("abc"), 5],
    ),
    domain(
        "integer",
        Integer(),
        [1, -5, None, 2**31, "3", True, 1.0, 1.5, Decimal(2)],
        ["3", 1.0, 1.5, Decimal(2)],
    ),
    domain("bigint", BigInteger(), [1, 2**62, None], []),
    domain(
        "numeric",
        Numeric(6, 2),
        [Decimal("1.255"), 2, 0.125, Decimal("NaN"), Decimal(10**9)],
        [0.125],
    ),
    domain("double", pg.DOUBLE_PRECISION(), [0.1, 5, float("nan"), "0.5"], [5]),
    domain("boolean", Boolean(), [True, False, None, 1], []),
    domain("date", Date(), [DAY, NOON, DAYS[0]], [NOON]),
    domain("timestamp", DateTime(), [NOON, NOON.replace(tzinfo=dt.UTC), DAY], [DAY]),
    domain("timestamptz", DateTime(timezone=True), [NOON, NOON.replace(tzinfo=dt.UTC)], []),
    domain("varchar", String(5), ["abcde", "abcdef", "a\t\\b", "ab     "], ["ab     "]),
    domain("char", CHAR(3), ["a", "abc", "abcd", "ab   "], ["ab   "]),
    domain("text", Text(), ["", "a\0b", "x" * 50], []),
    domain("citext", pg.CITEXT(), ["a"], [], never_copy=True),
    domain("jsonb", pg.JSONB(), ['{"a": 1}', {"a": 1}], [], never_copy=True),
    domain("bits", pg.BIT(3), ["101", "1011"], [], never_copy=True),
    domain("array", ARRAY(Integer), [[1, 2], []], [], never_copy=True),
    case(
        "another domain of the database",
        pg.DOMAIN("word_d", Text),
        ["a"],
        ddl=["CREATE DOMAIN words AS text"],
        column="words",
        never_copy=True,
    ),
    case(
        "domain over a domain",
        Integer,
        [1, -1],
        ddl=["CREATE DOMAIN base_d AS integer", "CREATE DOMAIN top_d AS base_d CHECK (value > 0)"],
        column="top_d",
        never_copy=True,
    ),
]


@pytest.mark.parametrize("item", CASES)
def test_every_value_as_stock_writes_it(twins: Twins, item: Case) -> None:
    """The value in the database, the attribute, or the error is that of stock SQLAlchemy."""
    stock, ours = Side(twins.stock, item, None), Side(twins.ours, item, {"copy_min_rows": 1})
    found, taken, elsewhere = [], [], []
    with stock.session, ours.session:
        for value in item.values:
            expected, _ = stock.flush([value])
            actual, writers = ours.flush([value])
            found += differences(repr(value), actual, expected)
            if isinstance(expected, list):
                taken.append(value)
                if writers != {"copy"}:
                    elsewhere.append(value)
        # Of one type: in a mixture stock's INSERT has values cast to their common type.
        for type_ in dict.fromkeys(map(type, taken)):
            together = [value for value in taken if type(value) is type_]
            expected, _ = stock.flush(together)
            actual, _ = ours.flush(together)
            found += differences(f"{type_.__name__} together", actual, expected)
    found += differences_as_text(twins, item, taken)
    assert not found, "\n".join(found)
    # Older lines of SQLAlchemy refuse some by themselves.
    expected = [value for value in item.elsewhere if repr(value) in set(map(repr, taken))]
    assert repr(elsewhere) == repr(taken if item.never_copy else expected)


@pytest.mark.parametrize("item", CASES)
@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
def test_every_value_as_stock_writes_it_on(twins: Twins, driver: str, item: Case) -> None:
    """On every driver COPY leaves what stock leaves on the same driver."""
    found = differences_on(twins, driver, item)
    assert not found, "\n".join(found)


def test_naive_times_are_of_the_connections_time_zone(twins: Twins) -> None:
    """A column with time zone takes naive values as stock does, at the clock's changes too."""
    options = {"options": "-c timezone=America/New_York"}
    engines = [
        create_engine(engine.url, connect_args=options) for engine in (twins.stock, twins.ours)
    ]
    changes = [
        dt.datetime(2024, month, day, hour, 30)  # noqa: DTZ001  # naive on purpose
        for month, day in ((3, 10), (11, 3))
        for hour in range(4)
    ]
    item = Case("naive", DateTime(timezone=True), changes)
    stock, ours = Side(engines[0], item, None), Side(engines[1], item, {"copy_min_rows": 1})
    with stock.session, ours.session:
        expected, _ = stock.flush(changes)
        actual, writers = ours.flush(changes)
    for engine in engines:
        engine.dispose()
    assert not differences("changes", actual, expected)
    assert expected[2][0] == "2024-03-10 00:30:00-05"
    assert writers == {"copy"}
