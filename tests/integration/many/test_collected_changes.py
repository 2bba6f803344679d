"""The statements for changed and deleted objects are those that SQLAlchemy collects, whatever an
object contains besides new values of its columns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from fixtures.places import EVERY
from fixtures.sides import Side, Way, both, told_and_left
from sqlalchemy import (
    FetchedValue,
    ForeignKey,
    Numeric,
    PickleType,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    composite,
    mapped_column,
    synonym,
)

COUNT = 12


class Base(DeclarativeBase):
    pass


class Point:
    def __init__(self, x: int | None, y: int | None) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int | None, int | None]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    __hash__ = None  # type: ignore[assignment]  # it can be changed


class Thing(Base):
    """Columns under other names, of which some are deferred, composed or tracked."""

    __tablename__ = "thing"
    id: Mapped[int] = mapped_column("thing_id", primary_key=True)
    name: Mapped[str | None] = mapped_column("the name")
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    x: Mapped[int | None]
    y: Mapped[int | None]
    at: Mapped[Point] = composite("x", "y")
    called: Mapped[str | None] = synonym("name")
    long: Mapped[str | None] = mapped_column(deferred=True)
    data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSONB))
    kept: Mapped[Any] = mapped_column(
        PickleType(comparator=lambda one, other: bool(one and other and one[0] == other[0]))
    )
    stamp: Mapped[int | None] = mapped_column(onupdate=lambda: 7)
    doubled: Mapped[Decimal | None] = column_property(price * 2)


class Pair(Base):
    """A key of two columns."""

    __tablename__ = "pair"
    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int | None]


class Animal(Base):
    """Rows in two tables."""

    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    weight: Mapped[int | None]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    __tablename__ = "dog"
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    barks: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Touched(Base):
    """A column that the server changes, and that comes back at once."""

    __tablename__ = "touched"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int | None]
    version: Mapped[int | None] = mapped_column(server_onupdate=FetchedValue())
    __mapper_args__ = {"eager_defaults": True}


TABLES = ("thing", "pair", "animal", "dog", "touched")


def things(session: Session) -> list[Thing]:
    session.add_all(
        Thing(id=i, name=f"n{i}", price=Decimal(i), x=i, y=-i, long="l", data={"a": i}, kept=[i, 0])
        for i in range(1, COUNT + 1)
    )
    session.commit()
    return list(session.scalars(select(Thing).order_by(Thing.id)))


def each(change: Callable[[Thing, int], object]) -> Callable[[Session], Any]:
    def act(session: Session) -> Any:
        found = things(session)
        for number, thing in enumerate(found):
            change(thing, number)
        try:
            session.flush()
        except KeyError as error:
            return repr(error)
        kept = [
            {key: value for key, value in vars(thing).items() if key != "_sa_instance_state"}
            for thing in found
        ]
        states = [
            (state.modified, sorted(state.committed_state), sorted(state.expired_attributes))
            for state in map(inspect, found)
        ]
        dirty = len(session.dirty)
        session.commit()
        return [[str(sorted(row)), str(row.get("stamp"))] for row in kept], states, dirty

    return act


def set_(name: str, value: Callable[[int], Any], only: int = 1) -> Callable[[Thing, int], object]:
    return lambda thing, number: number % only or setattr(thing, name, value(number))


def without(thing: Thing, number: int) -> None:
    if number % 3:
        thing.price = Decimal(100)
    else:
        del thing.name


def nothing_known_of_it(thing: Thing, number: int) -> None:
    session = inspect(thing).session
    assert session is not None
    if number == 4:
        session.expire(thing, ["id"])
    thing.price = Decimal(9)


def two_ways(thing: Thing, number: int) -> None:
    thing.price = Decimal(50)
    if number % 2:
        thing.at = Point(number, 5)


CHANGES: dict[str, Callable[[Session], Any]] = {
    "a value": each(set_("price", lambda number: Decimal(number) + 5)),
    "a value as it was": each(set_("price", lambda number: Decimal(number + 1))),
    "some as they were": each(set_("price", lambda _: Decimal(3))),
    "an expression": each(set_("price", lambda _: Thing.price + 1)),
    "an expression of one": each(
        set_("price", lambda number: func.abs(-number) if number == 6 else Decimal(number))
    ),
    "an attribute of a class": each(set_("price", lambda _: Thing.x)),
    "an attribute taken away": each(without),
    "a key": each(set_("id", lambda number: number + 101)),
    "a key as it was": each(set_("id", lambda number: number + 1)),
    "a key that is not loaded": each(nothing_known_of_it),
    "a column that is not loaded": each(set_("long", lambda number: f"long {number}")),
    "columns by turns": each(two_ways),
    "another name": each(set_("called", lambda number: f"c{number}")),
    "what is in a value": each(lambda thing, number: thing.data.update(b=number)),  # type: ignore[union-attr]  # it has one
    "what compares otherwise": each(set_("kept", lambda number: [number + 1, 1])),
    "nothing": each(set_("name", lambda _: None)),
}


def keys(session: Session) -> Any:
    session.add_all(Pair(left=i, right=str(i % 3), value=0) for i in range(COUNT))
    session.commit()
    found = session.scalars(select(Pair).order_by(Pair.left)).all()
    for pair in found:
        pair.value = pair.left
        if pair.left == 7:
            pair.right = "other"
    session.commit()
    for pair in found[::2]:
        session.delete(pair)
    found[3].right = "another"
    session.commit()
    return [(pair.left, pair.right) for pair in found[1::2]]


def inherited(session: Session) -> Any:
    session.add_all((Dog if i % 2 else Animal)(id=i, weight=i) for i in range(1, COUNT + 1))
    session.commit()
    found = session.scalars(select(Animal).order_by(Animal.id)).all()
    for animal in found:
        animal.weight = -animal.id
        if isinstance(animal, Dog):
            animal.barks = animal.id
    session.commit()
    found[4].id = 50
    session.flush()
    for animal in found[:6]:
        session.delete(animal)
    session.commit()
    return [type(animal).__name__ for animal in session.scalars(select(Animal).order_by(Animal.id))]


def touched(session: Session) -> Any:
    session.add_all(Touched(id=i, value=i, version=0) for i in range(1, COUNT + 1))
    session.commit()
    found = session.scalars(select(Touched).order_by(Touched.id)).all()
    for each_ in found:
        each_.value = -1
    found[3].version = 5
    session.flush()
    return [vars(each_).get("version") for each_ in found]


def deleted_unloaded(session: Session) -> Any:
    found = things(session)
    session.expire(found[2], ["id"])
    found[5].id = 77
    for thing in found[:8]:
        session.delete(thing)
    session.commit()
    return [inspect(thing).was_deleted for thing in found]


def gone(session: Session) -> Any:
    found = things(session)
    session.execute(text("DELETE FROM thing WHERE thing_id = 4"))
    for thing in found:
        thing.name = "changed"
    session.flush()


def no_key(session: Session) -> Any:
    found = things(session)
    found[3].id = None  # type: ignore[assignment]  # what is tried
    for thing in found:
        thing.x = dt.date.min.year
    session.flush()


CHANGES |= {
    "keys of two columns": keys,
    "rows in two tables": inherited,
    "what comes back": touched,
    "deleted, not loaded": deleted_unloaded,
    "a row that is gone": gone,
    "no key": no_key,
}


@EVERY
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "way", [Way("by cost"), Way("from one row", {"copy_min_rows": 1})], ids=str
)
def test_what_is_sent_of_changed_objects(
    twin_urls: tuple[str, str], driver: str, change: str, way: Way
) -> None:
    """Rows, objects and errors of many changed objects are SQLAlchemy's."""

    def trial(side: Side) -> Any:
        return told_and_left(side, CHANGES[change], TABLES)

    both(
        twin_urls,
        Base,
        trial,
        way=way,
        driver=driver,
        ddl=(
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.version := OLD.version + 1; RETURN NEW; END'",
            "CREATE TRIGGER touch BEFORE UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch()",
        ),
    )
