#!/usr/bin/env bash
# SQLAlchemy 2.1.9 with asyncpg 0.32.0: deleting two objects that count their versions, of which somebody else has changed
# one, raises nothing; with one object it raises StaleDataError, and so do two with psycopg 3.3.9.
#
# asyncpg's executemany() reports no row count, so SQLAlchemy executes such DELETEs one by one and counts, but compares
# the count only "if the dialect supports sane multi rowcount or there is one object". The changed row stays, and the
# session takes both for deleted.
# Output seen:  psycopg 2 StaleDataError / asyncpg 1 StaleDataError / asyncpg 2 nothing, 1 row left
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin "sqlalchemy[asyncio]==2.1.9" asyncpg==0.32.0 "psycopg[binary]==3.3.9"
found=$("$work/venv/bin/python" - <<'P'
import asyncio, os
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import StaleDataError
class Base(DeclarativeBase): ...
class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}
async def said(driver, count):
    e = create_async_engine(f"postgresql+{driver}://postgres@/postgres?host={os.environ['PGSOCKET']}")
    async with e.begin() as c:
        await c.run_sync(Base.metadata.drop_all); await c.run_sync(Base.metadata.create_all)
    async with AsyncSession(e, expire_on_commit=False) as s:
        items = [Item() for _ in range(count)]
        s.add_all(items); await s.commit()
        async with e.begin() as c: await c.execute(sa.text("UPDATE item SET version = 9 WHERE id = 1"))
        for item in items: await s.delete(item)
        try: await s.commit(); what = "nothing"
        except StaleDataError: what = "StaleDataError"; await s.rollback()
    async with e.connect() as c: left = (await c.execute(sa.text("SELECT count(*) FROM item"))).scalar()
    await e.dispose()
    return f"{driver.removesuffix('_async')} {count} {what}" + (f", {left} row left" if what == "nothing" else "")
async def main():
    print(" / ".join([await said("psycopg_async", 2), await said("asyncpg", 1), await said("asyncpg", 2)]))
asyncio.run(main())
P
)
echo "$found"; [[ $found == "psycopg 2 StaleDataError / asyncpg 1 StaleDataError / asyncpg 2 nothing, 1 row left" ]]
