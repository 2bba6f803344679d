"""Repairs and open transactions: rollbacks, locks, isolation levels, and two repairs at once."""

from __future__ import annotations

import pytest
from fixtures.checked import FAR, repair_one, run, serial, standing
from sqlalchemy import Engine, text

from sqla_seqreserve.errors import ConfigurationError, LockTimeoutError
from sqla_seqreserve.health import check_sequences, repair_sequences


@pytest.mark.parametrize("top", [20, FAR])
def test_a_repair_outlives_a_rollback(engine: Engine, top: int) -> None:
    """A rollback does not undo a repair: the sequence is not behind again."""
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)")
    with engine.connect() as connection:
        run(connection, f"INSERT INTO t VALUES ({top})")
        assert repair_one(connection, serial()).action == "REPAIRED"
        connection.rollback()
        assert standing(connection, "t_id_seq") == (top, True)
        assert connection.scalar(text("SELECT count(*) FROM t")) == 0


@pytest.mark.parametrize("top", [20, FAR])
def test_no_lock_outlives_the_repair(engine: Engine, top: int) -> None:
    """Before the caller commits, others can insert and reserve, and the lock timeout is the old
    one.
    """
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)", f"INSERT INTO t VALUES ({top})")
    with engine.connect() as connection, engine.connect() as other:
        run(connection, "SET lock_timeout = '77s'")
        repair_sequences(connection, serial(), lock_timeout=1)
        run(other, "SET lock_timeout = '100ms'", "INSERT INTO t DEFAULT VALUES")
        assert other.scalar(text("SELECT nextval('t_id_seq')")) == top + 2
        assert connection.scalar(text("SHOW lock_timeout")) == "77s"
        assert connection.in_transaction()


def test_a_lock_timeout_leaves_the_transaction_usable(engine: Engine) -> None:
    """If a writer blocks the repair, a LockTimeoutError names the table, and the repair can be
    repeated.
    """
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)", "INSERT INTO t VALUES (20)")
    with engine.connect() as writer, engine.connect() as connection:
        run(connection, "CREATE TABLE mine (id int)")
        run(writer, "INSERT INTO t VALUES (60)")
        with pytest.raises(LockTimeoutError, match=r"^t: expected a lock within 0.1 s"):
            repair_sequences(connection, serial(), lock_timeout=0.1)
        # Moved beyond what was visible, and not yet known to be beyond what was not.
        assert standing(connection, "t_id_seq") == (20, True)
        writer.commit()
        # What was uncommitted then counts now.
        assert repair_one(connection, serial(), lock_timeout=0.1).new_value == 60
        run(connection, "INSERT INTO mine VALUES (1)")
        connection.commit()


def test_a_reserver_that_keeps_its_transaction_open_is_waited_for(engine: Engine) -> None:
    """A repair waits for a transaction that called nextval, because it blocks nextval while it
    moves the sequence.
    """
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)", "INSERT INTO t VALUES (20)")
    with engine.connect() as reserver, engine.connect() as connection:
        run(reserver, "SELECT nextval('t_id_seq')")
        with pytest.raises(LockTimeoutError, match=r"^t_id_seq: expected a lock within 0.1 s"):
            repair_sequences(connection, serial(), lock_timeout=0.1)
        reserver.rollback()
        assert repair_one(connection, serial(), lock_timeout=0.1).new_value == 20


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"])
def test_a_transaction_that_cannot_see_new_ids_is_refused(engine: Engine, isolation: str) -> None:
    """A repair is refused with an old snapshot, which shows an old maximum, and in autocommit,
    which keeps no lock.
    """
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)", "INSERT INTO t VALUES (20)")
    with engine.connect().execution_options(isolation_level=isolation) as connection:
        with pytest.raises(
            ConfigurationError, match=isolation if isolation == "AUTOCOMMIT" else "READ"
        ):
            repair_sequences(connection, serial())
        assert standing(connection, "t_id_seq") == (1, False)


@pytest.mark.parametrize("top", [20, FAR])
def test_a_check_in_an_open_transaction_is_in_nobodys_way(engine: Engine, top: int) -> None:
    """A check keeps no lock on a sequence, so others can repair it while its
    transaction is open.
    """
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)", f"INSERT INTO t VALUES ({top})")
    with engine.connect() as looker, engine.connect() as connection:
        assert not check_sequences(looker, serial()).healthy
        assert looker.in_transaction()
        assert repair_one(connection, serial(), lock_timeout=0.1).action == "REPAIRED"
        # The repair has not committed, and its move is seen all the same.
        assert check_sequences(looker, serial()).healthy


def test_two_repairs_take_turns(engine: Engine) -> None:
    """A second repair does not wait for what the first has done, and if it must wait, the timeout
    names the other repair.
    """
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial)", "INSERT INTO t VALUES (20)")
    with engine.connect() as first, engine.connect() as second, engine.connect() as writer:
        repair_one(first, serial())
        assert repair_one(second, serial(), lock_timeout=0.1).action == "HEALTHY"
        run(writer, "INSERT INTO t VALUES (40)")
        writer.commit()
        with pytest.raises(LockTimeoutError, match="another repair moved it"):
            repair_one(second, serial(), lock_timeout=0.1)
        run(writer, "SELECT nextval('t_id_seq')")
        writer.commit()
        first.commit()
        assert repair_one(second, serial(), lock_timeout=0.1).new_value == 40
