"""Round trips, counted on the network connection, on every driver."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread, active_count
from typing import Any

import psycopg
import pytest
from psycopg import pq
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.testing import Wire, round_trips

SYNC = ("postgresql+psycopg", "postgresql+psycopg2")
ASYNC = ("postgresql+asyncpg", "postgresql+psycopg_async")


class Base(DeclarativeBase):
    pass


class _Numbered:
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class Apple(_Numbered, Base):
    __tablename__ = "apple"


class Pear(_Numbered, Base):
    __tablename__ = "pear"


class Plum(_Numbered, Base):
    __tablename__ = "plum"


FRUIT: tuple[type[Any], ...] = (Apple, Pear, Plum)


def make(models: int, rows: int) -> list[Any]:
    return [model(number=number) for model in FRUIT[:models] for number in range(rows)]


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    """A relay to a database that has the tables."""
    Base.metadata.create_all(engine)
    with round_trips(database_url) as wire:
        yield wire


# Models, rows of each, round trips: BEGIN, one INSERT for every 1,000 rows of a class, COMMIT.
SAVES = [(1, 1, 3), (1, 10, 3), (3, 1, 5), (1, 5000, 7)]


@pytest.mark.parametrize("driver", SYNC)
@pytest.mark.parametrize(("models", "rows", "expected"), SAVES)
def test_a_save_of_plain_sqlalchemy(
    wire: Wire, driver: str, models: int, rows: int, expected: int
) -> None:
    """Once a connection has been used, plain SQLAlchemy takes a round trip for each of its
    statements.
    """
    engine = create_engine(wire.url.set(drivername=driver))
    with Session(engine) as session:
        session.add_all(make(models, 2))
        session.commit()

    with wire.counting() as count, Session(engine) as session:
        session.add_all(make(models, rows))
        session.commit()

    engine.dispose()
    assert count.round_trips == expected, count
    assert count.connections == 0


@pytest.mark.parametrize("driver", ASYNC)
@pytest.mark.parametrize(("models", "rows", "expected"), SAVES)
async def test_an_asynchronous_save_of_plain_sqlalchemy(
    wire: Wire, driver: str, models: int, rows: int, expected: int
) -> None:
    """On asynchronous drivers plain SQLAlchemy takes a round trip per statement, once all
    statements are prepared.
    """
    engine = create_async_engine(wire.url.set(drivername=driver))
    for _ in range(2):
        async with AsyncSession(engine) as session:
            session.add_all(make(models, rows))
            await session.commit()

    with wire.counting() as count:
        async with AsyncSession(engine) as session:
            session.add_all(make(models, rows))
            await session.commit()

    await engine.dispose()
    assert count.round_trips == expected, count


def test_the_count_agrees_with_libpqs_own_trace(wire: Wire, tmp_path: Path) -> None:
    """The messages and round trips that the relay counts are those that libpq traces."""
    if not hasattr(pq.PGconn, "trace") or pq.version() < 140000:
        pytest.skip("this libpq does not trace in a form that can be read")
    file = tmp_path / "trace"
    with psycopg.connect(_conninfo(wire)) as connection:
        connection.execute("SELECT 1")
        connection.rollback()
        with file.open("w") as out:
            connection.pgconn.trace(out.fileno())
            connection.pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
            with wire.counting() as count:
                connection.execute("CREATE TEMP TABLE t (n int)")
                for number in range(7):  # psycopg prepares in between
                    connection.execute("INSERT INTO t VALUES (%s) RETURNING n", [number])
                with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
                    copy.write_row([1])
                with connection.pipeline():
                    connection.execute("INSERT INTO t VALUES (%s)", [1])
                    connection.execute("INSERT INTO t VALUES (%s)", [2])
                connection.commit()
            connection.pgconn.untrace()

    traced = re.findall(r"^([FB])\t\d+\t(\w+)", file.read_text(), re.MULTILINE)
    sides = "".join(side for side, _ in traced)
    assert [name for side, name in traced if side == "F"] == [m.name for m in count.messages]
    assert len(re.findall("F+", sides)) == count.round_trips, count


def _conninfo(wire: Wire) -> str:
    return wire.url.set(drivername="postgresql").render_as_string(hide_password=False)


def test_what_is_sent_without_waiting_is_one_round_trip(wire: Wire) -> None:
    """Messages that a client sends before it reads an answer are one round trip."""
    with psycopg.connect(_conninfo(wire)) as connection:
        libpq = connection.pgconn
        libpq.nonblocking = 1
        libpq.enter_pipeline_mode()
        with wire.counting() as count:
            for _ in range(3):
                libpq.send_query_params(b"SELECT 1", [])
                libpq.pipeline_sync()
                libpq.flush()
                time.sleep(0.002)  # the answer is on its way meanwhile
            while libpq.is_busy():
                libpq.consume_input()
        libpq.finish()

    assert [message.name for message in count.messages].count("Sync") == 3
    assert count.round_trips == 1, count


def test_copy_waits_twice(wire: Wire) -> None:
    """COPY takes two round trips: one until the server is ready for the data, one until the end of
    its data, which is counted as one message.
    """
    with (
        psycopg.connect(_conninfo(wire), autocommit=True) as connection,
        wire.counting() as count,
        connection.cursor() as cursor,
        cursor.copy("COPY apple (number) FROM STDIN") as copy,
    ):
        for number in range(50_000):
            copy.write_row([number])
    names = [message.name for message in count.messages]

    assert names == ["Query", "CopyData", "CopyDone"], count
    assert count.round_trips == 2, count


def test_a_count_holds_what_its_block_sent(wire: Wire) -> None:
    """A count contains what its block sent, and counts can follow or contain each other; the wire
    keeps all messages.
    """
    engine = create_engine(wire.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        with wire.counting() as outer:
            connection.exec_driver_sql("SELECT 'first'")
            with wire.counting() as inner:
                connection.exec_driver_sql("SELECT 'second'")
        with wire.counting() as empty:
            pass
        connection.exec_driver_sql("SELECT 'third'")
    engine.dispose()

    assert (outer.round_trips, inner.round_trips, empty.round_trips) == (2, 1, 0)
    assert [message.text for message in inner.messages if message.text] == ["SELECT 'second'"]
    shown = str(outer)
    assert shown.startswith("2 round trips\n  1 ")
    assert "  2 " in shown
    assert "SELECT 'second'" in shown
    texts = [message.text for message in wire.messages]
    assert {"SELECT 'first'", "SELECT 'second'", "SELECT 'third'"} <= set(texts)


@pytest.mark.parametrize("driver", SYNC)
def test_a_new_connection_shows(wire: Wire, driver: str) -> None:
    """If a connection is opened in the block, its messages are counted, and the count says that it
    was opened.
    """
    engine = create_engine(wire.url.set(drivername=driver))
    with wire.counting() as count, engine.connect():
        pass
    engine.dispose()

    assert count.connections == 1
    assert "StartupMessage" in [message.name for message in count.messages]
    assert count.round_trips >= 3


@pytest.mark.parametrize("driver", SYNC)
def test_an_error_arrives_as_without_the_wire(wire: Wire, driver: str) -> None:
    """An error of the server passes the relay unchanged, and the connection can be used
    afterwards.
    """
    engine = create_engine(wire.url.set(drivername=driver))
    with engine.connect() as connection:
        with wire.counting() as count, pytest.raises(DBAPIError, match="division by zero"):
            connection.execute(text("SELECT 1 / 0"))
        connection.rollback()
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()

    assert count.round_trips == 2, count


def test_many_connections_at_once(wire: Wire) -> None:
    """Each of many connections is counted, and large results arrive complete."""
    statement = "SELECT repeat('x', 100) FROM generate_series(1, 10000)"
    rows: list[int] = []

    def work() -> None:
        with psycopg.connect(_conninfo(wire), autocommit=True) as connection:
            found = connection.execute(statement).fetchall()
            rows.append(sum(len(row[0]) for row in found))

    with wire.counting() as count:
        threads = [Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert rows == [1_000_000] * 20
    assert count.connections == 20


def test_a_far_server_answers_no_sooner_than_it_can(engine: Engine, database_url: str) -> None:
    """Each round trip takes at least the time that was asked for."""
    with (
        round_trips(database_url, round_trip_time=0.02) as wire,
        psycopg.connect(_conninfo(wire), autocommit=True) as connection,
    ):
        started = time.monotonic()
        for _ in range(5):
            connection.execute("SELECT 1")
        assert time.monotonic() - started >= 5 * 0.02


def test_nothing_stays_behind(database_url: str) -> None:
    """At the end of the block open connections are closed, and no thread is left."""
    threads = active_count()
    with round_trips(database_url) as wire:
        connection = psycopg.connect(_conninfo(wire))
        port = wire.url.port
    assert active_count() == threads
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://localhost/x", "expected a postgresql:// URL"),
        ("postgresql://someone:secret@127.0.0.1:1/x", "no server answers"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, reason: str) -> None:
    """If a URL is wrong, the error says so, and does not show the password."""
    with pytest.raises(ConfigurationError, match=reason) as caught, round_trips(url):
        pass
    assert "secret" not in str(caught.value)


async def test_the_relay_leaves_the_event_loop_alone(wire: Wire) -> None:
    """Several asynchronous connections can wait at the same time while the relay delays the
    answers.
    """
    engine = create_async_engine(wire.url.set(drivername="postgresql+asyncpg"))

    async def one() -> int:
        async with engine.connect() as connection:
            found = await connection.scalar(text("SELECT 1"))
            assert found is not None
            return int(found)

    with wire.counting() as count:
        assert await asyncio.gather(*(one() for _ in range(5))) == [1] * 5
    await engine.dispose()

    assert count.connections == 5
