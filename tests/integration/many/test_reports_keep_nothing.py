"""Reporting a flush keeps no reference to its session."""

from __future__ import annotations

import asyncio
import gc
import weakref

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_seqreserve import FlushReport, register


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_connection_opened_in_a_flush_keeps_no_session(database_url: str) -> None:
    """asyncio keeps the context of the flush that opened a connection, but this context does not
    contain the session.
    """
    reports: list[FlushReport] = []

    async def run() -> bool:
        engine = create_async_engine(make_url(database_url).set(drivername="postgresql+asyncpg"))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()
        session = AsyncSession(engine)
        register(session, copy_min_rows=1).on_flush(reports.append)
        session.add(Item())
        await session.commit()
        kept = weakref.ref(session.sync_session)
        await session.close()
        del session
        gc.collect()
        gone = kept() is None
        await engine.dispose()
        return gone

    assert asyncio.run(run())
    assert [entry.kind for report in reports for entry in report.entries] == ["insert"]
