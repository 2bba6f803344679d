"""A COPY that is cancelled while the server works on it, compared with an INSERT on the same
driver.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.patience import wait_until
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from sqla_seqreserve import register

SLEEPY = (
    "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.name = 'sleepy' THEN PERFORM pg_sleep(30); END IF; RETURN NEW; END $$",
    "CREATE TRIGGER sleepy AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION sleepy()",
)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def watcher(database_url: str) -> Iterator[Engine]:
    """An engine on psycopg beside the one that is tested; the table is there."""
    engine = create_engine(database_url, poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in SLEEPY:
            connection.exec_driver_sql(statement)
    yield engine
    engine.dispose()


def is_asleep(watcher: Engine) -> bool:
    with watcher.connect() as connection:
        return bool(
            connection.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            )
        )


async def until_asleep(watcher: Engine) -> None:
    await asyncio.to_thread(wait_until, lambda: is_asleep(watcher), "the trigger sleeps")


def items() -> list[Item]:
    return [Item(name="awake"), Item(name="sleepy"), Item(name="awake")]


async def give_up(
    engine: AsyncEngine, watcher: Engine, how: str, settings: dict[str, Any] | None
) -> Any:
    """Save, be interrupted, and save again in the same session; return the results."""
    found: list[Any] = []
    statements: list[str] = []
    async with AsyncSession(engine) as session:
        if settings is not None:
            register(session, **settings).on_flush(
                lambda report: statements.extend(entry.writer for entry in report.entries)
            )
        session.add_all(items())
        if how == "cancel":
            saving = asyncio.create_task(session.flush())
            await until_asleep(watcher)
            saving.cancel()
            try:
                await saving
            except (asyncio.CancelledError, SQLAlchemyError) as error:
                found.append(type(error).__name__)
        else:
            try:
                async with asyncio.timeout(1):
                    await session.flush()
            except (TimeoutError, SQLAlchemyError) as error:
                found.append(type(error).__name__)
        await session.rollback()
        session.add_all([Item(name="a"), Item(name="b")])
        await session.commit()
        found.append((await session.scalars(text("SELECT name FROM item ORDER BY id"))).all())
    if settings is not None:
        assert statements == ["copy"]
    return found


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_task_that_is_cancelled_in_mid_copy(
    database_url: str, watcher: Engine, driver: str, how: str
) -> None:
    """A task that is cancelled during a COPY raises plain SQLAlchemy's exception, nothing hangs,
    and the session saves again.
    """
    url = make_url(database_url).set(drivername=f"postgresql+{driver}")
    outcomes = []
    for settings in (None, {"copy_min_rows": 1}):
        engine = create_async_engine(url)
        outcomes.append(await give_up(engine, watcher, how, settings))
        await engine.dispose()
        with watcher.begin() as connection:
            connection.execute(text("TRUNCATE item"))
    assert outcomes[0] == outcomes[1]
    assert outcomes[1][0] == {"cancel": "CancelledError", "timeout": "TimeoutError"}[how]


async def test_a_task_that_is_cancelled_in_mid_message(
    database_url: str, watcher: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that is cancelled while several statements are under way in one message ends as with
    plain SQLAlchemy, and psycopg logs no warning.
    """
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    outcomes = []
    for settings in (None, {"reserve": "always"}):
        engine = create_async_engine(url)
        async with AsyncSession(engine) as session:
            if settings is not None:
                register(session, **settings)
            session.add_all(items())
            saving = asyncio.create_task(session.flush())
            await until_asleep(watcher)
            saving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saving
            await session.rollback()
            session.add_all(items()[:1])
            await session.commit()
        await engine.dispose()
        outcomes.append([(record.name, record.getMessage()) for record in caplog.records])
        caplog.clear()
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_copy_that_another_thread_cancels(
    database_url: str, watcher: Engine, driver: str
) -> None:
    """The driver's ``cancel()`` ends the COPY as it ends an INSERT; the connection lives on."""
    engine = create_engine(make_url(database_url).set(drivername=f"postgresql+{driver}"))
    outcomes = []
    for settings in (None, {"copy_min_rows": 1}):
        with Session(engine) as session:
            if settings is not None:
                register(session, **settings)
            raw: Any = session.connection().connection.driver_connection
            canceller = threading.Thread(target=cancel_when_asleep, args=(watcher, raw))
            canceller.start()
            session.add_all(items())
            with pytest.raises(DBAPIError) as cancelled:
                session.flush()
            canceller.join()
            session.rollback()
            session.add(Item(name="after"))
            session.commit()
            error: Any = cancelled.value
            assert session.connection().connection.driver_connection is raw
            outcomes.append((type(error), type(error.orig), error.connection_invalidated))
    engine.dispose()
    assert outcomes[0] == outcomes[1]


def cancel_when_asleep(watcher: Engine, raw: Any) -> None:
    wait_until(lambda: is_asleep(watcher), "the trigger sleeps")
    raw.cancel()
