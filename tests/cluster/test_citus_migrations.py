"""The operations of migrations on a real Citus cluster: they succeed, or are refused beforehand
with the way that works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.util import CommandError
from fixtures.cluster import Cluster
from sqlalchemy import Engine, MetaData, text

import sqla_seqreserve.alembic_plugin  # noqa: F401 - registers the operations
from sqla_seqreserve.health import check_sequences


def migrate(engine: Engine, work: Callable[[Any], None]) -> None:
    with engine.begin() as connection:
        work(Operations(MigrationContext.configure(connection)))


def kinds(cluster: Cluster) -> dict[str, str]:
    with cluster.coordinator.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT CAST(t.table_name AS text), t.citus_table_type "
                "FROM public.citus_tables t JOIN pg_class c ON c.oid = t.table_name "
                "WHERE c.relnamespace = CAST(:schema AS regnamespace)"
            ),
            {"schema": cluster.schema},
        )
        return {row[0]: row[1] for row in rows}


@pytest.fixture
def tables(citus: Cluster) -> Cluster:
    citus.run(
        "CREATE TABLE a (id bigserial PRIMARY KEY)",
        'CREATE TABLE "B b" (id bigserial, "K k" bigint, PRIMARY KEY (id, "K k"))',
        "CREATE TABLE c (id bigserial, k bigint, PRIMARY KEY (id, k))",
    )

    def work(op: Any) -> None:
        op.reference_table("a")
        op.distribute_table("B b", "K k", schema=citus.schema)
        op.distribute_table("c", "k", colocate_with=f'{citus.schema}."B b"')

    migrate(citus.coordinator, work)
    return citus


def test_tables_are_distributed_and_brought_back(tables: Cluster) -> None:
    """Tables with any name become reference or distributed tables, also colocated, and
    undistribute_table reverses it.
    """
    assert kinds(tables) == {"a": "reference", '"B b"': "distributed", "c": "distributed"}
    with tables.coordinator.connect() as connection:
        colocated = connection.execute(
            text("SELECT count(DISTINCT colocationid) FROM pg_dist_partition p JOIN pg_class c "
                 "ON c.oid = p.logicalrelid WHERE c.relnamespace = CAST(:s AS regnamespace) "
                 "AND partmethod = 'h'"),
            {"s": tables.schema},
        ).scalar_one()  # fmt: skip
    assert colocated == 1
    migrate(tables.coordinator, lambda op: op.undistribute_table("c"))
    assert "c" not in kinds(tables)


def test_resync_moves_the_coordinators_sequence(tables: Cluster) -> None:
    """op.resync_sequence on a distributed table moves the coordinator's sequence within its own
    window.
    """
    with tables.workers[0].begin() as connection:
        connection.execute(text("INSERT INTO c (k) VALUES (1)"))
    tables.run("INSERT INTO c VALUES (70, 1)")
    migrate(tables.coordinator, lambda op: op.resync_sequence("c", "id"))
    with tables.coordinator.begin() as connection:
        assert connection.scalar(text("INSERT INTO c (k) VALUES (1) RETURNING id")) == 71
    for engine in tables.engines:
        with engine.connect() as connection:
            assert check_sequences(connection, None, schemas=[tables.schema]).healthy


REFUSED: dict[str, Callable[[Any], None]] = {
    "alter_sequence": lambda op: op.alter_sequence("c_id_seq", increment=7),
    "alter_sequence restart": lambda op: op.alter_sequence("c_id_seq", restart=7),
    "alter_sequence owned_by": lambda op: op.alter_sequence("c_id_seq", owned_by=None),
    "adopt_sequence": lambda op: op.adopt_sequence("c", "id", "c_ids"),
    "release_sequence": lambda op: op.release_sequence("c", "id", "c_id_seq"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_citus_cannot_do_is_refused_before_anything_is_done(
    tables: Cluster, name: str
) -> None:
    """An operation that Citus cannot do is refused with the reason and another way, and the
    transaction can be used.
    """
    with tables.coordinator.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        with pytest.raises(CommandError, match=rf"^{name.split()[0]}\(.*undistribute_table"):
            REFUSED[name](op)
        op.alter_sequence("c_id_seq", new_name="c_numbers")


def test_a_sequence_of_no_distributed_table_is_altered_as_ever(tables: Cluster) -> None:
    """A sequence of no distributed table can be created and altered on a Citus cluster as on plain
    PostgreSQL.
    """

    def work(op: Any) -> None:
        op.create_sequence("free")
        op.alter_sequence("free", increment=7)

    migrate(tables.coordinator, work)


def test_a_worker_sends_migrations_to_the_coordinator(tables: Cluster) -> None:
    """Operations on distributed tables and autogenerate are refused on a worker."""
    with tables.workers[0].connect() as connection:
        context = MigrationContext.configure(connection)
        with pytest.raises(CommandError, match="migrations run on the coordinator"):
            Operations(context).resync_sequence("c", "id")
        with pytest.raises(CommandError, match="migrations run on the coordinator"):
            compare_metadata(context, MetaData())
