"""Ids follow the order of add(), also where the database numbers rows because COPY cannot write
some of them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

import pytest
from fixtures.sides import DRIVERS, WAYS, Side, Way, both, refusal
from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Text,
    TypeDecorator,
    func,
    literal_column,
    null,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    foreign,
    mapped_column,
    relationship,
)


class Nowhere(dt.tzinfo):
    """A time zone that does not say how far it is from UTC."""

    def utcoffset(self, _: dt.datetime | None) -> None:
        return None


OBJECTS = [way for way in WAYS if not way.as_mappings]
NOWHERE = dt.datetime(2024, 3, 10, 2, 30, tzinfo=Nowhere())
AWARE = dt.datetime(2024, 3, 21, 6, 30, tzinfo=dt.timezone(dt.timedelta(hours=5)))


class Base(DeclarativeBase):
    pass


class Visit(Base):
    """Its times are cast, depending on each other, on psycopg2."""

    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    place: Mapped[int]
    at: Mapped[Any] = mapped_column(DateTime, nullable=True)
    made: Mapped[int] = mapped_column(default=lambda: 7)


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    place: Mapped[int]
    at: Mapped[Any] = mapped_column(DateTime, nullable=True)
    made: Mapped[int] = mapped_column(default=lambda: 7)


class Branch(Base):
    """Refers to its own table."""

    __tablename__ = "branch"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    place: Mapped[int]
    made: Mapped[int] = mapped_column(default=lambda: 7)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("branch.id"))
    parent: Mapped[Branch | None] = relationship(remote_side="Branch.id")


class Stop(Base):
    """Refers to its own table, without a constraint."""

    __tablename__ = "stop"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    place: Mapped[int]
    at: Mapped[Any] = mapped_column(DateTime, nullable=True)
    made: Mapped[int] = mapped_column(default=lambda: 7)
    state: Mapped[str | None] = mapped_column(server_default="open")
    before_id: Mapped[int | None] = mapped_column(BigInteger)
    before: Mapped[Stop | None] = relationship(
        remote_side=id, primaryjoin=lambda: foreign(Stop.before_id) == Stop.id
    )


class Upper(TypeDecorator[str]):
    impl = Text
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return func.upper(bindvalue)


class Animal(Base):
    __tablename__ = "animal"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    place: Mapped[int]
    made: Mapped[int] = mapped_column(default=lambda: 7)


class Dog(Animal):
    """COPY cannot write its objects."""

    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "dog"}
    name: Mapped[str | None] = mapped_column(Upper)


def in_order_of_ids(session: Session, table: str) -> list[tuple[Any, ...]]:
    """The places of the rows, and their defaults, in the order of their ids."""
    rows = session.execute(text(f"SELECT place, made FROM {table} ORDER BY id"))
    return [tuple(row) for row in rows]


def saved(model: type[Any], values: list[Any]) -> Any:
    """A trial that writes a row for each value, and returns them in the order of their ids."""

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            rows = [{"place": place, "at": value} for place, value in enumerate(values)]
            keys = side.write(session, model, rows)
            return in_order_of_ids(session, model.__tablename__), keys == sorted(keys)

        return side.run(save)

    return trial


@pytest.mark.parametrize("way", OBJECTS, ids=str)
def test_rows_that_the_database_numbers(twin_urls: tuple[str, str], way: Way) -> None:
    """If some rows make the database number all, in several statements, the ids follow the order of
    add(), and no default is called twice.
    """
    values = [AWARE, null(), NOWHERE, AWARE, func.now(), null(), AWARE] * 3
    found = both(twin_urls, Base, saved(Visit, values), way=way, driver="psycopg2")
    assert found == ([(place, 7) for place in range(len(values))], True)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", OBJECTS, ids=str)
def test_rows_of_always(twin_urls: tuple[str, str], way: Way, driver: str) -> None:
    """If INSERT writes some rows of a ``GENERATED ALWAYS`` table, which it cannot give a reserved
    key, the ids follow the order of add().
    """
    values = [None, null(), None, None, func.now(), None] * 4
    found = both(twin_urls, Base, saved(Always, values), way=way, driver=driver)
    assert found == ([(place, 7) for place in range(len(values))], True)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", OBJECTS, ids=str)
def test_trees_of_always(twin_urls: tuple[str, str], way: Way, driver: str) -> None:
    """In a tree of such a table, parents have smaller ids than their children, and each generation
    follows the order of add().
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            root = Branch(place=func.abs(0))
            middle = [Branch(place=1 + i, parent=root) for i in range(10)]
            leaves = [Branch(place=11 + i, parent=middle[i // 4]) for i in range(40)]
            session.add_all([*leaves, *middle, root])
            session.flush()
            return in_order_of_ids(session, "branch")

        return side.run(save)

    found = both(twin_urls, Base, trial, way=way, driver=driver)
    assert found == [(place, 7) for place in range(51)]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", OBJECTS, ids=str)
@pytest.mark.parametrize("dogs", ["between", "last"])
def test_classes_of_one_table(twin_urls: tuple[str, str], way: Way, driver: str, dogs: str) -> None:
    """If COPY writes one class of a table and the database numbers another, the ids follow the
    order of add(); COPY is left out only where it would disturb that order.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            session.add_all(
                Dog(place=place, name="rex")
                if (place % 3 == 1 if dogs == "between" else place >= 20)
                else Animal(place=place)
                for place in range(30)
            )
            session.flush()
            return in_order_of_ids(session, "animal")

        found = side.run(save)
        if side.registered and way.name == "copy":
            assert any(writer == "copy" for writer, _ in side.writers()) is (dogs == "last")
        return found

    assert both(twin_urls, Base, trial, way=way, driver=driver) == [(at, 7) for at in range(30)]


@pytest.mark.parametrize("way", OBJECTS, ids=str)
def test_trees_whose_keys_are_needed(twin_urls: tuple[str, str], way: Way) -> None:
    """Rows that refer to each other keep their reserved keys, whatever their values are."""

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            times = [AWARE, null(), NOWHERE, AWARE, null(), AWARE] * 3
            stops = [Stop(place=place, at=at) for place, at in enumerate(times)]
            for stop in stops[::6]:
                stop.state = "closed"
            for stop in stops[6:]:
                stop.before = stops[stop.place - 6]
            session.add_all(stops)
            session.flush()
            assert all(stop.before_id == (stop.before and stop.before.id) for stop in stops)
            return in_order_of_ids(session, "stop")

        return side.run(save)

    both(twin_urls, Base, trial, way=way, driver="psycopg2")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", OBJECTS, ids=str)
def test_a_refusal_leaves_no_default(twin_urls: tuple[str, str], way: Way, driver: str) -> None:
    """If the server refuses one of these rows, its object and those after it have neither keys nor
    defaults that they did not have before the flush.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            values = [None, null(), None, None, literal_column("current_date / 0"), None] * 4
            items = [
                Always(place=place, at=at, **({"made": None} if place % 5 == 0 else {}))
                for place, at in enumerate(values)
            ]
            session.add_all(items)
            with pytest.raises(SQLAlchemyError) as refused:
                session.flush()
            session.rollback()
            left = [
                {name: vars(item).get(name, "none") for name in ("id", "made")}
                for item in items[4:]
            ]
            return refusal(refused.value), left

        return side.run(save)

    both(twin_urls, Base, trial, way=way, driver=driver)
