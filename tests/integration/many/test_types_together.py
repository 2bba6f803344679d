"""Changed objects travel together with every usual type of the column that was set."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, told_and_left
from sqlalchemy import (
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
    Uuid,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    CIDR,
    INET,
    JSON,
    JSONB,
    MACADDR,
    TSVECTOR,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER


class Base(DeclarativeBase):
    pass


class State(enum.Enum):
    OPEN = 1
    SHUT = 2


NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=dt.UTC)
BARE = NOON.replace(tzinfo=None)

TYPES: dict[str, tuple[Any, list[Any]]] = {
    "integer": (Integer, [7, -7, None]),
    "bigint": (BigInteger, [2**40, -1]),
    "smallint": (SmallInteger, [1, None]),
    "string": (String(50), ["a'\\\"", "NULL", "{}", "", None]),
    "text": (Text, ["a%(b)s", "ü"]),
    "numeric": (Numeric(9, 2), [Decimal("1.005"), Decimal("-2E+3"), None]),
    "float": (Float, [1.5, -0.0, 2.5e-7, None]),
    "double": (Double, [0.1, 1e300]),
    "boolean": (Boolean, [True, False, None]),
    "date": (Date, [NOON.date(), dt.date(2, 1, 1)]),
    "timestamp": (DateTime, [BARE, None]),
    "timestamptz": (DateTime(timezone=True), [NOON]),
    "time": (Time, [BARE.time()]),
    "interval": (Interval, [dt.timedelta(days=-1, seconds=3), dt.timedelta(5), None]),
    "uuid": (Uuid, [uuid.UUID(int=5), None]),
    "enum": (Enum(State, name="state"), [State.OPEN, State.SHUT, None]),
    "labels": (Enum("x y", "it's", name="labels"), ["x y", "it's"]),
    "text_enum": (Enum(State, native_enum=False), [State.OPEN, None]),
    "bytes": (LargeBinary, [b"\x00\\'", b"", None]),
    "json": (JSON, [{"a'%(b)s": [1, 'x\\"']}, None, [{}], "ü{NULL}", 1.5]),
    "jsonb": (JSONB, [{"b": 1, "a": ["\n", True]}, None, [], "NULL", 0]),
    "jsonb_or_nothing": (JSONB(none_as_null=True), [{"a": None}, None]),
    "label_uuid": (Uuid(as_uuid=False), [str(uuid.UUID(int=6)), None]),
}
OF_LIBPQ: dict[str, tuple[Any, list[Any]]] = {
    "inet": (INET, ["10.0.0.1", "::1/64", "10.1.2.3/8", None]),
    "cidr": (CIDR, ["10.0.0.0/8", "10.1", None]),
    "macaddr": (MACADDR, ["08:00:2b:01:02:03", "08002b010203", None]),
    "tsvector": (TSVECTOR, ["b:2 'a c':1A", "", None]),
    "integers": (ARRAY(Integer), [[1, -2], [], [None, 3], None]),
    "bigints": (ARRAY(BigInteger), [[2**40], [1, 2, 3]]),
    "texts": (ARRAY(Text), [['a"b\\', "NULL", "", "{x,y}", "ü'%"], [None], []]),
    "short_texts": (ARRAY(String(3)), [["ab", "abcdef"], ["x  "], None]),
    "numerics": (ARRAY(Numeric(6, 2)), [[Decimal("1.005"), None], [Decimal("-2E+3")]]),
    "booleans": (ARRAY(Boolean), [[True, False], [None]]),
    "dates": (ARRAY(Date), [[NOON.date()], [], None]),
    "timestamps": (ARRAY(DateTime(timezone=True)), [[NOON, NOON], []]),
    "uuids": (ARRAY(Uuid), [[uuid.UUID(int=5), None], []]),
}
"""Strings and lists that psycopg and psycopg2 hand to the server, and asyncpg reads itself."""
ROWS = 12


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    for name, (type_, _) in (TYPES | OF_LIBPQ).items():
        locals()[name] = mapped_column(type_, nullable=True)


@pytest.mark.skipif(not IN_ORDER, reason="before 2.0.10 SQLAlchemy gives some other parameters")
@pytest.mark.parametrize("driver", DRIVERS)
def test_each_type(twin_urls: tuple[str, str], driver: str) -> None:
    """The rows are plain SQLAlchemy's, and one statement wrote the rows of each flush."""
    types = TYPES if driver == "asyncpg" else TYPES | OF_LIBPQ

    def act(session: Session) -> Any:
        session.add_all(Item(id=number) for number in range(ROWS))
        session.commit()
        items = session.scalars(select(Item).order_by(Item.id)).all()
        for name, (_, values) in types.items():
            for number, item in enumerate(items):
                setattr(item, name, values[number % len(values)])
            session.flush()
        session.commit()
        return [[repr(getattr(item, name)) for name in types] for item in items]

    def trial(side: Side) -> Any:
        found = told_and_left(side, act, ["item"])
        if side.registered:
            written = {
                (entry.rows, entry.writer, entry.reason)
                for report in side.reports
                for entry in report.entries
                if entry.kind == "update"
            }
            # Rows that hold what they held before are not changed.
            assert {writer for _, writer, _ in written} == {"copy"}, written
        return found

    both(twin_urls, Base, trial, way=Way("from one row", {"copy_min_rows": 1}), driver=driver)


class Noted(Base):
    __tablename__ = "noted"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[Any] = mapped_column(JSONB, nullable=True)
    weights: Mapped[list[float] | None] = mapped_column(ARRAY(Double))


@pytest.mark.parametrize("driver", DRIVERS)
def test_signs_of_floats_in_lists(twin_urls: tuple[str, str], driver: str) -> None:
    """A list of floats is stored as by plain SQLAlchemy, including the sign of zero."""

    def act(session: Session) -> Any:
        session.add_all(Noted(id=number, weights=[0.5, -0.0, -1e300]) for number in range(4))
        session.commit()
        for noted in session.scalars(select(Noted)):
            noted.weights = [-0.0, float(noted.id)]
        session.commit()
        return repr(session.scalars(select(Noted.weights).order_by(Noted.id)).all())

    both(
        twin_urls,
        Base,
        lambda side: told_and_left(side, act, ["noted"]),
        way=Way("from one row", {"copy_min_rows": 1}),
        driver=driver,
    )


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
def test_json_of_the_connections_own(twin_urls: tuple[str, str], driver: str) -> None:
    """The function with which a connection makes JSON is called, and its error is raised."""
    psycopg_json = pytest.importorskip("psycopg.types.json")

    def dumps(value: Any) -> str:
        if value == "never":
            raise ValueError("what cannot be written")
        return json.dumps({"mine": value})

    def act(session: Session) -> Any:
        raw: Any = session.connection().connection.driver_connection
        psycopg_json.set_json_dumps(dumps, raw)
        session.add_all(Noted(id=number) for number in range(4))
        session.flush()
        found = session.scalars(select(Noted).order_by(Noted.id)).all()
        for noted in found:
            noted.note = [noted.id]
        session.flush()
        left = [tuple(row) for row in session.execute(text("SELECT id, note FROM noted"))]
        for noted in found:
            noted.note = "never"
        with pytest.raises(Exception, match="what cannot be written") as refused:
            session.flush()
        session.rollback()
        return left, type(refused.value)

    both(
        twin_urls,
        Base,
        lambda side: told_and_left(side, act, ["noted"]),
        way=Way("from one row", {"copy_min_rows": 1}),
        driver=driver,
    )
