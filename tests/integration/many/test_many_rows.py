"""Statements for many rows of a session (changed and deleted objects, link rows, bulk statements)
have the same results as in SQLAlchemy, which executes them row by row.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from fixtures.session_writes import Animal, Base, Bird, Colour, Counted, Pair, Thing
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Side, Way, both, told_and_left
from sqlalchemy import (
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import (
    Session,
    selectinload,
)

DRIVERS = (*SYNC_DRIVERS, *ASYNC_DRIVERS)
FORCED = Way("from one row", {"copy_min_rows": 1})
DEFAULT = Way("default settings")


MANY = 40

EVERY = pytest.mark.parametrize("driver", DRIVERS)
WAYS = pytest.mark.parametrize("way", [FORCED, DEFAULT], ids=str)


def things(session: Session, count: int = MANY) -> list[Thing]:
    """New things, saved."""
    found = [
        Thing(
            number=i,
            name=f"n'{i}\\\"{{}},",
            price=Decimal(i) / 4,
            weight=i / 7,
            on=dt.date(2020, 1, 1) + dt.timedelta(i),
            at=dt.datetime(2020, 1, 1, 12, 0, i % 60, i),  # noqa: DTZ001  # the column has no zone
            of=uuid.UUID(int=i),
            data=bytes([i, 0, 92]),
            good=bool(i % 2),
            colour=Colour.RED,
        )
        for i in range(count)
    ]
    session.add_all(found)
    session.commit()
    return found


def loaded(session: Session) -> list[Thing]:
    """New things, saved and loaded again, with their links."""
    things(session)
    return again(session)


def again(session: Session) -> list[Thing]:
    """All things, loaded with their links by two queries; loading each by itself takes two queries
    for each.
    """
    return list(
        session.scalars(select(Thing).order_by(Thing.id).options(selectinload(Thing.others)))
    )


def compared(
    urls: tuple[str, str], way: Way, driver: str, act: Callable[[Session], Any], *ddl: str
) -> Any:
    """The act's result and rows, which must be the same on both sides."""

    def trial(side: Side) -> Any:
        return told_and_left(side, act, [table.name for table in Base.metadata.sorted_tables])

    return both(urls, Base, trial, way=way, driver=driver, ddl=ddl)


