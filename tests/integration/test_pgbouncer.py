"""Saves through PgBouncer in transaction mode, on each driver, compared with plain SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from fixtures.pgbouncer import PgBouncer
from sqlalchemy import Engine, ForeignKey, create_engine, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool

from sqla_seqreserve import bulk_insert, register, reserve_ids


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "order"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    customer: Mapped[Customer] = relationship(back_populates="orders")


class Visit(Base):
    __tablename__ = "visit"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


#: The settings that each driver needs in transaction mode before PgBouncer 1.21; the guide on
#: poolers lists them.
SETTINGS: dict[str, dict[str, Any]] = {
    "psycopg": {"connect_args": {"prepare_threshold": None}},
    "psycopg2": {},
    "asyncpg": {
        "connect_args": {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__",
        }
    },
}

# So many that each of two engines saves often enough for psycopg to prepare its statements.
TURNS = 14

Work = Callable[[Session], Any]


@pytest.fixture
def database(engine: Engine, database_url: str, pgbouncer: PgBouncer) -> Iterator[str]:
    Base.metadata.create_all(engine)
    pgbouncer.spread(database_url)
    yield database_url


@pytest.fixture(params=SETTINGS)
def through(request: pytest.FixtureRequest, pgbouncer: PgBouncer, database: str) -> Iterator[_Door]:
    """Two engines on the database through PgBouncer, used in turn."""
    with _Door(pgbouncer.url(database, request.param), SETTINGS[request.param]) as door:
        yield door


class _Door:
    """Executes work in new sessions, registered or not, on two engines in turn."""

    def __init__(self, url: Any, settings: dict[str, Any]) -> None:
        self._asynchronous = url.get_driver_name() == "asyncpg"
        make: Any = create_async_engine if self._asynchronous else create_engine
        self._runner = asyncio.Runner()
        self._engines = [make(url, **settings), make(url, **settings)]

    def __enter__(self) -> _Door:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines:
            if self._asynchronous:
                self._runner.run(engine.dispose())
            else:
                engine.dispose()
        self._runner.close()

    def do(self, work: Work, **options: Any) -> Any:
        """Execute the work and return its result; with options the session is registered
        with them.
        """
        self._engines.reverse()
        if self._asynchronous:
            return self._runner.run(self._do(work, options))
        with Session(self._engines[0]) as session:
            if options:
                register(session, **options)
            return work(session)

    async def _do(self, work: Work, options: dict[str, Any]) -> Any:
        async with AsyncSession(self._engines[0]) as session:
            if options:
                register(session, **options)
            return await session.run_sync(work)


def save(turn: int) -> Work:
    """Save one row, a few of several tables, and many, in several flushes."""

    def work(session: Session) -> None:
        session.add(Visit(number=turn))
        session.flush()
        session.add_all([Visit(number=number) for number in range(3)])
        customer = Customer(name=f"customer {turn}")
        customer.orders = [Order(number=number) for number in range(4)]
        session.add(customer)
        session.flush()
        session.add_all([Visit(number=number) for number in range(1200)])
        session.commit()
        assert customer.orders[3].customer_id == customer.id
        # At a rollback psycopg forgets which statements it has prepared or would prepare next.
        session.commit()

    return work


def contents(session: Session) -> Any:
    visits = select(Visit.number, func.count()).group_by(Visit.number).order_by(Visit.number)
    orders = (
        select(Customer.name, Order.number)
        .join(Order.customer)
        .order_by(Customer.name, Order.number)
    )
    return session.execute(visits).all(), session.execute(orders).all()


def empty(session: Session) -> None:
    for model in (Order, Customer, Visit):
        session.query(model).delete()
    session.commit()


@pytest.mark.parametrize(
    "options", [{"mode": "bulk"}, {"copy_min_rows": 1}, {"mode": "reserve"}, {"prefetch": 50}]
)
def test_saves_write_what_plain_writes(through: _Door, options: dict[str, Any]) -> None:
    """Through PgBouncer, with each save on another of its connections, the rows are plain
    SQLAlchemy's.
    """
    for turn in range(TURNS):
        through.do(save(turn))
    plain = through.do(contents)
    through.do(empty)
    for turn in range(TURNS):
        through.do(save(turn), **options)

    assert through.do(contents) == plain


def test_errors_are_those_of_plain(through: _Door) -> None:
    """Through PgBouncer a refused row raises plain SQLAlchemy's error, and the next client can use
    the connection.
    """

    def twice(session: Session) -> Any:
        session.add_all([Customer(name="same") for _ in range(20)])
        with pytest.raises(IntegrityError) as caught:
            session.commit()
        session.rollback()
        return type(caught.value.orig).__name__, session.scalar(select(func.count(Customer.id)))

    plain = through.do(twice)
    for options in ({"mode": "bulk"}, {"copy_min_rows": 1}):
        for _ in range(4):
            assert through.do(twice, **options) == plain


def test_ids_are_reserved_through_it(through: _Door) -> None:
    """Through PgBouncer, on changing connections, reservations and bulk inserts never give an id
    twice.
    """

    def work(session: Session) -> list[int]:
        ids = [*reserve_ids(session, Visit, 7)]
        ids += bulk_insert(session, Visit, [{"number": number} for number in range(40)])
        session.commit()
        return ids

    found = [id_ for _ in range(8) for id_ in through.do(work)]

    assert len(set(found)) == len(found) == 8 * 47


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_the_settings_are_needed(pgbouncer: PgBouncer, database: str, driver: str) -> None:
    """Without the guide's settings plain SQLAlchemy fails through PgBouncer older than 1.21."""
    if pgbouncer.version >= (1, 21):
        pytest.skip("PgBouncer 1.21 and newer knows prepared statements")
    with _Door(pgbouncer.url(database, driver), {}) as door, pytest.raises(DBAPIError) as caught:
        for turn in range(TURNS):
            door.do(save(turn))
    assert "prepared statement" in str(caught.value.orig)


def test_it_takes_turns(pgbouncer: PgBouncer, database: str) -> None:
    """In these tests PgBouncer runs a client's transactions on three connections."""
    engine = create_engine(
        pgbouncer.url(database, "psycopg"), poolclass=NullPool, **SETTINGS["psycopg"]
    )
    with engine.connect() as connection:
        pids = set()
        for _ in range(6):
            pids.add(connection.scalar(select(func.pg_backend_pid())))
            connection.rollback()
    assert len(pids) == 3
