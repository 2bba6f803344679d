"""Run the portfolio's migrations: ``alembic upgrade head``, ``downgrade base``, ``check``.

The database is the first of these that is given:

1. ``config.attributes["connection"]``: a connection of the caller's, or an engine. When a
   connection is in a transaction already, the caller commits.
2. the main option ``sqlalchemy.url``, as ``sqla_seqreserve.portfolio.schema.migration_config`` sets
   it. Percent signs are doubled there, since Alembic reads the value with ``ConfigParser``.
3. the environment variable ``SQLA_SEQRESERVE_URL``.
4. an embedded server (extra ``[embedded]``) whose data stays in ``sqla-seqreserve/postgres`` under
   the user's cache folder: ``$XDG_CACHE_HOME``, or ``~/.cache``, or ``/var/cache`` for root, since
   the server then runs as a user who may not enter root's home.

``--sql`` prints the statements instead, and needs none of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

import sqla_seqreserve.alembic_plugin  # noqa: F401 - autogenerate sees sequences
from sqla_seqreserve.embedded import embedded_postgres
from sqla_seqreserve.portfolio.models import Base

config = context.config

if config.cmd_opts is not None:
    # The command line, which has no ini file to configure logging from.
    logging.basicConfig(format="%(levelname)-5.5s [%(name)s] %(message)s")
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)


def default_data_dir() -> Path:
    """Return the folder in which the embedded server keeps its data between runs."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        cache = Path(given)
    elif hasattr(os, "geteuid") and os.geteuid() == 0:
        cache = Path("/var/cache")
    else:
        cache = Path.home() / ".cache"
    return cache / "sqla-seqreserve" / "postgres"


@contextmanager
def database_url() -> Iterator[str]:
    """Yield the URL to migrate; an embedded server runs for as long as it is needed."""
    given = config.get_alembic_option("sqlalchemy.url")
    if given:
        yield given
        return
    # It uses the server that SQLA_SEQRESERVE_URL names, if there is one.
    with embedded_postgres(default_data_dir()) as server:
        yield server.url


@contextmanager
def database_connection() -> Iterator[Connection]:
    """Yield the caller's connection, or one of our own that is closed afterwards."""
    given = config.attributes.get("connection")
    if isinstance(given, Engine):
        with given.connect() as connection:
            yield connection
        return
    if given is not None:
        yield given
        return
    with database_url() as url_text:
        url = make_url(url_text)
        # Which driver the bare name stands for differs between SQLAlchemy 2.0 and 2.1; and a
        # migration is not asynchronous, whatever the application's own driver is.
        if url.drivername in ("postgresql", "postgres") or url.get_dialect().is_async:
            url = url.set(drivername="postgresql+psycopg")
        with create_engine(url, poolclass=NullPool).connect() as connection:
            yield connection


if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    with database_connection() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
