"""Columns of packages that people use: what is stored is what plain SQLAlchemy stores, on each
driver, and a row takes one id.
"""

from __future__ import annotations

import datetime as dt
import enum
import importlib
import uuid
import warnings
from decimal import Decimal
from typing import Any

import pytest
from fixtures.twins import Twins
from fixtures.type_cases import Case, Side, case, differences_on
from fixtures.zoo import ids_taken, need_extension
from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    Uuid,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.types import UserDefinedType

UTC = dt.UTC


class Named(UserDefinedType[str]):
    """A type of the database whose values are text, as applications write it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


def have(*names: str) -> list[Any] | None:
    """The modules of these names; ``None`` where one is not installed."""
    with warnings.catch_warnings():
        # What a package says of itself as it is imported is its authors'.
        warnings.simplefilter("ignore")
        try:
            return [importlib.import_module(name) for name in names]
        except ImportError:
            return None


CASES = [
    case("point of an application's type", Named("point"), ["(1,2)", "3, 4"]),
    case("box of an application's type", Named("box"), ["(1,2),(3,4)"]),
    case("line", Named("line"), ["{1,2,3}"]),
    case("lseg", Named("lseg"), ["[(1,2),(3,4)]"]),
    case("path", Named("path"), ["[(1,2),(3,4)]", "((1,2),(3,4))"]),
    case("polygon", Named("polygon"), ["((1,2),(3,4),(5,6))"]),
    case("circle", Named("circle"), ["<(1,2),3>"]),
    case("pg_lsn", Named("pg_lsn"), ["16/B374D848"]),
    case("xid8", Named("xid8"), ["42"]),
    case("xml", Named("xml"), ["<a>b</a>"]),
    case("jsonpath", Named("jsonpath"), ["$.a"]),
    case("macaddr8", pg.MACADDR8, ["08:00:2b:01:02:03:04:05"]),
    case("tsquery", pg.TSQUERY, ["'a' & 'b'"]),
    case("tsvector", pg.TSVECTOR, ["a fat cat", "'x':1A"]),
    case("ltree", Named("ltree"), ["a.b.c", ""]),
    case("cube", Named("cube"), ["(1,2)"]),
    case("seg", Named("seg"), ["1 .. 2"]),
    case("isbn", Named("isbn"), ["978-0-393-04002-9"]),
    case("citext", pg.CITEXT, ["a", "B\t\\"]),
    case("hstore", pg.HSTORE, [{"a": "1", "b": None}, {}]),
    case("money", pg.MONEY, ["12.34"]),
    case("int enum", Integer, [Level.LOW, Level.HIGH]),
    case("float over an integer", Integer, [1.0, 2.0]),
    case("int over a float", Float, [1, 2]),
    case("bool over an integer", Integer, [True, False]),
]

if found := have("numpy"):
    [np] = found
    CASES += [
        case("numpy int64", BigInteger, [np.int64(5), np.int64(-(2**63))]),
        case("numpy int64 over a smallint", SmallInteger, [np.int64(5), np.int64(2**40)]),
        case("numpy int32", Integer, [np.int32(5)]),
        case("numpy uint8", Integer, [np.uint8(5)]),
        case("numpy float64", Float, [np.float64(0.1), np.float64("nan"), np.float64(-0.0)]),
        case("numpy float32", Float, [np.float32(0.1)]),
        case("numpy float64 over a real", REAL, [np.float64(0.1)]),
        case("numpy float64 over a numeric", Numeric(10, 2), [np.float64(0.125)]),
        case("numpy bool", Boolean, [np.bool_(True)]),
        case("numpy str", Text, [np.str_("a")]),
        case("numpy bytes", LargeBinary, [np.bytes_(b"a")]),
        case("numpy datetime64", DateTime, [np.datetime64("2024-01-01")]),
    ]

if found := have("pandas"):
    [pd] = found
    CASES += [
        case("pandas timestamp", DateTime, [pd.Timestamp("2024-01-01 12:00:00.123456789")]),
        case("pandas timedelta", pg.INTERVAL, [pd.Timedelta(days=1, nanoseconds=5)]),
    ]

if found := have("pendulum"):
    [pendulum] = found
    MOMENTS = [
        pendulum.datetime(2024, 3, 31, 2, 30, tz="Europe/Paris"),
        pendulum.datetime(2024, 10, 27, 2, 30, tz="Europe/Paris"),
        pendulum.datetime(1, 1, 1),
        pendulum.datetime(2024, 1, 1, tz="UTC"),
    ]
    CASES += [
        case("pendulum aware", DateTime(timezone=True), MOMENTS),
        case("pendulum naive", DateTime, [pendulum.naive(2024, 1, 1, 12), *MOMENTS]),
        case("pendulum date", Date, [pendulum.date(2024, 1, 1), MOMENTS[0]]),
        case("pendulum time", Time, [pendulum.time(12, 30)]),
        case("pendulum duration", pg.INTERVAL, [pendulum.duration(months=1, days=2, hours=-3)]),
        case(
            "pendulum with python", DateTime(timezone=True), [dt.datetime(2024, 1, 1, tzinfo=UTC)]
        ),
    ]

if found := have("sqlalchemy_utils"):
    [utils] = found
    CASES += [
        case("utils choice", utils.ChoiceType([("a", "A"), ("b", "B")]), ["a", "b", "z"]),
        case("utils choice of an enum", utils.ChoiceType(Level, impl=Integer()), [Level.LOW]),
        case("utils uuid", utils.UUIDType(), [uuid.UUID(int=5)]),
        case("utils url", utils.URLType, ["https://example.org/"]),
        case("utils email", utils.EmailType, ["A@b.example"]),
        case("utils json", utils.JSONType, [{"a": [1]}]),
        case("utils scalar list", utils.ScalarListType(int), [[1, 2], []]),
        case("utils ip address", utils.IPAddressType, ["127.0.0.1"]),
        case("utils ltree", utils.LtreeType, [utils.Ltree("a.b")]),
        case("utils ts vector", utils.TSVectorType, ["a b"]),
        case("utils timezone", utils.TimezoneType(backend="zoneinfo"), ["Europe/Paris"]),
    ]

if found := have("sqlalchemy_json"):
    [nested] = found
    CASES += [
        case("nested json", nested.NestedMutableJson, [{"a": {"b": [1]}}, None]),
        case("mutable json", nested.MutableJson, [{"a": 1}]),
    ]

if found := have("advanced_alchemy.types"):
    [alchemy] = found
    CASES += [
        case("alchemy guid", alchemy.GUID, [uuid.UUID(int=5)]),
        case("alchemy datetime", alchemy.DateTimeUTC, [dt.datetime(2024, 1, 1, tzinfo=UTC)]),
        case("alchemy bigint", alchemy.BigIntIdentity, [5]),
    ]

if found := have("sqlmodel"):
    [model] = found
    CASES += [
        case("sqlmodel text", model.AutoString(), ["a"]),
        case("uuid", Uuid(), [uuid.UUID(int=5)]),
    ]

CASES += [
    case("decimal", Numeric(12, 4), [Decimal("1.23456"), Decimal(3)]),
    case("varchar", String(3), ["abc", "abcd"]),
]

ENCODED_BY_ASYNCPG = frozenset(
    {
        *("point of an application's type", "box of an application's type", "line", "lseg"),
        *("path", "polygon", "circle", "pg_lsn", "xid8"),
    }
)
"""Of these plain SQLAlchemy saves several objects at once, but fails with one: asyncpg encodes the
parameter of an INSERT of one row by itself, and takes no text for it. COPY writes one, too.
"""

EXTENSIONS = {
    "ltree": "ltree",
    "utils ltree": "ltree",
    "cube": "cube",
    "seg": "seg",
    "isbn": "isn",
}


# Packages of others, and what their types say of themselves.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("item", CASES)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_column_is_what_plain_sqlalchemy_stores(
    twins: Twins, twin_urls: tuple[str, str], driver: str, item: Case
) -> None:
    """Rows, attributes and errors of a column of another package are those of plain SQLAlchemy."""
    if item.name in EXTENSIONS:
        need_extension(twin_urls, EXTENSIONS[item.name])
    alone = driver != "asyncpg" or item.name not in ENCODED_BY_ASYNCPG
    found = differences_on(twins, driver, item, alone=alone)
    assert not found, "\n".join(found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("item", CASES)
@pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)
def test_a_row_takes_one_id(twins: Twins, twin_urls: tuple[str, str], item: Case) -> None:
    """No id is reserved for a row that the database numbers again, whoever writes it."""
    if item.name in EXTENSIONS:
        need_extension(twin_urls, EXTENSIONS[item.name])
    stock, ours = Side(twins.stock, item, None), Side(twins.ours, item, {"copy_min_rows": 2})
    values = [value for value in item.values if type(value) is type(item.values[0])] * 40
    with stock.session, ours.session:
        expected, _ = stock.flush(values)
        before = ids_taken(twins.ours)
        actual, writers = ours.flush(values)
        if isinstance(expected, list) and isinstance(actual, list):
            taken = ids_taken(twins.ours) - before
            assert taken == len(values), writers
