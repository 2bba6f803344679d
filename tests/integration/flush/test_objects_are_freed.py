"""A flush keeps none of its objects: the session then holds those that plain SQLAlchemy's holds,
although the garbage collector has not run.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.places import EVERY
from fixtures.sides import Side, Way, both
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

COUNT = 4

WAYS = (
    Way("default settings"),
    Way("copy", {"copy_min_rows": 1}),
    Way("always", {"reserve": "always"}),
    Way("reserve", {"mode": "reserve"}),
)


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    things: Mapped[list[Thing]] = relationship(back_populates="owner", cascade="all")


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner | None] = relationship(back_populates="things")


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side=id)
    children: Mapped[list[Node]] = relationship(back_populates="parent")


@pytest.fixture(autouse=True)
def nothing_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def owners(session: Session) -> None:
    session.add_all(Owner(name=str(i), things=[Thing(), Thing()]) for i in range(COUNT))


def saved(session: Session) -> None:
    owners(session)
    session.commit()


def changed(session: Session) -> None:
    saved(session)
    for owner in session.scalars(select(Owner)).all():
        owner.name += "!"
        owner.things.pop()
    session.commit()


def deleted(session: Session) -> None:
    saved(session)
    for owner in session.scalars(select(Owner)).all():
        session.delete(owner)
    session.flush()
    session.rollback()


def in_a_savepoint(session: Session) -> None:
    with session.begin_nested():
        owners(session)
    session.commit()


def refused(session: Session) -> None:
    saved(session)
    with contextlib.suppress(DBAPIError):
        saved(session)
    session.rollback()


def tree(session: Session) -> None:
    session.add_all(Node(children=[Node(children=[Node()])]) for _ in range(COUNT))
    session.commit()


ACTS: dict[str, Callable[[Session], None]] = {
    act.__name__: act for act in (saved, changed, deleted, in_a_savepoint, refused, tree)
}


@EVERY
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("act", ACTS)
def test_objects_are_freed(twin_urls: tuple[str, str], driver: str, way: Way, act: str) -> None:
    """Objects that the application has let go leave the session when plain SQLAlchemy's do."""

    def held(session: Session) -> list[str]:
        ACTS[act](session)
        return sorted(type(each).__name__ for each in session.identity_map.values())

    def trial(side: Side) -> Any:
        return side.run(held)

    both(twin_urls, Base, trial, way=way, driver=driver)
