"""bulk_upsert of few rows: one statement, and the same rows as through a temporary table."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from fixtures.bulk_keys import DRIVERS
from sqlalchemy import (
    ARRAY,
    Engine,
    Identity,
    Interval,
    Numeric,
    String,
    UniqueConstraint,
    create_engine,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, MACADDR, TSQUERY, TSVECTOR
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_upsert
from sqla_seqreserve.errors import InvalidRowsError
from sqla_seqreserve.testing import record_statements, round_trips


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Plain(Base):
    """Columns of types that arrays can contain."""

    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[str] = mapped_column(String(5), unique=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric(6, 2))
    colour: Mapped[Colour | None]
    token: Mapped[uuid.UUID | None]
    day: Mapped[dt.date | None]
    ratio: Mapped[float | None]
    is_open: Mapped[bool | None]


class Rounded(Base):
    """A key that the column's type rounds."""

    __tablename__ = "rounded"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    size: Mapped[Decimal] = mapped_column(Numeric(6, 1), unique=True)


class Document(Base):
    """Columns of types that no array of plain values can contain."""

    __tablename__ = "document"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[int] = mapped_column(unique=True)
    body: Mapped[Any] = mapped_column(JSONB)
    numbers: Mapped[list[int]] = mapped_column(ARRAY(Numeric))
    span: Mapped[dt.timedelta] = mapped_column(Interval)
    card: Mapped[str | None] = mapped_column(MACADDR)


class Vector(Base):
    __tablename__ = "vector"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[Any] = mapped_column(TSVECTOR)


class Query(Base):
    """The column names of ``Vector``, with other types."""

    __tablename__ = "query"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[Any] = mapped_column(TSQUERY)


class Sorted(Base):
    """A key with a collation of its own."""

    __tablename__ = "sorted"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    code: Mapped[str] = mapped_column(String(collation="C"), unique=True)


