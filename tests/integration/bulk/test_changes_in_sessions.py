"""bulk_update, bulk_delete and bulk_sync in sessions and on tables of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from fixtures.changes import COUNTED, Base, Counted, Pair
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, make_url, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_seqreserve import (
    SyncResult,
    aio,
    bulk_delete,
    bulk_sync,
    bulk_update,
    bulk_upsert,
    register,
)
from sqla_seqreserve.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture
def tables(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(COUNTED))
    return engine


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_asynchronous_sessions(tables: Engine, driver: str) -> None:
    """In aio the functions are awaited, and rows and keys may come from asynchronous iterables."""

    async def numbers() -> AsyncIterator[int]:
        for number in (1, 2, 3, 44):
            await asyncio.sleep(0)
            yield number

    async def rows() -> AsyncIterator[dict[str, Any]]:
        async for number in numbers():
            yield {"id": number, "name": "b"}

    async def run() -> None:
        target = create_async_engine(make_url(tables.url).set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(target) as session, session.begin():
            done = await aio.bulk_update(session, Counted, rows(), returning="objects")
            assert [item and item.name for item in done.objects] == ["b", "b", "b", None]
            synced = await aio.bulk_sync(session, Counted, rows(), key="id", scope=true())
            assert synced == SyncResult(1, 0, 3, 6)
            assert await aio.bulk_delete(session, Counted, numbers(), chunk_rows=2) == 4
        await target.dispose()

    asyncio.run(run())


def test_a_registered_scoped_session(tables: Engine) -> None:
    """The bulk functions work with both kinds of registration."""
    session = scoped_session(sessionmaker(tables))
    register(session)
    assert bulk_update(session, Counted, [{"id": 1, "name": "b"}]).updated == 1
    assert (
        bulk_sync(session, Counted, [{"id": 1, "name": "b"}], key="id", scope=true()).deleted == 8
    )
    assert bulk_delete(session, Counted, [1, 2]) == 1
    session.remove()


CHANGES: dict[str, Callable[[Session, Any], object]] = {
    "update": lambda session, rows: bulk_update(session, Counted, rows),
    "upsert": lambda session, rows: bulk_upsert(session, Counted, rows, conflict="id"),
    "sync": lambda session, rows: bulk_sync(session, Counted, rows, key="id", scope=true()),
    "delete": lambda session, rows: bulk_delete(session, Counted, (row["id"] for row in rows)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_objects_that_the_stream_loads(
    tables: Engine, change: Callable[[Session, Any], object]
) -> None:
    """An object that the producer of the rows loads is as the call leaves its row, like one that
    was loaded before.
    """
    found: list[Any] = []

    def rows(session: Session) -> Iterator[dict[str, Any]]:
        found.extend(session.scalars(select(Counted).where(Counted.id < 3)))
        yield {"id": 1, "name": "b"}

    with Session(tables) as session:
        change(session, rows(session))
        kept = session.scalars(select(Counted).where(Counted.id < 3)).all()
        assert [item for item in found if item in session] == kept
        names = session.execute(select(Counted.name).where(Counted.id < 3)).scalars().all()
        assert [item.name for item in kept] == names


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_rollback_of_a_savepoint(
    tables: Engine, change: Callable[[Session, Any], object]
) -> None:
    """After the rollback of a savepoint, objects are as their rows are again, as after SQLAlchemy's
    own update and delete.
    """
    with Session(tables) as session:
        counted = session.get_one(Counted, 1)
        with session.begin_nested() as savepoint:
            change(session, [{"id": 1, "name": "b"}])
            assert counted not in session or counted.name == "b"
            savepoint.rollback()
        assert counted in session
        assert counted.name == "a"


def test_a_two_phase_session_is_refused(tables: Engine) -> None:
    """A two-phase session is refused, because a prepared transaction may have no
    temporary table.
    """
    with Session(tables, twophase=True) as session:
        for call in (
            lambda: bulk_update(session, Counted, [{"id": 1, "name": "b"}]),
            lambda: bulk_delete(session, Counted, [1]),
            lambda: bulk_sync(session, Counted, [], key="id", scope=true()),
        ):
            with pytest.raises(ConfigurationError, match="temporary table"):
                call()


def test_partitions(engine: Engine) -> None:
    """A row may move to another partition, and is found there."""
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE pair (a int, b text, value text, count int, PRIMARY KEY (a, b)) "
            "PARTITION BY RANGE (a)",
            "CREATE TABLE pair_1 PARTITION OF pair FOR VALUES FROM (0) TO (10)",
            "CREATE TABLE pair_2 PARTITION OF pair FOR VALUES FROM (10) TO (20)",
            "INSERT INTO pair SELECT n, 'x' || n, NULL, 0 FROM generate_series(0, 19) n",
        ):
            connection.execute(text(statement))
    with Session(engine) as session:
        rows = [{"a": n + 10, "b": f"x{n}"} for n in range(3)]
        done = bulk_update(session, Pair, rows, key="b", columns="a", returning="ids")
        assert list(done.ids) == [(10, "x0"), (11, "x1"), (12, "x2")]
        assert session.scalars(select(Pair.a).where(Pair.b == "x1")).all() == [11]
        rows = [{"a": n, "b": f"x{n}", "count": 1} for n in (5, 15, 16)]
        assert bulk_sync(session, Pair, rows, key=["a", "b"], scope=Pair.a > 4) == (
            SyncResult(0, 3, 0, 15)
        )
        assert bulk_delete(session, Pair, [(5, "x5"), (15, "x15"), (9, "x9")]) == 2


def test_row_security_hides_rows(tables: Engine) -> None:
    """Rows that a policy hides from the role count as missing, and stay."""
    with Session(tables) as session:
        session.execute(text("CREATE ROLE sees_some"))
        for statement in (
            "GRANT SELECT, INSERT, UPDATE, DELETE ON counted TO sees_some",
            "ALTER TABLE counted ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY low ON counted TO sees_some USING (id < 5)",
            "SET LOCAL ROLE sees_some",
        ):
            session.execute(text(statement))
        try:
            done = bulk_update(session, Counted, [{"id": n, "name": "b"} for n in (4, 5, 1)])
            assert (done.updated, done.missing) == (2, (1,))
            assert bulk_delete(session, Counted, [4, 5]) == 1
            rows = [{"id": n, "name": "c"} for n in (1, 2)]
            assert bulk_sync(session, Counted, rows, key="id", scope=true()) == (
                SyncResult(0, 2, 0, 1)
            )
            session.execute(text("RESET ROLE"))
            stored = session.scalars(select(Counted.id).order_by(Counted.id)).all()
            assert stored == [1, 2, 5, 6, 7, 8, 9]
        finally:
            session.rollback()


def test_a_view_can_be_deleted_from_by_its_key(tables: Engine) -> None:
    """Rows of a view can be deleted, although a view cannot be locked."""
    with tables.begin() as connection:
        connection.execute(text("ALTER TABLE counted RENAME TO counted_rows"))
        connection.execute(text("CREATE VIEW counted AS SELECT * FROM counted_rows WHERE id < 5"))
    with Session(tables) as session:
        assert bulk_update(session, Counted, [{"id": n, "name": "b"} for n in (4, 5)]).missing == (
            1,
        )
        assert bulk_delete(session, Counted, range(3, 8)) == 2
        with pytest.raises(ConfigurationError, match="names no unique index"):
            bulk_sync(session, Counted, [{"id": 1, "name": "b"}], key="id", scope=true())