@EVERY
@WAYS
def test_changed_objects(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Changed objects of every kind of value have the rows that single UPDATEs leave."""

    def act(session: Session) -> Any:
        for i, thing in enumerate(things(session)):
            thing.number = i * 3
            thing.name = None if i % 5 == 0 else f'"x"\\{i}\n\t, NULL'
            thing.price = None if i % 7 == 0 else Decimal("-1.005") * i
            thing.weight = float("nan") if i == 3 else -i / 3
            thing.on = dt.date(1, 1, 1) + dt.timedelta(i)
            thing.at = dt.datetime(9999, 12, 31, 23, 59, 59, 999_999 - i)  # noqa: DTZ001  # as above
            thing.of = uuid.UUID(int=2**128 - 1 - i)
            thing.data = b"\x00\\" * i
            thing.good = None if i % 3 == 0 else not i % 2
            thing.colour = Colour.BLUE if i % 2 else None
        session.commit()
        found = session.scalars(select(Thing).order_by(Thing.id))
        return [(t.number, t.name, t.price, t.on, t.at, t.of, t.data, t.good) for t in found]

    compared(twin_urls, way, driver, act)


@EVERY
@WAYS
def test_gone(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """If rows are gone, the flush fails or warns with plain SQLAlchemy's text and counts."""

    def change(session: Session) -> None:
        found = loaded(session)
        for thing in found:
            thing.number = 1
        with session.no_autoflush:
            session.execute(text("DELETE FROM thing WHERE number IN (3, 5, 8)"))
        session.flush()

    def drop(session: Session) -> None:
        for thing in loaded(session):
            session.delete(thing)
        with session.no_autoflush:
            session.execute(text("DELETE FROM thing WHERE number IN (3, 5, 8)"))
        session.commit()

    compared(twin_urls, way, driver, change)
    compared(twin_urls, way, driver, drop)


@EVERY
@WAYS
def test_versions(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Objects with a version counter are counted up, and a row that another session changed fails
    the flush as stale.
    """

    def act(stale: bool, delete_them: bool = False) -> Callable[[Session], Any]:
        def acting(session: Session) -> Any:
            counted = [Counted(name=f"n{i}") for i in range(MANY)]
            session.add_all(counted)
            session.commit()
            session.scalars(select(Counted)).all()  # not one by one
            for each in counted:
                each.name += "!"
            if delete_them:
                for each in counted:
                    session.delete(each)
            if stale:
                with session.no_autoflush:
                    session.execute(text("UPDATE counted SET version = 9 WHERE name = 'n7'"))
            session.flush()
            versions = [each.version for each in counted]
            session.commit()
            return versions

        return acting

    for stale in (False, True):
        for delete_them in (False, True):
            compared(twin_urls, way, driver, act(stale, delete_them))


@EVERY
@WAYS
def test_inherited(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Objects with rows in two tables are changed and deleted in both."""

    def act(session: Session) -> None:
        birds = [Bird(name=f"b{i}", wings=2) for i in range(MANY)]
        session.add_all([*birds, *(Animal(name=f"a{i}") for i in range(MANY))])
        session.commit()
        for bird in birds:
            bird.name, bird.wings = bird.name * 2, 3
        session.commit()
        for bird in birds[::2]:
            session.delete(bird)
        session.commit()

    compared(twin_urls, way, driver, act)


@EVERY
@WAYS
def test_links(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Link rows are added and removed; if one is gone already, plain SQLAlchemy's error says how
    many.
    """

    def act(lose: bool) -> Callable[[Session], Any]:
        def acting(session: Session) -> Any:
            found = loaded(session)
            for thing in found:
                thing.others = found[:3]
            session.commit()
            for thing in again(session):
                thing.others.remove(found[0])
            if lose:
                with session.no_autoflush:
                    session.execute(text("DELETE FROM links WHERE left_id IN (5, 7)"))
            session.commit()

        return acting

    compared(twin_urls, way, driver, act(False))
    compared(twin_urls, way, driver, act(True))


@EVERY
@WAYS
def test_keys(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Rows are found by keys of several columns, and keys can be changed."""

    def act(session: Session) -> None:
        pairs = [Pair(a=i, b=f"k{i}", value="v") for i in range(MANY)]
        session.add_all(pairs)
        session.commit()
        for pair in pairs:
            pair.b += "x"
        session.commit()
        for pair in pairs[::3]:
            session.delete(pair)
        session.commit()

    compared(twin_urls, way, driver, act)


@EVERY
@WAYS
def test_bulk_statements(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Statements that a session executes with many rows, and the legacy bulk methods, have plain
    SQLAlchemy's results.
    """

    def act(session: Session) -> Any:
        session.execute(insert(Thing), [{"number": i, "name": f"n{i}"} for i in range(MANY)])
        session.execute(insert(Thing.__table__), [{"number": -i} for i in range(MANY)])
        keys = list(session.scalars(select(Thing.id).order_by(Thing.id)))
        session.execute(update(Thing), [{"id": key, "price": Decimal(key)} for key in keys])
        # The same key twice: the last wins.
        session.execute(update(Thing), [{"id": keys[i // 2], "weight": i / 1} for i in range(MANY)])
        session.bulk_update_mappings(Thing, [{"id": key, "good": True} for key in keys[:MANY]])
        session.bulk_insert_mappings(Thing, [{"name": "legacy"} for _ in range(MANY)])
        session.bulk_save_objects([Thing(name=f"object {i}") for i in range(MANY)])
        table = Thing.__table__
        session.execute(
            update(table).where(table.c.id == bindparam("k")).values(number=bindparam("n") + 1),
            [{"k": key, "n": key} for key in keys[5:]],
        )
        session.execute(
            update(table).where(table.c.id == bindparam("k")).values(name=func.upper(table.c.name)),
            [{"k": key} for key in keys[:30]],
        )
        found = session.execute(
            delete(table).where(table.c.id == bindparam("k")), [{"k": key} for key in keys[::2]]
        )
        session.commit()
        # asyncpg counts no rows of many.
        return found.rowcount if found.supports_sane_multi_rowcount() else None

    compared(twin_urls, way, driver, act)


WATCHED = (
    "CREATE TABLE heard (what text)",
    """CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO heard VALUES (TG_OP || TG_LEVEL); RETURN NULL; END $$""",
    """CREATE TRIGGER hear AFTER UPDATE OR DELETE OR INSERT ON pair
    FOR EACH STATEMENT EXECUTE FUNCTION hear()""",
    "CREATE RULE listen AS ON DELETE TO links DO ALSO INSERT INTO heard VALUES ('link')",
)


@EVERY
def test_statement_triggers_and_rules(twin_urls: tuple[str, str], driver: str) -> None:
    """A statement trigger is called, and a rule applied, as often as with plain SQLAlchemy."""

    def act(session: Session) -> Any:
        pairs = [Pair(a=i, b=f"k{i}", value="v") for i in range(10)]
        session.add_all(pairs)
        session.commit()
        session.execute(text("DELETE FROM heard"))
        for pair in pairs:
            pair.value = "w"
        session.commit()
        for pair in pairs:
            session.delete(pair)
        found = things(session, 4)
        found[0].others = found[1:]
        session.commit()
        found[0].others = []
        session.commit()
        return list(session.scalars(text("SELECT what FROM heard ORDER BY 1")))

    compared(twin_urls, FORCED, driver, act, *WATCHED)


@EVERY
def test_altered_meanwhile(twin_urls: tuple[str, str], driver: str) -> None:
    """The remembered facts of a table are compared: a new trigger is called once per row, and an
    altered type gets the values that plain SQLAlchemy sends.
    """

    def act(session: Session) -> Any:
        pairs = [Pair(a=i, b=f"k{i}", value="v") for i in range(10)]
        session.add_all(pairs)
        session.commit()
        for pair in pairs:
            pair.value = "w"
        session.commit()
        for statement in WATCHED[:3]:
            session.execute(text(statement))
        session.execute(text("ALTER TABLE pair ALTER value TYPE char(5)"))
        session.commit()
        for pair in pairs:
            pair.value = "x"
        session.commit()
        return list(session.scalars(text("SELECT what FROM heard ORDER BY 1")))

    compared(twin_urls, FORCED, driver, act)


@EVERY
def test_refused(twin_urls: tuple[str, str], driver: str) -> None:
    """If the server refuses a row, the flush fails with plain SQLAlchemy's error, and no row is
    stored.
    """

    def act(value: Any) -> Callable[[Session], Any]:
        def acting(session: Session) -> None:
            found = things(session)
            for i, thing in enumerate(found):
                thing.number = value if i == 7 else i
            session.commit()

        return acting

    compared(twin_urls, FORCED, driver, act(2**31))
    compared(twin_urls, FORCED, driver, act(5), "ALTER TABLE thing ADD CHECK (number <> 5)")


def test_psycopg_async(twin_urls: tuple[str, str]) -> None:
    """Asynchronous psycopg sends changed objects like synchronous psycopg."""
    assert "psycopg_async" in ASYNC_DRIVERS

    def act(session: Session) -> None:
        for thing in things(session):
            thing.number = 5
        session.commit()

    compared(twin_urls, FORCED, "psycopg_async", act)
