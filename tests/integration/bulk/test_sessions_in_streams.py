"""A stream of rows, or ``progress``, uses the session into which its rows are written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.bulk_keys import DRIVERS
from fixtures.bulk_keys import on_driver as on_driver
from sqlalchemy import Engine, Identity, func, inspect, make_url, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import aio, bulk_insert, bulk_upsert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[int | None]


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]


@pytest.fixture(autouse=True)
def tables(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


def agree(session: Session) -> None:
    """The session's objects and the rows of the table are the same."""
    session.flush()
    kept = [item for item in session if isinstance(item, Parent)]
    assert all(inspect(item).persistent for item in kept)
    rows = session.execute(select(Parent.id, Parent.name)).all()
    assert sorted((item.id, item.name) for item in kept) == sorted(map(tuple, rows))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("bad", [{"name": None}, {"name": "n3"}], ids=["refused", "by the server"])
def test_what_the_stream_flushes_goes_with_its_rows(
    on_driver: Any, driver: str, bad: dict[str, Any]
) -> None:
    """If a later row is refused, objects that the stream flushed are undone with its rows, in the
    session and in the table.
    """

    def scenario(session: Session) -> None:
        before = [Parent(name=f"before {n}") for n in range(10)]
        session.add_all(before)
        session.flush()
        waiting, made = Parent(name="waiting"), []
        session.add(waiting)
        gone, changed = before[0], before[1]

        def rows() -> Iterator[dict[str, Any]]:
            for n in range(20):
                if n == 13:
                    session.delete(gone)
                    changed.name = "changed"
                made.append(Parent(name=f"parent {n}"))
                session.add(made[-1])
                session.flush()
                yield {"name": f"n{n}"}
            yield bad

        with pytest.raises((InvalidRowsError, IntegrityError)):
            bulk_insert(session, Line, rows(), chunk_rows=5)
        assert session.scalar(select(func.count()).select_from(Line)) == 0
        assert inspect(gone).persistent
        assert gone.name == "before 0"
        assert inspect(waiting).persistent or inspect(waiting).pending
        agree(session)
        assert session.scalar(select(Parent.name).filter_by(name="waiting")) == "waiting"
        # What the first chunks were read for came before the savepoint, and stays.
        stay = [item for item in made if inspect(item).persistent]
        assert all(inspect(item).transient for item in made[len(stay) :])
        assert len(stay) < 20

    on_driver(driver, scenario)


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_the_stream_flushes_stays(on_driver: Any, driver: str) -> None:
    """If all rows are written, objects that the stream flushed are, too, and a rollback undoes
    everything.
    """

    def scenario(session: Session) -> None:
        made: list[Parent] = []

        def rows() -> Iterator[dict[str, Any]]:
            for n in range(20):
                made.append(Parent(name=f"parent {n}"))
                session.add(made[-1])
                if n % 2:
                    session.flush()
                yield {"name": f"n{n}"}

        with session.begin_nested() as outer:
            assert bulk_insert(session, Line, rows(), chunk_rows=5, returning=None) == 20
            agree(session)
            outer.rollback()
        assert all(inspect(item).transient for item in made)
        assert session.scalar(select(func.count()).select_from(Line)) == 0
        agree(session)

    on_driver(driver, scenario)


def test_nothing_is_flushed_or_fired_for_the_savepoint(tables: Engine) -> None:
    """A stream's savepoint flushes nothing, expires nothing, and fires no commit event."""
    from sqlalchemy import event

    with Session(tables) as session:
        kept, waiting = Parent(name="kept"), Parent(name="waiting")
        session.add(kept)
        session.flush()
        kept.name = "changed"
        session.add(waiting)
        heard: list[str] = []
        for name in ("before_commit", "after_commit", "after_flush", "after_transaction_create"):
            event.listen(session, name, lambda *_, name=name: heard.append(name))
        for bad in ([], [{"name": None}]):
            rows = [*({"name": f"{len(bad)} {n}"} for n in range(9)), *bad]
            try:
                bulk_insert(session, Line, iter(rows), chunk_rows=2)
            except InvalidRowsError:
                assert bad
            assert not heard
            assert inspect(waiting).pending
            assert inspect(kept).modified
            assert kept.name == "changed"
        session.commit()
        assert kept.name == "changed"
        agree(session)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("function", ["insert", "upsert"])
