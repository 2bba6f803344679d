"""The conversion of a value: which dumper or type converts it, how often, and into which table it
is written.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from fixtures.sides import WAYS, Side, Way, both
from psycopg.types.datetime import DateDumper
from sqlalchemy import Column, Integer, String, Table, TypeDecorator, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql import quoted_name

FEW, COPY, MAPPINGS = WAYS[1], WAYS[3], WAYS[6]

calls: list[str] = []


class Counted(TypeDecorator[str]):
    """Counts the calls of its conversion."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        calls.append("bind")
        return value


class Word(str):
    """A subclass of str."""

    __slots__ = ()


def given() -> Any:
    calls.append("default")
    return Word("w")


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(Counted, default=given)
    other: Mapped[str | None] = mapped_column(String, default=given)


class Dated(Base):
    __tablename__ = "dated"
    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[dt.date | None]


class Folded(Base):
    """Its name is declared as not quoted, so that PostgreSQL folds it to lower case."""

    __table__ = Table(
        quoted_name("Qq", quote=False),
        Base.metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String),
    )


class Other(DeclarativeBase):
    pass


class Upper(Other):
    """Its name is the same string, quoted."""

    __tablename__ = "Qq"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class EndOfTime(DateDumper):
    """The way to write infinity that psycopg's documentation shows."""

    def dump(self, obj: dt.date) -> Any:
        return b"infinity" if obj == dt.date.max else super().dump(obj)


@pytest.mark.parametrize("way", WAYS[:6], ids=str)
@pytest.mark.parametrize("value", ["plain", Word("sub"), 7])
def test_a_default_and_a_type_are_asked_as_often_as_in_plain(
    twin_urls: tuple[str, str], value: Any, way: Way
) -> None:
    """Defaults and types are called as often as in plain SQLAlchemy, even if COPY cannot write
    their results.
    """

    def trial(side: Side) -> Any:
        def saving(session: Session) -> Any:
            calls.clear()
            rows = [{"name": value} if i % 2 else {} for i in range(side.way.rows)]
            side.write(session, Item, rows)
            return sorted(calls)

        return side.run(saving)

    both(twin_urls, Base, trial, way=way)


@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
def test_a_dumper_that_the_user_registered_decides(twin_urls: tuple[str, str], way: Way) -> None:
    """A dumper that the user registered with psycopg is used whichever way the rows go."""

    def trial(side: Side) -> Any:
        @event.listens_for(side.engine, "connect")
        def connect(connection: Any, _record: Any) -> None:
            connection.adapters.register_dumper(dt.date, EndOfTime)

        def saving(session: Session) -> None:
            days = [dt.date.max, dt.date(2024, 1, 1)] * (side.way.rows // 2 + 1)
            side.write(session, Dated, [{"day": day} for day in days])
            session.commit()

        side.run(saving)
        return side.rows("SELECT day::text FROM dated ORDER BY id")

    found = both(twin_urls, Base, trial, way=way)
    assert ("infinity",) in found


@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
def test_a_name_that_is_not_to_be_quoted(twin_urls: tuple[str, str], way: Way) -> None:
    """``quoted_name(quote=False)`` writes into the table with the folded name, also if a table with
    the quoted name exists.
    """

    def trial(side: Side) -> Any:
        def saving(session: Session) -> None:
            side.write(session, Upper, [{"name": f"u{i}"} for i in range(side.way.rows)])
            session.commit()
            side.write(session, Folded, [{"name": f"n{i}"} for i in range(side.way.rows)])
            session.commit()

        side.run(saving)
        return side.rows("SELECT name FROM qq ORDER BY id"), side.rows(
            'SELECT name FROM "Qq" ORDER BY id'
        )

    both(
        twin_urls,
        Base,
        trial,
        way=way,
        ddl=['CREATE TABLE "Qq" (id serial PRIMARY KEY, name varchar)'],
    )
