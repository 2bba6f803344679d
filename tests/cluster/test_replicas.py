"""Health, repair and reservations on a streaming standby and on a logical subscriber."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from fixtures.replication import Replication
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import reserve_ids
from sqla_seqreserve.errors import ReadOnlyError
from sqla_seqreserve.health import check_sequences, repair_sequences


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def servers(replication: Replication) -> Iterator[Replication]:
    """Twenty rows on the primary, replicated to the standby and to the subscriber."""
    for engine in (replication.primary, replication.subscriber):
        Base.metadata.create_all(engine)
    with replication.subscriber.execution_options(isolation_level="AUTOCOMMIT").connect() as c:
        c.execute(text("ALTER SUBSCRIPTION s REFRESH PUBLICATION"))
    with replication.primary.begin() as connection:
        connection.execute(text("INSERT INTO note SELECT FROM generate_series(1, 20)"))
    replication.wait()
    yield replication


def test_a_standby_is_as_healthy_as_its_primary_and_hands_out_nothing(
    servers: Replication,
) -> None:
    """A standby can be checked; a reservation or a repair on it raises an error of one line that
    calls it a standby.
    """
    with Session(servers.standby) as session:
        assert check_sequences(session, Base).healthy
        with pytest.raises(ReadOnlyError, match=r"reserve_ids\(\) for Note .* is a standby\. "):
            reserve_ids(session, Note, 3)
    with servers.primary.begin() as connection:
        connection.execute(text("INSERT INTO note VALUES (99)"))
    servers.wait()
    with Session(servers.standby) as session:
        # A sequence on a standby may be up to 32 values ahead, because nextval logs that many in
        # advance.
        assert repair_sequences(session, Base, dry_run=True).moves["note_id_seq"] >= 99 - 20 - 32
        with pytest.raises(ReadOnlyError, match="repairing note_id_seq needs to write"):
            repair_sequences(session, Base)


def test_a_subscriber_is_behind_because_sequences_are_not_replicated(servers: Replication) -> None:
    """On a subscriber the check reports sequences behind, and when to repair them; with
    subscriber=True it accepts them.
    """
    with Session(servers.subscriber) as session:
        (entry,) = check_sequences(session, Base).sequences
        assert (entry.status, entry.gap) == ("NEEDS_REPAIR", 20)
        assert [f.code for f in entry.findings] == ["BEHIND", "NOT_REPLICATED"]
        assert "takes over" in entry.findings[1].remedy

        (entry,) = check_sequences(session, Base, subscriber=True).sequences
        assert (entry.status, entry.gap, entry.is_healthy) == ("OK", 0, True)
        assert [f.code for f in entry.findings] == ["NOT_REPLICATED"]
        assert "20 ids behind, as expected" in entry.findings[0].message

        # The subscriber takes over.
        assert repair_sequences(session, Base).moves == {"note_id_seq": 20}
        session.add(Note())
        session.commit()
        assert session.scalar(text("SELECT max(id) FROM note")) == 21


def test_subscriber_excuses_no_table_of_its_own(servers: Replication) -> None:
    """With subscriber=True a table that no subscription fills is reported if its sequence is
    behind.
    """
    with servers.subscriber.begin() as connection:
        connection.execute(text("CREATE TABLE own (id serial PRIMARY KEY)"))
        connection.execute(text("INSERT INTO own VALUES (5)"))
        found = check_sequences(connection, None, subscriber=True).sequences
    assert {e.table: e.status for e in found} == {"note": "OK", "own": "NEEDS_REPAIR"}


UNLOGGED = (
    "CREATE UNLOGGED TABLE scratch (id serial PRIMARY KEY)",
    "CREATE TABLE parent (id serial)",
    "CREATE UNLOGGED TABLE child () INHERITS (parent)",
    "CREATE UNLOGGED SEQUENCE counter",
    "CREATE TABLE counted (id int DEFAULT nextval('counter'))",
    "CREATE UNLOGGED SEQUENCE unused",
)


def test_what_is_unlogged_cannot_be_read_on_a_standby(servers: Replication) -> None:
    """On a standby unlogged tables, children and sequences are reported as UNREADABLE, and the
    others are checked.
    """
    with servers.primary.begin() as connection:
        for statement in UNLOGGED:
            connection.execute(text(statement))
        connection.execute(text("INSERT INTO scratch DEFAULT VALUES"))
        assert check_sequences(connection, None).healthy
    servers.wait()
    with servers.standby.connect() as connection:
        report = check_sequences(connection, None)
        assert {e.sequence: e.status for e in report.sequences} == {
            "note_id_seq": "OK",
            "scratch_id_seq": "UNREADABLE",
            "parent_id_seq": "UNREADABLE",
            "counter": "UNREADABLE",
            "unused": "UNREADABLE",
        }
        findings = [f for e in report.sequences for f in e.findings if f.code == "UNREADABLE"]
        assert all("UNLOGGED" in f.message and "primary" in f.remedy for f in findings)
        # The transaction can still be used.
        assert connection.scalar(text("SELECT 1")) == 1


def test_subscriber_excuses_no_row_of_this_server(servers: Replication) -> None:
    """With subscriber=True, if commits are tracked, ids that this server itself wrote into a table
    that a subscription fills are a gap.
    """
    with servers.subscriber.begin() as connection:
        connection.execute(text("INSERT INTO note VALUES (5000)"))
        # Also ids of this transaction, which has not committed.
        assert check_sequences(connection, Base, subscriber=True).sequences[0].gap == 5000
    with servers.subscriber.begin() as connection:
        (entry,) = check_sequences(connection, Base, subscriber=True).sequences
        assert (entry.status, entry.gap) == ("NEEDS_REPAIR", 5000)
        assert "note.id already reaches 5000" in entry.findings[0].message
        repair_sequences(connection, Base)
        assert check_sequences(connection, Base, subscriber=True).healthy


def test_the_command_takes_the_option_that_its_remedy_names(servers: Replication) -> None:
    """health --subscriber succeeds on a subscriber where health alone fails, and watch has the
    option too.
    """
    url = servers.subscriber.url.render_as_string(hide_password=False)

    def code(*arguments: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "sqla_seqreserve", *arguments],
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode

    assert (code("health", url), code("health", url, "--subscriber")) == (1, 0)
    assert code("watch", "--subscriber", "--help") == 0


def test_a_shared_sequence_is_excused_for_the_replicated_table_alone(servers: Replication) -> None:
    """With subscriber=True a sequence that also fills a table of this server's own is reported if
    it is behind that table.
    """
    with servers.subscriber.begin() as connection:
        connection.execute(text("CREATE TABLE own (id int DEFAULT nextval('note_id_seq'))"))
        connection.execute(text("INSERT INTO own VALUES (7)"))
        found = check_sequences(connection, None, subscriber=True).sequences
        assert {(e.status, e.gap) for e in found} == {("NEEDS_REPAIR", 7)}
        assert "own.id already reaches 7" in found[0].findings[0].message


def test_a_partitioned_table_is_filled_through_its_partitions(servers: Replication) -> None:
    """With subscriber=True a partitioned table is accepted, though the subscription lists its
    partitions and the sequence is the parent's.
    """
    tables = (
        "CREATE TABLE parted (id bigserial, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k)",
        "CREATE TABLE parted1 PARTITION OF parted FOR VALUES IN (1)",
    )
    for engine in (servers.primary, servers.subscriber):
        with engine.begin() as connection:
            for statement in tables:
                connection.execute(text(statement))
    with servers.subscriber.execution_options(isolation_level="AUTOCOMMIT").connect() as c:
        c.execute(text("ALTER SUBSCRIPTION s REFRESH PUBLICATION"))
    with servers.primary.begin() as connection:
        connection.execute(text("INSERT INTO parted (k) SELECT 1 FROM generate_series(1, 9)"))
    servers.wait()
    with servers.subscriber.connect() as connection:
        found = check_sequences(connection, None, subscriber=True).sequences
        assert {e.table: e.status for e in found} == {"note": "OK", "parted": "OK"}
