"""Graphs that refer to themselves: saved in few statements if their keys are known, with plain
SQLAlchemy's results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from sqlalchemy import BigInteger, Engine, ForeignKey, Identity, create_engine, select
from sqlalchemy.exc import CircularDependencyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import register
from sqla_seqreserve.testing import record_statements


class Base(DeclarativeBase):
    pass


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side=[id])
    children: Mapped[list[Node]] = relationship(back_populates="parent")


class Left(Base):
    __tablename__ = "left_side"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    right_id: Mapped[int | None] = mapped_column(
        ForeignKey("right_side.id", deferrable=True, initially="DEFERRED", use_alter=True)
    )
    right: Mapped[Right | None] = relationship(foreign_keys=[right_id])


class Right(Base):
    __tablename__ = "right_side"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    left_id: Mapped[int | None] = mapped_column(
        ForeignKey("left_side.id", deferrable=True, initially="DEFERRED")
    )
    left: Mapped[Left | None] = relationship(foreign_keys=[left_id])


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def chain(length: int) -> list[Node]:
    nodes = [Node(name=str(number)) for number in range(length)]
    for parent, child in pairwise(nodes):
        child.parent = parent
    return nodes


def writes(statements: list[str]) -> list[str]:
    return [sql.split()[0] for sql in statements if sql.startswith(("INSERT", "COPY", "UPDATE"))]


@pytest.mark.parametrize("settings", [{}, {"copy_min_rows": 1}, {"reserve": "always"}], ids=str)
@pytest.mark.parametrize("turned", [False, True], ids=["in order", "the wrong way round"])
def test_a_chain_is_one_statement(engine: Engine, settings: dict[str, int], turned: bool) -> None:
    """A chain of 300 objects is written by one statement, in any order of add()."""
    with Session(engine) as session:
        register(session, **settings)  # type: ignore[arg-type]  # a mapping of settings
        nodes = chain(300)
        with record_statements(engine) as statements:
            session.add_all(reversed(nodes) if turned else nodes)
            session.flush()
        assert len(writes([str(statement) for statement in statements])) == 1
        ids = [node.id for node in nodes]
        assert ids == sorted(ids)
        session.commit()
        parents = dict(map(tuple, session.execute(select(Node.name, Node.parent_id))))
    assert [parents[str(number)] for number in range(300)] == [None, *ids[:-1]]


def test_a_tree_is_numbered_as_in_plain(engine: Engine) -> None:
    """The ids of a tree follow its generations, and within one the order of add()."""

    def names(*, ours: bool) -> list[str]:
        with Session(engine) as session:
            if ours:
                register(session)
            root = Node(name="r")
            for number in range(5):
                child = Node(name=f"r{number}", parent=root)
                child.children = [Node(name=f"r{number}{below}") for below in range(3)]
            session.add(root)
            session.flush()
            found = list(session.scalars(select(Node.name).order_by(Node.id)))
            session.rollback()
        return found

    assert names(ours=True) == names(ours=False)


def test_an_object_that_is_its_own_ancestor_is_refused_as_in_plain(engine: Engine) -> None:
    """An object that is its own ancestor raises SQLAlchemy's exception, and nothing is written."""
    for ours in (False, True):
        with Session(engine) as session:
            if ours:
                register(session)
            first, second = Node(name="a"), Node(name="b")
            first.parent, second.parent = second, first
            session.add_all([first, second])
            with pytest.raises(CircularDependencyError):
                session.flush()
            session.rollback()
            assert session.scalars(select(Node)).all() == []


@pytest.mark.parametrize("is_stored", [False, True])
def test_the_refusal_of_a_circle_names_the_steps_as_plain_does(
    engine: Engine, *, is_stored: bool
) -> None:
    """If an object is in a circle, the error names SQLAlchemy's own steps, as in plain
    SQLAlchemy.
    """

    def steps(*, ours: bool) -> list[str]:
        with Session(engine) as session:
            if ours:
                register(session)
            node = Node(name="a")
            session.add(node)
            if is_stored:
                session.flush()
            node.parent = node
            with pytest.raises(CircularDependencyError) as refused:
                session.flush()
        return sorted(re.findall(r"\w+(?=\()", str(refused.value)))

    assert steps(ours=True) == steps(ours=False)


def test_a_tree_below_what_is_there(engine: Engine) -> None:
    """New objects below persistent ones, and persistent ones moved below new ones, are saved as in
    plain SQLAlchemy.
    """
    with Session(engine) as session:
        register(session)
        old = chain(3)
        session.add_all(old)
        session.commit()
        new = chain(20)
        new[0].parent = old[2]
        old[0].parent = Node(name="top")
        session.add_all(new)
        session.commit()
        top = session.scalars(select(Node).where(Node.name == "top")).one()
        assert old[0].parent_id == top.id
        assert new[0].parent_id == old[2].id
        assert [node.parent_id for node in new[1:]] == [node.id for node in new[:-1]]


def test_two_classes_that_point_at_each_other(engine: Engine) -> None:
    """Two classes that refer to each other take one statement per table if the foreign keys are
    deferred.
    """
    with Session(engine) as session:
        register(session)
        lefts = [Left() for _ in range(30)]
        rights = [Right(left=left) for left in lefts]
        for left, right in zip(lefts[1:], rights, strict=False):
            left.right = right
        with record_statements(engine) as statements:
            session.add_all([*lefts, *rights])
            session.flush()
        assert len(writes([str(statement) for statement in statements])) == 2
        session.commit()
        assert [right.left_id for right in rights] == [left.id for left in lefts]
        assert [left.right_id for left in lefts[1:]] == [right.id for right in rights[:-1]]
