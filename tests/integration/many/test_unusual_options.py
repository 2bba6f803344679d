"""Many changed and deleted objects of mappers with unusual options: rows and objects end up as with
plain SQLAlchemy.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.kept import kept
from fixtures.places import EVERY
from fixtures.sides import Side, Way, both, told_and_left
from sqlalchemy import Column, FetchedValue, ForeignKey, Table, event, select, text
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    validates,
)

COUNT = 60
"""More objects than are left to SQLAlchemy's own steps."""


class Base(DeclarativeBase):
    pass


class Counted(Base):
    """The application counts the versions itself."""

    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(default=1)
    value: Mapped[int | None]
    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}


class Stamped(Base):
    """The server counts the versions."""

    __tablename__ = "stamped"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(server_default="1", server_onupdate=FetchedValue())
    value: Mapped[int | None]
    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}


class Shape(Base):
    """Each class has a table of its own."""

    __tablename__ = "shape"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int | None]


class Circle(Shape):
    __tablename__ = "circle"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int | None]
    radius: Mapped[int | None]
    __mapper_args__ = {"concrete": True}


LINKS = Table(
    "link",
    Base.metadata,
    Column("node_id", ForeignKey("node.id"), primary_key=True),
    Column("other_id", ForeignKey("node.id"), primary_key=True),
)


class Node(Base):
    """A tree whose deletions the server cascades, with links across."""

    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id", ondelete="CASCADE"))
    favourite_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    _value: Mapped[int | None] = mapped_column("value")
    children: Mapped[list[Node]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, foreign_keys=parent_id
    )
    favourite: Mapped[Node | None] = relationship(
        remote_side=id, foreign_keys=favourite_id, post_update=True
    )
    others: Mapped[list[Node]] = relationship(
        secondary=LINKS,
        primaryjoin=id == LINKS.c.node_id,
        secondaryjoin=id == LINKS.c.other_id,
        order_by=id,
    )
    other_ids: AssociationProxy[list[int]] = association_proxy("others", "id")

    @hybrid_property
    def value(self) -> int | None:
        return self._value

    @value.inplace.setter
    def _set_value(self, value: int | None) -> None:
        self._value = value

    @validates("_value")
    def _doubled(self, key: str, value: int | None) -> int | None:
        return value and value * 2


class Part(Base):
    """A part of the key may be NULL, and the matched rows are not checked."""

    __tablename__ = "part"
    a: Mapped[int] = mapped_column(primary_key=True)
    b: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int | None]
    __mapper_args__ = {"confirm_deleted_rows": False, "batch": False}


TABLES = ("counted", "stamped", "shape", "circle", "node", "link", "part")

DDL = (
    "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN NEW.version := OLD.version + 1; RETURN NEW; END'",
    "CREATE TRIGGER stamp BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp()",
)

Act = Callable[[Session], Any]


def made(session: Session, model: Any, **more: Callable[[int], Any]) -> list[Any]:
    numbers = range(1, COUNT + 1)
    key = "a" if model is Part else "id"
    session.add_all(
        model(**{key: i, "value": i, **{name: make(i) for name, make in more.items()}})
        for i in numbers
    )
    session.commit()
    return list(session.scalars(select(model).order_by(getattr(model, key))))


def versions(model: Any, *, gone: str = "") -> Act:
    def act(session: Session) -> Any:
        found = made(session, model)
        for each in found:
            each.value = -1
            if model is Counted and each.id % 2:
                each.version += 3
        session.flush()
        first = kept(found)
        for each in found:
            each.value = -2
        session.flush()
        if gone:
            session.execute(text(gone))
        for each in found[:55]:
            session.delete(each)
        session.flush()
        return first, kept(found)

    return act


def shapes(session: Session) -> Any:
    found = [*made(session, Circle, radius=int), *made(session, Shape)]
    for each in found:
        each.value = 0
    session.flush()
    first = kept(found)
    for each in found[::2]:
        session.delete(each)
    session.flush()
    return first, kept(found)


