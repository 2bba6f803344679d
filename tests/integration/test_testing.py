"""The pytest fixtures and the statement recorder that the package offers to its users."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fixtures.run_names import of_this_run
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sqla_seqreserve.embedded import EmbeddedServer
from sqla_seqreserve.testing import record_statements


def test_the_engine_is_on_an_empty_database(engine: Engine, postgres_url: str) -> None:
    """The database of a test contains no table, and is not the server's administrative one."""
    with engine.connect() as connection:
        tables = connection.scalar(
            text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        )
    assert tables == 0
    assert engine.url.database != make_url(postgres_url).database


def test_a_clone_holds_what_its_template_holds(
    engine: Engine, clone_database: Callable[[str], str]
) -> None:
    """A clone has the rows of its template, and later changes in one do not appear in the other."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t AS SELECT 1 AS n"))
    engine.dispose()
    url = clone_database(engine.url.render_as_string(hide_password=False))
    with create_engine(url, poolclass=NullPool).begin() as connection:
        assert connection.scalar(text("DELETE FROM t RETURNING n")) == 1
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM t")) == 1


def test_a_database_goes_although_it_is_in_use(postgres_server: EmbeddedServer) -> None:
    """A database with any name can be dropped while connections to it are open, and dropping one
    that does not exist is no error.
    """
    name = of_this_run('odd "name": 100%s')
    engine = create_engine(postgres_server.create_database(name))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == name
        postgres_server.drop_database(name)
        postgres_server.drop_database(name)
        with pytest.raises(OperationalError):
            connection.scalar(text("SELECT 1"))
    engine.dispose()


def test_the_recorder_tells_what_was_sent(engine: Engine) -> None:
    """Statements are recorded in order, with their parameters, and only inside the block."""
    with engine.begin() as connection, record_statements(connection) as statements:
        connection.execute(text("CREATE TABLE t (n int)"))
        connection.execute(text("INSERT INTO t VALUES (:n)"), [{"n": 1}, {"n": 2}])
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert [(str(one).split()[0], one.executemany) for one in statements] == [
        ("CREATE", False),
        ("INSERT", True),
    ]
    assert statements[1].parameters == [{"n": 1}, {"n": 2}]


async def test_the_recorder_takes_an_asynchronous_engine(database_url: str) -> None:
    """The statements of an AsyncEngine are recorded like those of an Engine."""
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        with record_statements(engine) as statements:
            await connection.execute(text("SELECT 1"))
    await engine.dispose()
    assert [one.sql for one in statements] == ["SELECT 1"]
