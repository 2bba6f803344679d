"""Concrete classes, whose tables hold other rows of equal keys, and classes of no one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from fixtures.upsert_ways import way as way
from sqlalchemy import Column, Engine, ForeignKey, Integer, Table, Text, select, true
from sqlalchemy.ext.declarative import AbstractConcreteBase, ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column

from sqla_seqreserve import (
    bulk_delete,
    bulk_insert,
    bulk_sync,
    bulk_update,
    bulk_upsert,
    reserve_ids,
)
from sqla_seqreserve.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("way")


class Base(DeclarativeBase):
    pass


class Clerk(ConcreteBase, Base):
    __tablename__ = "clerk"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "clerk", "concrete": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Manager(Clerk):
    __tablename__ = "manager"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "manager", "concrete": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    level: Mapped[int | None]


class Tool(AbstractConcreteBase, Base):
    strict_attrs = True
    name: Mapped[str | None] = mapped_column()


class Saw(Tool):
    __tablename__ = "saw"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "saw", "concrete": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    teeth: Mapped[int | None]


book = Table("book", Base.metadata, Column("id", Integer, primary_key=True), Column("t", Text))
copy = Table(
    "copy",
    Base.metadata,
    Column("number", Integer, primary_key=True),
    Column("book_id", ForeignKey("book.id")),
)


class CopyOfBook(Base):
    __table__ = book.join(copy)
    id = column_property(book.c.id, copy.c.book_id)


class Titled(Base):
    __table__ = select(book).where(book.c.t != "").subquery("titled")
    __mapper_args__: ClassVar[Any] = {"primary_key": [__table__.c.id]}


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Clerk(id=n, name=f"c{n}") for n in (1, 2)])
        session.add_all([Manager(id=n, name=f"m{n}") for n in (1, 3)])
        session.flush()
        yield session


def names(session: Session) -> tuple[list[str | None], list[str | None]]:
    clerks, managers = Clerk.__table__, Manager.__table__
    return (
        list(session.scalars(select(clerks.c.name).order_by(clerks.c.id))),
        list(session.scalars(select(managers.c.name).order_by(managers.c.id))),
    )


def test_a_delete_leaves_rows_of_concrete_subclasses(session: Session) -> None:
    """bulk_delete deletes from the table of a concrete class alone, as SQLAlchemy deletes an object
    of it; rows of a subclass's table with the same keys stay, and so do their objects.
    """
    manager = session.get_one(Manager, 1)
    assert bulk_delete(session, Clerk, [1, 3]) == 1
    found = names(session)
    assert found == (["c2"], ["m1", "m3"])
    assert manager in session
    session.rollback()
    session.add_all([Clerk(id=n, name=f"c{n}") for n in (1, 2)])
    session.add_all([Manager(id=n, name=f"m{n}") for n in (1, 3)])
    session.flush()
    for clerk in session.scalars(select(Clerk)):
        if type(clerk) is Clerk and clerk.id in (1, 3):
            session.delete(clerk)
    session.flush()
    assert names(session) == found


def test_rows_of_a_concrete_class_come_back_as_its_objects(session: Session) -> None:
    """The objects that are returned are of the class, also where a subclass has a row of the same
    key, and rows of that one do not change.
    """
    rows = [{"id": n, "name": f"u{n}"} for n in (1, 3)]
    [clerk, missing] = bulk_update(session, Clerk, rows, returning="objects").objects
    assert (type(clerk), clerk and clerk.name, missing) == (Clerk, "u1", None)
    upserted = bulk_upsert(session, Clerk, rows, conflict="id", returning="objects").objects
    assert [(type(item), item.name) for item in upserted] == [(Clerk, "u1"), (Clerk, "u3")]
    [manager] = bulk_update(session, Manager, [{"id": 1, "level": 5}], returning="objects").objects
    assert (type(manager), manager and manager.name) == (Manager, "m1")
    done = bulk_sync(session, Clerk, [{"id": 1, "name": "s1"}], key="id", scope=true())
    assert (done.updated, done.deleted) == (1, 2)
    assert clerk is not None
    assert clerk.name == "s1"
    assert names(session) == (["s1"], ["m1", "m3"])


def test_classes_below_an_abstract_concrete_base(session: Session) -> None:
    """All functions work with a class whose base is mapped to the union of its classes' tables."""
    [saw] = bulk_insert(session, Saw, [{"name": "a", "teeth": 1}], returning="objects")
    done = bulk_update(session, Saw, [{"id": saw.id, "teeth": 2}], returning="objects")
    assert (done.objects, saw.teeth) == ([saw], 2)
    rows = [{"id": saw.id, "teeth": 3}]
    assert bulk_upsert(session, Saw, rows, conflict="id", returning="objects").objects == [saw]
    assert bulk_sync(session, Saw, rows, key="id", scope=true()).unchanged == 1
    assert bulk_delete(session, Saw, [saw.id]) == 1
    assert saw not in session
    assert len(reserve_ids(session, Saw, 2)) == 2


CALLS: dict[str, Callable[[Session, Any], object]] = {
    "update": lambda session, model: bulk_update(session, model, [{"id": 1, "number": 1}]),
    "delete": lambda session, model: bulk_delete(session, model, [(1, 1)]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Tool, "Tool is mapped to a query"),
        (Titled, "Titled is mapped to a query"),
        (CopyOfBook, r"CopyOfBook is mapped to a join of tables \(book, copy\) that do not share"),
    ],
)
def test_classes_of_no_one_table(
    session: Session, call: Callable[[Session, Any], object], model: Any, why: str
) -> None:
    """A class that is mapped to a query, or to a join of tables with keys of their own, is refused
    and the error says why.
    """
    with pytest.raises(ConfigurationError, match=why):
        call(session, model)
