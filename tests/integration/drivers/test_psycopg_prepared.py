"""psycopg's statements in messages of ours: BEGIN along with one, and prepared ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_seqreserve import register
from sqla_seqreserve._drivers import CommitAlong
from sqla_seqreserve._drivers.psycopg_along import travel_along
from sqla_seqreserve.testing import Wire, round_trips


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    __table_args__ = {"schema": "public"}  # declarative's own name

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Other(Base):
    __tablename__ = "other"
    __table_args__ = {"schema": "public"}  # as above

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    Base.metadata.create_all(engine)
    with round_trips(database_url) as wire:
        yield wire


def connected(wire: Wire, **settings: Any) -> psycopg.Connection[Any]:
    url = wire.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url, **settings)


@pytest.mark.parametrize("threshold", [None, 0, 2, 5])
def test_begin_travels_along(wire: Wire, threshold: int | None) -> None:
    """One round trip begins the transaction and executes the statement, prepared or not, and the
    cursor is psycopg's own afterwards.
    """
    with connected(wire, prepare_threshold=threshold) as connection:
        for number in range(8):
            with connection.cursor() as cursor:
                travel_along(cursor)
                with wire.counting() as count:
                    cursor.execute("SELECT %s::int + %s::int, pg_backend_pid() > 0", (number, 1))
                assert count.round_trips == 1
                assert cursor.fetchall() == [(number + 1, True)]
                assert type(cursor) is psycopg.Cursor
                assert connection.info.transaction_status.name == "INTRANS"
                cursor.execute("SELECT %s::int", (number,))
                assert cursor.fetchone() == (number,)
            connection.commit()
        with connection.cursor() as cursor:
            # Asked for last: what looks must not be counted itself.
            cursor.execute(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'backend[_]pid'"
            )
            assert cursor.fetchone() == (0 if threshold is None else 1,)


def test_the_settings_of_the_transaction_travel_too(wire: Wire) -> None:
    """A BEGIN that travels along has the isolation level and access mode that psycopg's own would
    have.
    """
    with connected(wire) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        cursor = connection.cursor()
        travel_along(cursor)
        cursor.execute(
            "SELECT current_setting('transaction_isolation'), "
            "current_setting('transaction_read_only')"
        )
        assert cursor.fetchone() == ("serializable", "on")


@pytest.mark.parametrize("begun", [False, True])
def test_nothing_begins_in_autocommit_nor_twice(wire: Wire, begun: bool) -> None:
    """In autocommit, or in an open transaction, a cursor executes as usual, without a BEGIN."""
    with connected(wire, autocommit=not begun) as connection:
        cursor = connection.cursor()
        if begun:
            cursor.execute("SELECT 1")
        travel_along(cursor)
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)
        expected = "INTRANS" if begun else "IDLE"
        assert connection.info.transaction_status.name == expected


def test_a_commit_stays_with_its_statement(wire: Wire) -> None:
    """If a statement with a COMMIT was cancelled before it was executed, no other statement gets
    that COMMIT.
    """
    with connected(wire) as connection:
        commit = CommitAlong()
        travel_along(connection.cursor(), commit)
        cursor = connection.cursor()
        travel_along(cursor)
        cursor.execute("SELECT 1")
        assert connection.info.transaction_status.name == "INTRANS"
        assert not commit.is_committed


def test_a_cursor_that_binds_by_itself_is_left_alone(wire: Wire) -> None:
    """A cursor that binds on the client sends its BEGIN first, as usual."""
    with connected(wire, cursor_factory=psycopg.ClientCursor) as connection:
        cursor = connection.cursor()
        travel_along(cursor)
        assert type(cursor) is psycopg.ClientCursor
        cursor.execute("SELECT %s", ("x",))
        assert cursor.fetchone() == ("x",)


def test_a_refused_statement_leaves_a_failed_transaction(wire: Wire) -> None:
    """A refused statement raises psycopg's error, and the transaction must be rolled back, as
    usual.
    """
    with connected(wire) as connection:
        cursor = connection.cursor()
        travel_along(cursor)
        with pytest.raises(psycopg.errors.NotNullViolation):
            cursor.execute("INSERT INTO public.item (name) VALUES (%s)", (None,))
        assert connection.info.transaction_status.name == "INERROR"
        connection.rollback()
        travel_along(cursor)
        with pytest.raises(psycopg.DataError, match="NUL"):
            cursor.execute("SELECT %s", ("a\0b",))
        assert connection.info.transaction_status.name == "IDLE"


def test_a_lost_connection_is_told_as_ever(wire: Wire, engine: Engine) -> None:
    """A lost server is a disconnect for SQLAlchemy, and the pool starts again."""
    ours = create_engine(wire.url)
    factory = sessionmaker(ours)
    register(factory)
    with factory.begin() as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        session.add(Item(name="first"))
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    session = factory()
    session.add(Item(name="second"))
    with pytest.raises(DBAPIError) as caught:
        session.commit()
    assert caught.value.connection_invalidated
    session.close()
    with factory.begin() as session:
        session.add(Item(name="third"))
    ours.dispose()


@pytest.mark.usefixtures("commits_pay")
def test_few_rows_are_sqlalchemys_own_statements(wire: Wire) -> None:
    """The statements and parameters of few rows are plain SQLAlchemy's; BEGIN travels along, and
    COMMIT too once the table was looked at.
    """
    told: dict[bool, list[Any]] = {}
    for registered in (False, True):
        engine = create_engine(wire.url)
        seen: list[Any] = []

        def note(conn: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
            seen.append((statement, parameters))  # noqa: B023  # each engine has its own

        event.listen(engine, "before_cursor_execute", note)
        factory = sessionmaker(engine)
        if registered:
            register(factory)
        counted = []
        for round_ in range(3):
            session = factory()
            session.add_all([Item(name=f"{registered} {round_} {number}") for number in range(3)])
            with wire.counting() as count:
                session.commit()
            session.close()
            counted.append(count.round_trips)
        assert counted[1:] == ([3, 1] if registered else [3, 3])
        told[registered] = [
            (statement, [str(value).removeprefix(f"{registered} ") for value in given.values()])
            for statement, given in seen
        ]
        engine.dispose()
    assert told[True] == told[False]


def test_a_refused_object_is_named(wire: Wire) -> None:
    """An error has a note with the object whose values it shows, even if SQLAlchemy writes."""
    engine = create_engine(wire.url)
    with Session(engine) as session:
        register(session)
        session.add_all([Item(name="a"), Item(name="b")])
        session.commit()
        session.add_all([Item(name="c"), Item(name="b")])
        with pytest.raises(IntegrityError) as caught:
            session.flush()
        assert "object 1 of the 2 Item objects" in "".join(caught.value.__notes__)
        assert caught.value.orig is not None
    engine.dispose()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("CREATE SCHEMA z; CREATE TABLE z.t (id int)", 2),
        ("SELECT ';' ; ", 2),
        ("CREATE TABLE public.t (id int);", 1),
    ],
)
@pytest.mark.usefixtures("commits_pay")
def test_a_script_may_come_first(wire: Wire, script: str, expected: int) -> None:
    """Several statements in one text are sent as psycopg sends them, because BEGIN cannot travel
    with them.
    """
    engine = create_engine(wire.url)
    with Session(engine) as session:
        register(session)
        connection = session.connection()
        with wire.counting() as count:
            connection.exec_driver_sql(script)
        session.rollback()
    engine.dispose()
    assert count.round_trips == expected


@pytest.mark.usefixtures("commits_pay")
def test_async_sessions_begin_and_commit_along_too(wire: Wire) -> None:
    """On psycopg's asynchronous connection BEGIN and COMMIT travel along, too: one round trip."""

    async def save() -> int:
        engine = create_async_engine(wire.url.set(drivername="postgresql+psycopg_async"))
        for number in range(3):
            async with AsyncSession(engine) as session:
                register(session)
                item = Item(name=f"async {number}")
                session.add(item)
                with wire.counting() as count:
                    await session.commit()
                await session.refresh(item)
                assert item.id == number + 1
        await engine.dispose()
        return count.round_trips

    assert asyncio.run(save()) == 1


