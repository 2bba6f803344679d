"""The round trips of changed objects, and of a transaction that only reads, counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Engine,
    Numeric,
    create_engine,
    event,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import register
from sqla_seqreserve.testing import Wire, round_trips


class Base(DeclarativeBase):
    pass


class Apple(Base):
    __tablename__ = "apple"
    __table_args__ = (
        CheckConstraint("number >= -1", name="not_negative"),
        {"schema": "public"},  # declarative's own name
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(9, 2), default=Decimal("0.5"))


ROWS = 100


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Apple(number=number) for number in range(ROWS))
        session.commit()
    with round_trips(database_url, round_trip_time=0.001) as wire:
        yield wire


def counted(wire: Wire, driver: str, act: Callable[[Session], Any], *, registered: bool) -> int:
    """The round trips of the third time on an engine, in a new transaction."""
    url = wire.url.set(drivername=f"postgresql+{driver}")

    def third(session: Session) -> int:
        # Those before are not counted, which takes 20 ms a message.
        with wire.counting() as count:
            act(session)
        return count.round_trips

    async def all_async() -> int:
        engine = create_async_engine(url)
        for each in (act, act, third):
            async with AsyncSession(engine) as session:
                if registered:
                    register(session, copy_min_rows=2)
                count = await session.run_sync(each)
        await engine.dispose()
        assert count is not None
        return count

    if driver in {"asyncpg", "psycopg_async"}:
        return asyncio.run(all_async())
    engine = create_engine(url)
    for each in (act, act, third):
        with Session(engine) as session:
            if registered:
                register(session, copy_min_rows=2)
            count = each(session)
    engine.dispose()
    assert count is not None
    return count


def change(session: Session) -> None:
    for apple in session.scalars(select(Apple)):
        apple.number += 1
        apple.price += Decimal("0.125")
    session.commit()


def update_rows(session: Session) -> None:
    keys = range(1, 51)
    session.execute(update(Apple), [{"id": key, "number": key} for key in keys])
    session.commit()


def refused_rows(session: Session) -> None:
    """Roll back the transaction that began with a statement that is refused."""
    with pytest.raises(DBAPIError, match="not_negative"):
        session.execute(update(Apple), [{"id": key, "number": -key} for key in range(1, 51)])
    session.rollback()


def read(session: Session) -> None:
    assert session.get(Apple, 1) is not None
    session.rollback()


@pytest.mark.parametrize(
    ("driver", "act", "plain", "ours"),
    [
        # BEGIN, SELECT, the UPDATE, COMMIT.
        ("psycopg", change, 4, 3),
        ("psycopg2", change, ROWS + 3, 4),
        ("asyncpg", change, 4, 4),
        ("psycopg", update_rows, 3, 2),
        ("psycopg_async", update_rows, 3, 2),
        ("psycopg2", update_rows, 52, 3),
        ("psycopg", refused_rows, 4, 2),
        ("psycopg", read, 3, 2),
        ("psycopg2", read, 3, 3),
        ("asyncpg", read, 3, 3),
    ],
)
def test_round_trips(wire: Wire, driver: str, act: Any, plain: int, ours: int) -> None:
    """Many rows travel together, and a BEGIN with the first statement, where the driver can."""
    found = [counted(wire, driver, act, registered=each) for each in (False, True)]
    assert found == [plain, ours]


def test_what_a_listener_changes_goes_row_by_row(engine: Engine) -> None:
    """If a listener returns another statement, or other parameters, these are used for each row."""
    Base.metadata.create_all(engine)

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def masked(*arguments: Any) -> Any:
        _, _, statement, parameters, _, many = arguments
        if many and statement.startswith("UPDATE"):
            parameters = [{**row, "number": -1} for row in parameters]
        return statement, parameters

    with Session(engine) as session:
        register(session, copy_min_rows=1)
        session.add_all(Apple(number=number) for number in range(5))
        session.commit()
        for apple in session.scalars(select(Apple)):
            apple.number += 1
        session.commit()
        assert set(session.scalars(select(Apple.number))) == {-1}


def locked_before(engine: Engine, setting: str) -> list[int]:
    """The keys that a flush of all rows has locked when it waits for one of them."""
    with Session(engine) as other, engine.connect() as looking:
        other.execute(text("SELECT FROM apple WHERE id = 980 FOR UPDATE"))
        with ThreadPoolExecutor() as pool:
            done = pool.submit(change_all, engine, setting)
            while not looking.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                looking.rollback()
            free = looking.scalars(
                text("SELECT id FROM apple ORDER BY id FOR NO KEY UPDATE SKIP LOCKED")
            ).all()
            looking.rollback()
            other.rollback()
            done.result()
    return sorted(set(range(951, 1001)) - set(free) - {980})


def change_all(engine: Engine, setting: str) -> None:
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        session.execute(text(f"SET LOCAL {setting} = off"))
        for apple in session.scalars(select(Apple)):
            apple.number += 1
        session.commit()


@pytest.mark.parametrize("setting", ["enable_nestloop", "enable_mergejoin", "enable_hashjoin"])
def test_rows_are_locked_in_the_order_of_their_keys(engine: Engine, setting: str) -> None:
    """When a flush waits for a row, it has locked those with lower keys and no other, as row by
    row, whatever join the planner chooses.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        # The higher the key, the earlier its row stands in the table.
        session.add_all(Apple(id=1000 - number, number=number) for number in range(50))
        session.commit()
    assert locked_before(engine, setting) == list(range(951, 980))
