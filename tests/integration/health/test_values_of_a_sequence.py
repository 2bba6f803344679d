"""Columns that hold the values of a sequence as they are, computed ones, and other types."""

from __future__ import annotations

import pytest
from fixtures.checked import check_one, codes, repair_one, run, standing
from fixtures.checked import connection as connection
from sqlalchemy import Connection

from sqla_seqreserve.health import check_sequences, repair_sequences


@pytest.mark.parametrize(
    "default", ["nextval('s')", "nextval('s')::int", "(nextval('s')::text)::int"]
)
def test_a_cast_value_is_compared(connection: Connection, default: str) -> None:
    """A default that only casts the sequence's value is compared with the sequence."""
    run(connection, "CREATE SEQUENCE s", f"CREATE TABLE t (id int DEFAULT {default})")
    run(connection, "INSERT INTO t VALUES (40)")
    assert check_one(connection, None).gap == 40


def test_a_domain_of_a_domain_is_compared(connection: Connection) -> None:
    """A column of a domain, at any depth, is compared and repaired as one of its base type."""
    run(
        connection,
        "CREATE DOMAIN outer_id AS bigint",
        "CREATE DOMAIN id_of_t AS outer_id",
        "CREATE SEQUENCE s",
        "CREATE TABLE t (id id_of_t DEFAULT nextval('s'))",
        "INSERT INTO t VALUES (40)",
    )
    assert check_one(connection, None).gap == 40
    assert repair_one(connection).new_value == 40


@pytest.mark.parametrize("default", ["10 * nextval('s')", "1000 + nextval('s')"])
def test_computed_values_are_not_compared(connection: Connection, default: str) -> None:
    """Values that a default computes from the sequence's are not compared with it, and a repair
    does not move it; a remark says so.
    """
    run(connection, "CREATE SEQUENCE s", f"CREATE TABLE t (id int DEFAULT {default})")
    run(connection, "INSERT INTO t DEFAULT VALUES")
    entry = check_one(connection, None)
    assert (entry.status, entry.table_max_id) == ("OK", None)
    assert "NOT_COMPARED" in codes(entry)
    assert repair_one(connection).action == "HEALTHY"
    assert standing(connection, "s") == (1, True)


def test_a_sequence_may_fill_numbers_and_texts(connection: Connection) -> None:
    """A repair of a sequence that fills a number and a text goes by the number."""
    run(
        connection,
        "CREATE SEQUENCE s",
        "CREATE TABLE t (id int DEFAULT nextval('s'))",
        "CREATE TABLE u (no text DEFAULT 'X' || nextval('s'))",
        "INSERT INTO t VALUES (40)",
        "INSERT INTO u VALUES ('X700')",
    )
    numbers, texts = check_sequences(connection, None).sequences
    assert (numbers.gap, "NOT_COMPARED" in codes(numbers)) == (40, False)
    assert (texts.gap, "NOT_COMPARED" in codes(texts)) == (40, True)
    assert {r.new_value for r in repair_sequences(connection, None).results} == {40}
