"""A round trip through autogenerate, for any version of Alembic: ``python smoke.py URL``."""

from __future__ import annotations

import sys

import alembic
import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

import sqla_seqreserve.alembic_plugin  # noqa: F401 - registers the plugin


def metadata(*, named: bool) -> sa.MetaData:
    """A table whose key is SERIAL, or gets its values from a named sequence."""
    made = sa.MetaData()
    if named:
        numbers = sa.Sequence("numbers", metadata=made, increment=2)
        key = sa.Column("id", sa.BigInteger, primary_key=True, server_default=numbers.next_value())
    else:
        key = sa.Column("id", sa.BigInteger, primary_key=True)
    sa.Table("t", made, key)
    return made


def main(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:

        def context() -> MigrationContext:
            return MigrationContext.configure(connection, opts={"compare_server_default": True})

        def migrate(target: sa.MetaData) -> str:
            script = produce_migrations(context(), target)
            run(render_python_code(script.upgrade_ops, migration_context=context()))
            assert produce_migrations(context(), target).upgrade_ops.as_diffs() == []
            return render_python_code(script.downgrade_ops, migration_context=context())

        def run(source: str) -> None:
            body = "\n".join(line.removeprefix("    ") for line in source.splitlines())
            exec(body, {"op": Operations(context()), "sa": sa})

        def draw() -> int:
            return connection.scalar(sa.text("INSERT INTO t DEFAULT VALUES RETURNING id"))

        drop_table = migrate(metadata(named=False))
        assert [draw(), draw()] == [1, 2]
        back = migrate(metadata(named=True))
        assert "op.release_sequence" in back, back
        assert draw() == 4
        run(back)
        assert draw() == 5
        run(drop_table)
        migrate(metadata(named=True))
        migrate(sa.MetaData())
        assert sa.inspect(connection).get_sequence_names() == []
    print(f"alembic {alembic.__version__}: fine")


if __name__ == "__main__":
    main(sys.argv[1])
