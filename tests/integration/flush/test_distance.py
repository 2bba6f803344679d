"""The distance to the server that a flush assumes, where statements wait for locks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fixtures.shop import Tag
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve.testing import round_trips

Write = Callable[[Session], None]

LOCKED = 0.2
"""Seconds; the waits are what the test is about."""


@contextmanager
def table_locked(engine: Engine) -> Iterator[None]:
    """No other connection can insert into the table for a while."""
    with engine.connect() as connection:
        connection.execute(text("LOCK TABLE tag IN SHARE MODE"))
        release = threading.Timer(LOCKED, connection.rollback)
        release.start()
        try:
            yield
        finally:
            release.join()


def save(session: Session, rows: int, begun: bool) -> None:
    if begun:
        session.execute(text("SELECT 1"))
    session.add_all(Tag(word=str(number)) for number in range(rows))
    session.commit()


async def run(shop: Engine, driver: str, writes: list[Write | None]) -> list[FlushReport]:
    """Have sessions of one new engine write one after the other; ``None``: the table is locked for
    the next one.
    """
    reports: list[FlushReport] = []
    url = shop.url.set(drivername=f"postgresql+{driver}")
    engine: Any = (
        create_async_engine(url) if driver in ("asyncpg", "psycopg_async") else create_engine(url)
    )

    async def write(one: Write) -> None:
        if isinstance(engine, Engine):
            with Session(engine) as session:
                register(session).on_flush(reports.append)
                one(session)
        else:
            async with AsyncSession(engine) as session:
                register(session).on_flush(reports.append)
                await session.run_sync(one)

    locked = False
    for one in writes:
        if one is None:
            locked = True
        elif locked:
            with table_locked(shop):
                await write(one)
            locked = False
        else:
            await write(one)
    disposed = engine.dispose()
    if disposed is not None:
        await disposed
    return reports


@pytest.mark.parametrize("waits", [1, 3])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "psycopg2", "asyncpg"])
async def test_a_wait_for_a_lock_is_no_distance(
    shop: Engine, driver: str, begun: bool, waits: int
) -> None:
    """Small flushes that wait for a lock, even the first ones, do not raise the distance: many rows
    still go by COPY.
    """
    waiting: list[Write | None] = [None, lambda session: save(session, 1, begun)] * waits
    many: list[Write | None] = [lambda session: save(session, 2_000, begun)] * 3
    reports = await run(shop, driver, [*waiting, *many])
    assert [report.entries[0].writer for report in reports] == ["insert"] * waits + ["copy"] * 3


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "psycopg2", "asyncpg"])
async def test_a_wait_of_keys_is_no_distance(shop: Engine, driver: str) -> None:
    """A reservation that waits for a lock does not raise the distance: many rows still go
    by COPY.
    """
    many: list[Write | None] = [lambda session: save(session, 2_000, False)] * 3
    reports = await run(shop, driver, [None, *many, None, *many])
    assert [report.entries[0].writer for report in reports] == ["copy"] * 6


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_far_server_is_noticed(shop: Engine, driver: str, begun: bool) -> None:
    """After some flushes of one object to a server 20 ms away, COPY needs more rows than on a near
    one.
    """
    with round_trips(shop.url, round_trip_time=0.02) as wire:
        engine = create_engine(wire.url.set(drivername=f"postgresql+{driver}"))
        with Session(engine) as session:
            registration = register(session)
            [near] = registration.explain(shop, [Tag])
            for _ in range(24):
                save(session, 1, begun)
            [far] = registration.explain(engine, [Tag])
        engine.dispose()
    assert (far.copy_from or 0) > 4 * (near.copy_from or 0) > 0


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_to_measure_takes_no_round_trip(shop: Engine, driver: str) -> None:
    """A flush of one object takes no more round trips than plain SQLAlchemy, even if it measures
    the distance.
    """
    with round_trips(shop.url) as wire:
        engine = create_engine(wire.url.set(drivername=f"postgresql+{driver}"))
        with Session(engine) as session:
            save(session, 1, False)
            counts = []
            for ours in [False] * 2 + [True] * 20:
                if ours:
                    register(session)
                with wire.counting() as count:
                    save(session, 1, False)
                counts.append(count.round_trips)
        engine.dispose()
    print(counts)
    assert counts[0] == counts[1]
    assert all(count <= counts[0] for count in counts)