@pytest.mark.parametrize("how", ["commit", "rollback", "nested"])
def test_a_stream_that_ends_the_transaction_is_refused(
    tables: Engine, driver: str, function: str, how: str
) -> None:
    """If a stream ends the session's transaction, the error says that it must not."""

    def rows(session: Session) -> Iterator[dict[str, Any]]:
        for n in range(5):
            yield {"name": f"n{n}"}
        if how == "nested":
            with session.begin_nested():
                yield {"name": "within"}
                yield {"name": "within 2"}
                yield {"name": "within 3"}
        else:
            getattr(session, how)()
        yield {"name": "last"}

    def scenario(session: Session) -> None:
        with pytest.raises(ConfigurationError, match="the session's transaction"):
            if function == "insert":
                bulk_insert(session, Line, rows(session), chunk_rows=2)
            else:
                bulk_upsert(session, Line, rows(session), conflict=["name"], chunk_rows=2)
        session.rollback()
        count = session.scalar(select(func.count()).select_from(Line))
        assert count == 0 or how == "commit"

    in_a_session(tables, driver, scenario)


USES: dict[str, Callable[[Session], Any]] = {
    "query": lambda session: session.scalar(text("SELECT 1")),
    "flush": lambda session: (session.add(Parent(name="late")), session.flush()),
    "bulk_insert": lambda session: bulk_insert(session, Parent, [{"name": "late"}]),
    "savepoint": lambda session: (session.begin_nested(), session.connection()),
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "driver": lambda session: session.connection().connection.cursor(),
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("function", ["insert", "upsert"])
def test_progress_in_the_middle_of_a_copy_cannot_use_the_session(
    tables: Engine, driver: str, use: str, function: str
) -> None:
    """If ``progress`` uses the session during a COPY, the error says what to do instead; nothing
    hangs, and the connection stays usable.
    """
    asked: list[int] = []

    def run(session: Session) -> None:
        def progress(rows: int) -> None:
            asked.append(rows)
            USES[use](session)

        rows = [{"name": f"n{n}"} for n in range(500)]
        session.scalar(text("SELECT 1"))
        with pytest.raises(ConfigurationError, match="in the middle of a COPY"):
            if function == "insert":
                bulk_insert(session, Line, rows, progress=progress)
            else:
                bulk_upsert(session, Line, rows, conflict=["name"], progress=progress)
        session.rollback()
        assert asked
        assert session.scalar(select(func.count()).select_from(Line)) == 0
        bulk_insert(session, Line, rows, progress=asked.append)
        session.commit()
        assert session.scalar(select(func.count()).select_from(Line)) == 500

    in_a_session(tables, driver, run)


@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_may_use_the_session(tables: Engine, driver: str) -> None:
    """A generator is only asked for rows between COPYs, so it may query, flush and insert."""

    def run(session: Session) -> None:
        def rows() -> Iterator[dict[str, Any]]:
            for n in range(600):
                if n % 100 == 3:
                    session.add(Parent(name=f"p{n}"))
                    session.flush()
                    bulk_insert(session, Parent, [{"name": f"q{n}"}] * 150)
                yield {"name": f"n{n}", "amount": session.scalar(select(func.count(Parent.id)))}

        assert len(bulk_insert(session, Line, rows(), chunk_rows=150)) == 600
        done = bulk_upsert(session, Line, rows(), conflict=["name"], chunk_rows=250)
        assert (done.inserted, done.updated) == (0, 600)
        session.commit()
        assert session.scalar(select(func.max(Line.amount))) == 12 * 151

    in_a_session(tables, driver, run)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_progress_of_the_awaited_functions(tables: Engine, driver: str) -> None:
    """In aio, too, ``progress`` may not use the session during a COPY."""

    async def run() -> None:
        engine = create_async_engine(make_url(tables.url).set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(engine) as session:

            def progress(_: int) -> None:
                session.sync_session.scalar(text("SELECT 1"))

            rows = [{"name": f"n{n}"} for n in range(500)]
            with pytest.raises(ConfigurationError, match="in the middle of a COPY"):
                await aio.bulk_insert(session, Line, rows, progress=progress)
            await session.rollback()
            assert await session.scalar(select(func.count()).select_from(Line)) == 0
        await engine.dispose()

    asyncio.run(run())


def in_a_session(engine: Engine, driver: str, run: Callable[[Session], Any]) -> None:
    """Run a function with a session whose transaction it may end."""
    from sqlalchemy import create_engine

    url = make_url(engine.url).set(drivername=f"postgresql+{driver}")
    if driver != "asyncpg":
        made = create_engine(url, pool_size=1, max_overflow=0)
        with Session(made) as session:
            run(session)
        made.dispose()
        return

    async def run_async() -> None:
        made = create_async_engine(url, pool_size=1, max_overflow=0)
        async with AsyncSession(made) as session:
            await session.run_sync(run)
        await made.dispose()

    asyncio.run(run_async())
