"""The round trips of a flush that changes, deletes and inserts few rows, counted on the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.session_writes import Base, Counted, Eager, Item, Tag, Versioned
from sqlalchemy import (
    Engine,
    create_engine,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqla_seqreserve import register
from sqla_seqreserve.testing import Wire, round_trips


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Any:
    Base.metadata.create_all(engine)
    with round_trips(database_url) as wire:
        yield wire


def mixed(session: Session) -> None:
    """Five changed objects, two new ones of another class and two tags removed."""
    tags = [Tag(), Tag()]
    items = [Item(number=i, tags=list(tags)) for i in range(5)]
    session.add_all(items)
    session.flush()
    for item in items:
        item.number += 1
    items[0].tags.remove(tags[0])
    items[1].tags.remove(tags[1])
    session.add_all([Counted(name="a"), Counted(name="b")])


def differing(session: Session) -> None:
    """Three objects of a class with different columns changed, and one of another class deleted."""
    items = [Item(number=i) for i in range(3)]
    tag = Tag()
    session.add_all([*items, tag])
    session.flush()
    items[0].number = 8
    items[1].name = "x"
    items[2].number, items[2].name = 9, "y"
    session.delete(tag)


def relinked(session: Session) -> None:
    """One object that gets other tags."""
    tags = [Tag(), Tag(), Tag()]
    item = Item(number=1, tags=tags[:2])
    session.add_all([item, *tags])
    session.flush()
    item.number = 2
    item.tags = tags[1:]


def brought_back(session: Session) -> None:
    """Objects with values that the database computes and returns, versions among them."""
    found = [*(Eager(number=i) for i in range(3)), *(Versioned(name="a") for _ in range(3)), Tag()]
    session.add_all(found)
    session.flush()
    for one in found[:3]:
        one.number += 1
    for one in found[3:]:
        one.name = "b"


def counted(wire: Wire, driver: str, prepare: Callable[[Session], None], registered: bool) -> int:
    """The round trips of a flush in an open transaction, the seventh time on an engine."""
    url = wire.url.set(drivername=f"postgresql+{driver}")

    def flush(session: Session, time: int) -> int:
        if registered:
            register(session)
        prepare(session)
        # Those before are not counted, which takes 20 ms a message.
        with contextlib.nullcontext() if time < 7 else wire.counting() as count:
            session.flush()
        session.rollback()
        return 0 if count is None else count.round_trips

    async def all_async() -> int:
        engine = create_async_engine(url)
        for time in range(1, 8):
            async with AsyncSession(engine) as session:
                found = await session.run_sync(flush, time)
        await engine.dispose()
        return found

    if driver in {"asyncpg", "psycopg_async"}:
        return asyncio.run(all_async())
    engine = create_engine(url)
    for time in range(1, 8):
        with Session(engine) as session:
            found = flush(session, time)
    engine.dispose()
    return found


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize(("prepare", "plain"), [(mixed, 3), (differing, 4), (relinked, 3)])
def test_one_round_trip(wire: Wire, driver: str, prepare: Any, plain: int) -> None:
    """The statements that SQLAlchemy sends one after the other take one round trip on psycopg."""
    found = [counted(wire, driver, prepare, registered) for registered in (False, True)]
    assert found == [plain, 1]


def test_values_that_come_back(wire: Wire) -> None:
    """A message ends with a class whose returned values SQLAlchemy reads at once."""
    found = [counted(wire, "psycopg", brought_back, registered) for registered in (False, True)]
    assert found == [7, 2]


@pytest.mark.parametrize(("prepare", "expected"), [(mixed, 2), (differing, 1), (relinked, 1)])
def test_psycopg2_far_from_the_server(database_url: str, prepare: Any, expected: int) -> None:
    """On psycopg2 a message ends where keys are returned, here those of new objects; near the
    server the statements go one by one, because checking the matched rows would cost more.
    """
    with round_trips(database_url, round_trip_time=0.001) as wire:
        engine = create_engine(wire.url)
        Base.metadata.create_all(engine)
        engine.dispose()
        assert counted(wire, "psycopg2", prepare, True) == expected


def test_a_transaction_takes_few_savepoints(database_url: str) -> None:
    """After 32 messages with a savepoint in one transaction the statements go one by one, because
    more than 64 savepoints would slow down other sessions.
    """
    with round_trips(database_url, round_trip_time=0.001) as wire:
        engine = create_engine(wire.url.set(drivername="postgresql+psycopg2"))
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            register(session)
            found = []
            for _ in range(36):
                differing(session)
                with wire.counting() as count:
                    session.flush()
                found.append(count.round_trips)
        engine.dispose()
    assert (found[30], found[-1]) == (1, 4)


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
@pytest.mark.parametrize("prepare", [mixed, differing, relinked, brought_back])
def test_never_more_round_trips(wire: Wire, driver: str, prepare: Any) -> None:
    """Statements that are sent one by one take no more round trips than with plain SQLAlchemy."""
    plain, ours = (counted(wire, driver, prepare, registered) for registered in (False, True))
    assert ours <= plain
