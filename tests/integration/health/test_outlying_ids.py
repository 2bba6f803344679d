"""A few ids near the end of their type, far ahead of a sequence that was set back by hand.

To move the sequence beyond them would use up all the ids that the application still has.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.checked import run, serial, standing
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_seqreserve import aio, register
from sqla_seqreserve.errors import SequenceDriftError, SequenceDriftWarning
from sqla_seqreserve.health import OutlyingIds, RepairResult, check_sequences, repair_sequences
from sqla_seqreserve.testing import record_statements

INT4 = 2**31 - 1


class Base(DeclarativeBase):
    pass


class T(Base):
    __tablename__ = "t"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int | None]


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


def incident(connection: Connection) -> None:
    """The newest rows of a table whose ids were used up; all older rows were deleted."""
    run(
        connection,
        "CREATE TABLE t (id serial PRIMARY KEY, n int)",
        "INSERT INTO t SELECT generate_series(2147483600, 2147483640)",
    )


def repair_one(connection: Connection, **options: Any) -> RepairResult:
    (result,) = repair_sequences(connection, serial(), **options).results
    return result


@pytest.mark.parametrize("dry_run", [True, False])
def test_ids_far_ahead_are_not_jumped_over(connection: Connection, dry_run: bool) -> None:
    """A sequence far below a few ids near the end stays, also in a dry run, and the result names
    the ids and how many would be left.
    """
    incident(connection)
    result = repair_one(connection, dry_run=dry_run)
    assert (result.action, result.new_value, result.gap_fixed) == ("NOT_REPAIRABLE", 1, 0)
    assert result.outlying == OutlyingIds(
        first=2147483600, last=2147483640, left=7, before=None, free=2147483599
    )
    assert "ids 2147483600 to 2147483640 of t.id stand far ahead" in (result.reason or "")
    assert "leave it 7 values" in (result.reason or "")
    assert result.to_dict()["outlying"]["left"] == 7
    assert standing(connection) == (1, False)


def test_who_asks_for_it_jumps_over_them(connection: Connection) -> None:
    """allow_exhaustion=True moves such a sequence like any other, and its dry run says so."""
    incident(connection)
    dry = repair_one(connection, dry_run=True, allow_exhaustion=True)
    assert (dry.action, dry.new_value) == ("WOULD_REPAIR", 2147483640)
    result = repair_one(connection, allow_exhaustion=True)
    assert (result.action, result.new_value, result.outlying) == ("REPAIRED", 2147483640, None)


def test_a_check_says_what_a_repair_would_leave(connection: Connection) -> None:
    """If a repair may use up a sequence, the check's remedy begins with a dry run."""
    incident(connection)
    (entry,) = check_sequences(connection, serial()).sequences
    (finding,) = [f for f in entry.findings if f.code == "BEHIND"]
    assert "it would leave 7 values" in finding.remedy
    assert "--dry-run" in finding.remedy


def test_the_ids_before_them_are_said(connection: Connection) -> None:
    """If other ids are also ahead of the sequence, the reason contains the setval that moves it
    beyond those.
    """
    incident(connection)
    run(connection, "INSERT INTO t SELECT generate_series(1, 500)")
    result = repair_one(connection)
    assert result.outlying is not None
    assert (result.outlying.before, result.outlying.free) == (500, 0)
    assert result.reason is not None
    remedy = result.reason[result.reason.index("SELECT setval") :].partition(" takes")[0]
    run(connection, remedy)
    assert connection.scalar(text("SELECT nextval('t_id_seq')")) == 501
    # What is left of the drift is the ids far ahead.
    again = repair_one(connection).outlying
    assert again is not None
    assert again.before is None


@pytest.mark.parametrize(
    ("ids", "new_value"),
    [
        ("generate_series(1, 20000)", 20_000),
        ("generate_series(1, 32000)", 32_000),
        ("generate_series(1, 32000, 5)", 31_996),
    ],
)
def test_a_table_that_is_full_is_repaired(connection: Connection, ids: str, new_value: int) -> None:
    """Consecutive ids up to the largest are no outliers, however few are left."""
    run(connection, "CREATE TABLE t (id smallserial)", f"INSERT INTO t SELECT {ids}")
    result = repair_one(connection)
    assert (result.action, result.new_value) == ("REPAIRED", new_value)


@pytest.mark.parametrize(
    ("sequence", "ids", "expected"),
    [
        ("AS smallint", "generate_series(32700, 32760)", (32_700, 32_760, 7)),
        ("MAXVALUE 1000", "generate_series(981, 990)", (981, 990, 10)),
        ("INCREMENT -1", "generate_series(-2147483648, -2147483640)", (-2147483640, -INT4 - 1, 0)),
        ("INCREMENT -3 MINVALUE -1000", "VALUES (-990), (-996)", (-990, -996, 2)),
        ("INCREMENT 10", "VALUES (2147483600), (2147483601)", (2147483600, 2147483601, 4)),
    ],
)
def test_the_end_is_the_sequence_s_or_the_column_s(
    connection: Connection, sequence: str, ids: str, expected: tuple[int, int, int]
) -> None:
    """Outliers are found with a smaller type, a bound, a step, and in a descending sequence."""
    run(
        connection,
        f"CREATE SEQUENCE t_id_seq {sequence}",
        "CREATE TABLE t (id int DEFAULT nextval('t_id_seq'))",
        f"INSERT INTO t {ids if ids.startswith('VALUES') else f'SELECT {ids}'}",
    )
    outlying = repair_one(connection).outlying
    assert outlying is not None
    assert (outlying.first, outlying.last, outlying.left) == expected


