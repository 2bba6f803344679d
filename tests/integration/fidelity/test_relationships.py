"""Relationships in every direction, by COPY compared with plain SQLAlchemy."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.twins import Scenario, Twins, by_copy, written
from sqlalchemy import Column, ForeignKey, Table, event, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    backref,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.collections import attribute_keyed_dict


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    favourite_id: Mapped[int | None] = mapped_column(
        ForeignKey("child.id", name="favourite", use_alter=True)
    )
    children: Mapped[list[Child]] = relationship(
        back_populates="parent",
        cascade="all, delete-orphan",
        foreign_keys="Child.parent_id",
        order_by="Child.id",
    )
    favourite: Mapped[Child | None] = relationship(foreign_keys=favourite_id, post_update=True)
    tags: Mapped[set[Tag]] = relationship(secondary=lambda: parent_tag, back_populates="parents")
    links: Mapped[list[Link]] = relationship(back_populates="parent", cascade="all, delete-orphan")
    passport: Mapped[Passport | None] = relationship(back_populates="parent", uselist=False)
    notes: Mapped[dict[str, Note]] = relationship(
        collection_class=attribute_keyed_dict("word"), cascade="all, delete-orphan"
    )


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id"))
    parent: Mapped[Parent | None] = relationship(back_populates="children", foreign_keys=parent_id)


parent_tag = Table(
    "parent_tag",
    Base.metadata,
    Column("parent_id", ForeignKey("parent.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]
    parents: Mapped[list[Parent]] = relationship(secondary=parent_tag, back_populates="tags")


class Link(Base):
    """An association object."""

    __tablename__ = "link"
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"), primary_key=True)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"), primary_key=True)
    weight: Mapped[int] = mapped_column(default=1)
    parent: Mapped[Parent] = relationship(back_populates="links")
    tag: Mapped[Tag] = relationship()


class Passport(Base):
    __tablename__ = "passport"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"), unique=True)
    parent: Mapped[Parent] = relationship(back_populates="passport")


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))
    word: Mapped[str]


class Node(Base):
    """A class whose rows form a tree."""

    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    up_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    down: Mapped[list[Node]] = relationship(
        backref=backref("up", remote_side="Node.id"),
        cascade="all, delete-orphan",
        order_by="Node.id",
    )


class Ring(Base):
    """One of two classes that refer to each other, so that the graph has a cycle."""

    __tablename__ = "ring"
    id: Mapped[int] = mapped_column(primary_key=True)
    gem_id: Mapped[int | None] = mapped_column(
        ForeignKey("gem.id", name="ring_gem", use_alter=True)
    )
    gem: Mapped[Gem | None] = relationship(foreign_keys=gem_id)


class Gem(Base):
    __tablename__ = "gem"
    id: Mapped[int] = mapped_column(primary_key=True)
    ring_id: Mapped[int | None] = mapped_column(ForeignKey("ring.id"))
    ring: Mapped[Ring | None] = relationship(foreign_keys=ring_id)


def children_through_their_parents(session: Session) -> None:
    session.add_all(
        [
            Parent(name=f"p{i}", children=[Child(name=f"c{i}.{k}") for k in range(3)])
            for i in range(10)
        ]
    )
    session.flush()


def parents_through_their_children(session: Session) -> None:
    parents = [Parent(name=f"p{i}") for i in range(3)]
    session.add_all([Child(name=f"c{i}", parent=parents[i % 3]) for i in range(12)])
    session.flush()


def children_of_persistent_parents(session: Session) -> None:
    parents = [Parent(name=f"p{i}") for i in range(3)]
    session.add_all(parents)
    session.commit()
    for parent in parents:
        parent.children.extend(Child(name=f"{parent.name}.{k}") for k in range(3))
    session.flush()


def children_by_key_alone(session: Session) -> None:
    parent = Parent(name="p")
    session.add(parent)
    session.flush()
    children = [Child(name=f"c{k}", parent_id=parent.id) for k in range(9)]
    session.add_all(children)
    session.flush()
    session.commit()
    assert [child.name for child in parent.children] == [f"c{k}" for k in range(9)]


def many_to_many(session: Session) -> None:
    tags = [Tag(word=f"w{i}") for i in range(5)]
    session.add_all(tags)
    for i in range(10):
        session.add(Parent(name=f"p{i}", tags={tags[i % 5], tags[(i + 1) % 5]}))
    session.flush()


def association_objects(session: Session) -> None:
    tags = [Tag(word=f"w{i}") for i in range(4)]
    for i in range(10):
        session.add(
            Parent(
                name=f"p{i}",
                links=[Link(tag=tags[i % 4], weight=i), Link(tag=tags[(i + 1) % 4])],
            )
        )
    session.flush()


def one_to_one_and_keyed_collections(session: Session) -> None:
    for i in range(9):
        parent = Parent(name=f"p{i}", passport=Passport())
        parent.notes = {word: Note(word=word) for word in ("a", "b")}
        session.add(parent)
    session.flush()


def post_update(session: Session) -> None:
    for i in range(10):
        parent = Parent(name=f"p{i}", children=[Child(name="a"), Child(name="b")])
        parent.favourite = parent.children[1]
        session.add(parent)
    session.flush()


def nodes(session: Session) -> Any:
    """Each node's name with the name of the node above it."""
    up = aliased(Node)
    return [
        tuple(row)
        for row in session.execute(
            select(Node.name, up.name).outerjoin(up, Node.up_id == up.id).order_by(Node.name)
        )
    ]


def tree(session: Session) -> Any:
    def grow(name: str, depth: int) -> Node:
        below = [grow(f"{name}.{k}", depth - 1) for k in range(3)] if depth else []
        return Node(name=name, down=below)

    session.add(grow("root", 3))
    session.flush()
    return nodes(session)


