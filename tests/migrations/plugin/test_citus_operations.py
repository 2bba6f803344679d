"""The operations for Citus on a database without Citus."""

from __future__ import annotations

import io

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, text

import sqla_seqreserve.alembic_plugin  # noqa: F401 - registers the operations


def test_they_do_nothing_on_plain_postgresql(engine: Engine) -> None:
    """On plain PostgreSQL the operations for Citus leave the table as it is, so that one set of
    migrations serves both.
    """
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id serial PRIMARY KEY, v text)"))
        connection.execute(text("INSERT INTO t (v) VALUES ('x')"))
        op = Operations(MigrationContext.configure(connection))
        op.reference_table("t")
        op.distribute_table("t", "id", colocate_with="none", shard_count=4)
        op.undistribute_table("t")
        op.alter_sequence("t_id_seq", increment=3)
        op.resync_sequence("t", "id")
        assert connection.scalar(text("SELECT v FROM t")) == "x"


def test_offline_they_decide_inside_the_server() -> None:
    """``--sql`` writes a block that checks on the server whether Citus is installed, with every
    name quoted.
    """
    out = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": out}
    )
    op = Operations(context)
    op.distribute_table("it's", "K", schema="S", colocate_with="u")
    sql = out.getvalue()
    assert "proname = ''citus_truncate_trigger''" in sql
    assert """create_distributed_table(''"S"."it''''s"'', ''K'', colocate_with => ''u'')""" in sql
