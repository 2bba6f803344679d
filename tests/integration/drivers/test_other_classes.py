"""Connections and cursors that are not of the driver's own classes: agents' proxies, subclasses,
and psycopg's cursors that bind on the client.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import asyncpg
import psycopg
import pytest
from fixtures.other_classes import (
    Base,
    Basket,
    Egg,
    ProxiedConnection,
    Proxy,
    batches,
    inserts,
    libpq,
    save,
    sync_ways,
)
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sqla_seqreserve import FlushReport, bulk_insert, register, reserve_ids
from sqla_seqreserve.testing import round_trips

REASON = "in the place of the driver's own, has no COPY"


def stored(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return [
            connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY 1, 2")).all()
            for table, columns in (("basket", "number, 0"), ("egg", "name, weight"))
        ]


@pytest.fixture
def tables(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


def emptied(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE basket, egg RESTART IDENTITY"))


WAYS = ["cursor_factory", "proxies", "proxies without COPY", "subclass"]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("way", WAYS)
def test_what_stands_in_the_drivers_place_executes_each_statement(
    tables: Engine, database_url: str, driver: str, way: str
) -> None:
    """A foreign class of cursors executes the same INSERTs of few rows as with plain SQLAlchemy,
    and the rows are the same.
    """
    url = make_url(database_url).set(drivername=f"postgresql+{driver}")
    found = []
    for is_registered in (False, True):
        emptied(tables)
        seen: list[str] = []
        engine = create_engine(url, **sync_ways(driver, database_url, seen)[way])
        with Session(engine) as session:
            register(session, mode="bulk" if is_registered else "off")
            few: list[list[str]] = []
            for objects in batches():
                seen.clear()
                session.add_all(objects)
                session.commit()
                if len(objects) < 50:
                    few.append(inserts(seen))
        engine.dispose()
        found.append((few, stored(tables)))
        assert all(not few for few in found[-1][0]) == (way == "subclass")
    assert found[0] == found[1]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("settings", [{"reserve": "always"}, {"copy_min_rows": 1}, {"prefetch": 9}])
def test_every_setting_works_below_other_classes(
    tables: Engine, database_url: str, driver: str, way: str, settings: dict[str, Any]
) -> None:
    """With foreign classes all features work: keys reserved first, COPY from one row, ids alone,
    and rows without objects.
    """
    url = make_url(database_url).set(drivername=f"postgresql+{driver}")
    engine = create_engine(url, **sync_ways(driver, database_url, [])[way])
    reports: list[FlushReport] = []
    with Session(engine) as session:
        register(session, **settings).on_flush(reports.append)
        save(session)
        assert len(reserve_ids(session, Basket, 3)) == 3
        assert len(bulk_insert(session, Basket, [{"number": n} for n in range(300)])) == 300
        session.commit()
    engine.dispose()
    numbers, eggs = stored(tables)
    assert (len(numbers), len(eggs)) == (660, 114)
    entries = [entry for report in reports for entry in report.entries]
    if "copy_min_rows" in settings:
        assert {entry.writer for entry in entries} == {"orm" if "without" in way else "copy"}
        assert "without" not in way or all(REASON in str(entry.reason) for entry in entries)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("way", ["cursor_factory", "proxies"])
def test_few_rows_take_no_more_round_trips(
    tables: Engine, database_url: str, driver: str, way: str
) -> None:
    """With a foreign class few rows take at most the round trips of plain SQLAlchemy."""
    taken: list[list[int]] = []
    with round_trips(database_url) as wire:
        counted = wire.url
        for is_registered in (False, True):
            engine = create_engine(
                make_url(counted).set(drivername=f"postgresql+{driver}"),
                **sync_ways(driver, counted, [])[way],
            )
            with Session(engine) as session:
                register(session, mode="bulk" if is_registered else "off")
                save(session)
                taken.append([])
                for objects in (some for some in batches() if len(some) < 50):
                    with wire.counting() as count:
                        session.add_all(objects)
                        session.commit()
                    taken[-1].append(count.round_trips)
            engine.dispose()
    plain, ours = taken
    assert [max(plain_, our) for plain_, our in zip(plain, ours, strict=True)] == plain


def test_methods_in_place_of_psycopgs_execute_each_statement(
    tables: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper around a method of psycopg's class sees every INSERT, too."""
    seen: list[str] = []
    engine = create_engine(make_url(database_url))
    with Session(engine) as session:
        register(session, reserve="always")
        # Before it, and after it, was looked at.
        session.add(Basket(number=0))
        session.commit()
        plain = psycopg.Cursor.execute

        @functools.wraps(plain)
        def execute(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(statement)
            return plain(self, statement, *args, **kwargs)

        monkeypatch.setattr(psycopg.Cursor, "execute", execute)
        session.add(Basket(number=1, eggs=[Egg()]))
        session.commit()
        assert len(inserts(seen)) == 2
        monkeypatch.undo()
        seen.clear()
        session.add(Basket(number=2))
        session.commit()
        assert seen == []
    engine.dispose()


def test_a_pool_may_hold_connections_of_several_classes(tables: Engine, database_url: str) -> None:
    """Each connection of an engine is used by its own class, not by that of another connection."""
    seen: list[str] = []
    classes = iter([lambda below, _: below, ProxiedConnection] * 2)
    engine = create_engine(
        make_url(database_url),
        creator=lambda: next(classes)(psycopg.connect(libpq(database_url)), seen),
    )
    with Session(engine) as one, Session(engine) as other:
        register(one, reserve="always")
        register(other, reserve="always")
        for _ in range(2):
            for session in (one, other):
                session.add(Basket(number=1, eggs=[Egg()]))
                seen.clear()
                session.flush()
                assert len(inserts(seen)) == (2 if session is other else 0)
    engine.dispose()


CLIENT_ROWS: list[dict[str, Any]] = [
    {"weight": 0.1234567890123456789, "name": "a"},
    {"weight": 1e20, "name": None},
    {"weight": 12345678901234567.0, "name": "b"},
]


@pytest.mark.parametrize("rows", [1, 3, 300])
@pytest.mark.parametrize("is_async", [False, True])
def test_cursors_that_bind_by_themselves(
    tables: Engine, database_url: str, rows: int, is_async: bool
) -> None:
    """With psycopg's ClientCursor values are those of SQLAlchemy's INSERT, and nothing
    is prepared.
    """
    found, prepared = [], []
    reports: list[FlushReport] = []

    def saving(session: Session, is_registered: bool) -> None:
        registration = register(session, mode="bulk" if is_registered else "off")
        registration.on_flush(reports.append)
        for _ in range(8):
            basket = Basket(number=1)
            basket.eggs = [Egg(**CLIENT_ROWS[n % len(CLIENT_ROWS)]) for n in range(rows)]
            session.add(basket)
            session.commit()
        reserve_ids(session, Egg, 2)
        if rows > 1:
            basket_id = session.connection().scalar(text("SELECT min(id) FROM basket"))
            bulk_insert(session, Egg, [row | {"basket_id": basket_id} for row in CLIENT_ROWS] * 30)
        prepared.append(
            session.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar()
        )
        session.commit()

    async def in_async(is_registered: bool) -> None:
        url = make_url(database_url)
        args = {"cursor_factory": psycopg.AsyncClientCursor}
        engine = create_async_engine(url, connect_args=args)
        async with AsyncSession(engine) as session:
            await session.run_sync(saving, is_registered)
        await engine.dispose()

    for is_registered in (False, True):
        emptied(tables)
        if is_async:
            asyncio.run(in_async(is_registered))
        else:
            args = {"cursor_factory": psycopg.ClientCursor}
            engine = create_engine(make_url(database_url), connect_args=args)
            with Session(engine) as session:
                saving(session, is_registered)
            engine.dispose()
        found.append(stored(tables))
    assert found[0] == found[1]
    assert prepared == [0, 0]
    assert {entry.writer for report in reports for entry in report.entries} <= {"orm", "insert"}


def test_explain_names_what_keeps_rows_from_copy(tables: Engine, database_url: str) -> None:
    """explain() names the class that replaces the driver's own, and what helps."""
    url = make_url(database_url)
    wayside = sync_ways("psycopg", database_url, [])["proxies without COPY"]
    for arguments, reason in (
        (wayside, REASON),
        ({"connect_args": {"cursor_factory": psycopg.ClientCursor}}, "ClientCursor"),
    ):
        engine = create_engine(url, **arguments)
        with Session(engine) as session:
            explained = register(session).explain(engine, [Basket])[0]
        engine.dispose()
        assert reason in str(explained.reason)
        assert explained.remedy


class OwnConnection(asyncpg.Connection):  # type: ignore[misc]  # without types
    pass


class ProxyWithoutProtocol(Proxy):
    def __getattr__(self, name: str) -> Any:
        if name == "_protocol":
            raise AttributeError(name)
        return super().__getattr__(name)


@pytest.mark.parametrize("way", ["subclass", "proxy", "proxy without COPY"])
async def test_asyncpg_below_another_class(tables: Engine, database_url: str, way: str) -> None:
    """asyncpg's connections may be of another class, or be proxies; rows go by COPY where these
    have it.
    """
    dsn = libpq(database_url)

    async def connect(*_: Any, **__: Any) -> Any:
        if way == "subclass":
            return await asyncpg.connect(dsn, connection_class=OwnConnection)
        cls = Proxy if way == "proxy" else ProxyWithoutProtocol
        return cls(await asyncpg.connect(dsn), [])

    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, async_creator=connect)
    reports: list[FlushReport] = []
    for settings in ({}, {"reserve": "always"}, {"copy_min_rows": 1}):
        async with AsyncSession(engine) as session:
            register(session, **settings).on_flush(reports.append)
            await session.run_sync(save)
    await engine.dispose()
    numbers, eggs = stored(tables)
    assert (len(numbers), len(eggs)) == (360 * 3, 114 * 3)
    by_copy = any(entry.writer == "copy" for report in reports for entry in report.entries)
    assert by_copy == (way != "proxy without COPY")
