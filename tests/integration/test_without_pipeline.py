"""The statements of the guide on poolers about pipeline mode: psycopg's executemany() uses it, and
psycopg2 never does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import bulk_insert, register, reserve_ids
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


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    Base.metadata.create_all(engine)
    with round_trips(database_url) as wire:
        yield wire


def insert_and_update(session: Session) -> None:
    customers = [Customer(name=f"{number}", orders=[Order(number=number)]) for number in range(3)]
    session.add_all(customers)
    session.flush()
    session.add_all([Order(number=number, customer_id=customers[0].id) for number in range(300)])
    session.commit()
    for order in customers[0].orders:
        order.number += 1
    session.commit()


def pipelined(count: RoundTripCount) -> list[int]:
    """The number of statements in each round trip that executed more than one."""
    executed = Counter(
        (message.connection, message.round_trip)
        for message in count.messages
        if message.name in ("Execute", "Query")
    )
    return [times for times in executed.values() if times > 1]


def test_psycopg_updates_in_pipeline_mode_without_us(wire: Wire) -> None:
    """psycopg itself sends plain SQLAlchemy's UPDATE of several objects in pipeline mode."""
    with wire.counting() as count:
        engine = create_engine(wire.url.set(drivername="postgresql+psycopg"))
        with Session(engine) as session:
            insert_and_update(session)
        engine.dispose()
    assert pipelined(count)


@pytest.mark.parametrize(
    "settings",
    [{}, {"reserve": "always"}, {"copy_min_rows": 1}, {"prefetch": 10}, {"mode": "reserve"}],
    ids=str,
)
def test_psycopg2_never_uses_pipeline_mode(wire: Wire, settings: dict[str, Any]) -> None:
    """On psycopg2 each message is sent after the result of the one before, with any settings of
    register().
    """
    with wire.counting() as count:
        engine = create_engine(wire.url.set(drivername="postgresql+psycopg2"))
        with Session(engine) as session:
            register(session, **settings)
            insert_and_update(session)
            assert len(set(reserve_ids(session, Customer, 5))) == 5
            bulk_insert(session, Customer, [{"name": f"bulk {number}"} for number in range(50)])
            session.commit()
        engine.dispose()
    assert any(message.name == "Query" for message in count.messages)
    assert not any(message.name == "Execute" for message in count.messages)
    assert not pipelined(count)
