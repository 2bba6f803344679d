"""Every difference that fuzzing found, as a batch that each run tests.

A class of differences is one line of :data:`FOUND`: the name of the type in ``fuzz.kinds``, the
column, the values. Each is written on every driver and by every writer, also where it was right.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import pytest
from fixtures.sides import DRIVERS
from fuzz import values as v
from fuzz.harness import WAYS, Case, Harness
from fuzz.kinds import KINDS
from sqlalchemy import null

INFINITY: Final = float("inf")
WEST: Final = dt.timezone(dt.timedelta(days=-1, seconds=74575))
MOMENT: Final = dt.datetime(1883, 5, 21, 5, 30, 42, 999_999)  # noqa: DTZ001  # naive
AWARE: Final = dt.datetime(2024, 3, 11, 2, 30, 32, 500_000, WEST)

FOUND: Final = (
    # The type to which all values of a column are cast if several rows come from one VALUES.
    ("numeric as float", "numeric", [INFINITY, 1 / 3]),
    ("float", "numeric", [0.4570710051011011, 0.1]),
    ("double", "numeric", [0.0, 0.0]),
    ("real", "numeric", [0.1, -0.0]),
    ("numeric", "numeric", [Decimal(10**17 + 1), 0.1]),
    ("numeric", "numeric", [10**17 + 1, 2.5]),
    ("citext", "citext", ["abcd", 5]),
    ("citext", "name", ["\t{", b"bytes"]),
    ("interval", "interval day", [dt.time(1), dt.timedelta(0)]),
    ("interval", "text", [5, dt.timedelta(days=-336, microseconds=1)]),
    ("varchar(3)", "text", [5, "text"]),
    ("varchar(3)", "citext", [b"bytes", v.Rank.HIGH]),
    ("string", "word", [v.Rank.LOW, "Ds"]),
    ("collated", "text", [5, v.Mood.SAD]),
    ("collated", "name", [v.Shade.RED, v.Rank.LOW]),
    ("smallint", "text", [False, v.Rank.HIGH]),
    ("inet", "inet", [IPv4Address("10.0.0.1"), "10.0.0.2"]),
    ("cidr", "inet", [IPv6Address("::ffff:1.2.3.4"), "10.67.0.0/16"]),
    # The type of the model, to which an INSERT with known keys does not cast.
    ("smallint", "integer", [2**31 - 1, 1]),
    ("smallint", "text", [32768, 1]),
    ("bigint", "text", ["x", -32769]),
    ("smallint", "text", [None, "text"]),
    ("date", "text", ["x", dt.date(2024, 3, 10)]),
    ("date", "timestamp(0)", [MOMENT.replace(tzinfo=v.Nowhere()), v.DAY.replace(fold=1)]),
    ("timestamp", "text", [AWARE, AWARE]),
    ("timestamptz", "time", [dt.time(2, 30), AWARE]),
    ("timestamp(0)", "timestamptz", [MOMENT, MOMENT]),
    ("time(0)", "interval", [dt.time(10, 30, 57, 500_000), dt.time(8)]),
    ("numeric(6,2)", "real", [Decimal("-0.4755"), Decimal("-90.35")]),
    ("numeric as float", "real", [-0.0, 1.5]),
    ("hstore", "text", [{"dn": None, "": "dxPu"}, {"aB": '"', "TS": None}]),
    ("macaddr", "text", ["x", "x"]),
    # Arrays of a type for which the driver has no binary format.
    ("macaddr[]", "macaddr[]", [["08:00:2b:01:02:03"], []]),
    # Trailing blanks, which a char ignores and an array of other strings would keep.
    ("char(3)[]", "varchar(3)[]", [["aqe", " ", ""], ["a", "b ", ""]]),
    # An enum with another name.
    ("enum", "mood", [v.Shade.RED, v.Shade.RED]),
    ("enum, not native", "mood", [v.Shade.RED, v.Shade.RED]),
    ("enum, not native[]", "mood[]", [[v.Shade.RED, v.Shade.RED]]),
    # Rows that the database numbers, of several kinds.
    ("timestamp, aware", "timestamp", [AWARE, null(), AWARE.replace(tzinfo=v.Nowhere()), AWARE]),
)

KEPT: Final = (
    ("varchar(3)", "varchar(3)", [v.Shade.RED, v.Shade.RED]),
    ("string", "text", [v.Shade.RED, v.Mood.GLAD, "text"]),
    ("text", "text", [v.Mood.SAD, v.Word("word")]),
    ("unicode", "varchar(10)", ["a", "b"]),
    ("string", "varchar(3)", ["a", "b"]),
    ("timestamp", "timestamp", [AWARE, AWARE.astimezone(dt.UTC)]),
    ("integer", "integer", ["5", "-6"]),
    ("integer", "bigint", [1, 2]),
    ("bigint", "integer", [1, 2]),
    ("numeric", "numeric", [Decimal("1.5"), 0]),
    ("numeric(6,2)", "numeric(6,2)", [Decimal("1.505"), 0]),
    ("numeric as float", "numeric", [2.5, 1 / 3]),
    ("float", "double precision", [2.5, 1 / 3]),
    ("real", "real", [2.5, 0.25]),
    ("json", "jsonb", [{"a": 1}, [2], "text"]),
    ("jsonb", "jsonb", [{"a": 1}, [2], "text"]),
    ("enum", "shade", [v.Shade.RED, v.Shade.BLUE]),
    ("enum, not native", "text", [v.Shade.RED, v.Shade.BLUE]),
    ("bytea", "bytea", [b"a", bytearray(b"b")]),
    ("interval", "interval", [dt.timedelta(1), dt.timedelta(2)]),
)
"""Batches that are typical of applications, and that COPY writes as INSERT does in a session in
UTC.
"""


@pytest.fixture(scope="module")
def harness(twin_urls: tuple[str, str]) -> Iterator[Harness]:
    with Harness(twin_urls, seed=0).ready() as found:
        yield found


@pytest.mark.parametrize(
    ("name", "column", "values"), FOUND, ids=[f"{name} over {column}" for name, column, _ in FOUND]
)
def test_what_was_found_is_right(
    harness: Harness, name: str, column: str, values: Sequence[Any]
) -> None:
    """Rows, attributes and errors of each batch that once differed are plain SQLAlchemy's."""
    [kind] = [kind for kind in KINDS if kind.name == name]
    for driver in DRIVERS:
        for way in WAYS:
            case = Case(kind, column, values, "America/New_York", False, driver, way)
            difference = harness.compare(case)
            assert difference is None, str(difference)


@pytest.mark.parametrize(
    ("name", "column", "values"), KEPT, ids=[f"{name} over {column}" for name, column, _ in KEPT]
)
def test_what_applications_do_goes_by_copy(
    harness: Harness, name: str, column: str, values: Sequence[Any]
) -> None:
    """Batches that are typical of applications go by COPY on every driver, with plain SQLAlchemy's
    rows and attributes.
    """
    [kind] = [kind for kind in KINDS if kind.name == name]
    [way] = [way for way in WAYS if way.name == "copy"]
    for driver in DRIVERS:
        case = Case(kind, column, values, "UTC", False, driver, way)
        difference = harness.compare(case)
        assert difference is None, str(difference)
        # asyncpg takes no text for a number, and no time with a zone for a type without one.
        written = set() if harness.is_refused(case) else {"copy"}
        assert harness.writers(case) == written, str(case)
