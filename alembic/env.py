"""Run the portfolio's migrations: ``alembic upgrade head``, ``downgrade base``, ``check``.

The database is the first of these that is given:

1. ``config.attributes["connection"]``: a connection of the caller's. When it is in a transaction
   already, the caller commits.
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
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Sequence, create_engine, make_url, text
from sqlalchemy.pool import NullPool

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
    if given is not None:
        yield given
        return
    with database_url() as url_text:
        url = make_url(url_text)
        if url.drivername == "postgresql":
            # Which driver the bare name stands for differs between SQLAlchemy 2.0 and 2.1.
            url = url.set(drivername="postgresql+psycopg")
        with create_engine(url, poolclass=NullPool).connect() as connection:
            yield connection


def compare_server_default(
    migration_context: MigrationContext,
    _inspected_column: Column[object],
    metadata_column: Column[object],
    _inspected_default: str | None,
    _metadata_default: object,
    _rendered_default: str | None,
) -> bool | None:
    """Say whether the default of a key with a sequence differs; leave all others to Alembic.

    Alembic takes a sequence that its column owns for a SERIAL's and drops the default from what it
    inspected, so that every comparison with the model's ``nextval`` would find a difference. Other
    defaults it compares by evaluating both, and that calls ``nextval``.
    """
    sequence = metadata_column.default
    if not isinstance(sequence, Sequence) or migration_context.connection is None:
        return None
    preparer = migration_context.connection.dialect.identifier_preparer
    default_names_sequence = migration_context.connection.scalar(
        text(
            # regclass prints itself as the search path needs it, on both sides.
            "SELECT pg_get_expr(d.adbin, d.adrelid) = format('nextval(%L::regclass)',"
            "              to_regclass(:sequence)::text)"
            "  FROM pg_attrdef d"
            "  JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum"
            " WHERE d.adrelid = CAST(:table AS regclass) AND a.attname = :column"
        ),
        {
            "sequence": preparer.format_sequence(sequence),
            "table": preparer.format_table(metadata_column.table),
            "column": metadata_column.name,
        },
    )
    return default_names_sequence is not True


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
            compare_server_default=compare_server_default,
        )
        with context.begin_transaction():
            context.run_migrations()
