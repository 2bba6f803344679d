"""Upgrades and downgrades by a URL, by a connection of the caller's, and as a script."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from fixtures.run_names import of_this_run
from sqlalchemy import Engine, inspect, make_url

from sqla_seqreserve.embedded import URL_VARIABLE, EmbeddedServer
from sqla_seqreserve.portfolio.schema import migration_config, upgrade

READ = Callable[[str], dict[str, list[tuple[Any, ...]]]]


@pytest.fixture
def oddly_named_url(postgres_server: EmbeddedServer) -> Iterator[str]:
    """A URL whose database and password contain characters that URLs and Config escape."""
    name = of_this_run("50% of 100%(here)s @ home")
    url = make_url(postgres_server.create_database(name))
    if url.password is None:
        # The server trusts its socket; the password only has to survive in the URL.
        url = url.set(password="p%40@/%(x)s")
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        postgres_server.drop_database(name)


def test_up_down_up(database_url: str, read_catalogue: READ) -> None:
    """A downgrade to base leaves nothing, and a second upgrade makes the same schema."""
    upgrade(database_url)
    first = read_catalogue(database_url)
    assert first["sequences"]
    command.downgrade(migration_config(database_url), "base")
    assert not any(read_catalogue(database_url).values())
    upgrade(database_url)
    assert read_catalogue(database_url) == first


def test_each_revision_goes_back_to_the_one_before(database_url: str, read_catalogue: READ) -> None:
    """The downgrade of each revision restores the catalogue from before its upgrade."""
    config = migration_config(database_url)
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    for revision in reversed(revisions):
        before = read_catalogue(database_url)
        command.upgrade(config, revision)
        after = read_catalogue(database_url)
        command.downgrade(config, "-1")
        assert read_catalogue(database_url) == before
        command.upgrade(config, revision)
        assert read_catalogue(database_url) == after
        # Revision 0004 distributes tables on Citus, and does nothing elsewhere.
        assert (after != before) == (revision != "0004")


def test_the_url_may_hold_any_character(oddly_named_url: str) -> None:
    """Percent signs in a URL arrive at the database unchanged."""
    upgrade(oddly_named_url)
    command.check(migration_config(oddly_named_url))


@pytest.mark.parametrize("name", ["postgresql+asyncpg", "postgresql+psycopg_async", "postgres"])
def test_the_application_s_own_url_is_taken(database_url: str, engine: Engine, name: str) -> None:
    """A URL of an asynchronous driver, and one that begins as libpq's may, are migrated too."""
    upgrade(make_url(database_url).set(drivername=name))
    assert inspect(engine).has_table("holding_activity_log")


def test_a_connection_in_a_transaction_is_left_to_the_caller(engine: Engine) -> None:
    """On a connection of the caller's upgrade() commits nothing, whether or not a transaction was
    begun.
    """
    for begin in (True, False):
        with engine.connect() as connection:
            if begin:
                connection.begin()
            upgrade(connection)
            assert inspect(connection).has_table("holding_activity_log")
            connection.rollback()
            assert not inspect(connection).has_table("holding_activity_log")


def test_a_revision_can_be_named(engine: Engine) -> None:
    """An upgrade stops at the revision that is given."""
    with engine.connect() as connection:
        upgrade(connection, "0001")
        assert inspect(connection).has_table("portfolios")
        assert not inspect(connection).has_table("holding_activity_log")


def test_the_offline_script_makes_the_same_schema(
    engine: Engine, database_url: str, portfolio_url: str, read_catalogue: READ
) -> None:
    """The script that ``--sql`` prints makes the same database as the upgrade."""
    config = migration_config()
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(config.output_buffer.getvalue())
    assert read_catalogue(database_url) == read_catalogue(portfolio_url)


def _alembic(*arguments: str, **environment: str) -> str:
    """Run Alembic's command line on the package's migrations, and return its output."""
    program = (
        "import sys; from alembic.config import CommandLine, Config;"
        "from sqla_seqreserve.portfolio.schema import migration_config;"
        "line = CommandLine(); options = line.parser.parse_args(sys.argv[1:]);"
        "config = migration_config(); config.cmd_opts = options; line.run_cmd(config, options)"
    )
    inherited = {key: value for key, value in os.environ.items() if key != URL_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_command_line_takes_the_url_of_the_environment(
    database_url: str, portfolio_url: str, read_catalogue: READ
) -> None:
    """If its configuration has no URL, Alembic migrates the database that ``SQLA_SEQRESERVE_URL``
    names.
    """
    printed = _alembic("upgrade", "head", **{URL_VARIABLE: database_url})
    assert "Running upgrade  -> 0001" in printed
    assert read_catalogue(database_url) == read_catalogue(portfolio_url)


def test_the_command_line_falls_back_to_a_server_that_keeps_its_data(
    postgres_server: EmbeddedServer,
) -> None:
    """Without any URL Alembic migrates an embedded server, and the next command finds the same
    data.
    """
    if not postgres_server.started:
        pytest.skip(f"{URL_VARIABLE} names the only server that is sure to be here")
    with contextlib.ExitStack() as stack:
        # Not pytest's own folder: as root the tests run the server as a user that may not enter it.
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache.chmod(0o755)
        assert "Running upgrade 0002 -> 0003" in _alembic(
            "upgrade", "head", XDG_CACHE_HOME=str(cache)
        )
        assert "0004 (head)" in _alembic("current", XDG_CACHE_HOME=str(cache))
        assert (cache / "sqla-seqreserve" / "postgres").is_dir()
