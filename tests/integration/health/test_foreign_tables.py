"""Sequences that fill foreign tables, whose server may not answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.checked import run
from sqlalchemy import Connection, Engine

from sqla_seqreserve.health import check_sequences, repair_sequences


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection to a database with table t, and with foreign table f, on the same server."""
    with engine.connect() as connection:
        available = connection.exec_driver_sql(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'postgres_fdw'"
        ).first()
        if available is None:
            pytest.skip("this server does not have postgres_fdw")
        url = engine.url
        host = url.host or url.query.get("host")
        password = f", password '{url.password}'" if url.password else ""
        run(
            connection,
            "CREATE EXTENSION postgres_fdw",
            "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw"
            f" OPTIONS (host '{host}', port '{url.port or url.query.get('port')}',"
            f" dbname '{url.database}')",
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '{url.username}'"
            f"{password})",
            "CREATE TABLE kept (id bigint)",
            "INSERT INTO kept VALUES (30)",
            "CREATE SEQUENCE s",
            "CREATE FOREIGN TABLE f (id bigint DEFAULT nextval('s')) SERVER far"
            " OPTIONS (table_name 'kept')",
            "CREATE TABLE t (id serial)",
            "INSERT INTO t VALUES (20)",
        )
        connection.commit()
        yield connection


def test_a_foreign_table_is_checked_and_repaired(connection: Connection) -> None:
    """A sequence that fills a foreign table is compared with its ids, and moved beyond them."""
    entries = check_sequences(connection, None).sequences
    assert [(entry.table, entry.gap) for entry in entries] == [("f", 30), ("t", 20)]
    results = repair_sequences(connection, None).results
    assert [(result.action, result.new_value) for result in results] == [
        ("REPAIRED", 30),
        ("REPAIRED", 20),
    ]
    assert check_sequences(connection, None).healthy


def test_a_server_that_does_not_answer_hides_its_table_alone(connection: Connection) -> None:
    """If a foreign table cannot be read, its sequence is UNREADABLE and not repaired, and the other
    sequences are checked and repaired.
    """
    run(connection, "ALTER SERVER far OPTIONS (SET dbname 'no such database')")
    connection.commit()
    far, near = check_sequences(connection, None).sequences
    assert (far.table, far.status) == ("f", "UNREADABLE")
    assert "could not connect to server" in far.findings[0].message
    assert (near.table, near.gap) == ("t", 20)
    far_result, near_result = repair_sequences(connection, None).results
    assert (far_result.action, near_result.action) == ("NOT_REPAIRABLE", "REPAIRED")
    assert "could not connect to server" in (far_result.reason or "")
