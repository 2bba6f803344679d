"""Alembic environments in temporary folders, a migrator without files, and a description of a
database's catalogue.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.config import Config
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext

import sqla_seqreserve.alembic_plugin  # noqa: F401 - registers the operations and comparators

ENV = """
import sqla_seqreserve.alembic_plugin  # the one line of set-up

from alembic import context

config = context.config
options = config.attributes["options"]
if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        target_metadata=config.attributes["metadata"],
        output_buffer=config.output_buffer,
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    with config.attributes["engine"].connect() as connection:
        context.configure(
            connection=connection, target_metadata=config.attributes["metadata"], **options
        )
        with context.begin_transaction():
            context.run_migrations()
"""

MAKO = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


class Project:
    """An Alembic environment of its own, used through Alembic's commands."""

    def __init__(self, folder: Path, engine: sa.Engine, **options: Any) -> None:
        (folder / "versions").mkdir(parents=True)
        (folder / "env.py").write_text(ENV)
        (folder / "script.py.mako").write_text(MAKO)
        self.folder = folder
        self.buffer = io.StringIO()
        self.config = Config(output_buffer=self.buffer, stdout=io.StringIO())
        self.config.set_main_option("script_location", str(folder))
        self.config.set_main_option("path_separator", "os")
        self.config.attributes.update(engine=engine, options=options, metadata=None)
        self._revisions = 0

    def generate(self, metadata: sa.MetaData | list[sa.MetaData]) -> str:
        """Write the migration to the metadata, and return its source."""
        self.config.attributes["metadata"] = metadata
        self._revisions += 1
        script = command.revision(
            self.config, f"r{self._revisions}", autogenerate=True, rev_id=f"{self._revisions:04}"
        )
        return Path(script.path).read_text()

    def upgrade(self, *, sql: bool = False) -> str:
        self.buffer.truncate(0)
        command.upgrade(self.config, "head", sql=sql)
        return self.buffer.getvalue()

    def downgrade(self, to: str = "-1", *, sql: bool = False) -> str:
        self.buffer.truncate(0)
        command.downgrade(self.config, to, sql=sql)
        return self.buffer.getvalue()

    def check(self, metadata: sa.MetaData | list[sa.MetaData]) -> None:
        """``alembic check``: raises an error if autogenerate finds a difference."""
        self.config.attributes["metadata"] = metadata
        command.check(self.config)


@pytest.fixture
def project(tmp_path: Path, engine: sa.Engine) -> Callable[..., Project]:
    def make(**options: Any) -> Project:
        options.setdefault("compare_server_default", True)
        return Project(tmp_path / f"env{len(list(tmp_path.iterdir()))}", engine, **options)

    return make


class Migrator:
    """Runs autogenerate and the operations on one connection, through the rendered Python, without
    files.
    """

    def __init__(self, connection: sa.Connection, **options: Any) -> None:
        self.connection = connection
        self.options = {"compare_server_default": True, "include_schemas": True, **options}

    def context(self) -> MigrationContext:
        return MigrationContext.configure(self.connection, opts=dict(self.options))

    def generate(self, metadata: sa.MetaData) -> tuple[str, str]:
        """The bodies of ``upgrade()`` and ``downgrade()`` for the metadata."""
        context = self.context()
        context.opts["target_metadata"] = metadata
        script = produce_migrations(context, metadata)
        up, down = script.upgrade_ops, script.downgrade_ops
        return self._render(context, up), self._render(context, down)

    def diffs(self, metadata: sa.MetaData) -> list[Any]:
        context = self.context()
        return produce_migrations(context, metadata).upgrade_ops.as_diffs()

    def run(self, source: str) -> None:
        exec(source, {"op": Operations(self.context()), "sa": sa})

    @staticmethod
    def _render(context: MigrationContext, body: ops.UpgradeOps | ops.DowngradeOps | None) -> str:
        assert body is not None
        lines = render_python_code(body, migration_context=context).splitlines()
        return "\n".join(line.removeprefix("    ") for line in lines)


@pytest.fixture(scope="session")
def shared_engine(postgres_url: str) -> Iterator[sa.Engine]:
    """A database for all tests that roll back their changes."""
    name = f"plugin_{uuid.uuid4().hex}"
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        shared = sa.create_engine(server.url.set(database=name))
        yield shared
        shared.dispose()
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def connection(shared_engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection whose transaction is rolled back, with a schema ``other``."""
    with shared_engine.connect() as connection:
        connection.execute(sa.text("CREATE SCHEMA other"))
        yield connection


def picture(connection: sa.Connection) -> dict[str, list[Any]]:
    """Everything in the catalogue that a migration may change, in a fixed order."""
    queries = {
        "sequences": """
            SELECT c.oid::regclass::text, s.seqtypid::regtype::text, seqstart, seqincrement, seqmin,
            seqmax, seqcache,
                   seqcycle, obj_description(c.oid), o.deptype, o.refobjid::regclass::text,
                   a.attname
            FROM pg_sequence s JOIN pg_class c ON c.oid = seqrelid
            LEFT JOIN pg_depend o ON o.objid = c.oid AND o.refobjsubid > 0 AND o.deptype IN ('a',
            'i') LEFT JOIN pg_attribute a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
            ORDER BY 1""",
        "columns": """
            SELECT c.oid::regclass::text, attname, atttypid::regtype::text, attnotnull, attidentity,
                   pg_get_expr(adbin, adrelid)
            FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid AND relkind = 'r'
            LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
            WHERE attnum > 0 AND NOT attisdropped
            AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
            ORDER BY 1, 2""",
        "constraints": """
            SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace NOT IN ('pg_catalog'::regnamespace,
            'information_schema'::regnamespace) ORDER BY 1, 2""",
    }
    return {
        name: [tuple(row) for row in connection.execute(sa.text(query))]
        for name, query in queries.items()
    }


@pytest.fixture
def take_picture() -> Callable[[sa.Connection], dict[str, list[Any]]]:
    return picture


@pytest.fixture
def migrator(connection: sa.Connection) -> Callable[..., Migrator]:
    return lambda **options: Migrator(connection, **options)
