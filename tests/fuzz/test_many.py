"""Random values of every type in statements for many rows: rows, counts, errors and warnings are
those of plain SQLAlchemy, which executes row by row.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import pytest
from fixtures.seeds import seed
from fuzz.harness import Case
from fuzz.kinds import KINDS
from fuzz.many import MANY_DRIVERS, WAYS, ManyHarness
from fuzz.test_values import SECONDS
from fuzz.values import MICRO
from fuzz.values import SECONDS as WHOLE_SECONDS
from sqlalchemy.dialects.postgresql import Range

SHORT: Final = 20.0

FOUND: Final = (
    # psycopg2 writes a whole number as a literal, which is an integer if it fits.
    ("oid", "oid", [-(2**31), -1]),
    # asyncpg closes a connection if it cannot encode a statement.
    ("varchar(3)", "name", ["Meh", "\ud800"]),
    ("integer[]", "integer[]", [None, None]),
    ("numeric(6,2)", "numeric", [None, None]),
    # asyncpg takes no text for a value of these types, even if the server would accept it.
    ("integer", "smallint", ["1", "2"]),
    ("timestamptz", "timestamp", ["2024-01-01 10:00", "2024-01-01 10:00+05"]),
    ("interval", "interval", ["1 day", "2 days"]),
    ("int4range", "int4range", ["[1,2)", "[3,4)"]),
    ("bytea", "bytea", ["a", "b"]),
    ("collated", "text", ["a", "b"]),
    # The objects in which drivers wrap bytes are equal only to themselves.
    ("bytea", "bytea", [b"", b""]),
    # The wrapped value need not be bytes.
    ("bytea", "text", [2.5, 2.5]),
    # Items that the server can read, and that have no binary form.
    ("timestamp[]", "timestamp(0)[]", [[], ["infinity"]]),
    # psycopg2 puts the quotes of a number inside the quotes of the range.
    ("numrange", "numrange", [Range(Decimal("NaN"), None), Range(Decimal(-1), Decimal(2))]),
    # An offset that text cannot express.
    (
        "timestamp",
        "timestamp",
        [dt.datetime(2024, 3, 10, tzinfo=zone) for zone in (WHOLE_SECONDS, MICRO)],
    ),
)


def look(urls: tuple[str, str], seconds: float, seed: int, **settings: Any) -> None:
    with ManyHarness(urls, seed, MANY_DRIVERS).ready() as harness:
        report = harness.run(seconds, **settings)
    print(report)
    assert report.cases
    assert not report.differences, str(report)


def test_a_short_look(twin_urls: tuple[str, str]) -> None:
    """Values of each type in a column of that type are changed, found and deleted as by plain
    SQLAlchemy.
    """
    look(twin_urls, SHORT, seed(), moods=["good", "mixed"], drifted=False)


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 300)
def test_a_long_look(twin_urls: tuple[str, str]) -> None:
    """All pairs of types and columns, with nasty values too, are changed, found and deleted as by
    plain SQLAlchemy, until the time is up.
    """
    look(twin_urls, SECONDS, seed(anew=True), rounds=1000)


@pytest.fixture(scope="module")
def harness(twin_urls: tuple[str, str]) -> Iterator[ManyHarness]:
    with ManyHarness(twin_urls, 0, MANY_DRIVERS).ready() as found:
        yield found


@pytest.mark.parametrize(
    ("name", "column", "values"), FOUND, ids=[f"{name} over {column}" for name, column, _ in FOUND]
)
def test_what_was_found_is_right(
    harness: ManyHarness, name: str, column: str, values: Sequence[Any]
) -> None:
    """Each batch that once made a difference makes none on any driver, and the connection that
    refused it can be used.
    """
    [kind] = [kind for kind in KINDS if kind.name == name]
    for driver, way, zone in itertools.product(MANY_DRIVERS, WAYS, ("America/New_York", "UTC")):
        case = Case(kind, column, values, zone, False, driver, way)
        difference = harness.compare(case)
        assert difference is None, str(difference)
