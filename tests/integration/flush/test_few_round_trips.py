"""The round trips of small saves that the guide on drivers lists, counted on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve._routes import distance
from sqla_seqreserve.testing import Wire, round_trips


class Base(DeclarativeBase):
    pass


class _Numbered:
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class Apple(_Numbered, Base):
    __tablename__ = "apple"
    __table_args__ = {"schema": "public"}  # declarative's own name


class Pear(_Numbered, Base):
    __tablename__ = "pear"
    __table_args__ = {"schema": "public"}  # as above


class Plum(_Numbered, Base):
    __tablename__ = "plum"
    __table_args__ = {"schema": "public"}  # as above


ONE, THREE = (Apple,), (Apple, Pear, Plum)


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    Base.metadata.create_all(engine)
    # Not on the same machine: there the work of a statement counts for more than its round trip.
    with round_trips(database_url, round_trip_time=0.002) as wire:
        yield wire


def counted(wire: Wire, driver: str, models: Any, settings: dict[str, Any]) -> Any:
    """The third save of one object of each class on an engine, in a new transaction."""

    def save(session: Session, time: int) -> Any:
        session.add_all([model(number=1) for model in models])
        # Those before are not counted, which takes 20 ms a message.
        with contextlib.nullcontext() if time < 3 else wire.counting() as count:
            session.commit()
        return count

    async def save_async() -> Any:
        engine = create_async_engine(url)
        for time in (1, 2, 3):
            async with AsyncSession(engine) as session:
                register(session, **settings)
                count = await session.run_sync(save, time)
        await engine.dispose()
        return count

    url = wire.url.set(drivername=f"postgresql+{driver}")
    if driver == "asyncpg":
        return asyncio.run(save_async())
    engine = create_engine(url)
    for time in (1, 2, 3):
        with Session(engine) as session:
            register(session, **settings)
            count = save(session, time)
    engine.dispose()
    return count


@pytest.mark.usefixtures("commits_pay")
@pytest.mark.parametrize(
    ("driver", "models", "settings", "expected"),
    [
        ("psycopg", ONE, {}, 1),
        ("psycopg2", ONE, {}, 3),
        ("asyncpg", ONE, {}, 3),
        ("psycopg", THREE, {}, 2),
        ("psycopg2", THREE, {}, 4),
        ("asyncpg", THREE, {}, 5),
        ("psycopg", ONE, {"reserve": "always"}, 2),
        ("psycopg", THREE, {"reserve": "always"}, 2),
        ("psycopg2", ONE, {"reserve": "always"}, 4),
        ("psycopg", THREE, {"prefetch": 50}, 1),
        ("psycopg2", THREE, {"prefetch": 50}, 3),
        ("asyncpg", THREE, {"prefetch": 50}, 5),
        ("psycopg", ONE, {"prefetch": 50}, 1),
        ("psycopg2", ONE, {"prefetch": 50}, 3),
        ("asyncpg", ONE, {"prefetch": 50}, 3),
        ("psycopg", ONE, {"prefetch": 50, "reserve": "always"}, 1),
        ("psycopg2", ONE, {"prefetch": 50, "reserve": "always"}, 3),
    ],
    ids=str,
)
def test_a_small_save_takes_what_the_readme_says(
    wire: Wire, driver: str, models: Any, settings: dict[str, Any], expected: int
) -> None:
    """A small save takes the round trips that the guide lists: no more than plain SQLAlchemy's
    unless keys are asked for first.
    """
    count = counted(wire, driver, models, settings)
    assert count.round_trips == expected, count


@pytest.mark.parametrize(
    ("models", "settings", "expected"), [(ONE, {}, 2), (THREE, {}, 2), (THREE, {"prefetch": 50}, 1)]
)
def test_near_the_server_a_commit_travels_where_nothing_is_to_be_compared_for_it(
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    models: Any,
    settings: dict[str, Any],
    expected: int,
) -> None:
    """Near the server the COMMIT travels along only if all keys are reserved or kept: locking and
    comparing a table would take longer than a round trip.
    """
    monkeypatch.setattr(distance, "_COMPARED", math.inf)
    count = counted(wire, "psycopg", models, settings)
    assert count.round_trips == expected, count


def test_near_the_server_a_begin_is_sent_by_itself(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the server psycopg sends the BEGIN by itself, because that is faster than putting it
    into a message; only a measurement puts it there.
    """
    monkeypatch.setattr(distance, "_BEGUN", math.inf)
    reports: list[FlushReport] = []
    engine = create_engine(wire.url)
    with Session(engine) as session:
        registration = register(session, commit="apart")
        session.scalars(select(Apple)).all()
        session.commit()
        monkeypatch.setattr(distance.Distance, "is_due", lambda _: False)
        with wire.counting() as read:
            session.scalars(select(Apple)).all()
            session.commit()
        registration.on_flush(reports.append)
        with wire.counting() as saved:
            session.add(Apple(number=1))
            session.commit()
        monkeypatch.setattr(distance.Distance, "is_due", lambda _: True)
        with wire.counting() as timed:
            session.scalars(select(Apple)).all()
            session.commit()
    engine.dispose()
    assert [each.round_trips for each in (read, saved, timed)] == [3, 3, 2]
    assert [report.messages for report in reports] == [2]


@pytest.mark.parametrize(
    ("isolation_level", "settings", "reserved"),
    [
        ("READ COMMITTED", {}, 0),
        ("REPEATABLE READ", {}, 500),
        ("READ COMMITTED", {"reserve": "always"}, 500),
    ],
    ids=str,
)
@pytest.mark.usefixtures("wire")
def test_many_objects_far_away_are_numbered_over_arrays_where_facts_can_be_compared(
    database_url: str, isolation_level: str, settings: dict[str, Any], reserved: int
) -> None:
    """Far away, the server numbers hundreds of objects in one INSERT, which takes two round trips
    less than a reservation and COPY. Not in a transaction that keeps an old snapshot, where the
    INSERT would go in pages.
    """
    reports: list[FlushReport] = []
    with round_trips(database_url, round_trip_time=0.004) as wire:
        engine = create_engine(
            wire.url.set(drivername="postgresql+psycopg2"), isolation_level=isolation_level
        )
        for _ in range(7):  # the first few times are not believed
            with Session(engine) as session:
                register(session, **settings).on_flush(reports.append)
                session.add_all([Apple(number=number) for number in range(500)])
                session.commit()
        engine.dispose()
    [entry] = reports[-1].entries
    assert entry.reserved == reserved, reports[-1]
