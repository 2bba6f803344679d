"""Joined, single-table and concrete inheritance, and composite keys, by COPY compared with plain
SQLAlchemy.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.twins import Scenario, Twins, by_copy, written
from sqlalchemy import ForeignKey, ForeignKeyConstraint, Identity, UniqueConstraint, select
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Company(Base):
    __tablename__ = "company"
    id: Mapped[int] = mapped_column(primary_key=True)
    people: Mapped[list[Person]] = relationship(back_populates="company")


class Person(Base):
    """Joined inheritance, with a single-table class below a joined one."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    company_id: Mapped[int | None] = mapped_column(ForeignKey("company.id"))
    company: Mapped[Company | None] = relationship(back_populates="people")
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Engineer(Person):
    __tablename__ = "engineer"
    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    language: Mapped[str] = mapped_column(default="python")
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "engineer"}


class Chief(Engineer):
    """A class with a third table."""

    __tablename__ = "chief"
    engineer_id: Mapped[int] = mapped_column(ForeignKey("engineer.id"), primary_key=True)
    budget: Mapped[int] = mapped_column(server_default="10")
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "chief"}


class Trainee(Engineer):
    """A class in its parent's table."""

    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "trainee"}
    mentor: Mapped[str | None]


class Manager(Person):
    """Its key has another name than its parent's."""

    __tablename__ = "manager"
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("manager.person_id"))
    subordinates: Mapped[list[Manager]] = relationship(foreign_keys=boss_id)
    __mapper_args__: ClassVar[Any] = {
        "polymorphic_identity": "manager",
        "inherit_condition": person_id == Person.id,
    }


class Animal(Base):
    """Single-table inheritance with columns that only one class maps."""

    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Dog(Animal):
    trick: Mapped[str | None] = mapped_column(default="sit")
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "dog"}


class Cat(Animal):
    lives: Mapped[int | None] = mapped_column(server_default="9")
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "cat"}


class Shape(ConcreteBase, Base):
    __tablename__ = "shape"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "shape", "concrete": True}


class Circle(Shape):
    __tablename__ = "circle"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    radius: Mapped[int]
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "circle", "concrete": True}


class Order(Base):
    """A composite key with one generated column."""

    __tablename__ = "order"
    region: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Identity(), primary_key=True)
    items: Mapped[list[Item]] = relationship(cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "item"
    __table_args__ = (
        ForeignKeyConstraint(["region", "number"], ["order.region", "order.number"]),
        UniqueConstraint("region", "number", "position"),
    )
    region: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Word(Base):
    """A natural key: no id is reserved, and rows still go by COPY."""

    __tablename__ = "word"
    word: Mapped[str] = mapped_column(primary_key=True)
    length: Mapped[int | None]


def joined(session: Session) -> None:
    session.add_all([Engineer(name=f"e{i}", language="c" if i % 2 else None) for i in range(20)])
    session.flush()


def joined_three_deep(session: Session) -> None:
    session.add_all([Chief(name=f"c{i}") for i in range(9)])
    session.add_all([Trainee(name=f"t{i}", mentor="m" if i % 2 else None) for i in range(9)])
    session.flush()


def polymorphic_mixture(session: Session) -> Any:
    classes = [Person, Engineer, Chief, Trainee]
    company = Company()
    company.people = [classes[i % 4](name=f"p{i}") for i in range(40)]
    session.add(company)
    session.flush()
    session.commit()
    found = session.scalars(select(Person).order_by(Person.id)).all()
    return [(type(item).__name__, item.name, item.id) for item in found]


def key_of_another_name(session: Session) -> None:
    session.add_all([Manager(name=f"m{i}") for i in range(9)])
    session.flush()


def referring_to_its_own_joined_table(session: Session) -> Any:
    boss = Manager(name="boss", subordinates=[Manager(name=f"m{i}") for i in range(9)])
    boss.subordinates[0].subordinates = [Manager(name="low")]
    session.add(boss)
    session.flush()
    session.commit()
    return sorted(
        (item.name, sorted(low.name for low in item.subordinates))
        for item in session.scalars(select(Manager))
    )


def single_table(session: Session) -> None:
    classes = [Animal, Dog, Cat]
    session.add_all([classes[i % 3](name=f"a{i}" if i % 2 else None) for i in range(30)])
    session.add_all([Dog(trick="roll"), Cat(lives=7), Dog(trick=None), Cat(lives=None)])
    session.flush()


def concrete(session: Session) -> None:
    session.add_all([Shape(name=f"s{i}") for i in range(9)])
    session.add_all([Circle(name=f"c{i}", radius=i) for i in range(9)])
    session.flush()


def composite_key(session: Session) -> None:
    for region in ("north", "south"):
        session.add_all(
            [Order(region=region, items=[Item(position=k) for k in range(3)]) for _ in range(9)]
        )
    session.add(Order(region="west", number=1000, items=[Item(position=1)]))
    session.flush()


def natural_key(session: Session) -> None:
    session.add_all([Word(word=f"w{i}", length=i if i % 2 else None) for i in range(20)])
    session.flush()


BY_COPY: list[tuple[Scenario, tuple[type[Any], ...]]] = [
    (joined, (Engineer,)),
    (joined_three_deep, (Chief, Trainee)),
    (polymorphic_mixture, (Company, Person, Engineer, Chief, Trainee)),
    (key_of_another_name, (Manager,)),
    (single_table, (Animal, Dog, Cat)),
    (concrete, (Shape, Circle)),
    (composite_key, (Order, Item)),
    (natural_key, (Word,)),
]


@pytest.mark.parametrize(
    ("scenario", "models"), BY_COPY, ids=[scenario.__name__ for scenario, _ in BY_COPY]
)
def test_goes_by_copy_and_nothing_differs(
    twins: Twins, scenario: Scenario, models: tuple[type[Any], ...]
) -> None:
    """Rows, objects and events are those of plain SQLAlchemy, and every new object went by COPY."""
    assert written(twins.compare(Base, scenario)) == by_copy(*models)


def test_a_joined_table_that_refers_to_itself(twins: Twins) -> None:
    """A tree of joined classes goes by COPY with the rows and ids of plain SQLAlchemy."""
    outcome = twins.compare(Base, referring_to_its_own_joined_table)
    assert written(outcome) == by_copy(Manager)
