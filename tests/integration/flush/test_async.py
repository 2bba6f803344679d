"""Async sessions: every target, reservation inside run_sync, and both drivers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from fixtures.shop import Customer, Order, Tag, customers
from sqlalchemy import Engine, func, make_url, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, selectinload

from sqla_seqreserve import FlushReport, assign_ids, register, reserve_ids
from sqla_seqreserve.testing import record_statements


@pytest_asyncio.fixture(params=["psycopg", "asyncpg"])
async def async_shop(shop: Engine, request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """The shop, through each async driver."""
    url = make_url(shop.url).set(drivername=f"postgresql+{request.param}")
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


async def test_a_graph_is_saved(async_shop: AsyncEngine) -> None:
    """add_all and commit save a graph with reserved ids, in order, and by COPY."""
    reports: list[FlushReport] = []
    async with AsyncSession(async_shop, expire_on_commit=False) as session:
        register(session, copy_min_rows=1).on_flush(reports.append)
        found = customers(20)
        session.add_all(found)
        await session.commit()
        ids = [customer.id for customer in found]
        assert ids == sorted(set(ids))
        assert {(e.writer, e.reason) for e in reports[0].entries} == {("copy", None)}
        assert {e.model: e.reserved for e in reports[0].entries} == {Customer: 20, Order: 40}
        assert {order.currency for customer in found for order in customer.orders} == {"GBP"}
        session.expunge_all()
        stored = await session.scalars(
            select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id)
        )
        assert [
            (customer.id, customer.email, [order.details for order in customer.orders])
            for customer in stored
        ] == [(c.id, c.email, [order.details for order in c.orders]) for c in found]


async def test_reservation_takes_one_round_trip(async_shop: AsyncEngine) -> None:
    """reserve_ids and assign_ids work inside run_sync, with as many statements as ever."""
    async with AsyncSession(async_shop) as session:
        await session.run_sync(reserve_ids, {Tag: 1, Order: 1})
        with record_statements(async_shop) as statements:
            ids = await session.run_sync(reserve_ids, {Tag: 100, Order: 50})
        assert len(statements) == 1
        assert (len(ids[Tag]), len(ids[Order])) == (100, 50)
        assert list(ids[Tag]) == sorted(set(ids[Tag]))
        tags = [Tag(word="a"), Tag(word="b")]
        await session.run_sync(assign_ids, tags)
        assert ids[Tag][-1] < tags[0].id < tags[1].id


async def test_a_refusal_is_an_integrity_error(async_shop: AsyncEngine) -> None:
    """The exception is SQLAlchemy's, the session goes on after a rollback, and a savepoint
    holds.
    """
    async with AsyncSession(async_shop) as session:
        register(session, copy_min_rows=1)
        session.add(Customer(email="taken"))
        await session.commit()
        found = customers(10, 0)
        found[4].email = "taken"
        with pytest.raises(IntegrityError) as no:
            async with session.begin_nested():
                session.add_all(found)
                await session.flush()
        assert no.value.orig is not None
        assert ["id" in vars(customer) for customer in found] == [False] * 10
        found[4].email = "free"
        session.add_all(found)
        await session.commit()
        assert await session.scalar(select(func.count()).select_from(Customer)) == 11


def async_instance(engine: AsyncEngine) -> tuple[Any, Callable[[], AsyncSession]]:
    session = AsyncSession(engine)
    return session, lambda: session


def sync_instance(engine: AsyncEngine) -> tuple[Any, Callable[[], AsyncSession]]:
    session = AsyncSession(engine)
    return session.sync_session, lambda: session


def async_own_class(engine: AsyncEngine) -> tuple[Any, Callable[[], AsyncSession]]:
    cls = type("OwnAsyncSession", (AsyncSession,), {})
    return cls, lambda: cls(engine)


def async_class(engine: AsyncEngine) -> tuple[Any, Callable[[], AsyncSession]]:
    return AsyncSession, lambda: AsyncSession(engine)


def async_factory(engine: AsyncEngine) -> tuple[Any, Callable[[], AsyncSession]]:
    maker = async_sessionmaker(engine)
    return maker, maker


def factory_of_own_classes(engine: AsyncEngine) -> tuple[Any, Callable[[], AsyncSession]]:
    sync_class = type("OwnSession", (Session,), {})
    own = type("OwnAsyncSession", (AsyncSession,), {"sync_session_class": sync_class})
    maker = async_sessionmaker(engine, class_=own)
    return maker, maker


def async_scoped(engine: AsyncEngine) -> tuple[Any, Callable[[], AsyncSession]]:
    registry = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)

    def fresh() -> AsyncSession:
        registry.registry.clear()
        return registry()

    return registry, fresh


@pytest.mark.parametrize(
    "kind",
    [
        async_instance,
        sync_instance,
        async_own_class,
        async_class,
        async_factory,
        factory_of_own_classes,
        async_scoped,
    ],
)
async def test_every_target_is_covered(
    async_shop: AsyncEngine, kind: Callable[[AsyncEngine], Any]
) -> None:
    """Each flush of a session of the target reports once, however often it was registered, other
    sessions are left alone, and so is everything once the target is unregistered.
    """
    target, make = kind(async_shop)
    reports: list[FlushReport] = []

    async def flush(session: AsyncSession) -> None:
        session.add_all([Tag(word="word") for _ in range(10)])
        await session.flush()
        await session.rollback()
        await session.close()

    registration = register(target)
    try:
        registration.on_flush(reports.append)
        await flush(make())
        assert register(target, mode="reserve") is registration
        await flush(make())
        assert [entry.reason for report in reports for entry in report.entries] == [
            None,
            "mode is reserve",
        ]
        other = type("OtherSession", (AsyncSession,), {})(async_shop)
        await flush(other)
        assert len(reports) == (3 if target is AsyncSession else 2)
        reports.clear()
    finally:
        registration.unregister()
    await flush(make())
    assert reports == []


async def test_a_session_and_its_sync_session_are_one_target(async_shop: AsyncEngine) -> None:
    """Registering an AsyncSession and the Session that it drives is registering one twice."""
    async with AsyncSession(async_shop) as session:
        assert register(session) is register(session.sync_session)


async def test_the_most_specific_decides(async_shop: AsyncEngine) -> None:
    """Instance, factory, AsyncSession class, Session class: the first one registered decides."""
    own = type("OwnAsyncSession", (AsyncSession,), {})
    maker = async_sessionmaker(async_shop, class_=own)
    fired: list[str] = []
    targets: dict[str, Any] = {"Session": Session, "AsyncSession": AsyncSession, "own": own}
    targets["maker"] = maker
    registrations = {}
    try:
        for name, target in targets.items():
            registrations[name] = register(target)
        session = maker()
        targets["instance"] = session
        registrations["instance"] = register(session)
        for name, registration in registrations.items():
            registration.on_flush(lambda _, name=name: fired.append(name))
        for name in ("instance", "maker", "own", "AsyncSession", "Session"):
            session.add(Tag(word=name))
            await session.flush()
            registrations[name].unregister()
        assert fired == ["instance", "maker", "own", "AsyncSession", "Session"]
        await session.close()
    finally:
        for registration in registrations.values():
            registration.unregister()
