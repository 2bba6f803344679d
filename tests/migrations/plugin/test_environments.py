"""Autogenerate in several environments: the file that it writes, several MetaData, several
databases, asyncio.
"""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.util import CommandError
from fixtures.numbered import numbered
from sqlalchemy.ext.asyncio import create_async_engine


def test_check_and_the_written_migration(project, engine) -> None:
    """The file that autogenerate writes runs, also as a script, and ``alembic check`` then finds no
    difference.
    """
    alembic = project(version_table="own_version")
    metadata = numbered()
    with pytest.raises(CommandError, match="New upgrade operations detected"):
        alembic.check(metadata)
    source = alembic.generate(metadata)
    assert "import sqla_seqreserve.alembic_plugin  # noqa: F401" in source
    script = alembic.upgrade(sql=True)
    assert "CREATE SEQUENCE numbers;" in script
    assert "IS 'sqla_seqreserve: made by the migrations of own_version';" in script
    alembic.upgrade()
    alembic.check(metadata)
    alembic.generate(sa.MetaData())
    alembic.upgrade()
    alembic.check(sa.MetaData())
    alembic.downgrade()
    assert sa.inspect(engine).get_sequence_names() == ["numbers"]


def test_several_metadata(project) -> None:
    """A list of MetaData is compared like one MetaData."""
    second = sa.MetaData()
    sa.Sequence("apart", metadata=second)
    alembic = project()
    assert "op.create_sequence('apart')" in alembic.generate([numbered(), second])
    alembic.upgrade()
    alembic.check([numbered(), second])


MULTI_ENV = """
import sqla_seqreserve.alembic_plugin
from alembic import context

config = context.config
for name, (engine, metadata) in config.attributes["databases"].items():
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            upgrade_token=f"{name}_upgrades",
            downgrade_token=f"{name}_downgrades",
        )
        with context.begin_transaction():
            context.run_migrations(engine_name=name)
"""


MULTI_MAKO = """from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade(engine_name):
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name):
    globals()[f"downgrade_{engine_name}"]()


def upgrade_one():
    ${context.get("one_upgrades", "pass")}


def downgrade_one():
    ${context.get("one_downgrades", "pass")}


def upgrade_two():
    ${context.get("two_upgrades", "pass")}


def downgrade_two():
    ${context.get("two_downgrades", "pass")}
"""


def test_several_databases(project, engine) -> None:
    """In an environment with several databases each is compared with its own metadata."""
    alembic = project()
    (alembic.folder / "env.py").write_text(MULTI_ENV)
    (alembic.folder / "script.py.mako").write_text(MULTI_MAKO)
    second = sa.MetaData()
    sa.Sequence("apart", metadata=second)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = f"{engine.url.database}_two"
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        two = sa.create_engine(engine.url.set(database=name))
        try:
            databases = {"one": (engine, numbered()), "two": (two, second)}
            alembic.config.attributes["databases"] = databases
            alembic.generate(sa.MetaData())
            alembic.upgrade()
            alembic.check(sa.MetaData())
            assert sa.inspect(engine).get_sequence_names() == ["numbers"]
            assert sa.inspect(two).get_sequence_names() == ["apart"]
            alembic.downgrade()
            assert sa.inspect(two).get_sequence_names() == []
        finally:
            two.dispose()
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


ASYNC_ENV = """
import asyncio
import sqla_seqreserve.alembic_plugin
from alembic import context

config = context.config


def run(connection):
    context.configure(connection=connection, target_metadata=config.attributes["metadata"])
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = config.attributes["create"]()
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(main())
"""


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_async_environment(project, engine, driver) -> None:
    """An asynchronous env.py on psycopg or asyncpg compares and migrates like a synchronous one."""
    if driver == "asyncpg":
        pytest.importorskip("asyncpg")
    alembic = project()
    (alembic.folder / "env.py").write_text(ASYNC_ENV)
    url = engine.url.set(drivername=f"postgresql+{driver}")
    alembic.config.attributes["create"] = lambda: create_async_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (id bigserial PRIMARY KEY)"))
    alembic.generate(numbered(minvalue=1))
    alembic.upgrade()
    alembic.check(numbered(minvalue=1))
    alembic.downgrade()
    assert sa.inspect(engine).get_sequence_names() == ["t_id_seq"]
