"""How often a flush waits for the server, counted in the messages of the wire protocol."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest
from fixtures.shop import Customer, Order, Tag
from sqlalchemy import (
    Column,
    Engine,
    Identity,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, registry

from sqla_seqreserve import FlushReport, register, reserve_ids
from sqla_seqreserve.registration import Reserve
from sqla_seqreserve.testing import record_statements

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libpq traces its messages there")


@contextmanager
def count_round_trips(session: Session) -> Iterator[list[str]]:
    """Yields what fills with one line for each time the server was ready again."""
    ready: list[str] = []
    with tempfile.TemporaryFile("w+") as trace:
        driver: Any = session.connection().connection.driver_connection
        driver.pgconn.trace(trace.fileno())
        try:
            yield ready
        finally:
            driver.pgconn.untrace()
            trace.seek(0)
            ready += [line for line in trace if "\tReadyForQuery\t" in line]


def warm(engine: Engine) -> None:
    """Make the engine read the catalogue."""
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        session.add_all([Tag(word="a"), Customer(email="a", orders=[Order(number=1)])])
        session.commit()


def test_begin_comes_with_the_first_message(shop: Engine) -> None:
    """A flush that opens its transaction waits once less than plain SQLAlchemy, or as often if keys
    are reserved first, because BEGIN travels along.
    """
    warm(shop)
    trips = []
    for settings in (None, {}, {"reserve": "always"}):
        with Session(shop) as session:
            if settings is not None:
                register(session, **settings)  # type: ignore[arg-type]  # settings
            with count_round_trips(session) as ready:
                session.add(Tag(word="b"))
                session.flush()
        trips.append(len(ready))
    assert trips == [2, 1, 2]  # BEGIN, INSERT; both; BEGIN with the reservation, INSERT


def test_copy_waits_as_often_for_any_number_of_rows(shop: Engine) -> None:
    """A flush by COPY waits twice, for BEGIN with the reservation and for COPY, with any number of
    rows.
    """
    warm(shop)
    for rows in (10, 3_000):
        with Session(shop) as session, count_round_trips(session) as ready:
            register(session, copy_min_rows=1)
            session.add_all([Tag(word="c") for _ in range(rows)])
            session.flush()
        assert len(ready) == 2


@pytest.mark.parametrize(("settings", "expected"), [({}, 1), ({"reserve": "always"}, 2)])
def test_an_open_transaction(shop: Engine, settings: dict[str, Any], expected: int) -> None:
    """In an open transaction one INSERT is one round trip, as in plain SQLAlchemy; keys that are
    asked for first take one more.
    """
    warm(shop)
    with Session(shop) as session:
        register(session, **settings)
        session.execute(text("SELECT 1"))
        with count_round_trips(session) as ready:
            session.add(Tag(word="d"))
            session.flush()
        assert len(ready) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"isolation_level": "SERIALIZABLE"}, ("serializable", "off", "off")),
        ({"isolation_level": "REPEATABLE READ"}, ("repeatable read", "off", "off")),
        (
            {"isolation_level": "SERIALIZABLE", "postgresql_deferrable": True},
            ("serializable", "off", "on"),
        ),
        ({}, ("read committed", "off", "off")),
    ],
)
def test_the_transaction_is_the_one_that_was_asked_for(
    shop: Engine, options: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    """A BEGIN that travels along, with a reservation or with an INSERT, has the connection's
    isolation level and deferrability.
    """
    warm(shop)
    asked = text(
        "SELECT current_setting('transaction_isolation'), "
        "current_setting('transaction_read_only'), current_setting('transaction_deferrable')"
    )
    for reserve in get_args(Reserve):
        with Session(shop.execution_options(**options)) as session:
            register(session, reserve=reserve)
            tag = Tag(word="e")
            session.add(tag)
            session.flush()
            assert tuple(session.execute(asked).one()) == expected
            number = tag.id
            session.commit()
        with Session(shop) as session:
            assert session.get(Tag, number) is not None


@pytest.mark.parametrize("reserve", get_args(Reserve))
def test_a_read_only_transaction_stays_one(shop: Engine, reserve: Reserve) -> None:
    """In a READ ONLY transaction a flush raises SQLAlchemy's exception with the statement, and the
    session can go on.
    """
    warm(shop)
    readers = shop.execution_options(postgresql_readonly=True)
    with Session(readers) as session:
        register(session, reserve=reserve)
        session.add(Tag(word="f"))
        with pytest.raises(DBAPIError, match="read-only transaction") as raised:
            session.flush()
        refused = {"auto": "INSERT INTO tag", "always": "nextval"}[reserve]
        assert refused in str(raised.value.statement)
        session.rollback()
        assert session.execute(text("SELECT 1")).scalar() == 1


def test_autocommit_begins_nothing(shop: Engine) -> None:
    """On a connection in autocommit no transaction is left open."""
    warm(shop)
    with shop.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert len(reserve_ids(connection, Tag, 5)) == 5
        driver: Any = connection.connection.driver_connection
        assert driver.info.transaction_status.name == "IDLE"


def test_a_rollback_follows_a_failed_reservation(shop: Engine) -> None:
    """If a reservation fails, the transaction that began with it is rolled back like any other."""
    warm(shop)
    with shop.begin() as connection:
        connection.execute(text("ALTER SEQUENCE tag_id_seq MAXVALUE 3 RESTART 1"))
    try:
        with Session(shop) as session:
            register(session, reserve="always")
            session.add_all([Tag(word="g") for _ in range(5)])
            with pytest.raises(Exception, match="has run out of values"):
                session.flush()
            session.rollback()
            assert session.execute(text("SELECT 1")).scalar() == 1
    finally:
        with shop.begin() as connection:
            connection.execute(text("ALTER SEQUENCE tag_id_seq NO MAXVALUE RESTART 100"))


def test_events_see_the_reservation_as_a_statement(shop: Engine) -> None:
    """before_cursor_execute and after_cursor_execute fire for the reservation's SELECT with its
    parameters, with or without BEGIN.
    """
    warm(shop)
    seen: list[tuple[str, str, Any]] = []
    events = {
        "before_cursor_execute": lambda _, __, sql, parameters, *___: seen.append(
            ("before", sql, parameters)
        ),
        "after_cursor_execute": lambda _, __, sql, parameters, *___: seen.append(
            ("after", sql, parameters)
        ),
    }
    for name, listener in events.items():
        event.listen(shop, name, listener)
    try:
        for _ in range(2):
            with Session(shop) as session:
                assert len(reserve_ids(session, Tag, 2)) == 2
                assert len(reserve_ids(session, Tag, 2)) == 2
    finally:
        for name, listener in events.items():
            event.remove(shop, name, listener)
    assert [when for when, _, _ in seen] == ["before", "after"] * 4
    assert [sql for when, sql, _ in seen if when == "before"] == [
        sql for when, sql, _ in seen if when == "after"
    ]
    # Where the transaction is open, the statement asks too whether it sees the present.
    first, later = seen[0][1], seen[2][1]
    assert [sql for when, sql, _ in seen if when == "before"] == [first, later, first, later]
    assert first.startswith("SELECT 0 AS slot, nextval(")
    assert {parameters["count_0"] for _, _, parameters in seen} == {2}


def test_a_name_of_any_letters_is_bound(database_url: str) -> None:
    """Quotes, percent signs and letters beyond ASCII in names reach the server as they are."""

    class Odd:
        id: int
        value: int

    metadata = MetaData()
    table = Table(
        """o'd%s "d: é""",
        metadata,
        Column("i'd %(x)s ü", Integer, Identity(), primary_key=True, key="id"),
        Column("value", Integer),
    )
    registry(metadata=metadata).map_imperatively(Odd, table)
    engine = create_engine(database_url)
    try:
        metadata.create_all(engine)
        for _ in range(2):
            with Session(engine) as session:
                assert list(reserve_ids(session, Odd, 2))[1] % 2 == 0
                assert list(reserve_ids(session, Odd, 2))[1] % 2 == 0
    finally:
        engine.dispose()


async def test_async_opens_the_transaction_too(shop: Engine) -> None:
    """The async driver sends BEGIN with the reservation, with the connection's isolation level."""
    warm(shop)
    engine = create_async_engine(shop.url, isolation_level="SERIALIZABLE")
    reports: list[FlushReport] = []
    try:
        async with AsyncSession(engine) as session:
            register(session, reserve="always").on_flush(reports.append)
            for number in range(2):
                with record_statements(engine) as statements:
                    session.add(Tag(word=str(number)))
                    await session.flush()
                level = await session.scalar(text("SHOW transaction_isolation"))
                assert level == "serializable"
                await session.commit()
        assert ["nextval" in statement.sql for statement in statements] == [True, False]
        assert [report.entries[0].reserved for report in reports] == [1, 1]
    finally:
        await engine.dispose()
