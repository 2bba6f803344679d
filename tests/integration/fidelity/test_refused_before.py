"""Errors that occur after an INSERT was prepared and before it is sent: a refusal of that INSERT
comes first.
"""

from __future__ import annotations

from typing import Any, ClassVar, Never

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from sqlalchemy import CheckConstraint, ForeignKey, Identity
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

WAYS = (
    Way("default"),
    Way("copy", {"copy_min_rows": 1}),
    Way("always", {"reserve": "always"}),
    Way("reserve", {"mode": "reserve"}),
    Way("prefetch", {"prefetch": 5, "copy_min_rows": 5}),
)


class Base(DeclarativeBase):
    pass


class Node(Base):
    __tablename__ = "node"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "node"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    size: Mapped[int] = mapped_column(CheckConstraint("size > 0"), default=1)
    above_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    below: Mapped[list[Node]] = relationship(back_populates="above")
    above: Mapped[Node | None] = relationship(back_populates="below", remote_side="Node.id")


class Leaf(Node):
    __tablename__ = "leaf"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "leaf"}
    id: Mapped[int] = mapped_column(ForeignKey("node.id"), primary_key=True)


class Loud(Base):
    """A class with a default that raises an error."""

    __tablename__ = "loud"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("node.id"))
    node: Mapped[Node] = relationship()

    @staticmethod
    def _shout() -> Never:
        raise RuntimeError("no default")

    shout: Mapped[int] = mapped_column(default=_shout)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("size", [1, -1], ids=["good", "refused"])
def test_an_object_that_is_its_own_parent(
    twin_urls: tuple[str, str], way: Way, driver: str, size: int
) -> None:
    """If an object is its own parent, the flush fails after the objects outside of this circle were
    written, or earlier if one of them is refused.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            own = Leaf()
            session.add(own)
            session.flush()
            own.above = own
            others = [Node(size=size), Leaf()]
            session.add_all(others)
            with pytest.raises(SQLAlchemyError) as error:
                session.flush()
            session.rollback()
            return refusal(error.value)

        return side.run(save)

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("model", [Node, Leaf])
def test_what_a_circle_leaves(
    twin_urls: tuple[str, str], way: Way, driver: str, model: type[Any]
) -> None:
    """If a circle fails the flush, children outside of it have the key of their parent, which was
    written.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            own = model()
            session.add(own)
            session.flush()
            own.above = own
            parent = model()
            children = [model(above=parent) for _ in range(3)]
            session.add_all([*children, parent])
            with pytest.raises(SQLAlchemyError) as error:
                session.flush()
            session.rollback()
            key = vars(parent).get("id")
            left = [vars(child).get("above_id") for child in children]
            return refusal(error.value), key is not None, [one == key for one in left]

        return side.run(save)

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("size", [1, -1], ids=["good", "refused"])
def test_a_default_that_raises(
    twin_urls: tuple[str, str], way: Way, driver: str, size: int
) -> None:
    """If a default of a later class raises an error, the rows of an earlier class are written
    first, and a refusal of them comes first.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            session.add(Loud(node=Node(size=size)))
            with pytest.raises((SQLAlchemyError, RuntimeError)) as error:
                session.flush()
            session.rollback()
            return refusal(error.value)

        return side.run(save)

    both(twin_urls, Base, trial, way=way, driver=driver)
