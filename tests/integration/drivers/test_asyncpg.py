"""asyncpg behind the seam for drivers: no codec outlives the column that it was read from."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
import sqlalchemy
from fixtures.run_names import of_this_run
from sqlalchemy import BigInteger, Integer, event, exc, make_url, text
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqla_seqreserve import FlushReport, bulk_insert, register
from sqla_seqreserve._drivers import driver_of
from sqla_seqreserve._drivers.asyncpg import _rows
from sqla_seqreserve.testing import record_statements


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int | None] = mapped_column(Integer)
    name: Mapped[str | None]


@pytest_asyncio.fixture(params=[{}, {"statement_cache_size": 0}], ids=["cached", "not cached"])
async def engine(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """One connection of asyncpg's, which keeps prepared statements or does not."""
    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, connect_args=request.param, pool_size=1, max_overflow=0)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


async def save(engine: AsyncEngine, *sizes: int) -> str:
    """Save items through COPY; return the writer."""
    reports: list[FlushReport] = []
    async with AsyncSession(engine) as session:
        register(session, copy_min_rows=1).on_flush(reports.append)
        session.add_all([Item(size=size, name=f"n{size}") for size in sizes])
        await session.commit()
    [entry] = reports[0].entries
    return entry.writer


async def stored(engine: AsyncEngine) -> list[int]:
    async with engine.connect() as connection:
        return list(await connection.scalars(text("SELECT size::int FROM item ORDER BY id")))


