"""What others can do at the very moment at which a repair must be alone.

The load test rarely meets these moments: without the locks it passes. Here a second connection acts
right before the statement that the lock protects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, event, text
from sqlalchemy.exc import OperationalError

from sqla_seqreserve.errors import LockTimeoutError
from sqla_seqreserve.health import repair_sequences

TABLE = Table("t", MetaData(), Column("id", Integer, primary_key=True))


@pytest.fixture(autouse=True)
def drift(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id serial PRIMARY KEY)"))
        connection.execute(text("INSERT INTO t VALUES (20)"))


def repair_with(engine: Engine, moment: Callable[[str], bool], act: Callable[[], None]) -> int:
    """Repair, call ``act`` before each matching statement, and return the number of these."""
    times = 0

    def before(*args: Any) -> None:
        nonlocal times
        if moment(args[2]):
            times += 1
            act()

    with engine.begin() as connection:
        event.listen(connection, "before_cursor_execute", before)
        repair_sequences(connection, TABLE)
    return times


def refused(engine: Engine, statement: str) -> Callable[[], None]:
    def act() -> None:
        with engine.connect() as other:
            other.execute(text("SET LOCAL lock_timeout = '50ms'"))
            with pytest.raises(OperationalError) as caught:
                other.execute(text(statement))
        assert getattr(caught.value.orig, "sqlstate", None) == "55P03"

    return act


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT nextval('t_id_seq') FROM generate_series(1, 1000)",
        "SELECT setval('t_id_seq', 1000)",
        "INSERT INTO t DEFAULT VALUES",
    ],
)
def test_nobody_draws_between_the_reading_and_the_move(engine: Engine, statement: str) -> None:
    """No session can take a block of ids right before the setval, which would move the sequence
    back into it.
    """
    assert repair_with(engine, lambda sql: "setval(" in sql, refused(engine, statement)) == 1


@pytest.mark.parametrize(
    "statement", ["INSERT INTO t VALUES (500)", "UPDATE t SET id = 500", "DELETE FROM t"]
)
def test_nobody_writes_while_the_maximum_is_confirmed(engine: Engine, statement: str) -> None:
    """The maximum is read under the table's lock, so no id imported right before is missed."""
    locked = False

    def moment(sql: str) -> bool:
        nonlocal locked
        was_locked, locked = locked, locked or sql.startswith("LOCK TABLE")
        return was_locked and "max(" in sql

    assert repair_with(engine, moment, refused(engine, statement)) == 1


def test_an_import_between_the_move_and_the_confirmation_is_caught(engine: Engine) -> None:
    """After the move the table is checked again under its lock, and the sequence moved again if
    needed.
    """
    imported: list[int] = []

    def act() -> None:
        if not imported:
            imported.append(700)
            with engine.begin() as other:
                other.execute(text("INSERT INTO t VALUES (700)"))

    assert repair_with(engine, lambda sql: sql.startswith("LOCK TABLE"), act) == 2
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT nextval('t_id_seq')")) == 701


def test_what_others_drew_before_the_move_is_kept(engine: Engine) -> None:
    """A sequence that passed the maximum before the lock was granted is not moved."""

    def act() -> None:
        with engine.begin() as other:
            other.execute(text("SELECT nextval('t_id_seq') FROM generate_series(1, 1000)"))

    assert repair_with(engine, lambda sql: sql.startswith("ALTER SEQUENCE"), act) == 1
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT nextval('t_id_seq')")) == 1001


def test_a_timeout_after_the_move_says_that_it_was_moved(engine: Engine) -> None:
    """A lock timeout after the move says where the sequence is, because setval is not undone."""
    with engine.connect() as other, engine.begin() as connection:
        other.execute(text("LOCK TABLE t IN ROW EXCLUSIVE MODE"))
        with pytest.raises(LockTimeoutError, match="t_id_seq was moved to 20 and stays") as told:
            repair_sequences(connection, TABLE, lock_timeout=0.1)
        assert "not repaired" not in str(told.value)
        other.rollback()
        assert connection.scalar(text("SELECT nextval('t_id_seq')")) == 21


def test_a_timeout_before_the_move_says_that_it_was_not_moved(engine: Engine) -> None:
    """A timeout of the sequence's lock says that the sequence was not moved."""
    with engine.connect() as other, engine.begin() as connection:
        other.execute(text("SELECT nextval('t_id_seq')"))
        with pytest.raises(LockTimeoutError, match="t_id_seq was not moved"):
            repair_sequences(connection, TABLE, lock_timeout=0.1)
