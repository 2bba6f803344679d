"""Attributes of every kind and defaults of Python, by COPY compared with plain SQLAlchemy."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from fixtures.twins import Scenario, Twins, by_copy, written
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    event,
    func,
    select,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    composite,
    deferred,
    mapped_column,
    registry,
    relationship,
    synonym,
    validates,
)


class Base(DeclarativeBase):
    pass


@dataclasses.dataclass
class Point:
    x: int | None
    y: int | None


class Vertex(Base):
    """Composite, synonym, column_property, deferred columns, attributes unlike their columns."""

    __tablename__ = "vertex"
    key: Mapped[int] = mapped_column("vertex_id", primary_key=True)
    start: Mapped[Point] = composite(mapped_column("x1"), mapped_column("y1"))
    name: Mapped[str] = mapped_column("label", String(30))
    title = synonym("name")
    long_text: Mapped[str | None] = deferred(mapped_column("body", Text))
    shout: Mapped[str] = column_property(func.upper(name))

    @validates("name")
    def _strip(self, _key: str, value: str) -> str:
        return value.strip()


_numbers: Iterator[int] = itertools.count()


def _next_number() -> int:
    return next(_numbers)


def _from_name(context: Any) -> str:
    return f"{context.get_current_parameters()['name']}!"


def _from_parameters(context: Any) -> str:
    parameters = context.current_parameters
    return f"{parameters['name']}/{parameters.get('given')}/{context.current_column.name}"


class Defaulted(Base):
    """Every kind of default that Python computes."""

    __tablename__ = "defaulted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    given: Mapped[str | None]
    constant: Mapped[int | None] = mapped_column(default=7)
    counted: Mapped[int | None] = mapped_column(default=_next_number)
    derived: Mapped[str | None] = mapped_column(default=_from_name)
    parameters: Mapped[str | None] = mapped_column(default=_from_parameters)
    nothing: Mapped[str | None] = mapped_column(default=lambda: None)
    changed: Mapped[int | None] = mapped_column(onupdate=lambda: 99)
    inserted: Mapped[str | None] = mapped_column(insert_default="inserted")


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


class VersionedByText(Base):
    __tablename__ = "versioned_by_text"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[str] = mapped_column(String(20))
    __mapper_args__: ClassVar[Any] = {
        "version_id_col": version,
        "version_id_generator": lambda version: "first" if version is None else version + "+",
    }


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Author(DataBase):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    name: Mapped[str]
    level: Mapped[int] = mapped_column(default=3)
    rank: Mapped[str] = mapped_column(insert_default="novice", init=False)
    books: Mapped[list[Book]] = relationship(default_factory=list, back_populates="author")


class Book(DataBase):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"), default=None)
    author: Mapped[Author | None] = relationship(default=None, back_populates="books")
    shelf: Mapped[str] = mapped_column(init=False, default="A")


_mappings = registry()


@dataclasses.dataclass
class Plain:
    """A dataclass of the standard library, mapped to a table."""

    name: str | None = None
    size: int | None = None


_mappings.map_imperatively(
    Plain,
    Table(
        "plain",
        _mappings.metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(50)),
        Column("size", Integer, default=5),
    ),
)


class PlainBase:
    registry = _mappings
    metadata = _mappings.metadata


def attributes_of_every_kind(session: Session) -> None:
    for i in range(9):
        session.add(Vertex(start=Point(i, -i), name=f" v{i} ", long_text="x" if i % 2 else None))
    session.add(Vertex(title="by synonym", start=Point(None, 1)))
    session.flush()


def defaults_of_python(session: Session) -> Any:
    global _numbers
    _numbers = itertools.count(1)
    items = [Defaulted(name=f"d{i}", given="g" if i % 3 else None) for i in range(9)]
    items += [
        Defaulted(name="own", constant=1, counted=1000, derived="own", inserted="own"),
        Defaulted(name="none", constant=None, counted=None, derived=None, inserted=None),
    ]
    session.add_all(items)
    session.flush()
    # A default runs once for each row that needs it.
    return next(_numbers)


def versions(session: Session) -> None:
    items = [Versioned(name=f"v{i}") for i in range(9)]
    items += [VersionedByText(name=f"v{i}") for i in range(9)]
    session.add_all(items)
    session.flush()
    for item in items[::2]:
        item.name += " changed"
    session.flush()


def dataclasses_mapped(session: Session) -> None:
    session.add_all([Author(f"a{i}", books=[Book(f"b{k}") for k in range(2)]) for i in range(9)])
    session.add(Author("own", level=1))
    session.flush()


def plain_dataclasses(session: Session) -> None:
    session.add_all([Plain(f"p{i}") for i in range(9)])
    session.add(Plain(size=9))
    session.flush()


BY_COPY: list[tuple[Any, Scenario, tuple[type[Any], ...]]] = [
    (Base, attributes_of_every_kind, (Vertex,)),
    (Base, versions, (Versioned, VersionedByText)),
    (DataBase, dataclasses_mapped, (Author, Book)),
    (PlainBase, plain_dataclasses, (Plain,)),
]


@pytest.mark.parametrize(
    ("base", "scenario", "models"), BY_COPY, ids=[scenario.__name__ for _, scenario, _ in BY_COPY]
)
def test_goes_by_copy_and_nothing_differs(
    twins: Twins, base: Any, scenario: Scenario, models: tuple[type[Any], ...]
) -> None:
    """Rows, objects and events are those of plain SQLAlchemy, and every new object went by COPY."""
    assert written(twins.compare(base, scenario)) == by_copy(*models)


def test_a_default_with_a_context_beside_rows_that_give_its_column(twins: Twins) -> None:
    """If rows give different columns, SQLAlchemy writes those with a default that takes a context,
    one statement after the other, because it may look at the rows before.
    """
    [(name, writer, reason)] = written(twins.compare(Base, defaults_of_python))
    assert (name, writer) == ("Defaulted", "orm")
    assert "takes a context" in str(reason)


def test_a_before_insert_listener_may_set_values(twins: Twins) -> None:
    """Values that before_insert sets are written, and a key set there stays."""

    def number(_mapper: Any, _connection: Any, target: Vertex) -> None:
        target.long_text = f"set for {target.name}"
        if target.name == "v3":
            target.key = 777

    def scenario(session: Session) -> Any:
        event.listen(Vertex, "before_insert", number)
        try:
            session.add_all([Vertex(start=Point(i, i), name=f"v{i}") for i in range(9)])
            session.flush()
        finally:
            event.remove(Vertex, "before_insert", number)
        return session.scalars(select(Vertex.long_text).order_by(Vertex.name)).all()

    outcome = twins.compare(Base, scenario, keys={"key"})
    assert written(outcome) == by_copy(Vertex)
    assert any(row.startswith("(777,") for row in outcome.rows["public.vertex"])
