"""The driver module for psycopg2: locks with a query behind them, the state of the connection, and
cases without COPY.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from fixtures.least_role import role as role
from fixtures.tables import make_tables
from psycopg2 import extensions
from sqlalchemy import Engine, MetaData, create_engine, make_url

from sqla_seqreserve._drivers import CopyRows, Driver, LockRefusedError, driver_of
from sqla_seqreserve._reasons import WAIT_CALLBACK

LOCK = "LOCK TABLE item IN ROW EXCLUSIVE MODE"
MADE_BY_HAND = MetaData()
SETUP = ("CREATE TABLE item (id int PRIMARY KEY)",)


@pytest.fixture
def engine(twin_urls: tuple[str, str]) -> Iterator[Engine]:
    make_tables(twin_urls[1], MADE_BY_HAND, SETUP)
    engine = create_engine(make_url(twin_urls[1]).set(drivername="postgresql+psycopg2"))
    yield engine
    engine.dispose()


@pytest.fixture
def driver(engine: Engine) -> Driver:
    found = driver_of(engine.dialect)
    assert found is not None
    return found


@contextmanager
def cursor_of(engine: Engine, role: str | None = None) -> Iterator[Any]:
    """psycopg2's own cursor, in no transaction."""
    with engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        with raw.cursor() as cursor:
            cursor.execute(f"SET SESSION AUTHORIZATION {role}" if role else "SELECT 1")
            raw.commit()
            yield cursor
            raw.rollback()
            cursor.execute("RESET SESSION AUTHORIZATION")
            raw.commit()


def is_idle(cursor: Any) -> bool:
    status: int = cursor.connection.info.transaction_status
    return status == extensions.TRANSACTION_STATUS_IDLE


@pytest.mark.parametrize("opened", [False, True])
def test_a_lock_is_held_with_the_query_behind_it(
    engine: Engine, driver: Driver, opened: bool
) -> None:
    """A lock and a query in one message return the query's rows, and the lock lasts as long as the
    transaction.
    """
    with cursor_of(engine) as cursor:
        if opened:
            cursor.execute("SELECT 1")
        statement = (
            "SELECT mode, %(text)s FROM pg_locks WHERE relation = 'item'::regclass"
            " AND pid = pg_backend_pid() AND '%%' <> ''"
        )
        found = driver.query(cursor, LOCK, statement, {"text": "it's 5%"})
        assert found == [("RowExclusiveLock", "it's 5%")]
        assert driver.query(cursor, None, statement, {"text": "x"}) == [("RowExclusiveLock", "x")]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize(
    ("by_role", "lock"),
    [(True, LOCK), (False, "LOCK TABLE absent IN ROW EXCLUSIVE MODE")],
    ids=["no privilege", "no table"],
)
def test_a_refused_lock_leaves_the_transaction_as_it_was(
    engine: Engine, driver: Driver, role: str, opened: bool, by_role: bool, lock: str
) -> None:
    """After a refused lock earlier changes stay, and a transaction that the lock had opened is
    closed.
    """
    with engine.begin() as owner:
        owner.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {role}")
        owner.exec_driver_sql(f"GRANT SELECT, INSERT (id) ON item TO {role}")
    with cursor_of(engine, role if by_role else None) as cursor:
        if opened:
            cursor.execute("INSERT INTO item (id) VALUES (1)")
        with pytest.raises(LockRefusedError) as refused:
            driver.query(cursor, lock, "SELECT 1", {})
        assert isinstance(refused.value.__cause__, psycopg2.ProgrammingError)
        assert is_idle(cursor) is not opened
        cursor.execute("SELECT count(*) FROM item")
        assert cursor.fetchone() == (int(opened),)


@pytest.mark.parametrize("state", ["begun", "opened", "autocommit"])
def test_an_error_of_the_query_is_not_taken_for_the_locks(
    engine: Engine, driver: Driver, state: str
) -> None:
    """If the query behind a granted lock fails, even with one of the lock's SQLSTATEs, the error is
    raised and the transaction has failed.
    """
    with cursor_of(engine) as cursor:
        raw = cursor.connection
        if state == "opened":
            cursor.execute("SELECT 1")
        elif state == "autocommit":
            raw.autocommit = True
        with pytest.raises(psycopg2.errors.UndefinedTable):
            driver.query(cursor, LOCK, "SELECT * FROM absent", {})
        if state == "autocommit":
            with pytest.raises(LockRefusedError):
                driver.query(cursor, LOCK.replace("item", "absent"), "SELECT 1", {})
            assert driver.query(cursor, LOCK, "SELECT 1", {}) == [(1,)]
            raw.autocommit = False
        else:
            with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
                cursor.execute("SELECT 1")


def test_an_error_without_a_lock_is_the_querys(engine: Engine, driver: Driver) -> None:
    """If no lock was requested, an error is always that of the query."""
    with cursor_of(engine) as cursor, pytest.raises(psycopg2.errors.UndefinedTable):
        driver.query(cursor, None, "SELECT * FROM absent", {})


def test_what_psycopg2_knows_of_the_connection(engine: Engine, driver: Driver) -> None:
    """psycopg2's connection shows whether the next statement begins a transaction, and the settings
    that the server reports.
    """
    with engine.connect() as connection:
        fairy: Any = connection.connection
        assert driver.transaction_status(fairy) == "idle"
        cursor = fairy.driver_connection.cursor()
        cursor.execute("SET application_name = 'told'")
        assert driver.transaction_status(fairy) != "idle"
        assert driver.setting(fairy, "application_name") == "told"
        assert driver.setting(fairy, "work_mem") is None
        fairy.driver_connection.rollback()
        fairy.driver_connection.autocommit = True
        assert driver.transaction_status(fairy) != "idle"
        fairy.driver_connection.autocommit = False


def test_no_copy_with_a_wait_callback(engine: Engine, driver: Driver) -> None:
    """With a wait callback, as psycogreen sets, psycopg2 cannot COPY, and the driver module says so
    before a COPY is tried.
    """
    with engine.connect() as connection:
        assert driver.refuses_copy(connection.connection) is None
    extensions.set_wait_callback(psycopg2.extras.wait_select)
    try:
        with engine.connect() as connection:
            assert driver.refuses_copy(connection.connection) == WAIT_CALLBACK
            cursor: Any = connection.connection.cursor()
            cursor.execute("SELECT 1")
            rows = CopyRows(["id"], [[1]], [23], binary=False)
            with pytest.raises(psycopg2.ProgrammingError):
                driver.copy(cursor, "COPY item (id) FROM STDIN", rows)
    finally:
        extensions.set_wait_callback(None)