def test_the_ids_of_all_tables_of_a_sequence_count(connection: Connection) -> None:
    """The range without ids is looked for in all tables that the sequence fills."""
    incident(connection)
    run(
        connection,
        "CREATE TABLE u (id int DEFAULT nextval('t_id_seq'))",
        "INSERT INTO u VALUES (70), (2147483590)",
    )
    outlying = repair_one(connection).outlying
    assert outlying is not None
    assert (outlying.first, outlying.before) == (2147483590, 70)


def test_an_ordinary_repair_does_not_look_for_them(engine: Engine) -> None:
    """If a move leaves more ids than it skips, no statement looks for outliers."""
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)", "INSERT INTO t VALUES (1000000000)")
        with record_statements(engine) as statements:
            assert repair_one(connection).action == "REPAIRED"
    assert not any("AS looks" in statement.sql for statement in statements)


def test_ids_imported_before_the_move_are_not_jumped_over(engine: Engine) -> None:
    """The ids far ahead are looked for right before the move, not at the check."""
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial PRIMARY KEY)", "INSERT INTO t VALUES (20)")
    done: list[str] = []

    def before(*args: Any) -> None:
        if "transaction_isolation" in args[2] and not done:
            done.append(args[2])
            with engine.begin() as other:
                run(other, "INSERT INTO t VALUES (2147483640)")

    with engine.begin() as connection:
        event.listen(connection, "before_cursor_execute", before)
        result = repair_one(connection)
        assert done
        assert result.outlying is not None
        assert (result.action, result.outlying.before) == ("NOT_REPAIRABLE", 20)
        assert standing(connection) == (1, False)


@pytest.mark.parametrize("top", [2147483640, INT4])
def test_a_flush_goes_on_before_ids_far_ahead(engine: Engine, top: int) -> None:
    """on_drift='repair' warns once per engine, leaves such a sequence, and the flush saves like
    plain SQLAlchemy.
    """
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial PRIMARY KEY, n int)")
        run(connection, f"INSERT INTO t VALUES ({top})")
    factory = sessionmaker(engine)
    register(factory, on_drift="repair")
    objects = [T(n=2) for _ in range(60)]

    def save() -> list[int]:
        with factory.begin() as session:
            session.add_all(objects)
            session.flush()
            return [item.id for item in objects]

    with pytest.warns(SequenceDriftWarning, match=f"id {top} of t.id"):
        assert save() == list(range(1, 61))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with factory.begin() as session:
            session.add(T(n=3))
    with Session(engine) as session:
        assert session.get_one(T, 61).n == 3


def test_ids_before_them_refuse_the_flush(engine: Engine) -> None:
    """If such a sequence would soon reach other ids, the flush is refused; plain SQLAlchemy's
    collides.
    """
    with engine.begin() as connection:
        incident(connection)
        run(connection, "INSERT INTO t VALUES (1)")
    with Session(engine) as plain:
        plain.add(T())
        with pytest.raises(IntegrityError):
            plain.flush()
    factory = sessionmaker(engine)
    register(factory, on_drift="repair")
    with engine.begin() as connection:
        run(connection, "SELECT setval('t_id_seq', 1, false)")
    with pytest.raises(SequenceDriftError, match=r"setval\('t_id_seq', 1\)"), factory() as session:
        session.add(T())
        session.flush()


def test_psycopg2_finds_them_too(engine: Engine, database_url: str) -> None:
    """The search for outliers works on every driver."""
    with engine.begin() as connection:
        incident(connection)
        run(connection, "INSERT INTO t VALUES (5)")
    bind = create_engine(database_url.replace("+psycopg", "+psycopg2"))
    with bind.begin() as connection:
        outlying = repair_one(connection).outlying
    bind.dispose()
    assert outlying is not None
    assert (outlying.first, outlying.before) == (2147483600, 5)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_the_async_twin_has_the_option(
    engine: Engine, database_url: str, driver: str
) -> None:
    """aio.repair_sequences refuses and moves in the same way, and an async flush goes on."""
    with engine.begin() as connection:
        incident(connection)
    bind = create_async_engine(database_url.replace("+psycopg", f"+{driver}"))
    factory = async_sessionmaker(bind)
    register(factory, on_drift="repair")
    try:
        with pytest.warns(SequenceDriftWarning):
            async with factory.begin() as session:
                session.add(T())
        async with factory.begin() as session:
            (kept,) = (await aio.repair_sequences(session, T)).results
            (moved,) = (await aio.repair_sequences(session, T, allow_exhaustion=True)).results
        assert (kept.action, moved.action) == ("NOT_REPAIRABLE", "REPAIRED")
    finally:
        await bind.dispose()
