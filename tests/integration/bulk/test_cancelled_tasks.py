"""Tasks that are cancelled while a bulk function waits for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fixtures.changes import COUNTED, Base, Counted
from fixtures.patience import PATIENCE
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, make_url, text, true
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from sqla_seqreserve import aio

pytestmark = pytest.mark.usefixtures("way")

ROWS = [{"id": n, "name": "b"} for n in range(1, 5)]
CALLS: dict[str, Callable[[AsyncSession], Awaitable[object]]] = {
    "update": lambda session: aio.bulk_update(session, Counted, ROWS),
    "upsert": lambda session: aio.bulk_upsert(session, Counted, ROWS, conflict="id"),
    "delete": lambda session: aio.bulk_delete(session, Counted, [1, 2]),
    "sync": lambda session: aio.bulk_sync(session, Counted, ROWS, key="id", scope=true()),
}
WAITS = text(
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_cancelled_task(
    engine: Engine, driver: str, call: Callable[[AsyncSession], Awaitable[object]]
) -> None:
    """A task that is cancelled while it waits for a lock ends as cancelled, and nothing of it
    stays.
    """
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(COUNTED))

    async def run() -> Any:
        target = create_async_engine(make_url(engine.url).set(drivername=f"postgresql+{driver}"))

        async def work() -> None:
            async with AsyncSession(target) as session, session.begin():
                await call(session)

        with engine.connect() as holder, engine.connect() as watcher:
            holder.execute(text("SELECT FROM counted FOR UPDATE"))
            task = asyncio.create_task(work())
            async with asyncio.timeout(PATIENCE):
                while not watcher.scalar(WAITS):
                    watcher.rollback()
                    await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await target.dispose()

    asyncio.run(run())
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM counted WHERE name = 'a'")) == 9
