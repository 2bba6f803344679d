"""Databases and roles that a killed run left on a server do not disturb later runs."""

from __future__ import annotations

import secrets

from fixtures.run_names import drop_what_dead_runs_left, hold, of_this_run
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from sqla_seqreserve.embedded import EmbeddedServer

NAMES = text(
    "SELECT datname FROM pg_database WHERE starts_with(datname, 'seqrun_')"
    " UNION SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'seqrun_')"
)


def test_databases_and_roles_of_dead_runs_go_and_others_stay(
    postgres_server: EmbeddedServer,
) -> None:
    """A run drops databases and roles with the token of a run that holds no lock any more; those of
    a living run stay.
    """
    dead, living = secrets.randbelow(2**31), secrets.randbelow(2**31)
    engine = create_engine(postgres_server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    names = {run: f"seqrun_{run:08x}_a %s" for run in (dead, living)}
    with engine.connect() as other, engine.connect() as connection:
        hold(other, living)
        for name in names.values():
            url = postgres_server.create_database(name)
            connection.exec_driver_sql(f'CREATE ROLE "{name}"'.replace("%", "%%"))
            with create_engine(url, poolclass=NullPool).begin() as inside:
                inside.exec_driver_sql(
                    f'CREATE TABLE t (); GRANT ALL ON t TO "{name}"'.replace("%", "%%")
                )
        drop_what_dead_runs_left(connection)
        found = set(connection.scalars(NAMES))
        assert names[living] in found
        assert names[dead] not in found
        # The server ends the connection after its lock is gone.
        other.execute(text("SELECT pg_advisory_unlock_all()"))
        drop_what_dead_runs_left(connection)
        assert not set(connection.scalars(NAMES)) & set(names.values())


def test_names_hold_the_token_of_the_run() -> None:
    """All names of a run begin with the same token, and with the prefix that later runs
    look for.
    """
    assert of_this_run("a").startswith("seqrun_")
    assert of_this_run("a")[:-1] == of_this_run("b")[:-1]
