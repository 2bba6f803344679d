#!/usr/bin/env bash
# pgvector 0.5.1, registered with asyncpg 0.32.0, SQLAlchemy 2.1.9, PostgreSQL 18.6: two objects are saved, one is not.
#
# pgvector's SQLAlchemy type makes text of a vector, register_vector() has asyncpg encode it as a vector. SQLAlchemy's
# INSERT of several rows selects from VALUES, whose parameters are text, and casts; its INSERT of one row hands the text
# to pgvector's encoder, which takes lists. The same holds for point, pg_lsn and others that asyncpg encodes by itself.
# Output seen:  2 DBAPIError expected list or ndarray
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin pgvector==0.5.1 asyncpg==0.32.0 "sqlalchemy[asyncio]==2.1.9"
found=$("$work/venv/bin/python" - <<'P'
import asyncio, os
from pgvector.asyncpg import register_vector
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    embedding: Mapped[list] = mapped_column(VECTOR(2))

async def main():
    url = f"postgresql+asyncpg://postgres@/postgres?host={os.environ['PGSOCKET']}"
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE EXTENSION vector"))
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    event.listen(engine.sync_engine, "connect", lambda dbapi, _: dbapi.run_async(register_vector))
    for count in (2, 1):
        async with AsyncSession(engine) as session:
            session.add_all([Item(embedding=[1, 2]) for _ in range(count)])
            try:
                await session.commit()
                print(count, end=" ")
            except Exception as error:
                print(type(error).__name__, str(error.orig).split("(")[-1].rstrip(")"))
    await engine.dispose()

asyncio.run(main())
P
)
echo "$found"; [[ $found == "2 DBAPIError "* ]]
