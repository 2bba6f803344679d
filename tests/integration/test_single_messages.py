"""``register(..., messages="single")``: one statement in a message, for poolers that take no
more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, ForeignKey, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import FlushReport, bulk_insert, register, reserve_ids
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.testing import RoundTripCount, Wire, round_trips


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    orders: Mapped[list[Order]] = relationship()


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))


SETTINGS: list[dict[str, Any]] = [
    {},
    {"reserve": "always"},
    {"copy_min_rows": 1},
    {"prefetch": 10},
    {"mode": "reserve"},
]


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    Base.metadata.create_all(engine)
    with round_trips(database_url) as wire:
        yield wire


def save(session: Session) -> None:
    """Few and many, parents and children, and a flush that goes on in the transaction."""
    customers = [Customer(name=f"{number}", orders=[Order(number=number)]) for number in range(3)]
    session.add_all(customers)
    session.flush()
    session.add_all([Order(number=number, customer_id=customers[0].id) for number in range(300)])
    session.commit()
    assert all(order.customer_id == one.id for one in customers for order in one.orders)


def reserve_and_insert(session: Session) -> None:
    """Ids and rows without objects."""
    assert len(set(reserve_ids(session, Customer, 5))) == 5
    bulk_insert(session, Customer, [{"name": f"bulk {number}"} for number in range(50)])
    session.commit()


def run(url: URL, driver: str, work: Callable[[Session], Any], settings: dict[str, Any]) -> Any:
    """Run work in a session of this driver that is registered so; return what it reported."""
    reports: list[FlushReport] = []

    async def run_async() -> None:
        engine = create_async_engine(target)
        async with AsyncSession(engine) as session:
            register(session, **settings).on_flush(reports.append)
            await session.run_sync(work)
        await engine.dispose()

    settings = {"messages": "single"} | settings
    target = url.set(drivername=f"postgresql+{driver}")
    if driver == "asyncpg":
        asyncio.run(run_async())
        return reports
    engine = create_engine(target)
    with Session(engine) as session:
        register(session, **settings).on_flush(reports.append)
        work(session)
    engine.dispose()
    return reports


def several(count: RoundTripCount, driver: str) -> list[Any]:
    """The messages that hold more statements than one: texts of several, or several executed before
    the server was waited for. asyncpg's ``executemany()`` binds one to many rows, in stock as well.
    """
    texts = [message for message in count.messages if message.name == "Query"]
    found: list[Any] = [message for message in texts if ";" in message.text.rstrip("; \n")]
    executed = Counter(
        (message.connection, message.round_trip)
        for message in count.messages
        if message.name in ("Execute", "Query")
    )
    if driver == "asyncpg":
        executed = Counter(
            (message.connection, message.round_trip)
            for message in count.messages
            if message.name in ("Parse", "Query")
        )
    return found + [trip for trip, times in executed.items() if times > 1]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_no_message_holds_two_statements(wire: Wire, driver: str, settings: dict[str, Any]) -> None:
    """Whatever is saved, each statement is a message of its own, and the rows are there."""
    with wire.counting() as count:
        reports = run(wire.url, driver, save, settings)
        run(wire.url, driver, reserve_and_insert, settings)
    assert not several(count, driver), count
    assert sum(report.rows for report in reports) == 306


def test_auto_sends_several(wire: Wire) -> None:
    """What these tests look for is there where nobody asked for single messages."""
    with wire.counting() as count:
        run(wire.url, "psycopg", save, {"reserve": "always", "messages": "auto"})
    assert several(count, "psycopg")


def test_refusals_are_stock(wire: Wire) -> None:
    """A duplicate is the IntegrityError that it always is, and the session goes on."""

    def work(session: Session) -> None:
        session.add(Customer(name="same"))
        session.commit()
        session.add_all([Customer(name="other"), Customer(name="same")])
        with pytest.raises(IntegrityError, match="customer_name_key"):
            session.commit()
        session.rollback()
        session.add(Customer(name="third"))
        session.commit()
        assert session.scalar(select(func.count()).select_from(Customer)) == 2

    for settings in SETTINGS:
        run(wire.url, "psycopg", work, settings)
        run(wire.url, "psycopg", _empty, settings)


def _empty(session: Session) -> None:
    session.query(Customer).delete()
    session.commit()


@pytest.mark.parametrize("wrong", ["one", None, True, "pipeline"])
def test_another_word_is_refused(wrong: Any) -> None:
    """The error says what was expected and what was found."""
    with pytest.raises(ConfigurationError, match="messages must be one of 'auto', 'single', found"):
        register(Session(), messages=wrong)
