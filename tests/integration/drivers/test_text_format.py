"""COPY's text format compared with psycopg2's literals, and the pieces in which it is sent."""

from __future__ import annotations

import datetime as dt
import json
import random
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg2
import pytest
from fixtures.run_names import of_this_run
from psycopg2 import extensions, extras
from sqlalchemy import Engine, create_engine, make_url

from sqla_seqreserve._drivers import CopyRows, driver_of
from sqla_seqreserve._drivers.text_format import FORMATS, text_blocks
from sqla_seqreserve.embedded import EmbeddedServer

naive = dt.datetime.fromisoformat
UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
AWKWARD = [
    "",
    " ",
    "\\",
    "\\N",
    "\\.",
    "a\tb\nc\rd\b\f\v",
    "NULL",
    "null",
    '"quoted"',
    "{,}",
    "it's 100% é ☃ \U0001f600",
    "\\x41",
    "end\\",
]

VALUES = [
    ("boolean", [True, False]),
    ("smallint", [0, -1, 32767]),
    ("bigint", [2**63 - 1, -(2**63)]),
    ("numeric", [Decimal("1.10"), Decimal("-0"), Decimal("1E+5"), Decimal("1E-7"), 12, 0.1]),
    ("numeric", [Decimal("NaN"), Decimal("Infinity"), float("nan")]),
    ("numeric(6,2)", [Decimal("1.005"), 2, 2.675]),
    ("double precision", [0.1, -0.0, 1e300, 5e-324, 3, Decimal("0.1"), float("nan")]),
    ("double precision", [float("inf"), float("-inf")]),
    ("real", [0.1, 3.4e38]),
    ("text", AWKWARD),
    ("varchar(40)", AWKWARD),
    ("char(20)", AWKWARD),
    ("bytea", [extensions.Binary(b"\x00\x01\\\t\n"), extensions.Binary(memoryview(b"abc"))]),
    ("bytea", [b"", bytearray(b"\xff\x00"), memoryview(b"xyz")]),
    ("date", [dt.date(2024, 2, 29), dt.date.min, dt.date.max]),
    ("time", [dt.time(1, 2, 3), dt.time(23, 59, 59, 999999)]),
    ("timetz", [dt.time(1, 2, 3, 4, tzinfo=EAST)]),
    ("timestamp", [naive("2024-01-02T03:04:05.000006"), naive("9999-12-31T23:59:59.999999")]),
    ("timestamptz", [dt.datetime(2024, 1, 2, tzinfo=EAST), dt.datetime(1, 1, 2, tzinfo=UTC)]),
    ("timestamptz", [naive("2024-07-01T12:00")]),
    ("interval", [dt.timedelta(0), dt.timedelta(microseconds=-1), dt.timedelta.max]),
    ("uuid", [uuid.UUID(int=2**127 + 1)]),
    ("json", [json.dumps({"a": "\\ \t é", "b": [1, None]}), extras.Json({"x": "\n\\"})]),
    ("jsonb", [json.dumps("\\u00e9"), "null"]),
    ("text[]", [[], AWKWARD, [None, "NULL"], [["a", None], ["{b}", '"']]]),
    ("integer[]", [[1, -2, None], [[1], [2]]]),
    ("numeric[]", [[Decimal("1.5"), None]]),
    ("double precision[]", [[0.5, None, -1.0]]),
    ("boolean[]", [[True, False]]),
    ("date[]", [[dt.date(2024, 1, 1), None]]),
    ("timestamp[]", [[naive("2024-01-01T01:00")]]),
    ("interval[]", [[dt.timedelta(days=-1, seconds=5)]]),
    ("uuid[]", [[uuid.UUID(int=5)]]),
    ("bytea[]", [[extensions.Binary(b'\\\x00"')]]),
    ("int4range", [extras.NumericRange(1, 5), extras.NumericRange(None, 5, "(]")]),
    ("int4range", [extras.NumericRange(empty=True), extras.NumericRange(3, 3, "[]")]),
    ("numrange", [extras.NumericRange(Decimal("-1.5"), None, "[)")]),
    ("daterange", [extras.DateRange(dt.date(2024, 1, 1), dt.date(2024, 2, 1), "[]")]),
    ("tsrange", [extras.DateTimeRange(naive("2024-01-01"), None)]),
    ("tstzrange", [extras.DateTimeTZRange(dt.datetime(2024, 1, 1, tzinfo=EAST), None, "()")]),
    ("hstore", [{}, {"a": None, 'b"\\': "c=>d\t", "": "é'"}]),
]


@pytest.fixture(scope="module")
def database(postgres_server: EmbeddedServer) -> Iterator[str]:
    url = postgres_server.create_database(of_this_run("text_format"))
    yield make_url(url).set(drivername="postgresql+psycopg2").render_as_string(False)
    postgres_server.drop_database(of_this_run("text_format"))


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """An engine on psycopg2; its connections know hstore and UUIDs as SQLAlchemy has them."""
    first = create_engine(database)
    with first.begin() as connection:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS hstore")
    first.dispose()
    engine = create_engine(database)
    yield engine
    engine.dispose()


def copy(cursor: Any, statement: str, rows: CopyRows) -> int:
    driver = driver_of(create_engine("postgresql+psycopg2://").dialect)
    assert driver is not None
    return driver.copy(cursor, statement, rows)