class Line(Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    page: Mapped[int]
    number: Mapped[int]
    words: Mapped[str]
    __table_args__ = (UniqueConstraint("page", "number", name="line_place"),)


Run = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def run(engine: Engine, driver: str) -> Iterator[Run]:
    """Runs functions of sessions, one after the other, on one engine of the driver."""
    Base.metadata.create_all(engine)
    with running(engine.url, driver) as found:
        yield found


class running:  # noqa: N801  # a context manager
    def __init__(self, url: Any, driver: str) -> None:
        self.url, self.driver = url.set(drivername=f"postgresql+{driver}"), driver

    def __enter__(self) -> Run:
        self.made: Any
        if self.driver != "asyncpg":
            self.made = create_engine(self.url)

            def run(function: Callable[[Session], Any]) -> Any:
                with Session(self.made) as session, session.begin():
                    return function(session)

            return run
        self.runner = asyncio.Runner()
        self.made = create_async_engine(self.url)

        async def run_async(function: Callable[[Session], Any]) -> Any:
            async with AsyncSession(self.made) as session, session.begin():
                return await session.run_sync(function)

        return lambda function: self.runner.run(run_async(function))

    def __exit__(self, *_: object) -> None:
        if self.driver == "asyncpg":
            self.runner.run(self.made.dispose())
            self.runner.close()
        else:
            self.made.dispose()


def lines(count: int) -> list[dict[str, Any]]:
    return [{"page": n // 50, "number": n % 50, "words": f"line {n}"} for n in range(count)]


#: With BEGIN, which psycopg alone sends with the lock, and COMMIT. psycopg waits twice for a COPY,
#: asyncpg three times.
TRIPS = {"psycopg": (3, 7), "psycopg2": (4, 8), "asyncpg": (4, 9)}


def test_round_trips(engine: Engine, driver: str) -> None:
    """Few rows take one statement after the lock; many take a temporary table, a COPY, and a final
    statement.
    """
    Base.metadata.create_all(engine)
    with round_trips(engine.url) as wire, running(wire.url, driver) as run:

        def upsert(count: int) -> Callable[[Session], Any]:
            return lambda session: bulk_upsert(
                session, Line, lines(count), conflict=["page", "number"], returning="ids"
            )

        found = []
        for count in (200, 300):
            # asyncpg prepares what it has not met; psycopg after five times.
            for _ in range(8):
                run(upsert(count))
            with wire.counting() as counted:
                assert run(upsert(count)).updated == count
            found.append(counted)
    assert tuple(each.round_trips for each in found) == TRIPS[driver], found


def test_the_log_tells_how_rows_were_sent(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the writer of rows sent as arrays, and of rows sent by COPY, and counts
    inserted and updated rows apart.
    """
    Base.metadata.create_all(engine)
    caplog.set_level("DEBUG", "sqla_seqreserve")
    with Session(engine) as session:
        for count in (2, 300):
            bulk_upsert(session, Line, lines(count), conflict=["page", "number"])
    told = [record for record in caplog.records if hasattr(record, "writer")]
    assert [(record.kind, record.rows, record.writer) for record in told] == [
        ("insert", 2, "copy"),
        ("insert", 298, "copy"),
        ("update", 2, "copy"),
    ]


def test_values_of_plain_types(run: Run) -> None:
    """The stored and the returned values are the given ones, including NULLs and
    rounded numbers.
    """
    token = uuid.uuid4()
    full = {
        "code": "a'b\\",
        "price": Decimal("1.005"),
        "colour": Colour.BLUE,
        "token": token,
        "day": dt.date(2024, 2, 29),
        "ratio": 0.1,
        "is_open": True,
    }
    empty = dict.fromkeys(full) | {"code": "none"}

    def scenario(session: Session) -> None:
        with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
            done = bulk_upsert(session, Plain, [empty, full], conflict=["code"], returning="ids")
        assert not any("TEMPORARY" in str(statement) for statement in sent)
        none, one = (session.get_one(Plain, key) for key in done.ids)
        assert {name: getattr(none, name) for name in empty} == empty
        assert {name: getattr(one, name) for name in full} == {**full, "price": Decimal("1.01")}

    run(scenario)


def test_a_key_is_compared_as_it_is_stored(run: Run) -> None:
    """Values that the column's type makes equal are one row: found if it exists, refused if given
    twice.
    """

    def scenario(session: Session) -> None:
        first = bulk_upsert(
            session, Rounded, [{"size": Decimal("1.04")}], conflict=["size"], returning="ids"
        )
        again = bulk_upsert(
            session,
            Rounded,
            [{"size": Decimal("1.01")}],
            conflict=["size"],
            update=["size"],
            returning="ids",
        )
        assert (again.updated, again.ids) == (1, first.ids)
        with pytest.raises(InvalidRowsError, match="row 1, size: is the same row as row 0"):
            bulk_upsert(
                session,
                Rounded,
                [{"size": Decimal("2.01")}, {"size": Decimal("2.02")}],
                conflict=["size"],
            )

    run(scenario)


def test_no_text_is_cut(run: Run) -> None:
    """A text that is too long is refused as INSERT refuses it."""
    with pytest.raises((DataError, DBAPIError), match="too long"):
        run(lambda session: bulk_upsert(session, Plain, [{"code": "sixsix"}], conflict=["code"]))


def test_other_types_are_staged(run: Run) -> None:
    """Documents, arrays and ranges go through a temporary table, whatever the driver's COPY
    supports.
    """
    row = {
        "code": 1,
        "body": {"a": [1, None]},
        "numbers": [Decimal(1), Decimal("2.5")],
        "span": dt.timedelta(days=1, seconds=2),
        "card": "08:00:2b:01:02:03",
    }

    def scenario(session: Session) -> None:
        for _ in range(2):
            done = bulk_upsert(session, Document, [row], conflict=["code"], returning="ids")
            found = session.get_one(Document, done.ids[0])
            assert {name: getattr(found, name) for name in row} == row

    run(scenario)


def test_a_collation_of_its_own_is_staged(run: Run) -> None:
    """A key with a collation of its own goes through a temporary table, because an array has no
    collation.
    """

    def scenario(session: Session) -> None:
        with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
            bulk_upsert(session, Sorted, [{"code": "b"}, {"code": "B"}], conflict=["code"])
        assert any("TEMPORARY" in str(statement) for statement in sent)

    run(scenario)


def test_temporary_tables_of_several_classes(run: Run) -> None:
    """Statements that a driver caches for one class's temporary table are not used for that of
    another.
    """
    for _ in range(3):
        for model, value in ((Vector, "'a'"), (Query, "'b'")):
            rows = [{"id": number, "value": value} for number in range(3)]
            run(lambda s, m=model, r=rows: bulk_upsert(s, m, r, conflict=["id"]))
            assert run(lambda s, m=model: s.scalars(select(m.value)).all()) == [value] * 3


def test_an_index_that_is_made_anew(engine: Engine, run: Run) -> None:
    """Remembered facts of an index are not used when another index has its name."""

    def upsert(page: int, number: int) -> Any:
        return run(
            lambda session: bulk_upsert(
                session,
                Line,
                [{"page": page, "number": number, "words": "w"}],
                conflict="line_place",
            )
        )

    for _ in range(2):
        assert upsert(1, 1).unchanged == 0
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE line DROP CONSTRAINT line_place"))
        connection.execute(text("CREATE UNIQUE INDEX line_place ON line (page)"))
    assert (upsert(1, 2).updated, upsert(2, 1).inserted) == (1, 1)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX line_place"))
        connection.execute(
            text("CREATE UNIQUE INDEX line_place ON line (number) WHERE words = 'w'")
        )
    assert (upsert(5, 1).updated, upsert(5, 7).inserted) == (1, 1)