def tree_from_the_leaves(session: Session) -> Any:
    leaves = [Node(name=f"leaf{i}", up=Node(name=f"twig{i}", up=None)) for i in range(9)]
    root = Node(name="root")
    for leaf in leaves:
        leaf.up.up = root
    session.add_all(leaves)
    session.flush()
    return nodes(session)


def chain_of_300(session: Session) -> Any:
    below = None
    for i in range(300):
        node = Node(name=f"n{i}")
        if below is not None:
            node.down.append(below)
        below = node
    session.add(below)
    session.flush()
    return nodes(session)


def cycle_of_classes(session: Session) -> None:
    rings = [Ring(gem=Gem()) for _ in range(6)]
    session.add_all([*rings, *(Gem(ring=ring) for ring in rings)])
    session.flush()


def delete_orphans(session: Session) -> None:
    parents = [Parent(name=f"p{i}", children=[Child(name="a"), Child(name="b")]) for i in range(5)]
    session.add_all(parents)
    lost = parents[0].children.pop()
    session.flush()
    assert lost not in session
    for parent in parents[1:]:
        parent.children[0] = Child(name="new")
    parents[0].children.clear()
    session.flush()
    assert all(len(parent.children) == 2 for parent in parents[1:])


def moves_between_parents(session: Session) -> None:
    one, other = Parent(name="one"), Parent(name="other")
    one.children = [Child(name=f"c{k}") for k in range(4)]
    session.add_all([one, other])
    session.flush()
    other.children = [*one.children, Child(name="new")]
    session.flush()


def merges(session: Session) -> None:
    session.add_all([Parent(name=f"p{i}", children=[Child(name="c")]) for i in range(3)])
    session.commit()
    keys = session.scalars(select(Parent.id).order_by(Parent.id)).all()
    for key in keys:
        session.merge(Parent(id=key, name=f"merged {key}", children=[Child(name="another")]))
    for i in range(5):
        session.merge(Parent(name=f"new {i}", children=[Child(name="x"), Child(name="y")]))
    session.flush()


def deletes_and_adds_together(session: Session) -> None:
    parents = [Parent(name=f"p{i}", children=[Child(name="c")]) for i in range(4)]
    session.add_all(parents)
    session.commit()
    session.delete(parents[0])
    parents[1].name = "changed"
    session.add_all([Parent(name=f"q{i}", children=[Child(name="d")]) for i in range(4)])
    session.flush()


def row_switch(session: Session) -> None:
    session.add_all([Tag(id=key, word=f"w{key}") for key in (100, 101, 102)])
    session.commit()
    for tag in session.scalars(select(Tag).order_by(Tag.id)).all():
        session.delete(tag)
    session.add_all([Tag(id=key, word=f"again{key}") for key in (100, 101, 103)])
    session.flush()


def savepoints(session: Session) -> None:
    session.add_all([Parent(name=f"p{i}") for i in range(3)])
    with session.begin_nested() as savepoint:
        session.add_all([Parent(name=f"q{i}", children=[Child(name="c")]) for i in range(3)])
        session.flush()
        savepoint.rollback()
    with session.begin_nested():
        session.add_all([Parent(name=f"r{i}", children=[Child(name="c")]) for i in range(3)])


BY_COPY: list[tuple[Scenario, tuple[type[Any], ...]]] = [
    (children_through_their_parents, (Parent, Child)),
    (parents_through_their_children, (Parent, Child)),
    (children_of_persistent_parents, (Parent, Child)),
    (children_by_key_alone, (Parent, Child)),
    (many_to_many, (Parent, Tag)),
    (association_objects, (Parent, Tag, Link)),
    (one_to_one_and_keyed_collections, (Parent, Passport, Note)),
    (post_update, (Parent, Child)),
    (cycle_of_classes, (Ring, Gem)),
    (delete_orphans, (Parent, Child)),
    (moves_between_parents, (Parent, Child)),
    (merges, (Parent, Child)),
    (deletes_and_adds_together, (Parent, Child)),
    (row_switch, (Tag,)),
    (savepoints, (Parent, Child)),
]


@pytest.mark.parametrize(
    ("scenario", "models"), BY_COPY, ids=[scenario.__name__ for scenario, _ in BY_COPY]
)
def test_goes_by_copy_and_nothing_differs(
    twins: Twins, scenario: Scenario, models: tuple[type[Any], ...]
) -> None:
    """Rows, objects and events are those of plain SQLAlchemy, and every new object went by COPY."""
    assert written(twins.compare(Base, scenario)) == by_copy(*models)


@pytest.mark.parametrize("scenario", [tree, tree_from_the_leaves, chain_of_300])
def test_rows_that_refer_to_rows_of_their_own_table(twins: Twins, scenario: Scenario) -> None:
    """A tree or chain goes by COPY with the rows and ids of plain SQLAlchemy."""
    assert written(twins.compare(Base, scenario)) == by_copy(Node)


def test_objects_added_while_the_flush_begins_are_written_too(twins: Twins) -> None:
    """Objects that a before_flush listener adds get keys and are written by COPY like the
    others.
    """

    def scenario(session: Session) -> None:
        def add_children(session: Session, _context: Any, _instances: Any) -> None:
            for parent in [item for item in session.new if isinstance(item, Parent)]:
                parent.children.append(Child(name="from the listener"))

        event.listen(session, "before_flush", add_children)
        session.add_all([Parent(name=f"p{i}") for i in range(3)])
        session.flush()
        event.remove(session, "before_flush", add_children)

    assert written(twins.compare(Base, scenario)) == by_copy(Parent, Child)
