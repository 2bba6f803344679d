"""Columns with server defaults that a class adds to the table of its parent."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.sides import DRIVERS, WAYS, Side, Way, both
from sqlalchemy import JSON, Computed, Identity, Sequence, func, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Shape(Base):
    __tablename__ = "shape"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "shape"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    tag: Mapped[str]
    state: Mapped[str | None] = mapped_column(server_default="new")


class Circle(Shape):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "circle"}
    area: Mapped[int | None] = mapped_column(Computed("3 * 3"))
    colour: Mapped[str | None] = mapped_column(server_default="red")


class Animal(Base):
    """Only its key has a server default."""

    __tablename__ = "animal"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    tag: Mapped[str]


class Cat(Animal):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "cat"}
    lives: Mapped[int | None] = mapped_column(server_default="9")


class Plant(Base):
    """Not even its key has a server default."""

    __tablename__ = "plant"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "plant"}
    id: Mapped[int] = mapped_column(Sequence("plant_numbers"), primary_key=True)
    kind: Mapped[str]
    tag: Mapped[str]
    notes: Mapped[Any] = mapped_column(JSON, nullable=True)


class Bush(Plant):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "bush"}
    height: Mapped[int | None] = mapped_column(server_default="2")


class Tree(Plant):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "tree"}
    rings: Mapped[int | None] = mapped_column(server_default="9")
    name: Mapped[str | None] = mapped_column(default=func.upper("oak"))


class Ship(Base):
    """A class with a version counter."""

    __tablename__ = "ship"
    id: Mapped[int] = mapped_column(Sequence("ship_numbers"), primary_key=True)
    kind: Mapped[str]
    tag: Mapped[str]
    flag: Mapped[str] = mapped_column(server_default="red")
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "ship",
        "version_id_col": version,
    }


class Ferry(Ship):
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "ferry"}
    name: Mapped[str | None] = mapped_column(default=func.upper("abc"))
    cars: Mapped[int | None] = mapped_column(server_default="9")


@pytest.mark.parametrize(
    "classes",
    [(Shape, Circle), (Animal, Cat), (Plant, Tree), (Bush, Bush), (Ship, Ferry)],
    ids=lambda pair: pair[1].__name__,
)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "way",
    [
        *(way for way in WAYS if not way.as_mappings),
        Way("always", {"reserve": "always"}, rows=3),
        Way("prefetch", {"prefetch": 50, "copy_min_rows": 5}, rows=3),
    ],
    ids=str,
)
def test_what_a_subclass_adds_is_loaded_when_plain_sqlalchemy_loads_it(
    twin_urls: tuple[str, str],
    driver: str,
    way: Way,
    classes: tuple[type[Any], type[Any]],
) -> None:
    """After a flush the same attributes are loaded and expired as in plain SQLAlchemy, and the rows
    are the same.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            items = [classes[n % 2](tag=f"t{n}") for n in range(2 * way.rows)]
            alone = classes[1](tag="alone")
            together = [classes[1](tag=f"u{n}") for n in range(way.rows)]
            found = []
            for some in (items, [alone], together):
                session.add_all(some)
                session.flush()
                states: list[Any] = [inspect(item) for item in some]
                found += [
                    (sorted(state.dict), sorted(state.unloaded), sorted(state.expired_attributes))
                    for state in states
                ]
            session.commit()
            return found

        columns = ", ".join(c.name for c in inspect(classes[0]).local_table.c if c.name != "id")
        rows = f"SELECT {columns} FROM {inspect(classes[0]).local_table.name} ORDER BY tag"
        return side.run(save), side.rows(rows)

    both(twin_urls, Base, trial, way=way, driver=driver)
