"""A role and a database as SQLAlchemy's test suite needs them: see its README.unittests.rst."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, Engine

__all__ = ["suite_database"]

_SCHEMAS = ("test_schema", "test_schema_2")
_EXTENSIONS = ("hstore", "citext")


@contextlib.contextmanager
def suite_database(server_url: URL, *, keep: bool = False) -> Iterator[URL]:
    """Create a role and an empty database that it owns, yield their URL, and drop both."""
    name = f"conformance_{secrets.token_hex(4)}"
    # An ordinary role, as applications have, because row-level security does not restrict a
    # superuser.
    url = server_url.set(username=name, password=secrets.token_hex(16), database=name)
    server = create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        _create(server, server_url, url)
        yield url
    finally:
        if not keep:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                connection.execute(text(f"DROP ROLE IF EXISTS {name}"))
        server.dispose()


def _create(server: Engine, server_url: URL, url: URL) -> None:
    name = url.database
    with server.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{url.password}'"))
        # A lock that a failed test left must make the next DROP TABLE fail, and not stop the run.
        connection.execute(text(f"ALTER ROLE {name} SET lock_timeout = '30s'"))
        connection.execute(
            text(f"CREATE DATABASE {name} OWNER {name} ENCODING 'utf8' TEMPLATE template0")
        )
        connection.execute(
            text(f"ALTER DATABASE {name} SET default_text_search_config = 'pg_catalog.english'")
        )
    database = create_engine(server_url.set(database=name), isolation_level="AUTOCOMMIT")
    try:
        with database.connect() as connection:
            for extension in _EXTENSIONS:
                connection.execute(text(f"CREATE EXTENSION {extension}"))
            for schema in _SCHEMAS:
                connection.execute(text(f"CREATE SCHEMA {schema} AUTHORIZATION {name}"))
    finally:
        database.dispose()