@pytest.mark.parametrize("type_", ["bigint", "smallint"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same engine", "another's DDL"])
async def test_an_altered_type_is_written_as_it_is_now(
    engine: AsyncEngine, type_: str, elsewhere: bool
) -> None:
    """After ALTER TYPE, by any session, COPY writes the rows that INSERT writes."""
    assert await save(engine, 1, 2) == "copy"
    alter = text(f"ALTER TABLE item ALTER size TYPE {type_}")
    ddl = create_async_engine(engine.url) if elsewhere else engine
    async with ddl.begin() as connection:
        await connection.execute(alter)
    assert await save(engine, 3, 4) == "copy"
    assert await stored(engine) == [1, 2, 3, 4]
    if elsewhere:
        await ddl.dispose()


async def test_a_type_that_was_altered_and_rolled_back(engine: AsyncEngine) -> None:
    """Statements prepared in a transaction that altered the table are not used after
    its rollback.
    """
    assert await save(engine, 1) == "copy"
    async with AsyncSession(engine) as session:
        register(session, copy_min_rows=1)
        await session.execute(text("ALTER TABLE item ALTER size TYPE bigint"))
        session.add(Item(size=2, name="two"))
        await session.flush()
        await session.rollback()
    assert await save(engine, 3) == "copy"
    assert await stored(engine) == [1, 3]


async def test_another_table_of_the_name(engine: AsyncEngine) -> None:
    """If search_path leads to another table, COPY uses the columns of that table."""
    assert await save(engine, 1) == "copy"
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA other"))
        await connection.execute(
            text("CREATE TABLE other.item (id bigserial PRIMARY KEY, size bigint, name text)")
        )
    async with AsyncSession(engine) as session:
        register(session, copy_min_rows=1)
        await session.execute(text("SET LOCAL search_path = other, public"))
        session.add(Item(size=2, name="two"))
        await session.flush()
        found = await session.scalars(text("SELECT size FROM other.item"))
        assert found.all() == [2]
        await session.rollback()
    assert await save(engine, 3) == "copy"
    assert await stored(engine) == [1, 3]


async def test_a_codec_that_is_set_later(engine: AsyncEngine) -> None:
    """A codec that the user sets for a column's type is used from the next COPY on; if it is a text
    codec, which COPY cannot use, INSERT writes the rows, and the report says why.
    """
    assert await save(engine, 1) == "copy"
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.set_type_codec(
            "int4",
            schema="pg_catalog",
            format="binary",
            encoder=lambda value: (value * 10).to_bytes(4),
            decoder=int.from_bytes,
        )
    assert await save(engine, 2) == "copy"
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        await driver.reset_type_codec("int4", schema="pg_catalog")
        found = await connection.scalars(text("SELECT size FROM item ORDER BY id"))
        assert found.all() == [1, 20]
        await driver.set_type_codec(
            "int4", schema="pg_catalog", format="text", encoder=str, decoder=int
        )
    assert await save(engine, 3) == "orm"
    async with AsyncSession(engine) as session:
        await session.run_sync(bulk_insert, Item, [{"size": 4}])
        await session.commit()
    assert await stored(engine) == [1, 20, 3, 4]


async def test_the_columns_are_looked_at_once(engine: AsyncEngine) -> None:
    """Once the columns are known, only the COPY is sent for its rows."""
    await save(engine, 1)
    async with AsyncSession(engine) as session:
        register(session, copy_min_rows=1)
        with record_statements(engine) as statements:
            session.add_all([Item(size=n) for n in range(3)])
            await session.flush()
        assert [str(each).partition(" ")[0] for each in statements] == ["SELECT", "COPY"]
        prepared = await session.scalars(text("SELECT statement FROM pg_prepared_statements"))
        looks = [each for each in prepared if each.startswith("SELECT") and "LIMIT 0" in each]
        assert len(looks) <= 1


async def test_insert_on_the_table_is_privilege_enough(engine: AsyncEngine) -> None:
    """COPY, and looking at the columns, needs no SELECT privilege."""
    role = of_this_run("only_insert")
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE ROLE {role}"))
        await connection.execute(text(f"GRANT INSERT ON item TO {role}"))
        await connection.execute(text(f"GRANT USAGE ON SEQUENCE item_id_seq TO {role}"))
    try:
        async with AsyncSession(engine) as session:
            register(session, copy_min_rows=1)
            await session.execute(text(f"SET LOCAL ROLE {role}"))
            session.add_all([Item(size=1), Item(size=2)])
            await session.commit()
        assert await stored(engine) == [1, 2]
    finally:
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP OWNED BY {role}"))
            await connection.execute(text(f"DROP ROLE {role}"))


async def test_other_tasks_run_during_a_long_copy(engine: AsyncEngine) -> None:
    """A copy of many rows gives other tasks their turn while it encodes."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with AsyncSession(engine) as session:
        rows = [{"size": n} for n in range(60_000)]
        counting = asyncio.create_task(count())
        seen: list[int] = []

        def progress(_: int) -> None:
            seen.append(turns)

        await session.run_sync(lambda sync: bulk_insert(sync, Item, rows, progress=progress))
        counting.cancel()
    assert len(seen) == 8
    assert seen == sorted(set(seen))


async def test_progress_that_raises_stops_the_copy(engine: AsyncEngine) -> None:
    """An error of the caller's progress function is raised unchanged, and nothing is written."""

    def refuse(_: int) -> None:
        raise ValueError("enough")

    for count in (3, 20_000):
        async with AsyncSession(engine) as session:
            with pytest.raises(ValueError, match="enough"):
                await session.run_sync(
                    lambda sync, count=count: bulk_insert(
                        sync, Item, [{"size": 1}] * count, progress=refuse
                    )
                )
            await session.rollback()
            assert (await session.scalars(text("SELECT count(*) FROM item"))).all() == [0]


async def test_a_copy_on_a_closed_connection(engine: AsyncEngine) -> None:
    """A COPY on a closed connection raises the error of a lost connection, and the
    session goes on.
    """
    async with AsyncSession(engine) as session:
        register(session, copy_min_rows=1)
        await session.execute(text("SELECT 1"))
        raw = await (await session.connection()).get_raw_connection()
        driver: Any = raw.driver_connection
        driver.terminate()
        session.add(Item(size=1))
        with pytest.raises(exc.InterfaceError) as lost:
            await session.flush()
        assert lost.value.connection_invalidated
        await session.rollback()
        session.add(Item(size=1))
        await session.commit()
    assert await stored(engine) == [1]


async def test_what_asyncpg_knows_of_the_connection(engine: AsyncEngine) -> None:
    """asyncpg's connection shows whether the next statement begins a transaction, and the settings
    that the server reports.
    """
    driver = driver_of(engine.dialect)
    assert driver is not None
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        assert driver.transaction_status(raw) == "idle"
        await connection.execute(text("SET application_name = 'told'"))
        assert driver.transaction_status(raw) != "idle"
        assert driver.setting(raw, "application_name") == "told"
        assert driver.setting(raw, "work_mem") is None
        await connection.rollback()
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        assert driver.transaction_status(raw) != "idle"


def test_asyncpg_has_the_names() -> None:
    """asyncpg has every private name that COPY uses; this fails for a release that moves one."""
    assert "_protocol" in asyncpg.Connection.__slots__
    from asyncpg.prepared_stmt import PreparedStatement
    from asyncpg.protocol.protocol import BaseProtocol

    assert "_state" in PreparedStatement.__slots__
    assert hasattr(BaseProtocol, "copy_in")


def test_values_of_each_type_are_read_from_a_copy() -> None:
    """Whole numbers, NULL, UUIDs, and text with whatever COPY escapes."""
    line = b"0\t7\t\\N\t0edfb02e-214e-4a0f-b911-18c7a209572d\ta\\tb\\\\n\\nc\n"
    assert _rows(line, ["int8", "uuid", "text"]) == [
        (0, 7, None, UUID("0edfb02e-214e-4a0f-b911-18c7a209572d"), "a\tb\\n\nc")
    ]
    assert _rows(b"0\t7\n1\t\\N\n", []) == [(0, 7), (1, None)]


class Words(DeclarativeBase):
    pass


class Word(Words):
    __tablename__ = "word"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    word: Mapped[str] = mapped_column(CITEXT)


@pytest.mark.parametrize("codec", [None, "text", "binary"])
async def test_only_a_codec_of_the_users_keeps_a_type_of_an_extension_from_copy(
    engine: AsyncEngine, codec: str | None
) -> None:
    """A codec that asyncpg sets by itself, for the first parameter of an unknown type, does not
    count as one of the application.
    """
    async with engine.begin() as connection:
        await connection.execute(text("CREATE EXTENSION citext"))
        await connection.run_sync(Words.metadata.create_all)
        if codec is not None:
            raw = await connection.get_raw_connection()
            coder: Any = str if codec == "text" else (lambda value: value.encode())
            await raw.driver_connection.set_type_codec(
                "citext", encoder=coder, decoder=str, schema="public", format=codec
            )
    writers = []
    for registered in (False, True, True):
        reports: list[FlushReport] = []
        async with AsyncSession(engine) as session:
            if registered:
                register(session, copy_min_rows=1).on_flush(reports.append)
            session.add_all([Word(word="A"), Word(word="b")])
            await session.commit()
        writers += [entry.writer for report in reports for entry in report.entries]
    assert writers == ["orm" if codec else "copy"] * 2


@pytest.mark.skipif(
    sqlalchemy.__version__ == "2.0.8", reason="it does not translate every error of asyncpg's"
)
async def test_a_session_that_the_server_has_ended_before_a_copy_is_refused_as_in_plain(
    engine: AsyncEngine,
) -> None:
    """The error says that the connection is invalid, and the next session has another connection,
    even if asyncpg has read the server's last message and not yet the end of the connection.
    """
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0"
    last_message = b"E" + struct.pack("!i", len(fields) + 4) + fields
    refusals = []

    def end(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith(("COPY", "INSERT")):
            cursor._connection._protocol.data_received(last_message)

    await save(engine, 1)
    for registered in (False, True):
        async with AsyncSession(engine) as session:
            if registered:
                register(session, copy_min_rows=1)
            session.add_all([Item(size=2), Item(size=3)])
            event.listen(engine.sync_engine, "before_cursor_execute", end)
            with pytest.raises(exc.DBAPIError) as refused:
                await session.flush()
            event.remove(engine.sync_engine, "before_cursor_execute", end)
        error = refused.value
        refusals.append((type(error), type(error.orig), error.connection_invalidated))
        await save(engine, 4)
    assert refusals[0] == refusals[1]
    assert await stored(engine) == [1, 4, 4]
