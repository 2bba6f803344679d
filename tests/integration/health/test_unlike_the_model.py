"""The findings of a check if a sequence, or its table, differs from the model."""

from __future__ import annotations

import pytest
from fixtures.checked import check_one, codes, run, serial
from fixtures.checked import connection as connection
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Identity,
    Integer,
    MetaData,
    Sequence,
    Table,
)

from sqla_seqreserve.health import check_sequences


def test_cycle_is_a_warning(connection: Connection) -> None:
    """A sequence with CYCLE is a warning, because it hands out old ids again."""
    run(connection, "CREATE SEQUENCE s CYCLE", "CREATE TABLE t (id int DEFAULT nextval('s'))")
    entry = check_one(connection, serial("t"))
    assert (entry.status, "CYCLE" in codes(entry)) == ("WARNING", True)


def test_a_cached_sequence_is_remarked(connection: Connection) -> None:
    """CACHE above 1 is a remark, because sessions hold values that no check can see."""
    run(connection, "CREATE SEQUENCE s CACHE 20", "CREATE TABLE t (id int DEFAULT nextval('s'))")
    entry = check_one(connection, serial("t"))
    assert (entry.status, codes(entry)) == ("OK", {"CACHED", "NOT_OWNED"})


def test_a_declared_sequence_that_is_missing_is_not_healthy(connection: Connection) -> None:
    """If the model's own Sequence is missing, the column is not healthy, whatever other sequence it
    has.
    """
    run(connection, "CREATE TABLE t (id serial)")
    table = Table("t", MetaData(), Column("id", Integer, Sequence("gone"), primary_key=True))
    entry = check_one(connection, table)
    assert (entry.sequence, entry.is_healthy, codes(entry)) == ("gone", False, {"MISSING"})
    assert (entry.status, entry.severity) == ("NEEDS_REPAIR", "HIGH")


def test_an_integer_key_without_any_sequence_is_a_warning(connection: Connection) -> None:
    """An integer key without a sequence is a warning, because nothing in the database fills it."""
    run(connection, "CREATE TABLE t (id int PRIMARY KEY)")
    entry = check_one(connection, serial("t"))
    assert (entry.status, codes(entry)) == ("WARNING", {"MISSING"})
    natural = Table("t", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False))
    assert check_sequences(connection, natural).sequences == ()


def test_a_missing_table_is_unreadable(connection: Connection) -> None:
    """A missing table is UNREADABLE, and nothing else is said about it."""
    entry = check_one(connection, serial("nowhere"))
    assert (entry.table, entry.status, entry.is_healthy) == ("nowhere", "UNREADABLE", False)
    assert codes(entry) == {"TABLE_MISSING"}


def test_a_default_that_draws_from_elsewhere_is_found(connection: Connection) -> None:
    """A default that uses another sequence than the model is found, because the two
    would collide.
    """
    run(
        connection,
        "CREATE TABLE t (id serial)",
        "CREATE SEQUENCE other",
        "ALTER TABLE t ALTER id SET DEFAULT nextval('other')",
    )
    entry = check_one(connection, serial("t"))
    assert (entry.sequence, entry.status) == ("t_id_seq", "WARNING")
    assert "DEFAULT_ELSEWHERE" in codes(entry)


def test_a_lost_default_is_found(connection: Connection) -> None:
    """An owned sequence without a default is found, because it no longer fills its column."""
    run(connection, "CREATE TABLE t (id serial)", "ALTER TABLE t ALTER id DROP DEFAULT")
    declared = Table(
        "t",
        MetaData(),
        Column("id", Integer, primary_key=True, server_default=Sequence("t_id_seq").next_value()),
    )
    entry = check_one(connection, declared)
    assert (entry.status, codes(entry)) == ("WARNING", {"DEFAULT_MISSING"})


def test_a_bare_sequence_as_create_all_makes_it_is_ok(connection: Connection) -> None:
    """A sequence as create_all() makes it, neither owned nor a default, is a remark and
    no warning.
    """
    metadata = MetaData()
    table = Table("t", metadata, Column("id", Integer, Sequence("t_ids"), primary_key=True))
    metadata.create_all(connection)
    entry = check_one(connection, table)
    assert (entry.status, codes(entry)) == ("OK", {"NOT_OWNED", "DEFAULT_MISSING"})
    run(connection, "INSERT INTO t VALUES (3)")
    assert check_one(connection, table).gap == 3


def test_settings_unlike_the_model_are_found(connection: Connection) -> None:
    """Increment, start and type are compared if the model gives them."""
    run(
        connection,
        "CREATE SEQUENCE s AS integer START 5 INCREMENT 5",
        "CREATE TABLE t (id bigint DEFAULT nextval('s'))",
        "ALTER SEQUENCE s OWNED BY t.id",
    )

    def found(sequence: Sequence) -> set[str]:
        return codes(
            check_one(
                connection,
                Table("t", MetaData(), Column("id", BigInteger, sequence, primary_key=True)),
            )
        )

    assert found(Sequence("s", increment=5)) == set()
    assert found(Sequence("s", start=1, data_type=BigInteger())) == {
        "INCREMENT_DIFFERS",
        "START_DIFFERS",
        "TYPE_DIFFERS",
    }
    assert found(Sequence("s", start=5, increment=5, data_type=Integer())) == set()


@pytest.mark.parametrize("declare", [Sequence, Identity])
@pytest.mark.parametrize(
    ("cycles", "declared", "finding"),
    [
        (False, True, {"CYCLE_DIFFERS"}),
        (True, False, {"CYCLE", "CYCLE_DIFFERS"}),
        (True, True, {"CYCLE"}),
        (False, False, set()),
        (True, None, {"CYCLE"}),
    ],
)
def test_a_cycle_unlike_the_model_is_found(
    connection: Connection,
    declare: type[Sequence] | type[Identity],
    cycles: bool,
    declared: bool | None,
    finding: set[str],
) -> None:
    """CYCLE is compared if the model gives it, and is reported in any case."""
    run(
        connection,
        "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY "
        f"({'CYCLE' if cycles else 'NO CYCLE'}) PRIMARY KEY)",
    )
    source = Sequence("t_id_seq", cycle=declared) if declare is Sequence else None
    column = Column("id", Integer, source or Identity(cycle=declared), primary_key=True)
    entry = check_one(connection, Table("t", MetaData(), column))
    assert codes(entry) == finding
    assert entry.status == ("WARNING" if finding else "OK")


@pytest.mark.parametrize("kind", ["ALWAYS", "BY DEFAULT"])
@pytest.mark.parametrize("always", [True, False])
def test_an_identity_of_another_kind_is_found(
    connection: Connection, kind: str, always: bool
) -> None:
    """An identity that is ALWAYS in one place and BY DEFAULT in the other is found, because ALWAYS
    refuses given ids.
    """
    run(connection, f"CREATE TABLE t (id int GENERATED {kind} AS IDENTITY PRIMARY KEY)")
    column = Column("id", Integer, Identity(always=always), primary_key=True)
    entry = check_one(connection, Table("t", MetaData(), column))
    alike = always == (kind == "ALWAYS")
    assert codes(entry) == (set() if alike else {"IDENTITY_DIFFERS"})
    assert entry.status == ("OK" if alike else "WARNING")
    if not alike:
        (finding,) = entry.findings
        run(connection, finding.remedy.partition(", or")[0])
        assert codes(check_one(connection, column.table)) == set()
