"""A repair on a real Citus cluster: its locks on every node, and its effects on the transaction."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from fixtures.cluster import Cluster
from sqlalchemy import Engine, text

from sqla_seqreserve.errors import LockTimeoutError
from sqla_seqreserve.health import check_sequences, repair_sequences


@pytest.fixture
def table(citus: Cluster) -> str:
    citus.run(
        "CREATE TABLE r (id bigserial PRIMARY KEY, k int)",
        "SELECT create_reference_table('r')",
        "CREATE TABLE t (id bigserial, k int, r bigint REFERENCES r, PRIMARY KEY (k, id))",
        "SELECT create_distributed_table('t', 'k')",
    )
    return "t"


def leave_behind(cluster: Cluster, number: int, by: int = 30) -> Engine:
    """Import ids into the window of one node, through that node."""
    group, engine = cluster.groups[number], cluster.engines[number]
    first = (group << 48) + 1
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO t (id, k) SELECT i, mod(i, 7) FROM generate_series({first}, "
            f"{first + by - 1}) i"
        )
    return engine


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("writer", [0, 1, 2])
def test_a_writer_on_any_node_makes_the_repair_give_up_in_time(
    citus: Cluster, table: str, number: int, writer: int
) -> None:
    """If a writer on any node blocks a repair, it raises LockTimeoutError, the transaction's
    settings are as before, and it can repair and write.
    """
    engine = leave_behind(citus, number)
    with citus.engines[writer].connect() as other, engine.connect() as connection:
        other.execute(text("INSERT INTO t (id, k) VALUES (-1, 3)"))
        with pytest.raises(LockTimeoutError, match=r"t: expected a lock within 0.3 s"):
            repair_sequences(connection, None, schemas=[citus.schema], lock_timeout=0.3)
        other.rollback()
        # The settings that were changed for the lock are as before; the same transaction can
        # repair, and write.
        for setting in ("lock_timeout", "citus.propagate_set_commands"):
            assert connection.scalar(text(f"SHOW {setting}")) in ("0", "none")
        assert connection.scalar(text("SHOW citus.enable_ddl_propagation")) == "on"
        assert connection.scalar(text("SHOW citus.multi_shard_modify_mode")) == "parallel"
        assert repair_sequences(connection, None, schemas=[citus.schema]).repair_completed
        connection.execute(text("INSERT INTO r (k) VALUES (1)"))
        connection.execute(text("INSERT INTO t (k) VALUES (1)"))
        connection.commit()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_transaction_may_write_anything_after_a_check_and_a_repair(
    citus: Cluster, table: str, number: int
) -> None:
    """After a check and a repair the transaction can write to reference tables, which Citus would
    forbid if they read the shards in parallel.
    """
    engine = leave_behind(citus, number)
    with engine.begin() as connection:
        report = check_sequences(connection, None, schemas=[citus.schema])
        assert [e.table for e in report.behind] == ["t"]
        connection.execute(text("INSERT INTO r (k) VALUES (1)"))
        assert repair_sequences(connection, None, schemas=[citus.schema]).moves == {"t_id_seq": 30}
        connection.execute(text("INSERT INTO r (k) VALUES (1)"))
        connection.execute(text("INSERT INTO t (k, r) SELECT 1, id FROM r LIMIT 1"))


def test_no_lock_of_a_repair_stays_on_any_node(citus: Cluster, table: str) -> None:
    """Before the repair's transaction ends, every node can write."""
    engine = leave_behind(citus, 1)
    with ExitStack() as stack:
        connection = stack.enter_context(engine.connect())
        assert repair_sequences(connection, None, schemas=[citus.schema]).repair_completed
        for other in citus.engines:
            with other.begin() as writer:
                writer.exec_driver_sql("SET LOCAL lock_timeout = '500ms'")
                writer.execute(text("INSERT INTO t (k) VALUES (1)"))
