"""pytest fixtures on a real PostgreSQL that needs no installation, a recorder of the SQL sent, and
a counter of round trips.

::

    # conftest.py
    pytest_plugins = ["sqla_seqreserve.testing"]

    # test_something.py
    def test_saves(engine):
        with Session(engine) as session, record_statements(engine) as statements:
            ...
        assert len(statements) == 2

================== ======== ===================================================================
fixture            scope
================== ======== ===================================================================
postgres_server    session  the :class:`~sqla_seqreserve.embedded.EmbeddedServer`, or the one
                            that ``SQLA_SEQRESERVE_URL`` names; each worker of pytest-xdist
                            starts its own
postgres_url       session  its URL, of a user that may create databases
clone_database     function a function that copies a database: a template's URL in, a new one out
database_url       function a new, empty database, dropped after the test
engine             function an :class:`~sqlalchemy.Engine` on ``database_url``, disposed of
================== ======== ===================================================================

:func:`record_statements` records the statements that SQLAlchemy passes to the driver;
:func:`round_trips` counts how often a client, of any driver, waits for the server::

    with round_trips(database_url) as wire:
        engine = create_engine(wire.url)
        ...  # connect, and save once: what sets up a connection is sent now
        with wire.counting() as count, Session(engine) as session:
            session.add_all(objects)
            session.commit()
        assert count.round_trips == 2, count  # a failure lists the messages

Copying a template is the fastest way to a migrated database for every test: create a database with
``postgres_server.create_database`` in a fixture of the session, migrate it, close its connections,
and clone it. The server runs without ``fsync``.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, make_url

from ._wire.counting import RoundTripCount, Wire, round_trips
from ._wire.protocol import WireMessage
from .embedded import EmbeddedServer, embedded_postgres

if TYPE_CHECKING:  # importing it takes greenlet
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = [
    "RecordedStatement",
    "RoundTripCount",
    "Wire",
    "WireMessage",
    "clone_database",
    "database_url",
    "engine",
    "postgres_server",
    "postgres_url",
    "record_statements",
    "round_trips",
]


@dataclass(frozen=True, slots=True)
class RecordedStatement:
    """One statement as SQLAlchemy gave it to the driver; many parameters if :attr:`executemany`."""

    sql: str
    parameters: Any
    executemany: bool

    def __str__(self) -> str:
        return self.sql


@contextlib.contextmanager
def record_statements(
    bind: Engine | AsyncEngine | Connection,
) -> Iterator[list[RecordedStatement]]:
    """Collect the statements that an engine or connection sends during the block, in their order.

    BEGIN, COMMIT and savepoints do not pass SQLAlchemy's cursor events and are not among them.
    """
    target: Any = getattr(bind, "sync_engine", bind)
    statements: list[RecordedStatement] = []

    def before_cursor_execute(
        _connection: Connection,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        executemany: bool,
    ) -> None:
        statements.append(RecordedStatement(statement, parameters, executemany))

    event.listen(target, "before_cursor_execute", before_cursor_execute)
    try:
        yield statements
    finally:
        event.remove(target, "before_cursor_execute", before_cursor_execute)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedServer]:
    """A PostgreSQL server for the test session."""
    with embedded_postgres(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: EmbeddedServer) -> str:
    """The URL of the session's server, of a user that may create databases."""
    return postgres_server.url


@pytest.fixture
def clone_database(postgres_server: EmbeddedServer) -> Iterator[Callable[[str], str]]:
    """A function that copies the database of a URL, for the test, and returns the copy's URL."""
    with contextlib.ExitStack() as drops:

        def clone(template_url: str) -> str:
            name = _new_name()
            url = postgres_server.create_database(name, template=make_url(template_url).database)
            drops.callback(postgres_server.drop_database, name)
            return url

        yield clone


@pytest.fixture
def database_url(postgres_server: EmbeddedServer) -> Iterator[str]:
    """The URL of a new, empty database, dropped after the test even if connections are open."""
    name = _new_name()
    url = postgres_server.create_database(name)
    try:
        yield url
    finally:
        postgres_server.drop_database(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on the test's own database."""
    engine = create_engine(database_url)
    try:
        yield engine
    finally:
        engine.dispose()


def _new_name() -> str:
    # Unique among all runs on a server that SQLA_SEQRESERVE_URL names.
    return f"seqreserve_{uuid.uuid4().hex[:16]}"
