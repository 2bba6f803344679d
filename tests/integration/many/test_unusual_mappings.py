"""Many changed and deleted objects of unusual mappings: rows and objects end up as with plain
SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.kept import kept
from fixtures.places import EVERY
from fixtures.sides import Side, Way, both, told_and_left
from sqlalchemy import (
    Column,
    FetchedValue,
    ForeignKey,
    Integer,
    Table,
    event,
    join,
    literal_column,
    select,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column

COUNT = 60
"""More objects than are left to SQLAlchemy's own steps."""


class Base(DeclarativeBase):
    pass


class Item(Base):
    """A table of which some columns are not mapped, and one is mapped twice."""

    __table__ = Table(
        "item",
        Base.metadata,
        Column("id", Integer, primary_key=True),
        Column("code", Integer, key="the.code"),
        Column("hidden", Integer, server_default="1"),
        Column("value", Integer),
        Column("touched", Integer, onupdate=literal_column("7")),
        Column("counted", Integer, onupdate=lambda context: len(context.get_current_parameters())),
        Column("stamp", Integer, server_onupdate=FetchedValue()),
    )
    __mapper_args__ = {
        "exclude_properties": ["hidden"],
        "primary_key": [__table__.c["the.code"]],
    }
    code = __table__.c["the.code"]
    number = __table__.c.value
    twice = column_property(__table__.c.value * 2, expire_on_flush=True)


class Animal(Base):
    """A class with a version counter, with rows in one table and in two."""

    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    version: Mapped[int] = mapped_column()
    weight: Mapped[int | None]
    __mapper_args__ = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "animal",
        "version_id_col": version,
    }


class Cat(Animal):
    """In the same table."""

    lives: Mapped[int | None] = mapped_column("lives_left", use_existing_column=True)
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Dog(Animal):
    """With a key under another name."""

    __tablename__ = "dog"
    dog_id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    barks: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "dog"}


class Both(Base):
    """Rows of two joined tables, whose keys are one attribute."""

    _left = Table(
        "left_half", Base.metadata, Column("id", Integer, primary_key=True), Column("a", Integer)
    )
    _right = Table(
        "right_half",
        Base.metadata,
        Column("left_id", ForeignKey("left_half.id"), primary_key=True),
        Column("b", Integer),
    )
    __table__ = join(_left, _right)
    id = column_property(_left.c.id, _right.c.left_id)


TABLES = ("item", "animal", "dog", "left_half", "right_half")


def items(session: Session) -> list[Any]:
    session.execute(
        text("INSERT INTO item (id, code, value) SELECT i, i, i FROM generate_series(1, 60) i")
    )
    session.commit()
    return list(session.scalars(select(Item).order_by(Item.id)))


def animals(session: Session) -> list[Any]:
    kinds = (Animal, Cat, Dog)
    session.add_all(kinds[i % 3](id=i, weight=i) for i in range(1, COUNT + 1))
    session.commit()
    return list(session.scalars(select(Animal).order_by(Animal.id)))


def halves(session: Session) -> list[Any]:
    session.add_all(Both(id=i, a=i, b=i) for i in range(1, COUNT + 1))
    session.commit()
    return list(session.scalars(select(Both).order_by(Both.id)))


def changed_items(session: Session) -> Any:
    found = items(session)
    for each in found:
        each.number = each.number + 1
    session.flush()
    first = kept(found)
    for each in found[:55]:
        each.touched = 3
        each.stamp = 4
    found[9].code = 500
    session.flush()
    for each in found[:52]:
        session.delete(each)
    session.flush()
    return first, kept(found)


def changed_animals(session: Session) -> Any:
    found = animals(session)
    for each in found:
        each.weight = -1
        if isinstance(each, Dog):
            each.barks = 5
    session.flush()
    first = kept(found)
    for each in found:
        if isinstance(each, Dog):
            each.barks = 6
        elif isinstance(each, Cat):
            each.lives = 9
    session.flush()
    found[4].weight, found[8].version = 3, 77
    for each in found[20:]:
        session.delete(each)
    session.flush()
    return first, kept(found)


def gone_animal(session: Session) -> Any:
    found = animals(session)
    session.execute(text("UPDATE animal SET version = 8 WHERE id = 12"))
    for each in found:
        each.weight = -1
    session.flush()


def changed_halves(session: Session) -> Any:
    found = halves(session)
    for number, each in enumerate(found):
        each.a = -number
        if number % 2:
            each.b = number
    session.flush()
    first = kept(found)
    for each in found[:55]:
        session.delete(each)
    session.flush()
    return first, kept(found)


def refreshed(session: Session) -> Any:
    found, heard = items(session), []

    def hear(item: Any, context: Any, attributes: Any) -> None:
        heard.append((item.number, sorted(attributes)))

    event.listen(Item, "refresh_flush", hear)
    try:
        for each in found:
            each.number = each.number + 1
        session.flush()
    finally:
        event.remove(Item, "refresh_flush", hear)
    return sorted(heard), kept(found)


ACTS: dict[str, Callable[[Session], Any]] = {
    "columns left out": changed_items,
    "versions": changed_animals,
    "a version of others": gone_animal,
    "a join": changed_halves,
    "told of what comes back": refreshed,
}


@EVERY
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    "way", [Way("by cost"), Way("from one row", {"copy_min_rows": 1})], ids=str
)
def test_unusual_mappings(twin_urls: tuple[str, str], driver: str, act: str, way: Way) -> None:
    """With unusual mappings the rows, objects, keys, errors and warnings are SQLAlchemy's."""

    def trial(side: Side) -> Any:
        return told_and_left(side, ACTS[act], TABLES)

    both(twin_urls, Base, trial, way=way, driver=driver)