def tree(session: Session) -> Any:
    nodes = [Node(id=i, value=i) for i in range(1, COUNT + 1)]
    for number, node in enumerate(nodes[1:]):
        nodes[number // 4].children.append(node)
    session.add_all(nodes)
    session.commit()
    for number, node in enumerate(nodes):
        node.value = number
        node.favourite = nodes[-number]
        node.others = nodes[number // 2 : number // 2 + 2]
    session.flush()
    first = kept(nodes), [node.other_ids for node in nodes]
    session.commit()
    for node in nodes:
        node.value = None
        node.others = []
        node.favourite = None
    nodes[7].children.clear()
    session.flush()
    second = kept(nodes)
    for node in nodes[50:]:
        node.parent_id = 2
    session.delete(nodes[0])
    session.flush()
    return first, second, kept(nodes)


def parts(session: Session) -> Any:
    found = made(session, Part, b=int)
    for part in found:
        part.value = 1
        if part.a % 9 == 0:
            part.b = 100 + part.a
    session.flush()
    session.execute(text("DELETE FROM part WHERE a < 4"))
    for part in found:
        session.delete(part)
    session.flush()
    return kept(found)


def gone(change: Callable[[Session, Any], object]) -> Act:
    def act(session: Session) -> Any:
        found = made(session, Shape)
        session.execute(text("DELETE FROM shape WHERE id IN (7, 44)"))
        for shape in found:
            change(session, shape)
        session.flush()
        return kept(found)

    return act


def some_only(session: Session) -> Any:
    """Only some of the changed objects are flushed, some are expunged from the session, and the
    rest is not referenced.
    """
    found = made(session, Shape)
    for shape in found:
        shape.value = 9
    for shape in found[:3]:
        session.expunge(shape)
    del shape
    kept_on = found[3:40]
    del found
    gc.collect()
    session.flush()
    left = sorted(key[1] for key in session.identity_map.keys())  # noqa: SIM118  # no dict
    return kept(kept_on), len(left) >= len(kept_on)


def before_flush(session: Session) -> Any:
    found = made(session, Shape)

    def hear(session: Session, _context: Any, _instances: Any) -> None:
        for shape in list(session.dirty):
            if shape.id % 3 == 0:
                session.delete(shape)
            elif shape.id % 3 == 1:
                session.expire(shape)
        session.add(Shape(id=500, value=1))

    event.listen(session, "before_flush", hear, once=True)
    for shape in found:
        shape.value = 4
    session.flush()
    return kept(found)


def turned_back(session: Session) -> Any:
    """Objects are marked for deletion and added again; others are changed back."""
    found = made(session, Shape)
    for shape in found:
        shape.value = 4
        session.delete(shape)
    for shape in found[10:]:
        session.add(shape)
    for shape in found[20:]:
        shape.value = shape.id
    session.flush()
    first = kept(found)
    session.add_all(Shape(id=i, value=0) for i in range(1, 8))
    session.flush()
    session.rollback()
    return first, kept(found)


ACTS: dict[str, Act] = {
    "versions of the application's": versions(Counted),
    "versions of the server's": versions(Stamped),
    "a version that is gone": versions(Counted, gone="DELETE FROM counted WHERE id = 5"),
    "a version that another counted": versions(
        Stamped, gone="UPDATE stamped SET value = 5 WHERE id = 5"
    ),
    "tables of their own": shapes,
    "a tree": tree,
    "keys of two columns": parts,
    "changed and gone": gone(lambda _, shape: setattr(shape, "value", 0)),
    "deleted and gone": gone(lambda session, shape: session.delete(shape)),
    "some only": some_only,
    "before the flush": before_flush,
    "turned back": turned_back,
}


@EVERY
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    "way", [Way("by cost"), Way("from one row", {"copy_min_rows": 1})], ids=str
)
def test_unusual_options(twin_urls: tuple[str, str], driver: str, act: str, way: Way) -> None:
    """With unusual mapper options the rows, objects, errors and warnings are SQLAlchemy's."""

    def trial(side: Side) -> Any:
        return told_and_left(side, ACTS[act], TABLES)

    both(twin_urls, Base, trial, way=way, driver=driver, ddl=DDL)
