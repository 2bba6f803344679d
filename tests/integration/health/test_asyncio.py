"""The awaitable twins of check and repair, on the asynchronous drivers."""

from __future__ import annotations

import pytest
from fixtures.production_like import IMPORTED
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from sqla_seqreserve import aio
from sqla_seqreserve.portfolio.models import Base, HoldingActivityLog


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_the_twins_check_and_repair(production_url: str, driver: str) -> None:
    """Awaited check and repair detect and repair the import's gaps, with a session and a connection
    of either driver.
    """
    engine = create_async_engine(production_url.replace("+psycopg", f"+{driver}"))
    try:
        async with AsyncSession(engine) as session:
            report = await aio.check_sequences(session, Base)
            assert {e.table: e.gap for e in report.behind} == {
                table: ids.last for table, ids in IMPORTED.items()
            }
            told = await aio.repair_sequences(session, HoldingActivityLog, dry_run=True)
            assert [result.action for result in told.results] == ["WOULD_REPAIR"]
            done = await aio.repair_sequences(session, HoldingActivityLog, headroom=10)
            assert [result.new_value for result in done.results] == [2258]
        async with engine.connect() as connection:
            assert (await aio.repair_sequences(connection, None, schemas=["public"])).repaired
            assert (await aio.check_sequences(connection, None, schemas=["public"])).healthy
    finally:
        await engine.dispose()
