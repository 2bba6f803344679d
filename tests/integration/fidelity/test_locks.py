"""Locks are taken in the order in which DDL takes them, so that a save deadlocks with no DDL with
which plain SQLAlchemy's does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.patience import wait_until
from fixtures.sides import WAYS, Side, Way, both, refusal
from sqlalchemy import ForeignKey, Identity, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

FEW, COPY, MAPPINGS = WAYS[1], WAYS[3], WAYS[6]


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str | None]


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Child(Base):
    """Its table comes before the parent's by name, and is written after it."""

    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))


DDL_ON = {
    "truncate": "TRUNCATE {table} RESTART IDENTITY",
    "drop": "DROP TABLE {table}",
    "type of the key": "ALTER TABLE {table} ALTER id TYPE bigint",
    "increment": "ALTER TABLE {table} ALTER id SET INCREMENT 5",
    "owner": "ALTER TABLE {table} OWNER TO CURRENT_USER",
    "schema": "ALTER TABLE {table} SET SCHEMA aside",
}


def wait_until_blocked(side: Side) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    wait_until(lambda: side.rows(waiting) != [(0,)], "somebody waits for a lock")


def in_a_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except SQLAlchemyError as error:
            outcome.append(refusal(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def save(side: Side, model: type[Any]) -> Any:
    def saving(session: Session) -> Any:
        keys = side.write(session, model, [{"name": f"n{i}"} for i in range(side.way.rows)])
        session.commit()
        return len(keys)

    return side.run(saving)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
@pytest.mark.parametrize(
    ("model", "ddl"),
    [*((Item, ddl) for ddl in DDL_ON), (Always, "truncate"), (Always, "increment")],
)
def test_ddl_that_locks_a_table_and_its_sequence(
    twin_urls: tuple[str, str], model: type[Any], ddl: str, way: Way, warm: bool
) -> None:
    """A save that meets DDL between the locks of table and sequence waits for the table, and holds
    no lock yet.
    """
    table = model.__tablename__

    def trial(side: Side) -> Any:
        if warm:
            save(side, model)
        with side.beside() as altering:
            # The first lock of the DDL, held until the save waits behind it.
            altering.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            thread, saved = in_a_thread(lambda: save(side, model))
            try:
                wait_until_blocked(side)
                altering.execute(text("SET LOCAL deadlock_timeout = '100ms'"))
                altering.execute(text(DDL_ON[ddl].format(table=table)))
                altering.commit()
                altered = "altered"
            except DBAPIError as error:
                altering.rollback()
                altered = str(refusal(error))
            thread.join()
        return altered, saved

    both(twin_urls, Base, trial, way=way, ddl=["CREATE SCHEMA aside"])


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("way", [FEW, COPY], ids=str)
def test_tables_of_one_flush_are_locked_as_ddl_locks_them(
    twin_urls: tuple[str, str], way: Way, warm: bool
) -> None:
    """A migration that locks parents before children, as INSERTs do, does not deadlock with a
    flush.
    """

    def trial(side: Side) -> Any:
        def saving(session: Session) -> Any:
            parents = [Parent(id=None, name=f"p{i}") for i in range(side.way.rows)]
            session.add_all(parents)
            session.flush()
            session.add_all([Child(parent_id=parent.id) for parent in parents])
            session.add_all([Parent(name="more"), *(Item(name="i") for _ in parents)])
            session.commit()
            return "saved"

        if warm:
            side.run(saving)
        with side.beside() as altering:
            altering.execute(text("LOCK TABLE parent IN ACCESS EXCLUSIVE MODE"))
            thread, saved = in_a_thread(lambda: side.run(saving))
            try:
                wait_until_blocked(side)
                altering.execute(text("SET LOCAL deadlock_timeout = '100ms'"))
                altering.execute(text("LOCK TABLE child IN ACCESS EXCLUSIVE MODE"))
                altering.execute(text("TRUNCATE parent, child RESTART IDENTITY"))
                altering.commit()
                altered = "altered"
            except DBAPIError as error:
                altering.rollback()
                altered = str(refusal(error))
            thread.join()
        return altered, saved

    both(twin_urls, Base, trial, way=way)


@pytest.mark.parametrize("way", [FEW, COPY, MAPPINGS], ids=str)
def test_the_table_is_locked_as_insert_locks_it(twin_urls: tuple[str, str], way: Way) -> None:
    """A save holds the locks on tables that INSERT holds, and no others."""

    def trial(side: Side) -> Any:
        save(side, Item)

        def holding(session: Session) -> Any:
            side.write(session, Item, [{"name": f"n{i}"} for i in range(side.way.rows)])
            locks = session.execute(
                text(
                    "SELECT DISTINCT l.relation::regclass::text, l.mode FROM pg_locks l"
                    " JOIN pg_class c ON c.oid = l.relation WHERE l.pid = pg_backend_pid()"
                    " AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY 1, 2"
                )
            ).all()
            # Only some ways of writing take the lock for reading what RETURNING returns.
            return [tuple(lock) for lock in locks if lock.mode != "AccessShareLock"]

        return side.run(holding)

    both(twin_urls, Base, trial, way=way)
