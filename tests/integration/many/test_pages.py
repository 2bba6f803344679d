"""INSERTs of many rows whose pages are sent together: streamed results, round trips, listeners."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from fixtures.parts import EVERY, MANY, WAYS, Base, Part, compared
from fixtures.sides import SYNC_DRIVERS, Way
from sqlalchemy import Engine, create_engine, event, insert, text
from sqlalchemy.orm import Session

from sqla_seqreserve import register
from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER
from sqla_seqreserve.testing import round_trips

pytestmark = pytest.mark.skipif(
    not IN_ORDER, reason="the pages of SQLAlchemy before 2.0.10 are in no certain order"
)


@pytest.mark.parametrize("option", ["stream_results", "yield_per"])
@EVERY
@WAYS
def test_a_streamed_result(twin_urls: tuple[str, str], driver: str, way: Way, option: str) -> None:
    """With an option that streams the result, the keys, or the error of a driver that cannot stream
    them, are plain SQLAlchemy's.
    """

    def act(session: Session) -> Any:
        given = [{"number": i} for i in range(250)]
        statement = insert(Part).returning(Part.id).execution_options(**{option: 10})
        return sorted(session.scalars(statement, given))

    compared(twin_urls, driver, way, act)


@pytest.mark.parametrize("option", ["stream_results", "yield_per"])
@WAYS
def test_objects_on_a_streaming_connection(
    twin_urls: tuple[str, str], way: Way, option: str
) -> None:
    """On a connection of asyncpg that streams results, many objects are saved."""

    def act(session: Session) -> Any:
        session.connection(execution_options={option: 10})
        parts = [Part(number=i) for i in range(250)]
        session.add_all(parts)
        session.flush()
        return [part.id for part in parts]

    assert compared(twin_urls, "asyncpg", way, act)[0] == list(range(1, 251))


@pytest.mark.parametrize(
    ("driver", "statement", "plain", "ours"),
    [
        # Of 5,000 rows in an open transaction. Pages hold 1,000 rows.
        ("psycopg", insert(Part).returning(Part.id), 5, 3),
        ("psycopg", insert(Part).returning(Part.number, **IN_ORDER), 5, 1),
        ("psycopg2", insert(Part).returning(Part.id, **IN_ORDER), 5, 3),
        ("psycopg2", insert(Part).returning(Part, **IN_ORDER), 5, 1),
        ("psycopg2", insert(Part), 5, 3),
    ],
)
def test_round_trips(
    engine: Engine, database_url: str, driver: str, statement: Any, plain: int, ours: int
) -> None:
    """All rows travel at once: in one round trip if values are returned, in three by COPY."""
    Base.metadata.create_all(engine)
    found = []
    with round_trips(database_url) as wire:
        for registered in (False, True):
            beside = create_engine(wire.url.set(drivername=f"postgresql+{driver}"))
            for time in (1, 2):
                with Session(beside) as session:
                    if registered:
                        register(session)
                    session.execute(text("SELECT 1"))
                    # The first is not counted, which takes 20 ms a message.
                    with contextlib.nullcontext() if time < 2 else wire.counting() as count:
                        session.execute(statement, [{"price": Decimal(i)} for i in range(5_000)])
                    session.rollback()
            assert count is not None
            found.append(count.round_trips)
            beside.dispose()
    assert found == [plain, ours]


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_listeners_hear_of_a_pair(engine: Engine, database_url: str, driver: str) -> None:
    """Listeners are called before and after the statement, with the parameters of every row; a
    statement that one returns is used for each page.
    """
    Base.metadata.create_all(engine)
    beside = create_engine(engine.url.set(drivername=f"postgresql+{driver}"))
    heard: list[tuple[str, int]] = []

    @event.listens_for(beside, "before_cursor_execute")
    def before(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT"):
            heard.append(("before", len(arguments[3])))

    @event.listens_for(beside, "after_cursor_execute")
    def after(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT"):
            heard.append(("after", len(arguments[3])))

    def insert_many() -> list[int | None]:
        with Session(beside) as session:
            register(session)
            given = [{"number": i} for i in range(MANY)]
            return list(session.scalars(insert(Part).returning(Part.number), given))

    assert insert_many() == list(range(MANY))
    assert heard == [("before", MANY), ("after", MANY)]

    @event.listens_for(beside, "before_cursor_execute", retval=True)
    def negative(*arguments: Any) -> Any:
        parameters = arguments[3]
        if arguments[2].startswith("INSERT"):
            parameters = dict.fromkeys(parameters, -1)
        return arguments[2], parameters

    assert set(insert_many()) == {-1}
    beside.dispose()
