"""Checks by a role with few privileges, and of models of views."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures.checked import run
from sqlalchemy import Engine, Identity, Sequence, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve.health import SequenceHealth, check_sequences, repair_sequences


@pytest.fixture
def reader(engine: Engine) -> Iterator[str]:
    """A role with SELECT on table t and only USAGE on its sequence."""
    role = f"user_{engine.url.database}"
    with engine.begin() as connection:
        run(
            connection,
            "CREATE TABLE t (id serial PRIMARY KEY)",
            f"CREATE ROLE {role}",
            f"GRANT SELECT, INSERT ON t TO {role}",
            f"GRANT USAGE ON t_id_seq TO {role}",
        )
    yield role
    with engine.begin() as connection:
        run(connection, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def entry_as(engine: Engine, role: str) -> SequenceHealth:
    with engine.connect() as connection:
        run(connection, f"SET LOCAL ROLE {role}")
        (entry,) = check_sequences(connection, None).sequences
    return entry


def test_usage_of_a_sequence_shows_where_it_stands(engine: Engine, reader: str) -> None:
    """The privileges that an INSERT needs are enough for a check, once a value was handed out."""
    with engine.begin() as connection:
        run(connection, "INSERT INTO t DEFAULT VALUES")
    entry = entry_as(engine, reader)
    assert (entry.status, entry.last_value, entry.next_value) == ("OK", 1, 2)
    with engine.begin() as connection:
        run(connection, "INSERT INTO t VALUES (9)")
    entry = entry_as(engine, reader)
    assert (entry.status, entry.gap) == ("NEEDS_REPAIR", 8)


def test_usage_of_a_sequence_does_not_show_where_it_begins(engine: Engine, reader: str) -> None:
    """With USAGE alone nothing is said about a sequence that has handed out no value, because
    setval may have moved it.
    """
    with engine.begin() as connection:
        run(connection, "SELECT setval('t_id_seq', 700, false)")
    entry = entry_as(engine, reader)
    assert (entry.status, entry.last_value) == ("UNREADABLE", None)
    (finding,) = [f for f in entry.findings if f.code == "UNREADABLE"]
    assert "has handed out nothing yet" in finding.message


def test_usage_of_a_sequence_repairs_nothing(engine: Engine, reader: str) -> None:
    """With USAGE alone a repair is reported as not permitted, and the transaction goes on."""
    with engine.begin() as connection:
        run(connection, "INSERT INTO t DEFAULT VALUES", "INSERT INTO t VALUES (9)")
    with engine.begin() as connection:
        run(connection, f"SET LOCAL ROLE {reader}")
        (result,) = repair_sequences(connection, None).results
        assert result.action == "NOT_REPAIRABLE"
        assert "may not repair" in (result.reason or "")
        run(connection, "INSERT INTO t DEFAULT VALUES")


def test_a_check_by_usage_locks_as_nextval_does(engine: Engine, reader: str) -> None:
    """A check with USAGE keeps a lock on the sequence until the transaction ends, which blocks DDL
    but no writer.
    """
    with engine.begin() as connection:
        run(connection, "INSERT INTO t DEFAULT VALUES")
    with engine.connect() as idle:
        run(idle, f"SET LOCAL ROLE {reader}")
        check_sequences(idle, None)
        with engine.begin() as other:
            run(other, "SET LOCAL lock_timeout = '1s'", "INSERT INTO t DEFAULT VALUES")
        idle.rollback()
        with engine.begin() as other:
            run(other, "SET LOCAL lock_timeout = '1s'", "ALTER SEQUENCE t_id_seq CACHE 1")


class Views(DeclarativeBase):
    pass


class ByIdentity(Views):
    __tablename__ = "by_identity"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)


class ByDefault(Views):
    __tablename__ = "by_default"
    id: Mapped[int] = mapped_column(server_default=text("nextval('t_id_seq')"), primary_key=True)


class BySequence(Views):
    __tablename__ = "by_sequence"
    id: Mapped[int] = mapped_column(Sequence("t_id_seq"), primary_key=True)


class ByMissing(Views):
    __tablename__ = "by_missing"
    id: Mapped[int] = mapped_column(Sequence("nowhere_s"), primary_key=True)


def test_a_view_needs_no_sequence(engine: Engine) -> None:
    """A model of a view is reported only if it names a sequence that does not exist."""
    with engine.begin() as connection:
        run(connection, "CREATE TABLE t (id serial PRIMARY KEY)", "INSERT INTO t DEFAULT VALUES")
        for name in Views.metadata.tables:
            run(connection, f"CREATE VIEW {name} AS SELECT id FROM t")
    with Session(engine) as session:
        assert check_sequences(session, [ByIdentity, ByDefault]).sequences == ()
        (entry,) = check_sequences(session, BySequence).sequences
        assert (entry.status, entry.sequence) == ("OK", "t_id_seq")
        assert not [f for f in entry.findings if "ALTER" in f.remedy]
        (entry,) = check_sequences(session, ByMissing).sequences
        assert entry.status == "NEEDS_REPAIR"
        assert "owned by" not in entry.findings[0].remedy
        # Plain SQLAlchemy saves through the first of them.
        session.add(ByIdentity())
        session.commit()


def test_one_grant_for_all_that_a_role_lacks(engine: Engine) -> None:
    """The report has one GRANT for all tables and sequences, and one for schemas; executed by their
    owner, they make all readable.
    """
    role = f"Odd {engine.url.database}"
    with engine.begin() as connection:
        run(
            connection,
            f'CREATE ROLE "{role}"',
            'CREATE SCHEMA "Shut"',
            'CREATE TABLE "Shut"."T" ("Id" serial)',
            *(f"CREATE TABLE t{number} (id serial)" for number in range(5)),
            "CREATE SEQUENCE shared",
            *(f"CREATE TABLE u{n} (id int DEFAULT nextval('shared'))" for n in range(2)),
            f'GRANT SELECT ON t0 TO "{role}"',
        )
    try:
        with engine.connect() as connection:
            run(connection, f'SET LOCAL ROLE "{role}"')
            report = check_sequences(connection, None)
        assert {entry.status for entry in report.sequences} == {"UNREADABLE"}
        assert report.grant is not None
        select, usage = report.grant.split("; ")
        assert select.count("GRANT") == select.count('"Shut"."T"') == select.count("shared") == 1
        assert " t0," not in select
        assert usage == f'GRANT USAGE ON SCHEMA "Shut" TO "{role}"'
        assert report.to_dict()["grant"] == report.grant
        with engine.begin() as connection:
            run(connection, report.grant)
            run(connection, f'SET LOCAL ROLE "{role}"')
            report = check_sequences(connection, None)
        assert {entry.status for entry in report.sequences} == {"OK"}
        assert report.grant is None
    finally:
        with engine.begin() as connection:
            run(connection, f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')
