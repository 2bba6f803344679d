"""Many changed and deleted objects in unusual sessions, which listen, roll back, switch keys or use
objects of others: rows and objects end up as with plain SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.kept import kept
from fixtures.places import EVERY
from fixtures.sides import Side, Way, both, told_and_left
from sqlalchemy import ForeignKey, Text, event, func, inspect, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient,
    make_transient_to_detached,
    mapped_column,
    relationship,
)

COUNT = 60
"""More objects than are left to SQLAlchemy's own steps."""


class Base(DeclarativeBase):
    pass


class Owner(Base):
    """Others refer to it by a key that changes."""

    __tablename__ = "owner"
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[int | None]
    things: Mapped[list[Owned]] = relationship(back_populates="owner", order_by="Owned.id")


class Owned(Base):
    __tablename__ = "owned"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_name: Mapped[str | None] = mapped_column(ForeignKey("owner.name", onupdate="CASCADE"))
    value: Mapped[int | None]
    owner: Mapped[Owner | None] = relationship(back_populates="things")


TABLES = ("owner", "owned")

Act = Callable[[Session], Any]


def owners(session: Session) -> list[Owner]:
    session.add_all(
        Owner(name=f"n{i:02}", value=i, things=[Owned(id=i, value=i)]) for i in range(1, COUNT + 1)
    )
    session.commit()
    return list(session.scalars(select(Owner).order_by(Owner.name)))


def other_names(session: Session) -> Any:
    found = owners(session)
    things = [owner.things[0] for owner in found]
    for owner, thing in zip(found, things, strict=True):
        owner.value = 0
        thing.value = 0
    for owner in found[:7]:
        owner.name = owner.name.upper()
    session.flush()
    return kept(things), [owner.name for owner in found]


def undone_names(session: Session) -> Any:
    found = owners(session)
    for owner in found:
        owner.value = 1
    session.flush()
    nested = session.begin_nested()
    for owner in found:
        owner.value = 2
    found[3].name = "other"
    session.flush()
    nested.rollback()
    first = kept(found)
    session.commit()
    return first, [(owner.name, owner.value) for owner in found]


def swapped(session: Session) -> Any:
    """One key is freed by a DELETE of the same flush, another by the UPDATE of another."""
    found = owners(session)
    for owner in found:
        owner.value = 2
        session.delete(owner.things[0])
    session.flush()
    for owner in found:
        owner.value = 3
    session.delete(found[5])
    again = Owner(name=found[5].name, value=99)
    session.add(again)
    session.flush()
    return kept([*found, again]), [key[1] for key in sorted(session.identity_map.keys(), key=str)]


def listening(name: str, listen: Callable[[Session, Any], object]) -> Act:
    """Objects are changed while a listener of the mapper does something to each."""

    def act(session: Session) -> Any:
        found = owners(session)

        def hear(mapper: Any, connection: Any, owner: Owner) -> None:
            listen(session, owner)

        event.listen(Owner, name, hear)
        try:
            for owner in found:
                owner.value = -5
            session.flush()
            first = kept(found)
            for owner in found:
                session.delete(owner)
            session.flush()
        finally:
            event.remove(Owner, name, hear)
        return first, kept(found)

    return act


def session_listening(name: str) -> Act:
    def act(session: Session) -> Any:
        found, heard = owners(session), []

        def hear(session: Session, owner: Any) -> None:
            heard.append((type(owner).__name__, inspect(owner).identity))
            found[0].value = 1000

        event.listen(session, name, hear)
        for owner in found:
            owner.value = -5
        for owner in found[55:]:
            for thing in list(owner.things):
                session.delete(thing)
            session.delete(owner)
        session.add_all(Owner(name=f"new{i}") for i in range(3))
        session.flush()
        return kept(found), sorted(heard)

    return act


def tokens(load: bool) -> Act:
    """Objects that were loaded with an identity token, and copied without it."""

    def act(session: Session) -> Any:
        owners(session)
        session.expunge_all()
        query = select(Owner).order_by(Owner.name).execution_options(identity_token="west")
        loaded = session.scalars(query).all()
        session.expunge_all()
        found = [session.merge(owner, load=load) for owner in loaded]
        for owner in found:
            owner.value = 8
        session.flush()
        keys = sorted(map(str, session.identity_map.keys()))
        session.rollback()
        return keys, sorted(map(str, session.identity_map.keys()))

    return act


def detached_again(session: Session) -> Any:
    found = owners(session)
    session.expunge_all()
    for owner in found:
        make_transient(owner)
        make_transient_to_detached(owner)
    session.add_all(found)
    for owner in found:
        owner.value = 12
    session.flush()
    return kept(found)


def expressions(session: Session) -> Any:
    found = owners(session)
    for number, owner in enumerate(found):
        owner.value = func.abs(-number) if number % 7 == 0 else number  # type: ignore[assignment]  # what is tried
    session.flush()
    return kept(found)


ACTS: dict[str, Callable[[Session], Any]] = {
    "keys that cascade": other_names,
    "a savepoint undone": undone_names,
    "a row switch": swapped,
    "expired before": listening("before_update", lambda session, owner: session.expire(owner)),
    "value expired before": listening(
        "before_update", lambda session, owner: session.expire(owner, ["value"])
    ),
    "set before": listening("before_update", lambda _, owner: setattr(owner, "value", 4)),
    "renamed before": listening(
        "before_update", lambda _, owner: setattr(owner, "name", owner.name + "x")
    ),
    "expired after": listening("after_update", lambda session, owner: session.expire(owner)),
    "set after": listening("after_update", lambda _, owner: setattr(owner, "value", 4)),
    "expired before a DELETE": listening(
        "before_delete", lambda session, owner: session.expire(owner)
    ),
    "set before a DELETE": listening(
        "before_delete", lambda _, owner: setattr(owner, "name", "other")
    ),
    "set after a DELETE": listening("after_delete", lambda _, owner: setattr(owner, "value", 3)),
    "told of the deleted": session_listening("persistent_to_deleted"),
    "told of the new": session_listening("pending_to_persistent"),
    "copied with a token": tokens(False),
    "copied and loaded with a token": tokens(True),
    "detached by hand": detached_again,
    "expressions": expressions,
}


@EVERY
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    "way", [Way("by cost"), Way("from one row", {"copy_min_rows": 1})], ids=str
)
def test_unusual_sessions(twin_urls: tuple[str, str], driver: str, act: str, way: Way) -> None:
    """In unusual sessions the rows, objects, keys, errors and warnings are SQLAlchemy's."""

    def trial(side: Side) -> Any:
        return told_and_left(side, ACTS[act], TABLES)

    both(twin_urls, Base, trial, way=way, driver=driver)