@pytest.mark.parametrize(
    ("type_", "values"), [pytest.param(*case, id=f"{n} {case[0]}") for n, case in enumerate(VALUES)]
)
def test_the_text_is_read_as_the_literal_is(engine: Engine, type_: str, values: list[Any]) -> None:
    """COPY's text stores the same row as psycopg2's literal in an INSERT, NULL included."""
    with engine.connect() as connection:
        cursor: Any = connection.connection.cursor()
        cursor.execute("SET TimeZone = 'Europe/Berlin'; SET extra_float_digits = 3")
        cursor.execute(f"CREATE TEMP TABLE item (n int, written {type_}, copied {type_})")
        for n, value in enumerate([None, *values]):
            cursor.execute("INSERT INTO item VALUES (%s, %s)", (n, value))
        rows = CopyRows(
            ["n", "copied"], [range(len(values) + 1), [None, *values]], [23, 0], binary=False
        )
        assert copy(cursor, "COPY item (n, copied) FROM STDIN", rows) == len(values) + 1
        # Each value alone in its column, too: a column of one type takes another way.
        for n, value in enumerate(values, 1):
            alone = CopyRows(["n", "copied"], [[n], [value]], [23, 0], binary=False)
            copy(cursor, "COPY item (n, copied) FROM STDIN", alone)
        cursor.execute(
            "SELECT n, array_agg(DISTINCT coalesce(written::text, copied::text)) FROM item"
            " GROUP BY n ORDER BY n"
        )
        found = cursor.fetchall()
    assert found[0] == (0, [None])
    assert {n: texts for n, texts in found[1:] if len(texts) != 1} == {}
    assert len(found) == len(values) + 1


def test_rows_travel_in_pieces_of_bounded_size() -> None:
    """A large COPY is never in memory as a whole, however long its rows are."""
    rows = CopyRows(["a"], [["x" * 100_000] * 500], [25], binary=False)
    seen: list[int] = []
    rows.progress = seen.append
    sizes = [len(block) for block in text_blocks(rows, FORMATS, "utf-8")]
    assert sum(sizes) == 500 * 100_001
    assert max(sizes[1:]) < 300_000
    assert sum(seen) == 500


def test_any_string_comes_back(engine: Engine) -> None:
    """Random strings of every awkward character survive COPY, in a column and in an array."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    letters = "\\\t\n\r\b\v\f\"'{},;NULx \x01\x7fé€☃\U0001f600\u2028"
    values = ["".join(chance.choices(letters, k=chance.randrange(12))) for _ in range(3_000)]
    arrays = [chance.choices([*values[:50], None], k=chance.randrange(5)) for _ in values]
    with engine.connect() as connection:
        cursor: Any = connection.connection.cursor()
        cursor.execute("CREATE TEMP TABLE item (n int, value text, items text[])")
        copy(
            cursor,
            "COPY item (n, value, items) FROM STDIN",
            CopyRows(["n", "value", "items"], [range(3_000), values, arrays], [23, 25, 0], False),
        )
        cursor.execute("SELECT value, items FROM item ORDER BY n")
        found = cursor.fetchall()
    assert found == list(zip(values, arrays, strict=True))


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "SJIS", "BIG5", "GBK"])
def test_the_connections_encoding_is_kept(engine: Engine, encoding: str) -> None:
    """COPY's text is in the connection's encoding, even if that uses the backslash's byte in
    characters.
    """
    value = {"LATIN1": "é\\\t", "WIN1252": "€\\", "SJIS": "表\\\tソ", "BIG5": "功\\", "GBK": "乗\\"}
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_client_encoding(encoding)
        cursor = driver.cursor()
        cursor.execute("CREATE TEMP TABLE item (value text)")
        rows = CopyRows(["value"], [[value[encoding]]], [25], False)
        copy(cursor, "COPY item (value) FROM STDIN", rows)
        cursor.execute("INSERT INTO item VALUES (%s)", (value[encoding],))
        cursor.execute("SELECT DISTINCT encode(convert_to(value, 'UTF8'), 'hex') FROM item")
        assert cursor.fetchall() == [(value[encoding].encode().hex(),)]
        driver.set_client_encoding("UTF8")


@pytest.mark.parametrize(
    ("encoding", "value"), [("UTF8", "a\0b"), ("UTF8", "lone \ud800"), ("LATIN1", "€")]
)
def test_what_cannot_be_written_raises_as_the_literal_does(
    engine: Engine, encoding: str, value: str
) -> None:
    """NUL, and characters that the encoding lacks, raise psycopg2's errors; the transaction fails
    and the connection stays usable.
    """
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_client_encoding(encoding)
        cursor = driver.cursor()
        cursor.execute("CREATE TEMP TABLE item (value text)")
        driver.commit()
        raised = []
        for values in ([value], ["x"] * 5_000 + [value], ["x\\y", value, None]):
            for way in ("literal", "copy"):
                with pytest.raises(ValueError, match="NUL|can.t encode") as error:
                    if way == "literal":
                        cursor.execute("INSERT INTO item VALUES (%s)", (value,))
                    else:
                        rows = CopyRows(["value"], [values], [25], False)
                        copy(cursor, "COPY item (value) FROM STDIN", rows)
                raised.append((type(error.value), str(error.value)))
                driver.rollback()
        assert len(set(raised)) == 1
        cursor.execute("SELECT count(*) FROM item")
        assert cursor.fetchall() == [(0,)]
        driver.set_client_encoding("UTF8")
        driver.rollback()


def test_the_module_needs_no_driver() -> None:
    """The formats of the text module contain no type of psycopg2; those are in a module of their
    own.
    """
    assert not any(type_.__module__.startswith(psycopg2.__name__) for type_ in FORMATS)