@pytest.mark.usefixtures("commits_pay")
def test_what_is_sent_often_is_prepared(wire: Wire) -> None:
    """The INSERTs of a message with several are prepared when psycopg would prepare them, and not
    where preparing is switched off.
    """
    for threshold, prepared in ((5, 2), (None, 0)):
        engine = create_engine(wire.url, connect_args={"prepare_threshold": threshold})
        factory = sessionmaker(engine)
        register(factory, reserve="always")
        for number in range(8):
            with factory.begin() as session:
                session.add_all([Item(name=f"{threshold} {number}"), Other(name="o")])
        with engine.connect() as connection:
            statement = text("SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'INTO'")
            assert connection.scalar(statement) == prepared
        engine.dispose()


def test_prepared_statements_survive_rollbacks(wire: Wire) -> None:
    """After a rollback, at which psycopg forgets its prepared statements, ours still work."""
    engine = create_engine(wire.url)
    factory = sessionmaker(engine)
    register(factory, reserve="always")
    for number in range(24):
        session = factory()
        session.add_all([Item(name=f"n{number // 2}"), Other(name="o")])
        if number % 2:
            with pytest.raises(IntegrityError):
                session.commit()
        else:
            session.commit()
        session.close()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM public.other")) == 12
    engine.dispose()
