"""The order in which a save locks several tables is that of its INSERTs, and not that of their
names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.patience import wait_until
from fixtures.sides import WAYS, Side, Way, both, refusal
from sqlalchemy import ForeignKey, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import reserve_ids

FEW, COPY, ALWAYS = WAYS[1], WAYS[3], Way("always", {"reserve": "always"}, rows=3)


class Base(DeclarativeBase):
    pass


class Parent(Base):
    """Its table comes after the children's by name."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    children: Mapped[list[Child]] = relationship()


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))


class Vehicle(Base):
    """Joined inheritance; the subclass's table comes first by name."""

    __tablename__ = "vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Car(Vehicle):
    __tablename__ = "car"
    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    seats: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "car"}


def save_related(session: Session, side: Side) -> None:
    session.add_all(Parent(name="p", children=[Child()]) for _ in range(side.way.rows))


def save_joined(session: Session, side: Side) -> None:
    session.add_all(Car(name="c", seats=i) for i in range(side.way.rows))


def write_joined(session: Session, side: Side) -> None:
    side.write(session, Car, [{"name": "c", "seats": i} for i in range(side.way.rows)])


def reserve_several(session: Session, side: Side) -> None:
    if side.registered:
        reserve_ids(session, {Child: 2, Parent: 2})
    save_related(session, side)


def wait_until_blocked(side: Side) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    wait_until(lambda: side.rows(waiting) != [(0,)], "somebody waits for a lock")


def migrated(side: Side, first: str, second: str, saving: Callable[[Session, Side], None]) -> Any:
    """The results of a migration that alters two tables, and of a save that begins between
    the two.
    """
    saved: list[Any] = []

    def run() -> None:
        def save(session: Session) -> None:
            saving(session, side)
            session.commit()

        try:
            side.run(save)
            saved.append("saved")
        except SQLAlchemyError as error:
            saved.append(refusal(error))

    run()
    with side.beside() as altering:
        altering.execute(text(f"ALTER TABLE {first} ADD more int"))
        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until_blocked(side)
            altering.execute(text("SET LOCAL deadlock_timeout = '100ms'"))
            altering.execute(text(f"ALTER TABLE {second} ADD more int"))
            altering.commit()
            altered: Any = "altered"
        except DBAPIError as error:
            altering.rollback()
            altered = refusal(error)
        thread.join()
    return altered, saved


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("way", [FEW, COPY, ALWAYS], ids=str)
@pytest.mark.parametrize(
    ("first", "second", "saving"),
    [
        ("person", "child", save_related),
        ("vehicle", "car", save_joined),
        ("vehicle", "car", write_joined),
        ("person", "child", reserve_several),
    ],
)
def test_a_migration_that_alters_parents_first(
    twin_urls: tuple[str, str],
    first: str,
    second: str,
    saving: Callable[[Session, Side], None],
    way: Way,
    driver: str,
) -> None:
    """A migration that alters the parents' table and then the children's does not deadlock with a
    save.
    """

    def trial(side: Side) -> Any:
        return migrated(side, first, second, saving)

    assert both(twin_urls, Base, trial, way=way, driver=driver) == ("altered", ["saved"] * 2)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("way", [FEW, COPY, ALWAYS], ids=str)
def test_a_migration_of_the_children_alone(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """A migration that alters the children's table and another one does not deadlock with a
    save.
    """

    def trial(side: Side) -> Any:
        return migrated(side, "child", "vehicle", save_related)

    assert both(twin_urls, Base, trial, way=way, driver=driver) == ("altered", ["saved"] * 2)
